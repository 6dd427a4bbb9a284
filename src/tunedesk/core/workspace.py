"""A dataset as it is being worked on: edits, query, order and facts, in one value that never changes.

Every change returns another workspace. An edit is in the journal before the workspace that shows it exists, so what
was seen is never lost.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tunedesk.core.conversations import Row, encode_row, upload_row
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.indexing import CHUNK_ROWS, HAS_TOOLS, ITEM_BREAK, RowFacts
from tunedesk.core.editing.applying import apply
from tunedesk.core.editing.edits import MARKS, Edit, encode, of_row
from tunedesk.core.editing.history import Journal, MemoryJournal, Recorded, in_force, read_history
from tunedesk.core.editing.overlay import EDITED, EXCLUDED, Overlay
from tunedesk.core.searching.matches import Matches
from tunedesk.core.searching.piece import Known, Target
from tunedesk.core.searching.query import Query, parse
from tunedesk.core.searching.search import search
from tunedesk.core.searching.summaries import facets, sort_matches
from tunedesk.errors import DataError
from tunedesk.paths import replacing

PREFERENCE_KEYS = ("input", "preferred_output", "non_preferred_output")
"""Keys of a preference row that the API takes."""


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of the list."""

    column: str
    descending: bool = False


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
    excluded: bool
    has_tools: bool
    findings: tuple[str, ...]
    """Codes of the findings of this row."""


