"""Editing messages by key: their text, role, weight and order, in one conversation or alike in many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual.binding import BindingType

from tunedesk.core.conversations import ROLES, Row, content_text
from tunedesk.core.editing import edits
from tunedesk.tui.editor import edit_text
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView, messages_of
from tunedesk.tui.screens.curation import Draft, conversations
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.screens.editing import RowEditingScreen, Targets, edit_key
from tunedesk.tui.screens.message_dialogs import MessageDialog

_ON_MESSAGE = ("role", "delete_message", "split_message", "merge_message", "move_message", "edit_here")
_FOR_ONE = ("edit_here", "edit")
"""What is done to one conversation, whatever is selected."""
_MOST_IN_A_DIALOG = 200_000
"""Characters of a message that are edited in a dialog: of more, each key typed there would take 0.1 s and longer."""
_NEXT_ROLE = {
    "user": "assistant",
    "assistant": "user",
    "system": "user",
    "developer": "user",
    "tool": "assistant",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The message under the cursor of the conversation view."""

    index: int
    """Its row."""
    row: Row
    number: int
    message: dict[str, Any]

    @property
    def role(self) -> str:
        """Its role."""
        return str(self.message.get("role", ""))

    @property
    def text(self) -> str:
        """Its text."""
        return content_text(self.message.get("content"))


