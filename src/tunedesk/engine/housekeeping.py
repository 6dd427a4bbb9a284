"""What the engine's folder takes on disk, by kind, and what of it can go without being missed."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunedesk.engine.catalogue import folder_bytes
from tunedesk.engine.fetch import PART, in_use
from tunedesk.engine.job_requests import FINAL
from tunedesk.engine.state import EngineState

_LEFTOVERS = ("state.safetensors", "training.jsonl", "validation.jsonl")
"""What only a job that goes on needs: its copy of the data, and the weights and moments it goes on from."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes on disk, by what they are for."""

    models: int
    """Base models that the engine fetched."""
    adapters: int
    """Tuned models, their checkpoints, and what jobs keep beside them."""
    files: int
    """Uploaded files and result files."""
    other: int
    """The database and the log."""
    free: int
    """Bytes free on that disk."""
    cleanable: int
    """Bytes that `clean` would free."""


def disk_use(state: EngineState) -> DiskUse:
    """Measure the engine's folder."""
    models, files = folder_bytes(state.models), folder_bytes(state.files.folder)
    adapters = folder_bytes(state.job_folders, linked=False) + folder_bytes(state.imported)
    other = sum(path.stat().st_size for path in state.folder.iterdir() if path.is_file())
    spare = sum(_bytes(path) for path in _cleanable(state))
    return DiskUse(models, adapters, files, other, shutil.disk_usage(state.folder).free, spare)


def clean(state: EngineState) -> int:
    """Delete what no model, file or unfinished job needs, and return the bytes it took."""
    freed = 0
    for path in _cleanable(state):
        size = _bytes(path)
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            freed += size
    return freed


def _cleanable(state: EngineState) -> list[Path]:
    """Return leftovers of jobs that are over, adapters whose model was deleted, and fetches that nobody wants."""
    with state.together():  # an import's folder and its row appear in one such block
        statuses = state.jobs.statuses()
        kept = {state.adapter_folder(model) for model in state.jobs.models()}
        found = [path for path in state.imported.iterdir() if path not in kept and path.suffix != PART]
    wanted = {name.rpartition("/")[2].casefold() for name in state.jobs.still_wanted()}
    parts = (state.models / ".fetch").glob(f"*{PART}")
    found += [part for part in parts if part.stem.casefold() not in wanted and not in_use(part)]
    for folder in state.job_folders.iterdir():
        status = statuses.get(folder.name)
        if status is None:
            found.append(folder)
        elif status in FINAL:
            found += [folder / name for name in _LEFTOVERS if (folder / name).exists()]
            adapters = [folder / "adapter", *folder.glob("checkpoints/*")]
            found += [path for path in adapters if path.is_dir() and path not in kept]
    return found


def _bytes(path: Path) -> int:
    """Return what deleting `path` frees: a file that is also linked elsewhere frees nothing."""
    if path.is_dir():
        return folder_bytes(path, linked=False)
    status = path.stat()
    return status.st_size if status.st_nlink == 1 else 0
