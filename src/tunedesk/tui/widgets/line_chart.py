"""A line chart in braille dots: axes, legend, log scale, and a cursor that reads the values out.

Knows nothing of what it draws. Series are told apart without colour: by solid, dashed or dotted lines, and by
the letter of the legend at the end of each.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tunedesk.tui.widgets.braille import DASHED, DOTTED, SOLID, Canvas

Line = Literal["solid", "dashed", "dotted", "marks"]
_PATTERNS = {"solid": SOLID, "dashed": DASHED, "dotted": DOTTED}
_SAMPLES = {"solid": "──", "dashed": "╌╌", "dotted": "┈┈", "marks": "  "}
_COLOURS = 6
"""Number of component classes for series; later series start over."""


@dataclass(frozen=True, slots=True)
class Series:
    """One named curve."""

    name: str
    letter: str
    """One character: stands in the legend and at the curve's end (or at every point of `marks`)."""
    points: tuple[tuple[float, float], ...]
    """(x, y), by rising x."""
    line: Line = "solid"


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


def number(value: float) -> str:
    """Return `value` in at most four figures, as short as it can be told."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


class LineChart(Widget, can_focus=True):
    """Curves over one x axis. `left`/`right` move the read-out, `g` switches the log scale."""

    DEFAULT_CSS = """
    LineChart {
        height: 1fr;
        & .line-chart--axis { color: $text-muted; }
        & .line-chart--cursor { color: $text; text-style: bold; }
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
        *(f"line-chart--series-{n}" for n in range(_COLOURS)),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left",
            "read(-1)",
            "Read left",
            id="chart.left",
            show=False,
            tooltip="Read the values further left",
        ),
        Binding(
            "right",
            "read(1)",
            "Read right",
            id="chart.right",
            show=False,
            tooltip="Read the values further right",
        ),
        Binding("shift+left,ctrl+left", "read(-10)", "Ten left", id="chart.left-ten", show=False),
        Binding("shift+right,ctrl+right", "read(10)", "Ten right", id="chart.right-ten", show=False),
        Binding(
            "home", "read_edge(0)", "First", id="chart.first", show=False, tooltip="Read the first values"
        ),
        Binding("end", "read_edge(-1)", "Last", id="chart.last", show=False, tooltip="Read the last values"),
    ]

    series: reactive[tuple[Series, ...]] = reactive((), layout=False)
    """What is drawn; a later series lies over an earlier one."""
    log_scale: reactive[bool] = reactive(False)
    """Whether the y axis is logarithmic; values at or below 0 are then left out."""
    cursor: reactive[float | None] = reactive(None)
    """The x that is read out, None when nothing is."""
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

    def watch_series(self) -> None:
        """Draw the new curves."""
        self._plot = None

    watch_log_scale = watch_x_end = watch_x_name = watch_y_name = watch_empty = watch_series

    _plot: list[Strip] | None = None
    _plot_size: tuple[int, int] = (0, 0)

    @property
    def xs(self) -> list[float]:
        """All x values that have a point, rising."""
        return sorted({x for series in self.series for x, _ in self._points(series)})

    def action_read(self, columns: int) -> None:
        """Move the read-out by about `columns` cells to a value that has a point; the first key shows it at the end."""
        xs = self.xs
        if not xs:
            return
        if self.cursor is None:
            self._read(xs[-1] if columns < 0 else xs[0])
            return
        cell = (max(xs[-1], self.x_end or 0) - xs[0]) / max(1, self.size.width - 10)
        index = min(len(xs) - 1, max(0, bisect_right(xs, self.cursor) - 1))
        wanted = self.cursor + columns * cell
        while 0 <= index + (way := 1 if columns > 0 else -1) < len(xs):
            index += way
            if (xs[index] - wanted) * way >= -1e-9:
                break
        self._read(xs[index])

    def action_read_edge(self, index: int) -> None:
        """Read out the first (0) or last (-1) values."""
        if xs := self.xs:
            self._read(xs[index])

    def action_hide_cursor(self) -> None:
        """Stop reading out; the legend shows the last values again."""
        self.cursor = None

    def on_click(self, event: events.Click) -> None:
        """Read out what was clicked on."""
        xs = self.xs
        if xs and self._frame is not None:
            gutter, width, x_scale = self._frame
            share = (event.x - gutter) / max(1, width - 1)
            wanted = x_scale.low + share * (x_scale.high - x_scale.low)
            self._read(min(xs, key=lambda x: abs(x - wanted)))

    def _read(self, x: float) -> None:
        self.cursor = x
        self.post_message(self.CursorMoved(x))

    def watch_cursor(self) -> None:
        """Draw the read-out elsewhere."""
        self._plot = None

    # -- drawing

    _frame: tuple[int, int, Scale] | None = None
    """Columns left of the plot, its width in cells, and its x scale, as last drawn."""

    def notify_style_update(self) -> None:
        """Draw again in the colours of a new theme."""
        super().notify_style_update()
        self._plot = None

    def render_line(self, y: int) -> Strip:
        """Return one line of the chart."""
        size = (self.size.width, self.size.height)
        if self._plot is None or self._plot_size != size:
            self._plot, self._plot_size = self._draw(*size), size
        return self._plot[y] if y < len(self._plot) else Strip.blank(size[0], self.rich_style)

    def _points(self, series: Series) -> Sequence[tuple[float, float]]:
        if self.log_scale:
            return [point for point in series.points if point[1] > 0]
        return series.points

    def _draw(self, width: int, height: int) -> list[Strip]:
        shown = [self._points(series) for series in self.series]
        values = [point for points in shown for point in points]
        rows = height - 3
        if not values or rows < 2 or width < 20:
            self._frame = None
            return [Strip([Segment(self.empty[:width], self._style("axis"))]) for _ in range(min(1, height))]
        x_scale, y_scale, y_ticks = self._scales(values, rows)
        labels = [number(tick) for tick in y_ticks]
        gutter = max(len(label) for label in labels) + 2
        plot_width = width - gutter
        self._frame = (gutter, plot_width, x_scale)
        canvas = Canvas(plot_width, rows)
        for index, points in enumerate(shown):
            self._trace(canvas, index, points, x_scale, y_scale)
        lines = [self._legend(width)]
        at = {
            round((1 - y_scale.at(tick)) * (rows - 1)): label
            for tick, label in zip(y_ticks, labels, strict=True)
        }
        column = None if self.cursor is None else round(x_scale.at(self.cursor) * (plot_width - 1))
        for row in range(rows):
            label = at.get(row)
            side = f"{label:>{gutter - 2}} ┤" if label is not None else " " * (gutter - 1) + "│"
            lines.append(Strip([Segment(side, self._style("axis")), *self._row(canvas, row, column)]))
        return lines + self._x_axis(x_scale, gutter, plot_width, column)

    def _scales(self, values: list[tuple[float, float]], rows: int) -> tuple[Scale, Scale, list[float]]:
        x_low, x_high = min(x for x, _ in values), max(x for x, _ in values)
        x_high = max(x_high, self.x_end or x_high)
        low, high = min(y for _, y in values), max(y for _, y in values)
        if low == high:
            low, high = (low * 0.9, high * 1.1) if low > 0 else (low - 1, high + 1)
        roomy = rows >= 12 and not self.log_scale
        most = max(3, rows // (2 if self.log_scale else 4))
        y_ticks = ticks(low, high, most, log=self.log_scale, cover=roomy)
        if len(y_ticks) < 2:
            y_ticks = ticks(low, high, 5)
        if len(y_ticks) < 2:
            y_ticks = [low, high]
        y_scale = Scale(min((low, *y_ticks)), max((high, *y_ticks)), self.log_scale)
        return Scale(x_low, x_high if x_high > x_low else x_low + 1), y_scale, y_ticks

    def _trace(
        self,
        canvas: Canvas,
        index: int,
        points: Sequence[tuple[float, float]],
        x_scale: Scale,
        y_scale: Scale,
    ) -> None:
        series = self.series[index]
        dots = [
            (
                round(x_scale.at(x) * (canvas.dots_wide - 1)),
                round((1 - y_scale.at(y)) * (canvas.dots_high - 1)),
            )
            for x, y in points
        ]
        if series.line == "marks":
            for x, y in dots:
                canvas.glyph(x, y, series.letter, index)
        elif dots:
            canvas.path(list(_thinned(dots)), index, _PATTERNS[series.line])
            canvas.glyph(*dots[-1], series.letter, index)

    def _row(self, canvas: Canvas, row: int, column: int | None) -> Iterable[Segment]:
        run, owner = "", -1
        for x, (character, drawn_by) in enumerate(canvas.cells(row)):
            if x == column:
                if run:
                    yield Segment(run, self._owner_style(owner))
                run = ""
                here = self._style("cursor") + Style(reverse=drawn_by >= 0)
                yield Segment("│" if character == " " else character, here)
                continue
            if run and drawn_by != owner:
                yield Segment(run, self._owner_style(owner))
                run = ""
            run, owner = run + character, drawn_by
        if run:
            yield Segment(run, self._owner_style(owner))

    def _x_axis(self, scale: Scale, gutter: int, width: int, column: int | None) -> list[Strip]:
        line, labels = ["─"] * width, [" "] * (gutter + width)
        name = f" {self.x_name}"
        room = width - len(name)
        free = 0
        for tick in ticks(scale.low, scale.high, max(2, room // 10)):
            place = round(scale.at(tick) * (width - 1))
            text = number(tick)
            start = min(max(0, gutter + place - len(text) // 2), gutter + width - len(text))
            if start >= free and start + len(text) <= gutter + room:
                line[place] = "┬"
                labels[start : start + len(text)] = text
                free = start + len(text) + 1
        labels[gutter + room :] = name
        axis = self._style("axis")
        if column is not None:
            line[column] = "┴"
        corner = " " * (gutter - 1) + "└"
        return [Strip([Segment(corner + "".join(line), axis)]), Strip([Segment("".join(labels), axis)])]

    def _legend(self, width: int) -> Strip:
        segments: list[Segment] = []
        if self.cursor is not None:
            segments.append(Segment(f"{self.x_name} {number(self.cursor)}  ", self._style("cursor")))
        head = f"{self.y_name}{' (log)' if self.log_scale else ''}"
        full = width >= sum(len(series.name) + 16 for series in self.series) + len(head) + 10
        for index, series in enumerate(self.series):
            points = self._points(series)
            if not points:
                continue
            style = self._owner_style(index)
            name = f" {series.name}" if full else ""
            sample = "" if series.line == "marks" else f"{_SAMPLES[series.line]}"
            segments.append(Segment(f"{sample}{series.letter}{name} ", style))
            segments.append(Segment(f"{self._value(points)}  ", self._style("cursor")))
        if head:
            segments.append(Segment(head, self._style("axis")))
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def _value(self, points: Sequence[tuple[float, float]]) -> str:
        """Return the value at the cursor (or at the last point before it, with its x); without a cursor the last."""
        if self.cursor is None:
            return number(points[-1][1])
        index = bisect_right(points, self.cursor, key=lambda point: point[0]) - 1
        if index < 0:
            return "–"
        x, y = points[index]
        return number(y) if x == self.cursor else f"{number(y)} (at {number(x)})"

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"line-chart--{part}")

    def _owner_style(self, owner: int) -> Style:
        return self.rich_style if owner < 0 else self._style(f"series-{owner % _COLOURS}")


def _thinned(dots: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Yield at most four points a column of dots: where the curve enters, its lowest, highest, and where it leaves."""
    start = 0
    while start < len(dots):
        x = dots[start][0]
        end = start
        while end < len(dots) and dots[end][0] == x:
            end += 1
        column = [y for _, y in dots[start:end]]
        for y in dict.fromkeys((column[0], min(column), max(column), column[-1])):
            yield x, y
        start = end
