"""The Data screen: browse, filter and curate conversations, and see what training on them takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from tunedesk.core.conversations import content_text
from tunedesk.core.known_rows import with_findings
from tunedesk.tui.editor import edit_text
from tunedesk.tui.messages import FindingsFound
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView, messages_of
from tunedesk.tui.panes.estimate import EstimatePane
from tunedesk.tui.panes.facets import FacetsPane
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.findings import FindingsPane
from tunedesk.tui.panes.system_prompt import SystemPromptPane
from tunedesk.tui.screens.curating import CuratingScreen
from tunedesk.tui.screens.data_work import QueryRefused, RowsMatched, needles_of, scan
from tunedesk.tui.screens.editing import RowEditingScreen
from tunedesk.tui.screens.estimating import EstimatingScreen
from tunedesk.tui.screens.message_editing import EditingScreen
from tunedesk.tui.widgets.mode_bar import ModeBar
from tunedesk.tui.widgets.query_input import Candidates
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace


_LARGE = 50_000
"""Characters of a conversation whose lines take longer to make than the list takes to paint."""


def _key(key: str, action: str, label: str, tooltip: str, *, show: bool = False) -> Binding:
    return Binding(key, action, label, show=show, id=f"data.{action}", tooltip=tooltip)


class DataScreen(EstimatingScreen):
    """List, conversation, estimate; findings and system prompt open beside them."""

    MODE = "data"
    TITLE = "Data"
    CSS_PATH = "data.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (16, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("slash", "filter", "Filter", "Filter the conversations as you type", show=True),
        _key(
            "g", "facets", "Facets", "Count what is shown by intent, tag, metadata, turns, length and finding"
        ),
        _key("v", "views", "Views", "Choose a query kept under a name, or keep the present one"),
        _key(
            "H", "versions", "Versions", "Name the present state, compare with a named one or go back to it"
        ),
        _key("i", "import", "Import", "Import a file of conversations", show=True),
        _key("o", "open", "Open", "Open an imported dataset"),
        _key("c", "check", "Check", "Find what would break or spoil a training", show=True),
        _key("f", "fix", "Fix", "Apply all safe fixes (one undo takes them back)", show=True),
        _key("p", "prompt", "Prompt", "Write the system prompt", show=True),
        _key("e", "edit", "Edit", "Edit the message in $EDITOR, the whole row while it is shown as JSON"),
        _key("u", "undo", "Undo", "Undo the last edit"),
        _key("ctrl+r", "redo", "Redo", "Redo what was undone"),
        _key("s", "sort", "Sort", "Order the list by a column"),
        _key("a", "select_all", "Select all", "Select all conversations that the filter matched"),
        _key("P", "provider", "Provider", "Choose who trains: this machine or a provider"),
        _key("m", "model", "Model", "Choose the base model"),
        _key("S", "split", "Split", "Write training and validation files", show=True),
        _key("l", "launch", "Launch", "Launch a fine-tuning job", show=True),
        _key("escape", "back", "Back", "Close what is open beside the list, go back to it"),
    ]

    def __init__(self) -> None:
        """Begin with nothing open."""
        super().__init__()
        self._greyed: tuple[bool, ...] = ()
        self._hint = ""
        """What was said of a query that made no sense."""
        self._searched_all = True
        """Whether the search that found what is shown has come to its end."""

    def compose_body(self) -> Iterable[Widget]:
        """Yield filter, list, conversation and what stands beside them."""
        yield FilterBar()
        with Horizontal(id="data-body"):
            yield FacetsPane()
            yield Candidates()
            yield ConversationList().data_bind(DataScreen.workspace)
            yield ConversationView()
            with Vertical(id="data-side"):
                yield EstimatePane()
                yield FindingsPane()
                yield SystemPromptPane()

    def on_mount(self) -> None:
        """Follow the app's state."""
        listing = self.query_one(ConversationList)
        listing.focus()
        self.show_remembered()
        self.watch(listing, "shown", self._row_changed, init=False)
        self.watch(self.desk, "workspace", self._take_workspace)
        for name in ("model", "profile"):
            self.watch(self.desk, name, self._ask_anew, init=False)

    # --- state

    def _ask_anew(self) -> None:
        self._grey_keys()
        self.recount()

    def _take_workspace(self, workspace: Workspace | None) -> None:
        self.workspace = workspace

    def watch_workspace(self, old: Workspace | None, new: Workspace | None) -> None:
        """Redraw what the list does not redraw itself, and forget what was known of another state."""
        if new is None:
            return
        if old is None or old.dataset.id != new.dataset.id:
            self.findings, self._searched_all = None, True
            self.warm(new)
            self.query_one(FindingsPane).forget()
            self.query_one(SystemPromptPane).set_text(_prompt_of(new))
            bar = self.query_one(FilterBar)
            if bar.text != new.query.text:
                bar.set_text(new.query.text)
        if old is None or old.overlay is not new.overlay:
            self.split_files = None
            self.read_edits(new)
            self.recount()
            self.look_for_personal_data(new)
            self.query_one(ModeBar).caption = f"{new.dataset.name} · {new.included_count:,} to train on"
        if not self.query_one(FilterBar).refused:
            self._tell_count(new)
        self._show_row(keep_place=old is not None and old.dataset.id == new.dataset.id)
        if any(getattr(old, name, None) is not getattr(new, name) for name in ("found", "overlay", "known")):
            self.count_facets()
        if old is None or old.found is not new.found:
            self.estimate_shown()
        self.show_wanted_rows()
        if old is None:
            self.show_again(new)
        self._grey_keys()

    def _row_changed(self, index: int | None) -> None:
        """Show the row under the cursor with the list, or after it where laying it out would hold the list up."""
        workspace = self.workspace
        if workspace is None or index is None or index >= len(workspace.dataset):
            self._show_row(keep_place=False)
        elif workspace.view(index).chars > _LARGE:
            self.call_after_refresh(self._follow_cursor)
        else:
            self._follow_cursor()

    def _follow_cursor(self) -> None:
        self._show_row(keep_place=False)
        self.go_to_wanted_message()
        self.go_to_wanted_match()
        self._grey_keys()

    def _show_row(self, *, keep_place: bool) -> None:
        listing, view, workspace = (
            self.query_one(ConversationList),
            self.query_one(ConversationView),
            self.workspace,
        )
        index = listing.index
        if workspace is None or index is None or index >= len(workspace.dataset):
            view.show_row(None, "Conversation")
            return
        shown = workspace.view(index)
        words = [f"Conversation, line {shown.line:,}", shown.intent, *(f"#{tag}" for tag in shown.tags)]
        words += [word for word, true in (("edited", shown.edited), ("excluded", shown.excluded)) if true]
        words += shown.marked
        view.show_row(
            self.row_at(workspace, index),
            " · ".join(word for word in words if word),
            needles=needles_of(workspace),
            keep_place=keep_place,
        )

    # --- the filter

    @on(FilterBar.QueryChanged)
    def _query_changed(self, event: FilterBar.QueryChanged) -> None:
        self._search(event.text)

    def _search(self, text: str) -> None:
        if self.workspace is not None:
            self.desk.work(
                self._searching(self.workspace, text), name="filter", group="filter", exclusive=True
            )

    async def _searching(self, workspace: Workspace, text: str) -> None:
        stop = threading.Event()
        try:
            await asyncio.to_thread(scan, workspace, text, self.post_message, stop.is_set)
        finally:
            stop.set()

    @on(RowsMatched)
    def _rows_matched(self, event: RowsMatched) -> None:
        self._searched_all = event.complete
        self.desk.view(event.workspace)
        if self._hint and self.status_line.message == self._hint:
            self.say("")
        self._tell_count(event.workspace)
        self.call_after_refresh(event.painted)

    def _tell_count(self, workspace: Workspace) -> None:
        """Tell how many rows match, as far as the search has come."""
        self.query_one(FilterBar).show_count(
            workspace.matched, workspace.total, complete=self._searched_all, stale=workspace.stale
        )

    @on(QueryRefused)
    def _query_refused(self, event: QueryRefused) -> None:
        self.query_one(FilterBar).show_error(event.message, event.column)
        self._hint = event.hint
        if event.hint:
            self.say(event.hint)

    @on(FilterBar.Left)
    def _filter_left(self) -> None:
        if self.workspace is not None and self.workspace.stale:
            self._search(self.query_one(FilterBar).text)
        self.go_back()

    def action_back(self) -> None:
        """Stop what is being looked for, else close what is open beside the list and go to the list."""
        if not self.stop_asking():
            self.go_back()

    @on(SystemPromptPane.Left)
    def go_back(self) -> None:
        """Close what is open beside the list, and go to the list."""
        self.remove_class("-findings", "-prompt", "-facets")
        self.query_one(ConversationList).focus()

    def action_filter(self) -> None:
        """Type a query."""
        self.query_one(FilterBar).focus_input()

    @on(FindingsPane.CodeChosen)
    def _code_chosen(self, event: FindingsPane.CodeChosen) -> None:
        bar = self.query_one(FilterBar)
        if bar.text == f"check:{event.code}":
            self._search(bar.text)
        bar.set_text(f"check:{event.code}")
        self.go_back()

    @on(VirtualList.Opened)
    def _opened(self) -> None:
        self.query_one(ConversationView).focus()

    # --- checks

    def action_check(self) -> None:
        """Check all conversations in the background, and show the findings."""
        assert self.workspace is not None
        self.add_class("-findings")
        self.remove_class("-prompt")
        self.desk.work(self._checking(self.workspace), name="checking", group="check", exclusive=True)

    async def _checking(self, workspace: Workspace) -> None:
        model, bench = self.desk.model, self.workbench
        profile = bench.profile(self.desk.profile)
        found = await self.desk.in_thread(
            lambda on_progress: bench.check(workspace, model, on_progress, profile), name="checking"
        )
        self.desk.change("", lambda latest, _: with_findings(latest, found))
        self.post_message(FindingsFound(tuple(found)))

    @on(FindingsFound)
    def _findings_found(self, event: FindingsFound) -> None:
        self.findings = event.findings
        pane = self.query_one(FindingsPane)
        pane.show(event.findings)
        if self.has_class("-findings"):
            pane.query_one(VirtualList).focus()
        self.say(
            f"{pane.border_title}: Enter filters the list, n walks, . fixes one, F this code, f all that is safe"
        )
        self._grey_keys()

    # --- the system prompt

    def action_prompt(self) -> None:
        """Write the system prompt."""
        self.add_class("-prompt")
        self.look_at_prompts()
        self.remove_class("-findings")
        self.query_one(SystemPromptPane).focus_text()

    @on(SystemPromptPane.EditorAsked)
    def _editor_asked(self, event: SystemPromptPane.EditorAsked) -> None:
        with self.desk.reporting("editing the system prompt"):
            text = edit_text(self.app, event.text, suffix=".md")
            if text is not None:
                self.query_one(SystemPromptPane).set_text(text)

    def _grey_keys(self) -> None:
        """Redraw the footer when a key in it was disabled or enabled, and only then."""
        shown = [one.action for one in self.BINDINGS if isinstance(one, Binding) and one.show]
        greyed = tuple(bool(self.why_not(action)) for action in shown)
        if greyed != self._greyed:
            self._greyed = greyed
            self.refresh_bindings()

    def why_not(self, action: str) -> str:
        """Return why an action cannot be done now."""
        listed = (
            *self.BINDINGS,
            *CuratingScreen.BINDINGS,
            *RowEditingScreen.BINDINGS,
            *EditingScreen.BINDINGS,
            *EstimatingScreen.BINDINGS,
        )
        own = {one.action.partition("(")[0] for one in listed if isinstance(one, Binding)}
        if action not in own or (action in ("back", "import", "filter") and self.desk.workbench is not None):
            return ""
        if self.workspace is None:
            return "opening the conversations: one moment"
        if action == "launch" and (errors := sum(one.severity == "error" for one in self.findings or ())):
            return (
                f"{errors:,} errors would be refused: f fixes what is safe, x excludes, then c checks again"
            )
        return super().why_not(action)


def _prompt_of(workspace: Workspace) -> str:
    """Return the system prompt on all rows, else the first row's."""
    if workspace.system_prompt:
        return workspace.system_prompt
    for message in messages_of(workspace.row(0)):
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            return content_text(message.get("content"))
    return ""
