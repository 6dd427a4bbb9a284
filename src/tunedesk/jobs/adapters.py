"""Tuned models out of an engine for other programs, and adapters of other trainers into it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from tunedesk.errors import DataError, ProviderError, UsageError
from tunedesk.providers.base import Provider

FORMS = ("peft", "merged", "gguf")
"""An adapter as PEFT reads it, the base with the adapter worked in, an adapter for llama.cpp."""
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_WANTED = "it must be the folder of a LoRA adapter as PEFT saves it"
OnBytes = Callable[[int, int], None]
"""Called with (bytes moved, bytes in all)."""


async def export_adapter(
    client: Provider, model: str, form: str, output: Path, on_progress: OnBytes | None = None
) -> int:
    """Have the engine pack a model, fetch it, and unpack it as the folder `output`, whole or not at all.

    Returns the bytes fetched. Raises UsageError when `output` exists, ProviderError.
    """
    if output.exists():
        raise UsageError(f"{output} exists already", "name a folder that does not")
    packed = await client.ask_engine("export", {"model": model, "form": form})
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as work:
        archive = Path(work) / "export.tar"
        count = await client.download(packed["id"], archive, on_progress=on_progress)
        await client.delete_file(packed["id"])
        whole = Path(work) / "whole"
        _unpack(archive, whole)
        whole.rename(output)
    return count


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive into a new folder; raises ProviderError for one that belongs elsewhere.

    `TarFile.extractall` knows no filter before Python 3.11.4, which Debian 12 does not have.
    """
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            target = folder / member.name
            if member.isdir() and target.resolve().is_relative_to(folder.resolve()):
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = tar.extractfile(member) if member.isfile() else None
            if source is None or not target.resolve().is_relative_to(folder.resolve()):
                raise ProviderError(
                    f"the export holds {member.name!r}, which is no file of a model", "nothing was written"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)


def base_of(folder: Path) -> str:
    """Return the name of the base model that an adapter says it was trained on; raises DataError."""
    try:
        told = msgspec.json.decode((folder / _ADAPTER[0]).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"no {_ADAPTER[0]} that can be read in {folder}", _WANTED) from error
    return str(told.get("base_model_name_or_path") or "").rstrip("/").rpartition("/")[2]


async def import_adapter(
    client: Provider, folder: Path, base: str, suffix: str, on_progress: OnBytes | None = None
) -> dict[str, str]:
    """Send an adapter's two files to the engine and have it make a model of them; return its `model` and `base`.

    Raises DataError when the folder holds no adapter, ProviderError.
    """
    missing = [name for name in _ADAPTER if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} has no {missing[0]}", _WANTED)
    with tempfile.TemporaryDirectory() as work:
        archive = Path(work) / "adapter.tar"
        with tarfile.open(archive, "w") as tar:
            for name in _ADAPTER:
                tar.add(folder / name, name)
        file = await client.upload(
            archive, purpose="user_data", filename="adapter.tar", idempotency_key=uuid4().hex,
            on_progress=on_progress,
        )  # fmt: skip
    try:
        made = await client.ask_engine("import", {"file": file.id, "base": base, "suffix": suffix})
    finally:
        await client.delete_file(file.id)
    return {"model": str(made["id"]), "base": str(made["base"])}
