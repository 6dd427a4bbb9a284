"""The estimate in full: lengths against the limit, models side by side, where the tokens go, what past runs did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.tui.panes.estimate import cost_text, estimate_lines, time_text
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.core.counting.pricing import Estimate
    from tunedesk.core.counting.token_stats import Spread
    from tunedesk.core.counting.tokens import TokenStats
    from tunedesk.spending import Entry
    from tunedesk.tui.messages import TokensCounted

_BAR = 32
"""Width of the histogram's longest bar."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What one model takes for the same conversations."""

    model: str
    where: str
    """The provider's label."""
    stats: TokenStats
    estimate: Estimate
    notes: tuple[str, ...]
    """Price age and dates."""


@dataclass(frozen=True, slots=True)
class EstimateFacts:
    """What the dialog shows."""

    model: str
    counted: TokensCounted
    beside: tuple[Beside, ...]
    costliest: tuple[tuple[int, int], ...]
    """(line in the source, tokens), the longest conversations first."""
    runs: tuple[Entry, ...]
    """Past launches, the newest first."""
    can_measure: bool = False
    """Whether the speed of this machine can be measured for the model."""


class EstimateDialog(Dialog[str]):
    """Returns what is to be done next: trim, epochs, price, measure."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("T", "next('trim')", "Trim", id="estimate.trim", tooltip="Keep the last turns, or what fits"),
        Binding("e", "next('epochs')", "Epochs", id="estimate.epochs", tooltip="Reckon with so many epochs"),
        Binding("p", "next('price')", "Price", id="estimate.price", tooltip="Set your own price of the model"),
        Binding("b", "next('measure')", "Measure", id="estimate.measure",
                tooltip="Measure for some seconds how fast this machine trains the model"),
    ]  # fmt: skip

    def __init__(self, facts: EstimateFacts) -> None:
        """Show `facts`."""
        keys = "T trim · e epochs · p price" + (" · b measure" if facts.can_measure else "") + " · Esc close"
        super().__init__(f"Estimate for {facts.model}", keys)
        self._facts = facts

    def compose_body(self) -> Iterable[Widget]:
        """Yield all sections under one another."""
        with VerticalScroll(id="estimate-body"):
            yield Static(Content("\n").join(estimate_content(self._facts)), markup=False)

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave out the measurement where there is nothing to measure."""
        return self._facts.can_measure if parameters == ("measure",) else True

    def action_next(self, what: str) -> None:
        """Close with what is to be done."""
        self.dismiss(what)


def estimate_content(facts: EstimateFacts) -> list[Content]:
    """Return the dialog's lines."""
    lines = [
        Content.assemble((f"{name:<9}", "bold"), plain_line(text))
        for name, text in estimate_lines(facts.counted)
    ]
    lines.append(plain_line(f"epochs by: {facts.counted.estimate.epochs.rule}", "italic"))
    if facts.counted.spread is not None:
        lines += [Content(""), _head("Lengths"), *map(plain_line, histogram_lines(facts.counted.spread))]
    if facts.beside:
        lines += [Content(""), _head("Side by side"), *map(plain_line, beside_lines(facts.beside))]
    lines += [Content(""), _head("Where the tokens go"), *map(plain_line, _where(facts))]
    if facts.runs:
        lines += [Content(""), _head("Estimated and actual"), *map(plain_line, run_lines(facts.runs))]
    return lines


def _head(text: str) -> Content:
    return plain_line(text, "bold underline")


def histogram_lines(spread: Spread) -> list[str]:
    """Return a bar for each range of lengths that occurs, those beyond the limit marked."""
    bars = [bar for bar in spread.histogram if bar.conversations]
    most = max((bar.conversations for bar in bars), default=1)
    return [
        f"{bar.low:>9,} to {bar.high:>9,} {bar.conversations:>9,} "
        f"{'█' * max(1, bar.conversations * _BAR // most)}{' over the limit' if bar.over else ''}"
        for bar in bars
    ]


def beside_lines(models: Sequence[Beside]) -> list[str]:
    """Return what each of the models takes, and what is to be known of it."""
    lines = []
    for one in models:
        stats, estimate = one.stats, one.estimate
        took = f" · {time_text(estimate.seconds)}" if estimate.seconds is not None else ""
        over = f" · {stats.over_limit:,} over the limit" if stats.over_limit else ""
        lines += [
            f"{one.model} on {one.where}",
            f"  {stats.total:,} tokens × {estimate.epochs.n} · {cost_text(estimate)}{took}{over}",
            *(f"  {note}" for note in one.notes),
        ]
    return lines


def _where(facts: EstimateFacts) -> list[str]:
    spread = facts.counted.spread
    if spread is None or not spread.stats.total:
        return ["nothing is included"]
    told = [
        f"system prompts: {spread.system:,} tokens, {spread.system_share:.0%} of all; T shows what trimming saves"
    ]
    return told + [f"line {line:>9,} {tokens:>9,} tokens" for line, tokens in facts.costliest]


def run_lines(runs: Sequence[Entry]) -> list[str]:
    """Return estimated against actual tokens, cost and time of past launches."""
    return [
        line
        for one in runs
        for line in (
            f"{one.model} on {one.profile}, {one.status}",
            f"  tokens {_pair(one.estimated_tokens, one.actual_tokens, '{:,}')}"
            f" · cost {_pair(one.estimated_usd, one.actual_usd, '${:,.2f}')}"
            f" · time {_pair(one.estimated_seconds, one.actual_seconds, '{:,.0f} s')}",
        )
    ]


def _pair(estimated: float | None, actual: float | None, form: str) -> str:
    before, after = ("unknown" if value is None else form.format(value) for value in (estimated, actual))
    return f"{before} → {after}"
