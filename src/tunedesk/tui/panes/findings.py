"""What a check found, by code with counts; Enter narrows the list to one code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.checking.findings import Finding


_NOT_CHECKED = "not checked yet: press c"


@dataclass(frozen=True, slots=True)
class CodeCount:
    """All findings of one code."""

    code: str
    severity: str
    count: int
    fixable: int
    """How many of them have a safe fix."""
    text: str
    """What the first one says."""


def by_code(findings: Sequence[Finding]) -> list[CodeCount]:
    """Return the findings counted by code, errors first, then the most frequent."""
    counts: dict[str, CodeCount] = {}
    for finding in findings:
        known = counts.get(finding.code)
        counts[finding.code] = CodeCount(
            finding.code,
            finding.severity,
            (known.count if known else 0) + 1,
            (known.fixable if known else 0) + (finding.fix is not None),
            known.text if known else finding.text,
        )
    return sorted(counts.values(), key=_errors_first)


def _errors_first(count: CodeCount) -> tuple[bool, int, str]:
    return count.severity != "error", -count.count, count.code


class FindingsPane(Vertical):
    """A list of codes."""

    BORDER_TITLE = "Findings"

    @dataclass
    class CodeChosen(Message):
        """The user wants to see the conversations with this finding."""

        code: str

    def __init__(self) -> None:
        """Show that nothing was checked yet."""
        super().__init__()
        self._counts: list[CodeCount] = []

    def compose(self) -> ComposeResult:
        """Lay out the list of codes."""
        columns = (
            Column("count", "count", 6, right=True), Column("code", "code", 22), Column("fix", "fix", 4),
            Column("text", "what"),
        )  # fmt: skip
        yield VirtualList(columns, self._rows, empty=_NOT_CHECKED, id="findings-list")

    @property
    def code(self) -> str:
        """The code under the cursor, empty when there is none."""
        index = self.query_one(VirtualList).index
        return self._counts[index].code if index is not None and index < len(self._counts) else ""

    def forget(self) -> None:
        """Show again that nothing was checked yet."""
        self._counts = []
        self.border_title = "Findings"
        listing = self.query_one(VirtualList)
        listing.empty = _NOT_CHECKED
        listing.show(range(0))

    def show(self, findings: Sequence[Finding]) -> None:
        """Show the findings of a check."""
        self._counts = by_code(findings)
        errors = sum(count.count for count in self._counts if count.severity == "error")
        warnings = sum(count.count for count in self._counts if count.severity != "error")
        self.border_title = f"Findings: {errors:,} errors, {warnings:,} warnings"
        listing = self.query_one(VirtualList)
        listing.empty = "no findings: ready to train"
        listing.show(range(len(self._counts)))

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        rows = []
        for index in indexes:
            one = self._counts[index]
            sign = "✗ " if one.severity == "error" else "! "
            fix = "all" if one.fixable == one.count else "some" if one.fixable else ""
            rows.append(
                ListRow((f"{one.count:,}", sign + one.code, fix, one.text), "bad" if sign == "✗ " else "")
            )
        return rows

    @on(VirtualList.Opened)
    def _opened(self, event: VirtualList.Opened) -> None:
        event.stop()
        self.post_message(self.CodeChosen(self._counts[event.index].code))

    @on(VirtualList.CursorMoved)
    def _moved(self, event: VirtualList.CursorMoved) -> None:
        event.stop()
