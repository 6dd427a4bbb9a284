"""The rows that a query matches, as a sequence of row numbers that a list can page through."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import overload

import polars as pl

from tunedesk.core.row_sets import RowSet


class Matches(Sequence[int]):
    """Row numbers in the order they are shown, never made into Python objects until asked for.

    `parts` holds spans of them: a range, or a column of numbers. After a finished search there is one part for each
    chunk of the dataset (`aligned`), so that a refined query looks at these rows alone.
    """

    def __init__(
        self, parts: Sequence[pl.Series | range], *, aligned: bool = False, ordered: bool = True
    ) -> None:
        self.parts = tuple(parts)
        self.aligned = aligned
        self.ordered = ordered
        """Whether they ascend."""
        self._ends = list(accumulate(len(part) for part in parts))

    @classmethod
    def all(cls, count: int) -> Matches:
        """Return all rows of a dataset in order."""
        return cls([range(count)])

    def without(self, rows: Sequence[int]) -> Matches:
        """Return the matches but for a few rows."""
        if not rows:
            return self
        gone = pl.Series(list(rows), dtype=pl.UInt32).implode()
        kept = [part.filter(~part.is_in(gone)) for part in map(_column, self.parts)]
        return Matches(kept, aligned=self.aligned, ordered=self.ordered)

    def followed_by(self, rows: Sequence[int]) -> Matches:
        """Return the matches and a few more rows behind them."""
        more = pl.Series(list(rows), dtype=pl.UInt32)
        ordered = self.ordered and (not len(self) or self[len(self) - 1] < min(rows, default=0))
        return Matches([*self.parts, more], ordered=ordered) if rows else self

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        """Return the row number at a place; a slice of consecutive places costs no more than what it returns."""
        if isinstance(place, slice):
            return self._slice(place)
        wanted = place + len(self) if place < 0 else place
        if not 0 <= wanted < len(self):
            raise IndexError(place)
        number = bisect_right(self._ends, wanted)
        part = self.parts[number]
        index: int = part[wanted - self._ends[number] + len(part)]
        return index

    def _slice(self, place: slice) -> list[int]:
        start, stop, step = place.indices(len(self))
        if step != 1:
            return [self[wanted] for wanted in range(start, stop, step)]
        found: list[int] = []
        for taken in self._between(start, stop):
            found += taken.to_list() if isinstance(taken, pl.Series) else taken
        return found

    def _between(self, start: int, stop: int) -> Iterator[pl.Series | range]:
        number = bisect_right(self._ends, start)
        while start < stop and number < len(self.parts):
            part = self.parts[number]
            begin = start - self._ends[number] + len(part)
            yield part[begin : begin + stop - start]
            start, number = self._ends[number], number + 1

    def chosen(self, start: int, stop: int) -> RowSet:
        """Return the set of the row numbers from one place to before another."""
        return RowSet.of(self._between(start, stop))

    @cached_property
    def as_set(self) -> RowSet:
        """The set of all row numbers."""
        return RowSet.of(self.parts)

    def __contains__(self, index: object) -> bool:
        """Whether a row number is among them."""
        return isinstance(index, int) and self.position(index) is not None

    def __iter__(self) -> Iterator[int]:
        for part in self.parts:
            yield from part.to_list() if isinstance(part, pl.Series) else part

    def position(self, index: int) -> int | None:
        """Return the place of a row number, None when it is not among them."""
        passed = 0
        for part in self.parts:
            if isinstance(part, range):
                if index in part:
                    return passed + part.index(index)
            elif self.ordered:
                if len(part) and part[0] <= index <= part[-1]:
                    place = int(part.search_sorted(index))
                    return passed + place if part[place] == index else None
            else:
                found = (part == index).arg_true()
                if len(found):
                    return passed + int(found[0])
            passed += len(part)
        return None

    def series(self) -> pl.Series:
        """Return all row numbers as one column, for core alone."""
        parts = [_column(part) for part in self.parts]
        return pl.concat(parts) if parts else pl.Series([], dtype=pl.UInt32)


def _column(part: pl.Series | range) -> pl.Series:
    return pl.Series(part, dtype=pl.UInt32) if isinstance(part, range) else part
