"""The filter: a query typed in one line, with what it matches or where it stops making sense beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.query_input import Candidates, QueryInput

if TYPE_CHECKING:
    from tunedesk.core.searching.completion import Candidate


class FilterBar(Horizontal):
    """Posts the query at every key; Enter or Down goes to the list, Escape clears and goes."""

    BORDER_TITLE = "Filter"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,enter", "leave", "List", show=False, id="filter.leave", tooltip="Go to the list"),
        Binding(
            "escape",
            "clear",
            "Clear",
            show=False,
            id="filter.clear",
            tooltip="Clear the filter, go to the list",
        ),
    ]

    @dataclass
    class QueryChanged(Message):
        """Another query is typed."""

        text: str

    @dataclass
    class Left(Message):
        """The user goes on to the list."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._offered = ""
        """The query with the first candidate."""
        self._told = -1
        """Width of what stands at the end of the line."""
        self._refused: str | None = None
        """The query that the last error was about."""

    def compose(self) -> ComposeResult:
        """Lay out the sign, the line and the counts."""
        yield Static("/", id="filter-sign", markup=False)
        yield QueryInput(placeholder='refund  user:"card lost"  turns>=6  intent:fees  -is:excluded', compact=True,
                         select_on_focus=False, id="filter-input")  # fmt: skip
        yield Static("", id="filter-count", markup=False)

    def on_mount(self) -> None:
        """Save repaints: a blinking cursor is sent over the line twice a second."""
        self.query_one(Input).cursor_blink = False

    @property
    def text(self) -> str:
        """The query as typed."""
        return self.query_one(Input).value

    def set_text(self, text: str) -> None:
        """Replace the query; listeners hear of it as if it was typed."""
        field = self.query_one(Input)
        field.value = text
        field.cursor_position = len(text)

    def show_text(self, text: str) -> None:
        """Show a query that is carried out already: nobody hears of it."""
        with self.prevent(Input.Changed):
            self.set_text(text)

    def offer(self, text: str, candidates: Sequence[Candidate]) -> None:
        """Show how `text` may go on, while it is being typed; Tab takes the first."""
        field = self.query_one(QueryInput)
        wanted = candidates if field.has_focus and text == field.value else ()
        self._offered = wanted[0].text if wanted else ""
        field.offered = bool(wanted)
        self.screen.query_one(Candidates).labels = tuple(one.label for one in wanted)

    @on(QueryInput.Accepted)
    def _accepted(self, event: QueryInput.Accepted) -> None:
        event.stop()
        if self._offered:
            self.set_text(self._offered)

    def on_descendant_blur(self) -> None:
        """Offer nothing while nothing is typed."""
        self.offer("", ())

    def focus_input(self) -> None:
        """Let the user type, from the very next key on."""
        self.screen.set_focus(self.query_one(Input))

    @property
    def refused(self) -> bool:
        """Whether the query as typed is one that was refused."""
        return self._refused == self.text

    def show_count(self, matched: int, total: int, *, complete: bool = True, stale: bool = False) -> None:
        """Tell how many rows match, with … while the search goes on; `stale` when edits were made since."""
        text = f"{total:,}"
        if matched != total:
            text = f"{matched:,}{'' if complete else '…'} of {total:,}".rjust(2 * len(text) + len("… of "))
        text += " before the last edits: Enter looks again" if stale and self.text.strip() else ""
        self.remove_class("-error")
        self._refused = None
        self._tell(text)

    def show_error(self, message: str, column: int) -> None:
        """Tell where the query stops making sense; the list keeps what it shows."""
        self.add_class("-error")
        self._refused = self.text
        self._tell(f"✗ column {column}: {message}")

    def _tell(self, text: str) -> None:
        """Show `text` at the end of the line; only another width asks for a layout, which paints the whole screen."""
        content = plain_line(text)
        self.query_one("#filter-count", Static).update(content, layout=content.cell_length != self._told)
        self._told = content.cell_length

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.QueryChanged(event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Left())

    def action_leave(self) -> None:
        """Go to the list."""
        self.post_message(self.Left())

    def action_clear(self) -> None:
        """Show all conversations again."""
        self.set_text("")
        self.post_message(self.Left())
