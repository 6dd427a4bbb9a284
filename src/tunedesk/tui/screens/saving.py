"""Saving a reply from Chat: the chat becomes a conversation of the open dataset, journalled as any edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tunedesk.tui.screens.desk_screen import DeskScreen
from tunedesk.tui.screens.dialogs import ChooseDialog
from tunedesk.tui.widgets.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunedesk.chat import ChatSession


class SavingScreen(DeskScreen):
    """A screen with chats whose replies can become examples."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save example", id="chat.save",
                tooltip="Save a chat with its reply as a new conversation of the open dataset"),
    ]  # fmt: skip

    def answered(self) -> Sequence[ChatSession]:
        """Return the sessions that end with a reply."""
        return ()

    def why_not_saved(self) -> str:
        """Return why no reply can be saved now."""
        if not self.answered():
            return "no reply to save yet"
        return "" if self.desk.workspace is not None else "no dataset is open: 1 Data opens one"

    @work
    async def action_save(self) -> None:
        """Add the chat with one model's reply to the open dataset; of several replies one is chosen."""
        answered = self.answered()
        rows = {session.name: session.row() for session in answered}
        wanted: str | None = next(iter(rows))
        if len(rows) > 1:
            choices = [
                (one.name, f"{one.name}: {one_line(one.messages[-1]['content'])[:60]}") for one in answered
            ]
            wanted = await self.app.push_screen_wait(ChooseDialog("Which reply becomes an example?", choices))
        if wanted is not None:
            row = rows[wanted]
            self.desk.change(
                "saved as a new example at the end of the dataset: 1 Data shows it, u there undoes",
                lambda latest, _: latest.add_rows([row], "save a reply from Chat"),
            )
