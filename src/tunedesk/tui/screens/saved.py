"""What is kept under names: queries as views, states of the dataset as versions, and what differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from tunedesk.core.conversations import content_text
from tunedesk.tui.panes.conversation_view import messages_of
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.screens.curation import conversations
from tunedesk.tui.screens.dialogs import ChooseDialog, ConfirmDialog, Dialog, KeptDialog, TextDialog
from tunedesk.tui.screens.narrowing import NarrowingScreen
from tunedesk.tui.widgets.block_view import Block, BlockView
from tunedesk.tui.widgets.plain import one_line, plain
from tunedesk.tui.widgets.selection import AllOf
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.diff import Change, Difference
    from tunedesk.core.workspace import Workspace
    from tunedesk.tui.desk import OnProgress

_NEW = "\0new"
_SIGNS = {"added": "+", "removed": "-", "reworded": "~", "changed": "="}


@dataclass
class Compared(Message):
    """It is known what differs between a version and the present state."""

    name: str
    before: Workspace
    after: Workspace
    difference: Difference


class DiffDialog(Dialog[list[int]]):
    """Changed conversations above, the messages of the one under the cursor below; returns rows to revert."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "select_all", "Select all", id="diff.select_all", tooltip="Select all that changed"),
        Binding("r", "revert", "Revert", id="diff.revert", tooltip="Make the row or selection what it was"),
    ]

    def __init__(self, name: str, before: Workspace, after: Workspace, difference: Difference) -> None:
        """Show what became of `before`, the version `name`, in `after`."""
        counts = ", ".join(f"{difference.count(kind):,} {kind}" for kind in ("added", "removed", "reworded"))
        super().__init__(
            f"Since {name}: {counts}", "Space select · V range · a all · r revert · Tab messages · Esc close"
        )
        self._before, self._after, self._changes = before, after, difference.changes

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list and the messages."""
        columns = (
            Column("line", "line", 8, right=True),
            Column("kind", "", 10),
            Column("text", "conversation"),
        )
        yield VirtualList(columns, self._rows, empty="nothing changed")
        yield BlockView(empty="")

    def on_mount(self) -> None:
        """Show all changes."""
        self.query_one(VirtualList).show(range(len(self._changes)))

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        rows = []
        for change in (self._changes[index] for index in indexes):
            kind = f"{_SIGNS[change.kind]} {change.kind}"
            state = self._before if change.after is None else self._after
            rows.append(ListRow((f"{state.line(change.row):,}", kind, state.view(change.row).preview)))
        return rows

    @on(VirtualList.CursorMoved)
    def _moved(self, event: VirtualList.CursorMoved) -> None:
        if event.index is not None:
            self.query_one(BlockView).show(self._blocks(self._changes[event.index]))

    def _blocks(self, change: Change) -> list[Block]:
        if change.kind != "reworded":
            return self._whole(change)
        messages, keys = change.told()
        if not messages:
            return [Block(f"{_SIGNS[change.kind]} {', '.join(keys)} differ", "")]
        blocks = []
        for one in messages:
            place = one.after if one.after is not None else one.before
            head = f"{_SIGNS[one.kind]} {one_line(one.role).upper()} · message {(place or 0) + 1} {one.kind}"
            before, after = one.sides()
            was = [Block(head, plain(before).plain, gutter="- ")] if one.kind != "added" else []
            now = (
                [Block("" if was else head, plain(after).plain, gutter="+ ")] if one.kind != "removed" else []
            )
            blocks += [*was, *now]
        return blocks

    def _whole(self, change: Change) -> list[Block]:
        """Return a conversation that came or went as a whole, and whether it was only left out or taken back in."""
        came, sign = change.kind == "added", _SIGNS[change.kind]
        state, other = (self._after, self._before) if came else (self._before, self._after)
        known = change.row in other.everything
        what = ("included" if came else "excluded") if known else ("added" if came else "taken back")
        blocks = [Block(f"{sign} {what} since", "")]
        for place, message in enumerate(messages_of(state.row(change.row)), 1):
            if isinstance(message, dict):
                head = f"{sign} {one_line(str(message.get('role', ''))).upper()} · message {place}"
                blocks.append(
                    Block(head, plain(content_text(message.get("content"))).plain, gutter=f"{sign} ")
                )
        return blocks

    def action_select_all(self) -> None:
        """Select all changed rows."""
        self.query_one(VirtualList).selected = AllOf(range(len(self._changes)))

    def action_revert(self) -> None:
        """Return the selected rows that were reworded, else the one under the cursor."""
        listing = self.query_one(VirtualList)
        chosen = listing.selected or ({listing.index} if listing.index is not None else set())
        changes = [self._changes[index] for index in chosen]
        self.dismiss([change.row for change in changes])


class SavedScreen(NarrowingScreen):
    """A screen whose queries and states can be kept under names."""

    # --- views

    def action_views(self) -> None:
        """Choose a kept query, or keep the present one."""
        bar = self.query_one(FilterBar)
        text = bar.text.strip()
        choices = [(view.name, f"{view.name}   {view.query}") for view in self.workbench.views.all()]
        if text and not bar.refused:
            choices.append((_NEW, f"keep this query: {text}"))
        if choices:
            names = {view.name for view in self.workbench.views.all()}
            self.app.push_screen(KeptDialog("Views: queries under names", choices, names), self._view_chosen)
        else:
            self.say("no views yet: type a query (/), then v keeps it under a name")

    def _view_chosen(self, name: str | None) -> None:
        if name == _NEW:
            self.app.push_screen(TextDialog("Keep this query", placeholder="lost cards"), self._view_named)
        elif name is not None and name.startswith(KeptDialog.FORGET):
            self._ask_to_forget_view(name.removeprefix(KeptDialog.FORGET))
        elif name is not None and name.startswith(KeptDialog.RENAME):
            self._ask_for_a_name(name.removeprefix(KeptDialog.RENAME), self.workbench.views.rename)
        elif name is not None:
            queries = {view.name: view.query for view in self.workbench.views.all()}
            self.query_one(FilterBar).set_text(queries[name])

    def _ask_to_forget_view(self, name: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.workbench.views.forget(name)
                self.say("the view is forgotten")

        queries = {view.name: view.query for view in self.workbench.views.all()}
        self.app.push_screen(ConfirmDialog(f"Forget the view {name}?", queries[name]), answered)

    def _ask_for_a_name(self, name: str, rename: Callable[[str, str], None]) -> None:
        def answered(other: str | None) -> None:
            if other:
                with self.desk.reporting("renaming"):
                    rename(name, other)
                    self.say(f"{name} is called {other.strip()} now")

        self.app.push_screen(TextDialog(f"Another name for {name}", value=name), answered)

    def _view_named(self, name: str | None) -> None:
        text = self.query_one(FilterBar).text.strip()

        def keep(yes: bool | None) -> None:
            if name and yes:
                with self.desk.reporting("keeping the query"):
                    self.workbench.views.save(name, text)
                    self.say(f"kept as {name.strip()}: v chooses it")

        before = self.workbench.views.find(name) if name else None
        if before is not None and before.query != text:
            told = f"It is: {before.query}\nIt becomes: {text}"
            self.app.push_screen(ConfirmDialog(f"Replace the view {before.name}?", told), keep)
        else:
            keep(True)

    # --- versions

    def action_versions(self) -> None:
        """Name the present state, or choose one to compare with or go back to."""
        assert self.workspace is not None
        choices = [(_NEW, "name the present state")]
        for one in self.workbench.versions.all(self.workspace):
            when = datetime.fromtimestamp(one.at).astimezone().strftime("%Y-%m-%d %H:%M")
            choices.append((one.name, f"{one.name}   {when}, {len(one.edits):,} edits"))
        imported = self.workbench.versions.imported
        choices.append((imported, f"{imported}   without any edit"))
        for launch in self.workbench.versions.uploaded(self.workspace):
            when = datetime.fromtimestamp(launch.at).astimezone().strftime("%Y-%m-%d %H:%M")
            choices.append(
                (launch.name, f"uploaded   {when} to {launch.profile}, launch {launch.launch[:12]}")
            )
        names = {one.name for one in self.workbench.versions.all(self.workspace)}
        self.app.push_screen(KeptDialog("Versions", choices, names), self._version_chosen)

    def _version_chosen(self, name: str | None) -> None:
        if name == _NEW:
            self.app.push_screen(TextDialog("Name the present state", placeholder="v1"), self._version_named)
        elif name is not None and name.startswith(KeptDialog.FORGET):
            self._ask_to_forget(name.removeprefix(KeptDialog.FORGET))
        elif name is not None and name.startswith(KeptDialog.RENAME) and self.workspace is not None:
            named = name.removeprefix(KeptDialog.RENAME)
            self._ask_for_a_name(named, partial(self.workbench.versions.rename, self.workspace))
        elif name is not None:
            choices = [("diff", "show what changed since"), ("restore", "go back to it (one undo returns)")]
            self.app.push_screen(
                ChooseDialog(f"Version {self.workbench.versions.told(name)}", choices),
                lambda what: self._version_used(name, what),
            )

    def _ask_to_forget(self, name: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes and self.workspace is not None:
                self.workbench.versions.forget(self.workspace, name)
                self.say("the name is forgotten; no edit is lost")

        text = "All edits stay, but nothing remembers any more which of them made this state."
        self.app.push_screen(ConfirmDialog(f"Forget the version {name}?", text), answered)

    def _version_named(self, name: str | None) -> None:
        if name and self.workspace is not None:
            with self.desk.reporting("naming the state"):
                self.workbench.versions.save(self.workspace, name)
                self.say(f"this state is {name}: H compares with it or goes back to it")

    def _version_used(self, name: str, what: str | None) -> None:
        versions, workspace = self.workbench.versions, self.workspace
        if what == "restore":
            self.desk.edit(
                f"restored {self.workbench.versions.told(name)}",
                lambda latest, _: versions.restore(latest, name),
            )
        elif what == "diff" and workspace is not None:
            task = self._comparing(workspace, name)
            self.desk.work(task, name="comparing", group="compare", exclusive=True)

    async def _comparing(self, workspace: Workspace, name: str) -> None:
        def comparing(on_progress: OnProgress) -> Compared:
            versions = self.workbench.versions
            before = versions.at(workspace, name)
            return Compared(name, before, workspace, versions.compare(before, workspace, on_progress))

        self.post_message(await self.desk.in_thread(comparing, name="comparing"))

    @on(Compared)
    def _compared(self, event: Compared) -> None:
        dialog = DiffDialog(
            self.workbench.versions.told(event.name), event.before, event.after, event.difference
        )
        self.app.push_screen(dialog, lambda rows: self._revert(event.name, rows))

    def _revert(self, name: str, rows: list[int] | None) -> None:
        versions = self.workbench.versions
        if rows:
            label = f"reverted {conversations(len(rows))} to {self.workbench.versions.told(name)}"
            self.desk.edit(label, lambda latest, _: versions.revert(latest, name, rows))
