"""Selecting rows of a list: one by one, as a range up to the cursor, or all that are shown at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.reactive import reactive

from tunedesk.tui.widgets.scrolled import Scrolled


class AllOf(Set[int]):
    """The set of what a sequence of different numbers holds; it may be a million of them."""

    def __init__(self, numbers: Sequence[int]) -> None:
        """Look at `numbers`, which find a number quickly."""
        self.numbers = numbers

    def __contains__(self, number: object) -> bool:
        return number in self.numbers

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def _from_iterable(cls, numbers: Iterable[int]) -> Set[int]:  # type: ignore[override]
        """Return what comes of a union or a difference as a plain set."""
        return frozenset(numbers)


class SelectingView(Scrolled):
    """Rows of an index array with a cursor and a selection."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "select", "Select", show=False, id="list.select", tooltip="Select the row, or not"),
        Binding("shift+down", "select(1)", "Select down", show=False, id="list.select_down",
                tooltip="Select and go down"),
        Binding("shift+up", "select(-1)", "Select up", show=False, id="list.select_up",
                tooltip="Select and go up"),
        Binding("V", "range", "Range", show=False, id="list.range",
                tooltip="Begin to select all rows up to the cursor, or end it and keep them"),
        Binding("escape", "select_none", "Select none", show=False, id="list.select_none",
                tooltip="Forget the selection"),
    ]  # fmt: skip

    cursor: reactive[int] = reactive(0, repaint=False, init=False)
    """Position of the row under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        """Show nothing and select nothing yet."""
        super().__init__(id=id)
        self._indexes: Sequence[int] = ()
        self._selected: Set[int] = frozenset()
        self._picked_last: tuple[range, Sequence[int], Set[int]] = range(0), (), frozenset()
        self._anchor: int | None = None
        """Position where a range began that ends at the cursor."""

    @property
    def count(self) -> int:
        """How many rows are shown."""
        return len(self._indexes)

    @property
    def index(self) -> int | None:
        """Index of the row under the cursor, None in an empty list."""
        return int(self._indexes[self.cursor]) if self.cursor < self.count else None

    @property
    def selected(self) -> Set[int]:
        """Indexes of the selected rows, those of a range that is being made included."""
        span = self._span
        if not span:
            return self._selected
        picked = self._picked(span)
        return self._selected | picked if self._selected else picked

    @selected.setter
    def selected(self, indexes: Set[int]) -> None:
        self._selected, self._anchor = indexes, None
        self._tell_selection()

    def _picked(self, span: range) -> Set[int]:
        """Return the rows at some positions; it is asked for again and again while they stay the same."""
        known, of, picked = self._picked_last
        if known == span and of is self._indexes:
            return picked
        find = getattr(self._indexes, "chosen", None)
        if find is not None:
            picked = find(span.start, span.stop)
        else:
            rows = self._indexes[span.start : span.stop]
            picked = AllOf(rows) if isinstance(rows, range) else frozenset(rows)
        self._picked_last = span, self._indexes, picked
        return picked

    @property
    def selected_count(self) -> int:
        """How many rows are selected."""
        span = self._span
        return len(self._selected) if not span else len(self.selected) if self._selected else len(span)

    @property
    def _span(self) -> range:
        """Positions of the range that is being made, empty without one."""
        if self._anchor is None:
            return range(0)
        return range(min(self._anchor, self.cursor), min(self.count, max(self._anchor, self.cursor) + 1))

    def _tell_selection(self) -> None:
        self.selection_changed()
        self.refresh()

    def selection_changed(self) -> None:
        """Show how many rows are selected; for lists that have a place for it."""

    def action_select(self, rows: int = 0) -> None:
        """Select the row under the cursor (or not any more), then move by `rows`."""
        if self.index is None:
            return
        chosen = frozenset((self.index,))
        self.selected = self.selected | chosen if rows else self.selected ^ chosen
        self.cursor += rows or 1

    def action_range(self) -> None:
        """Begin a range at the cursor, or end it and keep its rows selected."""
        if self._anchor is None and self.count:
            self._anchor = self.cursor
            self._tell_selection()
        else:
            self.selected = self.selected

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Escape to the screen while nothing is selected."""
        return self._anchor is not None or bool(self._selected) if action == "select_none" else True

    def action_select_none(self) -> None:
        """Forget the selection."""
        self.selected = frozenset()
