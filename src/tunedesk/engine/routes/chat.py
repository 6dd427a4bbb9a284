"""/v1/chat/completions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
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
from tunedesk.engine.wire import ApiError, GenerationChunk, GenerationRequest, Generator
from tunedesk.errors import EngineError

Indexed = tuple[int, GenerationChunk]
"""A chunk of the reply of that number."""
Chunks = AsyncGenerator[Indexed, None]


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
    chunks = _chunks(_orders(order, wanted.replies), context)
    first = await anext(chunks, None)
    reply = Reply(wanted, await run_in_threadpool(fingerprint, order.base, order.adapter))
    if wanted.stream:
        return _EventStream(_events(reply, first, chunks))
    async with aclosing(chunks):
        if first is not None:
            reply.choices[first[0]].add(first[1])
        async for index, chunk in chunks:
            reply.choices[index].add(chunk)
            if await request.is_disconnected():
                break  # nobody reads it; closing the chunks ends the generation
    return JSONResponse(reply.shape())


def _orders(order: GenerationRequest, count: int) -> list[GenerationRequest]:
    """Return the orders of `count` replies; with a seed, each has its own that follows from it."""
    if order.seed is None:
        return [order] * count
    return [replace(order, seed=order.seed + number) for number in range(count)]


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
        presence_penalty=wanted.presence_penalty,
        frequency_penalty=wanted.frequency_penalty,
        logit_bias=wanted.logit_bias,
        top_logprobs=wanted.top_logprobs,
    )


def fingerprint(base: Path, adapter: Path | None) -> str:
    """Return the name of the weights that wrote a reply: a short hash over the base's and the adapter's hashes."""
    hashes = weights_hash(base) + ("" if adapter is None else weights_hash(adapter))
    return "fp_" + hashlib.sha256(hashes.encode()).hexdigest()[:12]


async def _chunks(orders: Sequence[GenerationRequest], context: Context) -> Chunks:
    """Yield what the generator writes, each order in a thread of its own; leaving early stops it at its next chunk.

    Raises ApiError 400 for what the generator refuses, 500 for a model that fails.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Indexed | None] = asyncio.Queue()
    left = threading.Event()

    def put(item: Indexed | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    written = [
        loop.run_in_executor(context.writers, _write, context.generator, index, order, left, put)
        for index, order in enumerate(orders)
    ]
    still_open = len(written)
    try:
        while still_open:
            if (item := await queue.get()) is None:
                still_open -= 1
            else:
                yield item
        await asyncio.gather(*written)
    except ValueError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_prompt") from error
    except EngineError as error:
        raise ApiError(500, error.message, kind="server_error", code="model_error") from error
    finally:
        left.set()


def _write(
    generator: Generator,
    index: int,
    order: GenerationRequest,
    left: threading.Event,
    put: Callable[[Indexed | None], None],
) -> None:
    """Put each chunk of a reply, then None; stop when the reader has left."""
    try:
        if left.is_set():
            return
        stream = generator.stream(order)
        for chunk in stream:
            if left.is_set():
                break
            put((index, chunk))
        if (close := getattr(stream, "close", None)) is not None:
            close()
    finally:
        put(None)


async def _events(reply: Reply, first: Indexed | None, chunks: Chunks) -> AsyncGenerator[str, None]:
    """Yield the server-sent events of a reply; a failure in the middle is one last event with the error."""
    async with aclosing(chunks):
        for choice in reply.choices:
            yield _event(reply.piece(choice.index, {"role": "assistant", "content": ""}))
        try:
            for piece in reply.pieces(*first) if first is not None else ():
                yield _event(piece)
            async for index, chunk in chunks:
                for piece in reply.pieces(index, chunk):
                    yield _event(piece)
        except ApiError as error:
            yield _event(error.body())
            return
        for choice in reply.choices:
            yield _event(reply.piece(choice.index, {}, choice.finish_reason or "stop"))
        if reply.wanted.include_usage:
            yield _event(reply.usage_piece())
        yield "data: [DONE]\n\n"


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
