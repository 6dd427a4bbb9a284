"""A real server that always holds the objects which the tests of OpenAI's SDK name.

Usage: seeded_server.py FOLDER KEY [once]. The base URL is printed once it listens. Unless `once` is said, the named
objects are put back as they were before each request, because those tests delete, cancel and complete the same
ones again and again.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import click
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.engine.rig import ScriptedWriter, base_model, rows, trainer
from tunedesk.engine.database import Database
from tunedesk.engine.library import ModelLibrary
from tunedesk.engine.routes.context import Context
from tunedesk.engine.server import create_app
from tunedesk.engine.state import EngineState
from tunedesk.engine.worker import Worker

JOB = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
TUNED = "ft:gpt-4o-mini:acemeco:suffix:abc123"
BASES = ("gpt-4o-mini", "gpt-6-astra")
PART = b"one part"
_TABLES = ("files", "uploads", "parts", "jobs", "events", "checkpoints", "models")


def seed(database: Database, blobs: Path, status: str) -> None:
    """Put the named objects back as they were, the job with `status`."""
    hashes = {}
    for data in (rows(), PART):
        hashes[data] = hashlib.sha256(data).hexdigest()
        (blobs / hashes[data]).write_bytes(data)
    numbers = json.dumps({"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0})
    now, later, metrics = (
        int(time.time()),
        int(time.time()) + 3600,
        json.dumps({"step": 1, "train_loss": 1.0}),
    )
    values: dict[str, list[tuple[Any, ...]]] = {
        "files": [
            (1 + n, name, now, None, "train.jsonl", "fine-tune", len(rows()), hashes[rows()])
            for n, name in enumerate(("file-abc123", "file_id", "after"))
        ],
        "uploads": [(1, "upload_abc123", now, later, "a", "fine-tune", len(PART), "pending", None, None)],
        "parts": [(1, "string", now, "upload_abc123", len(PART), hashes[PART])],
        "jobs": [
            (
                1, JOB, now, None, status, "gpt-4o-mini", "file-abc123", None,
                numbers, 1, None, None, TUNED,
                None, None, None,
            )
        ],
        "events": [(1, JOB, now, "info", "Step 1/1: training loss=1.00", "metrics", 1, metrics)],
        "checkpoints": [(1, "ftckpt_abc123", JOB, now, 1, f"{TUNED}:ckpt-step-1", metrics)],
        "models": [(1, TUNED, now, "gpt-4o-mini", "ftjob-of-the-tuned-model", "adapter")],
    }  # fmt: skip
    with database.write() as connection:
        if not connection.execute("SELECT 1 FROM jobs WHERE number = 2").fetchone():
            other = (
                "ftjob-of-the-tuned-model",
                now,
                "succeeded",
                "gpt-4o-mini",
                "file-abc123",
                numbers,
                1,
                "other",
            )
            connection.execute(
                "INSERT INTO jobs (number, id, created_at, status, model, training_file, hyperparameters, seed,"
                " model_name) VALUES (2, ?, ?, ?, ?, ?, ?, ?, ?)",
                other,
            )
        for table in _TABLES:
            for row in values[table]:
                marks = ", ".join("?" * len(row))
                columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
                names = [column["name"] for column in columns][: len(row)]
                changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})"
                    f" ON CONFLICT (number) DO UPDATE SET {changes}",
                    row,
                )


class Seeded:
    """Seeds before each request."""

    def __init__(self, app: ASGIApp, state: EngineState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status = "paused" if scope["path"].endswith("/resume") else "queued"
            seed(self._state.files._database, self._state.folder / "files", status)
        await self._app(scope, receive, send)


def main(folder: Path, key: str, once: bool) -> None:
    for name in BASES:
        base_model(folder / "bases", name)
    state = EngineState(folder / "engine")
    library = ModelLibrary(state, [folder / "bases"])
    worker = Worker(state, library, trainer())  # never started: the queued job stays queued
    adapter = state.job_folder("ftjob-of-the-tuned-model") / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"tuned")
    context = Context(state, library, worker, ScriptedWriter(), key)
    seed(state.files._database, state.folder / "files", "queued")
    app = create_app(context)
    config = uvicorn.Config(
        app if once else Seeded(app, state), log_config=None, access_log=False, lifespan="off"
    )
    listener = socket.create_server(("127.0.0.1", 0))
    click.echo(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["once"])
