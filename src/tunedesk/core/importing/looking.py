"""A look at a file before it is imported: what it would become, what was guessed, and what could be chosen instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers
from tunedesk.core.importing.importers import IMPORTERS
from tunedesk.core.importing.roles import said
from tunedesk.core.importing.sources import is_pipe
from tunedesk.core.importing.transcripts import UnknownSpeakers
from tunedesk.errors import DataError

_READ = 2_000
"""Records that are read for a look: enough for whole conversations of a table of messages."""
_MOST_SPEAKERS = 40
_EXAMPLE = 60
"""Characters shown of a cell."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the beginning of a file says."""

    format: str
    """Empty where none fits."""
    rows: tuple[Row, ...] = ()
    """The first conversations it would become."""
    columns: tuple[tuple[str, str], ...] = ()
    """Each column or key with the beginning of a cell."""
    used: Mapping[str, str] = field(default_factory=dict)
    """Meaning → column, as it would be read."""
    speakers: tuple[str, ...] = ()
    """Who speaks in a table of messages, or in a chat log whose sides are not clear."""
    skipped: int = 0
    """Records left out of the beginning."""
    guessed: str = ""
    """What was taken for granted though nothing in the file says it."""
    notes: tuple[str, ...] = ()
    """What is unusual about it, as far as it was read."""
    problem: str = ""
    """Why it cannot be imported like this."""
    hint: str = ""

    @property
    def certain(self) -> bool:
        """Whether it can be imported without asking."""
        return bool(self.rows) and not self.problem and not self.guessed


def look(
    path: Path | str,
    *,
    format_name: str = "",
    mapping: Mapping[str, str] | None = None,
    system: str = "",
    limit: int = 5,
) -> Look:
    """Return what `path` would be imported as, by its first records; what is wrong with it is told, never raised."""
    if is_pipe(path):
        hint = "tunedesk import reads it; or write it to a file first"
        return Look(format_name, problem="it is a pipe, which can be read only once", hint=hint)
    found = importers.read(path, format=format_name or None, mapping=mapping, system=system, most=_READ)
    report = found.report
    rows: tuple[Row, ...] = ()
    problem = hint = ""
    speakers: tuple[str, ...] = ()
    try:
        rows = tuple(one.row for one in islice(found, limit))
    except DataError as error:
        problem, hint = error.message, error.hint
        if isinstance(error, UnknownSpeakers):
            speakers, report.format = error.names, "transcript"
    sample = found.sample
    if not rows and not problem:
        first = report.skipped[0] if report.skipped else None
        speakers = tuple(report.strangers) if len(report.strangers) > 1 else ()
        problem = f"line {first.line}: {first.reason}" if first else "there is no conversation in it"
    speaker = found.used.get("speaker", "")
    return Look(
        report.format if report.format in IMPORTERS else "",
        rows,
        tuple((name, _example(sample, name)) for name in found.columns),
        found.used,
        _distinct(sample, speaker) if speaker else speakers,
        len(report.skipped),
        report.guessed,
        tuple(report.notes),
        problem,
        hint,
    )


def _example(sample: Sequence[Mapping[str, object]], name: str) -> str:
    cells = (" ".join(said(record.get(name)).split()) for record in sample)
    return next((cell[:_EXAMPLE] for cell in cells if cell), "")


def _distinct(sample: Sequence[Mapping[str, object]], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(said(record.get(name)).strip() for record in sample))[:_MOST_SPEAKERS]
