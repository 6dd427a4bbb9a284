"""Named versions and views: kept over restarts, restored as one undoable edit, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunedesk.core.diff import diff
from tunedesk.core.editing import edits
from tunedesk.core.searching.query import QueryError
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, UsageError
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

LINES = [
    {
        "messages": [
            {"role": "user", "content": f"Question {n}"},
            {"role": "assistant", "content": f"Answer {n}"},
        ]
    }
    for n in range(6)
]


@pytest.fixture
def bench(paths: Paths, tmp_path: Path) -> Iterator[Workbench]:
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    made = Workbench(paths)
    made.import_file(tmp_path / "mine.jsonl")
    yield made
    made.store.close()


@pytest.fixture
def workspace(bench: Workbench) -> Workspace:
    return bench.open("mine")


def text(workspace: Workspace, index: int, message: int = 1) -> str:
    said: str = workspace.row(index)["messages"][message]["content"]
    return said


def test_a_version_is_a_state_that_later_edits_and_undos_do_not_touch(
    bench: Workbench, workspace: Workspace, paths: Paths
) -> None:
    workspace = workspace.apply(edits.replace_message([0], 1, "First"))
    workspace = workspace.apply(edits.exclude([5]))
    bench.versions.save(workspace, "before lunch")
    workspace = workspace.undo().undo().apply(edits.replace_message([0], 1, "Second"))
    then = bench.versions.at(workspace, "before lunch")
    assert (text(then, 0), then.included_count) == ("First", 5)
    assert (text(workspace, 0), workspace.included_count) == ("Second", 6)
    again = Workbench(paths)
    assert [version.name for version in again.versions.all(again.open("mine"))] == ["before lunch"]
    assert text(again.versions.open("mine@before lunch"), 0) == "First"
    assert text(again.versions.open("mine@imported"), 0) == "Answer 0"
    again.store.close()


def test_restoring_is_one_edit_that_can_be_undone_redone_and_built_upon(
    bench: Workbench, workspace: Workspace
) -> None:
    workspace = workspace.apply(edits.replace_message([0], 1, "First"))
    bench.versions.save(workspace, "one")
    workspace = workspace.undo().apply(edits.replace_message([0, 1], 1, "Second"))
    restored = bench.versions.restore(workspace, "one")
    assert (text(restored, 0), text(restored, 1)) == ("First", "Answer 1")
    assert restored.undoable
    assert restored.undoable.edit.label == "go to one"
    undone = restored.undo()
    assert text(undone, 0) == "Second"
    restored = undone.redo()
    assert text(restored, 0) == "First"
    built = restored.undo().redo().apply(edits.replace_message([2], 1, "Third"))
    assert [text(bench.open("mine"), index) for index in range(3)] == ["First", "Answer 1", "Third"]
    bench.versions.save(built, "two")
    back = bench.versions.restore(built, "imported")
    assert list(back.refreshed().with_query("is:edited").matches) == []
    assert text(bench.versions.restore(back, "two"), 2) == "Third"


def test_some_rows_are_reverted_to_a_version_as_one_edit(bench: Workbench, workspace: Workspace) -> None:
    workspace = workspace.apply(edits.replace_message(range(6), 1, "Same"))
    reverted = bench.versions.revert(workspace, "imported", [1, 4])
    assert [text(reverted, index) for index in (0, 1, 4)] == ["Same", "Answer 1", "Answer 4"]
    assert text(bench.open("mine"), 4) == "Answer 4"
    assert list(reverted.with_query('"answer 4"').matches) == [4]
    assert text(reverted.undo(), 4) == "Same"
    with pytest.raises(DataError, match="no row"):
        bench.versions.revert(workspace, "imported", [])


def test_a_version_looked_at_keeps_edits_to_itself(bench: Workbench, workspace: Workspace) -> None:
    bench.versions.save(workspace, "one")
    bench.versions.at(workspace, "one").apply(edits.replace_message([0], 1, "Lost"))
    assert text(bench.open("mine"), 0) == "Answer 0"


def test_a_name_is_given_once_and_can_be_forgotten(bench: Workbench, workspace: Workspace) -> None:
    bench.versions.save(workspace, "one")
    for name in ("one", "", "a@b", "imported", " one"):
        with pytest.raises(UsageError):
            bench.versions.save(workspace, name)
    bench.versions.forget(workspace, "one")
    with pytest.raises(DataError, match="no version one") as caught:
        bench.versions.restore(workspace, "one")
    assert "imported" in caught.value.hint


def test_a_difference_between_versions_names_every_message(bench: Workbench, workspace: Workspace) -> None:
    bench.versions.save(workspace, "start")
    workspace = workspace.apply(edits.replace_message([0], 1, "Better"))
    workspace = workspace.apply(edits.add_message([1], 2, "user", "And then?"))
    workspace = workspace.apply(edits.delete_message([2], 0))
    workspace = workspace.apply(edits.set_weight([3], 1, 0))
    workspace = workspace.apply(edits.exclude([4]))
    workspace = workspace.apply(edits.tag([5], "seen"))
    found = diff(bench.versions.at(workspace, "start"), workspace)
    assert [(one.kind, one.before, one.after) for one in found.changes] == [
        ("reworded", 0, 0), ("reworded", 1, 1), ("reworded", 2, 2), ("reworded", 3, 3), ("removed", 4, None),
    ]  # fmt: skip
    assert [[(m.kind, m.role, m.was, m.now) for m in one.messages] for one in found.changes] == [
        [("reworded", "assistant", "Answer 0", "Better")],
        [("added", "user", "", "And then?")],
        [("removed", "user", "Question 2", "")],
        [("changed", "assistant", "Answer 3", "Answer 3")],
        [],
    ]
    assert found.unchanged == 1
    back = diff(workspace, bench.versions.at(workspace, "start"))
    assert (back.count("added"), back.count("removed"), back.count("reworded")) == (1, 0, 4)


def test_views_are_kept_by_name_and_only_when_they_are_queries(bench: Workbench) -> None:
    bench.views.save("lost cards", "intent:card_lost turns>4")
    bench.views.save("lost cards", "intent:card_lost")
    bench.views.save("big", "chars>9000")
    with pytest.raises(QueryError):
        bench.views.save("bad", "(")
    with pytest.raises(UsageError):
        bench.views.save(" ", "a")
    assert [(view.name, view.query) for view in bench.views.all()] == [
        ("big", "chars>9000"), ("lost cards", "intent:card_lost"),
    ]  # fmt: skip
    bench.views.forget("big")
    assert [view.name for view in bench.views.all()] == ["lost cards"]
