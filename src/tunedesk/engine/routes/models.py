"""/v1/models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunedesk.engine.job_requests import ORGANIZATION
from tunedesk.engine.job_store import TunedModel
from tunedesk.engine.library import no_model
from tunedesk.engine.routes.context import Context, answer, resource


def routes(context: Context) -> list[Route]:
    """Return the routes of models."""
    return [
        resource("/v1/models", context, GET=list_models),
        resource("/v1/models/{model:path}", context, GET=retrieve_model, DELETE=delete_model),
    ]


def _shape(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": ORGANIZATION}


def _base_shape(name: str, folder: Path) -> dict[str, Any]:
    """Return the model object of a base model; one that is still to be fetched has the time 0."""
    config = folder / "config.json"
    return _shape(name, int(config.stat().st_mtime) if config.exists() else 0)


def _tuned_shape(model: TunedModel) -> dict[str, Any]:
    return _shape(model.name, model.created_at)


async def list_models(request: Request, context: Context) -> Response:
    """List base models, then tuned models and checkpoints, newest first."""

    def listed() -> dict[str, Any]:
        bases = [_base_shape(name, folder) for name, folder in context.library.bases().items()]
        return {"object": "list", "data": [*bases, *map(_tuned_shape, context.state.jobs.models())]}

    return await answer(listed)


async def retrieve_model(request: Request, context: Context) -> Response:
    """Show one model."""
    name = request.path_params["model"]

    def shown() -> dict[str, Any]:
        if (tuned := context.state.jobs.model(name)) is not None:
            return _tuned_shape(tuned)
        if (base := context.library.base(name)) is not None:
            return _base_shape(*base)
        raise no_model(name)

    return await answer(shown)


async def delete_model(request: Request, context: Context) -> Response:
    """Delete one tuned model or checkpoint."""
    name = request.path_params["model"]
    await run_in_threadpool(context.library.delete, name)
    return JSONResponse({"id": name, "object": "model", "deleted": True})
