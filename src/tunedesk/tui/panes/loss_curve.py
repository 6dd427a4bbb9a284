"""The curves of the selected job: loss or token accuracy, of training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.reactive import reactive

from tunedesk.core.fine_tuning import MetricPoint
from tunedesk.core.metrics import smooth
from tunedesk.tui.panes.job_view import JobView
from tunedesk.tui.widgets.chart import Series
from tunedesk.tui.widgets.line_chart import LineChart

Measure = Literal["loss", "accuracy"]
SMOOTHING = (0.0, 0.6, 0.9)
"""Weights of the moving average that the smoothing key goes through."""

_CURVES: dict[Measure, tuple[tuple[str, str, str, Literal["solid", "dashed", "marks"]], ...]] = {
    "loss": (
        ("train_loss", "train", "T", "solid"),
        ("valid_loss", "validation", "V", "dashed"),
        ("full_valid_loss", "full validation", "F", "marks"),
    ),
    "accuracy": (
        ("train_mean_token_accuracy", "train", "T", "solid"),
        ("valid_mean_token_accuracy", "validation", "V", "dashed"),
        ("full_valid_mean_token_accuracy", "full validation", "F", "marks"),
    ),
}
"""For each measure: field of a point, name, letter and line."""


class LossCurve(LineChart):
    """T is training, V validation on some rows, F validation on all rows at the end of an epoch."""

    BORDER_TITLE = "Curves"

    view: reactive[JobView] = reactive(JobView, init=False)
    """The job whose curves are drawn."""
    measure: reactive[Measure] = reactive("loss", init=False)
    smoothing: reactive[float] = reactive(0.0, init=False)
    """Weight of the moving average over the training curve, 0 for none."""

    def on_mount(self) -> None:
        """Name the axes."""
        self.x_name = "step"
        self._show()

    def watch_view(self, old: JobView, new: JobView) -> None:
        """Draw the new points; another job starts without a cursor."""
        if (old.job and old.job.id) != (new.job and new.job.id):
            self.cursor = None
        self._show()

    def watch_measure(self) -> None:
        """Draw the other measure."""
        self._show()

    def watch_smoothing(self) -> None:
        """Draw with the other smoothing."""
        self._show()

    def next_smoothing(self) -> float:
        """Go to the next smoothing and return its weight."""
        self.smoothing = SMOOTHING[(SMOOTHING.index(self.smoothing) + 1) % len(SMOOTHING)]
        return self.smoothing

    def toggle_measure(self) -> Measure:
        """Switch between loss and accuracy and return what is shown now."""
        self.measure = "accuracy" if self.measure == "loss" else "loss"
        return self.measure

    def _show(self) -> None:
        curve = self.view.curve
        self.y_name = self.measure + (f" (smoothed {self.smoothing})" if self.smoothing else "")
        self.x_end = max((point.total_steps or 0 for point in curve), default=0) or None
        self.empty = _why_empty(self.view)
        self.series = series_of(curve, self.measure, self.smoothing)


def series_of(curve: Sequence[MetricPoint], measure: Measure, smoothing: float = 0.0) -> tuple[Series, ...]:
    """Return the curves that have points; smoothing goes over the training curve alone."""
    shown = []
    for attribute, name, letter, line in _CURVES[measure]:
        points = [(point.step, getattr(point, attribute)) for point in curve]
        points = [(step, value) for step, value in points if value is not None]
        if smoothing and line == "solid":
            values = smooth([value for _, value in points], smoothing)
            points = [(step, value) for (step, _), value in zip(points, values, strict=True)]
        if points:
            shown.append(
                Series(name, letter, tuple((float(step), float(value)) for step, value in points), line)
            )
    return tuple(shown)


def _why_empty(view: JobView) -> str:
    if view.job is None:
        return "no job chosen: enter on a job shows its curves"
    if view.points:
        return "the provider tells no points of this measure; a switches"
    if view.job.is_final:
        return f"the job {view.job.status} without telling a point"
    return "no point yet: the first comes after the first training step"
