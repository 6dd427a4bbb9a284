"""The journal of edits as a workspace sees it: append, mark as undone, read back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tunedesk.core.conversations import Row
from tunedesk.core.editing.edits import Edit, decode, meet


class JournalEntry(Protocol):
    """One edit as the journal gives it back."""

    @property
    def id(self) -> int:
        """Its number, growing with each edit."""

    @property
    def edit(self) -> bytes:
        """What `edits.encode` made."""

    @property
    def undone(self) -> bool:
        """Whether it is taken back."""


JournalState = tuple[int, int, frozenset[int]]
"""The ids of the oldest and the newest edit (0 without any) and of those undone: another one whenever any instance
writes, and where a dataset was removed and imported anew, as ids are given once."""


class Journal(Protocol):
    """Where edits are kept; the store is one. Several instances may write to it.

    What is given a `state` writes only while the journal is in it, so that nothing builds on what it has not seen.
    """

    def append_edit(self, dataset_id: str, edit: bytes, label: str, state: JournalState | None = None) -> int:
        """Keep an edit durably and return its id; 0, and nothing is kept, when the journal left `state`."""

    def edits(self, dataset_id: str, after: int = 0) -> Sequence[JournalEntry]:
        """Return the edits of a dataset with ids above `after`, by id, the undone ones too."""

    def edits_state(self, dataset_id: str) -> JournalState:
        """Return the state of a dataset's journal; asked for often. Raises DataError when the dataset is gone."""

    def set_undone(
        self, dataset_id: str, edit_id: int, undone: bool, state: JournalState | None = None
    ) -> bool:
        """Mark an edit as taken back, or as in force again; False, and nothing is kept, when it left `state`."""


@dataclass(frozen=True, slots=True)
class KeptEdit:
    """A `JournalEntry` of `MemoryJournal`."""

    id: int
    edit: bytes
    undone: bool = False


class MemoryJournal:
    """A journal that ends with the process, for work without a store (`convert`, `list FILE`)."""

    def __init__(self, dataset_id: str = "", history: Sequence[Recorded] = ()) -> None:
        """Go on from the `history` of a dataset: whoever holds that never reads those edits, only what follows."""
        self._edits = {dataset_id: [KeptEdit(one.id, b"", one.undone) for one in history]}

    def append_edit(self, dataset_id: str, edit: bytes, label: str, state: JournalState | None = None) -> int:
        """Keep an edit and return its id; 0 when the journal left `state`."""
        if state not in (None, self.edits_state(dataset_id)):
            return 0
        kept = self._edits.setdefault(dataset_id, [])
        kept.append(KeptEdit(kept[-1].id + 1 if kept else 1, edit))
        return kept[-1].id

    def edits(self, dataset_id: str, after: int = 0) -> Sequence[KeptEdit]:
        """Return the edits of a dataset with ids above `after`, by id."""
        return [one for one in self._edits.get(dataset_id, []) if one.id > after]

    def edits_state(self, dataset_id: str) -> JournalState:
        """Return the state of a dataset's journal."""
        return state_of(self._edits.get(dataset_id, []))

    def set_undone(
        self, dataset_id: str, edit_id: int, undone: bool, state: JournalState | None = None
    ) -> bool:
        """Mark an edit as taken back, or as in force again; False when the journal left `state`."""
        if state not in (None, self.edits_state(dataset_id)):
            return False
        kept = self._edits[dataset_id]
        self._edits[dataset_id] = [replace(one, undone=undone) if one.id == edit_id else one for one in kept]
        return True


@dataclass(frozen=True, slots=True)
class Recorded:
    """An edit with its place in the journal."""

    id: int
    edit: Edit
    undone: bool = False


def in_force(history: Sequence[Recorded]) -> list[Recorded]:
    """Return the edits that make the present state, in order: what a restored version kept, and what follows."""
    chosen: list[Recorded] = []
    for one in history:
        if one.undone:
            continue
        if one.edit.kind == "restore":
            kept = set(one.edit.arguments["edits"])
            chosen = [other for other in history if other.id in kept]
        else:
            chosen.append(one)
    return chosen


def edits_of(history: Sequence[Recorded], ids: Iterable[int]) -> list[tuple[int, Edit]]:
    """Return the edits of these ids in their order, with them; also those that are undone."""
    wanted = set(ids)
    return [(one.id, one.edit) for one in history if one.id in wanted]


def head(history: Sequence[Recorded]) -> int:
    """Return the id of the newest edit in force, 0 without any."""
    newest = newest_in_force(history)
    return newest.id if newest else 0


def newest_in_force(history: Sequence[Recorded], but: Collection[int] = ()) -> Recorded | None:
    """Return the last edit that is not undone, nor one of `but` by its id."""
    return next((one for one in reversed(history) if not one.undone and one.id not in but), None)


def next_redo(
    history: Sequence[Recorded], foreign: Collection[int], taken_back: Sequence[int]
) -> Recorded | None:
    """Return the edit that a redo brings back: of those `taken_back` here the last.

    Where none was, it is the newest undone one that is not `foreign` and was made on the present state.
    """
    undone = (one for one in reversed(history) if one.undone)
    if taken_back:
        by_id = {one.id: one for one in undone}
        return next((by_id[number] for number in reversed(taken_back) if number in by_id), None)
    newest = head(history)
    return next((one for one in undone if one.edit.parent == newest and one.id not in foreign), None)


def built_over(one: Recorded, history: Sequence[Recorded], foreign: Collection[int]) -> Recorded | None:
    """Return an edit in force that another instance made after `one` and perhaps on it, None without any."""
    later = (other for other in history if other.id > one.id and other.id in foreign and not other.undone)
    return next((other for other in later if meet(one.edit, other.edit)), None)


def news(before: Sequence[Recorded], after: Sequence[Recorded]) -> str:
    """Return in words what was done between two states of a journal, the last of it where it was much."""
    known = {one.id: one.undone for one in before}
    told = [
        f"{'undid ' if one.undone else 'redid ' if one.id in known else ''}{one.edit.label}"
        for one in after
        if known.get(one.id, False) != one.undone or one.id not in known
    ]
    more = f" and {len(told) - 1:,} more" if len(told) > 1 else ""
    return told[-1] + more if told else "its file was imported anew"


def state_of(history: Sequence[Recorded | KeptEdit]) -> JournalState:
    """Return the state of the journal that holds these edits."""
    oldest, newest = (history[0].id, history[-1].id) if history else (0, 0)
    return oldest, newest, frozenset(one.id for one in history if one.undone)


def added_rows(history: Sequence[Recorded]) -> list[Row]:
    """Return every row that was ever added to a dataset, in order, those whose adding is undone too."""
    made = (one.edit for one in history if one.edit.kind == "add_rows")
    return [row for edit in made for row in edit.arguments["contents"]]


def read_history(journal: Journal, dataset_id: str, known: Sequence[Recorded] = ()) -> tuple[Recorded, ...]:
    """Return all edits of a dataset by id, those that are not among the older `known` read from the journal.

    Raises StoreError when one cannot be read, DataError when the dataset is gone.
    """
    if known and known[0].id != journal.edits_state(dataset_id)[0]:
        known = ()
    newest = known[-1].id if known else 0
    read = [Recorded(entry.id, decode(entry.edit)) for entry in journal.edits(dataset_id, newest)]
    *_, undone = journal.edits_state(dataset_id)
    return tuple(replace(one, undone=one.id in undone) for one in (*known, *read))
