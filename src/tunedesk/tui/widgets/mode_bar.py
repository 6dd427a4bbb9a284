"""The top line of every screen: the screens with their keys, the one shown marked, and a caption on the right."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import plain_line


class ModeBar(Widget):
    """Names of the screens, one row high; the active one is in brackets and reversed."""

    DEFAULT_CSS = """
    ModeBar { height: 1; background: $panel; color: $foreground; text-wrap: nowrap; }
    """

    caption: reactive[str] = reactive("")

    class Chosen(Message):
        """A screen's name was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode
            """Mode of the screen."""

    def __init__(self, modes: Sequence[tuple[str, str, str]], active: str) -> None:
        """Show `modes`, each (mode, key, label), with `active` marked."""
        super().__init__()
        self._modes = tuple(modes)
        self._active = active
        self._spans: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        """Return the line, the caption cut when there is no room for it."""
        parts: list[Content] = []
        self._spans, x = [], 0
        for mode, key, label in self._modes:
            active = mode == self._active
            text = f"▐{key} {label}▌" if active else f" {key} {label} "
            parts.append(Content.styled(text, "bold reverse" if active else ""))
            self._spans.append((x, x + len(text), mode))
            x += len(text)
        caption = plain_line(self.caption)
        room = self.size.width - x - 2
        if room < 8:
            return Content("").join(parts)
        caption = caption.truncate(room, ellipsis=True)
        return Content("").join([*parts, Content(" " * (room - caption.cell_length + 1)), caption])

    def on_click(self, event: Click) -> None:
        """Tell which screen's name was clicked."""
        for start, end, mode in self._spans:
            if start <= event.x < end:
                self.post_message(self.Chosen(mode))
