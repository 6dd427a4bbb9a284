"""The rows that edits have rewritten, indexed a span of the dataset at a time, for searches, sorts and counts.

What edits of many rows made of a span is indexed once, kept for as long as the same edits are in force, and lies in
files that the system can drop from memory, as imported rows do. Rows that edits of a few touch are indexed apart, laid
over the others, and anew only in the spans where such an edit came. Two edits thus never cost what their rows cost.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import Protocol

import polars as pl

from tunedesk.core.datasets.chunk_builder import ChunkBuilder
from tunedesk.core.datasets.dataset import Chunk, Dataset
from tunedesk.core.datasets.dataset_writer import set_aside
from tunedesk.core.datasets.indexing import RowFacts

SPAN = 16_384
"""Rows that are indexed together: half a second's work."""
_WORTH_A_FILE = 1_024
"""Rows of a span from which its index is kept in files."""
_BETWEEN_LOOKS = 64
"""Rows indexed between two looks at whether anybody still waits for them."""
_LOOK_S = 0.02
"""Seconds between two looks where other processes index them."""

_STATES = 3
"""States of a span that are kept, for undo and redo."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Rows as edits left them."""

    chunk: Chunk
    places: pl.Series | None
    """Which of the chunk are meant, None for all."""

    @property
    def indexes(self) -> pl.Series:
        """Their numbers in the dataset, ascending."""
        assert self.chunk.indexes is not None
        return self.chunk.indexes if self.places is None else self.chunk.indexes.gather(self.places)


@dataclass(frozen=True, slots=True)
class Span:
    """Some rows of a span that edits of many rows rewrite."""

    number: int
    edits: tuple[int, ...]
    """What the rows follow from, by their ids."""
    rows: array[int]


@dataclass(slots=True)
class Indexed:
    """What has been indexed so far, shared by all overlays of a workspace."""

    spans: dict[int, dict[tuple[int, ...], Chunk | None]] = field(default_factory=dict)
    """By the span's number and the edits that its rows follow from."""
    changed: Condition = field(default_factory=Condition)
    """Held while a span is indexed, so that two searches do not index the same."""
    claims: list[Collection[tuple[int, tuple[int, ...]]]] = field(default_factory=list)
    """Spans that other processes are about to index, by number and edits: a search waits for them."""

    @contextmanager
    def claimed(self, spans: Iterable[Span]) -> Iterator[None]:
        """Have searches wait for `keep` of some spans, until the block is left."""
        claim = frozenset((span.number, span.edits) for span in spans)
        with self.changed:
            self.claims.append(claim)
        try:
            yield
        finally:
            with self.changed:
                self.claims.remove(claim)
                self.changed.notify_all()

    def keep(self, span: Span, chunk: Chunk) -> None:
        """Keep what another process has written to files of a span, unless it was indexed here meanwhile."""
        with self.changed:
            states = self.spans.setdefault(span.number, {})
            if span.edits not in states:
                _put(states, span.edits, chunk)
            self.changed.notify_all()


class Edited(Protocol):
    """What has to be known of the edits in force."""

    def edits_of_many(self, start: int, stop: int) -> tuple[int, ...]:
        """Return the edits of many rows that touch a span, by their ids."""

    def rewritten_by_many(self, start: int, stop: int) -> array[int]:
        """Return the rows of a span that edits of many rows rewrite."""

    def rewritten_by_few(self, start: int, stop: int) -> array[int]:
        """Return the rows of a span that edits of a few rows touch and that differ from the imported ones."""

    def facts_by_many(self, dataset: Dataset, index: int) -> RowFacts:
        """Return the facts of a row after the edits of many rows alone."""

    def facts_of(self, dataset: Dataset, index: int) -> RowFacts:
        """Return the facts of a row after all edits."""


def never() -> bool:
    """Say that something is still waited for."""
    return False


