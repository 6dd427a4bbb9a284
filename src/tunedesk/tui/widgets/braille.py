"""A drawing surface of braille dots, 2 × 4 in every terminal cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bit of each dot by column and row inside a cell (Unicode block U+2800)."""

Pattern = tuple[bool, ...]
"""Which dots along a path are drawn; it repeats."""
SOLID: Pattern = (True,)
DASHED: Pattern = (True, True, True, True, True, False, False, False)
DOTTED: Pattern = (True, False, False, False)
DASH_DOT: Pattern = (True, True, True, True, False, False, True, False, False)


class Canvas:
    """Dots and glyphs on a grid of `width` × `height` cells; every cell remembers who drew on it last."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._bits = [bytearray(width) for _ in range(height)]
        self._owners: list[list[int]] = [[-1] * width for _ in range(height)]
        self._glyphs: dict[tuple[int, int], str] = {}

    @property
    def dots_wide(self) -> int:
        """Number of dots from left to right."""
        return self.width * 2

    @property
    def dots_high(self) -> int:
        """Number of dots from top to bottom."""
        return self.height * 4

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set the dot at column `x`, row `y` (0, 0 is the top left); outside the surface it does nothing."""
        if 0 <= x < self.dots_wide and 0 <= y < self.dots_high:
            self._bits[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._owners[y // 4][x // 2] = owner

    def glyph(self, x: int, y: int, character: str, owner: int) -> None:
        """Put one character (one cell wide) on the cell under the dot at `x`, `y`, in place of its dots.

        Where another character stands already, it goes to the cell above or, if that is taken too, below.
        """
        for row in (y, y - 4, y + 4):
            cell = (row // 4, x // 2)
            if 0 <= x < self.dots_wide and 0 <= row < self.dots_high and cell not in self._glyphs:
                self._glyphs[cell] = character
                self._owners[cell[0]][cell[1]] = owner
                return

    def path(self, points: list[tuple[int, int]], owner: int, pattern: Pattern = SOLID) -> None:
        """Join the points (in dots) by straight lines; `pattern` runs on over the corners."""
        for count, (x, y) in enumerate(_walk(points)):
            if pattern[count % len(pattern)]:
                self.dot(x, y, owner)

    def cells(self, row: int) -> list[tuple[str, int]]:
        """Return the characters of one row of cells, each with its owner (-1 where nobody drew)."""
        return [
            (self._glyphs.get((row, column)) or (chr(0x2800 + bits) if bits else " "), owner)
            for column, (bits, owner) in enumerate(zip(self._bits[row], self._owners[row], strict=True))
        ]


def _walk(points: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield every dot on the way along `points`, corners once."""
    if points:
        yield points[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for step in range(1, steps + 1):
            yield x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps)
