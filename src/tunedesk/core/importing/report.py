"""What an import did: conversations, what was left out of them and why, and what was taken for granted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tunedesk.errors import DataError

_MOST_STRANGERS = 40


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that did not become a row."""

    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """What an import did; complete when its rows have been read."""

    format: str = ""
    rows: int = 0
    """Always `imported` and `skipped` together: lines of JSONL, elements of a JSON array, rows of a table, transcripts,
    files of a folder or zip; in a table of messages, its conversations and the messages that are left out."""
    imported: int = 0
    """Conversations."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was unusual or changed: encoding, merged turns, dropped tails, a cut file."""
    merged_turns: int = 0
    dropped_tails: int = 0
    asides: int = 0
    """Internal notes and events inside conversations, which are kept under metadata and not trained on."""
    guessed: str = ""
    """What was taken for granted though nothing in the file says it; empty when nothing was."""
    strangers: list[str] = field(default_factory=list)
    """Who speaks in records that were skipped because no name told their side, at most 40."""
    blank_lines: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """Format → conversations of it."""

    def add(self, other: Report, lines: int = 0) -> None:
        """Add what the import of the next part of the same file did, which counts its lines without `lines` before."""
        self.rows += other.rows
        self.imported += other.imported
        self.skipped += [replace(one, line=one.line + lines) for one in other.skipped]
        self.merged_turns += other.merged_turns
        self.dropped_tails += other.dropped_tails
        self.asides += other.asides
        self.guessed = self.guessed or other.guessed
        self.meet(other.strangers)
        self.blank_lines += other.blank_lines
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count

    def meet(self, names: Iterable[str]) -> None:
        """Note who speaks on no known side."""
        self.strangers = list(dict.fromkeys((*self.strangers, *names)))[:_MOST_STRANGERS]

    def skip(self, line: int, reason: str) -> None:
        """Note that the record on `line` is left out, and why."""
        self.rows += 1
        self.skipped.append(Skipped(line, reason))


class NothingImported(DataError):
    """Every record of a file was skipped; `report` has the reasons."""

    def __init__(self, report: Report) -> None:
        """Tell the first reason, and how many there are."""
        first = report.skipped[0]
        hint = f"{len(report.skipped):,} records skipped: --format or --map may say how to read them"
        if len(report.strangers) > 1:
            user, assistant = report.strangers[:2]
            hint = (
                f"Who is the customer? --format {report.format or 'dialogue'} --map user={user},assistant={assistant}; "
                "several names are parted by |"
            )
        super().__init__(f"no conversation can be made of it: line {first.line}: {first.reason}", hint)
        self.report = report
