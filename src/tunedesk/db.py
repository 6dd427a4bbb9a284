"""SQLite as both halves use it: opened durable, migrated step by step, errors translated once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunedesk.errors import StoreError

Connection = sqlite3.Connection
Row = sqlite3.Row


def connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open (or make) the database at `path` and bring it to the newest of `migrations`.

    `migrations` is an ordered tuple of SQL scripts; `user_version` counts those applied, each in one transaction
    with its count. WAL with synchronous=FULL: what was committed survives power loss. The connection may be used
    from several threads, one at a time. Raises StoreError when the file is unreadable or newer than this program.
    """
    try:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        path.chmod(0o600)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        _migrate(connection, path, migrations)
    except sqlite3.Error as error:
        raise StoreError(f"cannot open {path}: {error}", hint_for(error)) from error
    except OSError as error:
        raise StoreError(
            f"cannot open {path}: {error.strerror}", "set TUNEDESK_HOME to a writable folder"
        ) from error
    return connection


def hint_for(error: sqlite3.Error) -> str:
    """Return what to do about a file that cannot be opened: a full disk or a lack of rights is no broken file."""
    if isinstance(error, sqlite3.OperationalError):
        return "free some space, and check the disk and the rights on the folder; nothing shown as saved was lost"
    return "move the file away to start afresh, or restore a copy"


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise StoreError(
                f"{path} was written by a newer tunedesk", "upgrade tunedesk: pip install -U tunedesk"
            )
        for number, script in enumerate(migrations[version:], version + 1):
            for statement in script.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block in one write transaction: committed at its end, rolled back on any error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        whole = False
        try:
            yield connection
            whole = True
        finally:
            connection.execute("COMMIT" if whole else "ROLLBACK")
    except sqlite3.Error as error:
        raise StoreError(
            f"the store could not be written: {error}", "free some space; nothing shown as saved was lost"
        ) from error
