"""One streamed answer, put together from its deltas and timed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import ProviderError
from tunedesk.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn; None leaves it to the endpoint."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(slots=True)
class Reply:
    """One answer, growing while it streams."""

    model: str
    text: str = ""
    usage: Usage | None = None
    first_token_s: float | None = None
    """Seconds to the first text, None before it."""
    total_s: float = 0.0
    """Seconds to the last delta so far."""
    finish_reason: str | None = None
    system_fingerprint: str | None = None
    """Which weights answered, where the endpoint tells it."""
    error: str = ""
    """Why the text is not whole, in words; empty when it is."""

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token, or None when it cannot be told."""
        if self.usage is None or self.first_token_s is None or self.usage.completion_tokens < 2:
            return None
        seconds = self.total_s - self.first_token_s
        return (self.usage.completion_tokens - 1) / seconds if seconds > 0 else None


async def stream_reply(
    provider: Provider, messages: list[dict[str, Any]], reply: Reply, sampling: Sampling
) -> AsyncGenerator[ChatDelta, None]:
    """Ask `reply.model` and fill `reply` as deltas pass; a cut stream keeps its text and says so in `reply.error`.

    Raises ProviderError when nothing at all came.
    """
    start = time.monotonic()
    deltas = provider.chat(
        reply.model,
        messages,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
    )
    try:
        async for delta in deltas:
            reply.total_s = time.monotonic() - start
            if delta.text and reply.first_token_s is None:
                reply.first_token_s = reply.total_s
            reply.text += delta.text
            reply.finish_reason = delta.finish_reason or reply.finish_reason
            reply.usage = delta.usage or reply.usage
            reply.system_fingerprint = delta.system_fingerprint or reply.system_fingerprint
            yield delta
    except ProviderError as error:
        if not reply.text:
            raise
        reply.error = f"the answer was cut: {error.message}"
    else:
        if reply.finish_reason is None:
            reply.error = "the answer was cut: it ended without its closing mark"
        elif reply.finish_reason == "length":
            reply.error = "the answer reached its token limit"
