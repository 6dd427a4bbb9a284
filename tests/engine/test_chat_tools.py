"""Calls of tools are found in a reply's text however it is cut into pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunedesk.engine.chat_tools import ToolText

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": [1, "x"]}}\n</tool_call>'


def read(text: str, cuts: list[int]) -> tuple[str, list[dict[str, Any]]]:
    reader, shown, last = ToolText(), "", 0
    for cut in [*sorted(cut % (len(text) + 1) for cut in cuts), len(text)]:
        shown += reader.add(text[last:cut])
        last = cut
    rest, calls = reader.end()
    return shown + rest, calls


@given(st.lists(st.integers(0, 500), max_size=8))
def test_calls_and_text_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    text, calls = read(f"Well < then{CALL}\n{CALL}\n", cuts)
    assert text == "Well < then"
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": '{"a": [1, "x"]}'}] * 2
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<tool",
        "a <tool_call> b",
        "<tool_call>[1]</tool_call>",
        '<tool_call>{"name": 5}</tool_call> and more ',
        "<tool_call>" + "[" * 100_000,
        "<tool_call><tool_call>",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert read(text, [3, 9]) == (text, [])


def test_a_call_without_arguments_or_with_their_text_is_a_call_and_so_is_one_without_its_end() -> None:
    _, calls = read('<tool_call>{"name": "a"}</tool_call><tool_call>{"name": "b", "arguments": "{}"}', [])
    assert [call["function"] for call in calls] == [
        {"name": "a", "arguments": "{}"},
        {"name": "b", "arguments": "{}"},
    ]
