"""Datasets by name, the journal of their edits, and versions of system prompts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tunedesk import db
from tunedesk.errors import DataError
from tunedesk.store.database import Database


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """An imported dataset as the store lists it; its rows lie in a folder named by its id."""

    id: str
    name: str
    source: str
    """Where it was imported from, as the user named it."""
    conversations: int
    imported_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One edit of a dataset in the order it was made."""

    id: int
    at: float
    """Unix seconds."""
    label: str
    """What it did, in words for the undo list."""
    edit: bytes
    """The edit as core/editing/edits.py encodes it."""
    undone: bool


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a named system prompt."""

    name: str
    version: int
    """Counted from 1."""
    text: str
    at: float
    """Unix seconds."""


class DatasetTables:
    """Tables datasets, edits and prompts."""

    database: Database

    def save_dataset(self, entry: DatasetEntry) -> None:
        """Keep (or replace) the entry of an imported dataset."""
        self.database.write(
            "INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?)",
            entry.id,
            entry.name,
            entry.source,
            entry.conversations,
            entry.imported_at,
        )

    def datasets(self) -> list[DatasetEntry]:
        """Return all datasets, the one imported last first, whatever the clock said then."""
        rows = self.database.read("SELECT * FROM datasets ORDER BY rowid DESC")
        return [_entry(row) for row in rows]

    def dataset(self, name: str) -> DatasetEntry | None:
        """Return the dataset with this id, else the one imported last of this name, else None."""
        row = self.database.read_one(
            "SELECT * FROM datasets WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC, rowid DESC", name
        )
        return _entry(row) if row else None

    def forget_dataset(self, dataset: str) -> None:
        """Drop a dataset's entry with its whole journal and its versions."""
        with self.database.writing() as connection:
            connection.execute("DELETE FROM edits WHERE dataset = ?", (dataset,))
            connection.execute("DELETE FROM versions WHERE dataset = ?", (dataset,))
            connection.execute("DELETE FROM datasets WHERE id = ?", (dataset,))

    def append_edit(
        self, dataset: str, edit: bytes, label: str, state: tuple[int, int, frozenset[int]] | None = None
    ) -> int:
        """Add an edit to a dataset's journal, durably; return its id, 0 when the journal left `state`.

        With a `state` it raises DataError when the dataset is not here any more.
        """
        with self.database.writing() as connection:
            if state is not None and state != self.edits_state(dataset):
                return 0
            values = (dataset, time.time(), label, edit)
            added = connection.execute(
                "INSERT INTO edits (dataset, at, label, edit) VALUES (?, ?, ?, ?)", values
            )
        return added.lastrowid or 0

    def edits(self, dataset: str, after: int = 0) -> list[JournalEntry]:
        """Return a dataset's journal in order from the edit that follows `after`, undone edits included."""
        rows = self.database.read(
            "SELECT * FROM edits WHERE dataset = ? AND id > ? ORDER BY id", dataset, after
        )
        return [JournalEntry(r["id"], r["at"], r["label"], r["edit"], bool(r["undone"])) for r in rows]

    def edits_state(self, dataset: str) -> tuple[int, int, frozenset[int]]:
        """Return the ids of the oldest and the newest edit, and of those undone: new whenever any instance writes.

        Raises DataError when the dataset is not here any more.
        """
        ends = self.database.read_one(
            "SELECT (SELECT min(id) FROM edits WHERE dataset = ?1), (SELECT max(id) FROM edits WHERE dataset = ?1)"
            " FROM datasets WHERE id = ?1",
            dataset,
        )
        if ends is None:
            raise DataError(
                "this dataset was removed in another window",
                "nothing can be edited in it any more: o opens another one, i imports its file again",
            )
        undone = self.database.read("SELECT id FROM edits WHERE dataset = ? AND undone = 1", dataset)
        return ends[0] or 0, ends[1] or 0, frozenset(row[0] for row in undone)

    def set_undone(
        self, dataset: str, edit: int, undone: bool, state: tuple[int, int, frozenset[int]] | None = None
    ) -> bool:
        """Mark an edit of a dataset as undone, or as done again; False when the journal left `state`.

        With a `state` it raises DataError when the dataset is not here any more.
        """
        with self.database.writing() as connection:
            if state is not None and state != self.edits_state(dataset):
                return False
            connection.execute(
                "UPDATE edits SET undone = ? WHERE dataset = ? AND id = ?", (int(undone), dataset, edit)
            )
        return True

    def save_prompt(self, name: str, text: str) -> PromptVersion:
        """Keep `text` as the newest version of prompt `name`; the same text again makes no new version."""
        with self.database.writing() as connection:
            row = connection.execute(
                "SELECT * FROM prompts WHERE name = ? ORDER BY version DESC LIMIT 1", (name,)
            ).fetchone()
            if row is not None and row["text"] == text:
                return PromptVersion(*row)
            version = PromptVersion(name, row["version"] + 1 if row else 1, text, time.time())
            connection.execute(
                "INSERT INTO prompts VALUES (?, ?, ?, ?)", (name, version.version, text, version.at)
            )
        return version

    def prompts(self) -> list[PromptVersion]:
        """Return the newest version of each prompt, by name."""
        rows = self.database.read(
            "SELECT name, max(version) AS version, text, at FROM prompts GROUP BY name ORDER BY name"
        )
        return [PromptVersion(*row) for row in rows]

    def prompt_versions(self, name: str) -> list[PromptVersion]:
        """Return all versions of one prompt, the oldest first."""
        rows = self.database.read("SELECT * FROM prompts WHERE name = ? ORDER BY version", name)
        return [PromptVersion(*row) for row in rows]


def _entry(row: db.Row) -> DatasetEntry:
    return DatasetEntry(*row)
