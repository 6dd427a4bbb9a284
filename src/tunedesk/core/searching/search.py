"""Finding rows: a parsed query over a dataset and its edits, chunk by chunk, the first screenful first.

Two threads take chunks of 65,536 rows in order (Polars releases the interpreter while it scans). Rows that edits have
rewritten are searched as one more, small chunk. A cancelled search stops within a chunk.
"""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from tunedesk.core.datasets.dataset import Chunk
from tunedesk.core.datasets.indexing import fold
from tunedesk.core.searching.matchers import Literal, Matcher, SharedMasks
from tunedesk.core.searching.matches import Matches
from tunedesk.core.searching.patterns import compile_pattern
from tunedesk.core.searching.piece import Known, Piece, Target
from tunedesk.core.searching.planning import Rate, planned
from tunedesk.core.searching.query import (
    FIELDS,
    And,
    Compare,
    Everything,
    Field,
    Node,
    Not,
    Or,
    Pattern,
    Query,
    QueryError,
    State,
    Text,
    named,
    reads_rows,
    refines,
)

THREADS = max(2, min(8, os.cpu_count() or 2))
_SAMPLE = 512
"""Rows by which the order of a query's parts is chosen."""
SCREENFUL = 40
"""Matches that are worth showing at once, before the search is done."""
EARLY_S = 0.03
"""Seconds after which fewer are."""
_GLIMPSE = 4_096
"""Rows that are looked at together before a whole chunk is."""
_QUICK_S = 2 * EARLY_S
"""Seconds for a chunk, drawn from such a step and so told too high, below which the chunk itself comes next."""

_PREDICATES = frozenset({"pii", "error", "dup", "check", "about"})


@dataclass(frozen=True, slots=True)
class Progress:
    """A search on its way: what was found in the rows looked at so far."""

    matches: Matches
    scanned: int
    done: bool


def search(
    target: Target,
    query: Query,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    previous: tuple[Query, Matches] | None = None,
) -> Iterator[Progress]:
    """Yield what is found: once as soon as a screenful is there, or part of one after `EARLY_S`, and at the end.

    Nothing comes after `cancelled` says True. `previous` is a finished search of the same target; where the new query
    refines it, only its rows are looked at. Raises QueryError when the query asks for a field that no row has or a fact
    that is not known yet.
    """
    began = time.perf_counter()
    matchers = _prepare(target, query.root)
    chunks = target.dataset.chunks
    absent = target.overlay.absent()
    if isinstance(query.root, Everything):
        everything = Matches.all(len(target.dataset)).without(absent)
        yield Progress(everything, len(target.dataset), True)
        return
    scan = _Scan(target, query.root, matchers, cancelled)
    narrowed = (
        previous[1] if previous and previous[1].aligned and refines(query.root, previous[0].root) else None
    )
    shown = 0
    if len(chunks) > 1 and narrowed is None:
        found, looked_at = scan.glimpse(chunks[0])
        if len(found) and not cancelled():
            shown = len(found)
            yield Progress(Matches([found]).without(absent), looked_at, False)
    parts: list[pl.Series] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for number, part in enumerate(
            pool.map(lambda number: scan.whole(number, narrowed), range(len(chunks)))
        ):
            if part is None or cancelled():
                return
            parts.append(part)
            late = time.perf_counter() - began > EARLY_S
            so_far = sum(map(len, parts)) if shown < SCREENFUL else 0
            if so_far > shown and (so_far >= SCREENFUL or late) and number + 1 < len(chunks):
                shown = so_far
                yield Progress(Matches(parts).without(absent), chunks[number + 1].start, False)
    yield Progress(Matches(parts, aligned=True).without(absent), len(target.dataset), True)


def first_of(target: Target, query: Query, order: Matches, cancelled: Callable[[], bool]) -> pl.Series:
    """Return the first rows of a sorted result that match, in its order: a screenful, or as many as come in time.

    Nothing comes where rows were rewritten, which would have to be read first. Raises QueryError.
    """
    began = time.perf_counter()
    scan = _Scan(target, query.root, _prepare(target, query.root), cancelled)
    found, start = pl.Series([], dtype=pl.UInt32), 0
    while len(found) < SCREENFUL and start < len(order) and not target.overlay.rewrites:
        rows = pl.Series(order[start : start + _GLIMPSE], dtype=pl.UInt32)
        found.append(rows.filter(rows.is_in(scan.among(rows.sort()).implode())))
        start += len(rows)
        if cancelled() or time.perf_counter() - began > EARLY_S:
            break
    return found


