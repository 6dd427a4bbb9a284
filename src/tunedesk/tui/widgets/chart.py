"""What a line chart shows and how it is drawn, in text: curves in braille dots over axes, a legend, marks.

Knows nothing of a terminal's colours: every piece of text comes with the name of how it is painted. Series are told
apart without colour by their lines (solid, dashed, dotted, dash and dot) and by the letter of the legend at the end
of each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tunedesk.tui.widgets.braille import DASH_DOT, DASHED, DOTTED, SOLID, Canvas
from tunedesk.tui.widgets.plain import fit
from tunedesk.tui.widgets.scales import Scale, number, ticks, y_axis

Line = Literal["solid", "dashed", "dotted", "dashdot", "marks"]
Piece = tuple[str, str]
"""A text and how it is painted: axis, cursor, under (a curve under the cursor), mark, series-N or empty."""
Points = Sequence[tuple[float, float]]
COLOURS = 6
"""Number of colours for series; later series start over."""
_PATTERNS = {"solid": SOLID, "dashed": DASHED, "dotted": DOTTED, "dashdot": DASH_DOT}
_SAMPLES = {"solid": "──", "dashed": "╌╌", "dotted": "┈┈", "dashdot": "─·", "marks": ""}
_LEAST = (20, 5)
"""Cells and lines below which nothing is drawn."""
_TWO_LEGENDS = 10
"""Rows of a chart from which its legend may take two."""
_RIGHT_FROM = 44
"""Columns of a chart from which it has a right axis."""


@dataclass(frozen=True, slots=True)
class Series:
    """One named curve."""

    name: str
    letter: str
    """One character: stands in the legend and at the curve's end (or at every point of `marks`)."""
    points: tuple[tuple[float, float], ...]
    """(x, y), by rising x."""
    line: Line = "solid"
    right: bool = False
    """Whether its values are read on the right axis."""
    hue: int | None = None
    """Number of its colour; its place among the series unless given."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign on the x axis, such as where a checkpoint was saved."""

    x: float
    sign: str
    """One character; of two marks on one cell the later one is seen."""
    name: str
    """What the legend says of it when it is read out."""


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn."""

    series: tuple[Series, ...] = ()
    marks: tuple[Mark, ...] = ()
    x_name: str = "x"
    y_name: str = ""
    log: bool = False
    """Whether the left axis is logarithmic; values at or below 0 are then left out."""
    cursor: float | None = None
    """The x that is read out."""
    x_end: float | None = None
    """Where the x axis ends at least."""
    window: tuple[float, float] | None = None
    """The part of the x axis that is shown, None for all of it."""

    def points(self, series: Series) -> Points:
        """Return the points of a series that can be drawn."""
        if self.log and not series.right:
            return [point for point in series.points if point[1] > 0]
        return series.points

    @property
    def xs(self) -> list[float]:
        """All x values that have a point, rising."""
        return sorted({x for series in self.series for x, _ in self.points(series)})

    @property
    def span(self) -> tuple[float, float] | None:
        """The whole x axis, None without points."""
        ends = [(points[0][0], points[-1][0]) for one in self.series if (points := self.points(one))]
        if not ends:
            return None
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        high = max(high, self.x_end or high)
        return low, high if high > low else low + 1


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the plot lies, for who asks what is under a click."""

    left: int
    """Columns before the plot."""
    width: int
    x: Scale


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart as lines of text."""

    lines: list[list[Piece]]
    frame: Frame | None = None
    """None when nothing is plotted."""


class Plotter:
    """Draws a chart, and keeps its curves: a moved cursor needs no other ones."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._series: tuple[Series, ...] = ()
        self._plot: _Plot | None = None

    def draw(self, chart: Chart, width: int, height: int, empty: str) -> Drawn:
        """Return `height` lines of `width` cells, or `empty` alone when there is nothing (or no room) to draw."""
        drawable = any(chart.points(one) for one in chart.series)
        if not drawable or height < _LEAST[1] or width < _LEAST[0]:
            told = "no room for the curves here" if drawable else empty
            return Drawn([[(fit(told, width), "axis")]] if height else [])
        legend = _legend(chart, width, 2 if height >= _TWO_LEGENDS else 1)
        rows = height - 2 - len(legend)
        plot = self._kept(chart, width, rows)
        column = _column(chart, plot.frame)
        lines = legend
        for row in range(rows):
            inside = list(_row(chart, plot.canvas, row, column))
            lines.append([_left_of(plot.left, row, plot.margins[0]), *inside, *_right_of(plot.right, row)])
        return Drawn([*lines, *_x_axis(chart, plot.frame, plot.margins, column)], plot.frame)

    def _kept(self, chart: Chart, width: int, rows: int) -> _Plot:
        key = (chart.log, chart.window, chart.x_end, width, rows)
        if self._plot is None or self._series is not chart.series or self._key != key:
            self._plot = _plotted(chart, width, rows)
            self._series, self._key = chart.series, key
        return self._plot


