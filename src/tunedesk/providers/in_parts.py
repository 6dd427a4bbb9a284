"""The Uploads API: a large file in parts, going on at the part where it stopped.

Only `complete` makes a file, so an upload or a part may be sent again without harm; `complete` itself goes once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import openai

from tunedesk.core.fine_tuning import ProviderFile
from tunedesk.core.uploads import PartialUpload
from tunedesk.errors import ProviderError
from tunedesk.providers import shapes
from tunedesk.providers.payload import Payload

PART = 64 * 1024 * 1024
"""Largest part of the Uploads API, bytes."""
_CLOCKS = 300
"""Seconds by which the provider's clock and ours may differ."""
_GONE = (400, 404, 409, 410)
"""HTTP statuses by which a provider says that an upload has expired, was cancelled or is complete."""

Request = Callable[[openai.AsyncOpenAI], Awaitable[Any]]


def sending_timeout(size: int) -> openai.Timeout:
    """Return how long to wait for the answer to `size` bytes: a large file is worked through before it comes."""
    return openai.Timeout(60.0 + size / 1e6, connect=10.0, write=60.0)


class Wire(Protocol):
    """How single requests go out (openai_compatible.py)."""

    def create(self, doing: str, send: Request) -> Awaitable[dict[str, Any]]:
        """Send one request once; its answer has an id."""

    def again(self, ask: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        """Repeat a request that is safe to repeat."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One file on its way up, and who is told about it."""

    payload: Payload
    filename: str
    purpose: Any
    idempotency_key: str
    told: Callable[[int], None]
    """Called with the bytes sent so far."""
    on_part: Callable[[PartialUpload], None]
    """Called once the upload is open and after each part; what it keeps can be given as `resume`."""


async def send_in_parts(wire: Wire, sending: Sending, resume: PartialUpload | None) -> ProviderFile:
    """Bring a file up, from where `resume` stopped; one that the provider has forgotten begins afresh."""
    if resume is not None and not (resume.expires_at and time.time() > resume.expires_at + _CLOCKS):
        try:
            return await _finish(wire, sending, resume)
        except ProviderError as error:
            if error.status not in _GONE:
                raise
    return await _finish(wire, sending, await _open(wire, sending))


async def _open(wire: Wire, sending: Sending) -> PartialUpload:
    doing = f"uploading {sending.filename} in parts"
    size, name, purpose = sending.payload.size, sending.filename, sending.purpose
    opened = await wire.again(
        lambda: wire.create(
            doing,
            lambda c: c.uploads.create(
                bytes=size, filename=name, mime_type="application/jsonl", purpose=purpose
            ),
        )
    )
    expires = opened.get("expires_at")
    upload = PartialUpload(opened["id"], PART, (), expires if isinstance(expires, int) else 0)
    sending.on_part(upload)
    return upload


async def _finish(wire: Wire, sending: Sending, upload: PartialUpload) -> ProviderFile:
    payload = sending.payload
    sending.told(min(len(upload.parts) * upload.part_bytes, payload.size))
    for start in range(len(upload.parts) * upload.part_bytes, payload.size, upload.part_bytes):
        part = await wire.again(lambda at=start, to=upload: _part(wire, sending, to, at))  # type: ignore[misc]
        upload = replace(upload, parts=(*upload.parts, part))
        sending.on_part(upload)
    doing = f"completing the upload of {sending.filename}"
    done = await wire.create(
        doing,
        lambda c: c.uploads.complete(
            upload.id,
            part_ids=list(upload.parts),
            extra_headers={"Idempotency-Key": sending.idempotency_key},
            timeout=sending_timeout(payload.size),
        ),
    )
    file = done.get("file")
    if not isinstance(file, dict) or not isinstance(file.get("id"), str):
        raise ProviderError(f"the upload was completed without naming a file ({doing})", code="garbled")
    return shapes.file_of(file)


async def _part(wire: Wire, sending: Sending, upload: PartialUpload, start: int) -> str:
    with sending.payload.open(start, upload.part_bytes, sending.told) as window:
        part = await wire.create(
            f"uploading the part at byte {start:,}",
            lambda c: c.uploads.parts.create(
                upload.id,
                data=("part", window, "application/octet-stream"),
                timeout=sending_timeout(upload.part_bytes),
            ),
        )
    return str(part["id"])
