"""What a dataset's tokens come to, where they go, and what trimming would save."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.counting.dataset_counts import EditedRows, dataset_tokens
from tunedesk.core.counting.message_table import RowTokens, TableCounter
from tunedesk.core.counting.token_stats import spread, trim_savings, turns_within
from tunedesk.core.counting.tokens import TokenCounter, stats_of
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.editing import applying, edits
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError

ROWS = 120


def conversation(n: int) -> Row:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a bank."}] if n % 2 else []
    messages.append({"role": "assistant", "content": "How can we help?"})
    for turn in range(n % 7):
        messages += [
            {"role": "user", "content": f"Question {turn} of {n}"},
            {"role": "assistant", "content": "Answer. " * (turn + 1)},
        ]
    return {"messages": messages}


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    return TokenCounter("gpt-4o", tmp_path_factory.mktemp("encodings"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = [SourceRow(n + 1, conversation(n)) for n in range(ROWS)]
    return write_dataset(rows, tmp_path_factory.mktemp("datasets"), name="cards", source="cards.jsonl")


@pytest.fixture(scope="session")
def tokens(dataset: Dataset, counter: TokenCounter) -> RowTokens:
    return dataset_tokens(dataset, "o200k", lambda: TableCounter(counter))


@pytest.mark.parametrize("limit", [65_536, 40])
def test_statistics_are_those_of_the_rows_one_by_one(
    limit: int, dataset: Dataset, tokens: RowTokens, counter: TokenCounter
) -> None:
    workspace = Workspace.open(dataset).apply(edits.exclude([0, 5, 7]))
    rows = [row for _, row in workspace.included()]
    found = spread(tokens, workspace.overlay, limit)
    counts = [counter.row(row) for row in rows]
    assert found.stats == stats_of(counts, sum(map(counter.trained, rows)), limit)
    assert found.stats.median == statistics.median(counts)
    assert sum(bar.conversations for bar in found.histogram) == len(rows)
    assert sum(bar.conversations for bar in found.histogram if bar.over) == found.stats.over_limit
    assert all(bar.high <= limit for bar in found.histogram if not bar.over)
    assert [count for _, count in found.costliest] == sorted(counts, reverse=True)[:10]
    prompts = [message for row in rows for message in row["messages"] if message["role"] == "system"]
    assert found.system == sum(map(counter.message, prompts))
    assert 0 < found.system_share < 1


def test_statistics_follow_the_query(dataset: Dataset, tokens: RowTokens, counter: TokenCounter) -> None:
    workspace = Workspace.open(dataset).apply(edits.exclude([3])).with_query("turns<3")
    chosen = [index for index in workspace.matches[:] if index != 3]
    found = spread(tokens, workspace.overlay, 65_536, workspace.found)
    assert found.stats.total == sum(counter.row(workspace.row(index)) for index in chosen)
    assert found.stats.conversations == len(chosen) > 0


def test_no_rows_come_to_nothing(dataset: Dataset, tokens: RowTokens) -> None:
    found = spread(tokens, Workspace.open(dataset).apply(edits.exclude(None)).overlay, 100)
    assert (found.stats.total, found.histogram, found.costliest, found.system_share) == (0, (), (), 0.0)


class OneByOne:
    """A bulk counter without a table of messages, as a local model's is."""

    def expect(self, size: int) -> None:
        pass

    def __init__(self, counter: TokenCounter) -> None:
        self.table = TableCounter(counter)

    def count_rows(self, rows: Any) -> RowTokens:
        return self.table.count_rows(rows)

    def count_lines(self, lines: Any) -> RowTokens:
        return self.table.count_lines(lines)


def test_savings_are_what_trimming_really_saves(dataset: Dataset, counter: TokenCounter) -> None:
    rows = [row for _, row in dataset.rows()]
    expected = []
    for keep in (1, 2, 5, 9):
        shorter = [applying.trimmed(row, keep) for row in rows]
        changed = sum(a != b for a, b in zip(rows, shorter, strict=True))
        expected.append((keep, changed, sum(map(counter.row, rows)) - sum(map(counter.row, shorter))))
    for bulk in (TableCounter(counter), OneByOne(counter)):
        found = trim_savings(bulk, rows, (1, 2, 5, 9))
        assert [(one.turns, one.conversations, one.saved) for one in found] == expected


def test_trimming_keeps_prompts_and_the_last_turns() -> None:
    row = conversation(5)
    kept = applying.trimmed(row, 2)["messages"]
    assert [message["role"] for message in kept] == ["system", "user", "assistant", "user", "assistant"]
    assert kept[1:] == row["messages"][-4:]
    assert applying.trimmed(row, 5) is row
    assert applying.trimmed({"messages": "x"}, 1) == {"messages": "x"}
    with pytest.raises(DataError):
        edits.trim([0], 0)


def test_a_trim_is_one_edit_that_undo_takes_back(
    dataset: Dataset, tokens: RowTokens, counter: TokenCounter
) -> None:
    workspace = Workspace.open(dataset)
    for edit in (edits.trim(None, 1), edits.trim_each({6: 2, 13: 3})):
        changed = workspace.apply(edit)
        assert len(changed.row(13)["messages"]) < len(workspace.row(13)["messages"])
        found = EditedRows().over(tokens, dataset, changed.overlay, lambda: TableCounter(counter))
        assert list(found.total) == [counter.row(changed.row(n)) for n in range(ROWS)]
        assert changed.undo().row(13) == workspace.row(13)


def test_turns_are_kept_up_to_the_limit(dataset: Dataset, counter: TokenCounter) -> None:
    chosen, bulk = random.Random(1), TableCounter(counter)
    for _ in range(30):
        row, limit = conversation(chosen.randrange(60)), chosen.randrange(10, 120)
        keep = turns_within(bulk, row, limit)
        if keep is None:
            users = [message for message in row["messages"] if message["role"] == "user"]
            assert counter.row(row) <= limit or len(users) < 2
            continue
        assert keep == 1 or counter.row(applying.trimmed(row, keep)) <= limit
        assert counter.row(applying.trimmed(row, keep + 1)) > limit
