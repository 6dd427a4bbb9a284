"""What the list shows of one row: drawn from the columns alone unless edits touch it."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from tunedesk.core.checking.findings import CHECKS
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.indexing import HAS_TOOLS, ITEM_BREAK, RowFacts
from tunedesk.core.editing.overlay import EDITED, EXCLUDED, Overlay
from tunedesk.core.searching.piece import Known


@dataclass(frozen=True, slots=True)
class RowView:
    """What the list shows of one row."""

    index: int
    line: int
    """Physical line in the source, from 1."""
    turns: int
    chars: int
    tokens: int | None
    """None while they are being counted."""
    loss: float | None
    intent: str
    tags: tuple[str, ...]
    preview: str
    edited: bool
    added: bool
    """Whether it was added since the import."""
    excluded: bool
    has_tools: bool
    findings: tuple[str, ...]
    """Codes of the findings of this row."""

    @property
    def marked(self) -> tuple[str, ...]:
        """Its findings' codes, each behind ✗ (an error) or ! (a warning)."""
        return tuple(f"{'✗' if CHECKS[code].severity == 'error' else '!'} {code}" for code in self.findings)


def view_of(dataset: Dataset, overlay: Overlay, known: Known, index: int) -> RowView:
    """Return what the list shows of the row at `index`."""
    edited = overlay.has(index, EDITED)
    facts = overlay.facts_of(dataset, index) if edited else _imported(dataset, index)
    return RowView(
        index=index,
        line=dataset.line(index),
        turns=facts.turns,
        chars=facts.chars,
        tokens=_counted(known, overlay, index),
        loss=_measured(known.loss, index),
        intent=facts.intent,
        tags=overlay.tags_of(index, [item for item in facts.tags.split(ITEM_BREAK) if item]),
        preview=facts.preview,
        edited=edited,
        added=index >= overlay.count - overlay.added,
        excluded=overlay.has(index, EXCLUDED),
        has_tools=bool(facts.flags & HAS_TOOLS),
        findings=_codes_at(known.findings or {}, index),
    )


def _imported(dataset: Dataset, index: int) -> RowFacts:
    """Return the facts that the list needs of a row without edits, from the columns alone."""
    chunk, place = dataset.place(index)
    columns, tables = chunk.columns, chunk.tables
    return RowFacts(
        turns=columns["turns"][place],
        chars=columns["chars"][place],
        flags=columns["flags"][place],
        preview=columns["preview"][place],
        intent=tables["intent"].value[columns["intent"][place]],
        tags=tables["tags"].value[columns["tags"][place]],
    )


def _counted(known: Known, overlay: Overlay, index: int) -> int | None:
    """Return the tokens of a row, None where they are not counted yet as edits left it."""
    if known.tokens is None or index >= len(known.tokens):
        return None
    then = known.counted
    same = then is None or then is overlay or then.follows(index) == overlay.follows(index)
    return known.tokens[index] if same else None


def _measured(losses: array[float] | None, index: int) -> float | None:
    if losses is None or index >= len(losses) or math.isnan(losses[index]):
        return None
    return losses[index]


def _codes_at(findings: Mapping[str, array[int]], index: int) -> tuple[str, ...]:
    found = []
    for code, rows in findings.items():
        place = bisect_left(rows, index)
        if place < len(rows) and rows[place] == index:
            found.append(code)
    return tuple(found)
