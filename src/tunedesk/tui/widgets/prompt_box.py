"""A few lines to write in: Enter sends, Shift+Enter (or Ctrl+J) breaks the line, ↑ on the first line recalls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tunedesk.tui.widgets.text_fields import TextBox

_REMEMBERED = 100


class PromptBox(TextBox):
    """Grows with its text up to its `max-height`; remembers what was sent."""

    DEFAULT_CSS = """
    PromptBox { height: auto; min-height: 1; max-height: 6; border: none; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", id="prompt.send", tooltip="Send what is written", priority=True),
        Binding("shift+enter,ctrl+j", "newline", "New line", id="prompt.newline", show=False,
                tooltip="Begin a new line", priority=True),
    ]  # fmt: skip

    @dataclass
    class Sent(Message):
        """Enter was pressed on a text that is not empty."""

        text: str

    def __init__(self, placeholder: str = "") -> None:
        """Start empty."""
        super().__init__(
            placeholder=placeholder, compact=True, highlight_cursor_line=False, tab_behavior="focus"
        )
        self.cursor_blink = False
        self._sent: list[str] = []
        self._recalled = 0

    def action_send(self) -> None:
        """Tell what is written, and empty the box; an empty text stays."""
        text = self.text.strip()
        if text:
            self._sent = [*self._sent, text][-_REMEMBERED:]
            self._recalled = 0
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """Go up, or from the first line back to what was sent before."""
        if self.cursor_location[0] == 0 and not select and self._recalled < len(self._sent):
            self._recall(self._recalled + 1)
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Go down, or from the last line forward in what was sent."""
        if self.cursor_location[0] == self.document.line_count - 1 and not select and self._recalled:
            self._recall(self._recalled - 1)
        else:
            super().action_cursor_down(select)

    def _recall(self, back: int) -> None:
        self._recalled = back
        self.text = self._sent[-back] if back else ""
        self.move_cursor(self.document.end)