@dataclass(frozen=True, slots=True)
class _Plot:
    """Curves on their canvas, and the axes around them."""

    canvas: Canvas
    left: _Axis | None
    right: _Axis | None
    margins: tuple[int, int]
    """Columns left and right of the canvas."""
    frame: Frame


def _plotted(chart: Chart, width: int, rows: int) -> _Plot:
    low, high = chart.window or chart.span or (0.0, 1.0)
    shown = [_within(chart.points(one), low, high) for one in chart.series]
    left = _axis(chart, shown, rows, right=False)
    right = _axis(chart, shown, rows, right=True) if width >= _RIGHT_FROM else None
    margins = (left.width + 2 if left else 1, right.width + 2 if right else 0)
    frame = Frame(margins[0], width - sum(margins), Scale(low, high))
    canvas = Canvas(frame.width, rows)
    for index, (series, points) in enumerate(zip(chart.series, shown, strict=True)):
        axis = right if series.right else left
        if points and axis is not None:
            _trace(canvas, index, series, points, (frame.x, axis.scale))
    return _Plot(canvas, left, right, margins, frame)


def _column(chart: Chart, frame: Frame) -> int | None:
    if chart.cursor is None or not frame.x.low <= chart.cursor <= frame.x.high:
        return None
    return round(frame.x.at(chart.cursor) * (frame.width - 1))


def _within(points: Points, low: float, high: float) -> Points:
    """Return the points from `low` to `high`, with where the curve enters and leaves that part."""
    first = bisect_left(points, low, key=_x)
    last = bisect_right(points, high, key=_x)
    inside = list(points[first:last])
    if 0 < first < len(points) and points[first][0] > low:
        inside.insert(0, _between(points[first - 1], points[first], low))
    if 0 < last < len(points) and points[last - 1][0] < high:
        inside.append(_between(points[last - 1], points[last], high))
    return inside


def _x(point: tuple[float, float]) -> float:
    return point[0]


def _between(before: tuple[float, float], after: tuple[float, float], x: float) -> tuple[float, float]:
    share = (x - before[0]) / (after[0] - before[0])
    return x, before[1] + share * (after[1] - before[1])


# -- axes


@dataclass(frozen=True, slots=True)
class _Axis:
    """A y axis: its scale, and what is written beside which row."""

    scale: Scale
    labels: dict[int, str]

    @property
    def width(self) -> int:
        return max(len(label) for label in self.labels.values())


def _axis(chart: Chart, shown: Sequence[Points], rows: int, *, right: bool) -> _Axis | None:
    values = [
        y for one, points in zip(chart.series, shown, strict=True) if one.right == right for _, y in points
    ]
    if not values:
        return None
    scale, found = y_axis(values, rows, log=chart.log and not right)
    return _Axis(scale, {round((1 - scale.at(tick)) * (rows - 1)): number(tick) for tick in found})


def _left_of(axis: _Axis | None, row: int, width: int) -> Piece:
    label = axis.labels.get(row) if axis else None
    return (f"{label:>{width - 2}} ┤" if label is not None else " " * (width - 1) + "│", "axis")


def _right_of(axis: _Axis | None, row: int) -> Iterable[Piece]:
    if axis is not None:
        label = axis.labels.get(row)
        yield (f"├ {label:<{axis.width}}" if label is not None else "│" + " " * (axis.width + 1), "axis")


