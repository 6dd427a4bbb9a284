"""Exports of programs, benchmarks and logs as they really look: sides, order, what is left out, and what is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers
from tunedesk.core.importing.looking import look
from tunedesk.core.importing.report import NothingImported, Report
from tunedesk.core.importing.storing import import_file
from tunedesk.errors import DataError

U, A = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}
QA = "user: Where? | assistant: There."


def read(folder: Path, content: Any, **options: Any) -> tuple[list[str], Report, list[Row]]:
    path = folder / "data"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    found = importers.read(path, **options)
    rows = [source.row for source in found]
    assert found.report.rows == len(rows) + len(found.report.skipped)
    return (
        [" | ".join(f"{m['role']}: {m.get('content')}" for m in row.get("messages", ())) for row in rows],
        (found.report),
        rows,
    )


TALKS: dict[str, Any] = {
    "names of those who speak in a list beside": {
        "Participants": [
            {"ParticipantId": "b1", "ParticipantRole": "CUSTOMER"}, {"ParticipantId": "a9", "ParticipantRole": "AGENT"},
        ],
        "Transcript": [{"Content": "Where?", "ParticipantId": "b1"}, {"Content": "There.", "ParticipantId": "a9"}],
    },
    "turns deep inside": {"chat": {"id": "1", "thread": {"events": [
        {"author": "customer", "text": "Where?"}, {"author": "agent", "text": "There."},
    ]}}},
    "turns alone in a list": {"id": "c", "transcripts": [{"phrases": [
        {"participantPurpose": "external", "text": "Where?"}, {"participantPurpose": "internal", "text": "There."},
    ]}]},
    "texts deep inside": {"messageRecords": [
        {"sentBy": "Consumer", "messageData": {"msg": {"text": "Where?"}}},
        {"sentBy": "Agent", "messageData": {"msg": {"text": "There."}}},
    ]},
    "parts of a message": {"messages": [
        {"actor_type": "user", "message_parts": [{"text": {"content": "Where?"}}]},
        {"actor_type": "agent", "message_parts": [{"text": {"content": "There."}}]},
    ]},
    "the newest first": {"messages": [
        {"sender_name": "Bank Support", "timestamp_ms": 1700000002000, "content": "There."},
        {"sender_name": "Anna", "timestamp_ms": 1700000001000, "content": "Where?"},
    ]},
    "users of a team that answers contacts": {"messages": [
        {"author": {"id": 5, "type": "contact"}, "text": "Where?"},
        {"author": {"id": 3, "type": "user"}, "text": "There."},
    ]},
    "a bot by its flag": {"messages": [
        {"author": {"name": "anna", "isBot": False}, "content": "Where?"},
        {"author": {"name": "Helpful", "isBot": True}, "content": "There."},
    ]},
    "events between": {"events": [
        {"event": "action", "name": "action_session_start"}, {"event": "user", "text": "Where?"},
        {"event": "slot", "name": "place", "value": 1}, {"event": "bot", "text": "There."},
    ]},
    "a call of a database between": {"Events": [
        {"Agent": "User", "Text": "Where?"}, {"Agent": "Wizard", "API": "find", "KBItems": []},
        {"Agent": "Wizard", "Text": "There."},
    ]},
    "thoughts that are not said": {"chat_messages": [
        {"sender": "human", "text": "", "content": [{"type": "text", "text": "Where?"}]},
        {"sender": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "There."},
        ]},
    ]},
    "input and output in turn": {"conversation": [{"input": "Where?", "output": "There."}]},
    "a request and its answer": {"request": {"messages": [U]}, "response": {"choices": [{"message": A}]}},
    "bodies of a request": {"request_body": {"messages": [U]}, "response_body": {"choices": [{"message": A}]}},
    "messages and an answer beside": {"messages": [U], "response": {"choices": [{"index": 0, "message": A}]}},
    "a stored completion": {"object": "chat.completion", "input": [U], "choices": [{"message": A}]},
    "inputs and outputs": {"inputs": {"messages": [U]}, "outputs": {"messages": [A]}},
    "a run of one question": {"inputs": {"question": "Where?"}, "outputs": {"answer": "There."}},
    "a trace of classes": {
        "inputs": {"messages": [[{"id": ["HumanMessage"], "kwargs": {"content": "Where?", "type": "human"}}]]},
        "outputs": {"generations": [[{"text": "There.", "message": {"kwargs": {"content": "There.", "type": "ai"}}}]]},
    },
    "a response of typed items": {
        "object": "response", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Where?"}]}],
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "There."}]},
        ],
    },
    "a question that follows a history": {"history": [], "message": "Where?", "chat_history": [], "answer": "There."},
}  # fmt: skip


@pytest.mark.parametrize("name", TALKS)
def test_conversations_as_programs_write_them(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, TALKS[name])[0] == [QA]
    assert read(tmp_path, [TALKS[name], TALKS[name]])[0] == [QA, QA]


def test_records_sorted_into_objects_are_all_read(tmp_path: Path) -> None:
    talk = {"turns": [{"role": "user", "utterance": "Where?"}, {"role": "agent", "utterance": "There."}]}
    sorted_in = {"dial_data": {"bank": {"one": [talk], "two": [talk, talk]}, "post": {"three": [talk]}}}
    assert read(tmp_path, sorted_in)[0] == [QA] * 4
    assert read(tmp_path, {"about": "x", "chats": {"list": [talk, talk]}})[0] == [QA] * 2
    assert read(tmp_path, {"train": [talk], "dev": [talk]})[0] == [QA] * 2


@pytest.mark.parametrize(
    ("speakers", "first"),
    [(("agent_1", "agent_2"), "Where?"), (("participant1", "participant2"), "Where?"), ((0, 1), "Where?"),
     (("A", "B"), "Where?"), (("Speaker 2", "Speaker 1"), "Thank you for calling, how can I help you today?")],
)  # fmt: skip
def test_speakers_that_are_only_numbered_are_told_by_their_order_and_asked_about(
    speakers: tuple[Any, Any], first: str, tmp_path: Path
) -> None:
    turns = [{"speaker": speakers[0], "text": first}, {"speaker": speakers[1], "text": "Well, hm."}]
    said, report, _ = read(tmp_path, {"utterances": [*turns, {"speaker": speakers[0], "text": "There."}]})
    agent = first != "Where?"
    assert said == [
        f"assistant: {first} | user: Well, hm. | assistant: There."
        if agent
        else "user: Where? | assistant: Well, hm."
    ]
    assert report.dropped_tails == (0 if agent else 1)
    assert "customer speaks first" in report.guessed


def test_calls_of_tools_in_blocks_become_tool_calls(tmp_path: Path) -> None:
    row = {
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [{"name": "rate", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
        "messages": [
            {"role": "user", "content": "The rate?"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "rate", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "1.1"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "It is 1.1."}]},
        ],
    }  # fmt: skip
    _, _, (made,) = read(tmp_path, json.dumps(row) + "\n")
    assert [m["role"] for m in made["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    called = made["messages"][2]["tool_calls"][0]
    assert (called["id"], called["function"]) == ("t1", {"name": "rate", "arguments": '{"a": 1}'})
    assert made["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "1.1"}
    assert made["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_parts_that_call_functions_become_tool_calls(tmp_path: Path) -> None:
    contents = [
        {"role": "user", "parts": [{"text": "The rate?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "rate", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "rate", "response": {"is": 1}}}]},
        {"role": "model", "parts": [{"text": "It is 1."}]},
    ]
    _, _, (made,) = read(tmp_path, {"contents": contents})
    assert [m["role"] for m in made["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert made["messages"][1]["tool_calls"][0]["function"] == {"name": "rate", "arguments": '{"a": 1}'}


def test_the_better_of_two_compared_answers_is_preferred_and_a_draw_is_skipped(tmp_path: Path) -> None:
    both = {"prompt": "Where?", "response_a": "There.", "response_b": "No."}
    rows = [{**both, "winner": "model_b"}, {**both, "winner": "model_a"}, {**both, "winner": "tie"}]
    _, report, made = read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert [row["preferred_output"][0]["content"] for row in made] == ["No.", "There."]
    assert [(s.line, s.reason) for s in report.skipped] == [(3, "neither of its two answers was preferred")]
    table = "prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\nWhere?,There.,No.,0,1,0\n"
    assert read(tmp_path, table)[2][0]["preferred_output"][0]["content"] == "No."
    talks = {"conversation_a": [U, A], "conversation_b": [U, {**A, "content": "No."}], "winner": "model_b"}
    assert read(tmp_path, [talks])[2][0]["preferred_output"][0]["content"] == "No."


def test_a_judged_answer_that_is_not_wanted_is_skipped(tmp_path: Path) -> None:
    rows = [{"messages": [U, A], "label": True}, {"messages": [U, A], "label": False}]
    said, report, _ = read(tmp_path, rows)
    assert said == [QA]
    assert len(report.skipped) == 1


def test_answers_to_one_message_are_taken_by_their_rank(tmp_path: Path) -> None:
    said, report, _ = read(
        tmp_path,
        "message_id,parent_id,text,role,rank\na,,Where?,prompter,\nb,a,Nowhere.,assistant,1\nc,a,There.,assistant,0\n"
        "d,b,Really?,prompter,\n",
    )
    assert said == [QA]
    assert [one.line for one in report.skipped] == [3, 5]
    replies = [
        {"text": "No.", "role": "assistant", "rank": 1},
        {"text": "There.", "role": "assistant", "rank": 0},
    ]
    assert read(tmp_path, {"prompt": {"text": "Where?", "role": "prompter", "replies": replies}})[0] == [QA]


def test_chains_of_replies_whose_ids_became_decimal_numbers(tmp_path: Path) -> None:
    table = (
        "tweet_id,author_id,inbound,text,response_tweet_id,in_response_to_tweet_id\n"
        "3,7,True,Thanks,,2.0\n2,bank,False,There.,3,1.0\n1,7,True,Where?,2,\n"
    )
    said, report, _ = read(tmp_path, table)
    assert (said, report.dropped_tails) == ([QA], 1)


@pytest.mark.parametrize(
    ("header", "user", "agent"),
    [("диалог;кто;сообщение", "клиент", "оператор"), ("id_conversa;quem;mensagem", "cliente", "atendente"),
     ("Chat ID;X;Text", "Incoming", "Outgoing"), ("conversationId;type;body", "incoming", "outgoing")],
)  # fmt: skip
def test_who_speaks_is_told_by_the_cells_where_no_header_says_it(
    header: str, user: str, agent: str, tmp_path: Path
) -> None:
    assert read(tmp_path, f"{header}\n1;{user};Where?\n1;{agent};There.\n")[0] == [QA]


def test_compound_words_name_the_sides(tmp_path: Path) -> None:
    assert read(tmp_path, "Patientenfrage;Arztantwort\nWhere?;There.\n")[0] == [QA]
    assert read(tmp_path, [{"Context": "Where?", "Response": "There."}])[0] == [QA]


SUBTITLES = {
    "voices": "WEBVTT\n\n00:01.000 --> 00:04.000\n<v Customer>Where?</v>\n\n"
    "00:05.000 --> 00:07.000\n<v Agent Bo>There.</v>\n",
    "names": "WEBVTT\n\nNOTE x\n\n1\n00:00:01.000 --> 00:00:04.000 align:start\nCustomer: Where?\n\n2\n"
    "00:00:05.000 --> 00:00:07.000\nAgent Bo: There.\n",
    "subrip": "1\n00:00:01,000 --> 00:00:04,000\nCustomer: <i>Where?</i>\n\n"
    "2\n00:00:05,000 --> 00:00:07,000\nAgent: There.\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SUBTITLES)
def test_subtitles_of_calls(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, SUBTITLES[name])[0] == [QA]


def test_subtitles_of_names_are_asked_about_and_read_with_a_map(tmp_path: Path) -> None:
    text = SUBTITLES["voices"].replace("Customer", "Ann Lee").replace("Agent Bo", "Bo Ray")
    text += text.removeprefix("WEBVTT\n").replace("Where", "And where")
    with pytest.raises(DataError, match=r"Ann Lee, Bo Ray: who is the customer\?") as refused:
        read(tmp_path, text)
    assert "--map user=Ann Lee,assistant=Bo Ray" in refused.value.hint
    said, _, _ = read(tmp_path, text, format="transcript", mapping={"user": "Ann Lee", "assistant": "Bo Ray"})
    assert said == [f"{QA} | user: And where? | assistant: There."]


MAIL = """From anna@example.org Mon Jan  1 10:00:00 2024
From: Anna <anna@example.org>
To: support@shop.example
Subject: Lost parcel
Message-ID: <1@example.org>
Date: Mon, 01 Jan 2024 10:00:00 +0000

