"""What every endpoint can do, in our words; the SDK behind it stays in openai_compatible.py."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

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

OnProgress = Callable[[int, int], None]
"""Called with (bytes sent, bytes in all)."""
OnPart = Callable[[PartialUpload], None]
"""Called with how far an upload in parts has come, before its next part is sent."""

UNREACHABLE = "unreachable"
"""ProviderError.code when no connection was made, so that certainly nothing was carried out."""


class Provider(Protocol):
    """One endpoint with one key.

    Every method raises ProviderError. Those that create something send exactly one request, never repeated:
    when the error is `in_doubt`, the caller looks whether it was carried out (jobs.py).
    """

    @property
    def profile(self) -> Profile:
        """The profile it was made from."""

    @property
    def account(self) -> str:
        """Fingerprint of the key, which tells accounts apart and never the key."""

    async def models(self) -> list[Model]:
        """Return the models that the endpoint lists."""

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

    async def cancel_upload(self, upload_id: str) -> None:
        """Give up an upload in parts."""

    async def file(self, file_id: str) -> ProviderFile:
        """Return one file's state."""

    async def files(self, purpose: str | None = None) -> list[ProviderFile]:
        """Return all files, or those of one purpose."""

    async def delete_file(self, file_id: str) -> None:
        """Delete a file there."""

    async def file_content(self, file_id: str) -> bytes:
        """Return a file's bytes."""

    async def download(self, file_id: str, path: Path, *, on_progress: OnProgress | None = None) -> int:
        """Stream a file to `path`, whole or not at all, and return its bytes; the total told is 0 when unknown."""

    async def create_job(self, request: JobRequest, *, idempotency_key: str) -> FineTuningJob:
        """Create a fine-tuning job with one single request."""

    async def job(self, job_id: str) -> FineTuningJob:
        """Return a job as it is now."""

    async def jobs(self, *, limit: int = 100, metadata: dict[str, str] | None = None) -> list[FineTuningJob]:
        """Return up to `limit` jobs, the newest first; `metadata` filters where the endpoint honours it."""

    async def cancel(self, job_id: str) -> FineTuningJob:
        """Stop a job for good."""

    async def pause(self, job_id: str) -> FineTuningJob:
        """Halt a job so that it can go on later."""

    async def resume(self, job_id: str) -> FineTuningJob:
        """Let a paused job go on."""

    async def events(self, job_id: str, *, limit: int = 100, after: str | None = None) -> list[JobEvent]:
        """Return one page of events in the endpoint's own order, after the event `after` of that order."""

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Return a job's checkpoints, by step."""

    async def row_losses(self, job_id: str, step: int | None = None) -> dict[int, float]:
        """Return the loss of each row (by its line in the training file, from 1) that a step was trained on.

        Without `step` the latest of every row. Only our engine tells it: others answer 404, 405 or the like.
        """

    def chat(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[ChatDelta]:
        """Stream one reply; an iterator that ends without a finish reason was cut."""

    async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask tunedesk's own engine for `what` (/v1/engine/…): read it, or with a body have it done."""

    async def close(self) -> None:
        """Close connections."""


def key_fingerprint(key: str) -> str:
    """Return what the store keeps of a key: its last four characters and a short hash of the whole."""
    if not key:
        return ""
    return f"…{key[-4:]} {hashlib.sha256(key.encode()).hexdigest()[:12]}"
