"""What a check found, by code with counts; Enter narrows the list to one code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from tunedesk.core.checking.findings import CHECKS
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.core.checking.findings import Finding


_PARTICULARS = 3
"""Different particulars of a code that are told."""
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
    """What they say, with the particulars met most often."""


def by_code(findings: Sequence[Finding]) -> list[CodeCount]:
    """Return the findings counted by code, errors first, then the most frequent."""
    texts: dict[str, Counter[str]] = {}
    fixable: Counter[str] = Counter()
    severities: dict[str, str] = {}
    for finding in findings:
        texts.setdefault(finding.code, Counter())[finding.text] += 1
        severities[finding.code] = finding.severity
        fixable[finding.code] += finding.fix is not None
    counts = [
        CodeCount(code, severities[code], said.total(), fixable[code], _summed(code, said))
        for code, said in texts.items()
    ]
    return sorted(counts, key=_errors_first)


def _summed(code: str, said: Counter[str]) -> str:
    """Return the meaning of a code with its most frequent particulars, counted where several are told."""
    often = said.most_common(_PARTICULARS + 1)
    if len(often) == 1 or code not in CHECKS:
        return often[0][0]
    meaning = CHECKS[code].meaning
    if often[0][1] == 1:
        return f"{often[0][0]} …"
    told = [f"{text.removeprefix(f'{meaning}: ')} ({count:,})" for text, count in often[:_PARTICULARS]]
    return f"{meaning}: {'; '.join(told)}{' …' if len(often) > _PARTICULARS else ''}"


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
