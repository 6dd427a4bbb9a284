"""One connection with a lock: every read and write of the store goes through it, and its errors are translated here."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tunedesk import db
from tunedesk.errors import StoreError

T = TypeVar("T")


class Database:
    """An open SQLite file that several threads may use; each call is one transaction."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = db.connect(path, migrations)

    def close(self) -> None:
        """Close the file; what was written is durable already."""
        with self._lock:
            self._connection.close()

    def read(self, sql: str, *values: Any) -> list[db.Row]:
        """Return all rows of a query; raises StoreError when the file cannot be read."""
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"cannot read {self.path}: {db.said(error)}", db.hint_for(error)) from error

    def read_one(self, sql: str, *values: Any) -> db.Row | None:
        """Return the first row of a query, or None when there is none."""
        rows = self.read(sql, *values)
        return rows[0] if rows else None

    @contextmanager
    def writing(self) -> Iterator[db.Connection]:
        """Yield the connection inside one write transaction, durable when the block ends."""
        with self._lock, db.transaction(self._connection):
            yield self._connection

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement durably; return the id of the row it inserted (0 when it inserted none)."""
        with self.writing() as connection:
            return connection.execute(sql, values).lastrowid or 0


def encode(value: object) -> bytes:
    """Return a dataclass (or plain data) as the JSON that a body column keeps."""
    return msgspec.json.encode(value)


def decode(body: bytes, kind: type[T]) -> T:
    """Return the `kind` that a body column keeps; unknown keys of newer versions are ignored.

    Raises StoreError when it does not fit.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"a stored {kind.__name__} cannot be read: {error}", "restore a copy of the store"
        ) from error
