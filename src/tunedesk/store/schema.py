"""The store's tables, as an ordered tuple of migrations: never edit a released step, add the next."""

from __future__ import annotations

_FIRST = """
CREATE TABLE datasets (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL,
    conversations INTEGER NOT NULL, imported_at REAL NOT NULL
) STRICT;
CREATE INDEX datasets_by_name ON datasets (name, imported_at);
CREATE TABLE edits (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset TEXT NOT NULL, at REAL NOT NULL,
    label TEXT NOT NULL, edit BLOB NOT NULL, undone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX edits_by_dataset ON edits (dataset, id);
CREATE TABLE prompts (
    name TEXT NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE TABLE launches (
    id TEXT PRIMARY KEY, profile TEXT NOT NULL, state TEXT NOT NULL, at REAL NOT NULL,
    job TEXT, body BLOB NOT NULL
) STRICT;
CREATE INDEX launches_by_profile ON launches (profile, state);
CREATE TABLE files (
    profile TEXT NOT NULL, sha256 TEXT NOT NULL, file TEXT NOT NULL, bytes INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (profile, sha256)
) STRICT;
CREATE TABLE jobs (
    profile TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL, created_at INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (profile, id)
) STRICT;
CREATE TABLE events (
    profile TEXT NOT NULL, job TEXT NOT NULL, id TEXT NOT NULL, created_at INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (profile, job, id)
) STRICT;
CREATE INDEX events_in_order ON events (profile, job, created_at, id);
CREATE TABLE points (
    profile TEXT NOT NULL, job TEXT NOT NULL, step INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (profile, job, step)
) STRICT;
CREATE TABLE chats (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, title TEXT NOT NULL
) STRICT;
CREATE TABLE chat_turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chat INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX chat_turns_by_chat ON chat_turns (chat, id);
CREATE TABLE journeys (
    key TEXT PRIMARY KEY, started_at REAL NOT NULL
) STRICT;
CREATE TABLE journey_steps (
    journey TEXT NOT NULL REFERENCES journeys (key) ON DELETE CASCADE, step TEXT NOT NULL,
    at REAL NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (journey, step)
) STRICT;
"""

_VERSIONS = """
CREATE TABLE versions (
    dataset TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, edits BLOB NOT NULL,
    PRIMARY KEY (dataset, name)
) STRICT;
CREATE TABLE views (
    name TEXT PRIMARY KEY, query TEXT NOT NULL, at REAL NOT NULL
) STRICT;
"""

_UPLOADS = """
DROP TABLE files;
CREATE TABLE files (
    profile TEXT NOT NULL, account TEXT NOT NULL, sha256 TEXT NOT NULL, file TEXT NOT NULL,
    bytes INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (profile, account, sha256)
) STRICT;
CREATE TABLE uploads (
    profile TEXT NOT NULL, account TEXT NOT NULL, sha256 TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (profile, account, sha256)
) STRICT;
"""
"""Files are known by account as well: those known before are found again by the name that carries their hash."""

_CHECKPOINTS = """
CREATE TABLE checkpoints (
    profile TEXT NOT NULL, job TEXT NOT NULL, id TEXT NOT NULL, step INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (profile, job, id)
) STRICT;
"""

_UNDONE = """
CREATE INDEX edits_undone ON edits (dataset, id) WHERE undone = 1;
"""
"""Other instances' edits are looked for every half second: no edit's body is read for that."""

_QUEUE = """
CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE queue_rules (
    one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL
) STRICT;
CREATE TABLE stars (
    profile TEXT NOT NULL, job TEXT NOT NULL, checkpoint TEXT NOT NULL, PRIMARY KEY (profile, job)
) STRICT;
"""

_ASKINGS = """
CREATE TABLE askings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _VERSIONS, _UPLOADS, _CHECKPOINTS, _UNDONE, _QUEUE, _ASKINGS)
"""SQL scripts in order; `user_version` counts those applied (db.connect)."""
