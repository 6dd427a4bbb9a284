"""Any endpoint that speaks OpenAI's API, through its SDK: the one place (with sdk_errors.py) that imports it.

Nothing is retried here but reading requests: a repeated POST can be paid for twice (facts: the SDK's own
retries make up to three jobs of one lost answer), so all clients go with max_retries=0.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import openai

from tunedesk.config import Profile
from tunedesk.core.fine_tuning import (
    ChatDelta,
    Checkpoint,
    FineTuningJob,
    JobEvent,
    JobRequest,
    Model,
    ProviderFile,
    Usage,
)
from tunedesk.core.uploads import PartialUpload
from tunedesk.errors import ProviderError
from tunedesk.paths import replacing
from tunedesk.providers import shapes
from tunedesk.providers.base import UNREACHABLE, OnPart, OnProgress, key_fingerprint
from tunedesk.providers.in_parts import Sending, send_in_parts, sending_timeout
from tunedesk.providers.payload import Payload
from tunedesk.providers.sdk_errors import garbled, translated

T = TypeVar("T")
Client = openai.AsyncOpenAI
Address = Callable[[threading.Event], tuple[str, str]]

_READ = openai.Timeout(30.0, connect=10.0)
_CREATE = openai.Timeout(60.0, connect=10.0)
_DOWNLOAD = openai.Timeout(60.0, connect=10.0)
"""Between two blocks of a file, not for all of it."""
_CHAT = openai.Timeout(120.0, connect=10.0)
_LOCAL_CHAT = openai.Timeout(600.0, connect=10.0)
"""A model on two cores may need minutes before its first token."""
_PAGE = 100
_MOST_PAGES = 1000
"""An endpoint that makes up items without end is asked no more than this."""
_TRIES = 3
_LONGEST = 20.0
"""Seconds for which a reading request waits before it is repeated; who is asked for more is told instead."""


class OpenAICompatible:
    """A Provider over AsyncOpenAI (see providers/base.py for what each method promises)."""

    def __init__(
        self,
        profile: Profile,
        address: Address,
        *,
        account: str = "",
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`address` gives (base URL, key) and is asked again after the endpoint could not be reached.

        It may block in a thread; it is told by the event that nobody waits for it any longer, so that leaving the
        app never waits for an engine that is still starting.
        """
        self.profile = profile
        self.account = key_fingerprint(account)
        self._address = address
        self._pause = pause
        self._client: Client | None = None

    async def models(self) -> list[Model]:
        """Return the models that the endpoint lists."""
        return [
            shapes.model_of(s) for s in await self._all("listing models", lambda c, _after: c.models.list())
        ]

    async def upload(
        self,
        path: Path,
        *,
        purpose: str = "fine-tune",
        filename: str,
        idempotency_key: str,
        on_progress: OnProgress | None = None,
        resume: PartialUpload | None = None,
        on_part: OnPart | None = None,
    ) -> ProviderFile:
        """Send a file, streamed from disk; above the profile's limit in parts, going on after those of `resume`."""
        payload = Payload.of(path, utf8_bom=self.profile.utf8_bom)

        def told(done: int) -> None:
            if on_progress is not None:
                on_progress(done, payload.size)

        if payload.size > self.profile.uploads_above:
            keep = on_part or (lambda _upload: None)
            sending = Sending(payload, filename, purpose, idempotency_key, told, keep)
            return await send_in_parts(self, sending, resume)
        arguments: dict[str, Any] = {"purpose": purpose}
        with payload.open(0, payload.size, told) as window:
            shape = await self.create(
                f"uploading {filename}",
                lambda c: c.files.create(
                    file=(filename, window, "application/jsonl"),
                    extra_headers={"Idempotency-Key": idempotency_key},
                    timeout=sending_timeout(payload.size),
                    **arguments,
                ),
            )
        return shapes.file_of(shape)

    async def cancel_upload(self, upload_id: str) -> None:
        """Give up an upload in parts."""
        await self.create(
            f"cancelling upload {upload_id}", lambda c: c.uploads.cancel(upload_id, timeout=_READ)
        )

    async def file(self, file_id: str) -> ProviderFile:
        """Return one file's state."""
        return shapes.file_of(
            await self._read(f"looking at file {file_id}", lambda c: c.files.retrieve(file_id))
        )

    async def files(self, purpose: str | None = None) -> list[ProviderFile]:
        """Return all files, or those of one purpose."""

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.files.list(
                purpose=purpose or openai.omit, after=after or openai.omit, limit=1000, timeout=_READ
            )

        return [shapes.file_of(s) for s in await self._all("listing files", page)]

    async def delete_file(self, file_id: str) -> None:
        """Delete a file there."""
        await self._call(f"deleting file {file_id}", lambda c: c.files.delete(file_id, timeout=_READ))

    async def file_content(self, file_id: str) -> bytes:
        """Return a file's bytes."""
        doing = f"reading file {file_id}"
        answer = await self.again(
            lambda: self._call(doing, lambda c: c.files.content(file_id, timeout=_DOWNLOAD))
        )
        content = getattr(answer, "content", None)
        if not isinstance(content, bytes):
            raise garbled(self.profile, doing)
        return content

    async def download(self, file_id: str, path: Path, *, on_progress: OnProgress | None = None) -> int:
        """Stream a file to `path`, whole or not at all, and return its bytes; the total told is 0 when unknown."""
        doing = f"reading file {file_id}"
        client = await self._open()
        done = 0
        with translated(self.profile, doing), replacing(path) as file:
            async with client.files.with_streaming_response.content(file_id, timeout=_DOWNLOAD) as answer:
                size = int(answer.headers.get("content-length") or 0)
                async for block in answer.iter_bytes(1 << 20):
                    file.write(block)
                    done += len(block)
                    if on_progress is not None:
                        on_progress(done, size)
        return done

    async def create_job(self, request: JobRequest, *, idempotency_key: str) -> FineTuningJob:
        """Create a fine-tuning job with one single request."""
        body = shapes.job_body(request, self.profile)
        shape = await self.create(
            "creating the fine-tuning job",
            lambda c: c.fine_tuning.jobs.create(
                extra_headers={"Idempotency-Key": idempotency_key}, timeout=_CREATE, **body
            ),
        )
        return shapes.job_of(shape)

    async def job(self, job_id: str) -> FineTuningJob:
        """Return a job as it is now."""
        return shapes.job_of(
            await self._read(
                f"looking at job {job_id}", lambda c: c.fine_tuning.jobs.retrieve(job_id, timeout=_READ)
            )
        )

    async def jobs(self, *, limit: int = 100, metadata: dict[str, str] | None = None) -> list[FineTuningJob]:
        """Return up to `limit` jobs, the newest first; `metadata` filters where the endpoint honours it."""
        query = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.fine_tuning.jobs.list(
                limit=min(limit, _PAGE), after=after or openai.omit, extra_query=query or None, timeout=_READ
            )

        found = [shapes.job_of(s) for s in await self._all("listing fine-tuning jobs", page, limit)]
        return sorted(found, key=lambda job: -job.created_at)

    async def cancel(self, job_id: str) -> FineTuningJob:
        """Stop a job for good."""
        return await self._job_action(f"cancelling job {job_id}", lambda c: c.fine_tuning.jobs.cancel(job_id))

    async def pause(self, job_id: str) -> FineTuningJob:
        """Halt a job so that it can go on later."""
        return await self._job_action(f"pausing job {job_id}", lambda c: c.fine_tuning.jobs.pause(job_id))

    async def resume(self, job_id: str) -> FineTuningJob:
        """Let a paused job go on."""
        return await self._job_action(f"resuming job {job_id}", lambda c: c.fine_tuning.jobs.resume(job_id))

    async def _job_action(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> FineTuningJob:
        return shapes.job_of(await self.create(doing, send))

    async def events(self, job_id: str, *, limit: int = 100, after: str | None = None) -> list[JobEvent]:
        """Return one page of events in the endpoint's own order, after the event `after` of that order."""
        page = await self.again(
            lambda: self._page(
                f"reading the events of {job_id}",
                lambda c: c.fine_tuning.jobs.list_events(
                    job_id, limit=limit, after=after or openai.omit, timeout=_READ
                ),
            )
        )
        return [shapes.event_of(s) for s in page]

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, by step."""

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.fine_tuning.jobs.checkpoints.list(
                job_id, limit=_PAGE, after=after or openai.omit, timeout=_READ
            )

        found = await self._all(f"reading the checkpoints of {job_id}", page)
        return sorted((shapes.checkpoint_of(s) for s in found), key=lambda c: c.step)

    async def row_losses(self, job_id: str, step: int | None = None) -> dict[int, float]:
        """Return the loss of each row (by its line in the training file, from 1) that a step was trained on."""
        doing = f"reading which conversations {job_id} was trained on"
        query = {} if step is None else {"step": step}
        options: Any = {"params": query, "timeout": _READ}
        path = f"/fine_tuning/jobs/{quote(job_id, safe='')}/row_losses"
        answer = await self.again(
            lambda: self._call(doing, lambda c: c.get(path, cast_to=object, options=options))
        )
        told = shapes.row_losses_of(_plain(answer))
        if told is None:
            raise garbled(self.profile, doing)
        return told

    async def chat(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[ChatDelta]:
        """Stream one reply; an iterator that ends without a finish reason was cut."""
        body: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timeout": _LOCAL_CHAT if self.profile.is_local else _CHAT,
        }
        options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        body |= {name: value for name, value in options.items() if value is not None}
        if urlsplit(self.profile.base_url).hostname == "api.openai.com":
            body["store"] = False
        doing = f"asking {model}"
        stream = await self._call(doing, lambda c: c.chat.completions.create(**body))
        if not hasattr(stream, "__aiter__"):
            raise garbled(self.profile, doing)
        with translated(self.profile, doing):
            async with stream:
                async for chunk in stream:
                    yield _delta(_plain(chunk) or {})

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _open(self) -> Client:
        if self._client is None:
            given_up = threading.Event()
            try:
                base_url, key = await asyncio.to_thread(self._address, given_up)
            finally:
                given_up.set()
            with translated(self.profile, "connecting"):
                self._client = _client(base_url, key)
        return self._client

    async def _call(self, doing: str, send: Callable[[Client], Awaitable[T]]) -> T:
        """Send one request once."""
        client = await self._open()
        try:
            with translated(self.profile, doing):
                return await send(client)
        except ProviderError as error:
            if error.code == UNREACHABLE and self._client is client:
                await self.close()
            raise

    async def create(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> dict[str, Any]:
        """Send one request once; raises ProviderError when its answer has no id."""
        return self._with_id(_plain(await self._call(doing, send)), doing)

    async def _read(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> dict[str, Any]:
        return await self.again(lambda: self.create(doing, send))

    async def again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request that is safe to repeat, a few times (once where time ran out), with a growing pause."""
        for attempt in range(1, _TRIES):
            try:
                return await ask()
            except ProviderError as error:
                wait = error.retry_after if error.retry_after is not None else 0.4 * 2**attempt
                patient = error.code != "timeout" or attempt == 1
                if not error.retryable or wait > _LONGEST or not patient:
                    raise
                await self._pause(wait * random.uniform(1.0, 1.3))
        return await ask()

    async def _page(self, doing: str, send: Callable[[Client], Awaitable[Any]]) -> list[dict[str, Any]]:
        return (await self._list(doing, send))[0]

    async def _list(
        self, doing: str, send: Callable[[Client], Awaitable[Any]]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return the items of one page, and whether the endpoint says that it is the last."""
        page = _plain(await self._call(doing, send))
        items = page.get("data") if page is not None and "data" in page else ()
        if page is None or not isinstance(items, list | None):
            raise garbled(self.profile, doing)
        return [item for item in items or () if isinstance(item, dict)], page.get("has_more") is False

    async def _all(
        self, doing: str, send: Callable[[Client, str | None], Awaitable[Any]], limit: int = 100_000
    ) -> list[dict[str, Any]]:
        """Return the items of all pages, each once; an endpoint that ignores `after` ends the walk."""
        found: dict[str, dict[str, Any]] = {}
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page, last = await self.again(lambda cursor=after: self._list(doing, lambda c: send(c, cursor)))  # type: ignore[misc]
            fresh = [item for item in page if isinstance(item.get("id"), str) and item["id"] not in found]
            found |= {item["id"]: item for item in fresh}
            done = not fresh or after == fresh[-1]["id"] or len(found) >= limit
            if done or (last and len(page) < min(limit, _PAGE)):
                break
            after = fresh[-1]["id"]
        return list(found.values())[:limit]

    def _with_id(self, shape: object, doing: str) -> dict[str, Any]:
        if not isinstance(shape, dict) or not isinstance(shape.get("id"), str) or not shape["id"]:
            raise garbled(self.profile, doing)
        return shape


def _client(base_url: str, key: str) -> Client:
    """Build a client that only this profile's address and key reach, whatever the SDK finds in the environment."""
    host = urlsplit(base_url).hostname or ""
    here = host in ("127.0.0.1", "localhost", "::1")
    client = Client(
        base_url=base_url,
        api_key=key,
        max_retries=0,
        timeout=_READ,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if here else None,
    )
    if host != "api.openai.com":
        client.organization = client.project = None
        client._custom_headers = {}
        if hasattr(client, "admin_api_key"):
            client.admin_api_key = None
    return client


def _plain(answer: object) -> dict[str, Any] | None:
    """Return an SDK object as the JSON it came from; None for anything else, such as a page of HTML."""
    if isinstance(answer, openai.BaseModel):
        return answer.to_dict(mode="json", warnings=False)
    return answer if isinstance(answer, dict) else None


def _delta(chunk: dict[str, Any]) -> ChatDelta:
    """Read a chunk: the one with usage has no choices."""
    choices = chunk.get("choices") or [{}]
    usage = chunk.get("usage")
    text = (choices[0].get("delta") or {}).get("content")
    return ChatDelta(
        text=text if isinstance(text, str) else "",
        finish_reason=choices[0].get("finish_reason"),
        usage=Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        if usage
        else None,
        system_fingerprint=chunk.get("system_fingerprint"),
    )
