"""Which conversations say the same: exactly (but for case and spacing), or nearly, by MinHash candidates.

Candidates come from rensa's MinHash (Rust, no dependencies) in 25 bands of 5: a pair of Jaccard similarity 0.8 is
no candidate once in 20,000. Candidates are measured exactly, so that what is reported is never an estimate. Of more
than 5,000 texts only the best candidates of each are measured: of a hundred pairs on made-up dialogues one is missed.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

import polars as pl

from tunedesk.core.conversations import Row
from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.grouping.sketches import (
    BANDS,
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
_IN_MEMORY = 64 << 20
_KNOWN_SETS = 4_096
"""Sets of hashes kept read: neighbours in a bucket are measured against one another."""
_FEW = 5_000
"""Texts up to which time is no matter, so that more candidates are measured."""
_BEFORE, _BEFORE_OF_MANY = 8, 2
"""Texts before one, in the order of a bucket, that it is a candidate with; boilerplate fills buckets with thousands."""
_TRIES, _TRIES_OF_MANY = 100, 4
"""Candidates that a text is measured against, those that share most bands with it first."""
_WEAK_TRIES = 3
"""Measured in vain, from which candidates of one shared band are left: near texts share eight of 25."""
_FROM_EACH = 8
"""Members of one group that it is measured against in vain."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations that say nearly the same."""

    first: int
    second: int
    similarity: float


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
        self._ends = array("Q", [0])
        self._bands: list[pl.DataFrame] = []
        self._hashes = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as long as this
        weakref.finalize(self, self._hashes.close)
        self._waiting: list[array[int]] = []
        self._known: dict[int, frozenset[int]] = {}

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
        self._hashes.seek(0, os.SEEK_END)
        self._hashes.write(made.hashes.tobytes())
        for size in made.sizes:
            self._ends.append(self._ends[-1] + size)
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
        parents = array("I", range(len(self._identities)))
        few = bands.height <= _FEW
        candidates = _candidates(bands, _BEFORE if few else _BEFORE_OF_MANY)
        tries = _TRIES if few else _TRIES_OF_MANY
        for start in range(0, candidates.height, _BATCH):
            for place, *others in candidates[start : start + _BATCH].iter_rows():
                yield from self._joining(place, others, parents, tries)

    def _joining(
        self, place: int, others: Iterable[int | None], parents: array[int], tries: int
    ) -> Iterator[Pair]:
        """Yield the pairs that join a text to groups of earlier ones; those it shares most bands with come first."""
        counts = Counter([other for other in others if other is not None])
        tried: dict[int, int] = {}
        vain, weak = 0, _WEAK_TRIES if tries == _TRIES_OF_MANY else tries
        most_shared = sorted(counts.items(), key=itemgetter(1), reverse=True)[:tries]
        for other, shared in most_shared:
            mine, root = _root(parents, place), _root(parents, other)
            if mine == root or tried.get(root, 0) >= _FROM_EACH or (shared == 1 and vain >= weak):
                continue
            pair = self._near_one(other, place)
            if pair is None:
                tried[root] = tried.get(root, 0) + 1
                vain += 1
            else:
                low, high = sorted((root, mine))
                parents[high] = low
                yield pair

    def _near_one(self, first: int, second: int) -> Pair | None:
        """Return the pair of two texts when they are near, measured exactly."""
        one, two = self._set(first), self._set(second)
        if min(len(one), len(two)) < self.threshold * max(len(one), len(two), 1):
            return None
        shared = len(one & two)
        measured = shared / (len(one) + len(two) - shared)
        return Pair(first, second, measured) if measured >= self.threshold else None

    def _set(self, place: int) -> frozenset[int]:
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= _KNOWN_SETS:
                self._known.clear()
            start, end = self._ends[place], self._ends[place + 1]
            self._hashes.seek(start * 4)
            found = array("I")
            found.frombytes(self._hashes.read((end - start) * 4))
            known = self._known[place] = frozenset(found)
        return known

    def groups(self) -> list[Group]:
        """Return all groups of exact and near duplicates, ordered by their first member."""
        pairs = [Pair(first, later, 1.0) for first, later in self.exact()]
        return grouped((*pairs, *self.near()), len(self._identities))


def _candidates(bands: pl.DataFrame, before: int) -> pl.DataFrame:
    """Return for each text the earlier ones that agree with it in a band: the first, and those just before it.

    Columns: the text's place, then for each band `before` + 1 places, null where there is none. Texts that agree with
    none are left out.
    """
    made = [bands["place"]]
    for band in range(BANDS):
        column = pl.col(str(band))
        ordered = bands.select(column, "place").with_row_index("at").sort(str(band), "place")
        first = pl.col("place").first().over(str(band))
        found = ordered.with_columns(
            pl.when(first != pl.col("place")).then(first).alias(f"{band} first"),
            *(
                pl.when(column.shift(step) == column)
                .then(pl.col("place").shift(step))
                .alias(f"{band} before {step}")
                for step in range(1, before + 1)
            ),
        ).sort("at")
        made += [found[name] for name in found.columns[3:]]
    whole = pl.DataFrame(made).filter(pl.any_horizontal(pl.exclude("place").is_not_null()))
    # Texts that may be near the same one follow on each other, so that its hashes are read once.
    return whole.sort(pl.min_horizontal(pl.exclude("place")), "place")


def grouped(pairs: Iterable[Pair], count: int) -> list[Group]:
    """Return the groups that `pairs` join among `count` places, ordered by their first member."""
    parents = array("I", range(count))
    weakest: dict[int, float] = {}
    for pair in pairs:
        low, high = sorted((_root(parents, pair.first), _root(parents, pair.second)))
        parents[high] = low
        least = min(weakest.get(low, 1.0), weakest.pop(high, 1.0), pair.similarity)
        weakest[low] = least
    members: dict[int, list[int]] = {}
    for place in range(count):
        if (root := _root(parents, place)) in weakest:
            members.setdefault(root, []).append(place)
    return [Group(tuple(places), weakest[root]) for root, places in members.items()]


def find(rows: Iterable[Row], threshold: float = THRESHOLD) -> list[Group]:
    """Return the groups of exact and near duplicates among `rows`, by what is said in them."""
    finder = Finder(threshold)
    for row in rows:
        finder.add(row)
    return finder.groups()


def _root(parents: array[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place
