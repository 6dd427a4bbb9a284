"""What curves of known shapes say, and what they do not say."""

from __future__ import annotations

import math
import random

import pytest

from tunedesk.core.diagnosis import Diagnosis, diagnose
from tunedesk.core.fine_tuning import MetricPoint


def curve(
    train: list[float], held: list[float | None] | None = None, full: dict[int, float] | None = None
) -> list[MetricPoint]:
    held = held or [None] * len(train)
    return [
        MetricPoint(n, len(train), train_loss=t, valid_loss=v, full_valid_loss=(full or {}).get(n))
        for n, (t, v) in enumerate(zip(train, held, strict=True), 1)
    ]


def falling(count: int, noise: float = 0.05, seed: int = 1, end: float = 0.8) -> list[float]:
    drawn = random.Random(seed)
    return [end + 1.5 * math.exp(-n / count * 8) + drawn.gauss(0, noise) for n in range(count)]


def codes(found: list[Diagnosis]) -> list[str]:
    return [one.code for one in found]


def only(found: list[Diagnosis], code: str) -> Diagnosis:
    (one,) = [one for one in found if one.code == code]
    assert one.evidence
    assert one.advice
    return one


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_curve_is_called_healthy_whatever_its_noise(seed: int) -> None:
    train, held = falling(90, 0.06, seed), falling(90, 0.05, seed + 50, end=1.0)
    (one,) = diagnose(curve(train, [*held]))
    assert one.code == "healthy"
    assert "validation loss" in one.evidence


def test_overfitting_is_told_from_the_epoch_where_validation_turns() -> None:
    train = [2.0 - 1.8 * n / 120 for n in range(120)]
    full = {30: 1.5, 60: 1.3, 90: 1.42, 120: 1.6}
    one = only(diagnose(curve(train, full=full), n_epochs=4), "overfitting")
    assert "from epoch 3 (step 90)" in one.text
    assert one.steps == (90, 60)
    assert "from 1.300 (step 60) to 1.600 (step 120)" in one.evidence
    assert "step 60" in one.advice


@pytest.mark.parametrize("seed", range(6))
def test_overfitting_is_seen_through_the_noise_of_small_batches(seed: int) -> None:
    drawn = random.Random(seed)
    train = [2.0 - 1.8 * n / 200 + drawn.gauss(0, 0.05) for n in range(200)]
    held: list[float | None] = [1.2 + 0.6 * abs(n - 80) / 120 + drawn.gauss(0, 0.03) for n in range(200)]
    one = only(diagnose(curve(train, held)), "overfitting")
    assert 60 <= one.steps[0] <= 110


def test_a_validation_loss_that_rises_with_training_loss_is_no_overfitting() -> None:
    train = [1.0 + n / 50 for n in range(60)]
    held: list[float | None] = [1.0 + n / 40 for n in range(60)]
    assert codes(diagnose(curve(train, held))) == ["rate_too_high"]


def test_a_spike_is_told_with_its_step_and_what_was_usual() -> None:
    train = falling(100)
    train[60], train[80] = 4.0, 3.0
    one = only(diagnose(curve(train)), "spike")
    assert "step 61, and 1 more" in one.text
    assert one.steps == (61, 81)
    assert "4.000" in one.evidence


def test_a_learning_rate_that_is_too_high_is_told_by_rise_or_by_swings() -> None:
    assert codes(diagnose(curve([1.0 + 0.05 * n for n in range(40)]))) == ["rate_too_high"]
    swings = [2.0 if n % 2 else 0.6 for n in range(40)]
    assert "swings" in only(diagnose(curve(swings)), "rate_too_high").text


def test_a_curve_that_does_not_move_is_told() -> None:
    assert (
        "hardly learns"
        in only(diagnose(curve([1.5 + 0.001 * (n % 3) for n in range(40)])), "rate_too_low").text
    )


def test_a_small_validation_file_is_told_by_its_count_or_by_its_jumps() -> None:
    assert "7 conversations" in only(diagnose([], validation=7), "validation_small").evidence
    assert diagnose([], validation=40) == []
    drawn = random.Random(3)
    jumping: list[float | None] = [drawn.choice([0.6, 1.4]) for _ in range(60)]
    assert "jumps" in only(diagnose(curve(falling(60), jumping)), "validation_small").text


def test_a_job_that_stopped_too_early_is_told() -> None:
    train = [3.0 - 2.4 * n / 60 for n in range(60)]
    held: list[float | None] = [3.2 - 2.2 * n / 60 for n in range(60)]
    assert codes(diagnose(curve(train, held))) == ["still_falling"]


@pytest.mark.parametrize("count", range(6))
def test_nothing_is_said_of_a_handful_of_points(count: int) -> None:
    assert diagnose(curve([2.0, 9.0, 1.0, 8.0, 2.0][:count])) == []


def test_points_without_any_loss_are_no_fault() -> None:
    assert diagnose([MetricPoint(n) for n in range(50)]) == []
