"""Facets: what the matched rows have in common, counted by value, each value with the query that narrows to it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from tunedesk.core.searching.query import FIELDS, Or, named, parse, quoted
from tunedesk.core.searching.summaries import pieces
from tunedesk.core.workspace import Workspace

TOP = 8
"""Values of one facet that are told; the others are counted together."""
_FEW = 12
"""Different numbers that are told one by one; more are put into ranges."""
_DISTINCT = 0.5
"""Share of different values above which a key names rows (an id) and says nothing of what they share."""
_PLAIN = re.compile(r'[^\s()"/-][^\s()"]*')


@dataclass(frozen=True, slots=True)
class Bucket:
    """Matched rows that share a value, or lie in a range."""

    label: str
    term: str
    """The query that finds them."""
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """One field, counted over the matched rows."""

    field: str
    buckets: tuple[Bucket, ...]
    others: int = 0
    """Further values that are not told."""


def facet_groups(workspace: Workspace, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Facet]:
    """Yield intent, tags, each metadata key, turns, length and findings; fields without any value are left out.

    Ends between two fields once `cancelled` returns True.
    """
    keys = [name for name in workspace.target.field_names() if name.lower() not in FIELDS]
    for field in ("intent", "tag", *keys):
        if cancelled():
            return
        if field in keys and _names_rows(workspace, field):
            continue
        values = workspace.facets(field)
        if values:
            buckets = [Bucket(value, term(field, value), count) for value, count in values[:TOP]]
            yield Facet(field, tuple(buckets), len(values) - len(buckets))
    for field in ("turns", "chars" if workspace.known.tokens is None else "tokens"):
        if cancelled():
            return
        if buckets := _number(workspace, field):
            yield Facet(field, tuple(buckets))
    if not cancelled() and (buckets := _findings(workspace)):
        yield Facet("check", tuple(buckets[:TOP]), max(0, len(buckets) - TOP))


def term(field: str, value: str) -> str:
    """Return the query that finds `value` in `field`, quoted where it has to be."""
    return named(field) + ":" + (value if _PLAIN.fullmatch(value) else quoted(value))


def narrowed(text: str, more: str) -> str:
    """Return the query `text` narrowed by `more`, or without it where it was its end; raises QueryError."""
    text = text.strip()
    if text == more:
        return ""
    if text.endswith(f" {more}"):
        text = text.removesuffix(more).rstrip()
        return text[1:-1] if text.startswith("(") and _is_or(text[1:-1]) else text
    if not text:
        return more
    return f"({text}) {more}" if isinstance(parse(text).root, Or) else f"{text} {more}"


def _is_or(text: str) -> bool:
    return text.count("(") == text.count(")") == 0 and isinstance(parse(text).root, Or)


def _names_rows(workspace: Workspace, key: str) -> bool:
    """Whether a metadata key has another value in most rows of the first chunk, as an id has."""
    chunk = workspace.dataset.chunks[0]
    table = chunk.tables.get(f"m:{key}")
    return table is not None and len(chunk) > 20 and len(table.value) > _DISTINCT * len(chunk)


def _number(workspace: Workspace, field: str) -> list[Bucket]:
    """Return the numbers themselves where there are few, else ranges of equal width and one for what lies above."""
    parts = [piece.number(field).gather(rows) for piece, rows, _ in pieces(workspace.target, workspace.found)]
    if not parts:
        return []
    numbers = pl.concat([part.cast(pl.Int64) for part in parts])
    counts = numbers.value_counts().sort(numbers.name)
    if len(counts) <= _FEW:
        return [Bucket(f"{value:,}", f"{field}:{value}", count) for value, count in counts.iter_rows()]
    ordered = numbers.sort()
    width = _round_up(max(1, int(ordered[int(0.95 * (len(ordered) - 1))]) // (TOP - 1)))
    bins = (numbers // width).clip(upper_bound=TOP - 1).value_counts()
    found = []
    for number, count in sorted(bins.iter_rows()):
        low, high = number * width, (number + 1) * width
        if number == TOP - 1:
            found.append(Bucket(f"{low:,} and more", f"{field}>={low}", count))
        else:
            found.append(Bucket(f"{low:,} to {high - 1:,}", f"{field}>={low} {field}<{high}", count))
    return found


def _round_up(width: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50 … that is not below `width`."""
    unit = int("1".ljust(len(str(width)), "0"))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= width)


def _findings(workspace: Workspace) -> list[Bucket]:
    found = workspace.known.findings or {}
    buckets = [Bucket(code, term("check", code), _shared(workspace, rows)) for code, rows in found.items()]
    return sorted((one for one in buckets if one.count), key=_most_first)


def _shared(workspace: Workspace, rows: array[int]) -> int:
    if workspace.matched == workspace.total:
        return len(rows)
    return int(workspace.found.series().is_in(pl.Series(rows, dtype=pl.UInt32).implode()).sum())


def _most_first(bucket: Bucket) -> tuple[int, str]:
    return -bucket.count, bucket.label