def _x_axis(chart: Chart, frame: Frame, margins: tuple[int, int], column: int | None) -> list[list[Piece]]:
    width, (left, right) = frame.width, margins
    line, labels = ["─"] * width, [" "] * (left + width + right)
    name = f" {chart.x_name}"
    room = width + right - len(name)
    free = 0
    for tick in ticks(frame.x.low, frame.x.high, max(2, room // 10)):
        place = round(frame.x.at(tick) * (width - 1))
        text = number(tick)
        start = max(0, left + place - len(text) // 2)
        if start >= free and start + len(text) <= left + room:
            line[place] = "┬"
            labels[start : start + len(text)] = text
            free = start + len(text) + 1
    labels[left + room :] = name
    if column is not None:
        line[column] = "┴"
    marked = {
        round(frame.x.at(mark.x) * (width - 1)): mark.sign
        for mark in chart.marks
        if frame.x.low <= mark.x <= frame.x.high
    }
    pieces: list[Piece] = [(" " * (left - 1) + "└", "axis")]
    for place, character in enumerate(line):
        sign = marked.get(place)
        pieces.append((sign or character, "mark" if sign else "axis"))
    end = "┘" + " " * (right - 1) if right else ""
    return [[*_joined(pieces), (end, "axis")], [("".join(labels), "axis")]]


# -- curves


def _trace(canvas: Canvas, index: int, series: Series, points: Points, scales: tuple[Scale, Scale]) -> None:
    x_scale, y_scale = scales
    dots = [
        (round(x_scale.at(x) * (canvas.dots_wide - 1)), round((1 - y_scale.at(y)) * (canvas.dots_high - 1)))
        for x, y in points
    ]
    if series.line == "marks":
        for x, y in dots:
            canvas.glyph(x, y, series.letter, index)
    else:
        canvas.path(list(thinned(dots)), index, _PATTERNS[series.line])
        canvas.glyph(*dots[-1], series.letter, index)


def _row(chart: Chart, canvas: Canvas, row: int, column: int | None) -> Iterable[Piece]:
    pieces: list[Piece] = []
    for x, (character, owner) in enumerate(canvas.cells(row)):
        if x != column:
            pieces.append((character, _paint(chart, owner)))
        else:
            pieces.append(("│" if character == " " else character, "under" if owner >= 0 else "cursor"))
    return _joined(pieces)


def _paint(chart: Chart, owner: int) -> str:
    if owner < 0:
        return ""
    hue = chart.series[owner].hue
    return f"series-{(owner if hue is None else hue) % COLOURS}"


def _joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Yield the pieces with neighbours that are painted alike as one."""
    run, kind = "", ""
    for text, painted in pieces:
        if run and painted != kind:
            yield run, kind
            run = ""
        run, kind = run + text, painted
    if run:
        yield run, kind


def thinned(dots: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
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


# -- the legend


def _legend(chart: Chart, width: int, rows: int) -> list[list[Piece]]:
    """Return the legend: names where they fit into `rows` lines, else letters; what fits neither way is counted."""
    head: list[Piece] = []
    if chart.cursor is not None:
        named = [mark.name for mark in chart.marks if mark.x == chart.cursor]
        told = f"{chart.x_name} {number(chart.cursor)}  " + "".join(f"{name}  " for name in named)
        head = [(told, "cursor")]
    items = [head] if head else []
    y_name = f"{chart.y_name}{' (log)' if chart.log else ''}"
    tail: list[list[Piece]] = [[(y_name, "axis")]] if y_name else []
    drawn = [index for index, one in enumerate(chart.series) if chart.points(one)]
    for names, ends in ((True, tail), (True, []), (False, tail), (False, [])):
        entries = [_entry(chart, index, names=names) for index in drawn]
        laid = _laid([*items, *entries, *ends], width, rows)
        if laid is not None:
            return laid
    while entries and laid is None:
        entries.pop()
        laid = _laid([*items, *entries, [(f"+{len(drawn) - len(entries)} more", "axis")]], width, rows)
    return laid or [[(" " * width, "axis")]]


def _entry(chart: Chart, index: int, *, names: bool) -> list[Piece]:
    series = chart.series[index]
    name = (f" {series.name}" if names else "") + ("→" if series.right else "")
    value = _value(chart, chart.points(series))
    return [
        (f"{_SAMPLES[series.line]}{series.letter}{name} ", _paint(chart, index)),
        (f"{value}  ", "cursor"),
    ]


def _laid(items: Sequence[list[Piece]], width: int, rows: int) -> list[list[Piece]] | None:
    """Return the items on at most `rows` lines, each filled up to `width`; None when they do not fit."""
    lines: list[list[Piece]] = [[]]
    for item in items:
        if lines[-1] and _cells(lines[-1]) + len("".join(text for text, _ in item).rstrip()) > width:
            lines.append([])
        lines[-1].extend(item)
    if len(lines) > rows or any(len("".join(text for text, _ in line).rstrip()) > width for line in lines):
        return None
    return [_filled(line, width) for line in lines]


def _filled(line: list[Piece], width: int) -> list[Piece]:
    over = _cells(line) - width
    if over > 0:  # blanks at the end
        text, kind = line[-1]
        return [*line[:-1], (text[: len(text) - over], kind)]
    return [*line, (" " * -over, "")]


def _cells(line: Sequence[Piece]) -> int:
    return sum(len(text) for text, _ in line)


def _value(chart: Chart, points: Points) -> str:
    """Return the value at the cursor (or at the last point before it, with its x); without a cursor the last."""
    if chart.cursor is None:
        return number(points[-1][1])
    index = bisect_right(points, chart.cursor, key=_x) - 1
    if index < 0:
        return "–"
    x, y = points[index]
    return number(y) if x == chart.cursor else f"{number(y)} (at {number(x)})"
