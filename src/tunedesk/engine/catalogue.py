"""Base models on disk: which folders are one, how they are named, and the hash of their weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunedesk.errors import EngineError, StoreError
from tunedesk.paths import write_whole

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
"""The base model that the engine gets by itself."""
DEFAULT_REPOSITORY = f"HuggingFaceTB/{DEFAULT_MODEL}"
"""Its repository on the model hub."""
ORIGIN = ".origin.json"
"""The file in a base model's folder that tells which repository and commit it is."""
_CHUNK = 1 << 20
_HEAD = 100 << 20
"""Bytes at which safetensors' own readers refuse a file's head."""
_LIBRARIES = 500 << 20
"""Bytes that a process takes with torch and transformers loaded and no model."""
_BATCH = 2 << 30
"""Bytes that the activations of a batch took at most with the default model (measured: 3.9 GiB in all)."""


def is_model(folder: Path) -> bool:
    """Say whether `folder` holds a model in safetensors with its tokenizer."""
    return (
        (folder / "config.json").is_file()
        and any(folder.glob("*.safetensors"))
        and any(folder.glob("tokenizer*"))
    )


def base_models(folders: Iterable[Path]) -> dict[str, Path]:
    """Return name → folder of all base models in `folders`; of equal names the first folder's wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for entry in sorted(folder.iterdir()):
                if not entry.name.startswith(".") and is_model(entry):
                    found.setdefault(entry.name, entry)
    return found


def named(name: str, models: Mapping[str, Path]) -> str | None:
    """Return which of `models` is meant by `name`, without regard to case; None when none is.

    ORG/NAME of the model hub is the folder NAME if that came from there, or where nothing tells where it came from.
    """
    plain = name.rpartition("/")[2].casefold()
    for known, folder in models.items():
        if known.casefold() == name.casefold():
            return known
        if known.casefold() == plain and (origin(folder) or name).casefold() == name.casefold():
            return known
    return None


def origin(folder: Path) -> str:
    """Return the repository that a base model was fetched from, as ORG/NAME; empty when nothing tells."""
    try:
        return str(json.loads((folder / ORIGIN).read_bytes())["repository"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_REPOSITORY if folder.name == DEFAULT_MODEL else ""


def find_model(name: str, folders: Iterable[Path]) -> Path:
    """Return the folder of the base model `name` (see `named`). Raises EngineError when there is none."""
    models = base_models(folders)
    if (found := named(name, models)) is not None:
        return models[found]
    known_names = ", ".join(models) or "none"
    raise EngineError(
        f"there is no base model {name!r} here (found: {known_names})",
        "add a folder of models: tunedesk serve --models DIR; or fetch one: tunedesk serve --fetch ORG/NAME",
    )


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a base model is, told by the heads of its files alone."""

    disk: int
    """Bytes of all its files."""
    parameters: int

    @property
    def memory_to_chat(self) -> int:
        """About the bytes of memory that its replies take: four a parameter, and what the libraries need."""
        return 4 * self.parameters + _LIBRARIES

    @property
    def memory_to_train(self) -> int:
        """About the bytes of memory that a job takes: its weights twice (as they lie and turned), and a batch."""
        return 8 * self.parameters + _BATCH + _LIBRARIES

    @property
    def least_to_train(self) -> int:
        """About the bytes of memory below which no job on this model can end: as above, with weights in 16 bits."""
        return 4 * self.parameters + _BATCH + _LIBRARIES

    @property
    def least_on_gpu(self) -> int:
        """The same for a GPU, where weights lie once, in 16 bits, or in 4 where bitsandbytes is installed."""
        each = 0.6 if importlib.util.find_spec("bitsandbytes") else 2
        return int(each * self.parameters) + _BATCH


def model_size(folder: Path) -> ModelSize:
    """Return the size of a base model's folder. Raises EngineError when a weights file has no readable head."""
    parameters = 0
    for file in folder.glob("*.safetensors"):
        parameters += sum(math.prod(tensor["shape"]) for tensor in _head(file).values())
    return ModelSize(folder_bytes(folder), parameters)


def _head(file: Path) -> dict[str, Any]:
    """Return the JSON head of a safetensors file without its `__metadata__`: name → {dtype, shape, …}."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            head = json.loads(opened.read(length) if length <= _HEAD else b"")
        head.pop("__metadata__", None)
        return dict(head)
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError(f"{file.name} of {file.parent.name} is no safetensors file") from error


def folder_bytes(folder: Path, *, linked: bool = True) -> int:
    """Return the bytes of all files under a folder, without `linked` only of those that have no other name.

    What vanishes meanwhile counts nothing.
    """
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and (linked or status.st_nlink == 1):
                total += status.st_size
    return total


def memory_of_this_machine() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_of_a_gpu() -> int:
    """Return the bytes of the largest NVIDIA GPU's memory, 0 where its driver's own tool names none."""
    command = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return max((int(line) << 20 for line in told.split() if line.isascii() and line.isdigit()), default=0)


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) over the names and bytes of the safetensors files in `folder`.

    Kept in `.weights.json` beside them together with their sizes and times, and read from there while those
    hold; a folder that cannot be written is hashed anew each time.
    """
    files = sorted(folder.glob("*.safetensors"))
    seen = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    kept = folder / ".weights.json"
    try:
        known = json.loads(kept.read_bytes())
        if known["files"] == seen:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode())
        digest.update(file_hash(file).encode())
    with contextlib.suppress(StoreError):
        write_whole(kept, json.dumps({"files": seen, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
