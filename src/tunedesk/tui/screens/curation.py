"""Curating: every edit of the conversations that a key makes, each journalled and undoable."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from textual.reactive import reactive

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.editing import edits
from tunedesk.errors import DataError
from tunedesk.tui.editor import edit_text
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView, messages_of
from tunedesk.tui.screens.desk_screen import DeskScreen
from tunedesk.tui.screens.dialogs import TextDialog

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench


class CurationScreen(DeskScreen):
    """A screen with a list and a conversation whose rows can be edited."""

    workspace: reactive[Workspace | None] = reactive(None)

    @property
    def workbench(self) -> Workbench:
        """The services; actions are disabled until they are there."""
        workbench = self.desk.workbench
        assert workbench is not None
        return workbench

    def edit_rows(self, edit: edits.Edit, label: str) -> None:
        """Journal an edit in the background, and show it."""
        bench = self.workbench
        self.desk.change(f"{label}: u undoes", lambda latest, _: bench.edit(latest, edit))

    def targets(self) -> list[int]:
        """Return the selected rows, else the one under the cursor."""
        listing = self.query_one(ConversationList)
        if listing.selected:
            return sorted(listing.selected)
        return [] if listing.index is None else [listing.index]

    def action_exclude(self) -> None:
        """Exclude the selection or the row; take it back in when all of it is excluded."""
        workspace, rows = self.workspace, self.targets()
        assert workspace is not None
        out = not all(workspace.view(index).excluded for index in rows)
        edit = edits.exclude(rows) if out else edits.include(rows)
        self.edit_rows(edit, f"{'excluded' if out else 'included'} {conversations(len(rows))}")

    def action_tag(self) -> None:
        """Ask for a tag, and put it on the selection or the row."""
        rows = self.targets()

        def tagged(name: str | None) -> None:
            with self.desk.reporting("tagging"):
                if name and name.startswith("-"):
                    self.edit_rows(edits.untag(rows, name[1:]), f"untagged {conversations(len(rows))}")
                elif name:
                    self.edit_rows(edits.tag(rows, name), f"tagged {conversations(len(rows))}")

        note = "-name takes a tag off; tag:name in the filter finds them"
        self.app.push_screen(
            TextDialog(f"Tag {conversations(len(rows))}", placeholder="keep", note=note), tagged
        )

    def action_edit(self) -> None:
        """Edit the message under the cursor, or the whole row while it is shown as JSON."""
        index, view = self.query_one(ConversationList).index, self.query_one(ConversationView)
        assert self.workspace is not None
        assert index is not None
        row = self.workspace.row(index)
        with self.desk.reporting("editing"):
            if view.raw:
                self._edit_json(index, row)
                return
            number = view.message or 0
            text = edit_text(self.app, content_text(messages_of(row)[number].get("content")))
            if text is not None:
                self.edit_rows(edits.replace_message([index], number, text), f"reworded message {number + 1}")

    def _edit_json(self, index: int, row: Row) -> None:
        text = edit_text(self.app, json.dumps(row, ensure_ascii=False, indent=2), suffix=".json")
        if text is not None:
            self.edit_rows(edits.replace_row(index, _row_of(text)), "edited the row")

    def action_weight(self) -> None:
        """Leave the assistant's message out of the loss, or take it back."""
        index, number = self.query_one(ConversationList).index, self.query_one(ConversationView).message
        assert self.workspace is not None
        assert index is not None
        assert number is not None
        off = messages_of(self.workspace.row(index))[number].get("weight") == 0
        edit = edits.set_weight([index], number, None if off else 0)
        self.edit_rows(edit, f"message {number + 1} is {'trained' if off else 'not trained'}")

    def action_undo(self) -> None:
        """Take back the last edit."""
        bench, last = self.workbench, self.workspace.undoable if self.workspace else None
        if last is not None:
            self.desk.change(f"undid: {last.edit.label}", lambda latest, _: bench.undo(latest))

    def action_redo(self) -> None:
        """Bring back what was undone last."""
        bench, last = self.workbench, self.workspace.redoable if self.workspace else None
        if last is not None:
            self.desk.change(f"redid: {last.edit.label}", lambda latest, _: bench.redo(latest))

    def why_not(self, action: str) -> str:
        """Return why an edit cannot be made now."""
        workspace = self.workspace
        if workspace is None:
            return ""
        index = self.query_one(ConversationList).index
        if action in ("exclude", "tag", "edit", "weight") and index is None:
            return "no conversation under the cursor"
        if action == "undo" and workspace.undoable is None:
            return "nothing to undo: no edit was made yet"
        if action == "redo" and workspace.redoable is None:
            return "nothing to redo"
        if action in ("edit", "weight") and index is not None:
            return self._why_not_message(action, workspace.row(index))
        return ""

    def _why_not_message(self, action: str, row: Row) -> str:
        view = self.query_one(ConversationView)
        if action == "edit" and view.raw:
            return ""
        number, messages = view.message, messages_of(row)
        message = messages[number] if number is not None and number < len(messages) else None
        if not isinstance(message, dict) or "messages" not in row:
            return "no message under the cursor: press r, then e edits the row as JSON"
        if action == "edit" and not isinstance(message.get("content"), str | None):
            return "this message has content parts: press r, then e edits the row as JSON"
        if action == "weight" and message.get("role") != "assistant":
            return "only assistant messages are trained: go to one in the conversation (Enter, then j)"
        return ""


def _row_of(text: str) -> Row:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", "nothing was changed; press e to try again") from error
    if not isinstance(row, dict):
        raise DataError("a row is a JSON object", "nothing was changed; press e to try again")
    return row


def conversations(count: int) -> str:
    """Return a count in words."""
    return "1 conversation" if count == 1 else f"{count:,} conversations"
