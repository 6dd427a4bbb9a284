"""Rows of other providers, programs and data sets become conversations; private notes never do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.core.importing import importers
from tunedesk.errors import DataError

QA = [("user", "q"), ("assistant", "a")]
U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
PREFERRED = {"role": "assistant", "content": "good"}
FORMS: dict[str, Any] = {
    "other roles": {"messages": [{"role": "human", "content": "q"}, {"role": "AI", "content": "a"}]},
    "capital roles": {"messages": [{"role": "User", "content": "q"}, {"role": "Chatbot", "content": "a"}]},
    "bare parts": {"messages": [{**U, "content": [{"text": "q"}]}, {**A, "content": [{"text": "a"}]}]},
    "contents": {"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]},
    "authors": {"messages": [{"author": "user", "content": "q"}, {"author": "bot", "content": "a"}]},
    "old prompt": {"prompt": "\n\nHuman: q\n\nAssistant:", "completion": " a"},
    "input and output": {"input": [U], "output": A},
    "input and ideal": {"input": [U], "ideal": "a"},
    "texts in turn": {"data": ["q", "a"]},
    "texts of nobody": {"log": [{"text": "q"}, {"text": "a"}]},
    "history": {"history": [["q", "a"]], "query": "q2", "response": "a2"},
    "written list": {"messages": json.dumps([U, A])},
    "printed list": {"conversations": str([U, A])},
    "marks": {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"},
    "reply tree": {"prompt": {"text": "q", "role": "prompter", "replies": [{"text": "a", "role": "assistant"}]}},
    "node tree": {"current_node": "c", "mapping": {
        "a": {"message": None, "parent": None},
        "b": {"parent": "a", "message": {"author": {"role": "user"}, "content": {"parts": ["q"]}}},
        "x": {"parent": "b", "message": {"author": {"role": "assistant"}, "content": {"parts": ["dropped"]}}},
        "c": {"parent": "b", "message": {"author": {"role": "assistant"}, "content": {"parts": ["a"]}}},
    }},
    "notes by type": {"messages": [
        {"from": "user", "type": "text", "content": "q"}, {"from": "operator", "type": "note", "content": "secret"},
        {"from": "operator", "type": "text", "content": "a"},
    ]},
    "short roles": {"messages": [{"role": "usr", "content": "q"}, {"role": "sys", "content": "a"}]},
    "exchanges": {"id": 1, "conversation": [{"human": "q", "assistant": "a"}, {"human": "q2", "assistant": "a2"}]},
    "exchanges of the system": {"dialogue": [{"user_utterance": "q", "system_utterance": "a", "turn_id": 0}]},
    "exchanges in objects": {"dial": [{"turn": 0, "usr": {"transcript": "q"}, "sys": {"sent": "a"}}]},
    "texts in objects": {"dialogue": [
        {"turn": "driver", "data": {"utterance": "q"}}, {"turn": "assistant", "data": {"utterance": "a"}},
    ]},
    "turns by columns": {"id": 1, "turns": {"speaker": ["USER", "SYSTEM"], "utterance": ["q", "a"]}},
    "participants": {"Transcript": [
        {"ParticipantId": "CUSTOMER", "Content": "q"}, {"ParticipantId": "AGENT", "Content": "a"},
    ]},
    "wrapped deep": {"status": "ok", "result": {"items": [{"messages": [U, A]}], "total": 1}},
    "by id": {"first": [U, A], "second": [U, A]},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_conversations(name: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(FORMS[name]))
    found = importers.read(path)
    row, *_ = [source.row for source in found]
    assert [(m["role"], m["content"]) for m in row["messages"]][:2] == QA
    assert "secret" not in json.dumps(row["messages"])


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"prompt": "q", "chosen": [U, PREFERRED], "rejected": [U, {**A, "content": "bad"}], "score": 8},
        {"prompt": [U], "chosen": [PREFERRED], "rejected": [{**A, "content": "bad"}]},
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {"question": "q", "response_chosen": "good", "response_rejected": "bad"},
    ],
)
def test_preference_pairs_as_they_are_met(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(record))
    row = next(iter(importers.read(path))).row
    assert row["input"]["messages"] == [U]
    assert row["preferred_output"] == [PREFERRED]
    assert row["non_preferred_output"][0]["content"] == "bad"


def test_calls_between_tags_become_tool_calls(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "gpt", "value": '<tool_call>\n{"name": "rain", "arguments": {"day": 1}}\n</tool_call>'},
        {"from": "tool", "value": '<tool_response>\n{"mm": 3}\n</tool_response>'},
        {"from": "gpt", "value": "Yes."},
    ]
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"conversations": turns}]))
    messages = next(iter(importers.read(path))).row["messages"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "rain", "arguments": '{"day": 1}'}
    assert (messages[2]["tool_call_id"], messages[2]["content"]) == ("call_1", '{"mm": 3}')


def test_what_is_no_text_is_named_and_refused(tmp_path: Path) -> None:
    for content, what in (
        (b"%PDF-1.7", "a PDF"),
        (b"\x89PNG\r\n", "a picture"),
        (b"<?xml ?>", "an XML file"),
    ):
        path = tmp_path / "data"
        path.write_bytes(content)
        with pytest.raises(DataError, match=what):
            list(importers.read(path))


def test_a_system_prompt_beside_the_messages_becomes_the_first(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"system": "Be kind.", "messages": [U, A]}) + "\n")
    (found,) = importers.read(path)
    assert found.row == {"messages": [{"role": "system", "content": "Be kind."}, U, A]}


def test_a_completion_that_is_labelled_as_not_wanted_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    labels = [{"prompt": "q", "completion": "a", "label": good} for good in (True, False)]
    path.write_text("\n".join(map(json.dumps, labels)))
    found = importers.read(path)
    assert [one.line for one in found] == [1]
    assert [(one.line, one.reason) for one in found.report.skipped] == [
        (2, "its label says that the completion is not wanted")
    ]


def test_records_of_questions_and_answers_are_no_exchanges_of_one_conversation(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(
        json.dumps({"conversations": [{"question": "q", "answer": "a"}, {"question": "b", "answer": "c"}]})
    )
    assert len(list(importers.read(path))) == 2


def test_a_bot_that_greets_speaks_first_where_nobody_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"turns": ["Hello, how may I help you?", "q", "a"]}]))
    found = importers.read(path)
    (row,) = found
    assert [m["role"] for m in row.row["messages"]] == ["assistant", "user", "assistant"]
    assert found.report.guessed


def test_messages_without_roles_and_contents_are_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(
        json.dumps({"messages": [{"sender": {"t": "v"}, "msg": "q"}, {"sender": {"t": "a"}, "msg": "a"}]})
    )
    with pytest.raises(DataError, match="no known format"):
        list(importers.read(path))


def test_half_a_preference_row_stays_one_row(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"input": {"messages": [U]}, "non_preferred_output": [A]}) + "\n")
    found = importers.read(path)
    assert (len(list(found)), found.report.rows) in ((1, 1), (0, 1))
