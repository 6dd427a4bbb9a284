"""What a loss curve says, in plain words and with the numbers that say it: a pure function of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median, pstdev

from tunedesk.core.fine_tuning import MetricPoint

_FEWEST = 6
"""Points of a curve below which nothing is said of its shape."""
_RISE = 0.03
"""Part of its lowest value by which validation loss must have risen to count as risen."""
_WINDOW = 10
"""Points before one that tell what was usual there."""
_FEW = 20
"""Conversations for validation below which a loss says little (OpenAI's guide advises at least 10 examples)."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that a curve says."""

    code: str
    """overfitting, spike, rate_too_high, rate_too_low, validation_small, still_falling, healthy."""
    text: str
    """What happened, in words."""
    evidence: str
    """The numbers that say so."""
    advice: str
    steps: tuple[int, ...] = ()
    """Where on the curve, the first step first."""


def diagnose(
    points: Sequence[MetricPoint], *, n_epochs: int | None = None, validation: int | None = None
) -> list[Diagnosis]:
    """Return what the points of a curve (by step) say, the gravest first; `healthy` alone when nothing is wrong.

    `n_epochs` lets steps be told as epochs, `validation` is the number of conversations held back (None when
    unknown). Nothing is said of a curve of fewer than six points but that validation is small.
    """
    last = max((point.total_steps or point.step for point in points), default=0)
    epochs = _Epochs(last, n_epochs)
    train = [(p.step, p.train_loss) for p in points if p.train_loss is not None]
    full = [(p.step, p.full_valid_loss) for p in points if p.full_valid_loss is not None]
    held = full if len(full) >= 2 else [(p.step, p.valid_loss) for p in points if p.valid_loss is not None]
    rate = _rate(train)
    found = [
        *rate,
        *_overfitting(train, held, epochs),
        *([] if rate else _spikes(train)),
        *_validation(held, validation),
        *_falling(train, held, epochs),
    ]
    if not found and len(train) >= _FEWEST:
        evidence = _span("training loss", train) + _also(held)
        advice = "compare the models on held-out questions"
        found.append(Diagnosis("healthy", "nothing looks wrong", evidence, advice))
    return found


Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class _Epochs:
    """How steps are told to a person."""

    steps: int
    n_epochs: int | None

    def at(self, step: int) -> str:
        """Return `epoch 2 (step 40)`, or the step alone when epochs are unknown."""
        if not self.n_epochs or not self.steps:
            return f"step {step}"
        epoch = min(self.n_epochs, 1 + (max(step, 1) - 1) * self.n_epochs // self.steps)
        return f"epoch {epoch} (step {step})"


def _overfitting(train: Curve, held: Curve, epochs: _Epochs) -> list[Diagnosis]:
    """Validation loss has a lowest point well before the end, rises after it, and training loss goes on falling."""
    if len(held) < 3 or len(train) < 3:
        return []
    smooth = _smoothed(held)
    low = min(range(len(smooth)), key=lambda place: smooth[place][1])
    lowest, last = smooth[low], smooth[-1]
    later = [value for _, value in smooth[low + 1 :]]
    if not later or last[1] < lowest[1] + max(_RISE * lowest[1], _chance(held)):
        return []
    before = [value for step, value in train if step <= lowest[0]][-_WINDOW:]
    after = [value for step, value in train if step > lowest[0]][-_WINDOW:]
    if not before or not after or median(after) >= median(before):
        return []
    first = smooth[low + 1][0]
    return [
        Diagnosis(
            "overfitting",
            f"overfitting from {epochs.at(first)}: it learns the training file by heart",
            f"validation loss rose from {lowest[1]:.3f} (step {lowest[0]}) to {last[1]:.3f} (step {last[0]}), "
            f"while training loss fell from {median(before):.3f} to {median(after):.3f}",
            f"use the checkpoint near step {lowest[0]}, train fewer epochs, or add conversations",
            (first, lowest[0]),
        )
    ]


def _spikes(train: Curve) -> list[Diagnosis]:
    """A training loss far above what was usual just before it, by that stretch's own spread."""
    found: list[tuple[int, float, float]] = []
    for place in range(_FEWEST, len(train)):
        before = [value for _, value in train[max(0, place - _WINDOW) : place]]
        usual = median(before)
        spread = max(median(abs(value - usual) for value in before) * 1.4826, 0.02 * usual)
        step, value = train[place]
        if value > usual + 6 * spread and value > usual * 1.5:
            found.append((step, value, usual))
    if not found:
        return []
    step, value, usual = max(found, key=lambda one: one[1] - one[2])
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return [
        Diagnosis(
            "spike",
            f"loss spike at step {step}{more}: conversations there are unlike the rest",
            f"training loss {value:.3f}, where {usual:.3f} was usual over the {_WINDOW} points before",
            "look at the conversations of that step: wrong answers, another language, broken text",
            (step, *(one for one, _, _ in found if one != step)),
        )
    ]


def _rate(train: Curve) -> list[Diagnosis]:
    """The learning rate: too high when loss ends above its start or swings ever wider, too low when it hardly moves."""
    if len(train) < _FEWEST:
        return []
    third = max(2, len(train) // 3)
    values = [value for _, value in train]
    start, end = median(values[:third]), median(values[-third:])
    jumps = [abs(after - before) for before, after in pairwise(values[-2 * third :])]
    if end > 0 and median(jumps) > 0.5 * end and end > start * 0.6:
        return [
            Diagnosis(
                "rate_too_high",
                "the learning rate is too high: the loss swings and does not settle",
                f"training loss changes by {median(jumps):.3f} from point to point around {end:.3f}",
                "train again with half of the learning rate multiplier, or a larger batch",
                (train[-1][0],),
            )
        ]
    if end > start * 1.1:
        return [
            Diagnosis(
                "rate_too_high",
                "the learning rate is too high: it unlearns instead of learning",
                f"training loss rose from {start:.3f} to {end:.3f}",
                "train again with half of the learning rate multiplier, or less",
                (train[-1][0],),
            )
        ]
    if len(train) >= 2 * _FEWEST and end > start * 0.97 and pstdev(values) < 0.05 * start:
        return [
            Diagnosis(
                "rate_too_low",
                "it hardly learns: the learning rate is too low, or there is nothing new in the data",
                f"training loss went from {start:.3f} to {end:.3f}",
                "train again with twice the learning rate multiplier, or more epochs",
                (train[-1][0],),
            )
        ]
    return []


def _validation(held: Curve, count: int | None) -> list[Diagnosis]:
    """Too few conversations are held back, or their loss jumps about more than it falls."""
    if count is not None and 0 < count < _FEW:
        return [
            Diagnosis(
                "validation_small",
                "validation is too small to trust its loss",
                f"{count} conversations are held back",
                f"hold back at least {_FEW}, better a tenth of the data",
            )
        ]
    if len(held) < 2 * _FEWEST:
        return []
    values = [value for _, value in held]
    jumps = fmean(abs(after - before) for before, after in pairwise(values))
    third = len(values) // 3
    change = abs(fmean(values[:third]) - fmean(values[-third:]))
    if jumps > 0.15 * median(values) and jumps > change:
        return [
            Diagnosis(
                "validation_small",
                "validation is too small: its loss jumps about more than it moves",
                f"it changes by {jumps:.3f} from point to point, and by {change:.3f} over the whole job",
                "hold back more conversations, and judge by full validation loss or by comparing answers",
            )
        ]
    return []


def _falling(train: Curve, held: Curve, epochs: _Epochs) -> list[Diagnosis]:
    """Both losses still fall clearly in the last third: more epochs would help."""
    if len(train) < 2 * _FEWEST or len(held) < 3:
        return []
    values = [value for _, value in train]
    third = len(values) // 3
    middle, end = median(values[third : 2 * third]), median(values[-third:])
    low = min(held, key=lambda one: one[1])
    if end < middle * 0.85 and low[0] == held[-1][0]:
        return [
            Diagnosis(
                "still_falling",
                "it was still learning when it stopped",
                f"training loss fell from {middle:.3f} to {end:.3f} in the last two thirds, and validation loss "
                f"was lowest at the end ({low[1]:.3f}, {epochs.at(low[0])})",
                "train one epoch more",
                (train[-1][0],),
            )
        ]
    return []


def _window(curve: Curve) -> int:
    """Neighbours on each side over which a curve of many noisy points is smoothed; 0 for one of few, an epoch each."""
    return max(2, len(curve) // 14) if len(curve) >= 2 * _FEWEST else 0


def _smoothed(curve: Curve) -> Curve:
    wide = _window(curve)
    return [
        (step, median(value for _, value in curve[max(0, place - wide) : place + wide + 1]))
        for place, (step, _) in enumerate(curve)
    ]


def _chance(curve: Curve) -> float:
    """How far the ends of a smoothed curve may lie apart by the noise of its points alone (about five deviations)."""
    wide = _window(curve)
    if not wide:
        return 0.0
    noise = 1.4826 * median(abs(after[1] - before[1]) for before, after in pairwise(curve)) / sqrt(2)
    return 5 * 1.25 * noise / sqrt(wide + 1)


def _span(name: str, curve: Curve) -> str:
    return f"{name} {curve[0][1]:.3f} → {curve[-1][1]:.3f}"


def _also(held: Curve) -> str:
    return f", {_span('validation loss', held)}" if held else ""
