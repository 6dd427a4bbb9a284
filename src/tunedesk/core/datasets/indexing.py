"""What the list and the search know about a row: facts drawn from it once; chunk_builder.py makes columns of them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunedesk.core.conversations import ROW_KEYS, Row, content_text

CHUNK_ROWS = 65_536
"""Most rows of one chunk."""
MESSAGE_BREAK = "\n\x1e\n"
"""Between two messages of one role: neither a literal, `.` nor a run of white space in a pattern gets across."""
ITEM_BREAK = "\x1f"
"""Between the items of a list in one coded value."""
PREVIEW_CHARACTERS = 120
MAX_FIELDS = 128
"""Metadata keys indexed in one chunk; a file with keys that are ids would otherwise make a column a row."""

HAS_TOOLS, USER_WIDE, ASSISTANT_WIDE, TOOL_WIDE = 1, 2, 4, 8
"""Bits of the `flags` column; wide text holds characters beyond ASCII."""
TEXT_ROLES = {"user": USER_WIDE, "assistant": ASSISTANT_WIDE, "tool": TOOL_WIDE}
_INTENT_KEYS = ("intent", "category", "label")
TAG_KEYS = ("tags", "tag")
"""Metadata keys of which the first that a row has holds its tags."""
FIELD_PREFIX = "m:"
"""Columns of metadata keys are named by this and the key."""


def fold(text: str) -> str:
    """Return `text` as it is compared in searches: case-folded, composed accents (NFC); queries are folded alike."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", text.casefold())


@dataclass(slots=True)
class RowFacts:
    """What is indexed of one row."""

    turns: int = 0
    """Messages, the system prompt included."""
    systems: int = 0
    """System and developer messages among them."""
    chars: int = 0
    """Characters of all message texts."""
    flags: int = 0
    """Only HAS_TOOLS; what is wide is told when texts are folded."""
    roles: str = ""
    """First letters of the roles in order, such as `suaua`."""
    preview: str = ""
    user: str = ""
    """Text of all messages of the role, joined by `MESSAGE_BREAK`, as the other three."""
    assistant: str = ""
    tool: str = ""
    """Tool results, tool calls and roles of any other name."""
    system: str = ""
    intent: str = ""
    tags: str = ""
    """Tags joined by `ITEM_BREAK`, as all list values."""
    fields: dict[str, str] = field(default_factory=dict)
    """Metadata by key; nested keys are joined by a dot."""


def messages_of(row: Row) -> list[Any]:
    """Return all messages of a row: a conversation's own, or a preference row's input, preferred and other answer."""
    messages = row.get("messages")
    if isinstance(messages, list):
        return messages
    prompt = row.get("input")
    found: list[Any] = []
    if isinstance(prompt, dict) and isinstance(prompt.get("messages"), list):
        found += prompt["messages"]
    for key in ("preferred_output", "non_preferred_output"):
        if isinstance(row.get(key), list):
            found += row[key]
    return found


def row_facts(row: Row) -> RowFacts:
    """Draw the facts of a row; whatever has no usable shape counts as absent."""
    system, user, assistant, tool = _texts(row, facts := RowFacts())
    shown = user or assistant or system
    if shown:
        facts.preview = preview(shown[0])
    facts.systems = len(system)
    facts.system = MESSAGE_BREAK.join(system)
    facts.user = MESSAGE_BREAK.join(user)
    facts.assistant = MESSAGE_BREAK.join(assistant)
    facts.tool = MESSAGE_BREAK.join(tool)
    flags = HAS_TOOLS if tool else 0
    if len(row) > 1:
        if row.get("tools") or row.get("functions"):
            flags |= HAS_TOOLS
        _add_metadata(row, facts)
    facts.flags = flags
    return facts


def preview(text: str) -> str:
    """Return the first characters of a text, each run of white space as one space."""
    head = text[: PREVIEW_CHARACTERS + 40]
    # Most heads are already what they shall become: of all white space, only the single space is printable.
    if head[:1] != " " and "  " not in head and head.isprintable():
        return head[:PREVIEW_CHARACTERS] if len(head) > PREVIEW_CHARACTERS else head.rstrip()
    words = " ".join(head.split())
    if len(words) < PREVIEW_CHARACTERS and len(text) > len(head):
        words = " ".join(text[: 4 * PREVIEW_CHARACTERS].split())
    return words[:PREVIEW_CHARACTERS]


