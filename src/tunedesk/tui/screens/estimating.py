"""The estimate on the Data screen: counted in the background after every change, shown in full and trimmed by a key."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType

from tunedesk.config import LOCAL
from tunedesk.core.editing import edits
from tunedesk.errors import UsageError
from tunedesk.tui.messages import TokensCounted
from tunedesk.tui.panes.estimate import EstimatePane
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.screens.estimate_dialog import Beside, EstimateDialog, EstimateFacts
from tunedesk.tui.screens.saved import SavedScreen

if TYPE_CHECKING:
    from tunedesk.core.counting.token_stats import Trim
    from tunedesk.core.editing.edits import Edit
    from tunedesk.core.fine_tuning import Auto
    from tunedesk.core.workspace import Workspace
    from tunedesk.counting import Counts
    from tunedesk.tui.desk import OnProgress

_REST_S = 0.25
"""Seconds that a filter rests before its matches are estimated: while somebody types, the list comes first."""
_RUNS = 6
"""Past launches that are shown."""
_LIMIT = "limit"
"""Key of the choice to trim to the model's limit."""


class EstimatingScreen(SavedScreen):
    """A screen with an estimate pane."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("dollar_sign", "estimate", "Estimate", show=False, id="data.estimate", key_display="$",
                tooltip="Show tokens, cost, time and dates in full, other models beside"),
        Binding("T", "trim", "Trim", show=False, id="data.trim",
                tooltip="Keep only the last turns of what is shown, or what fits the model"),
    ]  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing counted."""
        super().__init__()
        self._counted_for: tuple[object, ...] = ()
        self._counts: Counts | None = None
        self._epochs: int | Auto = "auto"
        """With which the cost is reckoned."""

    def recount(self) -> None:
        """Count anew what changed since: rows, model or provider."""
        workspace, workbench = self.workspace, self.desk.workbench
        if workspace is None or workbench is None or not self.desk.model:
            return
        wanted = (workspace.dataset.id, workspace.overlay, self.desk.model, self.desk.profile, self._epochs)
        if wanted != self._counted_for:
            pane, before = self.query_one(EstimatePane), self._counted_for
            if before and before[0] != workspace.dataset.id:  # what is known is of other conversations
                self._counts = pane.counted = None
            self._counted_for = wanted
            pane.model, pane.provider = self.desk.model, workbench.profile(self.desk.profile).label
            self.desk.work(self._counting(workspace), name="counting tokens", group="count", exclusive=True)

    async def _counting(self, workspace: Workspace) -> None:
        model, bench = self.desk.model, self.workbench
        if self.edits_read is not None:
            await self.edits_read.wait()
        counts = await self.desk.in_thread(
            lambda on_progress: bench.count(workspace, model, on_progress), name="counting tokens"
        )
        self._counts = counts
        self.desk.change("", lambda latest, _: bench.with_counts(latest, counts))
        await self._estimating(self.workspace or workspace, counts)

    def estimate_shown(self) -> None:
        """Tell what the conversations come to that the filter shows now."""
        workspace, counts = self.workspace, self._counts
        if workspace is not None and counts is not None and len(counts.per_row) == workspace.total:
            self.desk.work(
                self._estimating(workspace, counts), name="estimating", group="estimate", exclusive=True
            )

    async def _estimating(self, workspace: Workspace, counts: Counts) -> None:
        await asyncio.sleep(_REST_S)
        bench, epochs = self.workbench, self._epochs
        profile = bench.profile(self.desk.profile)

        def estimated(_: OnProgress) -> TokensCounted:
            spending, model = bench.spending, counts.model
            estimate = spending.estimate(counts.stats, model, profile, epochs)
            shown = None
            if workspace.matched < workspace.total:
                part = bench.counting.shown(workspace, counts)
                shown = (part, spending.estimate(part.stats, model, profile, epochs))
            age = estimate.price.age(spending.today()) if estimate.price else None
            notes = tuple(spending.endings(model, profile))
            return TokensCounted(
                counts.stats, estimate, counts.encoding.note, counts.spread, shown, age, notes
            )

        self.post_message(await self.desk.in_thread(estimated, name="estimating"))

    @on(TokensCounted)
    def _tokens_counted(self, event: TokensCounted) -> None:
        self.query_one(EstimatePane).counted = event

    # --- in full

    def action_estimate(self) -> None:
        """Show the estimate in full."""
        workspace, counted = self.workspace, self.query_one(EstimatePane).counted
        assert workspace is not None
        assert counted is not None
        self.desk.work(self._in_full(workspace, counted), name="estimating", group="ask", exclusive=True)

    async def _in_full(self, workspace: Workspace, counted: TokensCounted) -> None:
        model = self.desk.model
        facts = await self.desk.in_thread(
            lambda on_progress: self._facts(workspace, model, counted, on_progress), name="comparing models"
        )
        wanted = await self.app.push_screen_wait(EstimateDialog(facts))
        if wanted == "trim":
            self.action_trim()
        elif wanted == "epochs":
            self._ask_epochs()
        elif wanted == "price":
            self._ask_price()
        elif wanted == "measure":
            self.desk.work(self._measuring(model), name="measuring", group="measure", exclusive=True)

    def _facts(
        self, workspace: Workspace, model: str, counted: TokensCounted, on_progress: OnProgress
    ) -> EstimateFacts:
        bench, beside = self.workbench, []
        spending, known = bench.spending, bench.profiles()
        for name, profile in spending.beside(model, known[self.desk.profile], known, workspace.total):
            counts = bench.count(workspace, name, on_progress)
            beside.append(
                Beside(
                    name, profile.label or profile.name, counts.stats,
                    spending.estimate(counts.stats, name, profile, self._epochs),
                    tuple(spending.notes(name, profile)),
                )
            )  # fmt: skip
        longest = counted.spread.costliest if counted.spread else ()
        return EstimateFacts(
            model, counted, tuple(beside), tuple((workspace.line(row), tokens) for row, tokens in longest),
            tuple(spending.ledger()[:_RUNS]), can_measure=counted.estimate.price is None and counted.estimate.usd == 0,
        )  # fmt: skip

    async def _measuring(self, model: str) -> None:
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None
        self.say(f"measuring how fast this machine trains {model}: half a minute …")
        rows = await asyncio.to_thread(bench.counting.sample, workspace)
        provider = await bench.connect(bench.profile(LOCAL))
        speed = await bench.spending.measure(provider, model, rows)
        self._counted_for = ()
        self.recount()
        self.say(f"{model}: {speed:,.0f} tokens a second on this machine")

    @work
    async def _ask_epochs(self) -> None:
        note = "auto, or a whole number from 1 to 50; the launch dialog asks again"
        text = await self.app.push_screen_wait(TextDialog("Epochs", value=str(self._epochs), note=note))
        if text is None:
            return
        if text.strip() not in ("", "auto") and not (text.strip().isdecimal() and 1 <= int(text) <= 50):
            self.say(f"{text!r}: {note}", "warning")
            return
        self._epochs = int(text) if text.strip().isdecimal() else "auto"
        self.recount()

    @work
    async def _ask_price(self) -> None:
        model = self.desk.model
        note = "US dollars per million tokens trained; kept in prices.toml of the config folder, dated today"
        text = await self.app.push_screen_wait(TextDialog(f"Price of {model}", placeholder="0.48", note=note))
        if not text:
            return
        with self.desk.reporting("setting the price"):
            try:
                usd = float(text.strip().removeprefix("$"))
            except ValueError as error:
                raise UsageError(f"{text!r} is not a price", note) from error
            self.workbench.spending.set_price(model, usd)
            self._counted_for = ()
            self.recount()

    # --- trimming

    def action_trim(self) -> None:
        """Show what trimming would save, and trim what is shown, as one edit."""
        workspace, counts = self.workspace, self._counts
        assert workspace is not None
        assert counts is not None
        self.desk.work(self._trimming(workspace, counts), name="trimming", group="ask", exclusive=True)

    async def _trimming(self, workspace: Workspace, counts: Counts) -> None:
        bench = self.workbench
        rows: array[int] = array("I")
        over = 0

        def saved(on_progress: OnProgress) -> Sequence[Trim]:
            nonlocal rows, over
            rows = workspace.overlay.included_of(workspace.found.as_set).array()
            over = sum(counts.per_row[row] > counts.stats.limit for row in rows)
            return bench.counting.savings(workspace, counts.model, on_progress=on_progress, rows=rows)

        savings = await self.desk.in_thread(saved, name="looking at the turns")
        per_token = bench.spending.per_token(counts.model)
        choices = [
            (
                str(one.turns),
                f"last {one.turns:>2} turns: {saved_text(one.saved, one.conversations, per_token)}",
            )
            for one in savings
            if one.saved
        ]
        if over:
            choices.append((_LIMIT, f"to the limit of {counts.stats.limit:,} tokens: {over:,} conversations"))
        if not choices:
            self.say("no conversation shown has a turn to spare, none is over the limit")
            return
        choice = await self.app.push_screen_wait(ChooseDialog("Trim what is shown to", choices))
        if choice is not None:
            edit = await self.desk.in_thread(
                lambda _: self._trim(workspace, counts, rows, choice), name="looking ahead"
            )
            kept = next((one for one in savings if str(one.turns) == choice), None)
            note = saved_text(kept.saved, kept.conversations, per_token) if kept else ""
            await self.ask_and_edit("Trim", edit, "trimmed", note=note)

    def _trim(self, workspace: Workspace, counts: Counts, rows: Sequence[int], choice: str) -> Edit:
        if choice != _LIMIT:
            return edits.trim(rows, int(choice))
        edit = self.workbench.counting.to_limit(workspace, counts, rows=rows)
        if edit is None:
            raise UsageError("what is over the limit has one turn only", "exclude it, or shorten it by hand")
        return edit

    def why_not(self, action: str) -> str:
        """Return why an action cannot be done now."""
        if action in ("estimate", "trim") and self.workspace is not None:
            if self.query_one(EstimatePane).counted is None or self._counts is None:
                return "the tokens are being counted: one moment"
            if len(self._counts.per_row) != self.workspace.total:
                return "the tokens are being counted: one moment"
        return super().why_not(action)


def saved_text(tokens: int, conversations: int, per_token: float | None) -> str:
    """Return what shorter conversations save an epoch."""
    money = f", ${tokens * per_token:,.2f}" if per_token else ""
    return f"saves {tokens:,} tokens{money} an epoch in {conversations:,} conversations"
