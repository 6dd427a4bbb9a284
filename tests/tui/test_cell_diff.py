"""Writing changed cells only gives the same screen as writing all of them, for fewer bytes."""

from __future__ import annotations

import random
import re

import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from tunedesk.tui import cell_diff
from tunedesk.tui.cell_diff import Cell, CellScreen, cells_of

WIDTH, HEIGHT = 30, 6


class Terminal:
    """Understands what CellScreen sends: absolute moves, SGR, characters of one or two cells."""

    def __init__(self) -> None:
        self.rows: list[list[Cell]] = [[(" ", "")] * WIDTH for _ in range(HEIGHT)]

    def feed(self, text: str) -> None:
        x = y = 0
        codes = ""
        for move, sgr, character in re.findall(r"\x1b\[(\d+;\d+)H|\x1b\[([\d;]*)m|([^\x1b])", text):
            if move:
                y, x = (int(part) - 1 for part in move.split(";"))
            elif character:
                cells = cells_of([Strip([Segment(character)])], None)
                for offset, (shown, _) in enumerate(cells):
                    self.rows[y][x + offset] = (shown, codes)
                x += len(cells)
            else:
                codes = sgr.removeprefix("0;")


def random_row(generator: random.Random) -> list[Cell]:
    styles = [None, Style(color="red"), Style(bold=True, bgcolor="#102030")]
    strips, width = [], 0
    while width < WIDTH:
        text = generator.choice(["ab", "日", "x", "    ", "é", "本x"])
        strip = Strip([Segment(text, generator.choice(styles))])
        if width + strip.cell_length <= WIDTH:
            strips.append(strip)
            width += strip.cell_length
    return cells_of(strips, ColorSystem.TRUECOLOR)


@pytest.mark.parametrize("seed", range(20))
def test_the_terminal_shows_what_was_painted_after_any_changes(seed: int) -> None:
    generator = random.Random(seed)
    screen, terminal = CellScreen(), Terminal()
    screen.resize(WIDTH, HEIGHT)
    wanted: list[list[Cell]] = [[]] * HEIGHT
    for y in range(HEIGHT):
        wanted[y] = random_row(generator)
    terminal.feed(screen.update(dict(enumerate(wanted))))
    for _ in range(30):
        y = generator.randrange(HEIGHT)
        wanted[y] = random_row(generator)
        terminal.feed(screen.update({y: wanted[y]}))
        assert terminal.rows == wanted


def test_what_did_not_change_is_not_sent() -> None:
    screen = CellScreen()
    screen.resize(WIDTH, HEIGHT)
    row = cells_of([Strip([Segment("x" * WIDTH)])], None)
    assert len(screen.update({0: row})) > WIDTH
    assert screen.update({0: list(row)}) == ""
    changed = [*row[:5], ("y", ""), *row[6:]]
    assert screen.update({0: changed}) == "\x1b[1;6H\x1b[my\x1b[m"


def test_a_row_with_joined_marks_is_sent_whole() -> None:
    screen = CellScreen()
    screen.resize(4, 1)
    before = cells_of([Strip([Segment("e\u0301abc")])], None)
    screen.update({0: before})
    sent = screen.update({0: cells_of([Strip([Segment("e\u0301abd")])], None)})
    assert sent.startswith("\x1b[1;1H")
    assert "e\u0301abd" in sent


def test_a_resized_or_lost_screen_is_sent_whole() -> None:
    screen = CellScreen()
    screen.resize(4, 1)
    row = cells_of([Strip([Segment("abcd")])], None)
    screen.update({0: row})
    screen.forget()
    screen.resize(4, 1)
    assert "abcd" in screen.update({0: row})


def test_another_textual_writes_as_it_always_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cell_diff.supported()
    monkeypatch.setattr("textual.__version__", "9.0.0")
    assert not cell_diff.supported()
    monkeypatch.undo()
    monkeypatch.setattr(cell_diff, "LayoutUpdate", None)
    assert not cell_diff.supported()


@pytest.mark.parametrize("width", [WIDTH, WIDTH - 10])
def test_an_update_made_before_the_terminal_shrank_paints_what_is_still_there(width: int) -> None:
    cells = CellScreen()
    cells.resize(width, HEIGHT - 2)
    strips = [Strip([Segment(f"{y}" * WIDTH)]) for y in range(HEIGHT)]
    spans = [(y, 0, WIDTH) for y in range(HEIGHT)]
    chops = ChopsUpdate([{0: strip} for strip in strips], spans, [[WIDTH]] * HEIGHT)
    layout = LayoutUpdate([[strip] for strip in strips], Region(0, 1, WIDTH, HEIGHT))
    for update, first in ((chops, 0), (layout, 1)):
        rows = cell_diff._rows_of(update, cells, None)
        assert list(rows) == list(range(first, HEIGHT - 2))
        assert {len(row) for row in rows.values()} == {width}
        assert cells.update(rows)
