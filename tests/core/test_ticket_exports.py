"""Exports of help desks: who is customer and agent, notes never trained on, HTML as text, messages in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers
from tunedesk.core.importing.looking import look
from tunedesk.core.importing.report import Report
from tunedesk.errors import DataError


def read(folder: Path, content: Any, **options: Any) -> tuple[list[Row], Report]:
    path = folder / "data"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    found = importers.read(path, **options)
    rows = [source.row for source in found]
    assert found.report.rows == len(rows) + len(found.report.skipped)
    return rows, found.report


TALK = [("user", "Where is it?"), ("assistant", "On its\nway")]
ZENDESK = {
    "id": 1, "requester_id": 5, "subject": "Card", "description": "Where is it?",
    "comments": [
        {"author_id": 9, "html_body": "<p>On its<br>way</p>", "public": True, "created_at": "2024-01-01T10:03:00Z"},
        {"author_id": 9, "body": "a VIP", "public": False, "created_at": "2024-01-01T10:02:00Z"},
        {"author_id": 5, "body": "Where is it?", "public": True, "created_at": "2024-01-01T10:00:00Z"},
    ],
}  # fmt: skip
INTERCOM = {
    "type": "conversation", "id": "1",
    "source": {"body": "<p>Where is it?</p>", "author": {"type": "user", "id": "5"}},
    "conversation_parts": {"conversation_parts": [
        {"part_type": "assignment", "body": None, "author": {"type": "bot"}},
        {"part_type": "note", "body": "<p>a VIP</p>", "author": {"type": "admin"}},
        {"part_type": "comment", "body": "<p>On its<br>way</p>", "author": {"type": "admin"}},
        {"part_type": "close", "body": None, "author": {"type": "admin"}},
    ]},
}  # fmt: skip
FRESHDESK = {
    "id": 1, "description_text": "Where is it?",
    "conversations": [
        {"body_text": "a VIP", "incoming": False, "private": True},
        {"body": "<div>On its</div><div>way</div>", "incoming": False, "private": False},
        {"body_text": "Thanks", "incoming": True, "private": False},
    ],
}  # fmt: skip
HELP_SCOUT = {"_embedded": {"threads": [
    {"type": "message", "body": "On its<br>way", "createdBy": {"type": "user"}, "createdAt": "2024-01-01T10:01:00Z"},
    {"type": "note", "body": "a VIP", "createdBy": {"type": "user"}, "createdAt": "2024-01-01T10:00:30Z"},
    {"type": "customer", "body": "Where is it?", "createdBy": {"type": "customer"}, "createdAt": "2024-01-01T10:00Z"},
]}}  # fmt: skip
HUBSPOT = {"results": [
    {"type": "MESSAGE", "direction": "INCOMING", "text": "Where is it?", "createdAt": "2024-01-01T10:00:00Z"},
    {"type": "COMMENT", "text": "a VIP", "createdAt": "2024-01-01T10:00:10Z"},
    {"type": "MESSAGE", "direction": "OUTGOING", "text": "On its\nway", "createdAt": "2024-01-01T10:01:00Z"},
]}  # fmt: skip
GORGIAS = {"messages": [
    {"from_agent": False, "body_text": "Where is it?", "public": True},
    {"from_agent": True, "body_text": "a VIP", "public": False},
    {"from_agent": True, "body_text": "On its\nway", "public": True},
]}  # fmt: skip


@pytest.mark.parametrize(
    "ticket",
    [ZENDESK, INTERCOM, FRESHDESK, HELP_SCOUT, HUBSPOT, GORGIAS],
    ids=["zendesk", "intercom", "freshdesk", "help-scout", "hubspot", "gorgias"],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_tickets_in_json(ticket: dict[str, Any], wrapped: bool, tmp_path: Path) -> None:
    rows, report = read(tmp_path, {"tickets": [ticket, ticket], "next_page": None} if wrapped else ticket)
    assert report.format == "ticket"
    assert len(rows) == (2 if wrapped else 1)
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK
    assert rows[0]["metadata"]["asides"][-1:] != []
    assert "notes and events between turns left out" in " ".join(report.notes)


@pytest.mark.parametrize(
    "table",
    [
        "Ticket ID,Author ID,Requester ID,Public,Created At,Body\n"
        '1,9,5,true,2024-01-01T12:03:00+01:00,"<p>On its<br>way</p>"\n'
        "1,5,5,true,2024-01-01T10:00:00Z,Where is it?\n1,9,5,false,2024-01-01T10:01:00Z,a VIP\n",
        "conversation_id,part_type,author_type,author_name,body,created_at\n"
        "1,comment,user,Ann,<p>Where is it?</p>,1700000000\n1,note,admin,Bob,a VIP,1700000001\n"
        '1,comment,admin,Bob,"On its<br>way",1700000003\n',
        "Ticket ID,Incoming,Private,Body,Created\n1,FALSE,FALSE,\"On its\nway\",13/01/2024 10:00\n"
        "1,TRUE,FALSE,Where is it?,05/02/2023 10:00\n1,FALSE,TRUE,a VIP,05/01/2024 10:01\n",
        "Thread ID,Direction,Visibility,Message,Timestamp\n1,INCOMING,public,Where is it?,\"Jan 5, 2024 9:05 am\"\n"
        "1,OUTGOING,internal,a VIP,\"Jan 5, 2024 9:06 am\"\n1,OUTGOING,public,\"On its\nway\",\"Jan 5, 2024 1 pm\"\n",
        "Vorgangsnummer;Absender;Intern;Nachricht;Zeit\n7;Kundin;nein;Where is it?;01.02.2024 10:00\n"
        "7;Mitarbeiter;ja;a VIP;01.02.2024 10:01\n7;Mitarbeiter;nein;\"On its\nway\";01.02.2024 10:02\n",
    ],
    ids=["zendesk", "intercom", "freshdesk", "hubspot", "german"],
)  # fmt: skip
def test_tables_of_messages_leave_notes_out_with_their_line(table: str, tmp_path: Path) -> None:
    rows, report = read(tmp_path, table)
    assert [[(m["role"], m["content"]) for m in row["messages"]] for row in rows] == [TALK]
    assert [one.reason for one in report.skipped] == ["an internal note"]
    assert table.splitlines()[report.skipped[0].line - 1].count("VIP") == 1


def test_events_between_messages_are_left_out_with_their_line(tmp_path: Path) -> None:
    table = "chat_id,event_type,role,text\n1,message,user,Hi\n1,agent_joined,agent,Bob joined\n1,message,agent,Hello\n"
    rows, report = read(tmp_path, table)
    assert [m["content"] for m in rows[0]["messages"]] == ["Hi", "Hello"]
    assert [(one.line, one.reason) for one in report.skipped] == [(3, "an event, not a message")]


def test_a_conversation_that_cannot_be_used_is_skipped_once_with_its_first_line(tmp_path: Path) -> None:
    rows, report = read(tmp_path, "chat_id,role,text\n1,user,Hi\n2,user,Hi\n2,agent,Hello\n1,user,Anyone?\n")
    assert len(rows) == 1
    assert [(one.line, one.reason) for one in report.skipped] == [
        (2, "the agent says nothing in it (2 messages)")
    ]


def test_speakers_that_only_have_names_are_asked_about(tmp_path: Path) -> None:
    table = "chat_id,sender,message\n1,Ann,q\n1,Bob,a\n2,Cy,q\n2,Bob,a\n"
    with pytest.raises(DataError, match="who is the customer") as caught:
        read(tmp_path, table)
    assert "--map speaker=sender,user=Ann,assistant=Bob" in caught.value.hint
    mapping = {"speaker": "sender", "user": "Ann|Cy", "assistant": "Bob"}
    assert len(read(tmp_path, table, mapping=mapping)[0]) == 2


def test_a_table_of_roles_without_ids_begins_anew_with_each_system_prompt(tmp_path: Path) -> None:
    talk = "system,Be kind.\nuser,q\nassistant,a\n"
    rows, report = read(tmp_path, f"role,content\n{talk}{talk}")
    assert [[m["role"] for m in row["messages"]] for row in rows] == [["system", "user", "assistant"]] * 2
    assert "which messages belong together" in report.guessed


def test_a_chat_log_between_two_names_is_read_with_a_map(tmp_path: Path) -> None:
    log = (
        "12/31/23, 10:00 AM - Messages are encrypted.\n12/31/23, 10:00 AM - Ann: Where is it?\n"
        "12/31/23, 10:05 AM - The Bank: On its\nway\n"
    )
    rows, _ = read(tmp_path, log, format="transcript", mapping={"user": "Ann", "assistant": "The Bank"})
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK


@pytest.mark.parametrize(
    ("customer", "agent"),
    [
        ("Kunde", "Berater"), ("Cliente", "Agente"), ("Client", "Conseiller"), ("Клиент", "Оператор"),
        ("ग्राहक", "एजेंट"), ("ลูกค้า", "พนักงาน"), ("العميل", "الموظف"), ("客户", "客服"), ("お客様", "担当者"),
        ("고객", "상담원"), ("Müşteri", "Temsilci"), ("Khách hàng", "Nhân viên"), ("Klient", "Konsultant"),
        ("Πελάτης", "Υπάλληλος"), ("顧客", "オペレーター"), ("Vevő", "Ügyintéző"), ("Πελάτης", "Εκπρόσωπος"),
        ("Q", "A"), ("Customer 2", "Agent 10"),
        ("[10:00] Customer", "[10:01] Agent (Ann)"), ("**Customer**", "**Support**"),
    ],
)  # fmt: skip
def test_transcripts_in_many_languages(customer: str, agent: str, tmp_path: Path) -> None:
    rows, _ = read(tmp_path, f"{customer}: Where is it?\n{agent}: On its\nway\n{customer}: bye\n")
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK


def test_speakers_on_a_line_of_their_own_with_the_time(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "Customer  10:01 AM\nWhere is it?\nAgent  10:02\nOn its\nway\n")
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK


@pytest.mark.parametrize("stamp", ["[12.01.24, 10:01:22]", "12/01/24, 10:01 -", "2024-01-12 10:01"])
def test_a_chat_log_of_names_is_read_where_one_tells_its_side_and_asked_about_else(
    stamp: str, tmp_path: Path
) -> None:
    log = f"{stamp} {{}}: Where is it?\n{stamp} {{}}: On its\nway\n"
    rows, _ = read(tmp_path, log.format("Anna", "Bank Support"))
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK
    with pytest.raises(DataError, match="a chat between Anna, Bert") as caught:
        read(tmp_path, log.format("Anna", "Bert"))
    assert "--format transcript --map user=Anna,assistant=Bert" in caught.value.hint
    seen = look(tmp_path / "data")
    assert (seen.format, seen.speakers, seen.certain) == ("transcript", ("Anna", "Bert"), False)
    rows, _ = read(
        tmp_path,
        log.format("Anna", "Bert"),
        format="transcript",
        mapping={"user": "Anna", "assistant": "Bert"},
    )
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == TALK
