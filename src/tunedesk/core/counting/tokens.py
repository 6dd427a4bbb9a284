"""Token counts: tiktoken's, exact and offline, by the API's chat rule.

The rank files travel in the package (`encodings/*.xz`: the tokens in rank order, each with its length before it)
and are rebuilt byte for byte into a cache folder that tiktoken reads and checks by sha256: nothing is downloaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import statistics
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import tiktoken

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.counting.text_counts import count_text
from tunedesk.core.datasets.indexing import messages_of
from tunedesk.core.fine_tuning import base_model
from tunedesk.errors import DataError
from tunedesk.paths import write_whole

DEFAULT_LIMIT = 65_536
"""Tokens an example may have where nothing else is known (OpenAI's limit for gpt-4o and gpt-4.1)."""

_FILES = {
    "cl100k_base": (
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    ),
    "o200k_base": (
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "fb374d419588a4632f3f557e76b4b70aebbca790",
    ),
}
"""Encoding → sha256 of its rank file, and the name tiktoken gives it in its cache (sha1 of the file's URL)."""

_BY_PREFIX = (
    ("gpt-oss-", "o200k_harmony"),
    ("gpt-4o", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
)
"""First match wins. tiktoken's own table is wrong for `ft:gpt-4.1…`, hence this one."""

_LIMITS = (("gpt-3.5-turbo-0613", 4_096), ("gpt-3.5", 16_385), ("smollm2", 8_192))


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which encoding counts for a model."""

    name: str
    note: str = ""
    """Why the count is an estimate; empty when the model's encoding is known."""


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Tokens of a set of conversations by the API's chat rule."""

    conversations: int
    total: int
    minimum: int
    median: float
    p95: int
    maximum: int
    trained_per_epoch: int
    """Tokens of the messages that the loss mask trains on, one epoch."""
    billed_per_epoch: int
    """Tokens of one epoch, each conversation cut at the model's limit."""
    over_limit: int
    """Conversations longer than the limit."""
    limit: int


def encoding_for(model: str) -> Encoding:
    """Return the encoding that counts for `model`, with a note when it is only the nearest known one."""
    base = base_model(model).lower()
    for prefix, name in _BY_PREFIX:
        if base.startswith(prefix):
            return Encoding(name)
    return Encoding(
        "o200k_base", f"{model or 'this model'} has no published encoding here: counted with o200k_base"
    )


def is_hosted(model: str) -> bool:
    """Return whether `model` is known to run at its vendor's endpoint alone, never on this machine."""
    return not encoding_for(model).note and not base_model(model).lower().startswith("gpt-oss")


def limit_for(model: str) -> int:
    """Return how many tokens one example may have for `model` (facts: OpenAI's guides; 65,536 where unknown)."""
    base = base_model(model).lower()
    return next((limit for prefix, limit in _LIMITS if base.startswith(prefix)), DEFAULT_LIMIT)


_loading = threading.Lock()


@lru_cache(maxsize=4)
def load(name: str, cache: Path) -> tiktoken.Encoding:
    """Return tiktoken's encoding `name`, its rank file first rebuilt in `cache` when absent (0.2 to 0.5 s).

    A cache folder set by the user (`TIKTOKEN_CACHE_DIR`) is used when it holds the file. Raises DataError for an
    unknown encoding or a damaged package.
    """
    file = "o200k_base" if name == "o200k_harmony" else name
    if file not in _FILES:
        raise DataError(f"no encoding named {name!r}", f"use one of {', '.join(_FILES)} or o200k_harmony")
    sha256, cached_name = _FILES[file]
    own = os.environ.get("TIKTOKEN_CACHE_DIR")
    folder = Path(own) if own and (Path(own) / cached_name).exists() else cache / "tiktoken"
    if folder != Path(own or ""):
        _unpack(file, folder / cached_name, sha256)
    with _loading:
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            return tiktoken.get_encoding(name)
        finally:
            if own is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = own


def _unpack(name: str, target: Path, sha256: str) -> None:
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
        return
    packed = lzma.decompress(
        resources.files("tunedesk.core.counting").joinpath(f"encodings/{name}.xz").read_bytes()
    )
    lines, at, rank = [], 0, 0
    while at < len(packed):
        length = packed[at]
        at += 1
        if length == 255:  # longer tokens: two more bytes, little-endian
            length = int.from_bytes(packed[at : at + 2], "little")
            at += 2
        lines.append(base64.b64encode(packed[at : at + length]) + b" %d\n" % rank)
        at, rank = at + length, rank + 1
    data = b"".join(lines)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"the packed encoding {name} is damaged", "install tunedesk again")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(target, data)


class TokenCounter:
    """Counts texts, messages and rows in one encoding; repeated texts are encoded once."""

    def __init__(self, model: str, cache: Path) -> None:
        """Count for `model`; nothing is loaded yet."""
        self.model = model
        self._cache = cache
        self.encoding = encoding_for(model)
        self.limit = limit_for(model)
        self._per_function = 10 if self.encoding.name == "cl100k_base" else 7
        self._known: dict[str, int] = {}

    @cached_property
    def tiktoken(self) -> tiktoken.Encoding:
        """The encoding (see `load`), loaded for the first text: 70 MB and 0.3 s that counts on disk do without."""
        return load(self.encoding.name, self._cache)

    def text(self, text: str) -> int:
        """Return the tokens of `text`, special tokens read as ordinary text; never raises on any string."""
        known = self._known.get(text)
        if known is None:
            known = count_text(self.tiktoken, text)
            if len(self._known) > 200_000:
                self._known.clear()
            if len(text) < 4_096:
                self._known[text] = known
        return known

    def message(self, message: dict[str, Any]) -> int:
        """Return the tokens of one message: 3, its role, content and calls, its name + 1 (OpenAI cookbook's rule)."""
        content = self.text(content_text(message.get("content")))
        return 3 + self.text(str(message.get("role", ""))) + content + self.extra(message)

    def extra(self, message: dict[str, Any]) -> int:
        """Return the tokens of a message beside its role and content: its name + 1, its calls."""
        total = 0
        if isinstance(message.get("name"), str):
            total += self.text(message["name"]) + 1
        for key in ("tool_calls", "function_call"):
            if message.get(key):
                total += self.text(json.dumps(message[key], ensure_ascii=False))
        if isinstance(message.get("tool_call_id"), str):
            total += self.text(message["tool_call_id"])
        return total

    def row(self, row: Row) -> int:
        """Return the tokens of a whole conversation: its messages, its tools, and 3 for the reply.

        A preference row counts with its input and both its answers (no rule is published for those).
        """
        messages = [message for message in messages_of(row) if isinstance(message, dict)]
        if not messages and not isinstance(row.get("messages"), list):
            return 0
        return 3 + sum(map(self.message, messages)) + self.tools(row.get("tools"))

    def trained(self, row: Row) -> int:
        """Return the tokens that the loss mask trains on: contents and calls of assistant messages, weight not 0.

        Of a preference row, those of both answers.
        """
        messages = messages_of(row)
        prompt = row.get("input")
        if "messages" not in row and isinstance(prompt, dict):
            messages = messages[len(prompt.get("messages") or ()) :]
        return sum(
            self.message(m) - 3 - self.text("assistant")
            for m in messages
            if isinstance(m, dict) and m.get("role") == "assistant" and m.get("weight") != 0
        )

    def tools(self, tools: object) -> int:
        """Return the tokens of a row's tool definitions (OpenAI cookbook's rule), 0 for none."""
        functions = [
            tool["function"]
            for tool in (tools if isinstance(tools, list) else ())
            if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
        ]
        return (12 + sum(self._function(function) for function in functions)) if functions else 0

    def _function(self, function: dict[str, Any]) -> int:
        described = f"{function.get('name', '')}:{_undotted(function.get('description'))}"
        total = self._per_function + self.text(described)
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        if not isinstance(properties, dict) or not properties:
            return total
        total += 3
        for key, value in properties.items():
            if not isinstance(value, dict):
                continue
            total += 3 + self.text(f"{key}:{value.get('type', '')}:{_undotted(value.get('description'))}")
            if isinstance(value.get("enum"), list):
                total += sum(3 + self.text(str(item)) for item in value["enum"]) - 3
        return total

    def stats(self, rows: Iterable[Row]) -> TokenStats:
        """Count all `rows` and return their statistics; all zeros for no rows."""
        counts, trained = [], 0
        for row in rows:
            counts.append(self.row(row))
            trained += self.trained(row)
        return stats_of(counts, trained, self.limit)


def stats_of(counts: list[int], trained: int, limit: int) -> TokenStats:
    """Return the statistics of per-conversation `counts`, with `trained` tokens an epoch and the example `limit`."""
    ordered = sorted(counts)
    if not ordered:
        return TokenStats(0, 0, 0, 0.0, 0, 0, 0, 0, 0, limit)
    return TokenStats(
        conversations=len(ordered),
        total=sum(ordered),
        minimum=ordered[0],
        median=statistics.median(ordered),
        p95=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        maximum=ordered[-1],
        trained_per_epoch=trained,
        billed_per_epoch=sum(min(limit, count) for count in ordered),
        over_limit=sum(count > limit for count in ordered),
        limit=limit,
    )


def _undotted(description: object) -> str:
    return str(description or "").removesuffix(".")
