"""Tokens of workspaces and files by model: counted once, by the model's own rule where it is known."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec
import tiktoken

from tunedesk.core.conversations import Row, encode_row, upload_row
from tunedesk.core.counting.dataset_counts import BLOCK, BulkCounter, EditedRows, dataset_tokens
from tunedesk.core.counting.local_tokens import LocalCounter, find_tokenizer
from tunedesk.core.counting.message_table import RowTokens, TableCounter
from tunedesk.core.counting.token_stats import Spread, Trim, spread, trim_savings, turns_within
from tunedesk.core.counting.tokens import Encoding, TokenCounter, TokenStats, stats_of
from tunedesk.core.editing import edits
from tunedesk.core.editing.overlay import Overlay
from tunedesk.core.fine_tuning import base_model
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError
from tunedesk.paths import Paths

OnProgress = Callable[[int, int], None]
"""Called with rows done and rows in all; what it raises stops the work."""
TURNS = (1, 2, 3, 4, 6, 8, 12)
"""Numbers of last turns for which the savings are told."""
_SAMPLE = 32
_SAMPLE_BYTES = 500_000
"""Rows, and bytes of them, that a measurement of speed trains on."""
_LOOK_EVERY = 0.1
"""Seconds between two looks at whether a count that waits for another one is still wanted."""
_RULE = 2
"""Raised when the rule by which rows are counted changes, so that no older count is taken for one of today's."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of a workspace for one model."""

    model: str
    per_row: array[int]
    """Tokens of every row, the excluded ones too (typecode I)."""
    stats: TokenStats
    """Over the included rows."""
    encoding: Encoding
    tokens: RowTokens = field(default_factory=lambda: RowTokens.zeros(0))
    """Of every row: all, trained, and system prompts."""
    spread: Spread | None = None
    """Over the included rows: histogram, share of the system prompts, the costliest."""
    overlay: Overlay | None = field(default=None, compare=False, repr=False)
    """The edits over which the rows were counted."""


_KNOWN_OF = 100_000
"""Rows of a dataset up to which the texts that were counted are remembered, for edits of them."""


