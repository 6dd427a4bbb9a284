"""Editing conversations by key: over one, a selection, or all that the query matched, shown before it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from tunedesk.core.conversations import Row
from tunedesk.core.editing import edits
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import messages_of
from tunedesk.tui.screens.curating import CuratingScreen
from tunedesk.tui.screens.curation import conversations
from tunedesk.tui.screens.dialogs import ConfirmDialog, TextDialog

if TYPE_CHECKING:
    from tunedesk.core.editing.edits import Edit
    from tunedesk.tui.desk import OnProgress

_MOST_COPIES = 20_000
"""Copies that one edit holds: some 20 MB, which each start reads."""


def edit_key(key: str, action: str, label: str, tooltip: str) -> Binding:
    """Return the binding of an edit, named by its action."""
    name = action.partition("(")[0]
    suffix = {"move_message(-1)": ".up"}.get(action, "")
    return Binding(key, action, label, show=False, id=f"data.{name}{suffix}", tooltip=tooltip)


@dataclass(frozen=True, slots=True)
class Targets:
    """The conversations that an edit is about."""

    rows: Collection[int]
    all_shown: bool = False
    """Whether they are all that the query matched, and were selected as that."""

    @property
    def many(self) -> bool:
        """Whether the edit is shown before it is made."""
        return len(self.rows) > 1

    @property
    def words(self) -> str:
        """What they are, for the title of a preview."""
        count = len(self.rows)
        return f"apply to {count:,} matches" if self.all_shown else f"apply to {conversations(count)}"


class RowEditingScreen(CuratingScreen):
    """A screen whose conversations are edited singly or many at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        edit_key("x", "exclude", "Exclude", "Leave the row or selection out of training, or take it back"),
        edit_key("t", "tag", "Tag", "Tag the row or selection (-name takes a tag off)"),
        edit_key("percent_sign", "replace_text", "Replace", "Replace a text in the row, the selection or all matches"),
        edit_key("y", "duplicate", "Duplicate", "Add a copy of the row or selection as new conversations"),
        edit_key("ctrl+n", "new_conversation", "New", "Add an empty conversation to write in"),
    ]  # fmt: skip

    # --- what is edited

    def targets(self) -> Targets:
        """Return the selected rows, else the one under the cursor."""
        listing = self.query_one(ConversationList)
        chosen = listing.selected
        if chosen:
            workspace = self.workspace
            as_many = workspace is not None and len(chosen) == workspace.matched
            return Targets(chosen, as_many and workspace is not None and chosen is workspace.found.as_set)
        return Targets(() if listing.index is None else (listing.index,))

    def make_edit(
        self, title: str, build: Callable[[Iterable[int]], Edit], label: str, targets: Targets | None = None,
        *, of: Row | None = None,
    ) -> None:  # fmt: skip
        """Make the edit that `build` makes of rows: at once for one (as it was in `of`), else shown first, as one."""
        wanted = targets or self.targets()
        bench, workspace = self.workbench, self.workspace
        assert workspace is not None
        if not wanted.many:
            with self.desk.reporting(title):
                self.edit_rows(bench.curation.changing(workspace, build(wanted.rows)), label, of=of)
            return
        at = self.query_one(ConversationList).index

        def built(on_progress: OnProgress) -> tuple[Edit, str]:
            edit = bench.curation.changing(workspace, build(wanted.rows), on_progress)
            changed = edit.indexes()
            fewer = changed is not None and len(changed) < len(wanted.rows)
            return edit, f", {len(changed or ()):,} of them change" if fewer else ""

        async def asking() -> None:
            edit, fewer = await self.desk.in_thread(built, name="looking ahead")
            told = f"{wanted.words}{fewer}"
            await self.ask_and_edit(f"{title}: {told}", edit, label, first=at)

        self.desk.work(asking(), name=title, group="ask", exclusive=True)

    # --- conversations

    def action_exclude(self) -> None:
        """Exclude the row or the selection; take it back in when all of it is excluded."""
        workspace, targets = self.workspace, self.targets()
        assert workspace is not None
        out = not workspace.overlay.all_excluded(targets.rows)
        told = f"{'excluded' if out else 'included'} {conversations(len(targets.rows))}"
        self.make_edit(
            "Exclude" if out else "Include", edits.exclude if out else edits.include, told, targets
        )

    def action_tag(self) -> None:
        """Ask for a tag, and put it on the row or the selection."""
        targets = self.targets()
        many = conversations(len(targets.rows))

        def tagged(name: str | None) -> None:
            with self.desk.reporting("tagging"):
                if name and name.startswith("-"):
                    self.make_edit(
                        f"Untag {name[1:]}",
                        lambda rows: edits.untag(rows, name[1:]),
                        f"untagged {many}",
                        targets,
                    )
                elif name:
                    self.make_edit(
                        f"Tag {name}", lambda rows: edits.tag(rows, name), f"tagged {many}", targets
                    )

        note = "-name takes a tag off; tag:name in the filter finds them"
        self.app.push_screen(TextDialog(f"Tag {many}", placeholder="keep", note=note), tagged)

    def action_duplicate(self) -> None:
        """Add copies of the row or selection behind the last conversation."""
        workspace, targets = self.workspace, self.targets()
        assert workspace is not None
        many = conversations(len(targets.rows))

        def copied(yes: bool | None) -> None:
            if yes:
                self.desk.edit(
                    f"added a copy of {many}",
                    lambda latest, _: latest.add_rows(
                        [latest.row(index) for index in sorted(targets.rows)], "duplicate"
                    ),
                )

        if targets.many:
            text = "They are added behind the last conversation; one undo takes them all away."
            self.app.push_screen(ConfirmDialog(f"Add a copy of {many}?", text), copied)
        else:
            copied(True)

    def action_new_conversation(self) -> None:
        """Add a conversation of empty messages, with the system prompt of the one under the cursor."""
        index = self.query_one(ConversationList).index
        assert self.workspace is not None
        first = messages_of(self.workspace.row(index))[:1] if index is not None else []
        head = [one for one in first if isinstance(one, dict) and one.get("role") in ("system", "developer")]
        empty = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
        row: Row = {"messages": [*head, *empty]}
        self.desk.change(
            "added a conversation: End shows it, e writes in it",
            lambda latest, _: latest.add_rows([row], "new conversation"),
        )

    def action_replace_text(self) -> None:
        """Ask for a text and what to put in its place, in all messages of the row or the selection."""
        targets = self.targets()
        note = "what => with what; user: or assistant: before it limits it to a role; /pattern/ is a regular expression"

        def typed(line: str | None) -> None:
            if not line:
                return
            with self.desk.reporting("replacing"):
                told = edits.replacement(line)
                self.make_edit(
                    f"Replace {told.find}", lambda rows: edits.replace_text(
                        rows, told.find, told.text, role=told.role, pattern=told.pattern
                    ), "replaced the text", targets,
                )  # fmt: skip

        title = f"Replace in {conversations(len(targets.rows))}"
        self.app.push_screen(TextDialog(title, placeholder="Hello => Good morning", note=note), typed)

    def why_not(self, action: str) -> str:
        """Return why an edit cannot be made now."""
        own = ("exclude", "tag", "duplicate", "replace_text")
        if self.workspace is not None and action in own and not self.targets().rows:
            return "no conversation under the cursor"
        if self.workspace is not None and action == "duplicate" and len(self.targets().rows) > _MOST_COPIES:
            return f"no more than {_MOST_COPIES:,} conversations are copied at once: select fewer"
        return super().why_not(action)
