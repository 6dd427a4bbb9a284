"""What all screens share: the mode bar, the status line, the footer, and keys that say why they are disabled."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from tunedesk.tui.cell_diff import supported
from tunedesk.tui.dirty_paint import DirtyCompositor
from tunedesk.tui.messages import ProgressMade
from tunedesk.tui.transfer import Pace
from tunedesk.tui.widgets.mode_bar import ModeBar
from tunedesk.tui.widgets.status_line import StatusLine

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk

JOURNEY = (("data", "1", "Data"), ("jobs", "2", "Jobs"), ("chat", "3", "Chat"), ("compare", "4", "Compare"))
"""Mode, key and label of the four screens, in the order of the journey."""


_VERY_WIDE = 160
"""Columns from which a third pane fits beside two."""


class DeskScreen(Screen[None]):
    """A whole view; subclasses name their MODE, yield their panes from `compose_body` and say `why_not`."""

    MODE: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]

    def __init__(self) -> None:
        """Paint what changed only, where that is known to be right."""
        super().__init__()
        if supported():
            self._compositor = DirtyCompositor()

    def compose(self) -> ComposeResult:
        """Frame the panes of the screen."""
        yield ModeBar(JOURNEY, self.MODE)
        yield from self.compose_body()
        yield self.status_line
        yield Footer(compact=True, show_command_palette=False)

    def on_resize(self, event: Resize) -> None:
        """Mark a screen with room for a third column, which is wide, too."""
        self.set_class(event.size.width >= _VERY_WIDE, "-very-wide")

    def compose_body(self) -> Iterable[Widget]:
        """Yield the panes of the screen."""
        return ()

    @cached_property
    def status_line(self) -> StatusLine:
        """The line under the panes, there before the screen is composed: background work speaks at any time."""
        return StatusLine()

    @cached_property
    def _paces(self) -> dict[str, Pace]:
        """How fast each piece of work in the background goes."""
        return {}

    @property
    def desk(self) -> Desk:
        """The app, typed: services, state and background work."""
        return cast("Desk", self.app)

    def say(self, message: str, severity: str = "information") -> None:
        """Show `message` in the status line; `severity` is information, warning or error."""
        self.status_line.say(message, severity)

    def show_progress(self, event: ProgressMade) -> None:
        """Show how far the work in the background is, on the right of the status line."""
        line = self.status_line
        if not event.name or event.whole:
            self._paces.clear()
            line.progress = event.name
        elif event.total:
            left = self._paces.setdefault(event.name, Pace()).left(event.done, event.total)
            line.progress = f"{event.name} {event.done / event.total:.0%}" + (f" · {left}" if left else "")
        else:
            line.progress = f"{event.name} {event.done:,}"

    def view_state(self) -> dict[str, Any]:
        """Return what the next start needs to show the same again, as JSON can hold it."""
        return {}

    def on_screen_suspend(self) -> None:
        """Note what was shown when another screen comes in front."""
        self.desk.views.take(self.MODE, self.view_state())

    def why_not(self, action: str) -> str:
        """Return why `action` cannot be done now, empty when it can: what its disabled key says."""
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey the key of an action that cannot be done now."""
        return None if self.why_not(action) else True

    def on_mode_bar_chosen(self, event: ModeBar.Chosen) -> None:
        """Go to the screen whose name was clicked."""
        self.app.switch_mode(event.mode)
