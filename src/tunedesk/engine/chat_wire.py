"""Chat completions on the wire: what may be asked, and how replies are shown, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunedesk.engine.chat_messages import read_messages, read_tools
from tunedesk.engine.wire import ApiError, Fields, GenerationChunk, new_id

DEFAULT_MAX_TOKENS = 1024
MAX_TOKENS = 1 << 17


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A well-formed request for a reply; whether the model exists is not yet known.

    Parameters of OpenAI's that steer what this engine does not do (penalties, logprobs, store, service_tier and
    the like) are accepted and have no effect, so that any client works unchanged.
    """

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    max_tokens: int
    """At least 1: a 0 in the request counts as no limit given."""
    temperature: float
    top_p: float
    seed: int | None
    stop: list[str]
    stream: bool
    include_usage: bool


def parse_chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Read the body of a chat completion; raises ApiError 400 naming the parameter at fault."""
    fields = Fields(body)
    model = fields.needed_text("model", most=256)
    if fields.integer("n", 1, 128) not in (None, 1):
        raise ApiError(
            400, "This engine writes one reply a request: 'n' must be 1.", param="n", code="unsupported_value"
        )
    if fields.nested("response_format").body.get("type", "text") != "text":
        message = "This engine writes text: 'response_format' must be of type 'text'."
        raise ApiError(400, message, param="response_format", code="unsupported_value")
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    most = fields.integer("max_completion_tokens", 0, MAX_TOKENS) or fields.integer(
        "max_tokens", 0, MAX_TOKENS
    )
    return ChatRequest(
        model=model,
        messages=read_messages(fields),
        tools=read_tools(fields),
        max_tokens=most or DEFAULT_MAX_TOKENS,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=fields.integer("seed", -(1 << 63), (1 << 63) - 1),
        stop=_stop(body.get("stop")),
        stream=fields.flag("stream"),
        include_usage=fields.nested("stream_options").flag("include_usage"),
    )


def _stop(stop: Any) -> list[str]:
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "Invalid 'stop': expected at most 4 strings.", param="stop", code="invalid_type")
    return [text for text in texts if text]


@dataclass(slots=True)
class Reply:
    """A reply that grows by chunks, and its two shapes."""

    model: str
    fingerprint: str
    """Names the weights: see `fingerprint` in routes/chat.py."""
    id: str = field(default_factory=lambda: new_id("chatcmpl-", 29))
    created: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, chunk: GenerationChunk) -> None:
        """Take in the next chunk."""
        self.text += chunk.text
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.prompt_tokens, self.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's usage object."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def shape(self) -> dict[str, Any]:
        """Return OpenAI's chat completion object."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.text,
            "refusal": None,
            "annotations": [],
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason or "stop",
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def piece(
        self, delta: Mapping[str, Any], finish_reason: str | None, *, with_usage: bool
    ) -> dict[str, Any]:
        """Return one chunk object of the stream; `usage` is null in all but the last when usage was asked for."""
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}
        shown = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**shown, "usage": None} if with_usage else shown

    def usage_piece(self) -> dict[str, Any]:
        """Return the last chunk object of a stream with usage: no choices, all counts."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}
