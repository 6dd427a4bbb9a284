"""The curves of the followed job and of those pinned beside it: loss on the left axis, token accuracy on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.reactive import reactive
from textual.timer import Timer

from tunedesk.core.diagnosis import Diagnosis
from tunedesk.core.fine_tuning import MetricPoint
from tunedesk.core.metrics import smooth
from tunedesk.tui.panes.job_view import JobView, model_name
from tunedesk.tui.widgets.chart import Line, Mark, Series
from tunedesk.tui.widgets.line_chart import LineChart

Measure = Literal["both", "loss", "accuracy"]
MEASURES: tuple[Measure, ...] = ("both", "loss", "accuracy")
"""What the measure key goes through."""
SMOOTHING = (0.0, 0.6, 0.9)
"""Weights of the moving average that the smoothing key goes through."""

_LONG, _SELDOM = 2_000, 1.0
"""Points from which a growing curve is drawn anew only so often, in seconds: drawing holds up keys."""

_Curve = tuple[str, str, str, Line]
"""Field of a point, name, letter and line."""
_LOSS: tuple[_Curve, ...] = (
    ("train_loss", "train", "T", "solid"),
    ("valid_loss", "validation", "V", "dashed"),
    ("full_valid_loss", "full validation", "F", "marks"),
)
_ACCURACY: tuple[_Curve, ...] = (
    ("train_mean_token_accuracy", "train acc", "t", "dotted"),
    ("valid_mean_token_accuracy", "validation acc", "v", "dashdot"),
    ("full_valid_mean_token_accuracy", "full acc", "f", "marks"),
)
_SMOOTHED = ("train_loss", "train_mean_token_accuracy")


class LossCurve(LineChart):
    """T is training, V validation on some rows, F validation on all; t, v, f their token accuracy; 1-9 pinned jobs."""

    BORDER_TITLE = "Curves"

    view: reactive[JobView] = reactive(JobView, init=False)
    """The job whose curves are drawn."""
    pinned: reactive[tuple[JobView, ...]] = reactive((), init=False)
    """Further jobs whose loss is laid over it, numbered from 1."""
    found: reactive[tuple[Diagnosis, ...]] = reactive((), init=False)
    """What the curve says: spikes are marked on the axis."""
    measure: reactive[Measure] = reactive("both", init=False)
    smoothing: reactive[float] = reactive(0.0, init=False)
    """Weight of the moving average over the training curves, 0 for none."""

    _due: Timer | None = None
    """Draws new points of a long curve a little later."""

    def on_mount(self) -> None:
        """Name the axes."""
        self.x_name = "step"
        self.show_curves()

    def watch_view(self, old: JobView, new: JobView) -> None:
        """Draw the new points; another job starts whole and without a cursor."""
        if old.key != new.key and old.job is not None:
            self.action_whole()
        if old.key != new.key or len(new.points) < _LONG:
            self.show_curves()
        elif self._due is None:
            self._due = self.set_timer(_SELDOM, self.show_curves)

    def show_curves(self) -> None:
        """Draw what is set."""
        self._due = None
        views = [self.view, *self.pinned]
        ends = [point.total_steps or 0 for view in views for point in view.points.values()]
        self.x_end = max(ends, default=0) or None
        smoothed = f" (smoothed {self.smoothing})" if self.smoothing else ""
        self.y_name = ("accuracy" if self.measure == "accuracy" else "loss") + smoothed
        self.empty = _why_empty(self.view)
        own = series_of(self.view.curve, self.measure, self.smoothing)
        over = [
            series
            for number, view in enumerate(self.pinned, 1)
            if view.key != self.view.key
            for series in pinned_series(view, number, self.measure, self.smoothing)
        ]
        self.series = (*over, *own)
        self.marks = marks_of(self.view, self.found)

    watch_measure = watch_smoothing = watch_pinned = watch_found = show_curves

    def next_smoothing(self) -> float:
        """Go to the next smoothing and return its weight."""
        self.smoothing = SMOOTHING[(SMOOTHING.index(self.smoothing) + 1) % len(SMOOTHING)]
        return self.smoothing

    def next_measure(self) -> Measure:
        """Go to the next measure and return it."""
        self.measure = MEASURES[(MEASURES.index(self.measure) + 1) % len(MEASURES)]
        return self.measure


def series_of(curve: Sequence[MetricPoint], measure: Measure, smoothing: float = 0.0) -> tuple[Series, ...]:
    """Return the curves that have points; smoothing goes over the training curves alone."""
    shown: list[Series] = []
    wanted = {"both": (*_LOSS, *_ACCURACY), "loss": _LOSS, "accuracy": _ACCURACY}[measure]
    for attribute, name, letter, line in wanted:
        points = _points(curve, attribute, smoothing)
        if points:
            right = measure == "both" and (attribute, name, letter, line) in _ACCURACY
            hue = ([one[0] for one in _LOSS] + [one[0] for one in _ACCURACY]).index(attribute) % 3
            shown.append(Series(name, letter, points, line, right, hue))
    return tuple(shown)


def pinned_series(view: JobView, number: int, measure: Measure, smoothing: float) -> list[Series]:
    """Return a pinned job's training and validation curve under its number, of loss unless accuracy is shown alone."""
    wanted = _ACCURACY if measure == "accuracy" else _LOSS
    name = model_name(view.job) if view.job else ""
    found = []
    for attribute, what, _, line in wanted[:2]:
        points = _points(view.curve, attribute, smoothing)
        if points:
            found.append(Series(f"{name} {what}", str(number), points, line, hue=2 + number))
    return found


def _points(
    curve: Sequence[MetricPoint], attribute: str, smoothing: float
) -> tuple[tuple[float, float], ...]:
    points = [(point.step, getattr(point, attribute)) for point in curve]
    points = [(step, value) for step, value in points if value is not None]
    if smoothing and attribute in _SMOOTHED:
        values = smooth([value for _, value in points], smoothing)
        points = [(step, value) for (step, _), value in zip(points, values, strict=True)]
    return tuple((float(step), float(value)) for step, value in points)


def marks_of(view: JobView, found: Sequence[Diagnosis]) -> tuple[Mark, ...]:
    """Return where loss spiked and checkpoints were saved, the best starred."""
    spikes = [step for one in found if one.code == "spike" for step in one.steps]
    marks = [Mark(step, "!", "! spike: Enter opens its conversations") for step in spikes]
    best = view.best
    for one in view.checkpoints:
        if best is None or one.id != best.id:
            marks.append(Mark(one.step, "◆", "◆ checkpoint"))
    if best is not None:
        marks.append(Mark(best.step, "★", "★ best checkpoint"))
    return tuple(marks)


def _why_empty(view: JobView) -> str:
    if view.job is None:
        return "no job chosen: enter on a job shows its curves"
    if view.points:
        return "the provider tells no points of this measure; a switches"
    if view.job.is_final:
        return f"the job {view.job.status} without telling a point"
    return "no point yet: the first comes after the first training step"
