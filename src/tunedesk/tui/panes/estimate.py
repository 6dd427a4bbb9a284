"""What training on the included conversations takes: tokens, epochs, billed tokens, cost, and the example limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.core.counting.pricing import Estimate
    from tunedesk.tui.messages import TokensCounted


class EstimatePane(Widget):
    """A line where there is no room, else a table of eight lines."""

    BORDER_TITLE = "Estimate"

    counted: reactive[TokensCounted | None] = reactive(None)
    model: reactive[str] = reactive("")
    provider: reactive[str] = reactive("")
    """The profile's label."""

    def render(self) -> Content:
        """Return what is known, as much of it as there is room for."""
        if self.counted is None:
            return plain_line(f"{self.model} on {self.provider}: counting tokens…" if self.model else "")
        return self._line() if self.size.height < 3 else self._table()

    def _line(self) -> Content:
        counted = self.counted
        assert counted is not None
        stats, estimate = counted.stats, counted.estimate
        over = f" · {stats.over_limit:,} over limit" if stats.over_limit else ""
        return plain_line(
            f"{self.model} · {stats.total:,} tokens × {estimate.epochs.n} · {cost_text(estimate)}{over}"
            f" · {self.provider}"
        )

    def _table(self) -> Content:
        counted = self.counted
        assert counted is not None
        stats, estimate = counted.stats, counted.estimate
        epochs = estimate.epochs
        spread = f" ({epochs.low} to {epochs.high})" if epochs.low != epochs.high else ""
        lines = [
            ("model", f"{self.model} on {self.provider}"),
            ("tokens", f"{stats.total:,} in {stats.conversations:,} conversations"),
            ("each", f"median {stats.median:,.0f}, 95 % ≤ {stats.p95:,}, most {stats.maximum:,}"),
            ("trained", f"{stats.trained_per_epoch:,} an epoch"),
            ("epochs", f"{epochs.n}{spread}"),
            ("billed", f"{estimate.billed_tokens:,} tokens"),
            ("cost", cost_text(estimate)),
            ("limit", f"{stats.limit:,} tokens; {stats.over_limit:,} longer"),
        ]
        if counted.note:
            lines.append(("note", counted.note))
        return Content("\n").join(
            Content.assemble((f"{name:<8}", "bold"), plain_line(text)) for name, text in lines
        )


def cost_text(estimate: Estimate) -> str:
    """Return the cost with its range and the price's date; "free" on this machine, "no known price" without one."""
    if estimate.usd is None:
        return "no known price"
    if estimate.usd == 0 and estimate.price is None:
        return "free, on this machine"
    spread = (
        f" (${estimate.low:,.2f} to ${estimate.high:,.2f})"
        if estimate.low is not None and estimate.high is not None and estimate.low != estimate.high
        else ""
    )
    dated = (
        f", price of {estimate.price.as_of}" if estimate.price is not None and estimate.price.as_of else ""
    )
    return f"${estimate.usd:,.2f}{spread}{dated}"
