"""What edits of many rows made of them is found, sorted and counted as if it had been imported, and indexed once."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rows_found import imported
from tunedesk.core.conversations import Row
from tunedesk.core.datasets import arrow_parts, dataset_writer
from tunedesk.core.datasets.chunk_builder import ChunkBuilder
from tunedesk.core.datasets.dataset import Chunk
from tunedesk.core.datasets.indexing import RowFacts, row_facts
from tunedesk.core.editing import edits, overlay, reading_ahead, rewritten
from tunedesk.core.editing.edits import Edit
from tunedesk.core.editing.reading_ahead import read_ahead
from tunedesk.core.editing.rewritten import Span
from tunedesk.core.searching.facets import term
from tunedesk.core.workspace import Workspace
from tunedesk.errors import StoreError

ROWS: list[Row] = [
    {
        "messages": [
            {"role": "user", "content": f"Refund {number}" if number % 3 else "é"},
            {"role": "assistant", "content": "Yes." * (number % 4 + 1)},
        ],
        "metadata": {
            "intent": "iI"[number % 3 > 1] + f"{number % 2}",
            "tags": ["Gold"] if number % 4 else [],
        },
    }
    for number in range(14)
] + [{"messages": [{"role": "system", "content": "Nobody speaks."}]}]
QUERIES = [
    "refund",
    "assistant:/^no/",
    "-card",
    "chars>14",
    "intent:i1 -refund",
    "system:kind",
    "turns=3 OR é",
    "é",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(autouse=True)
def small_spans() -> Iterator[None]:
    """Let an edit of three rows be one of many, four rows a span, and any disk large enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "FEW", 2)
        patch.setattr(overlay, "SPAN", 4)
        patch.setattr(rewritten, "SPAN", 4)
        patch.setattr(rewritten, "_WORTH_A_FILE", 2)
        patch.setattr(dataset_writer, "_ROOM", 0)
        yield


def some(rows: list[int], what: str) -> Edit:
    made: dict[str, Any] = {
        "replace": lambda: edits.replace_text(rows, "Refund", "Card", role="user"),
        "reword": lambda: edits.replace_message(rows, 1, "No, é."),
        "add": lambda: edits.add_message(rows, 2, "user", "refund?"),
        "weigh": lambda: edits.set_weight(rows, None, 0),
        "prompt": lambda: edits.set_system_prompt(rows if len(rows) < 6 else None, "Be kind."),
        "tag": lambda: edits.tag(rows, "t"),
        "gild": lambda: edits.tag(rows, "gold"),
        "untag": lambda: edits.untag(rows, "GOLD"),
    }
    edit: Edit = made[what]()
    return edit


CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=9, unique=True),
        st.sampled_from(
            ["replace", "reword", "add", "weigh", "prompt", "tag", "gild", "untag", "undo", "redo", "revert"]
        ),
    ),
    max_size=6,
)


def as_they_are(workspace: Workspace) -> list[Row]:
    """Return the rows with their present tags as imported ones."""
    rows = []
    for index, row in workspace.included():
        rows.append(
            {**row, "metadata": {**row.get("metadata", {}), "tags": list(workspace.view(index).tags)}}
        )
    return rows


@settings(max_examples=25, deadline=None)
@given(CHANGES, st.booleans())
def test_edited_rows_are_found_sorted_and_counted_as_if_they_had_been_imported(
    folder: Path, changes: list[tuple[list[int], str]], warm: bool
) -> None:
    workspace = Workspace.open(imported(folder, ROWS))
    if warm:
        workspace.dataset.warm()
    positions = [workspace.position]
    for rows, what in changes:
        if what in ("undo", "redo"):
            workspace = workspace.undo() if what == "undo" else workspace.redo()
        elif what == "revert":
            then = positions[rows[0] % len(positions)]
            was = [workspace.at(then).row(index) for index in rows]
            workspace = workspace.apply(edits.revert(rows, then, "then", excluded=(), included=()))
            assert [workspace.row(index) for index in rows] == was
        elif rows != [14] or what not in ("reword", "add"):  # it has no such message, and would be refused
            workspace = workspace.apply(some(rows, what))
        positions.append(workspace.position)
        # Each state is asked, so that what was indexed for one is there when the next is.
        assert workspace.with_query("refund").matched == sum(
            "efund" in str(row) for _, row in workspace.included()
        )
    fresh = Workspace.open(imported(folder, as_they_are(workspace)))
    for query in QUERIES:
        mine, theirs = workspace.with_query(query), fresh.with_query(query)
        assert list(mine.matches) == list(theirs.matches), query
        for field in ("intent", "tag"):
            counts = mine.facets(field)
            assert counts == theirs.facets(field)
            assert all(workspace.with_query(f"({query}) {term(field, v)}").matched == n for v, n in counts)
        for column in ("chars", "turns", "preview", "intent", "tags"):
            assert list(mine.with_sort(column).matches) == list(theirs.with_sort(column).matches), column


def test_an_edit_of_one_row_has_no_other_span_indexed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    read_ahead(workspace.overlay, workspace.dataset)
    indexed: list[int] = []

    def counted(row: Row) -> RowFacts:
        indexed.append(1)
        return row_facts(row)

    monkeypatch.setattr("tunedesk.core.editing.overlay.row_facts", counted)
    assert workspace.with_query("card").matched == 9
    assert not indexed
    workspace = workspace.apply(edits.replace_message([5], 0, "a card"))
    assert workspace.with_query("card").matched == 9
    assert len(indexed) == 1
    assert workspace.undo().with_query("card").matched == 9
    assert len(indexed) == 1


def test_facts_of_rows_that_were_looked_at_are_let_go_of_in_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "_FACTS", 4)
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    assert sum(workspace.view(index).preview.startswith("Card") for index in range(14)) == 9
    assert 0 < len(workspace.overlay.facts) <= 4


