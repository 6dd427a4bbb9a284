"""A conversation as OpenAI's training row has it, in and out.

The row, a plain dictionary, is the truth: datasets keep it whole, checks.py judges it. `Message` and
`Conversation` are the typed view for code that shows, renders or counts a row whose shape is known to be good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

Row = dict[str, Any]
"""One decoded JSON object of a dataset, in OpenAI's shape."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row, and where it stood in the file it was read from."""

    line: int
    """Physical line of the source (1-based), the first one when the row spans several; a file's place in a folder."""
    row: Row


ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ROW_KEYS = ("messages", "tools", "parallel_tool_calls", "functions")
"""Keys of a row that the API takes (spec/chat-row.schema.json); all others stay in the store."""
MESSAGE_KEYS = (
    "role",
    "content",
    "name",
    "weight",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
)


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    weight: int | float | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """What the message says: its string, or the text of its content parts joined by newlines."""
        return content_text(self.content)

    @property
    def trained(self) -> bool:
        """Whether the loss mask trains on this message: the assistant's, unless its weight is 0."""
        return self.role == "assistant" and self.weight != 0


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One conversation: the API's keys, and metadata that never leaves the machine."""

    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] = {}

    @property
    def system_prompt(self) -> str:
        """Text of the first system (or developer) message, or an empty string."""
        for message in self.messages:
            if message.role in ("system", "developer"):
                return message.text
        return ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last assistant message: what a model is asked in a comparison."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "assistant":
                return self.messages[:index]
        return self.messages

    @property
    def reference(self) -> str:
        """The last assistant message's text: the answer that people wrote, or an empty string."""
        for message in reversed(self.messages):
            if message.role == "assistant":
                return message.text
        return ""


def content_text(content: object) -> str:
    """Return the text of a message's content: a string as it is, text parts joined by newlines, nothing else."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def from_row(row: Row) -> Conversation:
    """Build a conversation from a decoded row; raises msgspec.ValidationError when its shape is not OpenAI's."""
    return msgspec.convert(row, Conversation)


def to_row(conversation: Conversation, *, keep_metadata: bool = False) -> Row:
    """Return the row that is uploaded (only the API's keys), or with `metadata` when asked to keep it."""
    row: Row = msgspec.to_builtins(conversation)
    if not keep_metadata:
        row.pop("metadata", None)
    return row


def upload_row(row: Row) -> Row:
    """Return `row` with only the keys that the API takes, as they were."""
    return {key: row[key] for key in ROW_KEYS if key in row}


def encode_row(row: Row) -> bytes:
    """Return one line of JSONL (UTF-8, no newline), the same bytes for the same row on any machine."""
    return msgspec.json.encode(row)


def with_system_prompt(row: Row, prompt: str) -> Row:
    """Return `row` with its system prompt replaced (or put first); an empty prompt removes it."""
    messages = [
        m
        for m in row.get("messages", ())
        if not (isinstance(m, dict) and m.get("role") in ("system", "developer"))
    ]
    if prompt:
        messages.insert(0, {"role": "system", "content": prompt})
    return {**row, "messages": messages}
