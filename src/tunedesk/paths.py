"""Where state lies, and how a file gets there whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from tunedesk.errors import StoreError


@dataclass(frozen=True, slots=True)
class Paths:
    """The four state folders, each private to the user (0700)."""

    data: Path
    """Datasets, the store, the engine's files and models."""
    config: Path
    """Profiles and price overrides that the user writes."""
    cache: Path
    """What can be made again: encodings, downloaded packages."""
    logs: Path
    """Logs of the engine and the app."""

    @property
    def store(self) -> Path:
        """The workbench's SQLite file."""
        return self.data / "tunedesk.sqlite3"

    @property
    def datasets(self) -> Path:
        """Imported datasets, one content-addressed folder each."""
        return self.data / "datasets"

    @property
    def runs(self) -> Path:
        """Files written by `tunedesk run`, one folder a journey."""
        return self.data / "runs"

    @property
    def last_view(self) -> Path:
        """What the app showed last, some rows of a dataset among it."""
        return self.data / "view.json"

    @property
    def engine(self) -> Path:
        """State of the engine on this machine."""
        return self.data / "engine"


def state_paths() -> Paths:
    """Return the state folders, made if absent; `TUNEDESK_HOME` moves all of them under one folder.

    Raises StoreError when a folder cannot be made.
    """
    home = os.environ.get("TUNEDESK_HOME")
    if home:
        root = Path(home).expanduser().absolute()
        paths = Paths(root / "data", root / "config", root / "cache", root / "logs")
    else:
        dirs = platformdirs.PlatformDirs("tunedesk", appauthor=False)
        paths = Paths(
            Path(dirs.user_data_dir),
            Path(dirs.user_config_dir),
            Path(dirs.user_cache_dir),
            Path(dirs.user_log_dir),
        )
    for folder in (paths.data, paths.config, paths.cache, paths.logs):
        private_folder(folder)
    return paths


def private_folder(folder: Path) -> Path:
    """Make `folder` (and its parents) readable by its owner alone, and return it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {folder}: {error.strerror}", "set TUNEDESK_HOME to a writable folder"
        ) from error
    return folder


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` only when the block ends well.

    Written under a temporary name beside it, synced, then renamed, so that a reader (or a crash) meets the
    old file or the whole new one. Raises StoreError when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            temporary.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", "free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # what cannot be removed could not be written either
            temporary.unlink()


def write_whole(path: Path, data: bytes | str, *, mode: int = 0o600) -> None:
    """Replace the file `path` by `data` (text as UTF-8), atomically and durably."""
    with replacing(path, mode=mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
