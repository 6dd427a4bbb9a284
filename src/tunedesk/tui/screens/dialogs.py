"""Dialogs that ask one thing and return it: a choice, a yes, a line of text."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tunedesk.tui.widgets.plain import plain, plain_line
from tunedesk.tui.widgets.text_fields import TextField

Result = TypeVar("Result")


class Modal(ModalScreen[Result]):
    """A screen over another that never closes but itself."""

    _late: tuple[Result | None] | None = None
    """The answer that was given when another screen was on top already."""

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Close with an answer, once this is the screen on top.

        In a burst of keys the one that answers can be followed by one that opens something before it is acted on;
        Textual would close what was opened, and fail when the same is answered again.
        """
        if self.is_active:
            return super().dismiss(result)
        self._late = (result,)
        return AwaitComplete()

    def on_screen_resume(self) -> None:
        """Close with the answer that was given meanwhile."""
        if self._late is not None:
            self.dismiss(*self._late)


class Dialog(Modal[Result | None]):
    """A framed box over the screen; Escape returns None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="dialog.cancel", tooltip="Close without doing anything")
    ]

    def __init__(self, title: str, keys: str = "Enter accept · Esc cancel") -> None:
        """Show `title` above and `keys` below what `compose_body` yields."""
        super().__init__()
        self._title = title
        self._keys = keys

    def compose(self) -> ComposeResult:
        """Frame the body."""
        with Vertical(classes="dialog") as box:
            box.border_title = plain_line(self._title)
            box.border_subtitle = plain_line(self._keys)
            yield from self.compose_body()

    def compose_body(self) -> Iterable[Widget]:
        """Yield what the dialog asks."""
        return ()

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class ChooseDialog(Dialog[str]):
    """One of several named choices; returns its key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "Down", id="choose.down", tooltip="Next choice"),
        Binding("k", "move(-1)", "Up", id="choose.up", tooltip="Choice before"),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], current: str = "") -> None:
        """Offer `choices`, each (key, text), with the cursor on `current`."""
        super().__init__(title, "↑ ↓ choose · Enter accept · Esc cancel")
        self._choices = tuple(choices)
        self._current = current

    def compose_body(self) -> Iterable[Widget]:
        """Yield the choices."""
        yield OptionList(*(Option(plain_line(text)) for _, text in self._choices), markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the current choice."""
        keys = [key for key, _ in self._choices]
        self.query_one(OptionList).highlighted = keys.index(self._current) if self._current in keys else 0

    def action_move(self, step: int) -> None:
        """Go to the next choice or the one before, as the arrows do."""
        listing = self.query_one(OptionList)
        if step > 0:
            listing.action_cursor_down()
        else:
            listing.action_cursor_up()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index][0])


class KeptDialog(ChooseDialog):
    """One of several kept things; `d` returns the key behind FORGET, `r` behind RENAME."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "d,delete", "forget", "Forget", id="kept.forget", tooltip="Drop the name; nothing else is lost"
        ),
        Binding("r", "rename", "Rename", id="kept.rename", tooltip="Give it another name"),
    ]
    FORGET = "\0forget "
    RENAME = "\0rename "

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], names: Container[str]) -> None:
        """Offer `choices`, of which those in `names` can be forgotten or renamed."""
        super().__init__(title, choices)
        self._keys = "↑ ↓ choose · Enter accept · r rename · d forget · Esc cancel"
        self._names = names

    def action_forget(self) -> None:
        """Return what is to be forgotten, unless it cannot be."""
        self._return(self.FORGET)

    def action_rename(self) -> None:
        """Return what is to be renamed, unless it cannot be."""
        self._return(self.RENAME)

    def _return(self, what: str) -> None:
        place = self.query_one(OptionList).highlighted
        key = self._choices[place][0] if place is not None else ""
        if key in self._names:
            self.dismiss(what + key)


class ConfirmDialog(Dialog[bool]):
    """Yes or no to something that touches many conversations or money."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes", id="dialog.yes"),
        Binding("n", "answer(False)", "No", id="dialog.no"),
    ]

    def __init__(self, title: str, text: str) -> None:
        """Ask `text` under `title`."""
        super().__init__(title, "Enter or y yes · n or Esc no")
        self._text = text

    def compose_body(self) -> Iterable[Widget]:
        """Yield the question."""
        yield Static(plain(self._text), markup=False)

    def action_answer(self, yes: bool) -> None:
        """Return the answer."""
        self.dismiss(yes)


class TextDialog(Dialog[str]):
    """One line of text."""

    def __init__(self, title: str, *, value: str = "", placeholder: str = "", note: str = "") -> None:
        """Ask for a line, starting with `value`; `note` says what it does."""
        super().__init__(title)
        self._value, self._placeholder, self._note = value, placeholder, note

    def compose_body(self) -> Iterable[Widget]:
        """Yield the input."""
        yield TextField(self._value, placeholder=self._placeholder, select_on_focus=False)
        if self._note:
            yield Static(plain(self._note), markup=False, classes="note")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class TellDialog(Dialog[None]):
    """Something to read."""

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        """Show `lines` under `title`."""
        super().__init__(title, "Esc closes")
        self._lines = tuple(lines)

    def compose_body(self) -> Iterable[Widget]:
        """Yield the text."""
        with VerticalScroll():
            yield Static(plain("\n".join(self._lines)), markup=False)
