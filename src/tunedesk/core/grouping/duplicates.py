"""Which conversations say the same: exactly (but for case and spacing), or nearly, by MinHash candidates.

Candidates come from rensa's MinHash (Rust, no dependencies) in 25 bands of 5: a pair of Jaccard similarity 0.8 is
no candidate once in 20,000. Candidates are measured exactly, so that what is reported is never an estimate. Of more
than 20,000 texts only the best candidates of each are measured: of 12,404 rows with twins among 20,000 5 were missed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from tunedesk.core.conversations import Row
from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.grouping.near_pairs import Hashes, Pair, near_pairs, root_of
from tunedesk.core.grouping.sketches import (
    Sketches,
    identity,
    message_keys,
    shingle_hashes,
    shingles,
    similarity,
    sketch,
    spoken_text,
)

__all__ = [
    "THRESHOLD",
    "Finder",
    "Group",
    "Pair",
    "find",
    "grouped",
    "identity",
    "message_keys",
    "shingles",
    "similarity",
    "spoken_text",
]

THRESHOLD = 0.8
"""Jaccard similarity of word and word-pair sets from which two conversations count as near-duplicates."""
_BATCH = 4_096


@dataclass(frozen=True, slots=True)
class Group:
    """Conversations that are exact or near duplicates of one another, directly or by a chain."""

    members: tuple[int, ...]
    """Their places in the order they were given, ascending."""
    similarity: float
    """The smallest similarity that holds the group together; 1.0 when all are exact duplicates."""


class Finder:
    """Collects conversations one by one or in batches; then finds exact duplicates, near pairs and groups among them.

    Of each 110 bytes stay in memory, its shingles' hashes in memory up to 64 MiB in all and then on disk.
    """

    def __init__(self, threshold: float = THRESHOLD, *, exact_only: bool = False) -> None:
        """Start empty; pairs are near from `threshold` on, or never looked for if `exact_only`."""
        self.threshold = threshold
        self._exact_only = exact_only
        self._identities = array("Q")
        self._bands: list[pl.DataFrame] = []
        self._hashes = Hashes()
        self._waiting: list[array[int]] = []

    def add(self, row: Row) -> None:
        """Take the next conversation."""
        self._identities.append(identity(row))
        if not self._exact_only:
            self._waiting.append(shingle_hashes(spoken_text(row)))
            if len(self._waiting) >= _BATCH:
                self._sketch_waiting()

    def add_batch(self, identities: array[int], made: Sketches | None) -> None:
        """Take the next conversations by their identities and sketches (None when only exact ones are looked for)."""
        self._identities.extend(identities)
        if made is not None:
            self._take(made)

    def _sketch_waiting(self) -> None:
        if self._waiting:
            self._take(sketch(self._waiting))
            self._waiting.clear()

    def _take(self, made: Sketches) -> None:
        self._hashes.extend(made.sizes, made.hashes)
        self._bands.append(made.bands)

    def firsts(self) -> pl.Series:
        """Return for each conversation the place of the first one that says exactly the same: often its own."""
        places = pl.DataFrame({"identity": buffer_series(self._identities, 0, len(self._identities))})
        return places.with_row_index("place").select(pl.col("place").first().over("identity")).to_series()

    def exact(self) -> list[tuple[int, int]]:
        """Return (first, later) places of exact duplicates, by the later one."""
        first = self.firsts().alias("first").to_frame().with_row_index("later")
        later = first.filter(pl.col("later") != pl.col("first"))
        return list(zip(later["first"].to_list(), later["later"].to_list(), strict=True))

    def near(self) -> Iterator[Pair]:
        """Yield each pair of distinct texts that are near, but for pairs already joined by a chain of others."""
        self._sketch_waiting()
        if not self._bands:
            return
        bands = pl.concat(self._bands).with_columns(first=self.firsts()).with_row_index("place")
        bands = bands.filter(pl.col("place") == pl.col("first")).drop("first")
        self._bands = []
        yield from near_pairs(bands, self._hashes, len(self._identities), self.threshold)

    def groups(self) -> list[Group]:
        """Return all groups of exact and near duplicates, ordered by their first member."""
        pairs = [Pair(first, later, 1.0) for first, later in self.exact()]
        return grouped((*pairs, *self.near()), len(self._identities))


def grouped(pairs: Iterable[Pair], count: int) -> list[Group]:
    """Return the groups that `pairs` join among `count` places, ordered by their first member."""
    parents = array("I", range(count))
    weakest: dict[int, float] = {}
    for pair in pairs:
        low, high = sorted((root_of(parents, pair.first), root_of(parents, pair.second)))
        parents[high] = low
        least = min(weakest.get(low, 1.0), weakest.pop(high, 1.0), pair.similarity)
        weakest[low] = least
    members: dict[int, list[int]] = {}
    for place in range(count):
        if (root := root_of(parents, place)) in weakest:
            members.setdefault(root, []).append(place)
    return [Group(tuple(places), weakest[root]) for root, places in members.items()]


def find(rows: Iterable[Row], threshold: float = THRESHOLD) -> list[Group]:
    """Return the groups of exact and near duplicates among `rows`, by what is said in them."""
    finder = Finder(threshold)
    for row in rows:
        finder.add(row)
    return finder.groups()
