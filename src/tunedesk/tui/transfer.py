"""How fast work goes or bytes move, and how long the rest will take, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

_WINDOW = 5.0
"""Seconds over which speed is measured."""
_FIRST = 1.0
"""Seconds before anything is said of the time that is left."""


class Pace:
    """How fast something comes along: what was done, with its times."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._began = clock()
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])

    def speed(self, done: int) -> float:
        """Take note of how much is done by now, and return what was done a second of late."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        return max(0.0, (done - before) / (now - began)) if now > began else 0.0

    def left(self, done: int, total: int) -> str:
        """Return how long the rest will take, empty as long as that cannot be told."""
        speed = self.speed(done)
        if not speed or total <= done or self._clock() - self._began < _FIRST:
            return ""
        return f"{_span((total - done) / speed)} left"


class Transfer:
    """Bytes that have moved, with their times."""

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        """`name` is what moves; `clock` tells seconds."""
        self.name = name
        self._pace = Pace(clock)

    def text(self, done: int, total: int) -> str:
        """Return how far it is: part, speed over the last seconds, time left."""
        speed = self._pace.speed(done)
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
