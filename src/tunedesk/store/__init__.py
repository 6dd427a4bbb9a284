"""The workbench's own memory: one SQLite file, durable at every return.

Tables by subject: datasets.py (datasets, edits, prompts), versions.py (versions, views), files.py (files, uploads),
jobs.py (launches, jobs, events, points, checkpoints), queue.py (queue, stars), chats.py (chats, journeys), askings.py
(askings). A row is the one dataclass of its subject; schema.py holds the migrations.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from tunedesk.paths import private_folder
from tunedesk.store.askings import Asking, AskingTables
from tunedesk.store.chats import ChatEntry, ChatTables, ChatTurn, Journey
from tunedesk.store.database import Database
from tunedesk.store.datasets import DatasetEntry, DatasetTables, JournalEntry, PromptVersion
from tunedesk.store.files import FileKey, FileTables, KnownFile
from tunedesk.store.jobs import JobTables, KnownJob, Launch, LaunchedFile, Quote
from tunedesk.store.queue import QueuedLaunch, QueueRules, QueueTables
from tunedesk.store.schema import MIGRATIONS
from tunedesk.store.versions import Version, VersionTables, View

__all__ = [
    "MIGRATIONS",
    "Asking",
    "ChatEntry",
    "ChatTurn",
    "DatasetEntry",
    "FileKey",
    "JournalEntry",
    "Journey",
    "KnownFile",
    "KnownJob",
    "Launch",
    "LaunchedFile",
    "PromptVersion",
    "QueueRules",
    "QueuedLaunch",
    "Quote",
    "Store",
    "Version",
    "View",
]


class Store(DatasetTables, VersionTables, FileTables, JobTables, QueueTables, ChatTables, AskingTables):
    """The open store; several threads, and several processes, may use it at once.

    Raises StoreError when the file cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        private_folder(path.parent)
        self.database = Database(path, MIGRATIONS)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.database.path

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
