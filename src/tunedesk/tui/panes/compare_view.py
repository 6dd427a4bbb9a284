"""A comparison as the Compare screen holds it, grown answer by answer, and its figures in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunedesk.core.conversations import Conversation
from tunedesk.evaluate import Answer, CompareResult, Interval
from tunedesk.tui.panes.transcript import cost
from tunedesk.tui.widgets.plain import fit

METRICS = (
    ("similarity", "similarity, chrF", "{:.1f}", 1.0),
    ("house_style", "house lines, %", "{:.0f}", 100.0),
    ("length_ratio", "length ratio", "{:.2f}", 1.0),
    ("first_token_s", "first word, s", "{:.2f}", 1.0),
    ("tokens_per_second", "tokens/s", "{:.1f}", 1.0),
)
"""Field of ModelScore, what it is called, its number format, and what it is multiplied by."""


@dataclass(frozen=True, slots=True)
class CompareView:
    """What is compared on what, and how far it is."""

    source: str = ""
    """File or dataset with the held-out conversations."""
    profile: str = ""
    models: tuple[str, ...] = ()
    limit: int = 20
    """Most prompts that are asked."""
    items: tuple[Conversation, ...] = ()
    """The held-out conversations, once they are read."""
    answers: dict[tuple[int, str], Answer] = field(default_factory=dict)
    """By position of the item and model."""
    result: CompareResult | None = None
    """Scores over the items that all models have answered."""
    report: Path | None = None
    """The HTML report, once it is written."""

    @property
    def wanted(self) -> int:
        """Number of answers that a whole comparison has."""
        return len(self.items) * len(self.models)

    @property
    def known(self) -> list[Answer]:
        """The answers of the chosen models."""
        return [answer for answer in self.answers.values() if answer.model in self.models]

    @property
    def complete_items(self) -> int:
        """How many items, from the first on, all models have answered."""
        for position in range(len(self.items)):
            if not all(self._whole(position, model) for model in self.models):
                return position
        return len(self.items)

    def _whole(self, position: int, model: str) -> bool:
        answer = self.answers.get((position, model))
        return answer is not None and not answer.error

    def with_answer(self, answer: Answer) -> CompareView:
        """Return the view that holds one more answer."""
        return replace(self, answers=self.answers | {(answer.item, answer.model): answer})


def score_lines(result: CompareResult, width: int) -> list[str]:
    """Return the table of metrics: one row each, a column a model with its 95 % interval, then the change."""
    several = len(result.differences) > 1
    changes = [f"change of {one.model}" if several else "change" for one in result.differences]
    columns = [*result.models, *changes]
    label = 19
    room = min(32, max(10, (width - label) // len(columns) - 1))
    heads = [short_name(column, room) for column in columns]
    lines = [_row(f"{len(result.items)} prompts (95 %)", heads, label, room)]
    for attribute, title, form, factor in METRICS:
        cells = [_interval(getattr(score, attribute), form, factor) for score in result.scores]
        for difference in result.differences:
            change = getattr(difference, attribute, None)
            cells.append(_interval(change, form.replace(":", ":+"), factor))
        lines.append(_row(title, cells, label, room))
    failed = [f"{score.failed}" for score in result.scores]
    if any(score.failed for score in result.scores):
        lines.append(_row("without an answer", failed, label, room))
    return lines


def taken_lines(view: CompareView, cost_of: Callable[[Answer], float | None]) -> list[str]:
    """Return what the answers of each model took together, as far as the endpoint reported it."""
    lines = []
    for model in view.models:
        answers = [one for one in view.known if one.model == model]
        silent = sum(one.prompt_tokens is None for one in answers)
        costs = [cost_of(one) for one in answers]
        usd = None if None in costs else sum(one or 0.0 for one in costs)
        read = sum(one.prompt_tokens or 0 for one in answers)
        written = sum(one.completion_tokens for one in answers)
        unknown = f" and {silent} unknown" if silent else ""
        lines.append(f"{model}: {len(answers)} answers · {read:,}→{written:,} tokens{unknown} · {cost(usd)}")
    return lines


def short_name(model: str, width: int) -> str:
    """Return a model's name in at most `width` characters, cut in its middle: its ends tell it apart."""
    if len(model) <= width:
        return model
    tail = min(10, width // 2)
    return f"{model[: width - tail - 1]}…{model[-tail:]}"


def _row(label: str, cells: Sequence[str], width: int, room: int) -> str:
    return fit(label, width) + "".join(f" {fit(cell, room, right=True)}" for cell in cells)


def _interval(value: Interval | None, form: str, factor: float) -> str:
    if value is None:
        return "–"
    mean, low, high = (form.format(number * factor) for number in (value.mean, value.low, value.high))
    return f"{mean} ({low}…{high})"