Where?

From support@shop.example Mon Jan  1 11:00:00 2024
From: Shop <support@shop.example>
Subject: Re: Lost parcel
Message-ID: <2@shop.example>
In-Reply-To: <1@example.org>
Date: Mon, 01 Jan 2024 11:00:00 +0000
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<p>There.</p><p>On Mon, Jan 1, 2024 at 10:00 Anna wrote:<br></p><blockquote>Where?</blockquote>
"""


def test_mail_threads_without_what_they_quote(tmp_path: Path) -> None:
    plain = MAIL.replace("text/html", "text/plain").replace(
        "<p>There.</p><p>On Mon, Jan 1, 2024 at 10:00 Anna wrote:<br></p><blockquote>Where?</blockquote>",
        "There.\n\nAm Mo., 1. Jan. 2024 um 10:00 Uhr schrieb Anna:\n> Where?\n",
    )
    said, report, rows = read(tmp_path, plain)
    assert (said, report.format) == ([QA], "turns")
    assert rows[0]["metadata"]["subject"] == "Lost parcel"
    assert read(tmp_path, MAIL)[0][0].startswith("user: Where? | assistant: There.")
    with pytest.raises(DataError, match=r"who is the customer\?"):
        read(tmp_path, plain.replace("support@", "bo@"))


def test_a_folder_of_mails_is_put_together_by_thread(tmp_path: Path) -> None:
    first, second = MAIL.split("\nFrom support@")
    (tmp_path / "a.eml").write_text(first.partition("\n")[2])
    (tmp_path / "b.eml").write_text(f"From support@{second}".partition("\n")[2].split("<p>On")[0])
    rows = [one.row for one in importers.read(tmp_path)]
    assert [[m["content"] for m in row["messages"]] for row in rows] == [["Where?", "There."]]


def test_dialogues_a_line_with_marks_between_the_turns(tmp_path: Path) -> None:
    text = "Where ? __eou__ There . __eou__\nSo , how ? __eou__ Well . __eou__ Fine , then . __eou__\n"
    said, report, _ = read(tmp_path, text)
    assert said == ["user: Where ? | assistant: There .", "user: So , how ? | assistant: Well ."]
    assert (report.dropped_tails, "customer speaks first" in report.guessed) == (1, True)


def test_a_chat_log_that_begins_with_a_message_of_the_program(tmp_path: Path) -> None:
    log = "01.03.24, 10:02 - Nachrichten sind verschlüsselt, auch hier.\n01.03.24, 10:02 - Anna: Where?\n"
    assert read(tmp_path, log + "01.03.24, 10:03 - Kundenservice: There.\n")[0] == [QA]
    spanish = "[1/3/24 10:02:11] Ana: Where?\n[1/3/24 10:03:12] Soporte: There.\n"
    assert read(tmp_path, spanish)[0] == [QA]


def test_messages_without_roles_are_never_taken_for_training_rows(tmp_path: Path) -> None:
    row = {"sessionId": "s", "inputTranscript": "Where?", "messages": [{"content": "There."}]}
    with pytest.raises(DataError, match="no known format"):
        read(tmp_path, json.dumps(row) + "\n")


def test_names_that_tell_no_side_are_asked_about_with_the_way_to_say_it(tmp_path: Path) -> None:
    talk = {
        "messages": [
            {"author": {"name": "anna"}, "content": "Where?"},
            {"author": {"name": "bo"}, "content": "There."},
        ]
    }
    path = tmp_path / "talk.json"
    path.write_text(json.dumps(talk), encoding="utf-8")
    seen = look(path)
    assert (seen.speakers, seen.format, seen.certain) == (("anna", "bo"), "dialogue", False)
    with pytest.raises(NothingImported) as refused:
        import_file(path, tmp_path / "datasets", name="talk")
    hint = "--format dialogue --map user=anna,assistant=bo"
    assert hint in refused.value.hint
    assert read(tmp_path, talk, format="dialogue", mapping={"user": "anna", "assistant": "bo"})[0] == [QA]


@pytest.mark.parametrize(
    "talk",
    [{"gespräch": [{"sprecher": "Kunde", "inhalt": "Where?"}, {"sprecher": "Berater", "inhalt": "There."}]},
     {"échanges": [{"locuteur": "client", "texte": "Where?"}, {"locuteur": "conseiller", "texte": "There."}]},
     {"对话": [{"角色": "客户", "内容": "Where?"}, {"角色": "客服", "内容": "There."}]}],
)  # fmt: skip
def test_keys_in_other_languages(talk: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, [talk, talk])[0] == [QA, QA]


def test_names_after_the_side_in_scripts_without_blanks(tmp_path: Path) -> None:
    assert read(tmp_path, "会话,发送人,消息\n1,客户张三,Where?\n1,客服小王,There.\n")[0] == [QA]
    assert read(tmp_path, "[고객] [오전 10:01] Where?\n[상담사] [오전 10:02] There.\n")[0] == [QA]


def test_earlier_turns_are_read_from_a_history_and_never_from_passages(tmp_path: Path) -> None:
    row = {"question": "Where?", "answer": "There."}
    assert read(tmp_path, [{**row, "history": ["Hi?", "Hello."]}])[0] == [
        f"user: Hi? | assistant: Hello. | {QA}"
    ]
    assert read(tmp_path, [{**row, "context": ["One passage.", "Another."]}])[0] == [QA]
