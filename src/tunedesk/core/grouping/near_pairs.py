"""Which of many texts are near one another: candidates by bands of MinHash, measured exactly, thousands at a time.

Pairs are measured in rounds, every text's best candidate first: what is joined by then needs no measuring again.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

import polars as pl

from tunedesk.core.datasets.arrow_parts import buffer_series, list_series
from tunedesk.core.grouping.sketches import BANDS

FEW = 20_000
"""Texts up to which time is no matter, so that more candidates are measured."""
_BEFORE, _BEFORE_OF_MANY = 8, 2
"""Texts before one, in the order of a bucket, that it is a candidate with; boilerplate fills buckets with thousands."""
_TRIES, _TRIES_OF_MANY = 100, 8
"""Candidates that a text is measured against, those that share most bands with it first."""
_WEAK_TRIES = 3
"""Tries after which candidates of one shared band are left, where texts are many: near ones share eight of 25."""
_RANKED = 50_000
"""Texts whose candidates are put in order at a time."""
_MEASURED = 20_000
"""Pairs measured at a time: some 100 MB."""
_THREADS = 2
"""Slices of pairs measured at once: Polars intersects lists on one core."""
_IN_MEMORY = 16 << 20
"""Numbers kept in memory: 64 MiB."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations that say nearly the same."""

    first: int
    second: int
    similarity: float


class Hashes:
    """The shingles of texts as numbers, by place: in memory up to 64 MiB, and then on disk."""

    def __init__(self) -> None:
        """Start empty."""
        self._ends = array("Q", [0])
        self._numbers = array("I")
        self._file: IO[bytes] | None = None

    def extend(self, sizes: array[int], hashes: array[int]) -> None:
        """Take the numbers of further texts, one text after the other."""
        for size in sizes:
            self._ends.append(self._ends[-1] + size)
        self._numbers.extend(hashes)
        if len(self._numbers) > _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
            weakref.finalize(self, self._file.close)
        self._file.write(self._numbers.tobytes())
        self._numbers = array("I")

    def view(self) -> memoryview:
        """Return the bytes of all numbers from where they lie."""
        if self._file is None:
            return memoryview(self._numbers).cast("B")
        self._spill()
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def shared(self, view: memoryview, first: pl.Series, second: pl.Series) -> pl.DataFrame:
        """Return for each pair of places how many different numbers each has (`one`, `two`), and both (`shared`)."""
        places = pl.concat([first, second]).unique().sort()
        values, ends = array("I"), array("q", [0])
        for place in places:
            values.frombytes(view[4 * self._ends[place] : 4 * self._ends[place + 1]])
            ends.append(len(values))
        lists = list_series(values, ends)
        texts = pl.DataFrame({"place": places, "hashes": lists, "size": lists.list.n_unique()})
        pairs = pl.DataFrame({"first": first, "second": second})
        pairs = pairs.join(texts, left_on="first", right_on="place", maintain_order="left")
        pairs = pairs.join(texts, left_on="second", right_on="place", maintain_order="left")
        both = pl.col("hashes").list.set_intersection(pl.col("hashes_right")).list.len()
        return pairs.select(one=pl.col("size"), two=pl.col("size_right"), shared=both)


def near_pairs(bands: pl.DataFrame, hashes: Hashes, texts: int, threshold: float) -> Iterator[Pair]:
    """Yield the near pairs among `texts` texts, but for those already joined by a chain of others.

    `bands` has the place of each text that is to be compared, and BANDS numbers: texts that agree in one of them are
    candidates. Near is a Jaccard similarity of `threshold` or more, measured on the `hashes`.
    """
    few = bands.height <= FEW
    tries = _TRIES if few else _TRIES_OF_MANY
    ranked = _ranked(_candidates(bands, _BEFORE if few else _BEFORE_OF_MANY), tries)
    if not few:
        ranked = ranked.filter((pl.col("shared") > 1) | (pl.col("rank") < _WEAK_TRIES))
    groups, view = _Groups(texts), hashes.view()
    start = 0
    while start < tries and ranked.height:
        # Ranks 0, 1, 2-3, 4-7, …: what an early candidate joins, a late one need not.
        end = max(1, 2 * start)
        tried, ranked = ranked.filter(pl.col("rank") < end), ranked.filter(pl.col("rank") >= end)
        slices = groups.apart(tried).iter_slices(_MEASURED)
        with ThreadPoolExecutor(_THREADS) as pool:
            for pairs in pool.map(lambda one: _near(one, hashes, view, threshold), slices):
                yield from groups.joining(pairs)
        start = end


class _Groups:
    """Which texts are joined by now."""

    def __init__(self, texts: int) -> None:
        self._parents = array("I", range(texts))

    def apart(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Return the pairs that are not in one group yet."""
        parents = buffer_series(self._parents, 0, len(self._parents))
        while not (higher := parents.gather(parents)).equals(parents):
            parents = higher
        return pairs.filter(parents.gather(pairs["place"]) != parents.gather(pairs["other"]))

    def joining(self, pairs: pl.DataFrame) -> Iterator[Pair]:
        """Join the groups of pairs, and yield those that were apart."""
        for other, place, similarity in pairs.iter_rows():
            low, high = sorted((root_of(self._parents, place), root_of(self._parents, other)))
            if low != high:
                self._parents[high] = low
                yield Pair(other, place, similarity)


def root_of(parents: array[int], place: int) -> int:
    """Return the first member of the group of `place`, shortening the way to it."""
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _near(pairs: pl.DataFrame, hashes: Hashes, view: memoryview, threshold: float) -> pl.DataFrame:
    """Return the pairs that are near: other, place and their similarity."""
    counts = hashes.shared(view, pairs["other"], pairs["place"])
    united = pl.col("one") + pl.col("two") - pl.col("shared")
    measured = pairs.select("other", "place").hstack(counts).filter(pl.col("shared") > 0)
    return measured.select("other", "place", similarity=pl.col("shared") / united).filter(
        pl.col("similarity") >= threshold
    )


def _candidates(bands: pl.DataFrame, before: int) -> pl.DataFrame:
    """Return for each text the earlier ones that agree with it in a band: the first, and those just before it.

    Columns: the text's place, then for each band `before` + 1 places, null where there is none.
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
    return pl.DataFrame(made)


def _ranked(candidates: pl.DataFrame, tries: int) -> pl.DataFrame:
    """Return the best candidates of each text: place, other, in how many columns they met (shared), and the rank."""
    made = [
        part.unpivot(index="place", value_name="other")
        .drop_nulls("other")
        .group_by("place", "other", maintain_order=False)
        .agg(shared=pl.len())
        .sort("place", "shared", "other", descending=[False, True, False])
        .with_columns(rank=pl.int_range(pl.len(), dtype=pl.UInt32).over("place"))
        .filter(pl.col("rank") < tries)
        for part in candidates.iter_slices(_RANKED)
    ]
    empty = pl.DataFrame(schema=dict.fromkeys(("place", "other", "shared", "rank"), pl.UInt32))
    return pl.concat([empty, *made])
