"""One line under a screen: what just happened, why a key is disabled, and how far the work in the background is."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import plain_line

_SIGNS = {"information": "", "warning": "! ", "error": "✗ "}


class StatusLine(Widget):
    """A message on the left and progress on the right, one row high."""

    DEFAULT_CSS = """
    StatusLine { height: 1; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    StatusLine.-warning { color: $text-warning; text-style: bold; }
    StatusLine.-error { color: $text-error; text-style: bold; }
    """

    message: reactive[str] = reactive("")
    severity: reactive[str] = reactive("information")
    progress: reactive[str] = reactive("")

    def say(self, message: str, severity: str = "information") -> None:
        """Show `message`; `severity` is information, warning or error, told by a sign as well as by colour."""
        self.message, self.severity = message, severity

    def watch_severity(self, old: str, new: str) -> None:
        """Let the stylesheet colour the line by severity."""
        self.remove_class(f"-{old}")
        self.add_class(f"-{new}")

    def render(self) -> Content:
        """Return the message, with the progress right-aligned when there is any."""
        left = plain_line(_SIGNS.get(self.severity, "") + self.message)
        if not self.progress:
            return left
        right = plain_line(self.progress)
        room = max(0, self.size.width - right.cell_length - 2)
        return Content.assemble(left.truncate(room, ellipsis=True).pad_right(0), _gap(left, room), right)


def _gap(left: Content, room: int) -> str:
    return " " * (max(0, room - left.cell_length) + 2)
