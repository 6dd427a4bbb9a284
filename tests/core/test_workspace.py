"""The workspace: edits laid over a dataset, undone, redone, replayed and exported."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.editing import edits
from tunedesk.core.editing.history import JournalState, MemoryJournal
from tunedesk.core.searching import search
from tunedesk.core.searching.piece import Known
from tunedesk.core.searching.query import QueryError
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, StoreError, UsageError


def chat(user: str, system: str = "Be kind.", **metadata: object) -> Row:
    return {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
            {"role": "assistant", "content": "Yes."},
        ],
        "metadata": metadata,
    }


ROWS = [
    chat("My card is lost", intent="card_lost", tags=["gold"], id=1),
    chat("A longer question about a refund", intent="refund", id=2),
    chat("refund please", system="Be brief.", intent="Refund", id=3),
    chat("Thanks", id=4),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    source = (SourceRow(10 * line, row) for line, row in enumerate(ROWS, 1))
    return write_dataset(source, tmp_path / "datasets", name="n", source="s")


@pytest.fixture
def workspace(dataset: Dataset) -> Workspace:
    return Workspace.open(dataset)


def prompts(workspace: Workspace) -> list[str]:
    return [row["messages"][0]["content"] for _, row in workspace.included()]


def shown(workspace: Workspace) -> list[int]:
    return list(workspace.matches)


def test_a_workspace_starts_with_every_row(workspace: Workspace) -> None:
    assert (workspace.total, workspace.matched, shown(workspace)) == (4, 4, [0, 1, 2, 3])
    assert [row for _, row in workspace.included()] == ROWS
    assert workspace.line(2) == 30


def test_an_edit_makes_a_new_workspace_and_leaves_the_old_one(workspace: Workspace) -> None:
    changed = workspace.apply(edits.replace_message([1], 1, "Where is it?"))
    assert changed.row(1)["messages"][1]["content"] == "Where is it?"
    assert workspace.row(1) == ROWS[1]
    assert shown(changed.with_query("where")) == [1]
    assert shown(workspace.with_query("where")) == []
    assert shown(changed.with_query("longer")) == []


def test_the_list_keeps_its_rows_after_an_edit_until_it_is_refreshed(workspace: Workspace) -> None:
    found = workspace.with_query("refund")
    changed = found.apply(edits.replace_message([1], 1, "no more"))
    assert (shown(changed), changed.stale) == ([1, 2], True)
    assert (shown(changed.refreshed()), changed.refreshed().stale) == ([2], False)


def test_what_a_query_found_stands_again_once_its_state_is_back(
    dataset: Dataset, workspace: Workspace
) -> None:
    found = workspace.with_query("-tag:mine")
    edited = found.apply(edits.tag([1], "mine"))
    assert edited.stale
    assert not edited.undo().stale
    assert edited.undo().redo().stale
    again = Workspace.open(dataset, edited.journal)
    assert again.showing(edited.refreshed()).matched == found.matched - 1
    assert not again.showing(edited.refreshed()).stale
    assert again.showing(edited).stale


def test_undo_and_redo_walk_the_edits_and_a_new_edit_ends_the_redo(workspace: Workspace) -> None:
    one = workspace.apply(edits.set_system_prompt(None, "One"))
    two = one.apply(edits.set_system_prompt([0, 1], "Two"))
    assert prompts(two) == ["Two", "Two", "One", "One"]
    assert prompts(two.undo()) == ["One"] * 4
    assert prompts(two.undo().undo()) == prompts(workspace)
    assert prompts(two.undo().undo().redo().redo()) == prompts(two)
    other = two.undo().apply(edits.set_system_prompt([3], "Other"))
    assert other.redoable is None
    assert prompts(other.redo()) == ["One", "One", "One", "Other"]
    assert prompts(other.undo().redo()) == prompts(other)
    assert prompts(other.undo().undo().redo()) == ["One"] * 4
    fresh = Workspace.open(workspace.dataset)
    assert fresh.undo() is fresh.redo() is fresh


def test_lines_are_the_rows_as_edits_left_them(workspace: Workspace) -> None:
    edited = (
        workspace.apply(edits.replace_message([2], 1, "Where is my refund?"))
        .apply(edits.exclude([0]))
        .apply(edits.tag([3], "keep"))
        .add_rows([chat("One more")], "paste")
        .apply(edits.delete_message([4], 0))
    )
    lines = list(edited.included_lines())
    assert [(index, json.loads(raw)) for index, raw in lines] == list(edited.included())
    assert lines[0][1] == workspace.dataset.raw(1)


def test_edits_come_back_from_the_journal_as_they_were(dataset: Dataset) -> None:
    journal = MemoryJournal()
    before = (
        Workspace.open(dataset, journal)
        .apply(edits.set_system_prompt(None, "New"))
        .apply(edits.delete_message([2], 1))
        .apply(edits.exclude([0]))
        .apply(edits.tag([3], "keep"))
        .apply(edits.tag([1], "drop"))
        .undo()
    )
    after = Workspace.open(dataset, journal)
    assert list(after.included()) == list(before.included())
    assert shown(after.with_query("is:excluded OR tag:keep")) == [0, 3]
    assert after.redoable is not None
    assert after.redoable.edit.label == "tag drop"
    assert shown(after.redo().with_query("tag:drop")) == [1]


def test_another_instance_sees_an_edit_after_reloading(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine = mine.apply(edits.exclude([1]))
    assert theirs.reloaded().included_count == 3
    assert mine.reloaded() is mine


def test_an_undo_and_a_redo_work_out_no_edit_again(dataset: Dataset) -> None:
    first = Workspace.open(dataset).apply(edits.replace_text(range(4), "e", "i")).apply(edits.exclude([1, 3]))
    second = first.apply(edits.tag(range(1, 4), "t")).apply(edits.untag([2], "t"))
    back = second.undo().undo()
    assert back.overlay is first.overlay
    assert back.redo().redo().overlay is second.overlay
    other = Workspace.open(dataset, second.journal).apply(edits.include([0]))
    assert second.reloaded().overlay.bulk == second.overlay.bulk == other.overlay.bulk
    assert [second.view(n).tags for n in range(4)] == [("gold",), ("t",), (), ("t",)]
    assert [second.overlay.excluded(n) for n in range(4)] == [False, True, False, True]


def test_two_instances_build_on_each_others_edits(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine = mine.apply(edits.tag([0], "mine")).apply(edits.exclude([1]))
    theirs = theirs.apply(edits.tag([0], "theirs"))
    assert theirs.view(0).tags == ("gold", "mine", "theirs")
    assert theirs.included_count == 3
    mine = mine.undo()
    assert (mine.view(0).tags, mine.included_count) == (("gold", "mine", "theirs"), 4)
    theirs = theirs.undo()
    assert theirs.view(0).tags == ("gold", "mine")
    mine = mine.redo()
    assert (mine.view(0).tags, mine.included_count) == (("gold", "mine"), 3)
    assert theirs.redo().view(0).tags == ("gold", "mine", "theirs")
    assert list(Workspace.open(dataset, journal).included()) == list(mine.reloaded().included())


def test_what_an_instance_undid_it_can_redo_whatever_another_one_has_done_since(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine = mine.apply(edits.replace_message([0], 1, "first")).apply(edits.replace_message([0], 1, "second"))
    mine = mine.undo()
    theirs = theirs.apply(edits.replace_message([1], 1, "theirs"))
    mine = mine.redo()
    assert [mine.row(row)["messages"][1]["content"] for row in (0, 1)] == ["second", "theirs"]
    mine = mine.undo().undo()
    assert mine.undoable is None
    assert mine.undo().row(1)["messages"][1]["content"] == "theirs"
    mine = mine.redo().redo()
    assert mine.redo() is mine
    assert mine.row(0)["messages"][1]["content"] == "second"
    theirs = theirs.undo()
    assert theirs.reloaded().undoable is None
    assert mine.undo().apply(edits.exclude([3])).redoable is None, "a new edit ends the redo"
    anew = Workspace.open(dataset, journal)
    assert anew.undoable is not None
    assert anew.undo().undo().row(0) == dataset.row(0), "opened anew, all is there to undo"


def test_what_another_instance_has_built_on_is_not_taken_from_under_it(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine = mine.apply(edits.add_message([0], 0, "system", "Be kind."))
    theirs = theirs.apply(edits.tag([0], "seen"))
    mine = mine.undo().redo()
    theirs = theirs.apply(edits.replace_message([0, 2], 0, "Be very kind."))
    with pytest.raises(DataError, match="edited the same conversations since: reword message"):
        mine.undo()
    assert mine.reloaded().history == theirs.history
    theirs = theirs.undo()
    mine = mine.undo()
    theirs = theirs.redo()
    with pytest.raises(DataError, match="another window"):
        mine.redo()
    copied = mine.add_rows([chat("copied")], "copy")
    theirs.apply(edits.exclude([4]))
    with pytest.raises(DataError, match="another window"):
        copied.undo()


def test_a_message_that_another_instance_changed_is_not_edited_unseen(dataset: Dataset) -> None:
    journal = MemoryJournal()
    mine, theirs = Workspace.open(dataset, journal), Workspace.open(dataset, journal)
    mine.apply(edits.delete_message([0], 0))
    with pytest.raises(DataError, match="another window"):
        theirs.apply(edits.replace_message([0], 1, "meant for the user's message"))
    assert theirs.apply(edits.replace_message([2], 1, "another row")).row(2)["messages"][1]["content"]
    seen = theirs.reloaded()
    assert seen.apply(edits.replace_message([0], 0, "seen")).row(0)["messages"][0]["content"] == "seen"


def test_an_edit_that_cannot_be_kept_is_not_shown(dataset: Dataset) -> None:
    class FullJournal(MemoryJournal):
        def append_edit(
            self, dataset_id: str, edit: bytes, label: str, state: JournalState | None = None
        ) -> int:
            raise StoreError("the disk is full")

    workspace = Workspace.open(dataset, FullJournal())
    with pytest.raises(StoreError):
        workspace.apply(edits.exclude([0]))
    assert workspace.included_count == 4


@pytest.mark.parametrize(
    "edit", [edits.exclude([4]), edits.exclude([]), edits.delete_message([0], 9), edits.set_weight([0], 0, 0)]
)
def test_an_edit_that_cannot_be_done_is_not_journalled(dataset: Dataset, edit: edits.Edit) -> None:
    journal = MemoryJournal()
    with pytest.raises(DataError):
        Workspace.open(dataset, journal).apply(edit)
    assert not journal.edits(dataset.id)


def test_a_bulk_edit_passes_over_rows_that_it_does_not_fit(workspace: Workspace) -> None:
    changed = workspace.apply(edits.delete_message([0], 2)).apply(edits.delete_message([0, 1], 2))
    assert [len(changed.row(index)["messages"]) for index in (0, 1)] == [2, 2]


def test_a_system_prompt_for_all_rows_is_one_small_entry_and_is_searched(dataset: Dataset) -> None:
    journal = MemoryJournal()
    workspace = Workspace.open(dataset, journal).apply(edits.set_system_prompt(None, "Tu sei la Banca"))
    assert len(journal.edits(dataset.id)) == 1
    assert len(journal.edits(dataset.id)[0].edit) < 200
    assert not workspace.overlay.rewrites
    assert workspace.system_prompt == "Tu sei la Banca"
    assert shown(workspace.with_query("system:banca")) == [0, 1, 2, 3]
    assert shown(workspace.with_query("brief")) == []
    assert shown(workspace.apply(edits.set_system_prompt(None, "")).with_query("turns:2 -has:system")) == [
        0,
        1,
        2,
        3,
    ]
    assert workspace.view(2).turns == 3


def test_an_export_holds_the_keys_of_the_api_alone_and_leaves_out_what_is_excluded(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    changed = workspace.apply(edits.exclude([1])).apply(edits.replace_message([0], 1, "Lost?"))
    assert changed.export(path) == changed.included_count == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(line) for line in lines] == [{"messages"}] * 3
    assert lines[0]["messages"][1]["content"] == "Lost?"
    changed.export(path, keep_metadata=True)
    assert json.loads(path.read_text().splitlines()[1])["metadata"] == {"intent": "Refund", "id": 3}


def test_a_preference_row_is_exported_with_its_three_keys(tmp_path: Path) -> None:
    row: Row = {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    source = iter([SourceRow(1, {**row, "metadata": {"a": 1}})])
    workspace = Workspace.open(write_dataset(source, tmp_path / "d", name="n", source="s"))
    workspace.export(tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == row
    assert workspace.with_query("assistant:bad user:q").matched == 1


def test_an_export_that_fails_leaves_the_old_file(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("old")

    def rows(self: Workspace) -> Iterator[tuple[int, Row]]:
        yield 0, ROWS[0]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Workspace, "included", rows)
    with pytest.raises(StoreError):
        workspace.export(path)
    assert path.read_text() == "old"


def test_rows_are_shown_with_what_is_known_of_them(workspace: Workspace) -> None:
    known = Known(
        tokens=array("I", [9, 8, 7, 6]),
        loss=array("d", [1.5, float("nan"), 0, 0]),
        findings={"E7": array("I", [0])},
    )
    first, second = workspace.with_known(known).meta_rows(slice(0, 2))
    assert (first.line, first.turns, first.tokens, first.loss) == (10, 3, 9, 1.5)
    assert (first.intent, first.tags, first.preview) == ("card_lost", ("gold",), "My card is lost")
    assert (first.findings, second.findings, second.loss) == (("E7",), (), None)
    assert workspace.view(0).tokens is None
    changed = (
        workspace.apply(edits.tag([0], "keep")).apply(edits.untag([0], "gold")).apply(edits.exclude([0]))
    )
    view = changed.view(0)
    assert (view.tags, view.excluded, view.edited) == (("keep",), True, False)
    reworded = changed.apply(edits.replace_message([0], 1, "New")).view(0)
    assert (reworded.preview, reworded.edited) == ("New", True)


@pytest.mark.parametrize(
    ("column", "descending", "order"),
    [
        ("chars", False, [3, 2, 0, 1]),
        ("chars", True, [1, 0, 2, 3]),
        ("turns", True, [0, 1, 2, 3]),
        ("intent", False, [3, 0, 2, 1]),
        ("tokens", True, [2, 0, 3, 1]),
        ("loss", False, [3, 0, 2, 1]),
        ("loss", True, [2, 0, 3, 1]),
        ("preview", False, [1, 0, 3, 2]),
        ("line", True, [3, 2, 1, 0]),
        ("id", True, [3, 2, 1, 0]),
    ],
)
def test_the_list_is_sorted_by_any_column(
    workspace: Workspace, column: str, descending: bool, order: list[int]
) -> None:
    known = Known(tokens=array("I", [5, 1, 9, 4]), loss=array("d", [2, float("nan"), 3, 1]))
    sorted_ = workspace.with_known(known).with_sort(column, descending)
    assert shown(sorted_) == order
    assert [sorted_.matches.position(index) for index in order] == [0, 1, 2, 3]
    assert shown(sorted_.with_query("refund")) == [index for index in order if index in (1, 2)]
    assert shown(sorted_.with_sort(None)) == [0, 1, 2, 3]


def test_in_a_sorted_list_the_first_rows_come_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_GLIMPSE", 64)
    monkeypatch.setattr(search, "EARLY_S", 60)
    words = ["refund", "card", "loan"]
    rows = [chat(f"{words[n % 3]} {'x' * (n * 37 % 501)}") for n in range(500)]
    dataset = write_dataset(
        (SourceRow(n, row) for n, row in enumerate(rows, 1)), tmp_path, name="n", source="s"
    )
    workspace = Workspace.open(dataset).with_sort("chars", True)
    for query, refined in (
        ("card", True),
        ("card -" + "x" * 400, True),
        ("loan OR card", True),
        ("zzz", False),
    ):
        first, *more = workspace.searching(query)
        whole = more[-1] if more else first
        assert whole.found.aligned
        assert bool(more) == refined
        if refined:
            assert search.SCREENFUL <= len(first.matches) < len(whole.matches)
            assert shown(first) == shown(whole)[: len(first.matches)]
            assert list(first.found) == sorted(first.matches)
            assert not first.found.aligned
            # What goes on from the first rows alone is whole all the same.
            assert shown(first.with_query("card")) == shown(workspace.with_query("card"))
        workspace = whole
    assert list(workspace.searching("card", lambda: True)) == []
    assert len(list(workspace.searching(""))) == 1
    only_cards = Workspace.open(dataset).with_query("card").with_sort("chars")
    assert len(list(only_cards.searching("card xx"))) == 2
    assert len(list(only_cards.searching("loan"))) == 1
    edited = workspace.with_query("").apply(edits.replace_message([3], 0, "card"))
    assert len(list(edited.searching("card"))) == 1, "the order is that of another state"
    assert len(list(edited.refreshed().searching("card"))) == 1, "rows are to be read first"
    tagged = Workspace.open(dataset).with_sort("chars").apply(edits.exclude([3])).refreshed()
    assert len(list(tagged.searching("card"))) == 2


def test_a_sort_follows_edits(workspace: Workspace) -> None:
    changed = workspace.apply(edits.replace_message([3], 1, "x" * 100)).with_sort("chars", descending=True)
    assert shown(changed)[0] == 3


@pytest.mark.parametrize(
    ("column", "notice"), [("tokens", "being counted"), ("loss", "no loss"), ("x", "no column x")]
)
def test_a_column_that_is_not_there_is_said(workspace: Workspace, column: str, notice: str) -> None:
    with pytest.raises(UsageError, match=notice):
        workspace.with_sort(column)


def test_facets_count_the_matches_by_value_as_a_query_finds_them(workspace: Workspace) -> None:
    assert workspace.facets("intent") == [("Refund", 2), ("card_lost", 1)]
    assert workspace.with_query("intent:refund").facets("intent") == [("Refund", 2)]
    assert workspace.facets("turns") == [("3", 4)]
    assert workspace.facets("roles") == [("sua", 4)]
    assert workspace.facets("tag") == [("gold", 1)]
    tagged = workspace.apply(edits.tag([1, 2], "keep")).apply(edits.untag(None, "gold"))
    assert tagged.facets("tag") == [("keep", 2)]
    shorter = workspace.apply(edits.delete_message([1], 0))
    assert shorter.facets("turns") == [("3", 3), ("2", 1)]
    with pytest.raises(UsageError):
        workspace.facets("nothing")


def test_a_key_that_an_edit_as_json_brought_is_a_field_like_the_others(workspace: Workspace) -> None:
    row = {**workspace.row(1), "metadata": {"priority": "High", "rank": 3}}
    edited = workspace.apply(edits.replace_row(1, row))
    for query in ("priority:high", "rank>2", "priority:HIGH -rank:4"):
        assert list(edited.with_query(query).matches) == [1]
    assert edited.refreshed().facets("priority") == [("High", 1)]
    assert next(iter(edited.with_sort("priority", descending=True).matches)) == 1
    assert "priority" in edited.target.field_names()
    with pytest.raises(QueryError, match="there is no field priority"):
        edited.undo().with_query("priority:high")


def test_a_tag_is_one_whatever_its_case_and_in_whichever_order_it_came_and_went(workspace: Workspace) -> None:
    changed = workspace.apply(edits.tag(None, "Keep")).apply(edits.tag([0], "GOLD"))
    assert [changed.view(index).tags for index in (0, 1)] == [("gold", "Keep"), ("Keep",)]
    changed = (
        changed.apply(edits.untag([0], "keep")).apply(edits.tag([1], "KEEP")).apply(edits.untag([0], "Gold"))
    )
    assert [changed.view(index).tags for index in (0, 1)] == [(), ("Keep",)]
    assert list(changed.with_query("tag:keep").matches) == [1, 2, 3]
    assert (changed.with_query("tag:gold").matched, changed.facets("tag")) == (0, [("Keep", 3)])


def test_a_wrong_query_leaves_the_workspace_as_it_was(workspace: Workspace) -> None:
    with pytest.raises(QueryError):
        workspace.with_query("a OR")
    with pytest.raises(DataError):
        workspace.row(4)
