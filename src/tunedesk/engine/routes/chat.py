"""/v1/chat/completions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tunedesk.engine.catalogue import weights_hash
from tunedesk.engine.chat_wire import ChatRequest, Reply, parse_chat_request
from tunedesk.engine.library import no_model
from tunedesk.engine.routes.context import Context, json_body, resource
from tunedesk.engine.wire import ApiError, GenerationChunk, GenerationRequest
from tunedesk.errors import EngineError

Chunks = AsyncGenerator[GenerationChunk, None]


def routes(context: Context) -> list[Route]:
    """Return the route of chat completions."""
    return [resource("/v1/chat/completions", context, POST=create_completion)]


async def create_completion(request: Request, context: Context) -> Response:
    """Write a reply, whole or as server-sent events.

    The first chunk is awaited before the answer begins, so that a wrong prompt or a broken model is an error with
    a status, not a cut stream.
    """
    wanted = parse_chat_request(await json_body(request, context.limits.chat))
    order = await run_in_threadpool(_order, wanted, context)
    chunks = _chunks(order, context)
    first = await anext(chunks, None)
    reply = Reply(wanted.model, await run_in_threadpool(fingerprint, order.base, order.adapter))
    if wanted.stream:
        return _EventStream(_events(reply, first, chunks, with_usage=wanted.include_usage))
    async with aclosing(chunks):
        if first is not None:
            reply.add(first)
        async for chunk in chunks:
            reply.add(chunk)
            if await request.is_disconnected():
                break  # nobody reads it; closing the chunks ends the generation
    return JSONResponse(reply.shape())


def _order(wanted: ChatRequest, context: Context) -> GenerationRequest:
    """Return the generator's orders; raises ApiError 404 when there is no such model."""
    tuned = context.state.jobs.model(wanted.model)
    base = context.library.base(wanted.model if tuned is None else tuned.base)
    if base is None:
        raise no_model(wanted.model)
    return GenerationRequest(
        base=base[1],
        adapter=None if tuned is None else context.state.adapter_folder(tuned),
        messages=wanted.messages,
        tools=wanted.tools,
        max_tokens=wanted.max_tokens,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        seed=wanted.seed,
        stop=wanted.stop,
    )


def fingerprint(base: Path, adapter: Path | None) -> str:
    """Return the name of the weights that wrote a reply: a short hash over the base's and the adapter's hashes."""
    hashes = weights_hash(base) + ("" if adapter is None else weights_hash(adapter))
    return "fp_" + hashlib.sha256(hashes.encode()).hexdigest()[:12]


async def _chunks(order: GenerationRequest, context: Context) -> Chunks:
    """Yield what the generator writes in a thread of its own; leaving early stops it at its next chunk.

    Raises ApiError 400 for what the generator refuses, 500 for a model that fails.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[GenerationChunk | None] = asyncio.Queue()
    left = threading.Event()

    def write() -> None:
        try:
            stream = context.generator.stream(order)
            for chunk in stream:
                if left.is_set():
                    break
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
            if (close := getattr(stream, "close", None)) is not None:
                close()
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, None)

    written = loop.run_in_executor(context.writers, write)
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        await written
    except ValueError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_prompt") from error
    except EngineError as error:
        raise ApiError(500, error.message, kind="server_error", code="model_error") from error
    finally:
        left.set()


async def _events(
    reply: Reply, first: GenerationChunk | None, chunks: Chunks, *, with_usage: bool
) -> AsyncGenerator[str, None]:
    """Yield the server-sent events of a reply; a failure in the middle is one last event with the error."""
    async with aclosing(chunks):
        yield _event(reply.piece({"role": "assistant", "content": ""}, None, with_usage=with_usage))
        try:
            if first is not None:
                yield _event(_piece(reply, first, with_usage))
            async for chunk in chunks:
                yield _event(_piece(reply, chunk, with_usage))
        except ApiError as error:
            yield _event(error.body())
            return
        yield _event(reply.piece({}, reply.finish_reason or "stop", with_usage=with_usage))
        if with_usage:
            yield _event(reply.usage_piece())
        yield "data: [DONE]\n\n"


def _piece(reply: Reply, chunk: GenerationChunk, with_usage: bool) -> Mapping[str, Any]:
    reply.add(chunk)
    return reply.piece({"content": chunk.text}, None, with_usage=with_usage)


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


class _EventStream(StreamingResponse):
    """A stream of events whose source is closed at once when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)