def _texts(row: Row, facts: RowFacts) -> tuple[list[str], list[str], list[str], list[str]]:
    """Return the texts of system, user, assistant and tool in order; note turns, roles and characters in `facts`."""
    system: list[str] = []
    user: list[str] = []
    assistant: list[str] = []
    tool: list[str] = []
    initials = []
    chars = 0
    for message in messages_of(row):
        if not isinstance(message, dict):
            continue
        role, content = message.get("role"), message.get("content")
        text = content if isinstance(content, str) else content_text(content)
        if len(message) > 2 or isinstance(content, list):
            text = "\n".join(filter(None, (text, *_refusals(message))))
        chars += len(text)
        if role == "user":
            user.append(text)
        elif role == "assistant":
            assistant.append(text)
        elif role in ("system", "developer"):
            system.append(text)
        else:
            tool.append(text)
        initials.append(role[0] if isinstance(role, str) and role else "?")
        if content is None or len(message) > 2:
            tool += _calls(message)
    facts.chars = chars
    facts.turns = len(initials)
    facts.roles = "".join(initials)
    return system, user, assistant, tool


def _refusals(message: dict[str, Any]) -> Iterator[str]:
    """Yield what a message refuses with, beside its content or as a part of it."""
    content = message.get("content")
    for one in (message, *(content if isinstance(content, list) else ())):
        if isinstance(one, dict) and isinstance(one.get("refusal"), str):
            yield one["refusal"]


def _calls(message: dict[str, Any]) -> Iterator[str]:
    """Yield name and arguments of every tool call of a message."""
    if "tool_calls" not in message and "function_call" not in message:
        return
    calls = message.get("tool_calls")
    functions = [c.get("function") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
    for function in [*functions, message.get("function_call")]:
        if isinstance(function, dict):
            yield f"{function.get('name', '')} {function.get('arguments', '')}"


def _add_metadata(row: Row, facts: RowFacts) -> None:
    fields = facts.fields
    for key, value in row.items():
        if key == "metadata" and isinstance(value, dict):
            fields.update(flat(value))
        elif key not in ROW_KEYS and isinstance(value, str | int | float):
            fields.setdefault(key, _value(value))
    facts.intent = intent_of(fields, other_cases(fields))
    for key in TAG_KEYS:
        if key in fields:
            facts.tags = fields.pop(key)
            break


def other_cases(keys: Iterable[str]) -> list[str]:
    """Return those of some metadata keys that are an intent's but for their case, in the order of trust."""
    found = [key for key in keys if key not in _INTENT_KEYS and key.lower() in _INTENT_KEYS]
    return sorted(found, key=lambda key: _INTENT_KEYS.index(key.lower()))


def intent_of(fields: Mapping[str, str], others: Sequence[str] = ()) -> str:
    """Return what a row is about, by the first of the keys that people keep it under, then of `others`."""
    told = fields.get("intent") or fields.get("category") or fields.get("label") or ""
    return told or next((fields[key] for key in others if fields.get(key)), "")


def flat(values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return metadata as texts by key; keys one level below are joined by a dot. May return `values` itself."""
    for value in values.values():
        if type(value) is not str or ITEM_BREAK in value:
            found: dict[str, str] = {}
            _flatten(values, "", found)
            return found
    return values


def _flatten(values: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and not prefix:
            _flatten(value, f"{key}.", into)
        elif value is not None:
            into[prefix + key] = _value(value)


def _value(value: object) -> str:
    if isinstance(value, str):
        return value.replace(ITEM_BREAK, " ")
    if type(value) is int:
        return str(value)
    if isinstance(value, list):
        return ITEM_BREAK.join(dict.fromkeys([_value(item) for item in value if item is not None]))
    return json.dumps(value, ensure_ascii=False)
