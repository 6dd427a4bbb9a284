"""Chat completions on the wire: what may be asked, and how replies are shown, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunedesk.engine.chat_messages import read_messages, read_tools
from tunedesk.engine.chat_tools import ToolText
from tunedesk.engine.wire import ApiError, Fields, GenerationChunk, new_id

DEFAULT_MAX_TOKENS = 1024
MAX_TOKENS = 1 << 17
_MOST_REPLIES = 128
_MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A well-formed request for a reply; whether the model exists is not yet known.

    What would change the reply is done or refused; parameters of OpenAI's that steer its service (store,
    service_tier, user, prompt_cache_key and the like) are accepted and have no effect.
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
    replies: int
    """How many to write (`n`)."""
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]
    top_logprobs: int | None
    """How many likely tokens to tell beside each that was written; None: no chances at all."""


def parse_chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Read the body of a chat completion; raises ApiError 400 naming the parameter at fault."""
    fields = Fields(body)
    model = fields.needed_text("model", most=256)
    _refuse_other_than_text(fields)
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    most = fields.integer("max_completion_tokens", 0, MAX_TOKENS) or fields.integer(
        "max_tokens", 0, MAX_TOKENS
    )
    return ChatRequest(
        model=model,
        messages=read_messages(fields),
        tools=_tools(fields),
        max_tokens=most or DEFAULT_MAX_TOKENS,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=fields.integer("seed", -(1 << 63), (1 << 63) - 1),
        stop=_stop(body.get("stop")),
        stream=fields.flag("stream"),
        include_usage=fields.nested("stream_options").flag("include_usage"),
        replies=fields.integer("n", 1, _MOST_REPLIES) or 1,
        presence_penalty=fields.number("presence_penalty", -2, 2) or 0.0,
        frequency_penalty=fields.number("frequency_penalty", -2, 2) or 0.0,
        logit_bias=_logit_bias(fields),
        top_logprobs=_top_logprobs(fields),
    )


def _refuse_other_than_text(fields: Fields) -> None:
    if fields.nested("response_format").body.get("type", "text") != "text":
        message = "This engine writes text: 'response_format' must be of type 'text'."
        raise ApiError(400, message, param="response_format", code="unsupported_value")
    if any(kind != "text" for kind in fields.array("modalities", most=10)):
        message = "This engine writes text: 'modalities' must be [\"text\"]."
        raise ApiError(400, message, param="modalities", code="unsupported_value")


def _tools(fields: Fields) -> list[dict[str, Any]]:
    """Return the tools that the model may call; it may always choose not to, so that no call can be promised."""
    tools = read_tools(fields)
    choice = fields.body.get("tool_choice")
    if choice not in (None, "none", "auto"):
        message = (
            "This engine's models choose themselves whether to call: 'tool_choice' must be 'auto' or 'none'."
        )
        raise ApiError(400, message, param="tool_choice", code="unsupported_value")
    if fields.array("functions", most=128) and fields.body.get("function_call") != "none":
        message = "'functions' are no longer read: send them as 'tools'."
        raise ApiError(400, message, param="functions", code="unsupported_parameter")
    return [] if choice == "none" else tools


def _logit_bias(fields: Fields) -> dict[int, float]:
    """Return token id → what is added to its logit."""
    given = fields.nested("logit_bias")
    bias = {name: given.number(name, -100, 100) or 0.0 for name in given.body}
    for name, value in bias.items():
        if value and not (name.isascii() and name.isdigit() and len(name) < 10):
            message = "Invalid 'logit_bias': expected ids of tokens as its keys."
            raise ApiError(400, message, param="logit_bias", code="invalid_value")
    return {int(name): value for name, value in bias.items() if value}


def _top_logprobs(fields: Fields) -> int | None:
    top = fields.integer("top_logprobs", 0, _MOST_LOGPROBS)
    if fields.flag("logprobs"):
        return top or 0
    if top:
        message = "Invalid 'top_logprobs': it needs 'logprobs' to be true."
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    return None


def _stop(stop: Any) -> list[str]:
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "Invalid 'stop': expected at most 4 strings.", param="stop", code="invalid_type")
    return [text for text in texts if text]


@dataclass(slots=True)
class Choice:
    """One of the replies to a request, which grows by chunks."""

    index: int
    tool_text: ToolText | None
    """Takes calls of tools out of the text; None where no tools were given."""
    with_logprobs: bool
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, chunk: GenerationChunk) -> str:
        """Take in the next chunk and return what of its text may be shown by now."""
        shown = chunk.text
        if self.tool_text is not None:
            shown = self.tool_text.add(shown)
            if chunk.finish_reason is not None:
                rest, self.calls = self.tool_text.end()
                shown += rest
        self.text += shown
        self.logprobs += chunk.logprobs
        self.finish_reason = "tool_calls" if self.calls else chunk.finish_reason or self.finish_reason
        self.prompt_tokens, self.completion_tokens = chunk.prompt_tokens, chunk.completion_tokens
        return shown

    def shape(self) -> dict[str, Any]:
        """Return OpenAI's choice object of a whole reply."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not self.text else self.text,
            "refusal": None,
            "annotations": [],
        }
        return {
            "index": self.index,
            "message": {**message, "tool_calls": self.calls} if self.calls else message,
            "logprobs": self.shown_logprobs(self.logprobs),
            "finish_reason": self.finish_reason or "stop",
        }

    def shown_logprobs(self, found: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return OpenAI's logprobs object of some tokens, None when none was asked for."""
        return {"content": found, "refusal": None} if self.with_logprobs else None


@dataclass(slots=True)
class Reply:
    """The answer to a request, and its two shapes."""

    wanted: ChatRequest
    fingerprint: str
    """Names the weights: see `fingerprint` in routes/chat.py."""
    id: str = field(default_factory=lambda: new_id("chatcmpl-", 29))
    created: int = field(default_factory=lambda: int(time.time()))
    choices: list[Choice] = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.wanted
        self.choices = [
            Choice(index, ToolText() if wanted.tools else None, wanted.top_logprobs is not None)
            for index in range(wanted.replies)
        ]

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's usage object."""
        prompt = max(choice.prompt_tokens for choice in self.choices)
        written = sum(choice.completion_tokens for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}

    def shape(self) -> dict[str, Any]:
        """Return OpenAI's chat completion object."""
        choices = [choice.shape() for choice in self.choices]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.wanted.model,
            "system_fingerprint": self.fingerprint,
        }

    def pieces(self, index: int, chunk: GenerationChunk) -> list[dict[str, Any]]:
        """Take in a chunk of one choice and return the chunk objects to send for it."""
        choice = self.choices[index]
        shown = choice.add(chunk)
        told = [self.piece(index, {"content": shown}, logprobs=choice.shown_logprobs(chunk.logprobs))]
        if choice.calls:
            calls = [{"index": number, **call} for number, call in enumerate(choice.calls)]
            told.append(self.piece(index, {"tool_calls": calls}))
        return told

    def piece(
        self,
        index: int,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return one chunk object of the stream; `usage` is null in all but the last when usage was asked for."""
        choice = {
            "index": index,
            "delta": dict(delta),
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        shown = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**shown, "usage": None} if self.wanted.include_usage else shown

    def usage_piece(self) -> dict[str, Any]:
        """Return the last chunk object of a stream with usage: no choices, all counts."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}
