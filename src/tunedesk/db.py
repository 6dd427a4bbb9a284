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
        raise StoreError(f"cannot open {path}: {said(error)}", hint_for(error)) from error
    except OSError as error:
        raise StoreError(
            f"cannot open {path}: {error.strerror}", "set TUNEDESK_HOME to a writable folder"
        ) from error
    return connection


def said(error: sqlite3.Error) -> str:
    """Return what went wrong, in words of ours where SQLite's say nothing to who reads them."""
    return "another program has kept it locked for too long" if _is_held(error) else str(error)


def _is_held(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def hint_for(error: sqlite3.Error) -> str:
    """Return what to do about a file that cannot be opened: a full disk or a lack of rights is no broken file."""
    if _is_held(error):
        return "close what else uses it, such as a backup, and try again; nothing shown as saved was lost"
    if isinstance(error, sqlite3.OperationalError):
        return "free some space, and check the disk and the rights on the folder; nothing shown as saved was lost"
    return "move the file away to start afresh, or restore a copy"


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection) == len(migrations):
        return  # whoever writes at the moment is not waited for
    with transaction(connection):
        version = _version(connection)
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
        raise StoreError(f"the store could not be written: {said(error)}", hint_for(error)) from error
