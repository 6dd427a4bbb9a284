"""Loss curves: points from metrics events, checkpoints or a result file; smoothing, thinning, speed and time left."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise

from tunedesk.core.fine_tuning import Checkpoint, JobEvent, MetricPoint

_NAMES = tuple(f.name for f in fields(MetricPoint) if f.name not in ("step", "total_steps", "at"))
_ALIASES = {
    "train_accuracy": "train_mean_token_accuracy",
    "validation_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""Other spellings in result files: OpenAI's older header and Azure's (facts: providers 1.5)."""
_MOST = 2.0**53
"""No step or loss is larger; one that is was garbled."""


def point_from_event(event: JobEvent) -> MetricPoint | None:
    """Return the point that a metrics event tells, or None for any other event."""
    step = _number(event.data.get("step"))
    if event.type != "metrics" or step is None:
        return None
    return _point(int(step), event.data, event.created_at)


def point_from_checkpoint(checkpoint: Checkpoint) -> MetricPoint:
    """Return the point that a checkpoint's metrics tell (for providers without metrics events)."""
    return _point(checkpoint.step, checkpoint.metrics, 0)


def points_from_result_file(text: str) -> list[MetricPoint]:
    """Read a result file by header name, OpenAI's or Azure's; rows without a step are left out."""
    points = []
    for row in csv.DictReader(io.StringIO(text)):
        step = _number(row.get("step"))
        if step is not None:
            points.append(
                _point(int(step), {_ALIASES.get(key, key): value for key, value in row.items() if key}, 0)
            )
    return points


def _point(step: int, data: dict[str, object] | dict[str, float] | dict[str, str], at: int) -> MetricPoint:
    total = _number(data.get("total_steps"))
    values = {name: _number(data.get(name)) for name in _NAMES}
    return MetricPoint(step=step, total_steps=int(total) if total is not None else None, at=at, **values)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MOST else None


def best_checkpoint(
    checkpoints: Sequence[Checkpoint], points: Mapping[int, MetricPoint]
) -> Checkpoint | None:
    """Return the checkpoint with the lowest loss over the whole validation file, else on a batch of it, or None.

    What a checkpoint does not tell itself is taken from the curve's point of its step.
    """
    for name in ("full_valid_loss", "valid_loss"):
        told = [
            (loss, one)
            for one in checkpoints
            if (loss := one.metrics.get(name, getattr(points.get(one.step), name, None))) is not None
        ]
        if told:
            return min(told, key=lambda pair: pair[0])[1]
    return None


def merge(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Return the points by step, one a step, a later value filling what an earlier one left open."""
    merged: dict[int, MetricPoint] = {}
    for point in points:
        known = merged.get(point.step)
        if known is None:
            merged[point.step] = point
        else:
            told = {f.name: getattr(point, f.name) for f in fields(MetricPoint)}
            merged[point.step] = replace(
                known, **{name: value for name, value in told.items() if value is not None}
            )
    return [merged[step] for step in sorted(merged)]


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Return the exponential moving average of `values`, bias-corrected; `weight` in [0, 1), 0 changes nothing."""
    out: list[float] = []
    average = 0.0
    for count, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**count))
    return out


def thin(points: Sequence[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """Return at most about 2 × `width` points with the same shape: the lowest and highest of each of `width` spans."""
    if len(points) <= 2 * width:
        return list(points)
    out: list[tuple[float, float]] = []
    for span in range(width):
        bucket = points[span * len(points) // width : (span + 1) * len(points) // width]
        low, high = min(bucket, key=_y), max(bucket, key=_y)
        out.extend(sorted({low, high}))
    return out


def _y(point: tuple[float, float]) -> float:
    return point[1]


def steps_per_second(points: Sequence[MetricPoint], window: int = 30) -> float | None:
    """Return the recent speed from the times of the last `window` points, or None while it cannot be told.

    Event times have whole seconds, so two points with different times are needed. A span far longer than all
    others together is a pause, or the clock was set: it does not count, and neither does one in which time went back.
    """
    timed = [point for point in points if point.at][-window:]
    spans = [(after.step - one.step, after.at - one.at) for one, after in pairwise(timed)]
    spans = [span for span in spans if span[1] >= 0]
    longest = max(spans, key=lambda span: span[1], default=(0, 0))
    rest = sum(seconds for _, seconds in spans) - longest[1]
    if 0 < 3 * rest < longest[1]:
        spans.remove(longest)
    steps, seconds = sum(span[0] for span in spans), sum(span[1] for span in spans)
    return steps / seconds if seconds > 0 else None
