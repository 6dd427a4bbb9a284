"""/v1/engine/speed: how many tokens a second this machine trains a model at, measured for some seconds."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunedesk.engine.catalogue import is_model
from tunedesk.engine.routes.context import Context, json_body, resource
from tunedesk.engine.trainer_process import scrubbed
from tunedesk.engine.training_files import choose
from tunedesk.engine.wire import ApiError, Fields
from tunedesk.paths import private_folder

PATIENCE = 180.0
"""Seconds that loading the model and the measurement may take."""
MOST_ROWS = 64
_measuring = threading.Lock()


def routes(context: Context) -> list[Route]:
    """Return the route of the measurement."""
    return [resource("/v1/engine/speed", context, POST=measure)]


async def measure(request: Request, context: Context) -> Response:
    """Train `model` on `rows` for some seconds, keep nothing of it, and tell its `tokens_per_second`."""
    fields = Fields(await json_body(request, context.limits.json))
    fields.only(("model", "rows"))
    model = fields.needed_text("model", most=256)
    rows = fields.required("rows")
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS:
        raise ApiError(400, f"'rows' are 1 to {MOST_ROWS} conversations.", param="rows", code="invalid_rows")
    return JSONResponse(await run_in_threadpool(_measured, context, model, rows))


def _measured(context: Context, model: str, rows: list[Any]) -> dict[str, Any]:
    start = context.library.start(model)
    base = context.library.base(start.base)
    if base is None or not is_model(base[1]):
        message = f"{start.base} is not on this machine yet: the first job or chat fetches it."
        raise ApiError(409, message, param="model", code="model_not_fetched")
    if context.worker.progress is not None or not _measuring.acquire(blocking=False):
        raise ApiError(
            409, "The engine is training: its own speed is what can be told now.", code="engine_busy"
        )
    try:
        with tempfile.TemporaryDirectory(dir=private_folder(context.state.exports)) as work:
            folder = Path(work)
            file = folder / "training.jsonl"
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
            tuning = choose({"n_epochs": 50, "batch_size": "auto", "learning_rate_multiplier": "auto"}, 1_000)
            orders = {
                "model": start.base,
                "models": [str(path) for path in context.library.folders],
                "training_file": str(file),
                "hyperparameters": tuning,
                "seed": 0,
            }
            (folder / "job.json").write_text(json.dumps(orders), "utf-8")
            return {"model": start.base, **_run(context, folder)}
    finally:
        _measuring.release()


def _run(context: Context, folder: Path) -> dict[str, float]:
    """Have the process measure; raises ApiError 400 with its words when it refuses."""
    try:
        done = subprocess.run(
            [*context.speedometer, str(folder)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, env=scrubbed(os.environ), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ApiError(500, "The measurement took too long.", kind="server_error", code="timeout") from error
    told = [line for line in done.stdout.splitlines() if '"speed"' in line]
    if done.returncode or not told:
        words = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ApiError(400, words[:500], code="not_measured")
    found = json.loads(told[-1])
    seconds, tokens = float(found["seconds"]), int(found["tokens"])
    if not tokens or seconds <= 0:
        raise ApiError(400, "The rows are too few to measure with.", param="rows", code="not_measured")
    return {"tokens_per_second": round(tokens / seconds, 1), "tokens": tokens, "seconds": round(seconds, 2)}
