"""Train and validation from one set of conversations, so that nothing in validation has a twin in training.

Groups (near-duplicates, the same question, and rows with the same value under a chosen key) stay on one side. The
order of groups comes from sha256 of the seed and the rows, never from a random generator: the same bytes on any
machine. Of a row some 200 bytes stay in memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from tunedesk.core.checking.examining import Wanted
from tunedesk.core.checking.file_checks import encoded
from tunedesk.core.checking.processes import examined
from tunedesk.core.conversations import Row
from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.grouping.duplicates import THRESHOLD, Finder, Pair, grouped
from tunedesk.errors import DataError

FEWEST_VALIDATION = 30
"""Conversations below which a validation loss says little."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows train and which validate."""

    train: Sequence[int]
    """Places in the rows given, ascending."""
    validation: Sequence[int]
    groups: int
    """Groups of two or more rows that were kept on one side."""
    leaks: int
    """Groups that are on both sides: always 0."""
    seed: int
    rule: str
    """How it was made, in words."""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Looked:
    """What a split needs to know of all rows, in columns."""

    count: int = 0
    ranks: array[int] = field(default_factory=lambda: array("Q"))
    """Two numbers a row, by which groups are ordered: sha256 of the seed and the row."""
    strata: array[int] = field(default_factory=lambda: array("I"))
    """Number of the row's value under `by`."""
    values: dict[str, int] = field(default_factory=dict)
    """Value under `by` → its number."""
    pairs: list[Pair] = field(default_factory=list)
    """Rows that stay together."""


def split(
    rows: Sequence[Row],
    *,
    validation: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    group: str | None = None,
) -> Split:
    """Return the split of `rows` with about the share `validation` held out.

    `by` is a metadata key whose values are held out in like shares; `group` one whose values stay on one side.
    Raises DataError when there are fewer than two groups, or a key that no row has.
    """
    return divide(
        look(rows, seed=seed, by=by, group=group), validation=validation, seed=seed, by=by, group=group
    )


def look(rows: Iterable[Row], *, seed: int = 0, by: str | None = None, group: str | None = None) -> Looked:
    """Look at all rows once; raises DataError when no row has one of the keys."""
    looked = Looked()
    together = _Together()
    met = {key: False for key in (by, group) if key}
    of_group: dict[str, int] = {}

    def lines() -> Iterator[tuple[int, bytes]]:
        for place, row in enumerate(rows):
            raw = encoded(row)
            rank = hashlib.sha256(b"%d\n%b" % (seed, raw)).digest()
            looked.ranks.extend((int.from_bytes(rank[:8], "big"), int.from_bytes(rank[8:16], "big")))
            value = _value(row, by) if by else ""
            looked.strata.append(looked.values.setdefault(value, len(looked.values)))
            looked.count += 1
            if group and (same := _value(row, group)):
                first = of_group.setdefault(same, place)
                met[group] = True
                if first != place:
                    looked.pairs.append(Pair(first, place, 1.0))
            if by and value:
                met[by] = True
            yield place, raw

    together.take(lines())
    for key, found in met.items():
        if not found:
            raise DataError(
                f"no conversation has the key {key!r} in its metadata", "`tunedesk list` shows the keys."
            )
    looked.pairs += together.pairs()
    return looked


