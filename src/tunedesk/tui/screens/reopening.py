"""The Data screen as it was left: its rows in the first frame, its order and cursor once the dataset is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.screens.curation import CurationScreen

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace

_MOST_CHARS = 20_000
"""Of a conversation that is kept with the view: the note is written at every move."""


class ReopeningScreen(CurationScreen):
    """A screen over one dataset that the next start shows again."""

    _remembered: int | None = None
    """Where the cursor was put among the rows of the last session, while they are shown."""

    def view_state(self) -> dict[str, Any]:
        """Return the row under the cursor, the order of the list, and what is on the screen."""
        workspace = self.workspace
        if workspace is None or not self.query(ConversationList):
            return {}
        listing, sort = self.query_one(ConversationList), workspace.sort
        state: dict[str, Any] = {
            "dataset": workspace.dataset.id, "name": workspace.dataset.name, "row": listing.index,
            "sort": [sort.column, sort.descending] if sort else None,
        }  # fmt: skip
        if sort is None and listing.index is not None:
            state["query"] = workspace.query.text
            state |= {"top": listing.cursor - listing.scroll_offset.y, "rows": listing.visible_texts()}
            if workspace.view(listing.index).chars <= _MOST_CHARS:
                state["conversation"], state["title"] = self.query_one(ConversationView).shown_row()
        return state

    def show_remembered(self) -> None:
        """Show the rows of the last session while its dataset is being opened."""
        state = self.desk.opening_again(self.MODE)
        rows, row = state.get("rows"), state.get("conversation")
        if not isinstance(rows, list) or not all(isinstance(one, dict) for one in rows):
            return
        self._remembered = _number(state.get("top"))
        texts = [{key: str(text) for key, text in one.items()} for one in rows]
        self.query_one(ConversationList).remember(texts, self._remembered)
        self.query_one(FilterBar).show_text(str(state.get("query", "")))
        if isinstance(row, dict):
            self.query_one(ConversationView).show_row(row, str(state.get("title", "Conversation")))
        self.say("shown as it was; opening…")

    def show_again(self, workspace: Workspace) -> None:
        """Order the list, and put the cursor, as they were when the app ended on this dataset."""
        listing, state = self.query_one(ConversationList), self.desk.views.screens.get(self.MODE, {})
        moved = 0 if self._remembered is None else listing.cursor - self._remembered
        self._remembered = None
        row, sort = state.get("row"), state.get("sort")
        if state.get("dataset") != workspace.dataset.id:
            return

        def put_cursor() -> None:
            if isinstance(row, int) and listing.go_to(row):
                top = max(0, listing.cursor - _number(state.get("top")))
                listing.scroll_to(0, top, animate=False, force=True)
                listing.cursor += moved  # by keys that were pressed meanwhile

        async def ordering() -> None:
            if isinstance(sort, list) and len(sort) == 2:
                ordered = await asyncio.to_thread(workspace.with_sort, str(sort[0]), bool(sort[1]))
                self.desk.view(ordered)
            self.call_after_refresh(put_cursor)

        if sort is None:
            self.call_next(put_cursor)  # before the list is painted
        else:
            self.desk.work(ordering(), name="showing what was shown last", group="filter")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
