"""The system prompt: written here or in the user's editor, then put on all conversations as one undoable edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static, TextArea

from tunedesk.terminal import visible
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.text_fields import TextBox


class SystemPromptPane(Vertical):
    """A text area with its own keys."""

    BORDER_TITLE = "System prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "apply", "Apply to all", id="prompt.apply",
                tooltip="Put this system prompt on all conversations (one undo takes it back)"),
        Binding("ctrl+g", "apply_shown", "Apply to shown", id="prompt.apply_shown",
                tooltip="Put it on the conversations that the filter matched"),
        Binding("ctrl+n", "keep", "Keep", id="prompt.keep", tooltip="Keep the prompt under a name"),
        Binding("ctrl+l", "load", "Load", id="prompt.load", tooltip="Load a kept prompt, or an earlier version of it"),
        Binding("ctrl+o", "editor", "Editor", id="prompt.editor", tooltip="Write the system prompt in $EDITOR"),
        Binding("escape", "leave", "Back", id="prompt.leave", tooltip="Back to the list, the text is kept"),
    ]  # fmt: skip

    @dataclass
    class Applied(Message):
        """The user wants this prompt on all conversations, or on those shown."""

        text: str
        shown_only: bool = False

    @dataclass
    class Changed(Message):
        """The prompt was typed or loaded."""

        text: str

    @dataclass
    class KeepAsked(Message):
        """The user wants to keep the prompt under a name."""

        text: str

    @dataclass
    class LoadAsked(Message):
        """The user wants to load a kept prompt."""

    @dataclass
    class EditorAsked(Message):
        """The user wants to write in the editor."""

        text: str

    @dataclass
    class Left(Message):
        """The user goes back to the list."""

    told: reactive[str] = reactive("")
    """What is known of the prompt: its cost, variables without a value, prompts that differ."""

    def compose(self) -> ComposeResult:
        """Lay out the text and its note."""
        yield TextBox(tab_behavior="focus", compact=True, highlight_cursor_line=False, id="prompt-text")
        yield Static("", id="prompt-told", markup=False)
        yield Static("", id="prompt-note", markup=False)

    def on_mount(self) -> None:
        """Save repaints: a blinking cursor is sent over the line twice a second."""
        self.query_one(TextArea).cursor_blink = False

    @property
    def text(self) -> str:
        """The prompt as written."""
        return self.query_one(TextArea).text

    def set_text(self, text: str) -> None:
        """Replace the text."""
        self.query_one(TextArea).text = text

    def focus_text(self) -> None:
        """Let the user write."""
        self.query_one(TextArea).focus()

    @on(TextArea.Changed)
    def _changed(self) -> None:
        hidden = sum(a != b for a, b in zip(self.text, visible(self.text, keep="\n\t"), strict=True))
        words = "Ctrl+S apply to all · ^G shown · ^N keep · ^L load · ^O editor · {{key}} from metadata"
        note = f"! {hidden} invisible characters in it" if hidden else words
        self.query_one("#prompt-note", Static).update(plain_line(note))
        self.post_message(self.Changed(self.text))

    def watch_told(self, told: str) -> None:
        """Show it in a line of its own."""
        line = self.query_one("#prompt-told", Static)
        line.update(plain_line(told))
        line.display = bool(told)

    def action_apply(self) -> None:
        """Put the prompt on all conversations."""
        self.post_message(self.Applied(self.text.strip()))

    def action_apply_shown(self) -> None:
        """Put the prompt on the conversations shown."""
        self.post_message(self.Applied(self.text.strip(), shown_only=True))

    def action_keep(self) -> None:
        """Keep the prompt under a name."""
        self.post_message(self.KeepAsked(self.text.strip()))

    def action_load(self) -> None:
        """Load a kept prompt."""
        self.post_message(self.LoadAsked())

    def action_editor(self) -> None:
        """Write in the editor."""
        self.post_message(self.EditorAsked(self.text))

    def action_leave(self) -> None:
        """Go back to the list."""
        self.post_message(self.Left())