def test_what_is_known_of_rows_by_their_numbers_is_found_without_indexing_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    workspace = workspace.apply(edits.exclude([3, 14]))

    def never(*_: object) -> None:
        raise AssertionError("a row is indexed")

    with monkeypatch.context() as patch:
        patch.setattr(rewritten, "_index", never)
        assert workspace.with_query("is:edited -is:excluded").matched == 13
        assert workspace.with_query("is:excluded OR -is:edited").matched == 2
    assert workspace.with_query("is:edited card").matched == 9


def test_a_search_that_nobody_waits_for_stops_indexing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewritten, "_BETWEEN_LOOKS", 1)
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    looks = iter(range(100))
    assert list(workspace.searching("card", cancelled=lambda: next(looks) > 6)) == []
    assert workspace.with_query("card").matched == 9


def mapped(workspace: Workspace) -> int:
    """Return how many files beside the dataset's own are mapped."""
    own = str(workspace.dataset.folder)
    return sum(not key[0].startswith(own) for key in arrow_parts._mapped)


def test_what_is_kept_for_undo_holds_its_files_and_no_more(folder: Path) -> None:
    gc.collect()
    workspace = Workspace.open(imported(folder, ROWS))
    before = mapped(workspace)
    held: list[int] = []
    for number in range(6):
        workspace = workspace.apply(edits.replace_message(range(14), 1, f"No {number}."))
        assert workspace.with_query(f"assistant:{number}").matched == 14
        held.append(mapped(workspace) - before)
    spans, parts = 4, 3
    assert held == [spans * parts * states for states in (1, 2, 3, 3, 3, 3)]
    assert workspace.undo().with_query("assistant:4").matched == 14


def test_the_disk_is_left_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    before = mapped(workspace)
    monkeypatch.setattr(dataset_writer, "_ROOM", 1 << 80)
    assert workspace.with_query("card").matched == 9
    assert mapped(workspace) == before


def test_what_rows_were_collected_in_goes_once_they_are_indexed_in_memory() -> None:
    builder = ChunkBuilder()
    builder.add(row_facts({"messages": [{"role": "user", "content": "A card."}]}))
    chunk = Chunk.scattered(builder, pl.Series([7], dtype=pl.UInt32))
    held = weakref.ref(builder)
    del builder
    assert held() is None
    assert chunk.texts["user"].to_list() == ["a card."]
    assert chunk.tables["roles"].value.to_list() == ["", "u"]


def test_rows_are_indexed_in_memory_where_the_disk_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("the disk is full", "")

    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    monkeypatch.setattr(dataset_writer, "write_chunk", full)
    assert workspace.with_query("card").matched == 9


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let three rows be worth other processes; the spans that come of them."""
    spans: list[int] = []
    keep = rewritten.Indexed.keep

    def noted(indexed: rewritten.Indexed, span: Span, chunk: Chunk) -> None:
        spans.append(span.number)
        keep(indexed, span, chunk)

    monkeypatch.setattr(reading_ahead, "WORTH", 3)
    monkeypatch.setattr(rewritten.Indexed, "keep", noted)
    return spans


def test_processes_index_what_edits_of_many_rows_and_reverts_made_of_them(
    folder: Path, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    then = workspace.position
    workspace = workspace.apply(edits.replace_message(range(1, 12), 1, "No, é."))
    workspace = workspace.apply(edits.replace_message([6], 0, "none"))
    workspace = workspace.apply(edits.revert(range(2, 9), then, "then", excluded=(), included=()))
    workspace = workspace.add_rows(ROWS[:2], "more")
    alone = [list(workspace.with_query(query).matches) for query in QUERIES]
    again = Workspace.open(imported(folder, ROWS), workspace.journal)
    told: list[tuple[int, int]] = []
    read_ahead(again.overlay, again.dataset, on_progress=lambda done, total: told.append((done, total)))
    assert (sorted(kept), told[-1]) == ([0, 1, 2, 3], (14, 14))
    monkeypatch.setattr("tunedesk.core.editing.overlay.row_facts", None)
    assert [list(again.with_query(query).matches) for query in QUERIES] == alone


def test_what_a_killed_process_was_to_index_is_indexed_here(
    folder: Path, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_ahead, "_begin", _die)
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    read_ahead(workspace.overlay, workspace.dataset)
    assert not kept
    monkeypatch.setattr("tunedesk.core.editing.overlay.row_facts", None)
    assert workspace.with_query("card").matched == 9


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_that_nobody_waits_for_end(folder: Path, kept: list[int]) -> None:
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    before = set(multiprocessing.active_children())
    read_ahead(workspace.overlay, workspace.dataset, lambda: True)
    assert (kept, set(multiprocessing.active_children()) - before) == ([], set())


def test_a_search_waits_for_what_processes_index(folder: Path) -> None:
    workspace = Workspace.open(imported(folder, ROWS)).apply(edits.replace_text(range(14), "Refund", "Card"))
    indexed = workspace.overlay.indexed
    spans = list(rewritten.unread(workspace.overlay, workspace.dataset, indexed))
    assert [list(span.rows) for span in spans] == [[*range(4)], [*range(4, 8)], [*range(8, 12)], [12, 13]]
    with ThreadPoolExecutor(1) as pool:
        with indexed.claimed(spans[1:]):
            searched = pool.submit(workspace.with_query, "card")
            assert wait([searched], timeout=0.3).not_done
            assert [number for number, states in indexed.spans.items() if states] == [0]
            cancelled = workspace.searching("card", cancelled=iter([False] * 20 + [True] * 99).__next__)
            assert list(cancelled) == []
        assert searched.result(timeout=20).matched == 9
