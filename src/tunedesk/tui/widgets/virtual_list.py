"""A list of any number of rows that fetches and draws only the visible ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from tunedesk.tui.widgets.plain import fit
from tunedesk.tui.widgets.selection import SelectingView

_CACHED_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the list."""

    key: str
    """Name in messages and for sorting."""
    title: str
    """What the header says."""
    width: int = 0
    """Terminal cells; 0 takes what the others leave."""
    right: bool = False
    """Whether numbers line up on the right."""


@dataclass(frozen=True, slots=True)
class ListRow:
    """The texts of one row, by column."""

    cells: Sequence[str]
    kind: str = ""
    """"", "dim" or "bad": how the row stands out, on top of what its texts say."""


Fetch = Callable[[Sequence[int]], Sequence[ListRow]]
"""Rows for the given indexes, asked for only what is about to be painted."""


class VirtualList(SelectingView, can_focus=True):
    """Rows of an index array (what a filter matched, in its order) with a cursor and a selection.

    Positions count within the shown rows; indexes are what the array holds. The first line is the header.
    """

    DEFAULT_CSS = """
    VirtualList {
        & .virtual-list--header { text-style: bold underline; color: $text-muted; }
        & .virtual-list--cursor { background: $primary-muted; color: $foreground; text-style: bold; }
        & .virtual-list--selected { text-style: bold; color: $text-accent; }
        & .virtual-list--dim { color: $text-muted; text-style: strike; }
        & .virtual-list--bad { color: $text-error; }
        & .virtual-list--empty { color: $text-muted; text-style: italic; }
    }
    VirtualList:focus .virtual-list--cursor { text-style: bold reverse; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"virtual-list--{name}" for name in ("header", "cursor", "selected", "dim", "bad", "empty")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False, id="list.down", tooltip="Next row"),
        Binding("up,k", "move(-1)", "Up", show=False, id="list.up", tooltip="Row before"),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False, id="list.page_down", tooltip="Next page"),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False, id="list.page_up", tooltip="Page before"),
        Binding("home", "edge(0)", "First", show=False, id="list.first", tooltip="First row"),
        Binding("end,G", "edge(1)", "Last", show=False, id="list.last", tooltip="Last row"),
        Binding("enter", "open", "Open", show=False, id="list.open", tooltip="Open the row"),
    ]  # fmt: skip

    shown: reactive[int | None] = reactive(None, repaint=False, init=False)
    """Index of the row under the cursor, for who watches it and shows that row in the same paint as the list."""

    @dataclass
    class CursorMoved(Message):
        """Another row is under the cursor."""

        list: VirtualList
        index: int | None
        """The row's index; None when the list is empty."""

        @property
        def control(self) -> VirtualList:
            """The list, for `@on` selectors."""
            return self.list

    @dataclass
    class Opened(Message):
        """A row was chosen with Enter or a second click."""

        list: VirtualList
        index: int

        @property
        def control(self) -> VirtualList:
            """The list, for `@on` selectors."""
            return self.list

    @dataclass
    class HeaderChosen(Message):
        """A column's title was clicked."""

        list: VirtualList
        key: str

        @property
        def control(self) -> VirtualList:
            """The list, for `@on` selectors."""
            return self.list

    def __init__(
        self,
        columns: Sequence[Column],
        fetch: Fetch,
        *,
        empty: str = "nothing to show",
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        """Show nothing yet; `empty` is what an empty list says."""
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.empty = empty
        self.sorted_by: tuple[str, bool] | None = None
        """Key of the sorted column and whether it falls."""
        self._fetch = fetch
        self._cache: dict[int, ListRow] = {}
        self._told: int | None = -1

    @property
    def page_rows(self) -> int:
        """Rows that fit under the header."""
        return max(1, self.size.height - 1)

    def show(self, indexes: Sequence[int], *, keep_place: bool = False) -> None:
        """Show the rows `indexes`; the cursor goes to the first row, or stays where it is with `keep_place`."""
        if self._anchor is not None:  # its positions were those of what was shown before
            self.selected = self.selected
        self._indexes = indexes
        self._cache.clear()
        position = min(self.cursor, max(0, self.count - 1)) if keep_place else 0
        self.set_lines(self.count + 1)
        self.set_reactive(SelectingView.cursor, position)
        if not keep_place:
            self.scroll_to(0, 0, animate=False, force=True)
        self._reveal()
        self.refresh()
        self._tell()

    def reload(self) -> None:
        """Fetch the visible rows again: their texts changed."""
        self._cache.clear()
        self.refresh()

    def go_to(self, index: int) -> bool:
        """Move the cursor to the row of `index`; False when it is not shown."""
        find = getattr(self._indexes, "position", None) or self._position
        position = find(index)
        if position is None:
            return False
        self.cursor = position
        return True

    def _position(self, index: int) -> int | None:
        return self._indexes.index(index) if index in self._indexes else None

    # --- painting

    def render_line(self, y: int) -> Strip:
        """Paint one line: the header, then rows from the scroll position on."""
        width = self.line_width
        if y == 0:
            return self._strip(self._header(width), "header")
        position = self.scroll_offset.y + y - 1
        if position >= self.count:
            text = self.empty if self.count == 0 and y == 2 else ""
            return self._strip(fit("  " + text, width), "empty")
        row = self._row(position)
        index = int(self._indexes[position])
        chosen = position in self._span or index in self._selected
        sign = (">" if position == self.cursor else " ") + ("●" if chosen else " ")
        kind = "cursor" if position == self.cursor else "selected" if chosen else row.kind
        return self._strip(fit(sign + self._cells(row.cells, width - 2), width), kind)

    def _strip(self, text: str, kind: str) -> Strip:
        style = self.line_style(f"virtual-list--{kind}" if kind else "")
        return Strip([Segment(text, style)], self.line_width)

    def _row(self, position: int) -> ListRow:
        row = self._cache.get(position)
        if row is None:
            if len(self._cache) > _CACHED_ROWS:
                self._cache.clear()
            first = self.scroll_offset.y
            start, end = first, min(self.count, first + self.page_rows)
            if not start <= position < end:
                start, end = position, position + 1
            rows = self._fetch([int(index) for index in self._indexes[start:end]])
            self._cache.update(zip(range(start, end), rows, strict=True))
            row = self._cache[position]
        return row

    def _widths(self, width: int) -> list[int]:
        fixed = sum(column.width + 1 for column in self.columns if column.width)
        flexible = sum(1 for column in self.columns if not column.width) or 1
        rest = max(4, (width - fixed) // flexible - (flexible > 1))
        return [column.width or rest for column in self.columns]

    def _cells(self, cells: Sequence[str], width: int) -> str:
        return " ".join(
            fit(text, size, right=column.right)
            for text, size, column in zip(cells, self._widths(width), self.columns, strict=True)
        )

    def _header(self, width: int) -> str:
        titles = []
        for column, size in zip(self.columns, self._widths(width - 2), strict=True):
            title = column.title
            if self.sorted_by is not None and self.sorted_by[0] == column.key:
                title = title[: size - 1] + ("▼" if self.sorted_by[1] else "▲")
            titles.append(title)
        return fit("  " + self._cells(titles, width - 2), width)

    # --- the cursor

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a row."""
        return max(0, min(self.count - 1, cursor))

    def watch_cursor(self, old: int, new: int) -> None:
        """Repaint the two rows concerned and tell who listens."""
        if self._anchor is not None:
            self._reveal()
            self._tell_selection()
        elif not self._reveal():
            for position in (old, new):
                self.refresh(Region(0, position - self.scroll_offset.y + 1, self.line_width, 1))
        self._tell()

    def _tell(self) -> None:
        index = self.index
        if index != self._told:
            self._told = self.shown = index
            self.post_message(self.CursorMoved(self, index))

    def _reveal(self) -> bool:
        """Scroll so that the cursor is seen; True when that scrolled."""
        top, rows = self.scroll_offset.y, self.page_rows
        if top <= self.cursor < top + rows:
            return False
        target = self.cursor if self.cursor < top else self.cursor - rows + 1
        self.scroll_to(0, target, animate=False, force=True)
        return True

    def on_resize(self, event: events.Resize) -> None:
        """Keep the cursor in sight in a smaller list."""
        self.set_lines(self.count + 1)
        self._reveal()

    def action_move(self, rows: int) -> None:
        """Move the cursor by `rows`."""
        self.cursor += rows

    def action_page(self, pages: int) -> None:
        """Move the cursor and the view by pages."""
        step = pages * self.page_rows
        top = max(0, min(self.scroll_offset.y + step, self.count - self.page_rows))
        self.scroll_to(0, top, animate=False, force=True)
        self.cursor += step

    def action_edge(self, last: int) -> None:
        """Move the cursor to the first or the last row."""
        self.cursor = self.count - 1 if last else 0

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.index is not None:
            self.post_message(self.Opened(self, self.index))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked row; a second click opens it, a click on a title chooses the column."""
        if event.y == 0:
            self._click_header(event.x - 2)
            return
        position = self.scroll_offset.y + event.y - 1
        if position < self.count:
            self.cursor = position
            if event.chain == 2:
                self.action_open()

    def _click_header(self, x: int) -> None:
        for column, width in zip(self.columns, self._widths(self.line_width - 2), strict=True):
            if 0 <= x < width:
                self.post_message(self.HeaderChosen(self, column.key))
            x -= width + 1
