"""Matched rows in the order of a column, and counted by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

import polars as pl

from tunedesk.core.datasets.indexing import ITEM_BREAK, fold, preview
from tunedesk.core.editing.overlay import tags_after
from tunedesk.core.editing.rewritten import Rewritten, never
from tunedesk.core.searching.matches import Matches
from tunedesk.core.searching.piece import Piece, Target
from tunedesk.errors import UsageError

NUMBERS = ("tokens", "turns", "chars", "loss")
Part: TypeAlias = tuple[Piece, pl.Series, pl.Series]
"""A chunk, the matched places in it, and their row numbers."""
SORTABLE = ("line", *NUMBERS, "intent", "tags", "preview")


def sort_matches(target: Target, matches: Matches, column: str, *, descending: bool = False) -> Matches:
    """Return the matches ordered by a column of SORTABLE or a metadata key; equal rows keep the dataset's order.

    Raises UsageError for a column that no row has, or whose values are not known yet.
    """
    _require(target, column)
    coded = column not in NUMBERS and column not in ("line", "preview")
    parts = list(pieces(target, matches))
    if not parts:
        return Matches([], ordered=False)
    if coded:
        keys = _coded_keys(parts, column)
    elif column in NUMBERS:
        keys = [piece.number(column).cast(pl.Float64).fill_nan(None).gather(rows) for piece, rows, _ in parts]
    elif column == "preview" and target.dataset.previews:
        keys = _preview_keys(target, parts)
    elif column == "preview":
        keys = [_previews(piece).gather(rows) for piece, rows, _ in parts]
    else:
        keys = [piece.chunk.columns[column].gather(rows) for piece, rows, _ in parts]
    frame = pl.DataFrame({"key": pl.concat(keys), "index": pl.concat([places for *_, places in parts])})
    if target.overlay.rewrites:
        frame = frame.sort("index")
    ordered = frame.sort("key", descending=descending, maintain_order=True, nulls_last=True)
    return Matches([ordered["index"]], ordered=False)


def _preview_keys(target: Target, parts: Sequence[Part]) -> list[pl.Series]:
    """Return numbers in the order of the previews; those of rows that came or changed since are looked up together.

    Looked up apart, two of them that stand between the same imported ones would be taken for equal.
    """
    ranked = target.dataset.previews[0]
    known = {chunk.start: n for n, chunk in enumerate(target.dataset.imported.chunks)}
    found: list[pl.Series | None] = []
    apart: list[pl.Series] = []
    for piece, rows, _ in parts:
        texts, chunk = _previews(piece), piece.chunk
        imported = chunk.indexes is None and chunk.start in known and texts is chunk.columns["preview"]
        found.append(ranked.ranks[known[chunk.start]].gather(rows) if imported else None)
        apart += [] if imported else [texts.gather(rows)]
    if not apart:
        return [keys for keys in found if keys is not None]
    looked_up = ranked.keys(pl.concat(apart))
    starts = accumulate((len(texts) for texts in apart), initial=0)
    told = (looked_up[start : start + len(texts)] for start, texts in zip(starts, apart, strict=False))
    return [next(told) if keys is None else keys.cast(pl.Float64) for keys in found]


def _previews(piece: Piece) -> pl.Series:
    """Return the first words of every row of the chunk, as edits left them; the column itself where none did."""
    texts = piece.chunk.columns["preview"]
    roles = piece.chunk.tables["roles"].value
    # Where neither a user nor an assistant speaks, the system prompt is all that there is to show.
    if piece.layers and not (spoken := roles.str.contains("[ua]")).all():
        silent = ~piece.decode(spoken, "roles")
        for layer, (prompt, _) in zip(piece.layers, piece.layer_prompts(), strict=True):
            texts = texts.clone().scatter(layer.filter(silent.gather(layer)), preview(prompt))
    return texts


def _coded_keys(parts: Sequence[Part], column: str) -> list[pl.Series]:
    """Return numbers of the values of a coded column in the order that a reader expects, whatever the case."""
    coded = [(*_coded(piece, column), rows) for piece, rows, _ in parts]
    ordered = sorted({value for values, *_ in coded for value in values}, key=_reading_order)
    ranks = {value: rank for rank, value in enumerate(ordered)}
    return [
        pl.Series([ranks[value] for value in values], dtype=pl.UInt32).gather(ids).gather(rows)
        for values, ids, rows in coded
    ]


def facets(target: Target, matches: Matches, column: str) -> list[tuple[str, int]]:
    """Return the values of a column with the number of matches that have each, most first; empty ones left out.

    Columns: `tag`, `intent`, `roles`, `turns`, any metadata key. Raises UsageError for any other.
    """
    name = "tags" if column == "tag" else column
    _require(target, name)
    counts: Counter[str] = Counter()
    written: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for piece, rows, _ in pieces(target, matches):
        if name in NUMBERS:
            counted = piece.number(name).gather(rows).value_counts()
            counts.update({str(value): count for value, count in counted.iter_rows()})
            continue
        values, ids = _coded(piece, name)
        for code, count in ids.gather(rows).value_counts().iter_rows():
            for folded, item in {fold(item): item for item in values[code].split(ITEM_BREAK) if item}.items():
                counts[folded] += count
                written[folded][item] += count
    # A query finds a value whatever its case: so it is counted, and shown as most rows write it.
    told = {folded: min(ways.items(), key=_most_first)[0] for folded, ways in written.items()}
    return sorted(((told.get(value, value), count) for value, count in counts.items()), key=_most_first)


def pieces(target: Target, matches: Matches) -> Iterator[Part]:
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


def _rewritten(target: Target, part: Rewritten, wanted: pl.Series) -> Iterator[Part]:
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
    if column == "tags":
        return _tags(piece)
    for name in (column, f"m:{column}"):
        if name in piece.chunk.tables and name != "system":
            return piece.chunk.tables[name].value.to_list(), piece.chunk.columns[name]
    return [""], pl.zeros(len(piece.chunk), dtype=pl.UInt32, eager=True)


def _tags(piece: Piece) -> tuple[list[str], pl.Series]:
    """Return the tags that rows of the chunk bear, joined as imported ones are, and each row's place among them."""
    imported, ids = piece.chunk.tables["tags"].value.to_list(), piece.chunk.columns["tags"]
    marks = {name: piece.per_row(marks) for name, marks in piece.target.overlay.tags.items()}
    marks = {name: column for name, column in marks.items() if (column > 0).any()}
    if not marks:
        return imported, ids
    borne = pl.DataFrame([ids.rename("imported"), *(m.rename(f"t{n}") for n, m in enumerate(marks.values()))])
    kinds = borne.unique(maintain_order=True).with_row_index("kind")
    values = [
        ITEM_BREAK.join(
            tags_after(
                [item for item in imported[code].split(ITEM_BREAK) if item],
                dict(zip(marks, row, strict=True)),
            )
        )
        for _, code, *row in kinds.iter_rows()
    ]
    return values, borne.join(kinds, on=borne.columns, how="left", maintain_order="left")["kind"]


def _reading_order(value: str) -> tuple[str, str]:
    return fold(value), value


def _require(target: Target, column: str) -> None:
    if column == "tokens" and target.known.tokens is None:
        raise UsageError("tokens are still being counted", "sort by chars meanwhile")
    if column == "loss" and target.known.loss is None:
        raise UsageError("no loss is known for these rows", "train on them first")
    if column not in (*SORTABLE, "roles") and column not in target.field_names():
        known = ", ".join((*SORTABLE, *target.field_names()[:20]))
        raise UsageError(f"there is no column {column}", f"one of {known}")
