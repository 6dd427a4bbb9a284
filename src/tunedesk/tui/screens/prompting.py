"""The system prompt on the Data screen: shown before it is put on conversations, kept under names with its history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from textual import on

from tunedesk.core.editing import edits
from tunedesk.tui.panes.system_prompt import SystemPromptPane
from tunedesk.tui.screens.curation import conversations
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.screens.message_editing import EditingScreen
from tunedesk.tui.widgets.plain import one_line

if TYPE_CHECKING:
    from tunedesk.core.editing.edits import Edit
    from tunedesk.store import PromptVersion


_REST_S = 0.4
"""Seconds without a key before the prompt as written is counted."""
_MOST_USED = 12


class PromptingScreen(EditingScreen):
    """A screen with a system prompt pane."""

    def __init__(self) -> None:
        """Begin before the prompts of the conversations were looked at."""
        super().__init__()
        self._used: list[tuple[str, int]] = []

    def go_back(self) -> None:
        """Close what is open beside the list."""

    @on(SystemPromptPane.Applied)
    def _prompt_applied(self, event: SystemPromptPane.Applied) -> None:
        bench, workspace = self.workbench, self.workspace
        if workspace is None:
            return
        rows = workspace.found.as_set if event.shown_only else None
        if rows is not None and not rows:
            self.say("no conversation is shown: clear the filter first")
            return
        where = "all conversations" if rows is None else conversations(len(rows))
        what = f"the system prompt is on {where}" if event.text else f"no system prompt any more on {where}"

        def counted(_: object) -> tuple[Edit, list[str]]:
            edit = edits.set_system_prompt(rows, event.text, fill="{{" in event.text)
            counter = bench.counting.counter(self.desk.model)
            return edit, bench.curation.prompt_notes(workspace, edit, counter.row)

        async def applying() -> None:
            edit, notes = await self.desk.in_thread(counted, name="counting the prompt")
            if await self.ask_and_edit("System prompt", edit, what, note=" · ".join(notes)):
                self.go_back()

        self.desk.work(applying(), name="system prompt", group="ask", exclusive=True)

    @on(SystemPromptPane.Changed)
    def _prompt_changed(self, event: SystemPromptPane.Changed) -> None:
        """Tell what the prompt as written would cost, once nothing was typed for a moment."""
        workspace, bench = self.workspace, self.desk.workbench
        if workspace is None or bench is None or not self.desk.model or not self.has_class("-prompt"):
            return
        edit = edits.set_system_prompt(None, event.text.strip(), fill="{{" in event.text)

        async def costing() -> None:
            await asyncio.sleep(_REST_S)
            notes = await self.desk.in_thread(
                lambda _: bench.curation.prompt_notes(
                    workspace, edit, bench.counting.counter(self.desk.model).row
                ),
                name="counting the prompt",
            )
            self.query_one(SystemPromptPane).told = " · ".join(notes)

        self.desk.work(costing(), name="counting the prompt", group="prompt", exclusive=True)

    def look_at_prompts(self) -> None:
        """Point out in the pane that conversations have different system prompts."""
        workspace, bench = self.workspace, self.workbench
        if workspace is None:
            return

        async def looking() -> None:
            used = await self.desk.in_thread(
                lambda _: bench.curation.prompts_in_use(workspace), name="looking at the prompts"
            )
            self._used = [(text, times) for text, times in used if text]
            if len(used) > 1:
                told = " · ".join(f"{times:,} × {_short(text)}" for text, times in used[:3])
                self.query_one(SystemPromptPane).told = f"! {len(used)} different system prompts: {told}"

        self.desk.work(looking(), name="looking at the prompts", group="prompts", exclusive=True)

    @on(SystemPromptPane.KeepAsked)
    def _keep_asked(self, event: SystemPromptPane.KeepAsked) -> None:
        store = self.workbench.store

        def named(name: str | None) -> None:
            if name:
                with self.desk.reporting("keeping the prompt"):
                    kept = store.save_prompt(name, event.text)
                    self.say(f"kept as {name}, version {kept.version}")

        known = ", ".join(one.name for one in store.prompts())
        note = f"kept already: {known}" if known else "a name again makes its next version"
        self.app.push_screen(TextDialog("Keep the prompt as", placeholder="bank voice", note=note), named)

    @on(SystemPromptPane.LoadAsked)
    def _load_asked(self, event: SystemPromptPane.LoadAsked) -> None:
        store = self.workbench.store
        versions = [one for kept in store.prompts() for one in reversed(store.prompt_versions(kept.name))]
        texts = [*(one.text for one in versions), *(text for text, _ in self._used[:_MOST_USED])]
        if not texts:
            self.say("no prompt was kept yet: Ctrl+N keeps this one")
            return

        def chosen(key: str | None) -> None:
            if key is not None:
                self.query_one(SystemPromptPane).set_text(texts[int(key)])

        told = [_told(one) for one in versions]
        told += [f"on {conversations(times)}  {_short(text)}" for text, times in self._used[:_MOST_USED]]
        choices = [(str(place), text) for place, text in enumerate(told)]
        self.app.push_screen(ChooseDialog("Load a prompt", choices), chosen)


def _short(text: str) -> str:
    return f"“{one_line(text)[:36]}”" if text else "none"


def _told(one: PromptVersion) -> str:
    day = datetime.fromtimestamp(one.at, tz=UTC).strftime("%Y-%m-%d %H:%M")
    return f"{one.name} v{one.version}  {day}  {one_line(one.text)[:50]}"
