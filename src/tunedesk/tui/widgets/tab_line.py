"""One line that names the panes that share a place, each with its key, the one that is shown marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.tui.widgets.plain import plain_line


class TabLine(Widget):
    """Names of panes; the shown one is in brackets and reversed."""

    DEFAULT_CSS = """
    TabLine { height: 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    active: reactive[str] = reactive("")
    counts: reactive[dict[str, str]] = reactive(dict)
    """What is said behind a name, by the name's key; such as how many there are."""

    @dataclass
    class Chosen(Message):
        """A name was clicked."""

        name: str

    def __init__(self, tabs: Sequence[tuple[str, str, str]]) -> None:
        """Show `tabs`, each (name, key, label)."""
        super().__init__()
        self._tabs = tuple(tabs)
        self._spans: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        """Return the line."""
        parts: list[Content] = []
        self._spans, x = [], 0
        for name, key, label in self._tabs:
            count = self.counts.get(name, "")
            text = f"{key} {label}" + (f" {count}" if count else "")
            text = f"▐{text}▌" if name == self.active else f" {text} "
            parts.append(plain_line(text, "bold reverse" if name == self.active else ""))
            self._spans.append((x, x + len(text), name))
            x += len(text)
        return Content("").join(parts)

    def on_click(self, event: Click) -> None:
        """Tell which name was clicked."""
        for start, end, name in self._spans:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))
