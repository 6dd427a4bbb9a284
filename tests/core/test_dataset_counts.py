"""A dataset is counted once; an edit recounts its own rows alone."""

from __future__ import annotations

import gc
import weakref
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.counting import dataset_counts
from tunedesk.core.counting.dataset_counts import EditedRows, dataset_tokens
from tunedesk.core.counting.message_table import RowTokens, TableCounter
from tunedesk.core.counting.tokens import TokenCounter
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.editing import edits, overlay
from tunedesk.core.workspace import Workspace

ROWS = 250


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    return TokenCounter("gpt-4o", tmp_path_factory.mktemp("encodings"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rows: list[SourceRow] = []
    for n in range(ROWS):
        messages = [
            {"role": "user", "content": f"My card {n} is lost"},
            {"role": "assistant", "content": "We are sorry." * (n % 4 + 1)},
        ]
        if n % 3 == 0:
            messages.insert(0, {"role": "system", "content": "You are a bank."})
        rows.append(SourceRow(n + 1, {"messages": messages, "metadata": {"who": "Ann " * (n % 9)}}))
    return write_dataset(rows, tmp_path, name="cards", source="cards.jsonl")


class Counting:
    """A bulk counter that remembers how many rows it was given."""

    def __init__(self, counter: TokenCounter) -> None:
        self.table = TableCounter(counter)
        self.seen = 0

    def expect(self, size: int) -> None:
        self.expected = size

    def count_lines(self, lines: Sequence[bytes]) -> RowTokens:
        self.seen += len(lines)
        return self.table.count_lines(lines)

    def count_rows(self, rows: Sequence[Row]) -> RowTokens:
        self.seen += len(rows)
        return self.table.count_rows(rows)


def test_a_dataset_counted_by_threads_equals_its_rows_one_by_one(
    dataset: Dataset, counter: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_counts, "BLOCK", 32)
    told: list[tuple[int, int]] = []
    found = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter), lambda *one: told.append(one))
    assert list(found.total) == [counter.row(row) for _, row in dataset.rows()]
    assert list(found.trained) == [counter.trained(row) for _, row in dataset.rows()]
    assert told[-1] == (ROWS, ROWS)
    assert len(told) == 8


def test_a_reopened_dataset_counts_nothing(dataset: Dataset, counter: TokenCounter) -> None:
    first = dataset_tokens(dataset, "o200k", lambda: Counting(counter))
    later = Counting(counter)
    assert dataset_tokens(Dataset.open(dataset.folder), "o200k", lambda: later) == first
    assert later.seen == 0
    dataset_tokens(dataset, "other", lambda: later)
    assert later.seen == ROWS


def test_a_torn_file_of_counts_is_counted_anew(dataset: Dataset, counter: TokenCounter) -> None:
    first = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    path = dataset.folder / "tokens-o200k.bin"
    for torn in (path.read_bytes()[:-1], b"", b"nonsense\n"):
        path.write_bytes(torn)
        assert dataset_tokens(dataset, "o200k", lambda: TableCounter(counter)) == first


def test_counting_stops_when_its_progress_says_so(dataset: Dataset, counter: TokenCounter) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset_tokens(dataset, "o200k", lambda: TableCounter(counter), stop)
    assert not (dataset.folder / "tokens-o200k.bin").exists()


def test_an_edit_recounts_its_own_row_alone(dataset: Dataset, counter: TokenCounter) -> None:
    imported = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    counting, edited = Counting(counter), EditedRows()
    workspace = Workspace.open(dataset).apply(edits.replace_message([7], 0, "Please close my account today"))
    for _ in range(2):
        found = edited.over(imported, dataset, workspace.overlay, lambda: counting)
        assert list(found.total) == [counter.row(workspace.row(n)) for n in range(ROWS)]
        assert counting.seen == 1
    undone = workspace.undo()
    assert edited.over(imported, dataset, undone.overlay, lambda: counting) == imported
    assert counting.seen == 1


def test_edits_of_many_rows_are_counted_once_for_each_state(
    dataset: Dataset, counter: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "FEW", 10)
    monkeypatch.setattr(dataset_counts, "BLOCK", 32)
    imported = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    counting, edited = Counting(counter), EditedRows()
    first = Workspace.open(dataset).apply(edits.add_message(range(2, ROWS), 0, "user", "One more word"))
    second = first.apply(edits.delete_message(range(0, ROWS, 2), 0)).apply(edits.delete_message([5], 0))
    counted = (ROWS - 2, ROWS - 2 + ROWS // 2 + 1)
    states = [first, second, second.undo().undo(), second]
    for workspace, seen in zip(states, (counted[0], *[counted[1]] * 3), strict=True):
        found = edited.over(imported, dataset, workspace.overlay, lambda: counting)
        assert list(found.total) == [counter.row(workspace.row(n)) for n in range(ROWS)]
        assert counting.seen == seen


def test_a_new_system_prompt_for_all_is_counted_once(
    dataset: Dataset, counter: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    counting, edited = Counting(counter), EditedRows()

    def cost(prompt: str) -> int:
        return counter.message({"role": "system", "content": prompt})

    workspace = Workspace.open(dataset).apply(edits.set_system_prompt(None, "You are a kind bank of Łódź."))
    workspace = workspace.apply(edits.replace_message([3], 1, "hello"))
    for changed in (workspace, workspace.apply(edits.set_system_prompt(None, ""))):
        found = edited.over(imported, dataset, changed.overlay, lambda: counting, prompt_cost=cost)
        assert list(found.total) == [counter.row(changed.row(n)) for n in range(ROWS)]
        assert list(found.trained) == [counter.trained(changed.row(n)) for n in range(ROWS)]
    assert counting.seen == 2


def test_a_system_prompt_that_each_row_fills_in_is_counted_as_filled_in(
    dataset: Dataset, counter: TokenCounter
) -> None:
    imported = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    prompt = edits.set_system_prompt(None, "Talk to {{who}} kindly.", fill=True)
    changed = Workspace.open(dataset).apply(prompt)
    found = EditedRows().over(
        imported, dataset, changed.overlay, lambda: TableCounter(counter),
        prompt_cost=lambda prompt: counter.message({"role": "system", "content": prompt}),
    )  # fmt: skip
    assert list(found.total) == [counter.row(changed.row(n)) for n in range(ROWS)]


def test_other_edits_of_all_rows_are_counted_row_by_row(dataset: Dataset, counter: TokenCounter) -> None:
    imported = dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))
    workspace = Workspace.open(dataset).apply(edits.set_weight(None, None, 0))
    found = EditedRows().over(imported, dataset, workspace.overlay, lambda: TableCounter(counter))
    assert sum(found.trained) == 0
    assert found.total == imported.total


def test_the_tokens_of_fewer_states_are_kept_of_very_many_rows(
    dataset: Dataset, counter: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_counts, "_MOST_KEPT", 2 * ROWS)
    counting, edited = Counting(counter), EditedRows()
    workspace = Workspace.open(dataset)
    before: list[weakref.ref[array[int]]] = []
    for number in range(4):
        workspace = workspace.apply(edits.replace_message([number], 0, "Other words."))
        tokens = edited.over(RowTokens.zeros(ROWS), dataset, workspace.overlay, lambda: counting)
        before.append(weakref.ref(tokens.total))
    del tokens
    gc.collect()
    assert [one() is not None for one in before] == [False, False, True, True]
