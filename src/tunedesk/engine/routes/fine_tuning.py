"""/v1/fine_tuning/jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunedesk.engine.job_requests import Job, JobRequest, parse_job_request
from tunedesk.engine.routes.context import Context, Handler, answer, idempotency_key, json_body, resource
from tunedesk.engine.row_losses import read_row_losses
from tunedesk.engine.training_files import TrainingFileError, check_file_reference
from tunedesk.engine.wire import ApiError, PageRequest, page, page_request

_METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def routes(context: Context) -> list[Route]:
    """Return the routes of fine-tuning jobs."""
    one = "/v1/fine_tuning/jobs/{job_id}"
    return [
        resource("/v1/fine_tuning/jobs", context, GET=list_jobs, POST=create_job),
        resource(one, context, GET=retrieve_job),
        resource(f"{one}/cancel", context, POST=_change(lambda context: context.worker.cancel)),
        resource(f"{one}/pause", context, POST=_change(lambda context: context.worker.pause)),
        resource(f"{one}/resume", context, POST=_change(lambda context: context.worker.resume)),
        resource(f"{one}/events", context, GET=list_events),
        resource(f"{one}/checkpoints", context, GET=list_checkpoints),
        resource(f"{one}/row_losses", context, GET=retrieve_row_losses),
    ]


def _shape(job: Job, context: Context) -> dict[str, Any]:
    progress = context.worker.progress
    running = progress is not None and progress.job == job.id
    return job.shape(progress.estimated_finish if progress is not None and running else None)


async def create_job(request: Request, context: Context) -> Response:
    """Create a job; its files are checked row by row after the answer."""
    key = idempotency_key(request)
    wanted = parse_job_request(await json_body(request, context.limits.json))
    return await answer(_create, wanted, key, context)


def _create(wanted: JobRequest, key: str | None, context: Context) -> dict[str, Any]:
    known = None if key is None else context.state.jobs.known(wanted, key)
    if known is not None:  # its files may be gone by now
        return _shape(known, context)
    offer = context.library.to_fetch(wanted.model)
    base = context.library.start(wanted.model).base if offer is None else offer.name
    try:
        for param in ("training_file", "validation_file"):
            if (file_id := getattr(wanted, param)) is not None:
                check_file_reference(context.state.files.find(file_id), file_id, param)
    except TrainingFileError as error:
        raise ApiError(400, f"{error.message}.", param=error.param, code=error.code) from error
    job = context.state.jobs.create(wanted, base, key)
    context.worker.notice()
    return _shape(job, context)


async def list_jobs(request: Request, context: Context) -> Response:
    """List jobs, newest first; `metadata[k]=v` keeps those that carry the pair, `metadata=null` those with none."""
    query = request.query_params
    wanted = page_request(query, default=20)
    metadata = {match[1]: value for name, value in query.items() if (match := _METADATA.fullmatch(name))}
    if any("][" in name for name in metadata):
        raise ApiError(400, "Invalid 'metadata': expected texts.", param="metadata", code="invalid_type")
    bare = query.get("metadata") in ("null", "")

    def listed() -> dict[str, Any]:
        found = context.state.jobs.listed(wanted, metadata, without_metadata=bare)
        return page(found, wanted.limit, lambda job: _shape(job, context))

    return await answer(listed)


async def retrieve_job(request: Request, context: Context) -> Response:
    """Show one job."""
    return await answer(lambda: _shape(context.state.jobs.get(request.path_params["job_id"]), context))


def _change(method: Callable[[Context], Callable[[str], Job]]) -> Handler:
    """Return a handler that has the worker change a job and shows it."""

    async def change(request: Request, context: Context) -> Response:
        return await answer(lambda: _shape(method(context)(request.path_params["job_id"]), context))

    return change


async def _listed(
    request: Request, source: Callable[[str, PageRequest], list[dict[str, Any]]], default: int
) -> Response:
    wanted = page_request(request.query_params, default=default)
    job_id = request.path_params["job_id"]
    return await answer(lambda: page(source(job_id, wanted), wanted.limit, lambda item: item))


async def list_events(request: Request, context: Context) -> Response:
    """List the events of a job, newest first."""
    return await _listed(request, context.state.jobs.events, 20)


async def list_checkpoints(request: Request, context: Context) -> Response:
    """List the checkpoints of a job, newest first."""
    return await _listed(request, context.state.jobs.checkpoints, 10)


async def retrieve_row_losses(request: Request, context: Context) -> Response:
    """Show the rows of the training file that a step was trained on with the loss of each, or all rows' latest ones.

    An addition of this engine's own: OpenAI's API does not tell which rows a step saw.
    """
    text = request.query_params.get("step")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ApiError(400, "Invalid 'step': expected a whole number.", param="step", code="invalid_type")
    step = None if text is None else int(text)

    def read() -> dict[str, Any]:
        job = context.state.jobs.get(request.path_params["job_id"])
        return read_row_losses(context.state.job_folder(job.id), step)

    return await answer(read)
