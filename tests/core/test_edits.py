"""Edits as pure functions over rows, and as data."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunedesk.core.conversations import Row
from tunedesk.core.editing import edits
from tunedesk.core.editing.applying import apply
from tunedesk.core.editing.edits import Edit
from tunedesk.errors import DataError, StoreError

ROW: Row = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": "Hi.", "weight": 0},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Bye."},
    ],
    "metadata": {"intent": "greeting"},
}


def after(edit: Edit, row: Row = ROW) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in apply(edit, row)["messages"]]


BEFORE = after(edits.tag([0], "x"))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (edits.replace_message([0], 1, "Hey"), [BEFORE[0], ("user", "Hey"), *BEFORE[2:]]),
        (edits.set_role([0], 1, "tool"), [BEFORE[0], ("tool", "Hello there"), *BEFORE[2:]]),
        (edits.add_message([0], 5, "user", "More"), [*BEFORE, ("user", "More")]),
        (edits.add_message([0], 0, "developer", "X"), [("developer", "X"), *BEFORE]),
        (edits.delete_message([0], 0), BEFORE[1:]),
        (edits.move_message([0], 4, 1), [BEFORE[0], BEFORE[4], *BEFORE[1:4]]),
        (edits.move_message([0], 0, 1), [BEFORE[1], BEFORE[0], *BEFORE[2:]]),
        (edits.split_message([0], 1, 5), [BEFORE[0], ("user", "Hello"), ("user", "there"), *BEFORE[2:]]),
        (
            edits.split_message([0], 1, 5, "assistant"),
            [BEFORE[0], ("user", "Hello"), ("assistant", "there"), *BEFORE[2:]],
        ),
        (edits.merge_messages([0], 3), [*BEFORE[:3], ("user", "Bye\nBye.")]),
        (edits.set_system_prompt([0], "Be brief."), [("system", "Be brief."), *BEFORE[1:]]),
        (edits.replace_text([0], "Bye", "Ciao", role="user"), [*BEFORE[:3], ("user", "Ciao"), BEFORE[4]]),
        (
            edits.replace_text([0], r"B(y)e\.?", r"\1", pattern=True),
            [*BEFORE[:3], ("user", "y"), ("assistant", "y")],
        ),
        (edits.delete_message([0], 0, of="system"), BEFORE[1:]),
        (edits.set_system_prompt(None, ""), BEFORE[1:]),
        (edits.replace_row(0, {"messages": []}), []),
        (edits.exclude(None), BEFORE),
        (edits.include([0]), BEFORE),
        (edits.untag([0], "x"), BEFORE),
    ],
)
def test_an_edit_changes_the_row_as_it_says_and_never_the_given_one(
    edit: Edit, expected: list[tuple[str, str]]
) -> None:
    kept = copy.deepcopy(ROW)
    assert after(edit) == expected
    assert kept == ROW
    assert after(edits.decode(edits.encode(edit))) == expected


def test_a_weight_is_set_dropped_or_put_on_all_replies() -> None:
    def weights(edit: Edit) -> list[Any]:
        return [message.get("weight") for message in apply(edit, ROW)["messages"]]

    assert weights(edits.set_weight([0], 4, 0)) == [None, None, 0, None, 0]
    assert weights(edits.set_weight([0], 2, None)) == [None] * 5
    assert weights(edits.set_weight(None, None, 1)) == [None, None, 1, None, 1]


def test_a_message_that_stops_being_a_reply_loses_its_weight() -> None:
    changed = apply(edits.set_role([0], 2, "user"), ROW)
    assert changed["messages"][2] == {"role": "user", "content": "Hi."}


def test_rewording_keeps_the_other_keys_of_a_message_and_the_metadata() -> None:
    changed = apply(edits.replace_message([0], 2, "Hello!"), ROW)
    assert changed["messages"][2] == {"role": "assistant", "content": "Hello!", "weight": 0}
    assert changed["metadata"] == ROW["metadata"]


@pytest.mark.parametrize(
    "edit",
    [
        edits.replace_message([0], 9, "x"),
        edits.delete_message([0], -1),
        edits.move_message([0], 0, 5),
        edits.add_message([0], 6, "user", "x"),
        edits.split_message([0], 1, 0),
        edits.split_message([0], 1, 99),
        edits.merge_messages([0], 4),
        edits.set_weight([0], 1, 0),
        edits.delete_message([0], 0, of="user"),
        edits.set_role([0], 1, "tool", of="assistant"),
    ],
)
def test_an_edit_that_does_not_fit_the_row_is_refused(edit: Edit) -> None:
    with pytest.raises(DataError):
        apply(edit, ROW)


def test_calls_and_parts_are_not_merged_or_split_blindly() -> None:
    parts = [{"type": "text", "text": "a"}]
    row: Row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "tool_calls": []}]}
    for edit in (edits.merge_messages([0], 0), edits.split_message([0], 0, 1)):
        with pytest.raises(DataError):
            apply(edit, row)


def test_both_halves_of_a_split_reply_are_trained_on_or_neither_and_its_calls_stay_last() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    reply = {"role": "assistant", "content": "Wait. I look.", "weight": 0, "tool_calls": calls}
    row: Row = {"messages": [reply, {"role": "tool", "content": "a b", "tool_call_id": "c1"}]}
    first, second = apply(edits.split_message([0], 0, 5), row)["messages"][:2]
    assert first == {"role": "assistant", "content": "Wait.", "weight": 0}
    assert second == {"role": "assistant", "content": "I look.", "weight": 0, "tool_calls": calls}
    assert apply(edits.split_message([0], 0, 5, "assistant"), row)["messages"][1] == second
    assert apply(edits.split_message([0], 1, 1), row)["messages"][2]["tool_call_id"] == "c1"
    with pytest.raises(DataError, match="calls a tool"):
        apply(edits.split_message([0], 0, 5, "user"), row)


def test_a_merged_reply_is_trained_on_only_when_both_were() -> None:
    def merged(*weights: int | None) -> Any:
        said = [
            {"role": "assistant", "content": "a", **({} if w is None else {"weight": w})} for w in weights
        ]
        return apply(edits.merge_messages([0], 0), {"messages": said})["messages"][0].get("weight")

    assert [merged(None, 0), merged(1, 0), merged(0, 1), merged(0, None)] == [0, 0, 0, 0]
    assert [merged(None, None), merged(1, None)] == [None, 1]


def test_a_merge_loses_no_call_and_no_refusal() -> None:
    for key in ("function_call", "refusal"):
        row: Row = {
            "messages": [
                {"role": "assistant", "content": "a"},
                {"role": "assistant", "content": "b", key: "c"},
            ]
        }
        with pytest.raises(DataError, match="plain text"):
            apply(edits.merge_messages([0], 0), row)


def test_a_preference_row_takes_a_system_prompt_and_no_message_edit() -> None:
    row: Row = {"input": {"messages": [{"role": "user", "content": "q"}]}, "preferred_output": []}
    changed = apply(edits.set_system_prompt(None, "S"), row)
    assert changed["input"]["messages"][0] == {"role": "system", "content": "S"}
    assert "messages" not in changed
    with pytest.raises(DataError, match="no messages"):
        apply(edits.delete_message([0], 0), row)


@pytest.mark.parametrize("make", [edits.set_role, edits.add_message])
def test_an_unknown_role_is_refused_when_the_edit_is_made(make: Any) -> None:
    arguments = (1, "robot") if make is edits.set_role else (1, "robot", "text")
    with pytest.raises(DataError, match="no role 'robot'"):
        make([0], *arguments)


@pytest.mark.parametrize("name", ["", " x", "a\nb", "a\x1fb"])
def test_a_tag_that_no_query_could_name_is_refused(name: str) -> None:
    with pytest.raises(DataError):
        edits.tag([0], name)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_row_numbers_come_back_sorted_and_once(indexes: list[int]) -> None:
    assert list(edits.unpack(edits.pack(indexes))) == sorted(set(indexes))


def test_many_rows_are_kept_small() -> None:
    edit = edits.exclude(range(0, 1_000_000, 2))
    assert len(edits.encode(edit)) < 20_000


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind": "unheard_of", "rows": null, "label": "x"}'])
def test_an_edit_of_another_version_is_refused_not_guessed(data: bytes) -> None:
    with pytest.raises(StoreError):
        edits.decode(data)


def test_a_replacement_is_read_from_one_line() -> None:
    assert edits.replacement("Hello => Good morning") == edits.Replacement("Hello", "Good morning")
    assert edits.replacement("user:/a+/=>") == edits.Replacement("a+", "", "user", True)
    for line in ("Hello", "=> x", "user: => x"):
        with pytest.raises(DataError):
            edits.replacement(line)
    with pytest.raises(DataError, match="regular expression"):
        edits.replace_text([0], "(", "x", pattern=True)


def test_parts_are_replaced_as_text_and_nothing_else_of_them() -> None:
    image = {"type": "image_url", "image_url": {"url": "Hello"}}
    row: Row = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}, image]}]}
    changed = apply(edits.replace_text([0], "Hello", "Hi"), row)
    assert changed["messages"][0]["content"] == [{"type": "text", "text": "Hi"}, image]
