"""Curating: every edit of the conversations that a key makes, each journalled and undoable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.reactive import reactive

from tunedesk.core.conversations import Row
from tunedesk.core.editing import edits
from tunedesk.errors import DataError
from tunedesk.tui.editor import edit_text
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView, messages_of
from tunedesk.tui.screens.desk_screen import DeskScreen

if TYPE_CHECKING:
    from tunedesk.core.editing.history import Recorded
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that the user wrote and nothing was made of."""

    index: int
    """Of the conversation that it was written in."""
    text: str
    raw: bool = False
    """Whether it is a whole row as JSON."""


class CurationScreen(DeskScreen):
    """A screen with a list and a conversation whose rows can be edited."""

    workspace: reactive[Workspace | None] = reactive(None, repaint=False)
    _draft: Draft | None = None
    """What was written and could not be kept yet: the next edit of its kind in that conversation begins with it."""

    @property
    def workbench(self) -> Workbench:
        """The services; actions are disabled until they are there."""
        workbench = self.desk.workbench
        assert workbench is not None
        return workbench

    def edit_rows(self, edit: edits.Edit, label: str, *, of: Row | None = None) -> None:
        """Journal an edit in the background, and show it.

        `of` is the one row as it was when the user began to write or to choose: nothing is done to any other.
        """
        bench = self.workbench

        def made(latest: Workspace, _: object) -> Workspace:
            if of is not None and any(latest.row(index) != of for index in edit.indexes() or ()):
                kept = "; the next edit of a message begins with what you wrote" if self._draft else ""
                raise DataError(
                    "another window has changed this conversation meanwhile",
                    f"it is shown as it is now{kept}",
                )
            done = bench.edit(latest, edit)
            if of is not None:
                self._draft = None
            return done

        self.desk.edit(label, made)

    def draft(self, index: int, *, raw: bool = False) -> str:
        """Take what was written in a conversation and could not be kept; empty when there is nothing."""
        draft, self._draft = self._draft, None
        return draft.text if draft is not None and (draft.index, draft.raw) == (index, raw) else ""

    def action_edit(self) -> None:
        """Edit the whole row as JSON."""
        index = self.query_one(ConversationList).index
        assert self.workspace is not None
        assert index is not None
        with self.desk.reporting("editing"):
            self._edit_json(index, self.workspace.row(index))

    def _edit_json(self, index: int, row: Row) -> None:
        shown = self.draft(index, raw=True) or json.dumps(row, ensure_ascii=False, indent=2)
        text = edit_text(self.app, shown, suffix=".json")
        if text is None:
            self.say("nothing was changed")
            return
        self._draft = Draft(index, text, raw=True)
        self.edit_rows(edits.replace_row(index, _row_of(text)), "edited the row", of=row)

    def action_undo(self) -> None:
        """Take back the last edit, one that is still being made as soon as it is done."""
        bench, last = self.workbench, self.workspace.undoable if self.workspace else None
        if running := self._being_made():
            latest = self.desk.latest
            known = latest.undoable if latest is not None else None
            self.desk.change(f"cancelled: {running}", lambda latest, _: bench.undo(latest, since=known))
            self.say(f"still running: {running}; it is cancelled as soon as that can be done", "warning")
        elif last is not None:
            self._walk("undid", bench.undo, lambda done: done.redoable)

    def action_redo(self) -> None:
        """Bring back what was undone last."""
        bench, last = self.workbench, self.workspace.redoable if self.workspace else None
        if last is not None:
            self._walk("redid", bench.redo, lambda done: done.undoable)

    def _walk(
        self, verb: str, step: Callable[[Workspace], Workspace], made: Callable[[Workspace], Recorded | None]
    ) -> None:
        """Take one step through the journal, and say which it was: keys come faster than steps are shown."""
        said: list[str] = []

        def stepped(latest: Workspace, _: object) -> Workspace:
            done = step(latest)
            what = made(done)
            if done is not latest and what is not None:
                said.append(f"{verb}: {self._told(what.edit)}")
            return done

        self.desk.change(lambda: "".join(said), stepped, doing=f"{verb[:2]}doing")

    def _told(self, edit: edits.Edit) -> str:
        """Return what an edit did and to which conversation, as it may not be the one that is shown."""
        rows, workspace = edit.indexes(), self.workspace
        assert workspace is not None
        if rows is not None and len(rows) == 1 and rows[0] < len(workspace.dataset):
            return f"{edit.label}, line {workspace.line(rows[0]):,}"
        return f"{edit.label}, {conversations(len(workspace.dataset) if rows is None else len(rows))}"

    def why_not(self, action: str) -> str:
        """Return why an edit cannot be made now."""
        workspace = self.workspace
        if workspace is None:
            return ""
        index = self.query_one(ConversationList).index
        if action == "edit" and index is None:
            return "no conversation under the cursor"
        if action == "redo" and (running := self._being_made()):
            return f"still running: {running}"
        if action == "undo" and workspace.undoable is None and not self._being_made():
            if workspace.foreign:
                return "nothing to undo: all edits in force were made in another window"
            undone = workspace.redoable is not None
            return f"nothing to undo: {'all edits are undone' if undone else 'no edit was made yet'}"
        if action == "redo" and workspace.redoable is None:
            return "nothing to redo"
        if action == "edit" and index is not None:
            return self._why_not_message(self.row_at(workspace, index))
        return ""

    _read: tuple[object, int, Row] | None = None
    """The row that was read last, and the edits and the index that it was read by."""

    def row_at(self, workspace: Workspace, index: int) -> Row:
        """Return a row, read once for all keys that are greyed by it: one of 50 MB takes 150 ms."""
        if self._read is None or self._read[0] is not workspace.overlay or self._read[1] != index:
            self._read = workspace.overlay, index, workspace.row(index)
        return self._read[2]

    def _being_made(self) -> str:
        """Return the edit that is still being made, the newest one when several are; empty when none is."""
        return self.desk.editing[-1] if self.desk.editing else ""

    def _why_not_message(self, row: Row) -> str:
        view = self.query_one(ConversationView)
        if view.raw:
            return ""
        number, messages = view.message, messages_of(row)
        message = messages[number] if number is not None and number < len(messages) else None
        if not isinstance(message, dict) or "messages" not in row:
            return "no message under the cursor: press r, then e edits the row as JSON"
        if not isinstance(message.get("content"), str | None):
            return "this message has content parts: press r, then e edits the row as JSON"
        return ""


def _row_of(text: str) -> Row:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", "nothing was changed; e goes on with what you wrote") from error
    if not isinstance(row, dict):
        raise DataError("a row is a JSON object", "nothing was changed; e goes on with what you wrote")
    return row


def conversations(count: int) -> str:
    """Return a count in words."""
    return "1 conversation" if count == 1 else f"{count:,} conversations"
