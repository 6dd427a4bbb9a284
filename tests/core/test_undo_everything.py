"""Whatever was edited, in whichever order: undone it is as before, redone as after, also when it is opened anew."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.editing import edits
from tunedesk.core.editing.edits import Edit
from tunedesk.core.editing.history import MemoryJournal
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ROWS: list[Row] = [
    {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Grüße\r\n👍🏽"},
            {"role": "assistant", "content": "Yes.", "weight": 0},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "No."},
        ],
        "metadata": {"id": number, "tags": ["gold"]},
    }
    for number in range(3)
] + [
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}]},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "5"},
            {"role": "assistant", "content": "Five."},
        ]
    }
]
MAKERS: dict[str, Callable[[list[int], int], Edit]] = {
    "reword": lambda rows, n: edits.replace_message(rows[:1], n, f"Said {n}"),
    "replace": lambda rows, n: edits.replace_text(rows, "e", "é" * n),
    "role": lambda rows, n: edits.set_role(rows, n, "user"),
    "weight": lambda rows, n: edits.set_weight(rows, None, n % 2),
    "add": lambda rows, n: edits.add_message(rows, n, "assistant", "More."),
    "delete": edits.delete_message,
    "move": lambda rows, n: edits.move_message(rows, n, 0),
    "split": lambda rows, n: edits.split_message(rows, n, 2, "user"),
    "merge": edits.merge_messages,
    "prompt": lambda rows, n: edits.set_system_prompt(rows, f"Prompt {n}"),
    "row": lambda rows, n: edits.replace_row(rows[0], {"messages": [{"role": "user", "content": f"{n}"}]}),
    "trim": lambda rows, n: edits.trim(rows, n + 1),
    "exclude": lambda rows, n: edits.exclude(rows),
    "include": lambda rows, n: edits.include(rows),
    "tag": lambda rows, n: edits.tag(rows, f"t{n}"),
    "untag": lambda rows, n: edits.untag(rows, "gold"),
}


def state(workspace: Workspace) -> str:
    """Return all that can be seen of the rows."""
    views = [workspace.view(index) for index in range(len(workspace.dataset))]
    told = [(view.tags, view.excluded, view.turns, view.preview) for view in views]
    rows = [workspace.row(index) for index in range(len(workspace.dataset))]
    return json.dumps([told, rows, list(workspace.refreshed().matches)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = (SourceRow(number, row) for number, row in enumerate(ROWS, 1))
    return write_dataset(rows, tmp_path_factory.mktemp("datasets"), name="n", source="s")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*MAKERS, "copy", "revert"]),
            st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
            st.integers(0, 5),
        ),
        max_size=12,
    )
)
def test_all_edits_are_undone_and_redone_one_by_one(
    dataset: Dataset, made: list[tuple[str, list[int], int]]
) -> None:
    journal = MemoryJournal()
    workspace = Workspace.open(dataset, journal)
    states, positions = [state(workspace)], [workspace.position]
    for name, rows, number in made:
        try:
            if name == "copy":
                workspace = workspace.add_rows([workspace.row(rows[0])], "copy")
            elif name == "revert":
                then = positions[number % len(positions)]
                workspace = workspace.apply(edits.revert(rows, then, "then", excluded=(), included=()))
                assert all(workspace.row(row) == workspace.at(then).row(row) for row in rows)
            else:
                workspace = workspace.apply(MAKERS[name](rows, number))
        except DataError:  # it does not fit this row: nothing was kept
            continue
        states.append(state(workspace))
        positions.append(workspace.position)
    assert state(Workspace.open(dataset, journal)) == states[-1]
    for before in reversed(states[:-1]):
        workspace = workspace.undo()
        assert _same(workspace, before)
    assert workspace.undoable is None
    workspace = Workspace.open(dataset, journal)
    for after in states[1:]:
        workspace = workspace.redo()
        assert _same(workspace, after)
    assert workspace.redoable is None


_STEPS = st.tuples(
    st.sampled_from(["edit", "edit", "undo", "redo"]), st.booleans(), st.integers(0, 3), st.integers()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=30))
def test_two_instances_undo_and_redo_what_they_did_themselves(
    dataset: Dataset, steps: list[tuple[str, bool, int, int]]
) -> None:
    journal = MemoryJournal()
    instances = [Workspace.open(dataset, journal), Workspace.open(dataset, journal)]
    done: list[list[int]] = [[], []]
    undone: list[list[int]] = [[], []]
    for what, second, row, number in steps:
        before = instances[second].reloaded()
        try:
            if what == "edit":
                edit = edits.replace_message([row], 0, f"{number}")
                instances[second] = before.apply(edit if row < 3 else edits.tag([0, 1], f"t{number % 5}"))
            else:
                instances[second] = before.undo() if what == "undo" else before.redo()
        except DataError:  # the other has built on it: nothing is done
            assert before.reloaded() is before
            continue
        mine, taken = done[second], undone[second]
        if what == "edit":
            mine.append(instances[second].history[-1].id)
            taken.clear()
        elif what == "undo" and mine:
            taken.append(mine.pop())
        elif what == "redo" and taken:
            mine.append(taken.pop())
        assert sorted(instances[second].position) == sorted(done[0] + done[1])
    anew = Workspace.open(dataset, journal)
    assert state(anew) == state(instances[0].reloaded()) == state(instances[1].reloaded())


def _same(workspace: Workspace, wanted: str) -> bool:
    """Whether the rows are as they were; of a copy that is not there (any more) nothing can be told."""
    told, rows, matches = json.loads(wanted)
    views = [workspace.view(index) for index in range(len(told))]
    seen = [[list(view.tags), view.excluded, view.turns, view.preview] for view in views]
    return bool(
        seen == told
        and [workspace.row(index) for index in range(len(rows))] == rows
        and list(workspace.refreshed().matches) == matches
    )
