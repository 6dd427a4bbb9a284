"""Matched rows in the order of a column, and counted by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl

from tunedesk.core.datasets.indexing import ITEM_BREAK, fold
from tunedesk.core.editing.rewritten import Rewritten, never
from tunedesk.core.searching.matches import Matches
from tunedesk.core.searching.piece import Piece, Target
from tunedesk.errors import UsageError

NUMBERS = ("tokens", "turns", "chars", "loss")
SORTABLE = ("line", *NUMBERS, "intent", "tags", "preview")


def sort_matches(target: Target, matches: Matches, column: str, *, descending: bool = False) -> Matches:
    """Return the matches ordered by a column of SORTABLE or a metadata key; equal rows keep the dataset's order.

    Raises UsageError for a column that no row has, or whose values are not known yet.
    """
    _require(target, column)
    coded = column not in NUMBERS and column not in ("line", "preview")
    ranks = _ranks(target, matches, column) if coded else {}
    keys, indexes = [], []
    for piece, rows, places in pieces(target, matches):
        if coded:
            values = _coded(piece, column)
            key = pl.Series([ranks[v] for v in values[0]], dtype=pl.UInt32).gather(values[1])
        elif column in NUMBERS:
            key = piece.number(column).cast(pl.Float64).fill_nan(None)
        elif column == "preview" and target.dataset.previews:
            key = _preview_keys(target, piece)
        else:
            key = piece.chunk.columns[column]
        keys.append(key.gather(rows))
        indexes.append(places)
    if not keys:
        return Matches([], ordered=False)
    frame = pl.DataFrame({"key": pl.concat(keys), "index": pl.concat(indexes)})
    if target.overlay.rewrites:
        frame = frame.sort("index")
    ordered = frame.sort("key", descending=descending, maintain_order=True, nulls_last=True)
    return Matches([ordered["index"]], ordered=False)


def _preview_keys(target: Target, piece: Piece) -> pl.Series:
    """Return numbers in the order of a chunk's previews; those of rows that came or changed since are looked up."""
    ranked = target.dataset.previews[0]
    starts = [chunk.start for chunk in target.dataset.imported.chunks]
    if piece.chunk.indexes is None and piece.chunk.start in starts:
        ranks = ranked.ranks[starts.index(piece.chunk.start)]
        as_imported = target.dataset is target.dataset.imported and not target.overlay.rewrites
        return ranks if as_imported else ranks.cast(pl.Float64)
    return ranked.keys(piece.chunk.columns["preview"])


def facets(target: Target, matches: Matches, column: str) -> list[tuple[str, int]]:
    """Return the values of a column with the number of matches that have each, most first; empty ones left out.

    Columns: `tag`, `intent`, `roles`, `turns`, any metadata key. Raises UsageError for any other.
    """
    name = "tags" if column == "tag" else column
    _require(target, name)
    counts: Counter[str] = Counter()
    shown = {fold(tag): tag for tag in target.overlay.tags} if name == "tags" else {}
    for piece, rows, _ in pieces(target, matches):
        if name in NUMBERS:
            counted = piece.number(name).gather(rows).value_counts()
            counts.update({str(value): count for value, count in counted.iter_rows()})
            continue
        values, ids = _coded(piece, name)
        for code, count in ids.gather(rows).value_counts().iter_rows():
            for item in values[code].split(ITEM_BREAK):
                if item and fold(item) not in shown:
                    counts[item] += count
        for folded, tag in shown.items():
            counts[tag] += int(piece.tagged(folded).gather(rows).sum())
    return sorted(((value, count) for value, count in counts.items() if count), key=_most_first)


def pieces(target: Target, matches: Matches) -> Iterator[tuple[Piece, pl.Series, pl.Series]]:
    """Yield every chunk with the matched places in it and their row numbers; its rewritten rows follow, as they are."""
    numbers = matches.series()
    numbers = numbers if matches.ordered else numbers.sort()
    for chunk in target.dataset.chunks:
        places = _between(numbers, chunk.start, chunk.stop)
        changed = (
            list(target.overlay.rewritten_in(target.dataset, chunk.start, chunk.stop)) if len(places) else []
        )
        kept = places
        if changed:
            kept = places.filter(~places.is_in(pl.concat([part.indexes for part in changed]).implode()))
        if len(kept):
            yield Piece(target, chunk, {}, never), (kept - chunk.start).cast(pl.UInt32), kept
        for part in changed:
            yield from _rewritten(target, part, places)


def _rewritten(
    target: Target, part: Rewritten, wanted: pl.Series
) -> Iterator[tuple[Piece, pl.Series, pl.Series]]:
    """Yield those of the rewritten rows that are wanted, unless there are none."""
    indexes = part.indexes
    mask = indexes.is_in(_between(wanted, indexes[0], indexes[-1] + 1).implode())
    if mask.any():
        places = mask.arg_true() if part.places is None else part.places.filter(mask)
        yield Piece(target, part.chunk, {}, never), places, indexes.filter(mask)


def _between(numbers: pl.Series, start: int, stop: int) -> pl.Series:
    """Return those of sorted numbers from `start` to before `stop`."""
    low, high = int(numbers.search_sorted(start)), int(numbers.search_sorted(stop))
    return numbers[low:high]


def _most_first(pair: tuple[str, int]) -> tuple[int, str]:
    return -pair[1], pair[0]


def _coded(piece: Piece, column: str) -> tuple[list[str], pl.Series]:
    """Return the values of a coded column and each row's place among them; no value where the chunk has none."""
    for name in (column, f"m:{column}"):
        if name in piece.chunk.tables and name != "system":
            return piece.chunk.tables[name].value.to_list(), piece.chunk.columns[name]
    return [""], pl.zeros(len(piece.chunk), dtype=pl.UInt32, eager=True)


def _ranks(target: Target, matches: Matches, column: str) -> dict[str, int]:
    """Number the distinct values of a coded column in the order that a reader expects, whatever the case."""
    values = {value for piece, _, _ in pieces(target, matches) for value in _coded(piece, column)[0]}
    return {value: rank for rank, value in enumerate(sorted(values, key=_reading_order))}


def _reading_order(value: str) -> tuple[str, str]:
    return fold(value), value


def _require(target: Target, column: str) -> None:
    if column == "tokens" and target.known.tokens is None:
        raise UsageError("tokens are still being counted", "sort by chars meanwhile")
    if column == "loss" and target.known.loss is None:
        raise UsageError("no loss is known for these rows", "train on them first")
    if column not in (*SORTABLE, "roles") and column not in target.dataset.field_names():
        known = ", ".join((*SORTABLE, *target.dataset.field_names()[:20]))
        raise UsageError(f"there is no column {column}", f"one of {known}")
