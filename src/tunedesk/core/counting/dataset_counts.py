"""Tokens of every row of a dataset: counted once by several threads, kept beside the rows, edits counted on top.

A dataset's folder is named by its content, so the file `tokens-<rule>.bin` in it holds for as long as it exists:
a line of JSON, then three columns of little-endian unsigned 32 bits (all, trained, system prompts).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from tunedesk.core.conversations import Row
from tunedesk.core.counting.message_table import RowTokens
from tunedesk.core.datasets.dataset import ROWS, Dataset
from tunedesk.core.editing.overlay import EDITED, Entry, Overlay, layered, places
from tunedesk.errors import StoreError
from tunedesk.paths import write_whole

OnProgress = Callable[[int, int], None]
"""Called with rows done and rows in all; what it raises stops the work."""
BLOCK = 4_096
"""Rows that a thread takes at once."""
_MOST_THREADS = 4
_STATES = 3
"""States of the edits whose tokens are kept, for undo and redo."""
_MOST_KEPT = 9_000_000
"""Rows of all these states together, 12 bytes each; the newest state is kept in any case."""


class BulkCounter(Protocol):
    """Counts many rows at once, for several threads."""

    def expect(self, size: int) -> None:
        """Get ready for `size` bytes of rows, where that pays."""

    def count_lines(self, lines: Sequence[bytes]) -> RowTokens:
        """Return the tokens of rows in JSON."""

    def count_rows(self, rows: Sequence[Row]) -> RowTokens:
        """Return the tokens of rows."""


class _Header(msgspec.Struct, frozen=True):
    rule: str
    rows: int


def dataset_tokens(
    dataset: Dataset, rule: str, make: Callable[[], BulkCounter], on_progress: OnProgress | None = None
) -> RowTokens:
    """Return the tokens of every row as it was imported; read where they were counted by `rule` before.

    `rule` names the encoding and all else that the counts depend on, `make` gives the counter, when it is needed.
    """
    path = dataset.folder / f"tokens-{rule}.bin"
    known = _read(path, _Header(rule, len(dataset)))
    if known is None:
        known = _count(dataset, make, on_progress)
        with contextlib.suppress(StoreError):  # a folder that cannot be written is counted anew each time
            write_whole(path, _packed(known, _Header(rule, len(dataset))))
    return known


def _count(dataset: Dataset, make: Callable[[], BulkCounter], on_progress: OnProgress | None) -> RowTokens:
    counted = RowTokens.zeros(len(dataset))
    counter = make()
    counter.expect((dataset.folder / ROWS).stat().st_size)
    threads = min(_MOST_THREADS, os.cpu_count() or 1, 1 + len(dataset) // BLOCK)
    waiting: deque[tuple[int, Future[RowTokens]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tokens")
    try:
        for start, lines in _blocks(dataset):
            waiting.append((start, pool.submit(counter.count_lines, lines)))
            if len(waiting) > threads:
                _collect(waiting, counted, on_progress)
        while waiting:
            _collect(waiting, counted, on_progress)
    finally:
        pool.shutdown(cancel_futures=True)
    return counted


def _collect(
    waiting: deque[tuple[int, Future[RowTokens]]], counted: RowTokens, on_progress: OnProgress | None
) -> None:
    start, future = waiting.popleft()
    block = future.result()
    counted.put(start, block)
    if on_progress:
        on_progress(start + len(block.total), len(counted.total))


def _blocks(dataset: Dataset) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the canonical lines by blocks, each with the number of its first row."""
    with (
        (dataset.folder / ROWS).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for chunk in dataset.chunks:
            offsets = chunk.columns["offset"].to_list()
            lengths = chunk.columns["length"].to_list()
            for at in range(0, len(offsets), BLOCK):
                pairs = zip(offsets[at : at + BLOCK], lengths[at : at + BLOCK], strict=True)
                yield chunk.start + at, [data[offset : offset + length] for offset, length in pairs]


def _read(path: Path, expected: _Header) -> RowTokens | None:
    """Return what was kept, None when it is not whole or not about these rows."""
    columns = []
    try:
        with path.open("rb") as file:
            if msgspec.json.decode(file.readline(), type=_Header) != expected:
                return None
            if os.fstat(file.fileno()).st_size - file.tell() != 12 * expected.rows:
                return None
            for _ in range(3):
                column = array("I")
                column.fromfile(file, expected.rows)
                if sys.byteorder == "big":
                    column.byteswap()
                columns.append(column)
    except (OSError, EOFError, msgspec.DecodeError):
        return None
    return RowTokens(*columns)


def _packed(counts: RowTokens, header: _Header) -> bytes:
    columns = [array("I", column) for column in (counts.total, counts.trained, counts.system)]
    if sys.byteorder == "big":
        for column in columns:
            column.byteswap()
    return msgspec.json.encode(header) + b"\n" + b"".join(column.tobytes() for column in columns)


class EditedRows:
    """Tokens of the rows that edits touch, each counted once for each state of its edits."""

    def __init__(self) -> None:
        self._counted = RowTokens.zeros(0)
        self._after: array[int] = array("I")
        """Of each row the number of the edits that it was counted after, 0 before it was."""
        self._numbers: dict[tuple[int, ...], int] = {}
        """Edits of a row by their ids → number."""
        self._found: deque[tuple[Overlay, RowTokens]] = deque(maxlen=_STATES)

    def over(
        self,
        imported: RowTokens,
        dataset: Dataset,
        overlay: Overlay,
        make: Callable[[], BulkCounter],
        *,
        prompt_cost: Callable[[str], int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> RowTokens:
        """Return the tokens of every row as edits left it: the imported ones, and what changed.

        `make` gives the counter, when one is needed. Where a system prompt costs the same in any row, `prompt_cost`
        tells it, and rows whose prompt alone was replaced are not read.
        """
        found = next((known for one, known in self._found if one is overlay), None)
        if found is None:
            touched = places(overlay.flags, EDITED)
            if not touched and not overlay.added:
                return imported
            added = array("I", bytes(4 * overlay.added))
            found = RowTokens(imported.total + added, imported.trained + added, imported.system + added)
            if prompt_cost and all(layered(entry.edit) for entry in overlay.bulk):
                _replace_prompts(found, touched, overlay, prompt_cost)
                added_from = bisect_left(touched, overlay.count - overlay.added)
                touched = array("I", sorted({*overlay.by_row, *touched[added_from:]}))
            self._count(touched, dataset, overlay, make, on_progress)
            for start, stop in _runs(touched):
                found.put(start, self._counted.part(start, stop))
            self._found.append((overlay, found))
            while len(self._found) > 1 and len(self._found) * len(found.total) > _MOST_KEPT:
                self._found.popleft()
        return found

    def _count(
        self, touched: array[int], dataset: Dataset, overlay: Overlay, make: Callable[[], BulkCounter],
        on_progress: OnProgress | None,
    ) -> None:  # fmt: skip
        """Count those of the rows `touched` that were not counted after the edits that they follow from now."""
        more = overlay.count - len(self._after)
        if more > 0:
            self._after.extend(array("I", bytes(4 * more)))
            self._counted.put(len(self._counted.total), RowTokens.zeros(more))
        missing, numbers = array("I"), array("I")
        for at in range(0, len(touched), BLOCK):
            rows = touched[at : at + BLOCK]
            follows = overlay.ids_between(rows[0], rows[-1] + 1)
            for index in rows:
                number = self._numbers.setdefault(follows(index), len(self._numbers) + 1)
                if self._after[index] != number:
                    missing.append(index)
                    numbers.append(number)
            if on_progress:
                on_progress(0, len(touched))
        for at in range(0, len(missing), BLOCK):
            indexes = missing[at : at + BLOCK]
            found = make().count_rows([overlay.row(dataset, index) for index in indexes])
            for place, index in enumerate(indexes):
                self._counted.put(index, found.part(place, place + 1))
                self._after[index] = numbers[at + place]
            if on_progress:
                on_progress(at + len(indexes), len(missing))


def _runs(indexes: array[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of consecutive numbers among sorted ones."""
    begun = 0
    for place in range(1, len(indexes) + 1):
        if place == len(indexes) or indexes[place] != indexes[place - 1] + 1:
            yield indexes[begun], indexes[place - 1] + 1
            begun = place


def _replace_prompts(
    counts: RowTokens, touched: array[int], overlay: Overlay, cost: Callable[[str], int]
) -> None:
    """Put what the newest prompt costs in place of what the imported ones did."""
    layers: list[tuple[Entry, int]] = [
        (entry, cost(entry.edit.arguments["prompt"]) if entry.edit.arguments["prompt"] else 0)
        for entry in reversed(overlay.bulk)
    ]
    for index in touched:
        for entry, tokens in layers:
            if entry.touches(index):
                if counts.total[index]:
                    counts.total[index] += tokens - counts.system[index]
                    counts.system[index] = tokens
                break
