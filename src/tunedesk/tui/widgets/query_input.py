"""A line in which a query is typed; Tab or → at its end takes the first candidate."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import one_line
from tunedesk.tui.widgets.text_fields import TextField

_STEP = 64
"""Cells by which the room for the text grows."""
_LEAVING = ("enter", "down", "escape")
_LEAVING_S = 1.0
"""Seconds that leaving may take; a key that comes later is taken after all."""


class QueryInput(TextField):
    """An input that knows how its text may go on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", show=False, id="filter.complete",
                tooltip="Take the first candidate for a field or value (→ at the end does too)"),
    ]  # fmt: skip

    class Accepted(Message):
        """The first candidate is wanted."""

    offered = False
    """Whether there is a candidate to take."""
    _left = 0.0
    """When a key was pressed that leaves the input; 0 while nothing leaves it."""

    @property
    def content_width(self) -> int:
        """Cells of the text, in steps: every other width asks for a layout of the screen, one a key."""
        return -(-super().content_width // _STEP) * _STEP

    async def _on_key(self, event: events.Key) -> None:
        """Take a key; one right behind what leaves the input belongs to who gets the focus next."""
        if monotonic() - self._left < _LEAVING_S:
            event.stop()
            event.prevent_default()
            self.app.post_message(events.Key(event.key, event.character))
            return
        self._left = monotonic() if event.key in _LEAVING else 0.0

    def on_focus(self) -> None:
        """Take all keys again."""
        self._left = 0.0

    def action_complete(self) -> None:
        """Take the first candidate, or go to the next pane where there is none."""
        if self.offered:
            self.post_message(self.Accepted())
        else:
            self.screen.focus_next()

    def action_cursor_right(self, select: bool = False) -> None:
        """Go right; at the end, take the first candidate."""
        if self.offered and not select and self.cursor_position == len(self.value):
            self.post_message(self.Accepted())
        else:
            super().action_cursor_right(select)


class Candidates(Widget):
    """One line that lies over what is below the input: candidates, the one that Tab takes first."""

    DEFAULT_CSS = """
    Candidates {
        height: 1; display: none; background: $panel; color: $foreground; padding: 0 1;
        text-wrap: nowrap; text-overflow: ellipsis;
        &.-some { display: block; }
    }
    """

    labels: reactive[tuple[str, ...]] = reactive(())

    def watch_labels(self) -> None:
        """Show the line while there is something on it."""
        self.set_class(bool(self.labels), "-some")

    def render(self) -> Content:
        """Return the line."""
        if not self.labels:
            return Content("")
        first, *others = [one_line(label) for label in self.labels]
        rest = "".join(f"   {label}" for label in others)
        return Content.assemble(("Tab ", "bold"), (f" {first} ", "bold reverse"), (rest, ""))
