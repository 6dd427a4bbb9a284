"""Dialogs over the text of one message: write it, or point at where it is split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static, TextArea

from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.text_fields import TextBox


@dataclass(frozen=True, slots=True)
class Written:
    """What a dialog returns."""

    role: str
    """Of the message, or of the second half of a split one."""
    text: str
    at: int
    """Where the cursor was, in characters from the start."""


class MessageDialog(Dialog[Written]):
    """A text to write in, and a role to choose by Ctrl+T where there is more than one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Without priority: they take their turn behind what was typed or pasted just before.
        Binding("ctrl+s", "accept", "Accept", id="message.accept"),
        Binding("ctrl+t", "role", "Role", id="message.role"),
    ]

    def __init__(
        self, title: str, text: str, roles: Sequence[str], *, note: str = "", fixed: bool = False
    ) -> None:
        """Begin with `text` and the first of `roles`; a `fixed` text is only pointed at."""
        other = " · Ctrl+T another role" if len(roles) > 1 else ""
        super().__init__(title, f"Ctrl+S accept{other} · Esc cancel")
        self._text, self._roles, self._note, self._fixed = text, list(roles), note, fixed

    def compose_body(self) -> Iterable[Widget]:
        """Yield the role, the text and what happens to it."""
        yield Static("", markup=False, id="message-role")
        area = TextBox(
            self._text, compact=True, highlight_cursor_line=False, read_only=self._fixed, id="message-text"
        )
        area.cursor_blink = False
        yield area
        if self._note:
            yield Static(plain_line(self._note), markup=False, classes="note")

    def on_mount(self) -> None:
        """Write on at the end; a text to point into begins at its start."""
        area = self.query_one(TextArea)
        area.focus()
        if not self._fixed:
            area.move_cursor(area.document.end)
        self._show_role()

    def _show_role(self) -> None:
        self.query_one("#message-role", Static).update(plain_line(self._roles[0], "bold"))

    def action_role(self) -> None:
        """Take the next role."""
        self._roles = [*self._roles[1:], self._roles[0]]
        self._show_role()

    def action_accept(self) -> None:
        """Return role, text and place."""
        area = self.query_one(TextArea)
        before = area.get_text_range((0, 0), area.cursor_location)
        self.dismiss(Written(self._roles[0], area.text, len(before)))
