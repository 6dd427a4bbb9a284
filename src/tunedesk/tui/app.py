"""The Textual app: the four screens of the journey over the shell of desk.py."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from tunedesk.tui.desk import Desk
from tunedesk.tui.screens.chat import ChatScreen
from tunedesk.tui.screens.compare import CompareScreen
from tunedesk.tui.screens.data import DataScreen
from tunedesk.tui.screens.desk_screen import JOURNEY
from tunedesk.tui.screens.help import HelpDialog
from tunedesk.tui.screens.jobs import JobsScreen
from tunedesk.tui.screens.palette import DeskCommands, Palette
from tunedesk.tui.widgets.block_view import BlockView
from tunedesk.tui.widgets.virtual_list import VirtualList


class TunedeskApp(Desk):
    """`TunedeskApp(load, datasets).run()`; then leave with `return_code`, so that a crash is not a success."""

    TITLE = "tunedesk"
    CSS_PATH = Path(__file__).with_name("app.tcss")
    COMMANDS = {DeskCommands}
    MODES = {"data": DataScreen, "jobs": JobsScreen, "chat": ChatScreen, "compare": CompareScreen}
    DEFAULT_MODE = "data"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"switch_mode('{mode}')", label, show=False, id=f"screen.{mode}",
                    tooltip=f"Go to the {label} screen")
            for mode, key, label in JOURNEY
        ),
        *(
            Binding(f"f{key}", f"switch_mode('{mode}')", label, show=False, priority=True,
                    id=f"screen.{mode}.anywhere", tooltip=f"Go to the {label} screen")
            for mode, key, label in JOURNEY
        ),
        Binding("ctrl+x", "stop_launch", "Stop the upload", show=False, id="launch.stop",
                tooltip="Stop the launch that is uploading; nothing is launched then"),
        Binding("ctrl+l", "redraw", "Redraw", show=False, id="redraw", tooltip="Draw the whole screen again"),
        Binding("ctrl+z", "suspend_process", "To the shell", show=False, id="suspend",
                tooltip="Stop here and go to the shell; fg comes back"),
        Binding("question_mark", "help", "Keys", id="help", tooltip="Every key of this screen"),
        Binding("q", "quit", "Quit", id="quit", tooltip="Leave; edits are kept and jobs go on"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="quit.anywhere",
                tooltip="Leave; edits are kept and jobs go on"),
    ]  # fmt: skip

    async def on_event(self, event: events.Event) -> None:
        """Act on a key before the next is taken, so that in a burst (`/fee`) the rest goes where it leads.

        Textual sends a key to the focused widget and back before it looks for what it is bound to; keys that came
        with it over a slow link have gone to the same widget by then. Keys that came after the one that leaves are
        dropped: what they would open could not be built any more.
        """
        if isinstance(event, events.Key) and (
            self._exit or (not event.is_forwarded and await self._acted_on(event.key))
        ):
            return
        await super().on_event(event)

    async def _acted_on(self, key: str) -> bool:
        """Carry out what a key is bound to where no text is typed; Esc goes the long way, as screens have their own."""
        if key == "escape" or not self.screen_stack or not isinstance(self.focused, (VirtualList, BlockView)):
            return False
        return await self._check_bindings(key, priority=True) or await self._check_bindings(key)

    def action_help(self) -> None:
        """List all keys of the screen on top."""
        self.push_screen(HelpDialog(self.screen))

    def action_command_palette(self) -> None:
        """Open the palette, also where another screen was left with one open: Textual's has an id that allows one."""
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette())

    def action_stop_launch(self) -> None:
        """Stop the launch that is uploading."""
        if not self.workers.cancel_group(self, "launch"):
            self.say("nothing is being uploaded")

    def action_redraw(self) -> None:
        """Draw everything again."""
        self.draw_again()
