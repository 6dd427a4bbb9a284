"""Rows counted in bulk have the tokens that they have one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.counting.message_table import SYSTEM, TableCounter
from tunedesk.core.counting.tokens import TokenCounter


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    return TokenCounter("gpt-4o", tmp_path_factory.mktemp("encodings"))


@pytest.fixture(scope="session")
def table(counter: TokenCounter) -> TableCounter:
    return TableCounter(counter)


def said(role: str, content: Any = "Where is my  card?", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": "{}"}}
TOOL = {
    "type": "function",
    "function": {
        "name": "order",
        "description": "Order a card.",
        "parameters": {"properties": {"how": {"type": "string", "enum": ["post"]}}},
    },
}
ODD: list[Row] = [
    {"messages": [said("system"), said("user", "hi"), said("assistant", "Good day.\n\n  1. Yes")]},
    {
        "messages": [
            said("user", name="gwen"),
            said("assistant", None, tool_calls=[CALL]),
            said("tool", "ok", tool_call_id="c1"),
        ]
    },
    {"messages": [said("user"), said("assistant", "a", weight=0), said("assistant", "b", weight=1)]},
    {"messages": [said("user"), said("assistant", "a")], "tools": [TOOL], "metadata": {"x": 1}},
    {"messages": [None, said("user", [{"type": "text", "text": "hi"}, 4]), {"role": 3}]},
    {"messages": []},
    {"messages": "x"},
    {"messages": [{}]},
    {"other": 1},
    {
        "input": {"messages": [said("user"), said("assistant", "before")]},
        "preferred_output": [said("assistant", "yes")],
        "non_preferred_output": [said("assistant", "no way")],
    },
]  # fmt: skip


def check(rows: list[Row], counter: TokenCounter, table: TableCounter) -> None:
    for found in (table.rows(rows).rows(), table.lines(map(encode_row, rows)).rows()):
        assert list(found.total) == [counter.row(row) for row in rows]
        assert list(found.trained) == [counter.trained(row) for row in rows]


def test_rows_of_any_shape_count_alike(counter: TokenCounter, table: TableCounter) -> None:
    check(ODD, counter, table)
    check([], counter, table)


def test_a_preference_row_counts_its_prompt_and_both_answers(counter: TokenCounter) -> None:
    row = ODD[-1]
    parts = [*row["input"]["messages"], *row["preferred_output"], *row["non_preferred_output"]]
    assert counter.row(row) == counter.row({"messages": parts})
    assert counter.trained(row) == counter.text("yes") + counter.text("no way")


def test_system_prompts_are_told_apart(counter: TokenCounter, table: TableCounter) -> None:
    found = table.rows(ODD[:2])
    assert list(found.rows().system) == [counter.message(said("system")), 0]
    assert found.kinds.to_list()[0] == SYSTEM


roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "narrator"])
message = st.fixed_dictionaries(
    {"role": roles, "content": st.none() | st.text(max_size=30)},
    optional={"weight": st.sampled_from([0, 1]), "name": st.text(max_size=5)},
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"messages": st.lists(message, max_size=4)}), max_size=6))
def test_random_rows_count_alike(rows: list[Row], counter: TokenCounter, table: TableCounter) -> None:
    found = table.rows(rows).rows()
    assert list(found.total) == [counter.row(row) for row in rows]
    assert list(found.trained) == [counter.trained(row) for row in rows]