class Counting:
    """Counters by model, and what they have counted in this process."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._counters: dict[str, TokenCounter | LocalCounter] = {}
        self._bulk: dict[str, BulkCounter] = {}
        self._imported: dict[tuple[str, str], RowTokens] = {}
        self._edited: dict[tuple[str, str], EditedRows] = {}
        self._naming = threading.Lock()
        self._lock = threading.RLock()
        """Held while something is counted: for seconds."""

    @contextmanager
    def _alone(self, on_progress: OnProgress | None = None) -> Iterator[None]:
        """Count while nobody else does; who waits for that can be stopped by `on_progress`."""
        while not self._lock.acquire(timeout=_LOOK_EVERY):
            if on_progress:
                on_progress(0, 0)
        try:
            yield
        finally:
            self._lock.release()

    def counter(self, model: str) -> TokenCounter | LocalCounter:
        """Return what counts one row for `model`: its own tokenizer where it lies on this machine, else tiktoken."""
        with self._naming:
            known = self._counters.get(model)
            if known is None or known.encoding.note:  # a model without a tokenizer may have got one since
                known = self._counters[model] = self._made(model)
            return known

    def _made(self, model: str) -> TokenCounter | LocalCounter:
        folder = find_tokenizer(base_model(model), [self._paths.engine / "models"]) if model else None
        if folder is None:
            return TokenCounter(model, self._paths.cache)
        try:
            return LocalCounter(model, folder)
        except DataError as error:
            nearest = TokenCounter(model, self._paths.cache)
            nearest.encoding = Encoding(nearest.encoding.name, f"{nearest.encoding.note} ({error.message})")
            return nearest

    def count(self, workspace: Workspace, model: str, on_progress: OnProgress | None = None) -> Counts:
        """Count all rows of a workspace for `model`; the statistics are over the included ones.

        Only rows that were never counted are: a dataset's counts are kept beside it, those of edited rows here.
        """
        counter = self.counter(model)
        with self._alone(on_progress):
            tokens = self._tokens(workspace, counter, on_progress)
        found = spread(tokens, workspace.overlay, counter.limit)
        return Counts(model, tokens.total, found.stats, counter.encoding, tokens, found, workspace.overlay)

    def _tokens(
        self, workspace: Workspace, counter: TokenCounter | LocalCounter, on_progress: OnProgress | None
    ) -> RowTokens:
        dataset = workspace.dataset
        rule = counter.encoding.name
        if isinstance(counter, TokenCounter):
            rule = f"{rule}-tiktoken{tiktoken.__version__}-{_RULE}"
        key = (dataset.id, rule)
        imported = self._imported.get(key)
        if imported is None:
            imported = dataset_tokens(dataset.imported, rule, lambda: self._bulk_for(counter), on_progress)
            self._imported[key] = imported
            if len(dataset) > _KNOWN_OF:
                self._bulk.pop(counter.encoding.name, None)  # the texts that it knows by now take 250 MB
            for old in list(self._imported)[:-8]:
                del self._imported[old]
        edited = self._edited.setdefault(key, EditedRows())
        cost = None
        if isinstance(counter, TokenCounter):
            plain = counter

            def cost(prompt: str) -> int:
                return plain.message({"role": "system", "content": prompt})

        return edited.over(
            imported,
            dataset,
            workspace.overlay,
            lambda: self._bulk_for(counter),
            prompt_cost=cost,
            on_progress=on_progress,
        )

    def _bulk_for(self, counter: TokenCounter | LocalCounter) -> BulkCounter:
        name = counter.encoding.name
        if name not in self._bulk:
            self._bulk[name] = _bulk(counter)
        return self._bulk[name]

    def shown(self, workspace: Workspace, counts: Counts) -> Spread:
        """Return what the included rows among those that the query matched come to."""
        return spread(counts.tokens, workspace.overlay, counts.stats.limit, workspace.found)

    def savings(
        self,
        workspace: Workspace,
        model: str,
        turns: Sequence[int] = TURNS,
        on_progress: OnProgress | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Trim]:
        """Return what keeping so many last turns of the included rows (or of `rows`) would save."""
        sums = {keep: [0, 0] for keep in turns}
        with self._alone(on_progress):
            bulk = self._bulk_for(self.counter(model))
            chosen = (row for _, row in workspace.included()) if rows is None else map(workspace.row, rows)
            total = workspace.included_count if rows is None else len(rows)
            done = 0
            while block := list(islice(chosen, BLOCK)):
                for one in trim_savings(bulk, block, turns):
                    sums[one.turns][0] += one.conversations
                    sums[one.turns][1] += one.saved
                done += len(block)
                if on_progress:
                    on_progress(done, total)
        return [Trim(keep, conversations, saved) for keep, (conversations, saved) in sums.items()]

    def to_limit(
        self, workspace: Workspace, counts: Counts, rows: Sequence[int] | None = None
    ) -> edits.Edit | None:
        """Return the edit that keeps the last turns that fit of each row over the limit, None if none is."""
        most = counts.stats.limit
        chosen = range(len(counts.per_row)) if rows is None else rows
        longer = [index for index in chosen if counts.per_row[index] > most]
        keep: dict[int, int] = {}
        with self._alone():
            bulk = self._bulk_for(self.counter(counts.model))
            for index in longer:
                if workspace.overlay.included(index):
                    turns = turns_within(bulk, workspace.row(index), most)
                    if turns is not None:
                        keep[index] = turns
        return edits.trim_each(keep) if keep else None

    @staticmethod
    def sample(workspace: Workspace) -> list[Row]:
        """Return up to 32 included rows from all over the dataset, as they are uploaded, of half a MB at most."""
        found: list[Row] = []
        size = 0
        step = max(1, workspace.total // _SAMPLE)
        for index in range(0, workspace.total, step):
            if not workspace.overlay.excluded(index):
                row = upload_row(workspace.row(index))
                size += len(encode_row(row))
                if size > _SAMPLE_BYTES or len(found) == _SAMPLE:
                    break
                found.append(row)
        return found

    def file(self, path: Path, model: str, on_progress: OnProgress | None = None) -> TokenStats:
        """Return the statistics of a training file as it lies on disk; lines that are no JSON object count as none.

        Raises DataError when it cannot be read.
        """
        counter = self.counter(model)
        totals: list[int] = []
        trained = 0
        try:
            with path.open("rb") as file, self._alone(on_progress):
                bulk = self._bulk_for(counter)
                lines = _objects(file)
                while block := list(islice(lines, BLOCK)):
                    found = bulk.count_lines(block)
                    totals += found.total
                    trained += sum(found.trained)
                    if on_progress:
                        on_progress(len(totals), 0)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error
        return stats_of(totals, trained, counter.limit)


def _bulk(counter: TokenCounter | LocalCounter) -> BulkCounter:
    return TableCounter(counter) if isinstance(counter, TokenCounter) else counter


_row = msgspec.json.Decoder(Row)


def _objects(file: Iterator[bytes]) -> Iterator[bytes]:
    for raw in file:
        line = raw.removeprefix(b"\xef\xbb\xbf").strip()
        if line:
            with suppress(msgspec.DecodeError):
                yield encode_row(_row.decode(line))


__all__ = ["TURNS", "Counting", "Counts", "OnProgress"]