class EditingScreen(RowEditingScreen):
    """A screen whose conversations are edited message by message, singly or many at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        edit_key("w", "weight", "Weight", "Train on the reply under the cursor, or on all of the selection, or not"),
        edit_key("R", "role", "Role", "Give the message another role, in the whole selection where it has this one"),
        edit_key("E", "edit_here", "Edit here", "Edit the message in a dialog"),
        edit_key("A", "add_message", "Add message", "Write a message after the one under the cursor"),
        edit_key("d", "delete_message", "Delete message", "Take the message out, in all selected conversations alike"),
        edit_key("K", "move_message(-1)", "Move up", "Move the message before the one above"),
        edit_key("J", "move_message(1)", "Move down", "Move the message after the one below"),
        edit_key("b", "split_message", "Split", "Split the message where the cursor is put"),
        edit_key("B", "merge_message", "Merge", "Join the message and the next one"),
    ]  # fmt: skip

    def place(self) -> Place | None:
        """Return the message under the cursor of the conversation view, None without one."""
        index, view = self.query_one(ConversationList).index, self.query_one(ConversationView)
        number = view.message
        if self.workspace is None or index is None or number is None:
            return None
        row = self.row_at(self.workspace, index)
        messages = messages_of(row)
        if "messages" not in row or number >= len(messages) or not isinstance(messages[number], dict):
            return None
        return Place(index, row, number, messages[number])

    # --- messages

    def action_edit(self) -> None:
        """Edit the message under the cursor in the user's editor, or the whole row while it is shown as JSON."""
        if self.query_one(ConversationView).raw:
            super().action_edit()
            return
        place = self.place()
        if place is None:
            return
        with self.desk.reporting("editing"):
            draft = self.draft(place.index)
            text = edit_text(self.app, draft or place.text)
            if text is None and not draft:
                self.say("nothing was changed")
            elif not (text := text if text is not None else draft).strip():
                self.say("the editor left nothing: the message stays; d deletes it", "warning")
            else:
                self._reword(place, text)

    def action_edit_here(self) -> None:
        """Edit the message in a dialog."""
        place = self.place()
        assert place is not None
        text = self.draft(place.index) or place.text
        dialog = MessageDialog(f"Message {place.number + 1}", text, [place.role])
        self.app.push_screen(dialog, lambda written: self._reword(place, written.text) if written else None)

    def _reword(self, place: Place, text: str) -> None:
        if text != place.text:
            edit = edits.replace_message([place.index], place.number, text)
            self._draft = Draft(place.index, text)
            self.edit_rows(edit, f"reworded message {place.number + 1}", of=place.row)

    def action_weight(self) -> None:
        """Leave the reply under the cursor out of the loss, or take it back; of many rows, all their replies."""
        targets, place = self.targets(), self.place()
        if targets.many and not self.query_one(ConversationView).has_focus:
            replies = (
                [
                    one
                    for one in messages_of(self.workspace.row(next(iter(targets.rows))))
                    if isinstance(one, dict)
                ]
                if self.workspace
                else []
            )
            off = any(one.get("role") == "assistant" and one.get("weight") == 0 for one in replies)
            what = "train on all replies" if off else "train on no reply"
            self.make_edit(
                what.capitalize(),
                lambda rows: edits.set_weight(rows, None, None if off else 0),
                what,
                targets,
            )
            return
        assert place is not None
        off = place.message.get("weight") == 0
        self.make_edit(
            f"Message {place.number + 1} {'trained' if off else 'not trained'}",
            lambda rows: edits.set_weight(rows, place.number, None if off else 0),
            f"message {place.number + 1} is {'trained' if off else 'not trained'}", targets,
        )  # fmt: skip

    def action_role(self) -> None:
        """Choose another role for the message."""
        place, targets = self.place(), self.targets()
        assert place is not None

        def chosen(role: str | None) -> None:
            if role and role != place.role:
                of = place.role if targets.many else ""
                self.make_edit(
                    f"Message {place.number + 1} becomes {role}",
                    lambda rows: edits.set_role(rows, place.number, role, of=of),
                    f"message {place.number + 1} is {role} now", targets, of=place.row,
                )  # fmt: skip

        choices = [(role, role) for role in ROLES]
        self.app.push_screen(ChooseDialog(f"Role of message {place.number + 1}", choices, place.role), chosen)

    def action_add_message(self) -> None:
        """Write a message after the one under the cursor, at the end while the list is looked at; in many alike."""
        index = self.query_one(ConversationList).index
        assert self.workspace is not None
        assert index is not None
        row = self.workspace.row(index)
        messages = messages_of(row)
        here = self.place() if self.query_one(ConversationView).has_focus else None
        at = here.number + 1 if here else len(messages)
        before = messages[at - 1] if at and isinstance(messages[at - 1], dict) else {}
        first = _NEXT_ROLE.get(str(before.get("role")), "user")
        roles = [first, *(role for role in ("user", "assistant", "system", "tool") if role != first)]

        targets = self.targets()
        of = here.role if here and targets.many else ""
        where = f"message {at + 1}" if of or not targets.many else "message at the end"

        def written(message: Any) -> None:
            if message is not None and targets.many:
                place = at if of else edits.END
                self.make_edit(
                    f"New {where} ({message.role})",
                    lambda rows: edits.add_message(rows, place, message.role, message.text, of=of),
                    f"added a {where}", targets,
                )  # fmt: skip
            elif message is not None:
                edit = edits.add_message([index], at, message.role, message.text)
                self._draft = Draft(index, message.text)
                self.edit_rows(edit, f"added message {at + 1}", of=row)

        many = f" of {conversations(len(targets.rows))}" if targets.many else ""
        self.app.push_screen(MessageDialog(f"New {where}{many}", self.draft(index), roles), written)

    def action_delete_message(self) -> None:
        """Take the message out."""
        place, targets = self.place(), self.targets()
        assert place is not None
        of = place.role if targets.many else ""
        self.make_edit(
            f"Delete message {place.number + 1} ({place.role})",
            lambda rows: edits.delete_message(rows, place.number, of=of),
            f"deleted message {place.number + 1}", targets,
        )  # fmt: skip

    def action_move_message(self, step: int) -> None:
        """Move the message up or down, in many alike; in one the cursor goes with it."""
        place, targets = self.place(), self.targets()
        assert place is not None
        to = place.number + step
        if targets.many and 0 <= to < len(messages_of(place.row)):
            self.make_edit(
                f"Move message {place.number + 1} ({place.role}) {'up' if step < 0 else 'down'}",
                lambda rows: edits.move_message(rows, place.number, to, of=place.role),
                f"moved message {place.number + 1}", targets,
            )  # fmt: skip
        elif 0 <= to < len(messages_of(place.row)):
            self.edit_rows(
                edits.move_message([place.index], place.number, to), f"moved message {place.number + 1}"
            )
            self.query_one(ConversationView).cursor = to
        else:
            self.say("it is the first message already" if step < 0 else "it is the last message already")

    def action_split_message(self) -> None:
        """Ask where to split the message and whose the second half is; in many before what text."""
        place, targets = self.place(), self.targets()
        assert place is not None
        if targets.many:
            self._split_many(place, targets)
            return
        roles = [
            place.role,
            *(role for role in ("user", "assistant", "system", "tool") if role != place.role),
        ]
        dialog = MessageDialog(
            f"Split message {place.number + 1}: put the cursor where the second half begins", place.text, roles,
            note="above: the role of the second half", fixed=True,
        )  # fmt: skip

        def pointed(written: Any) -> None:
            if written is not None:
                edit = edits.split_message([place.index], place.number, written.at, written.role)
                self.edit_rows(edit, f"split message {place.number + 1}", of=place.row)

        self.app.push_screen(dialog, pointed)

    def _split_many(self, place: Place, targets: Targets) -> None:
        def typed(line: str | None) -> None:
            if line and line.strip():
                with self.desk.reporting("splitting"):
                    self.make_edit(
                        f"Split message {place.number + 1} ({place.role})",
                        lambda rows: edits.split_before(rows, place.number, line, of=place.role),
                        f"split message {place.number + 1}", targets,
                    )  # fmt: skip

        title = f"Split message {place.number + 1} of {conversations(len(targets.rows))} before"
        note = "a text, or /pattern/, at its first place; => user after it makes the second half the user's"
        self.app.push_screen(TextDialog(title, placeholder="Best regards", note=note), typed)

    def action_merge_message(self) -> None:
        """Join the message and the next one."""
        place, targets = self.place(), self.targets()
        assert place is not None
        of = place.role if targets.many else ""
        self.make_edit(
            f"Merge messages {place.number + 1} and {place.number + 2}",
            lambda rows: edits.merge_messages(rows, place.number, of=of),
            f"merged messages {place.number + 1} and {place.number + 2}", targets,
        )  # fmt: skip

    # --- why not

    def why_not(self, action: str) -> str:
        """Return why an edit cannot be made now."""
        if self.workspace is None:
            return super().why_not(action)
        targets = self.targets()
        if action in (*_ON_MESSAGE, *_FOR_ONE, "weight", "add_message"):
            if not targets.rows:
                return "no conversation under the cursor"
            if targets.many and action in _FOR_ONE:
                return "this is done to one conversation: Escape in the list forgets the selection"
        if action in _ON_MESSAGE or (action == "weight" and not targets.many):
            return self._why_not_here(action)
        return super().why_not(action)

    def _why_not_here(self, action: str) -> str:
        place = self.place()
        if place is None:
            return "no message under the cursor: press r, then e edits the row as JSON"
        if action == "weight":
            assistant = place.role == "assistant"
            return (
                ""
                if assistant
                else "only assistant messages are trained: go to one in the conversation (Enter, then j)"
            )
        if not self.query_one(ConversationView).has_focus:
            return "choose a message first: Enter goes to the conversation, j and k to a message"
        if action in ("edit_here", "split_message") and not isinstance(
            place.message.get("content"), str | None
        ):
            return "this message has content parts: press r, then e edits the row as JSON"
        if action in ("edit_here", "split_message") and len(place.text) > _MOST_IN_A_DIALOG:
            return f"this message has {len(place.text):,} characters: e edits it in $EDITOR"
        return ""
