"""A dataset as it is being worked on: edits, query, order and facts, in one value that never changes.

Every change returns another workspace. An edit is in the journal before the workspace that shows it exists, so what
was seen is never lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from tunedesk.core.conversations import Row, encode_row, upload_row
from tunedesk.core.datasets.added import extended
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.editing.applying import apply
from tunedesk.core.editing.edits import MARKS, Edit, add_rows, encode, of_row
from tunedesk.core.editing.history import (
    Journal,
    MemoryJournal,
    Recorded,
    added_rows,
    built_over,
    edits_of,
    head,
    in_force,
    newest_in_force,
    news,
    next_redo,
    read_history,
    state_of,
)
from tunedesk.core.editing.overlay import EDITED, FEW, OUT, Overlay
from tunedesk.core.row_views import RowView, view_of
from tunedesk.core.searching.matches import Matches
from tunedesk.core.searching.piece import Known, Target
from tunedesk.core.searching.query import Everything, Mark, Query, marks, parse, refines
from tunedesk.core.searching.search import first_of, search
from tunedesk.core.searching.summaries import facets, sort_matches
from tunedesk.errors import DataError
from tunedesk.paths import replacing

PREFERENCE_KEYS = ("input", "preferred_output", "non_preferred_output")
"""Keys of a preference row that the API takes."""
_OUT_VALUES = bytes(value for value in range(256) if value & OUT)


@dataclass(frozen=True, slots=True)
class Ordered:
    """A whole result in the order of a sort, in which what refines its query is found first."""

    query: Query
    overlay: Overlay
    matches: Matches


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of the list."""

    column: str
    descending: bool = False
    known: Ordered | None = field(default=None, compare=False, repr=False)


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
    foreign: frozenset[int] = frozenset()
    """Journal ids of edits that other instances have made since this one opened: not for `undo` to take back."""
    taken_back: tuple[int, ...] = ()
    """Journal ids of edits that this instance undid and has not built over since, the last one at the end."""

    @classmethod
    def open(
        cls, dataset: Dataset, journal: Journal | None = None, *, known: Known | None = None
    ) -> Workspace:
        """Return the workspace of a dataset with all its edits in force, showing every row."""
        journal = journal or MemoryJournal()
        history = read_history(journal, dataset.id)
        dataset, overlay = _replayed(dataset, Overlay.empty(0), history)
        everything = Matches.all(len(dataset)).without(overlay.absent())
        return cls(
            dataset, journal, history, overlay, everything, everything, overlay, known=known or Known()
        )

    @property
    def total(self) -> int:
        """Conversations in the dataset, those added included."""
        return len(self.dataset) - len(self.overlay.absent())

    @property
    def everything(self) -> Matches:
        """The row numbers of all conversations; added ones follow the imported ones."""
        return Matches.all(len(self.dataset)).without(self.overlay.absent())

    @property
    def matched(self) -> int:
        """Conversations that the query matched."""
        return len(self.matches)

    @property
    def included_count(self) -> int:
        """Conversations that an export writes."""
        return len(self.overlay.flags.translate(None, _OUT_VALUES))

    @property
    def target(self) -> Target:
        """What a search of this workspace looks at."""
        return Target(self.dataset, self.overlay, self.known)

    @property
    def marks(self) -> list[Mark]:
        """What to mark in the messages of the rows that the query matched."""
        return marks(self.query)

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

        Nothing more comes once `cancelled` returns True. Under a sort the first screenful comes where the query
        refines one whose order is known.
        """
        query = parse(text)
        previous = None if self.stale else (self.query, self.found)
        begun = replace(self, query=query, basis=self.overlay)
        known = self.sort.known if self.sort and not isinstance(query.root, Everything) else None
        if known and known.overlay is self.overlay and refines(query.root, known.query.root):
            first = first_of(self.target, query, known.matches, cancelled)
            if len(first) and not cancelled():
                yield replace(begun, found=Matches([first.sort()]), matches=Matches([first], ordered=False))
        for progress in search(self.target, query, cancelled=cancelled, previous=previous):
            shown = progress.matches
            if progress.done:
                yield _whole(begun, shown)
            elif self.sort is None:
                yield replace(begun, found=shown, matches=shown)

    def refreshed(self) -> Workspace:
        """Return the workspace with its query run again over the edits made since."""
        return self.with_query(self.query.text)

    def with_sort(self, column: str | None, descending: bool = False) -> Workspace:
        """Return the workspace ordered by a column, None for the dataset's order; raises UsageError."""
        changed = replace(self, sort=Sort(column, descending) if column else None)
        return _whole(changed, self.found)

    def with_known(self, known: Known) -> Workspace:
        """Return the workspace with other facts about its rows; the shown rows stay until the query runs again."""
        return replace(self, known=known)

    def with_model(self, model: str) -> Workspace:
        """Return the workspace for another model."""
        return replace(self, model=model)

    def apply(self, edit: Edit) -> Workspace:
        """Journal an edit and return the workspace with it; the list keeps its rows and its place.

        Edits that other instances have made since are seen first. Raises DataError, before anything is kept, when a
        row is not there or was changed by another instance, or the edit of one row cannot be done, StoreError when
        the journal cannot be written.
        """
        return self._journalled(lambda latest: _checked(edit, latest, self))

    def add_rows(self, rows: Sequence[Row], label: str) -> Workspace:
        """Journal new conversations and return the workspace with them at the end of the list; raises as `apply`."""
        return self._journalled(lambda latest: add_rows(len(latest.dataset), rows, label))

    def _journalled(self, make: Callable[[Workspace], Edit]) -> Workspace:
        """Journal what `make` makes of the latest state, made anew when another instance was quicker."""
        while True:
            latest = self.reloaded()
            edit = msgspec.structs.replace(make(latest), parent=head(latest.history))
            number = self.journal.append_edit(
                self.dataset.id, encode(edit), edit.label, state_of(latest.history)
            )
            if number:
                return latest._with_edit(Recorded(number, edit))

    def _with_edit(self, one: Recorded) -> Workspace:
        history = (*self.history, one)
        if one.edit.kind in ("restore", "add_rows", "revert"):
            return replace(self._with_history(history), taken_back=())
        overlay = self.overlay.with_edits([(one.id, one.edit)], partial(edits_of, history))
        return replace(self, history=history, overlay=overlay, taken_back=())

    def _with_history(self, history: Sequence[Recorded]) -> Workspace:
        """Return the workspace after other edits; rows that came or went are added to what is shown, or taken out."""
        dataset, overlay = _replayed(self.dataset, self.overlay, history)
        changed = replace(self, dataset=dataset, history=tuple(history), overlay=overlay)
        return changed.showing(self)

    def showing(self, shown: Workspace) -> Workspace:
        """Return this state with the query, matches and order of another state of the same dataset."""
        before, now = _present_added(shown.overlay), _present_added(self.overlay)
        gone, came = sorted(before - now), sorted(now - before)
        return replace(
            self,
            query=shown.query,
            sort=shown.sort,
            basis=self.overlay if shown.basis.ids == self.overlay.ids else shown.basis,
            matches=shown.matches.without(gone).followed_by(came),
            found=shown.found.without(gone).followed_by(came),
        )

    @property
    def position(self) -> tuple[int, ...]:
        """The journal ids of the edits that make this state, in order: what a version remembers."""
        return tuple(one.id for one in in_force(self.history))

    def at(self, position: Sequence[int]) -> Workspace:
        """Return another state of the same dataset, to look at: its own edits end with the process."""
        kept = set(position)
        history = tuple(replace(one, undone=False) for one in self.history if one.id in kept)
        blank = Overlay.empty(len(self.dataset), self.overlay.added)
        overlay = blank.with_edits(edits_of(self.history, position), partial(edits_of, self.history))
        journal = MemoryJournal(self.dataset.id, history)
        state = replace(self, journal=journal, history=history, overlay=overlay, foreign=frozenset())
        return replace(state, taken_back=()).refreshed()

    @property
    def undoable(self) -> Recorded | None:
        """The edit that `undo` would take back: the newest in force that is not `foreign`."""
        return newest_in_force(self.history, but=self.foreign)

    @property
    def redoable(self) -> Recorded | None:
        """The edit that `redo` would bring back."""
        return next_redo(self.history, self.foreign, self.taken_back)

    def undo(self) -> Workspace:
        """Take back what this instance did last, then what was there when it opened; the same workspace without any.

        Raises DataError when another instance has since edited the same conversations.
        """
        return self._marked(lambda latest: latest.undoable, undone=True)

    def redo(self) -> Workspace:
        """Bring back the edit undone last; the same workspace when there is none; raises as `undo`."""
        return self._marked(lambda latest: latest.redoable, undone=False)

    def reloaded(self) -> Workspace:
        """Return the workspace with the edits that other instances have made since, the same one without any.

        Raises DataError when another instance has removed the dataset.
        """
        if self.journal.edits_state(self.dataset.id) == state_of(self.history):
            return self
        history = read_history(self.journal, self.dataset.id, self.history)
        made = {one.id for one in history}.difference(one.id for one in self.history)
        return replace(self._with_history(history), foreign=self.foreign.union(made))

    def news(self, seen: Workspace) -> str:
        """Return in words what was done since an earlier state of the same dataset."""
        return news(seen.history, self.history)

    def row(self, index: int) -> Row:
        """Return a row as edits left it; raises DataError when there is none."""
        if not 0 <= index < self.overlay.count:
            return self.dataset.row(index)
        return self.overlay.row(self.dataset, index)

    def line(self, index: int) -> int:
        """Return the physical line of a row in its source, from 1."""
        return self.dataset.line(index)

    def included(self) -> Iterator[tuple[int, Row]]:
        """Yield (index, row) of every row that is not excluded, as edits left it."""
        flags = self.overlay.flags
        for index in range(len(flags)):
            if not flags[index] & OUT:
                yield index, self.row(index)

    def included_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (index, JSON) of every row that is not excluded: as it was imported, unless it was edited."""
        flags = self.overlay.flags
        for index in self.included_indexes():
            if flags[index] & EDITED:
                yield index, encode_row(self.row(index))
            else:
                yield index, self.dataset.raw(index)

    def included_indexes(self) -> array[int]:
        """Return the indexes of all rows that are not excluded, ascending."""
        return array("I", (index for index, flag in enumerate(self.overlay.flags) if not flag & OUT))

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
        return view_of(self.dataset, self.overlay, self.known, index)

    def _sorted(self, found: Matches) -> Matches:
        if self.sort is None:
            return found
        return sort_matches(self.target, found, self.sort.column, descending=self.sort.descending)

    def _marked(self, choose: Callable[[Workspace], Recorded | None], *, undone: bool) -> Workspace:
        while True:
            latest = self.reloaded()
            chosen = choose(latest)
            if chosen is None:
                return latest
            if later := built_over(chosen, latest.history, latest.foreign):
                raise DataError(
                    f"another window has edited the same conversations since: {later.edit.label}",
                    "undo that there first, or here once the dataset is opened anew",
                )
            state = state_of(latest.history)
            if self.journal.set_undone(self.dataset.id, chosen.id, undone, state):
                marked = (replace(one, undone=undone) if one is chosen else one for one in latest.history)
                taken = [number for number in latest.taken_back if number != chosen.id]
                now = replace(latest, taken_back=(*taken, *([chosen.id] if undone else ())))
                return now._with_history(tuple(marked))


def _replayed(dataset: Dataset, overlay: Overlay, history: Sequence[Recorded]) -> tuple[Dataset, Overlay]:
    """Return the dataset with every row that was ever added, and the overlay of the edits in force over it."""
    added = added_rows(history)
    if len(added) != len(dataset) - len(dataset.imported):
        dataset = extended(dataset, added)
    now = [(one.id, one.edit) for one in in_force(history)]
    return dataset, overlay.of(now, len(dataset), len(added), partial(edits_of, history))


def _whole(workspace: Workspace, found: Matches) -> Workspace:
    """Return a workspace with what its query matches, and with the order of all of it where it is sorted."""
    matches, sort = workspace._sorted(found), workspace.sort
    if sort is not None and (found.aligned or isinstance(workspace.query.root, Everything)):
        known = sort.known
        # The order of all rows serves every query, so no other one takes its place.
        if not (known and known.overlay is workspace.overlay and isinstance(known.query.root, Everything)):
            sort = replace(sort, known=Ordered(workspace.query, workspace.overlay, matches))
    return replace(workspace, found=found, matches=matches, sort=sort)


def _checked(edit: Edit, latest: Workspace, seen: Workspace) -> Edit:
    """Return `edit` when it can be done in `latest` as it was meant in the state `seen`; raises DataError."""
    rows = edit.indexes()
    if rows is None or edit.kind in MARKS:
        fits = rows is None or (rows and rows[-1] < len(latest.dataset))
    else:
        fits = bool(rows) and rows[-1] < len(latest.dataset)
        if (
            fits
            and len(rows) <= FEW
            and any(latest.overlay.follows(i) != seen.overlay.follows(i) for i in rows)
        ):
            raise DataError(
                "another window has changed this conversation meanwhile",
                "it is shown as it is now: make the edit again",
            )
        if fits and len(rows) == 1:
            apply(of_row(edit, 0), latest.row(rows[0]))
    if not fits:
        raise DataError("the edit is about no row of this dataset", "select conversations first")
    return edit


def _present_added(overlay: Overlay) -> set[int]:
    return {*range(overlay.count - overlay.added, overlay.count)}.difference(overlay.absent())


def _uploaded(row: Row) -> Row:
    if "messages" in row:
        return upload_row(row)
    return {key: row[key] for key in PREFERENCE_KEYS if key in row}
