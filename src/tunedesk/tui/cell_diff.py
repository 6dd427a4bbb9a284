"""Send only the cells that changed: a page of a table costs half the bytes, a cursor move a fifth.

Textual repaints each dirty region in full, every segment with its own colour codes. `DiffOutput` keeps the cells last
sent and writes the changed runs. It overrides `App._display`, which is private to Textual: on any version but the one
it was proved against, or when a name is missing, output is Textual's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import textual
from rich.cells import split_graphemes
from rich.color import ColorSystem
from rich.console import RenderableType
from rich.style import Style
from textual.app import App
from textual.events import Resize
from textual.screen import Screen
from textual.strip import Strip

try:
    from textual._compositor import ChopsUpdate, LayoutUpdate
except ImportError:  # another Textual: `supported` says no
    ChopsUpdate = LayoutUpdate = None  # type: ignore[assignment, misc]

PROVED_VERSION = "8.2.8"
"""Of Textual: the version whose private drawing this module was compared with, cell by cell."""

Cell = tuple[str, str]
"""One terminal cell: the character (empty in the right half of a wide one) and its SGR parameters."""

_NARROW = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u2010-\u2027\u2500-\u259f]*")
"""Text of one cell a character: Latin, dashes, quotes, the lines and blocks that frames and bars are drawn with."""
_UNKNOWN: Cell = ("\0", "")
_JOIN_RUNS = 6
"""Unchanged cells that are cheaper to send again than to jump over (a cursor move is 6 to 9 bytes)."""


def supported() -> bool:
    """Whether this Textual draws as the one that `DiffOutput` was proved against."""
    return (
        textual.__version__ == PROVED_VERSION
        and LayoutUpdate is not None
        and all(hasattr(App, name) for name in ("_display", "_begin_update", "_end_update"))
    )


@lru_cache(maxsize=4096)
def _sgr(style: Style | None, system: ColorSystem | None) -> str:
    return "" if style is None or system is None else style._make_ansi_codes(system)


def cells_of(strips: Iterable[Strip], system: ColorSystem | None) -> list[Cell]:
    """Return the cells that `strips`, side by side, paint; marks of no width join the cell before them."""
    cells: list[Cell] = []
    for strip in strips:
        for text, style, control in strip:
            if control:
                continue
            codes = _sgr(style, system)
            if _NARROW.fullmatch(text):
                cells.extend([(character, codes) for character in text])
            else:
                _add_wide(cells, text, codes)
    return cells


def _add_wide(cells: list[Cell], text: str, codes: str) -> None:
    for start, end, width in split_graphemes(text)[0]:
        if width:
            cells.append((text[start:end], codes))
            cells.extend([("", codes)] * (width - 1))
        elif cells:
            cells[-1] = (cells[-1][0] + text[start:end], codes)


class CellScreen:
    """The cells that the terminal shows, as far as we sent them."""

    def __init__(self) -> None:
        """Start knowing nothing: the first update is sent whole."""
        self._rows: list[list[Cell]] = []
        self._width = 0

    def forget(self) -> None:
        """Assume nothing about what the terminal shows, so that all of the next update is sent."""
        self._rows = []

    def resize(self, width: int, height: int) -> None:
        """Follow the terminal's size; any change forgets what was shown."""
        if len(self._rows) != height or self._width != width:
            self._rows = [[_UNKNOWN] * width for _ in range(height)]
            self._width = width

    @property
    def height(self) -> int:
        """Rows of the terminal."""
        return len(self._rows)

    def row(self, y: int) -> list[Cell]:
        """Return a copy of row `y` to paint on."""
        return list(self._rows[y])

    def update(self, rows: dict[int, list[Cell]]) -> str:
        """Take `rows` as shown from now on and return the escape sequences that change the terminal to them."""
        out: list[str] = []
        codes: str | None = None
        for y, new in rows.items():
            old = self._rows[y]
            if new == old:
                continue
            for start, end in _changed_runs(old, new):
                out.append(f"\x1b[{y + 1};{start + 1}H")
                for character, wanted in new[start:end]:
                    if wanted != codes:
                        out.append(f"\x1b[0;{wanted}m" if wanted else "\x1b[m")
                        codes = wanted
                    out.append(" " if character == "\0" else character)
            self._rows[y] = new
        return "".join(out) + "\x1b[m" if out else ""


