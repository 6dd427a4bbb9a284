"""Sets of row numbers that take a bit a row, whatever they hold: a selection of ten million rows costs a megabyte."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import polars as pl

from tunedesk.core.datasets.arrow_parts import array_of, buffer_series

_AT_ONCE = 65_536
"""Rows that become Python numbers together while a set is walked."""


class RowSet(Set[int]):
    """A set of row numbers; what is made of it and another set is a `RowSet` too. It never changes."""

    def __init__(self, bits: pl.Series) -> None:
        """Hold the rows whose places are true in `bits`."""
        self._bits = bits
        self._count = int(bits.sum())

    @classmethod
    def of(cls, parts: Iterable[pl.Series | range]) -> RowSet:
        """Return the set of the rows in some columns (UInt32) and ranges."""
        parts = [part for part in parts if len(part)]
        size = max((part[-1] if isinstance(part, range) else part.max() for part in parts), default=-1) + 1  # type: ignore[type-var, operator]
        bits = _no_bits(int(size))
        for part in parts:
            if isinstance(part, range):
                more = [bits[: part.start], pl.repeat(True, len(part), dtype=pl.Boolean, eager=True)]
                bits = pl.concat([*more, bits[part.stop :]])
            else:
                bits = bits.scatter(part, True)
        return cls(bits)

    @classmethod
    def _from_iterable(cls, numbers: Iterable[int]) -> RowSet:  # type: ignore[override]
        return cls.of([pl.Series(list(numbers), dtype=pl.UInt32)])

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 0 <= number < len(self._bits) and bool(self._bits[number])

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self._bits), _AT_ONCE):
            for place in self._bits[start : start + _AT_ONCE].arg_true().to_list():
                yield start + place

    def __len__(self) -> int:
        return self._count

    def __or__(self, other: Any) -> RowSet:
        one, two = self._beside(other)
        return RowSet(one | two)

    def __and__(self, other: Any) -> RowSet:
        one, two = self._beside(other)
        return RowSet(one & two)

    def __sub__(self, other: Any) -> RowSet:
        one, two = self._beside(other)
        return RowSet(one & ~two)

    def __xor__(self, other: Any) -> RowSet:
        one, two = self._beside(other)
        return RowSet(one ^ two)

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    def __le__(self, other: Any) -> bool:
        return not self - other

    def array(self) -> array[int]:
        """Return the numbers in order (typecode I)."""
        return array_of(self._bits.arg_true())

    def all_marked(self, flags: bytearray, bits: int) -> bool:
        """Whether each row has one of some bits set in `flags`, a byte a row."""
        return not self.unmarked(flags, bits)

    def unmarked(self, flags: bytearray, bits: int) -> RowSet:
        """Return the rows that have none of some bits set in `flags`, a byte a row."""
        return self - RowSet((buffer_series(flags, 0, len(flags)) & bits) > 0)

    def _beside(self, other: Set[int]) -> tuple[pl.Series, pl.Series]:
        """Return the bits of both sets, equally long."""
        others = (other if isinstance(other, RowSet) else RowSet._from_iterable(other))._bits
        size = max(len(self._bits), len(others))
        return _long(self._bits, size), _long(others, size)


def _long(bits: pl.Series, size: int) -> pl.Series:
    return bits if len(bits) == size else pl.concat([bits, _no_bits(size - len(bits))])


def _no_bits(size: int) -> pl.Series:
    return pl.repeat(False, size, dtype=pl.Boolean, eager=True)


def holds(ordered: Sequence[int], number: int) -> bool:
    """Whether a row number is among sorted ones."""
    place = bisect_left(ordered, number)
    return place < len(ordered) and ordered[place] == number
