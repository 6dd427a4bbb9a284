"""Stand-ins with state: an endpoint that keeps files and jobs, a provider over it, and the same over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tunedesk.config import Profile
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
from tunedesk.errors import ProviderError
from tunedesk.providers.base import OnPart, OnProgress
from tunedesk.providers.payload import Payload


class Killed(BaseException):
    """The process died here; nothing may catch it."""


async def no_pause(_seconds: float) -> None:
    """Wait for nothing, but let others run."""
    await asyncio.sleep(0)


@dataclass
class Fault:
    """One scripted failure of a method."""

    method: str
    error: BaseException
    carried_out: bool
    """Whether the endpoint did what it was asked before the answer was lost."""


@dataclass
class Endpoint:
    """What lives at the provider, whoever asks: it survives the client's death."""

    files: dict[str, ProviderFile] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, FineTuningJob] = field(default_factory=dict)
    events: dict[str, list[JobEvent]] = field(default_factory=dict)
    """By job, oldest first."""
    checkpoints: dict[str, list[Checkpoint]] = field(default_factory=dict)
    row_losses: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)
    """By job: line of the training file → (step, loss); a job that is not there answers 404, as most endpoints do."""
    replies: dict[str, Callable[[list[dict[str, Any]]], list[ChatDelta | ProviderError]]] = field(
        default_factory=dict
    )
    """By model: what it answers to messages."""
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key → id of what it made, where the endpoint honours it."""
    uploads: dict[str, list[bytes]] = field(default_factory=dict)
    """Uploads in parts that are under way, by id."""
    part_bytes: int = 0
    """Size of a part; 0 lets every file go up whole."""
    honours_keys: bool = False
    honours_metadata_filter: bool = True
    page_size: int = 100
    oldest_first: bool = False
    processing: int = 0
    """How many looks a fresh file stays in `uploaded`."""
    moment: Callable[[], None] = lambda: None
    """Called before and after every effect; a test may die in it."""

    def lose(self, method: str, error: BaseException | None = None, *, carried_out: bool = True) -> None:
        """Let the next call of `method` end in `error` (a lost answer unless given)."""
        lost = ProviderError("no answer in time", retryable=True, code="timeout")
        self.faults.append(Fault(method, error or lost, carried_out))


class ScriptedProvider:
    """A Provider over an Endpoint, in this process."""

    def __init__(self, endpoint: Endpoint, profile: Profile | None = None, account: str = "…test") -> None:
        self.endpoint = endpoint
        self.profile = profile or Profile(name="cloud", base_url="https://cloud.test/v1")
        self.account = account

    async def _do(self, method: str, effect: Callable[[], Any]) -> Any:
        endpoint = self.endpoint
        await asyncio.sleep(0)
        endpoint.calls.append(method)
        endpoint.moment()
        fault = next((f for f in endpoint.faults if f.method == method), None)
        if fault is not None:
            endpoint.faults.remove(fault)
            if fault.carried_out:
                effect()
            raise fault.error
        result = effect()
        endpoint.moment()
        return result

    async def models(self) -> list[Model]:
        return [Model(name) for name in self.endpoint.replies]

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
        payload = Payload.of(path, utf8_bom=self.profile.utf8_bom)
        content = payload.prefix + path.read_bytes()
        if self.endpoint.part_bytes and on_part is not None:
            await self._send_parts(content, resume, on_part)

        def effect() -> ProviderFile:
            known = self.endpoint.keys.get(idempotency_key)
            if known is not None and self.endpoint.honours_keys:
                return self.endpoint.files[known]
            made = f"file-{len(self.endpoint.files) + 1}"
            status = "uploaded" if self.endpoint.processing else "processed"
            file = ProviderFile(made, filename, len(content), purpose, status, int(time.time()))
            self.endpoint.files[made] = file
            self.endpoint.contents[made] = content
            self.endpoint.keys[idempotency_key] = made
            if on_progress is not None:
                on_progress(len(content), len(content))
            return file

        file: ProviderFile = await self._do("upload", effect)
        return file

    async def _send_parts(self, content: bytes, resume: PartialUpload | None, on_part: OnPart) -> None:
        endpoint, size = self.endpoint, self.endpoint.part_bytes
        upload = resume if resume and resume.id in endpoint.uploads else None
        if upload is None:
            upload = PartialUpload(f"up-{len(endpoint.uploads) + 1}", size)
            await self._do("open_upload", partial(endpoint.uploads.__setitem__, upload.id, []))
            on_part(upload)
        for start in range(len(upload.parts) * size, len(content), size):
            await self._do("part", partial(endpoint.uploads[upload.id].append, content[start : start + size]))
            upload = replace(upload, parts=(*upload.parts, f"p{start}"))
            on_part(upload)

    async def cancel_upload(self, upload_id: str) -> None:
        await self._do("cancel_upload", lambda: self.endpoint.uploads.pop(upload_id))

    async def file(self, file_id: str) -> ProviderFile:
        def effect() -> ProviderFile:
            if file_id not in self.endpoint.files:
                raise ProviderError(f"no file {file_id}", status=404)
            file = self.endpoint.files[file_id]
            if file.status == "uploaded":
                self.endpoint.processing -= 1
                if self.endpoint.processing <= 0:
                    file = self.endpoint.files[file_id] = replace(file, status="processed")
            return file

        file: ProviderFile = await self._do("file", effect)
        return file

    async def files(self, purpose: str | None = None) -> list[ProviderFile]:
        found: list[ProviderFile] = await self._do("files", lambda: list(self.endpoint.files.values()))
        return [file for file in found if purpose in (None, file.purpose)]

    async def delete_file(self, file_id: str) -> None:
        await self._do("delete_file", lambda: self.endpoint.files.pop(file_id))

    async def file_content(self, file_id: str) -> bytes:
        content: bytes = await self._do("file_content", lambda: self.endpoint.contents[file_id])
        return content

    async def download(self, file_id: str, path: Path, *, on_progress: OnProgress | None = None) -> int:
        return path.write_bytes(await self.file_content(file_id))

    async def create_job(self, request: JobRequest, *, idempotency_key: str) -> FineTuningJob:
        def effect() -> FineTuningJob:
            known = self.endpoint.keys.get(idempotency_key)
            if known is not None and self.endpoint.honours_keys:
                return self.endpoint.jobs[known]
            job = FineTuningJob(
                id=f"ftjob-{len(self.endpoint.jobs) + 1}",
                status="queued",
                model=request.model,
                created_at=int(time.time()),
                training_file=request.training_file,
                validation_file=request.validation_file,
                metadata=dict(request.metadata) if self.profile.takes_metadata else {},
            )
            self.endpoint.jobs[job.id] = job
            self.endpoint.keys[idempotency_key] = job.id
            return job

        job: FineTuningJob = await self._do("create_job", effect)
        return job

    async def job(self, job_id: str) -> FineTuningJob:
        job: FineTuningJob = await self._do("job", lambda: self.endpoint.jobs[job_id])
        return job

    async def jobs(self, *, limit: int = 100, metadata: dict[str, str] | None = None) -> list[FineTuningJob]:
        found: list[FineTuningJob] = await self._do("jobs", lambda: list(self.endpoint.jobs.values())[::-1])
        if metadata and self.endpoint.honours_metadata_filter:
            found = [job for job in found if metadata.items() <= job.metadata.items()]
        return found[:limit]

    async def _become(self, method: str, job_id: str, status: str) -> FineTuningJob:
        def effect() -> FineTuningJob:
            job = self.endpoint.jobs[job_id] = replace(self.endpoint.jobs[job_id], status=status)
            return job

        job: FineTuningJob = await self._do(method, effect)
        return job

    async def cancel(self, job_id: str) -> FineTuningJob:
        return await self._become("cancel", job_id, "cancelled")

    async def pause(self, job_id: str) -> FineTuningJob:
        return await self._become("pause", job_id, "paused")

    async def resume(self, job_id: str) -> FineTuningJob:
        return await self._become("resume", job_id, "running")

    async def events(self, job_id: str, *, limit: int = 100, after: str | None = None) -> list[JobEvent]:
        def effect() -> list[JobEvent]:
            listed = list(self.endpoint.events.get(job_id, ()))
            if not self.endpoint.oldest_first:
                listed.reverse()
            ids = [event.id for event in listed]
            start = ids.index(after) + 1 if after is not None else 0
            return listed[start : start + min(limit, self.endpoint.page_size)]

        found: list[JobEvent] = await self._do("events", effect)
        return found

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        found: list[Checkpoint] = await self._do(
            "checkpoints", lambda: self.endpoint.checkpoints.get(job_id, [])
        )
        return found

    async def row_losses(self, job_id: str, step: int | None = None) -> dict[int, float]:
        def effect() -> dict[int, float]:
            told = self.endpoint.row_losses.get(job_id)
            if told is None:
                raise ProviderError("no such path", status=404)
            return {line: loss for line, (at, loss) in told.items() if step in (None, at)}

        losses: dict[int, float] = await self._do("row_losses", effect)
        return losses

    async def chat(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[ChatDelta]:
        self.endpoint.calls.append(f"chat {model}")
        for delta in self.endpoint.replies[model](messages):
            await asyncio.sleep(0)
            if isinstance(delta, ProviderError):
                raise delta
            yield delta

    async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """No endpoint but the engine has these routes."""
        raise ProviderError(f"Invalid URL (GET /v1/engine/{what})", status=404)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Canned:
    """One answer to be sent, or a fault on the wire."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: int | None = None
    """Bytes of the body after which the connection is reset; 0 loses the whole answer."""
    delay: float = 0.0
    """Seconds before the answer comes."""

    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


