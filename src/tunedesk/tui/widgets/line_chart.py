"""A line chart with keys: a cursor that reads the values out, zoom, pan, a log scale (chart.py draws it)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tunedesk.tui.widgets.chart import COLOURS, Chart, Drawn, Mark, Piece, Plotter, Series

_CLOSEST = 4
"""Points of the densest curve that stay in sight however far one zooms in."""


class LineChart(Widget, can_focus=True):
    """Curves over one x axis, read out by a cursor, zoomed and panned."""

    DEFAULT_CSS = """
    LineChart {
        height: 1fr;
        & .line-chart--axis { color: $text-muted; }
        & .line-chart--cursor { color: $text; text-style: bold; }
        & .line-chart--mark { color: $text; text-style: bold; }
        & .line-chart--series-0 { color: $primary; }
        & .line-chart--series-1 { color: $warning; }
        & .line-chart--series-2 { color: $success; }
        & .line-chart--series-3 { color: $error; }
        & .line-chart--series-4 { color: $secondary; }
        & .line-chart--series-5 { color: $accent; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-chart--axis",
        "line-chart--cursor",
        "line-chart--mark",
        *(f"line-chart--series-{n}" for n in range(COLOURS)),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "read(-1)", "Read left", id="chart.left", show=False, tooltip="Read the values further left"),
        Binding("right", "read(1)", "Read right", id="chart.right", show=False,
                tooltip="Read the values further right"),
        Binding("shift+left,ctrl+left", "read(-10)", "Ten left", id="chart.left-ten", show=False,
                tooltip="Read ten cells further left"),
        Binding("shift+right,ctrl+right", "read(10)", "Ten right", id="chart.right-ten", show=False,
                tooltip="Read ten cells further right"),
        Binding("home", "read_edge(0)", "First", id="chart.first", show=False, tooltip="Read the first values"),
        Binding("end", "read_edge(-1)", "Last", id="chart.last", show=False, tooltip="Read the last values"),
        Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", id="chart.in", show=False,
                tooltip="Show half of the steps, around what is read out"),
        Binding("minus", "zoom(2.0)", "Zoom out", id="chart.out", show=False, tooltip="Show twice as many steps"),
        Binding("less_than_sign", "pan(-1)", "Pan left", id="chart.pan-left", show=False,
                tooltip="Show the steps before"),
        Binding("greater_than_sign", "pan(1)", "Pan right", id="chart.pan-right", show=False,
                tooltip="Show the steps after"),
        Binding("0", "whole", "Whole curve", id="chart.whole", show=False,
                tooltip="Show all steps, and read nothing out"),
        Binding("enter", "choose", "Open", id="chart.choose", show=False, tooltip="Open what is read out"),
    ]  # fmt: skip

    series: reactive[tuple[Series, ...]] = reactive(())
    """What is drawn; a later series lies over an earlier one."""
    marks: reactive[tuple[Mark, ...]] = reactive(())
    """Signs on the x axis."""
    log_scale: reactive[bool] = reactive(False)
    """Whether the left y axis is logarithmic; values at or below 0 are then left out."""
    cursor: reactive[float | None] = reactive(None)
    """The x that is read out, None when nothing is."""
    window: reactive[tuple[float, float] | None] = reactive(None)
    """The part of the x axis that is shown, None for all of it."""
    x_end: reactive[float | None] = reactive(None)
    """Where the x axis ends at least, for curves whose end is known before it is reached."""
    x_name: reactive[str] = reactive("x")
    y_name: reactive[str] = reactive("")
    empty: reactive[str] = reactive("nothing to draw yet")
    """What is said in place of an empty chart."""

    @dataclass
    class CursorMoved(Message):
        """The read-out moved to another x."""

        x: float

    @dataclass
    class Chosen(Message):
        """Enter was pressed."""

        x: float | None
        """The x that is read out, None when nothing is."""

    def watch_series(self) -> None:
        """Draw anew."""
        self._drawn = None

    watch_marks = watch_log_scale = watch_x_end = watch_x_name = watch_y_name = watch_empty = watch_series
    watch_window = watch_cursor = watch_series

    _drawn: Drawn | None = None
    _drawn_size: tuple[int, int] = (0, 0)

    @cached_property
    def _plotter(self) -> Plotter:
        return Plotter()

    @property
    def chart(self) -> Chart:
        """What is drawn, as one value."""
        return Chart(
            self.series, self.marks, self.x_name, self.y_name, self.log_scale, self.cursor,
            self.x_end, self.window,
        )  # fmt: skip

    # -- the read-out

    def action_read(self, columns: int) -> None:
        """Move the read-out by about `columns` cells to a value that has a point; the first key shows it at the end."""
        xs, span = self.chart.xs, self.chart.span
        if span is None:
            return
        if self.cursor is None:
            low, high = self.window or span
            inside = [x for x in xs if low <= x <= high] or xs
            self.read(inside[-1] if columns < 0 else inside[0])
            return
        low, high = self.window or span
        cell = (high - low) / max(1, self.size.width - 10)
        index = min(len(xs) - 1, max(0, bisect_right(xs, self.cursor) - 1))
        wanted = self.cursor + columns * cell
        while 0 <= index + (way := 1 if columns > 0 else -1) < len(xs):
            index += way
            if (xs[index] - wanted) * way >= -1e-9:
                break
        self.read(xs[index])

    def action_read_edge(self, index: int) -> None:
        """Read out the first (0) or last (-1) values."""
        if xs := self.chart.xs:
            self.read(xs[index])

    def action_choose(self) -> None:
        """Tell that Enter was pressed."""
        self.post_message(self.Chosen(self.cursor))

    def read(self, x: float) -> None:
        """Read out the values at `x`, and bring it into sight."""
        self.cursor = x
        if self.window is not None and not self.window[0] <= x <= self.window[1]:
            low, high = self.window
            self._show_part(x - (high - low) / 2, high - low)
        self.post_message(self.CursorMoved(x))

    def on_click(self, event: events.Click) -> None:
        """Read out what was clicked on."""
        xs, frame = self.chart.xs, self._drawn and self._drawn.frame
        if xs and frame:
            share = (event.x - frame.left) / max(1, frame.width - 1)
            wanted = frame.x.low + share * (frame.x.high - frame.x.low)
            self.read(min(xs, key=lambda x: abs(x - wanted)))

    # -- zoom

    def action_zoom(self, factor: float) -> None:
        """Show a shorter (below 1) or longer part of the x axis, around the read-out or else at its end."""
        span = self.chart.span
        if span is None:
            return
        low, high = self.window or span
        length = max((high - low) * factor, self._closest())
        if length >= span[1] - span[0]:
            self.window = None
            return
        middle = self.cursor if self.cursor is not None and low <= self.cursor <= high else (low + high) / 2
        share = (middle - low) / (high - low)
        self._show_part(middle - share * length, length)

    def action_pan(self, way: int) -> None:
        """Show the part of the x axis before (-1) or after (1) this one, a third further."""
        if self.window is not None:
            low, high = self.window
            self._show_part(low + way * (high - low) / 3, high - low)

    def action_whole(self) -> None:
        """Show all of the x axis and read nothing out."""
        self.window = self.cursor = None

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in."""
        event.stop()
        self.action_zoom(0.5)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out."""
        event.stop()
        self.action_zoom(2.0)

    def _show_part(self, low: float, length: float) -> None:
        span = self.chart.span
        if span is not None:
            low = max(span[0], min(low, span[1] - length))
            self.window = (low, low + length)

    def _closest(self) -> float:
        """Return the shortest part worth showing: a few points of the densest curve at the read-out."""
        xs = self.chart.xs
        if len(xs) <= _CLOSEST:
            return xs[-1] - xs[0] if len(xs) > 1 else 1.0
        place = bisect_left(xs, self.cursor if self.cursor is not None else xs[-1])
        first = max(0, min(place - _CLOSEST // 2, len(xs) - 1 - _CLOSEST))
        return xs[first + _CLOSEST] - xs[first]

    # -- painting

    def notify_style_update(self) -> None:
        """Draw again in the colours of a new theme."""
        super().notify_style_update()
        self._drawn = None

    def render_line(self, y: int) -> Strip:
        """Return one line of the chart."""
        size = (self.size.width, self.size.height)
        if self._drawn is None or self._drawn_size != size:
            self._drawn, self._drawn_size = self._plotter.draw(self.chart, *size, self.empty), size
        lines = self._drawn.lines
        return self._strip(lines[y]) if y < len(lines) else Strip.blank(size[0], self.rich_style)

    def _strip(self, pieces: Sequence[Piece]) -> Strip:
        strip = Strip([Segment(text, self._painted(kind)) for text, kind in pieces if text])
        return strip.adjust_cell_length(self.size.width, self.rich_style)

    def _painted(self, kind: str) -> Style:
        if not kind:
            return self.rich_style
        name = "cursor" if kind == "under" else kind
        style = self.get_component_rich_style(f"line-chart--{name}")
        return style + Style(reverse=True) if kind == "under" else style
