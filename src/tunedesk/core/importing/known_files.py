"""Which dataset a file became, so that the same bytes are not imported twice.

As a build system does, a file is taken for the same while its size, its time of change and its inode are. What a
command imported for itself is kept until it has not been used for long or takes too much room.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

import tunedesk
from tunedesk.core.datasets.dataset import FORMAT_VERSION, Dataset
from tunedesk.core.importing.report import Report
from tunedesk.errors import DataError, StoreError
from tunedesk.paths import private_folder, write_whole

MOST_BYTES = 20 << 30
"""Room that imports of commands may take; the ones that were not used for longest go first."""
_IN_USE_S = 3600.0
"""Seconds since its last use in which an import is never removed: a command may be reading it."""
_SETTLED_NS = 100_000_000
"""A file changed less long ago than this may be changed again without another time of change."""


class _Known(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int
    dataset: str
    report: Report


@dataclass(frozen=True, slots=True)
class Asked:
    """A file and how it is to be read."""

    path: Path
    format_name: str = ""
    mapping: Mapping[str, str] | None = None
    system: str = ""

    def key(self) -> str:
        """Return what names this question, for this version of the importers."""
        mapping = sorted((self.mapping or {}).items())
        asked = [str(self.path.resolve()), self.format_name, mapping, self.system]
        told = msgspec.json.encode([tunedesk.__version__, FORMAT_VERSION, *asked])
        return hashlib.sha256(told).hexdigest()[:32]


class KnownFiles:
    """Answers kept in one folder, about datasets in this or another one."""

    def __init__(self, folder: Path) -> None:
        """Keep answers under `folder`, where the imports of commands lie too."""
        self._folder = folder
        self._answers = folder / "known"

    def find(self, asked: Asked, places: Sequence[Path]) -> tuple[Dataset, Report] | None:
        """Return what an unchanged file was imported as, from the first of the folders that still has it, and how."""
        try:
            status = asked.path.stat()
            known = msgspec.json.decode((self._answers / asked.key()).read_bytes(), type=_Known)
        except (OSError, msgspec.DecodeError):
            return None
        if (known.size, known.mtime_ns, known.inode) != _identity(status):
            return None
        for place in places:
            try:
                dataset = Dataset.open(place / known.dataset)
                os.utime(dataset.folder)
            except (DataError, OSError):
                continue
            return dataset, known.report
        return None

    def keep(self, asked: Asked, before: os.stat_result, dataset: Dataset, report: Report) -> None:
        """Remember what a file became that looked like `before` when its import began, unless it changed since."""
        try:
            settled = time.time_ns() - before.st_mtime_ns > _SETTLED_NS
            if not settled or _identity(asked.path.stat()) != _identity(before):
                return
            private_folder(self._answers)
            known = _Known(*_identity(before), dataset.id, report)
            write_whole(self._answers / asked.key(), msgspec.json.encode(known))
        except (OSError, StoreError):
            return  # it will be imported again

    def size(self) -> int:
        """Return the bytes that imports of commands take."""
        return sum(_size(folder) for folder in self._imports())

    def make_room(self, kept: str = "", most: int = MOST_BYTES) -> int:
        """Remove the imports used least lately until the others take `most` bytes; return how many were removed.

        Those in use in the last hour stay, unless `most` is 0, and so does `kept`.
        """
        imports = sorted(self._imports(), key=_last_used)
        sizes = {folder: _size(folder) for folder in imports}
        total, removed = sum(sizes.values()), 0
        for folder in imports:
            idle = time.time() - _last_used(folder) > _IN_USE_S
            if total <= most or folder.name == kept or (most and not idle):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            total, removed = total - sizes[folder], removed + 1
        return removed

    def _imports(self) -> list[Path]:
        return [path.parent for path in self._folder.glob("[!.]*/manifest.json")]


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
