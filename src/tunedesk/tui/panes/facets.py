"""What the shown conversations share: values of each field with counts and bars; Enter narrows the list to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.searching.facets import Bucket, Facet

_BAR = 8
"""Cells of the longest bar."""
_PARTS = " ▏▎▍▌▋▊▉█"
_NAMES = {"check": "finding", "chars": "characters"}
"""Fields whose name in a query is not what a reader calls them."""


def bar(share: float, width: int = _BAR) -> str:
    """Return a bar of a share (0 to 1) of `width` cells, an eighth of a cell exact, never empty above 0."""
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_PARTS[rest] if rest else "")).ljust(width)


class FacetsPane(Vertical):
    """One list: a line for each field, its values under it."""

    BORDER_TITLE = "Facets"
    BORDER_SUBTITLE = "Enter narrow, widen · - without · Esc"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("minus,backspace", "leave_out", "Leave out", show=False, id="facets.leave_out",
                tooltip="Show what does not have the value"),
        Binding("escape", "leave", "Back", show=False, id="facets.leave", tooltip="Close, back to the list"),
    ]  # fmt: skip

    @dataclass
    class Narrowed(Message):
        """The user wants to see only conversations with (or without) a value."""

        term: str

    @dataclass
    class Left(Message):
        """The user goes back to the list."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._lines: list[tuple[str, Bucket | None, int]] = []
        """Text, bucket (None on a field's own line) and the count that fills a bar."""
        self.counted_once = False
        """Whether all fields were counted once: from then on only whole counts are shown, so that nothing flickers."""

    def compose(self) -> ComposeResult:
        """Lay out the list."""
        columns = (Column("value", "value"), Column("count", "count", 9, right=True), Column("bar", "", _BAR))
        yield VirtualList(columns, self._rows, empty="counting…", id="facets-list")

    @property
    def term(self) -> str:
        """The query of the value under the cursor; empty on a field's own line."""
        index = self.query_one(VirtualList).index
        bucket = self._lines[index][1] if index is not None else None
        return bucket.term if bucket is not None else ""

    def show(self, facets: Sequence[Facet], matched: int, *, complete: bool) -> None:
        """Show facets counted over `matched` conversations; the cursor stays on its value where it is still there."""
        listing, before = self.query_one(VirtualList), self.term
        self._lines = []
        self.counted_once = self.counted_once or complete
        for facet in facets:
            name = _NAMES.get(facet.field, facet.field)
            more = f" (+{facet.others:,} more)" if facet.others else ""
            most = max(bucket.count for bucket in facet.buckets)
            self._lines.append((name + more, None, most))
            self._lines += [("  " + bucket.label, bucket, most) for bucket in facet.buckets]
        self.border_title = f"Facets of {matched:,}{'' if complete else '…'}"
        listing.empty = "nothing to count" if complete else "counting…"
        listing.show(range(len(self._lines)), keep_place=True)
        terms = [bucket.term if bucket else "" for _, bucket, _ in self._lines]
        if before in terms and before:
            listing.go_to(terms.index(before))
        elif listing.cursor == 0 and len(terms) > 1:
            listing.cursor = 1

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        rows = []
        for index in indexes:
            label, bucket, most = self._lines[index]
            if bucket is None:
                rows.append(ListRow((label, "", "")))
            else:
                rows.append(ListRow((label, f"{bucket.count:,}", bar(bucket.count / most))))
        return rows

    @on(VirtualList.Opened)
    def _opened(self, event: VirtualList.Opened) -> None:
        event.stop()
        if self.term:
            self.post_message(self.Narrowed(self.term))
        else:  # a field's own line: its first value is below
            self.query_one(VirtualList).cursor += 1

    @on(VirtualList.CursorMoved)
    def _moved(self, event: VirtualList.CursorMoved) -> None:
        event.stop()

    def action_leave_out(self) -> None:
        """Show what does not have the value under the cursor; nothing on a field's own line."""
        if self.term:
            group = f"({self.term})" if " " in self.term and '"' not in self.term else self.term
            self.post_message(self.Narrowed(f"-{group}"))

    def action_leave(self) -> None:
        """Close, and go back to the list."""
        self.post_message(self.Left())