def rewritten(
    edited: Edited, dataset: Dataset, known: Indexed, few: dict[int, Chunk | None], start: int, stop: int,
    cancelled: Callable[[], bool],
) -> Iterator[Rewritten]:  # fmt: skip
    """Yield the rewritten rows from `start` to before `stop`, each once; ends early once `cancelled`.

    `few` holds, by span, the rows that edits of a few touch, as far as they have been indexed in the present state.
    """
    for span in range(start // SPAN, -(-stop // SPAN)):
        first, end = span * SPAN, min((span + 1) * SPAN, len(dataset))
        many = _many(edited, dataset, known, span, first, end, cancelled)
        with known.changed:
            if span not in few:
                rows = edited.rewritten_by_few(first, end)
                few[span] = _index(rows, dataset, edited.facts_of, cancelled) if rows else None
                if cancelled():
                    del few[span]
                    return
            over = few[span]
        if many is not None:
            gone = over.indexes if over is not None else None
            yield from _within(many, start, stop, gone)
        if over is not None:
            yield from _within(over, start, stop, None)


def _many(
    edited: Edited, dataset: Dataset, known: Indexed, span: int, first: int, end: int,
    cancelled: Callable[[], bool],
) -> Chunk | None:  # fmt: skip
    """Return what edits of many rows made of a span, None where that is nothing or nobody waits for it any more."""
    ids = edited.edits_of_many(first, end)
    if not ids:
        return None
    with known.changed:
        states = known.spans.setdefault(span, {})
        while ids not in states and any((span, ids) in claim for claim in known.claims):
            known.changed.wait(_LOOK_S)
            if cancelled():
                return None
        if ids not in states:
            rows = edited.rewritten_by_many(first, end)
            made = _index(rows, dataset, edited.facts_by_many, cancelled) if rows else None
            if rows and made is None:
                return None
            _put(states, ids, made)
        states[ids] = states.pop(ids)  # the one that was asked for last is let go last
        return states[ids]


def _put(states: dict[tuple[int, ...], Chunk | None], ids: tuple[int, ...], made: Chunk | None) -> None:
    states[ids] = made
    if len(states) > _STATES:
        del states[next(iter(states))]


def unread(edited: Edited, dataset: Dataset, known: Indexed) -> Iterator[Span]:
    """Yield the spans of which it is worth a file, and not known yet, what edits of many rows made of them."""
    for number, first in enumerate(range(0, len(dataset), SPAN)):
        end = min(first + SPAN, len(dataset))
        ids = edited.edits_of_many(first, end)
        if ids and ids not in known.spans.get(number, {}):
            rows = edited.rewritten_by_many(first, end)
            if len(rows) >= _WORTH_A_FILE:
                yield Span(number, ids, rows)


def _index(
    rows: Sequence[int],
    dataset: Dataset,
    facts: Callable[[Dataset, int], RowFacts],
    cancelled: Callable[[], bool],
) -> Chunk | None:
    builder = built(rows, dataset, facts, cancelled)
    if builder is None:
        return None
    indexes = pl.Series(rows, dtype=pl.UInt32)
    if len(rows) < _WORTH_A_FILE:
        return Chunk.scattered(builder, indexes)
    return set_aside(builder, indexes, dataset.folder.parent)


def built(
    rows: Sequence[int],
    dataset: Dataset,
    facts: Callable[[Dataset, int], RowFacts],
    cancelled: Callable[[], bool] = never,
) -> ChunkBuilder | None:
    """Return the columns of some rows as they are now; None once `cancelled`."""
    builder = ChunkBuilder()
    for number, index in enumerate(rows):
        if number % _BETWEEN_LOOKS == 0 and cancelled():
            return None
        builder.add(facts(dataset, index), line=dataset.line(index))
    return builder


def _within(chunk: Chunk, start: int, stop: int, gone: pl.Series | None) -> Iterator[Rewritten]:
    """Yield the rows of a chunk from `start` to before `stop` that are not `gone`, unless there are none."""
    indexes = chunk.indexes
    assert indexes is not None
    whole = start <= int(indexes[0]) and int(indexes[-1]) < stop
    if whole and gone is None:
        yield Rewritten(chunk, None)
        return
    meant = indexes.is_between(start, stop, closed="left")
    if gone is not None:
        meant = meant & ~indexes.is_in(gone.implode())
    if meant.any():
        yield Rewritten(chunk, meant.arg_true())


def in_span(rows: array[int] | None, reach: int, start: int, stop: int) -> range | array[int]:
    """Return those of sorted rows (None: all below `reach`) that lie from `start` to before `stop`."""
    if rows is None:
        return range(start, max(start, min(stop, reach)))
    return rows[bisect_left(rows, start) : bisect_left(rows, stop)]
