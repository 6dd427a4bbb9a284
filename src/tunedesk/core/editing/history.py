"""The journal of edits as a workspace sees it: append, mark as undone, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tunedesk.core.editing.edits import Edit, decode


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


class Journal(Protocol):
    """Where edits are kept; the store is one."""

    def append_edit(self, dataset_id: str, edit: bytes, label: str) -> int:
        """Keep an edit durably and return its id."""

    def edits(self, dataset_id: str) -> Sequence[JournalEntry]:
        """Return all edits of a dataset by id, the undone ones too."""

    def set_undone(self, dataset_id: str, edit_id: int, undone: bool) -> None:
        """Mark an edit as taken back, or as in force again."""


@dataclass(frozen=True, slots=True)
class KeptEdit:
    """A `JournalEntry` of `MemoryJournal`."""

    id: int
    edit: bytes
    undone: bool = False


class MemoryJournal:
    """A journal that ends with the process, for work without a store (`convert`, `list FILE`)."""

    def __init__(self) -> None:
        self._edits: dict[str, list[KeptEdit]] = {}

    def append_edit(self, dataset_id: str, edit: bytes, label: str) -> int:
        """Keep an edit and return its id."""
        kept = self._edits.setdefault(dataset_id, [])
        kept.append(KeptEdit(len(kept) + 1, edit))
        return len(kept)

    def edits(self, dataset_id: str) -> Sequence[KeptEdit]:
        """Return all edits of a dataset by id."""
        return list(self._edits.get(dataset_id, ()))

    def set_undone(self, dataset_id: str, edit_id: int, undone: bool) -> None:
        """Mark an edit as taken back, or as in force again."""
        kept = self._edits[dataset_id]
        kept[edit_id - 1] = replace(kept[edit_id - 1], undone=undone)


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


def read_history(journal: Journal, dataset_id: str) -> tuple[Recorded, ...]:
    """Return all edits of a dataset by id; raises StoreError when one cannot be read."""
    return tuple(Recorded(entry.id, decode(entry.edit), entry.undone) for entry in journal.edits(dataset_id))
