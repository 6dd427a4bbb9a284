"""Conversations added since the import: journalled, and everywhere where imported ones are."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.test_workspace import ROWS, chat
from tunedesk.core.conversations import SourceRow
from tunedesk.core.counting.dataset_counts import EditedRows, dataset_tokens
from tunedesk.core.counting.message_table import RowTokens
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.diff import diff
from tunedesk.core.editing import edits
from tunedesk.core.editing.history import MemoryJournal
from tunedesk.core.searching.piece import Known
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError

NEW = chat("May I save this reply?", intent="saved", tags=["chat"], channel="desk")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    source = (SourceRow(line, row) for line, row in enumerate(ROWS, 1))
    return write_dataset(source, tmp_path / "datasets", name="n", source="s")


@pytest.fixture
def workspace(dataset: Dataset) -> Workspace:
    return Workspace.open(dataset).add_rows([NEW], "save a reply")


def test_an_added_row_is_listed_found_sorted_counted_and_exported(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert (workspace.total, workspace.included_count, list(workspace.matches)) == (5, 5, [0, 1, 2, 3, 4])
    view = workspace.view(4)
    assert (view.line, view.intent, view.tags, view.added, view.preview) == (
        5, "saved", ("chat",), True, "May I save this reply?",
    )  # fmt: skip
    for query in ('"save this"', "intent:saved", "tag:chat", "channel:desk", "is:edited", "user:/sav./"):
        assert list(workspace.with_query(query).matches) == [4], query
    assert list(workspace.with_query("refund OR save").matches) == [1, 2, 4]
    assert next(iter(workspace.with_sort("intent", True).matches)) == 4
    assert dict(workspace.facets("intent"))["saved"] == 1
    assert workspace.export(tmp_path / "out.jsonl") == 5
    assert "save this reply" in (tmp_path / "out.jsonl").read_text().splitlines()[4]


def test_undo_takes_it_out_redo_brings_it_back_and_the_list_follows(workspace: Workspace) -> None:
    edited = workspace.apply(edits.replace_message([4], 1, "Reworded")).apply(edits.tag([4], "keep"))
    assert list(edited.with_query("reworded tag:keep").matches) == [4]
    gone = edited.undo().undo().undo()
    assert (gone.total, gone.included_count, list(gone.matches)) == (4, 4, [0, 1, 2, 3])
    assert list(gone.with_query("-intent:refund").matches) == [0, 3]
    assert list(gone.with_query("").matches) == [0, 1, 2, 3]
    back = gone.redo().redo()
    assert list(back.matches) == [0, 1, 2, 3, 4]
    assert back.row(4)["messages"][1]["content"] == "Reworded"


def test_it_survives_a_restart_and_undone_ones_keep_their_numbers(dataset: Dataset) -> None:
    journal = MemoryJournal()
    first = Workspace.open(dataset, journal).add_rows([NEW], "one").undo()
    second = first.add_rows([chat("Second"), chat("Third")], "two")
    again = Workspace.open(dataset, journal)
    for state in (second, again):
        assert list(state.matches) == [0, 1, 2, 3, 5, 6]
        assert [state.row(index)["messages"][1]["content"] for index in (5, 6)] == ["Second", "Third"]
        assert (state.total, state.included_count) == (6, 6)


def test_two_instances_that_add_at_once_keep_both(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine, theirs = mine.add_rows([chat("Mine")], "mine"), theirs.add_rows([chat("Theirs")], "theirs")
    mine = mine.apply(edits.tag([4], "of mine"))
    assert [mine.row(index)["messages"][1]["content"] for index in (4, 5)] == ["Mine", "Theirs"]
    assert list(theirs.reloaded().with_query('tag:"of mine"').matches) == [4]


def test_a_version_before_it_does_not_have_it_and_the_difference_says_so(workspace: Workspace) -> None:
    before = workspace.at(())
    assert (before.total, list(before.matches)) == (4, [0, 1, 2, 3])
    assert [(change.kind, change.row) for change in diff(before, workspace).changes] == [("added", 4)]
    assert [(change.kind, change.row) for change in diff(workspace, before).changes] == [("removed", 4)]
    restored = workspace.apply(edits.restore((), "imported"))
    assert list(restored.with_query("").matches) == [0, 1, 2, 3]
    assert list(restored.undo().with_query("").matches) == [0, 1, 2, 3, 4]


def test_what_was_known_of_imported_rows_alone_does_not_break_a_search(workspace: Workspace) -> None:
    known = Known(tokens=array("I", [10, 20, 30, 40]), loss=array("d", [1.0, 2.0, 3.0, 4.0]))
    knowing = replace(workspace, known=known)
    assert list(knowing.with_query("tokens>15").matches) == [1, 2, 3]
    assert list(knowing.with_query("-loss>1.5").matches) == [0, 4]
    assert next(iter(knowing.with_sort("loss").matches)) == 0
    assert (knowing.view(4).tokens, knowing.view(4).loss) == (None, None)


def test_its_tokens_are_counted(workspace: Workspace) -> None:
    class Words:
        def expect(self, size: int) -> None:
            pass

        def count_rows(self, rows: object) -> RowTokens:
            counts = array("I", [len(row["messages"]) for row in rows])  # type: ignore[attr-defined]
            return RowTokens(counts, counts, counts)

        def count_lines(self, lines: object) -> RowTokens:
            counts = array("I", [7 for _ in lines])  # type: ignore[attr-defined]
            return RowTokens(counts, counts, counts)

    imported = dataset_tokens(workspace.dataset.imported, "words", Words)
    counted = EditedRows().over(imported, workspace.dataset, workspace.overlay, Words)
    assert list(counted.total) == [7, 7, 7, 7, 3]
    gone = workspace.undo()
    assert list(EditedRows().over(imported, gone.dataset, gone.overlay, Words).total) == [7, 7, 7, 7, 0]


def test_an_edit_of_all_rows_is_not_about_those_added_later(dataset: Dataset) -> None:
    journal = MemoryJournal()
    workspace = Workspace.open(dataset, journal)
    for edit in (edits.tag(None, "early"), edits.set_system_prompt(None, "Be early."), edits.exclude(None)):
        workspace = workspace.apply(edit)
    workspace = workspace.add_rows([NEW], "save a reply")
    for state in (workspace, Workspace.open(dataset, journal)):
        assert list(state.with_query("tag:early").matches) == [0, 1, 2, 3]
        assert list(state.with_query("system:early").matches) == [0, 1, 2, 3]
        assert [index for index, _ in state.included()] == [4]
        assert state.row(4) == NEW
    later = workspace.apply(edits.set_system_prompt(None, "Be late."))
    assert list(later.with_query("system:late").matches) == [0, 1, 2, 3, 4]
    assert later.row(4)["messages"][0]["content"] == "Be late."


def test_nothing_cannot_be_added(workspace: Workspace) -> None:
    with pytest.raises(DataError):
        workspace.add_rows([], "nothing")
