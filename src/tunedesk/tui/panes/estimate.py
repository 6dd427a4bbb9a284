"""What training on the included conversations takes: tokens, epochs, billed tokens, cost, time, dates and the limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.core.counting.pricing import Estimate
    from tunedesk.core.counting.token_stats import Bar, Spread
    from tunedesk.tui.messages import TokensCounted

_LEVELS = "▁▂▃▄▅▆▇█"
_LABEL = 8


class EstimatePane(Widget):
    """A line where there is no room, else a table, of which the last lines go first."""

    BORDER_TITLE = "Estimate · $ in full"

    counted: reactive[TokensCounted | None] = reactive(None)
    model: reactive[str] = reactive("")
    provider: reactive[str] = reactive("")
    """The profile's label."""

    def render(self) -> Content:
        """Return what is known, as much of it as there is room for."""
        if self.counted is None:
            return plain_line(f"{self.model} on {self.provider}: counting tokens…" if self.model else "")
        if self.size.height < 3:
            return plain_line(" · ".join(self._parts(self.counted)))
        lines = [("model", f"{self.model} on {self.provider}"), *estimate_lines(self.counted)]
        return Content("\n").join(
            Content.assemble((f"{name:<{_LABEL}}", "bold"), plain_line(text)) for name, text in lines
        )

    def _parts(self, counted: TokensCounted) -> Iterator[str]:
        stats, estimate = counted.stats, counted.estimate
        yield self.model
        if counted.shown is not None:
            yield f"shown: {shown_text(*counted.shown)}"
        yield f"{stats.total:,} tokens × {estimate.epochs.n}"
        yield cost_text(estimate)
        if estimate.seconds is not None:
            yield time_text(estimate.seconds)
        if stats.over_limit:
            yield f"{stats.over_limit:,} over limit"
        yield self.provider


def estimate_lines(counted: TokensCounted) -> list[tuple[str, str]]:
    """Return name and text of each line, the most wanted first."""
    stats, estimate, spread = counted.stats, counted.estimate, counted.spread
    epochs = estimate.epochs
    reach = f" ({epochs.low} to {epochs.high})" if epochs.low != epochs.high else ""
    share = f", {stats.trained_per_epoch / stats.total:.0%} trained" if stats.total else ""
    lines = [("tokens", f"{stats.total:,} in {stats.conversations:,} conversations{share}")]
    if counted.shown is not None:
        lines.append(("shown", shown_text(*counted.shown)))
    lines += [
        ("each", f"{stats.minimum:,} to {stats.maximum:,}, median {stats.median:,.0f}, 95 % ≤ {stats.p95:,}"),
        ("lengths", lengths_text(spread) if spread else ""),
        ("billed", f"{estimate.billed_tokens:,} tokens in {epochs.n} epochs{reach}"),
        ("cost", cost_text(estimate, counted.age)),
    ]
    if estimate.seconds is not None:
        lines.append(("time", f"{time_text(estimate.seconds)} here, by {estimate.measured}"))
    elif estimate.price is None and estimate.usd == 0:
        lines.append(("time", "unknown: $ then b measures this machine"))
    lines += [("", note) for note in counted.notes]
    if counted.note:
        lines.append(("note", counted.note))
    return [line for line in lines if line[1]]


def lengths_text(spread: Spread) -> str:
    """Return the histogram on one line, with the limit and what lies beyond it."""
    within = [bar for bar in spread.histogram if not bar.over]
    beyond = sum(bar.conversations for bar in spread.histogram if bar.over)
    if not within:
        return ""
    over = f" · {beyond:,} over {spread.stats.limit:,}" if beyond else f", limit {spread.stats.limit:,}"
    return f"{within[0].low:,} {sparkline(within)} {within[-1].high:,}{over}"


def sparkline(bars: Sequence[Bar]) -> str:
    """Return one block a bar, as high as its share of the highest; a space where there is none."""
    most = max(bar.conversations for bar in bars) or 1
    return "".join(
        _LEVELS[min(7, bar.conversations * 8 // most)] if bar.conversations else " " for bar in bars
    )


def shown_text(spread: Spread, estimate: Estimate) -> str:
    """Return what the conversations that the filter shows come to."""
    stats = spread.stats
    return f"{stats.conversations:,} with {stats.total:,} tokens, {dollars(estimate.usd)}"


def dollars(usd: float | None) -> str:
    """Return an amount of money, "no known price" for None."""
    if usd is None:
        return "no known price"
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else "under $0.01"


def time_text(seconds: float) -> str:
    """Return a duration in the units that matter."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5_400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3_600:.1f} h"


def cost_text(estimate: Estimate, age: int | None = None) -> str:
    """Return the cost with its range and the price's date and age (days).

    It is "free" on this machine, and "no known price" with the key that sets it where there is none.
    """
    if estimate.usd is None:
        return "no known price: $ then p sets it"
    if estimate.usd == 0 and estimate.price is None:
        return "free, on this machine"
    spread = (
        f" ({dollars(estimate.low)} to {dollars(estimate.high)})"
        if estimate.low is not None and estimate.high is not None and estimate.low != estimate.high
        else ""
    )
    price = estimate.price
    dated = f", price of {price.as_of}" if price is not None and price.as_of else ""
    old = f", {age:,} days old" if dated and age is not None else ""
    return f"{dollars(estimate.usd)}{spread}{dated}{old}"
