"""A chat answer as it comes: chunk by chunk, or whole where an endpoint does not stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai

from tunedesk.core.fine_tuning import ChatDelta, Usage


async def deltas(stream: openai.AsyncStream[Any]) -> AsyncIterator[ChatDelta]:
    """Yield what a stream says; an answer of plain JSON, from an endpoint that ignores `stream`, is one delta.

    Raises what the SDK raises, ValueError for JSON that cannot be read.
    """
    async with stream:
        if stream.response.headers.get("content-type", "").startswith("application/json"):
            await stream.response.aread()
            yield _delta(stream.response.json(), "message")
            return
        async for chunk in stream:
            yield _delta(chunk.to_dict(mode="json", warnings=False), "delta")


def _delta(chunk: object, part: str) -> ChatDelta:
    """Read a chunk (the one with usage has no choices) or, with `part` message, a whole answer."""
    told: dict[str, Any] = chunk if isinstance(chunk, dict) else {}
    choices = told.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    choice: dict[str, Any] = first if isinstance(first, dict) else {}
    said, reason, usage = choice.get(part), choice.get("finish_reason"), told.get("usage")
    text = said.get("content") if isinstance(said, dict) else None
    fingerprint = told.get("system_fingerprint")
    return ChatDelta(
        text=text if isinstance(text, str) else "",
        finish_reason=reason if isinstance(reason, str) else None,
        usage=Usage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        if isinstance(usage, dict) and usage
        else None,
        system_fingerprint=fingerprint if isinstance(fingerprint, str) else None,
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