_TLS = b"\x16"
"""First byte of who wants a secure connection, which is not spoken here."""


class HttpEndpoint:
    """A server on loopback that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: dict[tuple[str, str], deque[Canned]] = {}
        self._server: asyncio.Server | None = None
        self.base_url = ""

    def answer(self, method: str, path: str, *answers: Canned) -> None:
        """Queue answers for a route (a regular expression over the path); the last one stays."""
        self.answers.setdefault((method, path), deque()).extend(answers)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == _TLS:
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await _body(reader, headers)
            parts = urlsplit(target)
            request = Request(method, parts.path, parse_qs(parts.query), headers, body)
            self.requests.append(request)
            canned = self._chosen(request)
            payload = canned.bytes()
            extra = "".join(f"{name}: {value}\r\n" for name, value in canned.headers.items())
            start = (
                f"HTTP/1.1 {canned.status} X\r\nContent-Type: {canned.content_type}\r\n"
                f"Content-Length: {len(payload)}\r\nConnection: close\r\n{extra}\r\n"
            ).encode()
            await asyncio.sleep(canned.delay)
            if canned.cut != 0:
                writer.write(start + payload[: canned.cut])
                await writer.drain()
            if canned.cut is not None:
                await asyncio.sleep(0.05)
                writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _chosen(self, request: Request) -> Canned:
        for (method, path), answers in self.answers.items():
            if method == request.method and re.fullmatch(path, request.path):
                return answers.popleft() if len(answers) > 1 else answers[0]
        return Canned({"error": {"message": f"no route {request.path}", "code": "not_found"}}, 404)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body
    return await reader.readexactly(int(headers.get("content-length", "0")))


def sse(*chunks: object, done: bool = True) -> bytes:
    """Return chunks as a stream of server-sent events."""
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")
