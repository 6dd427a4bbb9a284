"""Base models on disk: which folders are one, how they are named, and the hash of their weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tunedesk.errors import EngineError, StoreError
from tunedesk.paths import write_whole

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
"""The base model that the engine gets by itself."""
_CHUNK = 1 << 20


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


def find_model(name: str, folders: Iterable[Path]) -> Path:
    """Return the folder of the base model `name`, matched without regard to case.

    Raises EngineError when there is none.
    """
    models = base_models(folders)
    for known, folder in models.items():
        if known.casefold() == name.casefold():
            return folder
    known_names = ", ".join(models) or "none"
    raise EngineError(
        f"there is no base model {name!r} here (found: {known_names})",
        "add a folder of models: tunedesk serve --models DIR",
    )


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
