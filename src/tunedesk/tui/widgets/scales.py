"""Axes: where a value lies between two ends, round numbers to write beside them, and those numbers in few letters."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values of one axis to 0..1, linearly or by their logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where `value` lies: 0 at `low`, 1 at `high`."""
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def ticks(low: float, high: float, most: int, *, log: bool = False, cover: bool = False) -> list[float]:
    """Return about `most` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`.

    On a log scale they are 1, 2 and 5 times powers of ten while at least two of those fit, else as on a linear one.
    With `cover` the first and the last lie outside the range, or as good as on its ends.
    """
    if log:
        for factors in ((1, 2, 5), (1, 3), (1,)):
            marks = [
                factor * 10.0**power
                for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
                for factor in factors
            ]
            marks = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
            if 2 <= len(marks) <= most:
                return marks
    step = _step((high - low) / max(1, most - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if cover:
        first, last = math.floor(low / step + 0.05), math.ceil(high / step - 0.05)
    return [round(step * n, 12) for n in range(first, last + 1)]


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def y_axis(values: list[float], rows: int, *, log: bool) -> tuple[Scale, list[float]]:
    """Return the scale of a y axis over `values` on so many rows, and its ticks."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low * 0.9, high * 1.1) if low > 0 else (low - 1, high + 1)
    roomy = rows >= 12 and not log
    most = max(3, rows // (2 if log else 4))
    found = ticks(low, high, most, log=log, cover=roomy)
    if len(found) < 2:
        found = ticks(low, high, 5)
    if len(found) < 2:
        found = [low, high]
    return Scale(min((low, *found)), max((high, *found)), log), found


def number(value: float) -> str:
    """Return `value` in at most four figures, as short as it can be told."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"
