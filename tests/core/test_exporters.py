"""What leaves in another format: whole, or left out with a reason; never without what the format has no place for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers
from tunedesk.core.importing.exporters import Written, write_rows

CALLS = [
    {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": '{"q": "é"}'}}
    for number, name in ((1, "look"), (2, "count"))
]
TOOLS: Row = {
    "messages": [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "I look.", "tool_calls": CALLS},
        {"role": "tool", "content": "here", "tool_call_id": "call_1"},
        {"role": "tool", "content": "2", "tool_call_id": "call_2"},
        {"role": "assistant", "content": "Here, twice."},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
}
PLAIN: Row = {
    "messages": [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1", "weight": 0},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "2"},
    ],
    "metadata": {"intent": "count"},
}
IMAGE: Row = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "This?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": "A cat."},
    ]
}  # fmt: skip
PAIR: Row = {
    "input": {"messages": [{"role": "user", "content": "q"}]},
    "preferred_output": [{"role": "assistant", "content": "a"}],
    "non_preferred_output": [{"role": "assistant", "content": "b"}],
}
ROWS = [TOOLS, PLAIN, IMAGE, PAIR]


def written(path: Path, format_name: str, rows: list[Row] = ROWS, **options: Any) -> Written:
    return write_rows(enumerate(rows, 1), path, format_name=format_name, **options)


def test_sharegpt_keeps_calls_and_weights_and_leaves_out_what_it_has_no_place_for(tmp_path: Path) -> None:
    done = written(tmp_path / "out.jsonl", "sharegpt")
    assert done.conversations == 2
    assert [(one.line, one.reason) for one in done.skipped] == [
        (3, "the format has no place for image_url"), (4, "it is a preference pair"),
    ]  # fmt: skip
    tools, plain = (row.row["messages"] for row in importers.read(done.path))
    assert tools == TOOLS["messages"]
    assert [one.get("weight") for one in plain] == [None, None, 0, None, None]
    assert [one["role"] for one in plain] == ["system", "user", "assistant", "user", "assistant"]


def test_alpaca_takes_question_and_answer_in_turn_alone(tmp_path: Path) -> None:
    untrained: Row = {
        "messages": [*PLAIN["messages"][:2], {"role": "assistant", "content": "1", "weight": 0}]
    }
    done = written(tmp_path / "out.jsonl", "alpaca", [*ROWS, {"messages": PLAIN["messages"][:2]}, untrained])
    assert json.loads(done.path.read_bytes()) == {
        "instruction": "Two", "input": "", "output": "2", "system": "Be kind.", "history": [["One", "1"]],
    }  # fmt: skip
    assert [one.line for one in done.skipped] == [1, 3, 4, 5, 6]


@pytest.mark.parametrize("format_name", ["openai", "parquet"])
def test_rows_of_all_kinds_come_back_as_they_were(tmp_path: Path, format_name: str) -> None:
    rows = [*ROWS, {**PLAIN, "parallel_tool_calls": False, "source": "web"}]
    suffix = {"openai": "jsonl"}.get(format_name, format_name)
    done = written(tmp_path / f"out.{suffix}", format_name, rows, keep_metadata=True)
    assert (done.conversations, done.skipped) == (len(rows), ())
    assert [row.row for row in importers.read(done.path)] == rows
