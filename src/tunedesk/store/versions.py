"""Named versions of datasets, and queries kept under a name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tunedesk import db
from tunedesk.store.database import Database, decode, encode


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a dataset under a name: which of its edits were in force."""

    dataset: str
    name: str
    at: float
    """Unix seconds."""
    edits: tuple[int, ...]
    """Journal ids, in order."""


@dataclass(frozen=True, slots=True)
class View:
    """A query kept under a name."""

    name: str
    query: str
    at: float
    """Unix seconds."""


class VersionTables:
    """Tables versions and views."""

    database: Database

    def add_version(self, dataset: str, name: str, edits: Sequence[int]) -> Version | None:
        """Keep a version, durably; None when the dataset has one of that name, which stays as it is."""
        version = Version(dataset, name, time.time(), tuple(edits))
        with self.database.writing() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?)",
                (dataset, name, version.at, encode(version.edits)),
            ).rowcount
        return version if added else None

    def versions(self, dataset: str) -> list[Version]:
        """Return a dataset's versions, the one made last first, whatever the clock said then."""
        rows = self.database.read("SELECT * FROM versions WHERE dataset = ? ORDER BY rowid DESC", dataset)
        return [_version(row) for row in rows]

    def version(self, dataset: str, name: str) -> Version | None:
        """Return a dataset's version of this name, or None."""
        row = self.database.read_one("SELECT * FROM versions WHERE dataset = ? AND name = ?", dataset, name)
        return _version(row) if row else None

    def forget_version(self, dataset: str, name: str) -> None:
        """Drop a name; the edits stay in the journal."""
        self.database.write("DELETE FROM versions WHERE dataset = ? AND name = ?", dataset, name)

    def rename_version(self, dataset: str, name: str, other: str) -> bool:
        """Give a version another name; False when the dataset has one of that name, and both stay as they are."""
        return self._renamed(
            "UPDATE OR IGNORE versions SET name = ? WHERE name = ? AND dataset = ?", other, name, dataset
        )

    def rename_view(self, name: str, other: str) -> bool:
        """Give a kept query another name; False when there is one of that name, and both stay as they are."""
        return self._renamed("UPDATE OR IGNORE views SET name = ? WHERE name = ?", other, name)

    def _renamed(self, statement: str, *values: str) -> bool:
        with self.database.writing() as connection:
            return connection.execute(statement, values).rowcount > 0

    def save_view(self, name: str, query: str) -> None:
        """Keep (or replace) a query under a name."""
        self.database.write("INSERT OR REPLACE INTO views VALUES (?, ?, ?)", name, query, time.time())

    def views(self) -> list[View]:
        """Return the kept queries by name."""
        return [View(*row) for row in self.database.read("SELECT * FROM views ORDER BY name")]

    def forget_view(self, name: str) -> None:
        """Drop a kept query."""
        self.database.write("DELETE FROM views WHERE name = ?", name)


def _version(row: db.Row) -> Version:
    return Version(row["dataset"], row["name"], row["at"], decode(row["edits"], tuple[int, ...]))