class _Together:
    """Finds which rows say the same, nearly the same, or answer the same question."""

    def __init__(self) -> None:
        self.finder = Finder()
        self.places = array("Q")
        self.questions = array("Q")

    def take(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Add rows with their places."""
        for batch in examined(lines, Wanted(rows=False, file=False)):
            self.places.extend(batch.marks.lines)
            self.questions.extend(batch.marks.questions)
            self.finder.add_batch(batch.marks.identities, batch.sketches)

    def pairs(self) -> Iterator[Pair]:
        """Yield pairs of places that join all rows that belong together, some by a chain of others."""
        places = self.places
        for pair in (*self._asked(), *(Pair(one, two, 1.0) for one, two in self.finder.exact())):
            yield Pair(places[pair.first], places[pair.second], 1.0)
        for pair in self.finder.near():
            yield Pair(places[pair.first], places[pair.second], pair.similarity)

    def _asked(self) -> Iterator[Pair]:
        rows = pl.DataFrame({"question": buffer_series(self.questions, 0, len(self.questions))})
        rows = rows.with_row_index("place").filter(pl.col("question") != 0)
        rows = rows.with_columns(first=pl.col("place").first().over("question"))
        for first, place in (
            rows.filter(pl.col("first") != pl.col("place")).select("first", "place").iter_rows()
        ):
            yield Pair(first, place, 1.0)


def twins_across(train: Iterable[Row], validation: Iterable[Row]) -> list[tuple[int, int]]:
    """Return (place in train, place in validation) of rows that belong together: one for each leaking row."""
    border = 0

    def lines() -> Iterator[tuple[int, bytes]]:
        nonlocal border
        for row in train:
            yield border, encoded(row)
            border += 1
        for place, row in enumerate(validation, border):
            yield place, encoded(row)

    together = _Together()
    together.take(lines())
    made = grouped(together.pairs(), max(together.places, default=-1) + 1)
    return [
        (one.members[0], place - border)
        for one in made
        if one.members[0] < border
        for place in one.members
        if place >= border
    ]


def count_leaks(train: Iterable[Row], validation: Iterable[Row]) -> int:
    """Return how many validation rows have a twin in training: near, or the same question."""
    return len(twins_across(train, validation))


def divide(
    looked: Looked, *, validation: float, seed: int, by: str | None = None, group: str | None = None
) -> Split:
    """Return the split of rows that were looked at; raises DataError when there are fewer than two groups."""
    if not 0 < validation < 1:
        raise DataError(
            f"a validation share of {validation:g} is not between 0 and 1", "0.2 holds a fifth out."
        )
    groups = _groups(looked)
    if groups.height < 2:
        many = (
            "there is only one conversation"
            if looked.count < 2
            else "all conversations are twins of one another"
        )
        raise DataError(
            f"cannot split: {many}", "Add conversations that differ, or train without validation."
        )
    chosen = _held_out(groups, validation, looked.count)
    of_row = groups.explode("members").select("members", "root").sort("members")
    held = of_row["root"].is_in(chosen.implode())
    places = of_row["members"]
    both = (
        pl.DataFrame({"root": of_row["root"], "held": held}).group_by("root").agg(pl.col("held").n_unique())
    )
    leaks = both.filter(pl.col("held") > 1).height
    keys = (f", in like shares of {by}" if by else "") + (f", whole groups of {group}" if group else "")
    rule = f"{validation:.0%} held out by sha256 of seed and row{keys}; twins (similarity >= {THRESHOLD}) on one side"
    train, out = (array("I", places.filter(side)) for side in (~held, held))
    several = groups.filter(pl.col("size") > 1).height
    return Split(train, out, several, leaks, seed, rule, _warnings(len(out), looked.count, validation))


def with_twins_in_training(made: Split, looked: Looked, rows: Iterable[int], *, share: float) -> Split:
    """Return the split with the whole groups of some validation rows in training, where twins of theirs were found.

    Nothing else changes sides, so that looking again finds fewer. Raises DataError when no validation row is left.
    """
    roots = _roots(looked)
    leaving = {roots[row] for row in rows}
    kept = array("I", (row for row in made.validation if roots[row] not in leaving))
    if not kept:
        raise DataError(
            "cannot split: all that was held out has a twin in training",
            "Add conversations that differ, or train without validation.",
        )
    train = array("I", sorted({*made.train, *made.validation} - set(kept)))
    warnings = _warnings(len(kept), looked.count, share)
    return replace(made, train=train, validation=kept, warnings=warnings)


def _roots(looked: Looked) -> array[int]:
    """Return for each row the first one of its group."""
    roots = array("I", range(looked.count))
    for one in grouped(looked.pairs, looked.count):
        for place in one.members:
            roots[place] = one.members[0]
    return roots


def _groups(looked: Looked) -> pl.DataFrame:
    """Return all rows as groups that stay on one side, in the order of their hashes: root, members, size, stratum."""
    roots = _roots(looked)
    ranks = buffer_series(looked.ranks, 0, len(looked.ranks))
    rows = pl.DataFrame(
        {
            "members": pl.int_range(looked.count, dtype=pl.UInt32, eager=True),
            "root": buffer_series(roots, 0, looked.count),
            "high": ranks.gather_every(2),
            "low": ranks.gather_every(2, 1),
            "stratum": buffer_series(looked.strata, 0, looked.count),
        }
    )
    rank = pl.struct("high", "low").sort_by("high", "low").first()
    return (
        rows.group_by("root", maintain_order=True)
        .agg("members", pl.len().alias("size"), rank.alias("rank"), pl.col("stratum").first())
        .unnest("rank")
        .with_columns(value=pl.col("stratum").replace_strict({n: v for v, n in looked.values.items()}))
        .sort("high", "low", "root")
    )


def _held_out(groups: pl.DataFrame, share: float, count: int) -> pl.Series:
    """Return the roots held out: in each stratum whole groups, by the order of their hashes, up to its share."""
    strata: dict[str, list[tuple[int, int]]] = {}
    for value, root, size in groups.select("value", "root", "size").iter_rows():
        strata.setdefault(value, []).append((root, size))
    held: dict[int, int] = {}
    owed = 0.0
    for _, members in sorted(strata.items()):
        owed += share * sum(size for _, size in members)
        for root, size in members[: len(members) - 1 if len(strata) == 1 else len(members)]:
            if size <= round(owed):
                held[root] = size
                owed -= size
    smallest = groups.sort("size", maintain_order=True).row(0, named=True)
    if not held:
        held[smallest["root"]] = smallest["size"]
    if sum(held.values()) == count:
        del held[smallest["root"]]
    return pl.Series(list(held), dtype=pl.UInt32)


def _warnings(held: int, total: int, share: float) -> tuple[str, ...]:
    warnings = []
    if held < FEWEST_VALIDATION:
        warnings.append(f"{held} conversations in validation: below {FEWEST_VALIDATION} its loss says little")
    if abs(held - share * total) > max(1.0, 0.05 * total):
        warnings.append(
            f"{held} of {total} held out, not {share:.0%}: large groups of twins cannot be parted"
        )
    return tuple(warnings)


def _value(row: Row, key: str) -> str:
    kept = row.get("metadata")
    value = kept.get(key) if isinstance(kept, dict) else None
    return "" if value is None else str(value)
