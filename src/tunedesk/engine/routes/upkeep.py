"""/v1/engine: what OpenAI's API has no words for. Sizes of models, disk use, adapters out and in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunedesk.engine.catalogue import folder_bytes, is_model, memory_of_this_machine, model_size
from tunedesk.engine.fetch import PART
from tunedesk.engine.file_store import StoredFile
from tunedesk.engine.housekeeping import clean, disk_use
from tunedesk.engine.library import no_model
from tunedesk.engine.routes.context import Context, answer, json_body, resource
from tunedesk.engine.trainer_process import scrubbed
from tunedesk.engine.wire import ApiError, Fields, new_id
from tunedesk.errors import EngineError
from tunedesk.paths import private_folder

FORMS = ("peft", "merged", "gguf")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""The members of an adapter's archive; nothing else of it is read."""
_CONFIG_BYTES = 1 << 20
_EXPORT_SECONDS = 3600
_EXPORT_KEPT = 3600
"""Seconds that an export can be fetched."""


def routes(context: Context) -> list[Route]:
    """Return the routes of the engine's upkeep."""
    return [
        resource("/v1/engine/models", context, GET=list_sizes),
        resource("/v1/engine/disk", context, GET=show_disk),
        resource("/v1/engine/clean", context, POST=clean_disk),
        resource("/v1/engine/export", context, POST=export_adapter),
        resource("/v1/engine/import", context, POST=import_adapter),
    ]


async def list_sizes(request: Request, context: Context) -> Response:
    """List all models with their size, and whether base models fit into this machine's memory."""

    def listed() -> dict[str, Any]:
        memory = memory_of_this_machine()
        bases = [_base(name, folder, memory) for name, folder in context.library.bases().items()]
        tuned = [
            {
                "id": model.name,
                "base": model.base,
                "job": model.job_id,
                "disk": folder_bytes(context.state.adapter_folder(model)),
            }
            for model in context.state.jobs.models()
        ]
        return {"memory": memory, "bases": bases, "tuned": tuned}

    return await answer(listed)


def _base(name: str, folder: Path, memory: int) -> dict[str, Any]:
    if not is_model(folder):
        return {"id": name, "fetched": False}
    try:
        size = model_size(folder)
    except EngineError as error:
        return {"id": name, "fetched": True, "disk": folder_bytes(folder), "fault": error.message}
    return {
        "id": name,
        "fetched": True,
        "disk": size.disk,
        "parameters": size.parameters,
        "memory_to_chat": size.memory_to_chat,
        "memory_to_train": size.memory_to_train,
        "chats_here": size.memory_to_chat < memory,
        "trains_here": size.memory_to_train < memory,
    }


async def show_disk(request: Request, context: Context) -> Response:
    """Tell what the engine's folder takes on disk."""
    return await answer(lambda: asdict(disk_use(context.state)))


async def clean_disk(request: Request, context: Context) -> Response:
    """Delete what nothing needs any more."""
    return await answer(lambda: {"freed": clean(context.state)})


async def export_adapter(request: Request, context: Context) -> Response:
    """Make a tar archive of a tuned model in the `form` peft, merged or gguf: a file that is kept for an hour."""
    fields = Fields(await json_body(request, context.limits.json))
    fields.only(("model", "form"))
    name = fields.needed_text("model", most=256)
    form = fields.choice("form", FORMS)
    tuned = context.state.jobs.model(name)
    base = None if tuned is None else context.library.base(tuned.base)
    if tuned is None or base is None:
        raise no_model(name)
    adapter = context.state.adapter_folder(tuned)
    file = await run_in_threadpool(_packed, context, form, base[1], adapter)
    return JSONResponse(file.shape())


def _packed(context: Context, form: str, base: Path, adapter: Path) -> StoredFile:
    """Store the archive of an export as a file."""
    files = context.state.files
    with (
        tempfile.TemporaryDirectory(dir=private_folder(context.state.exports)) as work,
        files.receiving() as blob,
    ):
        out = Path(work) / ("adapter.gguf" if form == "gguf" else form)
        _run(context.exporter, form, base, adapter, out)
        with tarfile.open(fileobj=blob, mode="w|") as tar:  # type: ignore[call-overload]
            for path in sorted(out.iterdir()) if out.is_dir() else [out]:
                tar.add(path, path.name, recursive=False)
        return files.add(blob, f"{form}.tar", "user_data", _EXPORT_KEPT)


def _run(exporter: Sequence[str], form: str, base: Path, adapter: Path, out: Path) -> None:
    """Have the exporter's process do its work; raises ApiError 400 with its words when it refuses."""
    try:
        done = subprocess.run(
            [*exporter, form, str(base), str(adapter), str(out)],
            capture_output=True, text=True, timeout=_EXPORT_SECONDS, env=scrubbed(os.environ), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ApiError(500, "The export took longer than an hour.", kind="server_error") from error
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ApiError(400, words[:500], code="invalid_adapter")


async def import_adapter(request: Request, context: Context) -> Response:
    """Take an adapter that was trained elsewhere: `file` (a tar in /v1/files), `base` and `suffix`."""
    fields = Fields(await json_body(request, context.limits.json))
    fields.only(("file", "base", "suffix"))
    base_name = fields.needed_text("base", most=256)
    suffix = re.sub(r"[^A-Za-z0-9._-]+", "-", fields.text("suffix", least=1, most=64) or "").strip("-")
    file_id = fields.needed_text("file", most=256)

    def imported() -> Mapping[str, Any]:
        base = context.library.base(base_name)
        if base is None or not is_model(base[1]):
            raise no_model(base_name)
        file = context.state.files.get(file_id)
        home = new_id("imported-", 12)
        raw, part = (context.state.imported / f"{home}{kind}{PART}" for kind in (".raw", ""))
        try:
            _unpack(context, file, private_folder(raw))
            _run(context.exporter, "admit", base[1], raw, part)
            with context.state.together():
                part.rename(context.state.imported / home)
                model = context.state.jobs.import_model(base[0], suffix, home)
        finally:
            shutil.rmtree(raw, ignore_errors=True)
            shutil.rmtree(part, ignore_errors=True)
        return {"id": model.name, "object": "model", "created": model.created_at, "base": model.base}

    return JSONResponse(await run_in_threadpool(imported))


def _unpack(context: Context, file: StoredFile, folder: Path) -> None:
    """Copy an adapter's two files out of the archive `file`, by name: nothing else of it has a say in anything."""
    try:
        with tarfile.open(context.state.files.path(file), "r:") as tar:
            members = {Path(member.name).name: member for member in tar if member.isfile()}
            for name in ADAPTER_FILES:
                member = members[name]
                if name.endswith(".json") and member.size > _CONFIG_BYTES:
                    raise ApiError(400, f"{name} is too large.", param="file", code="invalid_adapter")
                source = tar.extractfile(member)
                assert source is not None  # it is a file
                with (folder / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (tarfile.TarError, KeyError) as error:
        message = f"The file is no tar archive of {' and '.join(ADAPTER_FILES)}."
        raise ApiError(400, message, param="file", code="invalid_adapter") from error
