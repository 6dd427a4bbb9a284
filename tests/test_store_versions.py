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
from tunedesk.store import Launch, LaunchedFile
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
    assert list(reverted.with_query("is:edited").matches) == [0, 2, 3, 5]
    again = reverted.apply(edits.replace_message([4], 1, "Anew"))
    assert (text(again, 4), again.view(4).edited, again.undo().view(4).edited) == ("Anew", True, False)
    with pytest.raises(DataError, match="as in imported already"):
        bench.versions.revert(reverted, "imported", [1, 4])
    assert text(reverted.undo(), 4) == "Same"
    with pytest.raises(DataError, match="no row"):
        bench.versions.revert(workspace, "imported", [])


def test_rows_that_came_or_went_since_are_reverted_too(bench: Workbench, workspace: Workspace) -> None:
    bench.versions.save(workspace, "then")
    workspace = workspace.add_rows([LINES[0]], "copy").apply(edits.exclude([1]))
    workspace = workspace.apply(edits.replace_message([2], 1, "Reworded"))
    reverted = bench.versions.revert(workspace, "then", [6, 1, 2])
    assert bench.versions.compare(bench.versions.at(reverted, "then"), reverted).changes == ()
    assert [index for index, _ in reverted.included()] == [0, 1, 2, 3, 4, 5]
    assert [index for index, _ in bench.open("mine").included()] == [0, 1, 2, 3, 4, 5]
    undone = reverted.undo()
    assert [index for index, _ in undone.included()] == [0, 2, 3, 4, 5, 6]
    only_added = bench.versions.revert(undone, "then", [6])
    assert [index for index, _ in only_added.included()] == [0, 2, 3, 4, 5]


def test_a_row_whose_adding_is_undone_comes_back_by_a_revert(bench: Workbench, workspace: Workspace) -> None:
    workspace = workspace.add_rows([LINES[5]], "copy").apply(edits.replace_message([6], 1, "Reworded"))
    bench.versions.save(workspace, "with it")
    gone = workspace.undo().undo()
    (change,) = bench.versions.compare(bench.versions.at(gone, "with it"), gone).changes
    back = bench.versions.revert(gone, "with it", [change.row])
    assert (text(back, 6), back.included_count, list(back.matches)) == ("Reworded", 7, list(range(7)))
    back = back.apply(edits.set_system_prompt(None, "Be kind."))
    assert list(back.with_query("system:kind").matches) == list(bench.open("mine").matches) == list(range(7))
    assert back.undo().undo().total == 6


def test_what_was_uploaded_is_a_version_to_compare_with(
    bench: Workbench, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not uploaded yet"):
        bench.versions.at(workspace, "uploaded")
    workspace = workspace.apply(edits.replace_message([0], 1, "Uploaded so"))
    files = bench.split(workspace, tmp_path / "split")
    assert bench.versions.uploaded(workspace) == []
    file = LaunchedFile(str(files.train), files.sha256["train.jsonl"], 1)
    bench.store.add_launch(Launch("launch-1", "local", "base", file, at=5.0))
    workspace = workspace.apply(edits.replace_message([0], 1, "Edited since"))
    assert [one.launch for one in bench.versions.uploaded(workspace)] == ["launch-1"]
    assert bench.versions.all(workspace) == []
    _, _, difference = bench.versions.diff("mine@uploaded", "mine")
    assert [(change.kind, change.row) for change in difference.changes] == [("reworded", 0)]
    assert difference.changes[0].messages[0].was == "Uploaded so"
    restored = bench.versions.restore(workspace, "uploaded")
    assert text(restored, 0) == "Uploaded so"


def test_a_version_looked_at_keeps_edits_to_itself(bench: Workbench, workspace: Workspace) -> None:
    workspace = workspace.apply(edits.replace_message([1], 1, "Kept")).apply(edits.exclude([2]))
    bench.versions.save(workspace, "one")
    looked = bench.versions.at(workspace, "one").apply(edits.replace_message([0], 1, "Lost"))
    assert [text(looked, row) for row in (0, 1)] == ["Lost", "Kept"]
    back = looked.undo()
    assert text(back, 0) == text(bench.open("mine"), 0) == "Answer 0"
    assert text(back.redo(), 0) == "Lost"


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
    weighed = found.changes[3].messages[0]
    assert (weighed.keys, weighed.sides()) == ({"weight": (None, 0)}, ("", "weight: 0"))
    assert found.changes[0].messages[0].sides() == ("Answer 0", "Better")
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


def test_a_version_and_a_view_are_renamed_and_no_other_is_lost(
    bench: Workbench, workspace: Workspace
) -> None:
    workspace = workspace.apply(edits.replace_message([0], 1, "First"))
    bench.versions.save(workspace, "a")
    bench.versions.save(workspace, "b")
    bench.versions.rename(workspace, "a", "c")
    assert [one.name for one in bench.versions.all(workspace)] == ["b", "c"]
    assert text(bench.versions.at(workspace.undo(), "c"), 0) == "First"
    for wrong in ("b", "", "x@y", "imported"):
        with pytest.raises(UsageError):
            bench.versions.rename(workspace, "c", wrong)
    bench.views.save("a", "user:x")
    bench.views.save("b", "user:y")
    bench.views.rename("a", " c ")
    for wrong in ("b", " "):
        with pytest.raises(UsageError):
            bench.views.rename("c", wrong)
    bench.views.rename("b", "b")
    assert [(view.name, view.query) for view in bench.views.all()] == [("b", "user:y"), ("c", "user:x")]
