"""The engine's folder: who holds it, its key, its database, and the places of jobs and models."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tunedesk.engine.database import Database
from tunedesk.engine.file_store import FileStore
from tunedesk.engine.job_store import JobStore, TunedModel
from tunedesk.errors import EngineError, StoreError
from tunedesk.paths import private_folder, write_whole

log = logging.getLogger(__name__)


class EngineState:
    """Everything the engine keeps, in one folder that one server holds at a time.

    Raises EngineError when another server holds the folder, StoreError when its database cannot be opened.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = private_folder(folder)
        self._lock = _hold(folder / "lock")
        try:
            self._database = Database(folder / "engine.sqlite3")
        except StoreError:
            os.close(self._lock)
            raise
        self.files = FileStore(folder, self._database, clock)
        self.jobs = JobStore(self._database, clock)
        self.models = private_folder(folder / "models")
        """Base models that the engine got by itself."""
        self.job_folders = private_folder(folder / "jobs")
        """A folder for each job: its copy of the data, its adapters, what it goes on from."""
        self.imported = private_folder(folder / "adapters")
        """A folder for each adapter that was made elsewhere."""
        self.exports = folder / "exports"
        """What is being packed to be fetched."""
        shutil.rmtree(self.exports, ignore_errors=True)  # left by a server that died
        for path in self.imported.glob("*.part"):
            shutil.rmtree(path, ignore_errors=True)
        self.forget_endpoint()

    def together(self) -> AbstractContextManager[object]:
        """Return a context whose changes of files and jobs are one transaction."""
        return self._database.write()

    def job_folder(self, job_id: str) -> Path:
        """Return the private folder of a job; `job_id` comes from our own rows, never from a request."""
        return private_folder(self.job_folders / job_id)

    def adapter_folder(self, model: TunedModel) -> Path:
        """Return where a tuned model's adapter lies."""
        home = self.imported if model.job_id is None else self.job_folder(model.job_id)
        return home / model.adapter

    def key(self) -> str:
        """Return the engine's key, made at the first start and readable by its owner alone."""
        path = self.folder / "key"
        if not path.exists():
            write_whole(path, "sk-local-" + secrets.token_urlsafe(32) + "\n")
        key = path.read_text("utf-8").strip()
        if not key:
            raise EngineError(f"the key file {path} is empty", "delete it, so that a new key is made")
        return key

    def announce(self, base_url: str, version: str) -> None:
        """Write endpoint.json: where this server listens, whole or not at all."""
        endpoint: dict[str, Any] = {
            "base_url": base_url,
            "pid": os.getpid(),
            "version": version,
            "started_at": int(time.time()),
        }
        write_whole(self.folder / "endpoint.json", json.dumps(endpoint) + "\n")

    def forget_endpoint(self) -> None:
        """Remove endpoint.json; the holder of the folder is the only one to write it."""
        (self.folder / "endpoint.json").unlink(missing_ok=True)

    def fetch_progress(self, model: str) -> dict[str, Any] | None:
        """Return how far the fetch of a base model is {state, percent, source, message}, None when none was begun."""
        try:
            progress = json.loads((self.models / ".fetch" / f"{model}.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the progress of a fetch cannot be read: %s", error)
            return None
        return progress if isinstance(progress, dict) else None

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()
        os.close(self._lock)


def _hold(path: Path) -> int:
    """Lock `path` for the life of this process, however it ends; children do not inherit the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise EngineError(
            f"another engine is serving the folder {path.parent}",
            "see it with `tunedesk serve --status`, end it with `tunedesk serve --stop`",
        ) from error
    return descriptor
