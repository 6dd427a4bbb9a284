"""Partial paints: what Textual would show, from the widgets and lines concerned alone, the row with its list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual._compositor import ChopsUpdate, Compositor
from textual.app import App, ComposeResult
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.widget import Widget

from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame, until
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.cell_diff import Cell, CellScreen, _rows_of
from tunedesk.tui.dirty_paint import DirtyCompositor
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.screens.data import DataScreen
from tunedesk.tui.widgets.line_scrollbar import LineScrollBar
from tunedesk.tui.widgets.scrolled import Scrolled

KEYS = (
    "pagedown down down up pagedown enter down tab end home escape slash c a r d escape w v escape x u "
    "question_mark escape s escape C escape y p escape 2 3 1 space shift+down"
)


def painted(update: ChopsUpdate | None, size: tuple[int, int]) -> dict[int, list[Cell]]:
    """Return the cells that an update paints on an empty screen."""
    cells = CellScreen()
    cells.resize(*size)
    return {} if update is None else _rows_of(update, cells, ColorSystem.TRUECOLOR)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Have every partial paint made by Textual, too, and compared; how many lines each had."""
    ours, lines = DirtyCompositor.render_partial_update, []

    def both(self: DirtyCompositor) -> ChopsUpdate | None:
        regions = set(self._dirty_regions)
        mine = ours(self)
        self._dirty_regions = regions
        told = painted(Compositor.render_partial_update(self), self.size)
        assert painted(mine, self.size) == told
        lines.append(len(told))
        return mine

    monkeypatch.setattr(DirtyCompositor, "render_partial_update", both)
    yield lines
    assert lines


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """200 conversations, of which one is very long."""
    answers = [("sorry, 申し訳 " * 9 + str(number)) for number in range(200)]
    answers[30] = "long " * 12_000
    talks = [conversation(number, assistant=text) for number, text in enumerate(answers)]
    return write_rows(tmp_path / "rows.jsonl", talks)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_every_paint_is_what_textual_would_have_painted(
    tmp_path: Path, rows: Path, compared: list[int], size: tuple[int, int]
) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path), (str(rows),))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: bool(app.screen.query(ConversationList)) and app.workspace is not None)
        for key in KEYS.split():
            await pilot.press(key)
            await pilot.pause()
        app.notify("over the panes", title="A notice")
        await pilot.pause()
        await pilot.press("pagedown", "up")
        await pilot.resize_terminal(size[0] - 7, size[1] - 3)
        await pilot.press("pagedown")


async def test_the_conversation_comes_in_the_same_paint_as_the_list(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = [[]]
    partial, of_widget = DirtyCompositor.render_partial_update, Widget.render_lines

    def one_paint(self: DirtyCompositor) -> ChopsUpdate | None:
        asked.append([])
        return partial(self)

    def lines_of(self: Widget, crop: object) -> list[Strip]:
        asked[-1].append(type(self).__name__)
        return of_widget(self, crop)  # type: ignore[arg-type]

    app = TunedeskApp(lambda: workbench(tmp_path), (str(rows),))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and "Where is my loan" in frame(app))
        await pilot.pause(0.3)
        monkeypatch.setattr(DirtyCompositor, "render_partial_update", one_paint)
        monkeypatch.setattr(Widget, "render_lines", lines_of)
        await pilot.press("down")
        await until(pilot, lambda: any("ConversationList" in paint for paint in asked[1:]))
        first = next(paint for paint in asked[1:] if "ConversationList" in paint)
        assert "ConversationView" in first
        assert not {"DataScreen", "FilterBar", "ModeBar"} & set(first)  # nothing of them was dirty
        await pilot.press(*["down"] * 29)  # the long one is laid out after the list
        assert app.screen.query_one(ConversationList).index == 30
        await until(pilot, lambda: "more characters" in frame(app))


def test_lines_are_filtered_by_the_same_objects_at_every_paint(tmp_path: Path) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path))
    filtered = [app.get_line_filters(), app.get_line_filters()]
    assert [list(map(id, one)) for one in filtered] == [list(map(id, filtered[0]))] * 2


class Bars(App[None]):
    """One view with our bar."""

    def compose(self) -> ComposeResult:
        yield Scrolled()


@pytest.mark.parametrize("lines", [1, 20, 57, 400, 1_000_000])
async def test_a_line_scrollbar_looks_as_textuals(lines: int) -> None:
    async with Bars().run_test(size=(20, 20)) as pilot:
        view = pilot.app.query_one(Scrolled)
        view.set_lines(lines)
        for at in (0, 3, lines // 3, lines):
            view.scroll_to(0, at, animate=False, force=True)
            await pilot.pause()
            bar = view.vertical_scrollbar
            assert isinstance(bar, LineScrollBar)
            crop = bar.size.region
            assert bar.render_lines(crop) == ScrollBar.render_lines(bar, crop)