def _changed_runs(old: Sequence[Cell], new: Sequence[Cell]) -> list[tuple[int, int]]:
    """Return [start, end) of what differs, near runs joined; the whole row where cells hold joined marks.

    Terminals disagree on the width of joined marks, so such a row is always sent from its start, as Textual does.
    """
    if _has_joined_marks(old) or _has_joined_marks(new):
        return [(0, len(new))]
    runs: list[tuple[int, int]] = []
    for x, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if runs and x - runs[-1][1] <= _JOIN_RUNS:
            runs[-1] = (runs[-1][0], x + 1)
        else:
            runs.append((x, x + 1))
    return [_whole_characters(start, end, old, new) for start, end in runs]


def _has_joined_marks(row: Sequence[Cell]) -> bool:
    characters = [character for character, _ in row]
    return not "".join(characters).isascii() and max(map(len, characters), default=0) > 1


def _whole_characters(start: int, end: int, old: Sequence[Cell], new: Sequence[Cell]) -> tuple[int, int]:
    """Widen a run so that it cuts no wide character, neither one now shown nor one shown before."""
    while start > 0 and (new[start][0] == "" or old[start][0] == ""):
        start -= 1
    while end < len(new) and (new[end][0] == "" or old[end][0] == ""):
        end += 1
    return start, end


class DiffOutput(App[None]):
    """An app that writes changed cells only; plain Textual output when that is not `supported`."""

    _cells: CellScreen | None = None

    def on_mount(self) -> None:
        """Start comparing, and forget the screen whenever another program had the terminal."""
        if supported():
            self._cells = CellScreen()
        self.app_resume_signal.subscribe(self, lambda _: self.draw_again(), immediate=True)

    def draw_again(self) -> None:
        """Draw everything: another program wrote over the screen, or had it meanwhile."""
        self.forget_cells()
        self.refresh(layout=True)

    def on_resize(self, event: Resize) -> None:
        """Forget the screen: terminals reflow what they show."""
        self.forget_cells()

    def forget_cells(self) -> None:
        """Send the whole screen with the next update."""
        if self._cells is not None:
            self._cells.forget()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        cells, driver = self._cells, self._driver
        drawn = isinstance(renderable, LayoutUpdate | ChopsUpdate) if cells is not None else False
        if not drawn or cells is None or driver is None or driver.is_inline or self._batch_count:
            if renderable is not None and not self._batch_count:
                self.forget_cells()
            super()._display(screen, renderable)
            return
        if not self._running or self._closed or self.is_headless:
            self.post_display_hook()
            return
        try:
            name = self.console.color_system
            system = ColorSystem[name.upper().replace("256", "EIGHT_BIT")] if name in _SYSTEMS else None
            cells.resize(*self.size)
            text = cells.update(_rows_of(renderable, cells, system))
            cursor = self.screen.outer_size.clamp_offset(self.cursor_position)
            if text or cursor != self._previous_cursor_position:
                self._begin_update()
                driver.write(f"{text}\x1b[{cursor.y + 1};{cursor.x + 1}H")
                self._end_update()
                driver.flush()
                self._previous_cursor_position = cursor
        finally:
            self.post_display_hook()


_SYSTEMS = {"standard", "256", "truecolor"}


def _rows_of(update: Any, cells: CellScreen, system: ColorSystem | None) -> dict[int, list[Cell]]:
    """Return the rows that a compositor update paints, over what they showed before.

    One that was made before the terminal shrank paints rows that are not there any more: they are left out.
    """
    rows: dict[int, list[Cell]] = {}
    if isinstance(update, LayoutUpdate):
        x, y, _width, _height = update.region
        for offset, strips in enumerate(update.strips[: max(0, cells.height - y)]):
            painted = cells_of(strips, system)
            row = cells.row(y + offset)
            rows[y + offset] = _over(row, x, painted)
        return rows
    for y, x1, x2 in update.spans:
        if y >= cells.height:
            continue
        row = rows[y] if y in rows else cells.row(y)
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is None or x > x2 or end <= x1:
                continue
            painted = cells_of([strip], system)
            whole = x2 > x >= x1 and end <= x2
            row = _over(row, x, painted if whole else painted[: max(0, min(end, x2) - x)])
        rows[y] = row
    return rows


def _over(row: list[Cell], x: int, painted: list[Cell]) -> list[Cell]:
    width = len(row)
    row[x : x + len(painted)] = painted
    return row[:width]
