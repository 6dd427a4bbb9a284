"""The two questions of the Chat screen: which models, and under which system prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static, TextArea

from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.text_fields import TextBox

MOST_MODELS = 4
"""Models that still have room side by side."""


class ModelsDialog(Dialog[tuple[str, ...]]):
    """Which models answer, in the order of the list; returns at least one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "tick", "Tick", id="models.tick", priority=True),
        Binding("enter", "accept", "Accept", id="models.accept", priority=True),
    ]

    def __init__(
        self, models: Sequence[tuple[str, str]], chosen: Sequence[str], *, most: int = MOST_MODELS
    ) -> None:
        """Offer `models`, each (id, what it is), with those in `chosen` ticked; at most `most` may be."""
        super().__init__("Models side by side", "Space tick · Enter accept · Esc cancel")
        self._models = tuple(models)
        self._ticked = [model in chosen for model, _ in models]
        self._most = most

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list."""
        yield OptionList(*(self._line(position) for position in range(len(self._models))), markup=False)
        yield Static("", markup=False, classes="bad", id="models-note")

    def on_mount(self) -> None:
        """Put the cursor on the first model."""
        self.query_one(OptionList).highlighted = 0

    def _line(self, position: int) -> Content:
        model, what = self._models[position]
        return plain_line(f"{'[✓]' if self._ticked[position] else '[ ]'} {model}  {what}".rstrip())

    def action_tick(self) -> None:
        """Tick the model under the cursor, or not any more."""
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self._ticked[options.highlighted] = not self._ticked[options.highlighted]
            options.replace_option_prompt_at_index(options.highlighted, self._line(options.highlighted))

    def action_accept(self) -> None:
        """Return the ticked models, unless none or too many are."""
        models = tuple(model for (model, _), ticked in zip(self._models, self._ticked, strict=True) if ticked)
        if 1 <= len(models) <= self._most:
            self.dismiss(models)
        else:
            self.query_one("#models-note", Static).update(f"✗ tick one to {self._most} models")


class SystemDialog(Dialog[str]):
    """The system prompt of this chat; an empty one means none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Accept", id="system.accept", priority=True),
    ]

    def __init__(self, text: str) -> None:
        """Edit `text`."""
        super().__init__("System prompt of this chat", "Ctrl+S accept · Esc cancel")
        self._text = text

    def compose_body(self) -> Iterable[Widget]:
        """Yield the text."""
        area = TextBox(self._text, compact=True, highlight_cursor_line=False, id="system-text")
        area.cursor_blink = False
        yield area
        yield Static(
            "Holds for the next messages here; the dataset keeps its own (1 Data).",
            markup=False,
            classes="note",
        )

    def on_mount(self) -> None:
        """Write on at the end."""
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)

    def action_accept(self) -> None:
        """Return what is written."""
        self.dismiss(self.query_one(TextArea).text.strip())
