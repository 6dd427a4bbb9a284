"""What every route works with, and how a request's body, headers and path are read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunedesk.engine.library import ModelLibrary
from tunedesk.engine.state import EngineState
from tunedesk.engine.wire import ApiError, Generator, decode_object
from tunedesk.engine.worker import Worker

Handler = Callable[[Request, "Context"], Awaitable[Response]]
MAX_KEY_LENGTH = 255
SILENCE = 60.0
"""Seconds that a client may send nothing of a body."""
SLOWEST = 1024
"""Bytes a second that a body must come with, after the first SILENCE seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest bodies that are read, in bytes."""

    file: int = 512 << 20
    """One file (OpenAI's limit)."""
    part: int = 64 << 20
    """One part of an upload (OpenAI's limit)."""
    json: int = 1 << 20
    """A JSON body other than a chat's."""
    chat: int = 16 << 20
    """A chat's JSON body."""


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one engine, made once and handed to every route."""

    state: EngineState
    library: ModelLibrary
    worker: Worker
    generator: Generator
    key: str
    limits: Limits = field(default_factory=Limits)
    exporter: Sequence[str] = (sys.executable, "-m", "tunedesk.engine.exporting")
    """The command that turns adapters into other forms, and judges those that come in."""
    speedometer: Sequence[str] = (sys.executable, "-m", "tunedesk.engine.speed")
    """The command that measures how fast a model is trained."""
    writers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "chat"))
    """Threads in which replies are written, apart from those that answer all else."""


def resource(path: str, context: Context, **handlers: Handler) -> Route:
    """Return the route of `path` with a handler for each method; other methods get 405 with Allow."""

    async def endpoint(request: Request) -> Response:
        handler = handlers.get(request.method) or handlers["GET"]  # HEAD is answered as GET
        return await handler(request, context)

    return Route(path, endpoint, methods=list(handlers))


def too_large(limit: int) -> ApiError:
    """Return the answer for a body over `limit` bytes."""
    return ApiError(
        413, f"The body of the request is larger than the {limit} bytes allowed.", code="body_too_large"
    )


def check_length(request: Request, limit: int) -> None:
    """Raise ApiError 413 when the request announces more than `limit` bytes."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise too_large(limit)


async def json_body(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON object of the body; raises ApiError 413 over `limit` bytes, 400 for anything else wrong."""
    check_length(request, limit)
    raw = bytearray()
    async for chunk in body_chunks(request):
        raw += chunk
        if len(raw) > limit:
            raise too_large(limit)
    return decode_object(bytes(raw))


async def body_chunks(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives.

    Raises ApiError 400 when the client hangs up in the middle, 408 when it falls silent or is slower than SLOWEST.
    """
    loop = asyncio.get_running_loop()
    stream = request.stream()
    latest = loop.time() + SILENCE  # each chunk puts it off
    try:
        while True:
            async with asyncio.timeout_at(min(latest, loop.time() + SILENCE)):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield chunk
            latest += len(chunk) / SLOWEST
    except ClientDisconnect as error:
        raise ApiError(400, "The request ended before its body did.", code="incomplete_body") from error
    except TimeoutError as error:
        message = "The body of the request came too slowly; send it again."
        raise ApiError(408, message, code="request_timeout") from error


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key header, None when absent; raises ApiError 400 when it is too long."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        message = f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters."
        raise ApiError(400, message, code="invalid_idempotency_key")
    return key


async def answer(work: Callable[..., Mapping[str, Any]], *arguments: Any) -> JSONResponse:
    """Do blocking `work` in a thread and return its object as JSON."""
    return JSONResponse(await run_in_threadpool(work, *arguments))
