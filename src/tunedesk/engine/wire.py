"""OpenAI's conventions on the wire: its error form, typed reading of request fields, pages of a list."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

Item = TypeVar("Item")
_ALPHABET = string.ascii_letters + string.digits


class ApiError(Exception):
    """A request that is answered with an error in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """Return the JSON body: all four members are always there, as the specification demands."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to be written by a model."""

    base: Path
    """The folder of the base model; the default model's may not be there yet and is fetched."""
    adapter: Path | None
    """The folder of the adapter in PEFT layout, None for the base model alone."""
    messages: list[dict[str, Any]]
    """OpenAI's messages, each content a text or None."""
    tools: list[dict[str, Any]]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: list[str]
    """Texts before which the reply ends."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that was written."""
    frequency_penalty: float = 0.0
    """The same, times how often it was written."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""
    top_logprobs: int | None = None
    """How many likely tokens to tell beside each that was written; None: no chances at all."""


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """A piece of a reply; the last one has a finish reason."""

    text: str
    finish_reason: str | None
    """None, "stop" or "length"."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens of the reply so far."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """OpenAI's objects {token, logprob, bytes, top_logprobs} of the tokens since the last chunk, where asked for."""


class Generator(Protocol):
    """What writes replies. A wrong request is a ValueError with words for the user, a broken model an EngineError."""

    def stream(self, request: GenerationRequest) -> Iterator[GenerationChunk]:
        """Yield the reply as it is written; blocking, run in one thread to its end or to its close()."""


def new_id(prefix: str, length: int = 24) -> str:
    """Return a fresh identifier: `prefix` and `length` random letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def decode_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`.

    Raises ApiError 400 for anything else: bad UTF-8, lone surrogates, NaN, nesting too deep to decode.
    """
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            400,
            "We could not parse the JSON body of your request: it must be one valid JSON object.",
            code="invalid_json",
        ) from error
    if not isinstance(value, dict):
        raise ApiError(400, "The JSON body of your request must be an object.", code="invalid_json")
    return value


@dataclass(frozen=True, slots=True)
class Fields:
    """Typed reading of one JSON object of a request; null counts as absent, as in OpenAI's API."""

    body: Mapping[str, Any]
    """The decoded object."""
    path: str = ""
    """Where the object lies in the request, for `param` of an error: empty or `method.supervised.`"""

    def _wrong(self, name: str, problem: str, code: str = "invalid_type") -> ApiError:
        return ApiError(400, f"Invalid '{self.path}{name}': {problem}.", param=self.path + name, code=code)

    def only(self, known: Collection[str]) -> None:
        """Raise ApiError when the object holds a member that is not in `known`."""
        for name in self.body:
            if name not in known:
                shown = self.path + name[:64]
                raise ApiError(
                    400,
                    f"Unrecognized request argument supplied: {shown}",
                    param=shown,
                    code="unknown_parameter",
                )

    def required(self, name: str) -> Any:
        """Return a member that must be there and not null."""
        if (value := self.body.get(name)) is None:
            raise ApiError(
                400,
                f"Missing required parameter: '{self.path}{name}'.",
                param=self.path + name,
                code="missing_required_parameter",
            )
        return value

    def text(self, name: str, *, most: int = 4096, least: int = 0, needed: bool = False) -> str | None:
        """Return a string member of `least` to `most` characters, None when absent and not `needed`."""
        value = self.required(name) if needed else self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(name, "expected a string")
        if not least <= len(value) <= most:
            raise self._wrong(name, f"expected {least} to {most} characters", "string_length_out_of_range")
        return value

    def needed_text(self, name: str, *, most: int = 4096) -> str:
        """Return a string member that must be there and not empty."""
        value = self.text(name, most=most, least=1, needed=True)
        assert value is not None  # `needed` raises
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return a required string member that is one of `choices`."""
        value = self.needed_text(name, most=1000)
        if value not in choices:
            raise self._wrong(name, f"expected one of {', '.join(choices)}", "invalid_value")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number from `low` to `high`, None when absent."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 3.0 is an integer in JSON Schema
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "expected an integer")
        if not low <= value <= high:
            raise self._wrong(name, f"expected a value from {low} to {high}", "integer_out_of_range")
        return value

    def number(self, name: str, low: float, high: float, *, above: bool = False) -> float | None:
        """Return a number from `low` (excluded when `above`) to `high`, None when absent."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(name, "expected a number")
        if not low <= value <= high or (above and value == low):  # no comparison with NaN holds
            raise self._wrong(name, f"expected a value from {low} to {high}", "number_out_of_range")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return a boolean member, False when absent."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "expected a boolean")
        return bool(value)

    def nested(self, name: str) -> Fields:
        """Return the members of an object member; an absent one reads as empty."""
        value = self.body.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(name, "expected an object")
        return Fields(value, f"{self.path}{name}.")

    def array(self, name: str, *, most: int) -> list[Any]:
        """Return an array member of at most `most` items; an absent one reads as empty."""
        value = self.body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "expected an array")
        if len(value) > most:
            raise self._wrong(name, f"expected at most {most} items", "array_above_max_length")
        return value

    def metadata(self) -> dict[str, str] | None:
        """Return the `metadata` member: at most 16 pairs, keys to 64 and values to 512 characters."""
        if self.body.get("metadata") is None:
            return None
        pairs = self.nested("metadata").body
        if len(pairs) > 16:
            raise self._wrong("metadata", "expected at most 16 pairs", "object_above_max_properties")
        for key, value in pairs.items():
            if not isinstance(value, str):
                raise self._wrong("metadata", "expected values that are strings")
            if len(key) > 64 or len(value) > 512:
                raise self._wrong(
                    "metadata", "keys are 64 and values 512 characters at most", "string_above_max_length"
                )
        return dict(pairs)

    def keep_seconds(self) -> int | None:
        """Return the seconds of `expires_after` (1 hour to 30 days after creation), None for ever."""
        if self.body.get("expires_after") is None:
            return None
        policy = self.nested("expires_after")
        policy.choice("anchor", ("created_at",))
        policy.required("seconds")
        return policy.integer("seconds", 3600, 2592000)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is asked for."""

    limit: int
    """The most items to answer."""
    after: str | None
    """The id of the last item of the page before, None for the first page."""


def page_request(query: Mapping[str, str], *, default: int, most: int = 10_000) -> PageRequest:
    """Read `limit` and `after` of a query string; raises ApiError 400 when `limit` is over `most` or no number.

    A limit of 0, which OpenAI's own tests send, asks only whether there is anything: no cursor is looked up for it.
    """
    text = query.get("limit")
    limit = default
    if text is not None:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ApiError(
                400, "Invalid 'limit': expected a whole number.", param="limit", code="invalid_type"
            )
        limit = int(text)
    if limit > most:
        message = f"Invalid 'limit': expected a value from 0 to {most}."
        raise ApiError(400, message, param="limit", code="integer_out_of_range")
    return PageRequest(limit, query.get("after") or None if limit else None)


def page(found: Sequence[Item], limit: int, shape: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """Return a list object of the first `limit` of `found`, which may hold one more to tell `has_more`.

    An empty list has "" as its ids: the specification gives no legal null there.
    """
    data = [shape(item) for item in found[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": len(found) > limit,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
    }