class _Scan:
    """One search: what each chunk holds."""

    def __init__(
        self,
        target: Target,
        root: Node,
        matchers: dict[Text | Pattern, Matcher],
        cancelled: Callable[[], bool],
    ) -> None:
        self._target, self._matchers, self._cancelled = target, matchers, cancelled
        self._shared = SharedMasks(target.dataset)
        self._root = planned(root, _sampled(Piece(target, target.dataset.chunks[0], matchers, cancelled)))

    def whole(self, number: int, previous: Matches | None) -> pl.Series | None:
        """Return the matches of a chunk, among those of a previous search; None once the search is cancelled."""
        if self._cancelled():
            return None
        chunk = self._target.dataset.chunks[number]
        old = previous.parts[number] if previous is not None else None
        return self._found(chunk, old - chunk.start if isinstance(old, pl.Series) else None, self._shared)

    def among(self, rows: pl.Series) -> pl.Series:
        """Return the matches among some rows, ascending."""
        found = [pl.Series([], dtype=pl.UInt32)]
        for chunk in self._target.dataset.chunks:
            start, stop = (int(rows.search_sorted(edge)) for edge in (chunk.start, chunk.stop))
            if start < stop and not self._cancelled():
                found.append(self._found(chunk, (rows[start:stop] - chunk.start).cast(pl.UInt32), None))
        return pl.concat(found)

    def glimpse(self, chunk: Chunk) -> tuple[pl.Series, int]:
        """Return what the first rows of a chunk hold, and how many they are.

        Ends with a screenful of matches, when time is up, or after two steps where the whole chunk is as quick.
        """
        began = last = time.perf_counter()
        found, stop, quickest = pl.Series([], dtype=pl.UInt32), 0, math.inf
        while len(found) < SCREENFUL and stop < len(chunk):
            part = chunk.part(stop, stop + _GLIMPSE)
            found.append(self._found(part, None, None))
            stop += len(part)
            now = time.perf_counter()
            quickest, last = min(quickest, now - last), now
            # The first step pays for what is done once, so it is not judged by.
            quick = stop > _GLIMPSE and quickest / _GLIMPSE * len(chunk) < _QUICK_S
            if quick or now - began > EARLY_S:
                break
        return found, stop

    def _found(self, chunk: Chunk, rows: pl.Series | None, shared: SharedMasks | None) -> pl.Series:
        piece = Piece(self._target, chunk, self._matchers, self._cancelled, shared)
        changed = list(self._rewritten(chunk))
        gone = [indexes - chunk.start for indexes, _ in changed]
        local = (
            pl.Series([], dtype=pl.UInt32)
            if sum(map(len, gone)) == len(chunk)
            else piece.find(self._root, rows)
        )
        if not changed:
            return (local + chunk.start).cast(pl.UInt32)
        kept = pl.repeat(True, len(chunk), dtype=pl.Boolean, eager=True).scatter(pl.concat(gone), False)
        local = local.filter(kept.gather(local)) if len(local) else local
        return pl.concat([(local + chunk.start).cast(pl.UInt32), *(found for _, found in changed)]).sort()

    def _rewritten(self, chunk: Chunk) -> Iterator[tuple[pl.Series, pl.Series]]:
        """Yield the rows of a chunk that edits have rewritten, and those that match as they are now."""
        target = self._target
        if not reads_rows(self._root):
            return
        for part in target.overlay.rewritten_in(target.dataset, chunk.start, chunk.stop, self._cancelled):
            piece = Piece(target, part.chunk, self._matchers, self._cancelled)
            assert part.chunk.indexes is not None
            yield part.indexes, part.chunk.indexes.gather(piece.find(self._root, part.places))


def _sampled(piece: Piece) -> Rate:
    """Return what tells the share of rows that match, by the first ones of a chunk."""
    rows = pl.arange(0, min(len(piece.chunk), _SAMPLE), dtype=pl.UInt32, eager=True)
    return lambda node: int(piece.mask(node, rows).sum()) / max(1, len(rows))


def _prepare(target: Target, node: Node) -> dict[Text | Pattern, Matcher]:
    """Compile the patterns of a query and refuse what cannot be answered, before any row is read."""
    if isinstance(node, And | Or):
        found: dict[Text | Pattern, Matcher] = {}
        for part in node.parts:
            found |= _prepare(target, part)
        return found
    if isinstance(node, Not):
        return _prepare(target, node.part)
    if isinstance(node, Pattern):
        return {node: compile_pattern(node)}
    if isinstance(node, Text):
        return {node: Literal(node.needle)}
    if isinstance(node, State):
        _require_state(target.known, node)
    elif isinstance(node, Compare):
        _require_number(target, node)
    elif isinstance(node, Field) and node.field not in ("intent", "tag"):
        _require_field(target, node.field, node.column)
    return {}


def _require_state(known: Known, node: State) -> None:
    word = node.field if node.field in _PREDICATES else node.value
    missing = {
        "pii": known.pii is None and "personal data has not been looked for yet",
        "error": known.errors is None and "the checks have not run yet",
        "check": known.findings is None and "the checks have not run yet",
        "about": known.topics is None and "topics have not been looked for yet",
        "dup": known.duplicates is None and "duplicates have not been looked for yet",
    }.get(word)
    if missing:
        raise QueryError(missing, "the filter works as soon as that is done", column=node.column)


def _require_number(target: Target, node: Compare) -> None:
    if node.field == "tokens" and target.known.tokens is None:
        raise QueryError("tokens are still being counted", "chars>2000 works at once", column=node.column)
    if node.field == "loss" and target.known.loss is None:
        raise QueryError("no loss is known for these rows", "train on them first", column=node.column)
    if node.field not in ("tokens", "loss", "turns", "chars"):
        _require_field(target, node.field, node.column)


def _require_field(target: Target, name: str, column: int) -> None:
    names = target.field_names()
    if fold(name) in map(fold, names):
        return
    if name in target.dataset.manifest.unindexed:
        raise QueryError(f"{name} is one of too many metadata keys to filter by", column=column)
    near = difflib.get_close_matches(name, [*FIELDS, *names], n=1)
    hint = f"did you mean {named(near[0])}:? " if near else ""
    raise QueryError(
        f"there is no field {name}",
        f'{hint}to search for the text itself, quote it: "{name}:…"',
        column=column,
    )