@dataclass(frozen=True)
class Workspace:
    """All that the Data screen shows."""

    dataset: Dataset
    journal: Journal
    history: tuple[Recorded, ...]
    """All edits by id, the undone ones too."""
    overlay: Overlay
    """The edits in force."""
    matches: Matches
    """Rows that the query matched when it last ran, in the order of `sort`."""
    found: Matches
    """The same in the dataset's order."""
    basis: Overlay
    """The overlay that the query last ran over."""
    query: Query = field(default_factory=Query)
    sort: Sort | None = None
    known: Known = field(default_factory=Known)
    model: str = ""
    """The model that tokens and cost are told for."""

    @classmethod
    def open(
        cls, dataset: Dataset, journal: Journal | None = None, *, known: Known | None = None
    ) -> Workspace:
        """Return the workspace of a dataset with all its edits in force, showing every row."""
        journal = journal or MemoryJournal()
        history = read_history(journal, dataset.id)
        overlay = _replay(Overlay.empty(len(dataset)), history)
        everything = Matches.all(len(dataset))
        return cls(
            dataset, journal, history, overlay, everything, everything, overlay, known=known or Known()
        )

    @property
    def total(self) -> int:
        """Conversations in the dataset."""
        return len(self.dataset)

    @property
    def matched(self) -> int:
        """Conversations that the query matched."""
        return len(self.matches)

    @property
    def included_count(self) -> int:
        """Conversations that an export writes."""
        return sum(self.overlay.flags.count(value) for value in range(256) if not value & EXCLUDED)

    @property
    def target(self) -> Target:
        """What a search of this workspace looks at."""
        return Target(self.dataset, self.overlay, self.known)

    @property
    def system_prompt(self) -> str:
        """The system prompt put on all rows, empty when there is none."""
        layers = self.overlay.prompts
        return layers[0].prompt if layers and layers[0].rows is None else ""

    @property
    def stale(self) -> bool:
        """Whether edits were made since the query ran; `refreshed` runs it again."""
        return self.basis is not self.overlay

    def with_query(self, text: str) -> Workspace:
        """Return the workspace with all that `text` matches; raises QueryError."""
        *_, last = self.searching(text)
        return last

    def searching(self, text: str, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Workspace]:
        """Yield the workspace with the first screenful of what `text` matches, then with all of it; raises QueryError.

        Nothing more comes once `cancelled` returns True. Under a sort only the complete result is yielded.
        """
        query = parse(text)
        previous = None if self.stale else (self.query, self.found)
        for progress in search(self.target, query, cancelled=cancelled, previous=previous):
            shown = progress.matches
            if progress.done:
                yield replace(self, query=query, found=shown, matches=self._sorted(shown), basis=self.overlay)
            elif self.sort is None:
                yield replace(self, query=query, found=shown, matches=shown, basis=self.overlay)

    def refreshed(self) -> Workspace:
        """Return the workspace with its query run again over the edits made since."""
        return self.with_query(self.query.text)

    def with_sort(self, column: str | None, descending: bool = False) -> Workspace:
        """Return the workspace ordered by a column, None for the dataset's order; raises UsageError."""
        changed = replace(self, sort=Sort(column, descending) if column else None)
        return replace(changed, matches=changed._sorted(self.found))

    def with_known(self, known: Known) -> Workspace:
        """Return the workspace with other facts about its rows; the shown rows stay until the query runs again."""
        return replace(self, known=known)

    def with_model(self, model: str) -> Workspace:
        """Return the workspace for another model."""
        return replace(self, model=model)

    def apply(self, edit: Edit) -> Workspace:
        """Journal an edit and return the workspace with it; the list keeps its rows and its place.

        Raises DataError, before anything is kept, when a row is not there or the edit of one row cannot be done,
        StoreError when the journal cannot be written.
        """
        rows = edit.indexes()
        if rows is not None and (not rows or rows[-1] >= self.total):
            raise DataError("the edit is about no row of this dataset", "select conversations first")
        if rows is not None and len(rows) == 1 and edit.kind not in MARKS:
            apply(of_row(edit, 0), self.row(rows[0]))
        edit = msgspec.structs.replace(edit, parent=self._head())
        number = self.journal.append_edit(self.dataset.id, encode(edit), edit.label)
        history = (*self.history, Recorded(number, edit))
        if edit.kind == "restore":
            return replace(self, history=history, overlay=_replay(self.overlay, history))
        return replace(self, history=history, overlay=self.overlay.with_edits([(number, edit)]))

    @property
    def position(self) -> tuple[int, ...]:
        """The journal ids of the edits that make this state, in order: what a version remembers."""
        return tuple(one.id for one in in_force(self.history))

    def at(self, position: Sequence[int]) -> Workspace:
        """Return another state of the same dataset, to look at: its own edits end with the process."""
        kept = set(position)
        history = tuple(replace(one, undone=False) for one in self.history if one.id in kept)
        overlay = _replay(Overlay.empty(self.total), history)
        return replace(self, journal=MemoryJournal(), history=history, overlay=overlay).refreshed()

    @property
    def undoable(self) -> Recorded | None:
        """The edit that `undo` would take back."""
        return next((one for one in reversed(self.history) if not one.undone), None)

    @property
    def redoable(self) -> Recorded | None:
        """The edit that `redo` would bring back: the newest one undone that was made on the present state."""
        head = self._head()
        return next((one for one in reversed(self.history) if one.undone and one.edit.parent == head), None)

    def undo(self) -> Workspace:
        """Take back the newest edit in force; the same workspace when there is none."""
        return self._marked(self.undoable, undone=True)

    def redo(self) -> Workspace:
        """Bring back the edit undone last; the same workspace when there is none."""
        return self._marked(self.redoable, undone=False)

    def reloaded(self) -> Workspace:
        """Return the workspace with the edits that other instances have made since."""
        history = read_history(self.journal, self.dataset.id)
        if history == self.history:
            return self
        return replace(self, history=history, overlay=_replay(self.overlay, history))

    def row(self, index: int) -> Row:
        """Return a row as edits left it; raises DataError when there is none."""
        if not 0 <= index < self.total:
            return self.dataset.row(index)
        return self.overlay.row(self.dataset, index)

    def line(self, index: int) -> int:
        """Return the physical line of a row in its source, from 1."""
        return self.dataset.line(index)

    def included(self) -> Iterator[tuple[int, Row]]:
        """Yield (index, row) of every row that is not excluded, as edits left it."""
        flags = self.overlay.flags
        for index in range(self.total):
            if not flags[index] & EXCLUDED:
                yield index, self.row(index)

    def export(self, path: Path, *, keep_metadata: bool = False) -> int:
        """Write a training file of the included rows, whole or not at all, and return how many there are.

        Rows hold only the keys that the API takes, unless `keep_metadata`. Raises StoreError.
        """
        count = 0
        with replacing(path) as file:
            for _, row in self.included():
                file.write(encode_row(row if keep_metadata else _uploaded(row)) + b"\n")
                count += 1
        return count

    def facets(self, column: str) -> list[tuple[str, int]]:
        """Return the values of `tag`, `intent`, `turns`, `roles` or a metadata key with their counts, most first."""
        return facets(self.target, self.found, column)

    def meta_rows(self, places: slice) -> list[RowView]:
        """Return what the list shows at the given places of `matches`."""
        return [self.view(index) for index in self.matches[places]]

    def view(self, index: int) -> RowView:
        """Return what the list shows of the row at `index`."""
        overlay, known = self.overlay, self.known
        edited = overlay.has(index, EDITED)
        facts = overlay.facts_of(self.dataset, index) if edited else self._imported(index)
        return RowView(
            index=index,
            line=self.dataset.line(index),
            turns=facts.turns,
            chars=facts.chars,
            tokens=known.tokens[index] if known.tokens is not None else None,
            loss=_measured(known.loss, index),
            intent=facts.intent,
            tags=overlay.tags_of(index, [item for item in facts.tags.split(ITEM_BREAK) if item]),
            preview=facts.preview,
            edited=edited,
            excluded=overlay.has(index, EXCLUDED),
            has_tools=bool(facts.flags & HAS_TOOLS),
            findings=_codes_at(known.findings or {}, index),
        )

    def _imported(self, index: int) -> RowFacts:
        """Return the facts that the list needs of a row without edits, from the columns alone."""
        chunk, place = self.dataset.chunks[index // CHUNK_ROWS], index % CHUNK_ROWS
        columns, tables = chunk.columns, chunk.tables
        return RowFacts(
            turns=columns["turns"][place],
            chars=columns["chars"][place],
            flags=columns["flags"][place],
            preview=columns["preview"][place],
            intent=tables["intent"].value[columns["intent"][place]],
            tags=tables["tags"].value[columns["tags"][place]],
        )

    def _sorted(self, found: Matches) -> Matches:
        if self.sort is None:
            return found
        return sort_matches(self.target, found, self.sort.column, descending=self.sort.descending)

    def _head(self) -> int:
        newest = self.undoable
        return newest.id if newest else 0

    def _marked(self, chosen: Recorded | None, *, undone: bool) -> Workspace:
        if chosen is None:
            return self
        self.journal.set_undone(self.dataset.id, chosen.id, undone)
        history = tuple(replace(one, undone=undone) if one is chosen else one for one in self.history)
        return replace(self, history=history, overlay=_replay(self.overlay, history))


def _replay(overlay: Overlay, history: Sequence[Recorded]) -> Overlay:
    return overlay.cleared().with_edits([(one.id, one.edit) for one in in_force(history)])


def _uploaded(row: Row) -> Row:
    if "messages" in row:
        return upload_row(row)
    return {key: row[key] for key in PREFERENCE_KEYS if key in row}


def _measured(losses: array[float] | None, index: int) -> float | None:
    if losses is None or math.isnan(losses[index]):
        return None
    return losses[index]


def _codes_at(findings: Mapping[str, array[int]], index: int) -> tuple[str, ...]:
    found = []
    for code, rows in findings.items():
        place = bisect_left(rows, index)
        if place < len(rows) and rows[place] == index:
            found.append(code)
    return tuple(found)
