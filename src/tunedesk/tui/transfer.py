"""How fast bytes move and how long the rest will take, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

_WINDOW = 5.0
"""Seconds over which speed is measured."""


class Transfer:
    """Bytes that have moved, with their times."""

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        """`name` is what moves; `clock` tells seconds."""
        self.name = name
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def text(self, done: int, total: int) -> str:
        """Return how far it is: part, speed over the last seconds, time left."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        span = now - began
        speed = (done - before) / span if span > 0 else 0.0
        part = f"{done / total:.0%} of {size_text(total)}" if total else size_text(done)
        parts = [f"{self.name} {part}"]
        if speed > 0:
            parts.append(f"{size_text(round(speed))}/s")
        if speed > 0 and total > done:
            parts.append(f"{_span((total - done) / speed)} left")
        return " · ".join(parts)


def size_text(count: int) -> str:
    """Return a number of bytes in at most four figures."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{count} B"


def _span(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} m {whole % 60:02} s"
