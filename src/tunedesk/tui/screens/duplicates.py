"""The dialog of duplicates: groups of conversations that say the same, and which one of each is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.curation import Twins

Keep = Callable[["Twins", str], int]
"""Returns the row of a group that a rule keeps."""
_COLUMNS = (
    Column("group", "group", 6, right=True), Column("alike", "alike", 6, right=True), Column("kept", "", 5),
    Column("line", "line", 7, right=True), Column("chars", "chars", 7, right=True), Column("preview", "conversation"),
)  # fmt: skip


def _rule(key: str, rule: str, tooltip: str) -> Binding:
    name = rule.partition(" ")[0]
    return Binding(key, f"keep('{rule}')", rule.capitalize(), id=f"duplicates.{name}", tooltip=tooltip)


class DuplicatesDialog(Dialog[list[int]]):
    """Returns the rows to leave out: all of each group but the kept one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        _rule("l", "longest", "Keep the longest of each group"),
        _rule("n", "newest", "Keep the newest of each group: by its date, else the last one"),
        _rule("f", "first", "Keep the first of each group"),
        _rule("b", "best rated", "Keep the best rated of each group"),
        Binding(
            "k", "this", "This", id="duplicates.this", tooltip="Keep the one under the cursor of its group"
        ),
        Binding(
            "x",
            "apply",
            "Exclude",
            id="duplicates.apply",
            tooltip="Exclude all that are not kept, as one edit",
        ),
    ]

    def __init__(self, workspace: Workspace, groups: Sequence[Twins], keep: Keep) -> None:
        """Show `groups` with the longest kept; `keep` tells which one a rule keeps."""
        super().__init__(
            f"Duplicates: {len(groups):,} groups",
            "l longest n newest f first b best k this · x exclude the rest · Esc",
        )
        self._workspace, self._groups, self._keep = workspace, groups, keep
        self._members = [(number, row) for number, group in enumerate(groups) for row in group.rows]
        self._kept = [keep(group, "longest") for group in groups]

    def compose_body(self) -> Iterable[Widget]:
        """Yield the members, group by group, and the text of the one under the cursor."""
        yield VirtualList(_COLUMNS, self._rows, empty="no duplicates", id="duplicates-list")
        yield Static("", id="duplicates-text", markup=False)

    def on_mount(self) -> None:
        """Show the groups."""
        listing = self.query_one(VirtualList)
        listing.show(range(len(self._members)))
        listing.focus()

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        rows = []
        for index in indexes:
            number, row = self._members[index]
            group, view = self._groups[number], self._workspace.view(row)
            head = index == 0 or self._members[index - 1][0] != number
            keeps = self._kept[number] == row
            rows.append(
                ListRow(
                    (f"{number + 1:,}" if head else "", f"{group.similarity:.0%}" if head else "",
                     "keep" if keeps else "-", f"{view.line:,}", f"{view.chars:,}", view.preview),
                    "" if keeps else "dim",
                )
            )  # fmt: skip
        return rows

    @on(VirtualList.CursorMoved)
    def _moved(self, event: VirtualList.CursorMoved) -> None:
        event.stop()
        if event.index is None:
            return
        row = self._workspace.row(self._members[event.index][1])
        messages = row.get("messages")
        said = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
        lines = [plain_line(f"{m.get('role')}: {m.get('content')}") for m in said[:6]]
        self.query_one("#duplicates-text", Static).update(Content("\n").join(lines))

    @on(VirtualList.Opened)
    def _opened(self, event: VirtualList.Opened) -> None:
        event.stop()
        self.action_this()

    def action_keep(self, rule: str) -> None:
        """Keep one of each group by a rule."""
        self._kept = [self._keep(group, rule) for group in self._groups]
        self.query_one(VirtualList).reload()

    def action_this(self) -> None:
        """Keep the one under the cursor."""
        index = self.query_one(VirtualList).index
        if index is not None:
            number, row = self._members[index]
            self._kept[number] = row
            self.query_one(VirtualList).reload()

    def action_apply(self) -> None:
        """Return all that are not kept."""
        self.dismiss([row for number, row in self._members if self._kept[number] != row])
