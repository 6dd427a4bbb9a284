"""Any endpoint that speaks OpenAI's API, through its SDK, in our words; requests.py tells how each one goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import openai

from tunedesk.core.fine_tuning import (
    ChatDelta,
    Checkpoint,
    FineTuningJob,
    JobEvent,
    JobRequest,
    Model,
    ProviderFile,
)
from tunedesk.core.uploads import PartialUpload
from tunedesk.paths import replacing
from tunedesk.providers import shapes
from tunedesk.providers.answers import deltas
from tunedesk.providers.base import OnPart, OnProgress
from tunedesk.providers.in_parts import Sending, send_in_parts, sending_timeout
from tunedesk.providers.payload import Payload
from tunedesk.providers.requests import PAGE, READ, Client, Requests, plain
from tunedesk.providers.sdk_errors import garbled, translated

_CREATE = openai.Timeout(60.0, connect=10.0)
_DOWNLOAD = openai.Timeout(60.0, connect=10.0)
"""Between two blocks of a file, not for all of it."""
_ENGINE = openai.Timeout(600.0, connect=10.0)
"""Packing a large model takes minutes."""
_CHAT = openai.Timeout(120.0, connect=10.0)
_LOCAL_CHAT = openai.Timeout(600.0, connect=10.0)
"""A model on two cores may need minutes before its first token."""


class OpenAICompatible(Requests):
    """A Provider over AsyncOpenAI (see providers/base.py for what each method promises)."""

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
            f"cancelling upload {upload_id}", lambda c: c.uploads.cancel(upload_id, timeout=READ)
        )

    async def file(self, file_id: str) -> ProviderFile:
        """Return one file's state."""
        told = await self._read(
            f"looking at file {file_id}", lambda c: c.files.retrieve(file_id, timeout=READ)
        )
        return replace(shapes.file_of(told), id=file_id)

    async def files(self, purpose: str | None = None) -> list[ProviderFile]:
        """Return all files, or those of one purpose."""

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.files.list(
                purpose=purpose or openai.omit, after=after or openai.omit, limit=1000, timeout=READ
            )

        return [shapes.file_of(s) for s in await self._all("listing files", page)]

    async def delete_file(self, file_id: str) -> None:
        """Delete a file there."""
        await self._call(f"deleting file {file_id}", lambda c: c.files.delete(file_id, timeout=READ))

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
        told = await self._read(
            f"looking at job {job_id}", lambda c: c.fine_tuning.jobs.retrieve(job_id, timeout=READ)
        )
        return replace(shapes.job_of(told), id=job_id)

    async def jobs(self, *, limit: int = 100, metadata: dict[str, str] | None = None) -> list[FineTuningJob]:
        """Return up to `limit` jobs, the newest first; `metadata` filters where the endpoint honours it."""
        query = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.fine_tuning.jobs.list(
                limit=min(limit, PAGE), after=after or openai.omit, extra_query=query or None, timeout=READ
            )

        found = [shapes.job_of(s) for s in await self._all("listing fine-tuning jobs", page, limit)]
        return sorted(found, key=lambda job: -job.created_at)

    async def cancel(self, job_id: str) -> FineTuningJob:
        """Stop a job for good."""
        return await self._job_action(job_id, "cancelling", lambda c: c.fine_tuning.jobs.cancel(job_id))

    async def pause(self, job_id: str) -> FineTuningJob:
        """Halt a job so that it can go on later."""
        return await self._job_action(job_id, "pausing", lambda c: c.fine_tuning.jobs.pause(job_id))

    async def resume(self, job_id: str) -> FineTuningJob:
        """Let a paused job go on."""
        return await self._job_action(job_id, "resuming", lambda c: c.fine_tuning.jobs.resume(job_id))

    async def _job_action(
        self, job_id: str, doing: str, send: Callable[[Client], Awaitable[Any]]
    ) -> FineTuningJob:
        """Act on a job; whatever id the answer has, it is told of the job that was named."""
        return replace(shapes.job_of(await self.create(f"{doing} job {job_id}", send)), id=job_id)

    async def events(self, job_id: str, *, limit: int = 100, after: str | None = None) -> list[JobEvent]:
        """Return one page of events in the endpoint's own order, after the event `after` of that order."""
        page = await self.again(
            lambda: self._page(
                f"reading the events of {job_id}",
                lambda c: c.fine_tuning.jobs.list_events(
                    job_id, limit=limit, after=after or openai.omit, timeout=READ
                ),
            )
        )
        return [shapes.event_of(s) for s in page]

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, by step."""

        def page(client: Client, after: str | None) -> Awaitable[Any]:
            return client.fine_tuning.jobs.checkpoints.list(
                job_id, limit=PAGE, after=after or openai.omit, timeout=READ
            )

        found = await self._all(f"reading the checkpoints of {job_id}", page)
        return sorted((shapes.checkpoint_of(s) for s in found), key=lambda c: c.step)

    async def row_losses(self, job_id: str, step: int | None = None) -> dict[int, float]:
        """Return the loss of each row (by its line in the training file, from 1) that a step was trained on."""
        doing = f"reading which conversations {job_id} was trained on"
        query = {} if step is None else {"step": step}
        options: Any = {"params": query, "timeout": READ}
        path = f"/fine_tuning/jobs/{quote(job_id, safe='')}/row_losses"
        answer = await self.again(
            lambda: self._call(doing, lambda c: c.get(path, cast_to=object, options=options))
        )
        told = shapes.row_losses_of(plain(answer))
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
            async for delta in deltas(stream):
                yield delta

    async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask one of the engine's own routes; raises ProviderError with its words, also where none is."""
        doing = f"asking the engine for {what}"
        answer = plain(await self._call(doing, lambda c: _engine_request(c, what, body)))
        if answer is None:
            raise garbled(self.profile, doing)
        return answer


def _engine_request(client: Client, what: str, body: dict[str, Any] | None) -> Awaitable[object]:
    """Send one request to a route of the engine that the SDK has no method for."""
    path = f"/engine/{what}"
    options: Any = {"timeout": _ENGINE}
    if body is None:
        return client.get(path, cast_to=object, options=options)
    return client.post(path, cast_to=object, body=body, options=options)
