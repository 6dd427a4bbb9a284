"""The engine's SQLite file: its migrations, and one connection shared by threads in turn."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tunedesk import db
from tunedesk.engine.wire import ApiError
from tunedesk.errors import StoreError

Result = TypeVar("Result")

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE files (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        expires_at INTEGER, filename TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    );
    CREATE INDEX files_sha256 ON files (sha256);
    CREATE TABLE uploads (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
        status TEXT NOT NULL, keep_seconds INTEGER, file_id TEXT
    );
    CREATE TABLE parts (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        upload_id TEXT NOT NULL REFERENCES uploads (id), bytes INTEGER NOT NULL, sha256 TEXT NOT NULL
    );
    CREATE INDEX parts_upload ON parts (upload_id);
    CREATE INDEX parts_sha256 ON parts (sha256);
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        finished_at INTEGER, status TEXT NOT NULL, model TEXT NOT NULL, training_file TEXT NOT NULL,
        validation_file TEXT, hyperparameters TEXT NOT NULL, seed INTEGER NOT NULL,
        metadata TEXT, integrations TEXT, model_name TEXT NOT NULL UNIQUE, trained_tokens INTEGER,
        result_file TEXT, error TEXT
    );
    CREATE INDEX jobs_status ON jobs (status);
    CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL REFERENCES jobs (id),
        created_at INTEGER NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL, type TEXT NOT NULL,
        step INTEGER, data TEXT NOT NULL
    );
    CREATE UNIQUE INDEX events_step ON events (job_id, step) WHERE type = 'metrics';
    CREATE INDEX events_job ON events (job_id, number);
    CREATE TABLE checkpoints (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        job_id TEXT NOT NULL REFERENCES jobs (id), created_at INTEGER NOT NULL, step INTEGER NOT NULL,
        model_name TEXT NOT NULL, metrics TEXT NOT NULL, UNIQUE (job_id, step)
    );
    CREATE TABLE models (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        base TEXT NOT NULL, job_id TEXT NOT NULL REFERENCES jobs (id), adapter TEXT NOT NULL
    );
    CREATE TABLE idempotency (
        kind TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, object_id TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    );
    CREATE INDEX idempotency_object ON idempotency (object_id);
    """,
    """
    ALTER TABLE jobs ADD COLUMN method TEXT NOT NULL DEFAULT 'supervised';
    """,
    """
    CREATE TABLE tuned (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
        base TEXT NOT NULL, job_id TEXT REFERENCES jobs (id), adapter TEXT NOT NULL
    );
    INSERT INTO tuned SELECT * FROM models;
    DROP TABLE models;
    ALTER TABLE tuned RENAME TO models;
    """,
    """
    ALTER TABLE jobs ADD COLUMN validated INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET validated = 1 WHERE status != 'validating_files';
    """,
)


RESERVE = 256 << 10
"""Bytes kept free beside the database: several times what one small transaction writes."""


class Database:
    """One durable connection; reads and writes of all threads take turns on it."""

    def __init__(self, path: Path) -> None:
        self._connection = db.connect(path, MIGRATIONS)
        self._turn = threading.RLock()
        self._reserve = path.with_name("reserve")
        self._fill_reserve()

    def _fill_reserve(self) -> None:
        """Keep some room, so that what frees room can be written when the disk is full."""
        with contextlib.suppress(OSError), self._reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE)

    def freeing(self, work: Callable[[], Result]) -> Result:
        """Do `work`, which gives up room or ends something: with the reserve when the disk is full."""
        try:
            return work()
        except StoreError:
            self._reserve.unlink(missing_ok=True)
            try:
                return work()
            finally:
                self._fill_reserve()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[db.Row]:
        """Return all rows of one reading statement."""
        with self._turn:
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> db.Row | None:
        """Return the first row of one reading statement, None when there is none."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    @contextmanager
    def write(self) -> Iterator[db.Connection]:
        """Run the block in one transaction that is on disk when it ends; blocks inside it join it."""
        with self._turn:
            if self._connection.in_transaction:
                yield self._connection
                return
            with db.transaction(self._connection) as connection:
                yield connection

    def close(self) -> None:
        """Close the connection; the write-ahead log is folded in."""
        with self._turn:
            self._connection.close()


def remembered(connection: db.Connection, kind: str, key: str | None, fingerprint: str) -> str | None:
    """Return the id that was made under this Idempotency-Key, None when the key is new or absent.

    Raises ApiError 400 when the key was used for a different request (`fingerprint` differs).
    """
    if key is None:
        return None
    row = connection.execute(
        "SELECT fingerprint, object_id FROM idempotency WHERE kind = ? AND key = ?", (kind, key)
    ).fetchone()
    if row is None:
        return None
    if row["fingerprint"] != fingerprint:
        message = "This Idempotency-Key was used before for a different request."
        raise ApiError(400, message, code="idempotency_key_reused")
    return str(row["object_id"])


def remember(connection: db.Connection, kind: str, key: str | None, fingerprint: str, object_id: str) -> None:
    """Keep the Idempotency-Key of a create in the same transaction as the object it made."""
    if key is not None:
        connection.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?)", (kind, key, fingerprint, object_id))
