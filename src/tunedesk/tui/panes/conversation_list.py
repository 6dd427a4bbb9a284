"""The conversations that the filter matched, in their order; marks tell what is edited, excluded or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import events
from textual.reactive import reactive

from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.row_views import RowView
    from tunedesk.core.workspace import Workspace

_LINE = Column("line", "line", 6, right=True)
_MARKS = Column("marks", "", 3)
_TURNS = Column("turns", "turns", 6, right=True)
_TOKENS = Column("tokens", "tokens", 7, right=True)
_LOSS = Column("loss", "loss", 6, right=True)
_INTENT = Column("intent", "intent", 16)
_SHORT_INTENT = Column("intent", "intent", 10)
_SHORT_TURNS = Column("turns", "turns", 5, right=True)
_TAGS = Column("tags", "tags", 12)
_PREVIEW = Column("preview", "conversation")

SORTABLE = (_LINE, _TURNS, _TOKENS, _LOSS, _INTENT, _TAGS, _PREVIEW)
"""Columns that the list can be ordered by."""
_NARROW, _HALF, _WIDE, _WIDER = 44, 52, 70, 96
"""Width in cells from which tokens, a short intent, a whole one, then tags have room."""


class ConversationList(VirtualList):
    """One line a conversation: line in the source, marks, turns, tokens, intent, tags, first words.

    Marks: ✗ an error, ! a warning, * edited, + added, - excluded, ⚙ tools.
    """

    BORDER_TITLE = "Conversations"

    workspace: reactive[Workspace | None] = reactive(None, repaint=False)

    def __init__(self) -> None:
        """Show nothing until there is a workspace."""
        super().__init__((_LINE, _MARKS, _TURNS, _PREVIEW), self._rows, empty="opening…")
        self._remembered: Sequence[dict[str, str]] = ()
        """Texts by column that are shown before there is a workspace."""

    def watch_workspace(self, old: Workspace | None, new: Workspace | None) -> None:
        """Show what the new state matched, and stay on the conversation unless other ones were asked for."""
        if new is None:
            return
        shown_loss = old is None or old.known.loss is None
        if (new.known.loss is None) != shown_loss or self.columns[0] != self._line_column():
            self._lay_out(self.size.width)
        self.empty = "nothing matches: Escape in the filter shows all"
        self.sorted_by = (new.sort.column, new.sort.descending) if new.sort else None
        self.selection_changed()
        if old is not None and old.matches is new.matches:
            self.reload()
            return
        known = old is not None and old.dataset.id == new.dataset.id
        same = known and old is not None and old.query == new.query
        index = self.index
        self.show(new.matches, keep_place=same)
        asked = not same and bool(new.query.text.strip())
        if index is not None and known and not asked and old is not None and old.sort == new.sort:
            self.go_to(index)

    def visible_texts(self) -> list[dict[str, str]]:
        """Return the texts of the rows in sight by column, and how each stands out (`kind`)."""
        rows = map(
            self._row, range(self.scroll_offset.y, min(self.count, self.scroll_offset.y + self.page_rows))
        )
        keys = [column.key for column in self.columns]
        return [{"kind": row.kind, **dict(zip(keys, row.cells, strict=True))} for row in rows]

    def remember(self, rows: Sequence[dict[str, str]], cursor: int) -> None:
        """Show rows that `visible_texts` told of an earlier session, until there is a workspace."""
        self._remembered = rows
        self.show(range(len(rows)))
        self.cursor = cursor

    def selection_changed(self) -> None:
        """Tell in the title how many are selected."""
        if self.workspace is not None:
            chosen = f" · ● {self.selected_count:,} selected" if self.selected_count else ""
            self.border_title = plain_line(f"Conversations of {self.workspace.dataset.name}{chosen}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Escape to the screen while something runs that it stops: the selection is what that is about."""
        asking = action == "select_none" and any(
            one.group == "ask" and not one.is_finished for one in self.app.workers
        )
        return False if asking else super().check_action(action, parameters)

    def on_resize(self, event: events.Resize) -> None:
        """Show more columns where there is room."""
        self._lay_out(event.size.width)
        if self.workspace is None:  # what is remembered begins at the top, whatever the height was before
            self.scroll_to(0, 0, animate=False, force=True)

    def _lay_out(self, width: int) -> None:
        columns = [self._line_column(), _MARKS, _TURNS if width >= _WIDE else _SHORT_TURNS]
        columns += [_TOKENS] if width >= _NARROW else []
        columns += [_LOSS] if self.workspace is not None and self.workspace.known.loss is not None else []
        columns += [_INTENT if width >= _WIDE else _SHORT_INTENT] if width >= _HALF else []
        columns += [_TAGS] if width >= _WIDER else []
        self.columns = (*columns, _PREVIEW)
        self.reload()

    def _line_column(self) -> Column:
        """Return the column of line numbers, wide enough for the last one."""
        if self.workspace is None:
            width = max((len(row.get("line", "")) for row in self._remembered), default=0)
        else:
            width = len(f"{self.workspace.line(len(self.workspace.dataset) - 1):,}")
        return replace(_LINE, width=max(_LINE.width, width))

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        workspace = self.workspace
        if workspace is None:
            known = [self._remembered[index] for index in indexes]
            return [
                ListRow([row.get(one.key, "") for one in self.columns], row.get("kind", "")) for row in known
            ]
        return [self._row_of(workspace.view(index)) for index in indexes]

    def _row_of(self, row: RowView) -> ListRow:
        texts = {
            "line": f"{row.line:,}",
            "marks": _marks(row),
            "turns": str(row.turns),
            "tokens": "" if row.tokens is None else _count(row.tokens),
            "loss": "" if row.loss is None else f"{row.loss:.3f}",
            "intent": row.intent,
            "tags": " ".join(row.tags),
            "preview": row.preview
            if _TAGS in self.columns
            else " ".join([*map("#{}".format, row.tags), row.preview]),
        }
        return ListRow([texts[column.key] for column in self.columns], "dim" if row.excluded else "")


def _count(number: int) -> str:
    """Return a number in seven cells."""
    return f"{number:,}" if number < 1_000_000 else f"{number / 1_000_000:,.2f}M"


def _marks(row: RowView) -> str:
    state = "-" if row.excluded else "+" if row.added else "*" if row.edited else " "
    worst = max((mark[0] for mark in row.marked), default=" ")  # ✗ comes after !
    return worst + state + ("⚙" if row.has_tools else " ")
