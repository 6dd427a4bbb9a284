"""The system prompt on the Data screen: shown before it is put on conversations, kept under names with its history."""

from __future__ import annotations

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
    from tunedesk.store import PromptVersion


class PromptingScreen(EditingScreen):
    """A screen with a system prompt pane."""

    def action_back(self) -> None:
        """Close what is open beside the list."""

    @on(SystemPromptPane.Applied)
    def _prompt_applied(self, event: SystemPromptPane.Applied) -> None:
        bench, workspace = self.workbench, self.workspace
        if workspace is None:
            return
        rows = list(workspace.matches) if event.shown_only else None
        if rows == []:
            self.say("no conversation is shown: clear the filter first")
            return
        edit = edits.set_system_prompt(rows, event.text, fill="{{" in event.text)
        where = "all conversations" if rows is None else conversations(len(rows))
        what = f"the system prompt is on {where}" if event.text else f"no system prompt any more on {where}"

        async def applying() -> None:
            note = await self.desk.in_thread(
                lambda _: bench.curation.token_change(
                    workspace, edit, bench.counting.counter(self.desk.model).row
                ),
                name="counting the prompt",
            )
            if await self.ask_and_edit("System prompt", edit, what, note=note):
                self.action_back()

        self.desk.work(applying(), name="system prompt", group="ask", exclusive=True)

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
        if not versions:
            self.say("no prompt was kept yet: Ctrl+N keeps this one")
            return

        def chosen(key: str | None) -> None:
            if key is not None:
                self.query_one(SystemPromptPane).set_text(versions[int(key)].text)

        choices = [(str(place), _told(one)) for place, one in enumerate(versions)]
        self.app.push_screen(ChooseDialog("Load a prompt", choices), chosen)


def _told(one: PromptVersion) -> str:
    day = datetime.fromtimestamp(one.at, tz=UTC).strftime("%Y-%m-%d %H:%M")
    return f"{one.name} v{one.version}  {day}  {one_line(one.text)[:50]}"
