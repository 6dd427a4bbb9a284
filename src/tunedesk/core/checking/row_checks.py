"""Faults of one row: its shape, roles, weights and tool calls against the API's schema and what a trainer needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tunedesk.core.checking.file_checks import is_lone, texts_of
from tunedesk.core.checking.findings import Finding, finding
from tunedesk.core.checking.text_checks import text_faults
from tunedesk.core.checking.tool_checks import Messages, role_of, tool_faults
from tunedesk.core.conversations import MESSAGE_KEYS, ROLES, ROW_KEYS

_KNOWN_ROW = frozenset((*ROW_KEYS, "metadata"))
_KNOWN_MESSAGE = frozenset((*MESSAGE_KEYS, "audio"))
_PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "tool": ("text",),
    "assistant": ("text", "refusal"),
    "user": ("text", "image_url", "input_audio", "file"),
}
_SYSTEM = ("system", "developer")
PREFERENCE_KEYS = ("input", "preferred_output", "non_preferred_output")
"""Keys of a preference row."""
_KNOWN_PREFERENCE = frozenset((*PREFERENCE_KEYS, "metadata"))
_MESSAGE_LISTS = frozenset(("messages", "preferred_output", "non_preferred_output"))
_MOST_IMAGES = 10
_LARGEST_IMAGE = 10 << 20
_IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DETAILS = ("auto", "low", "high")
_SOUNDS = ("wav", "mp3")
_NAME = re.compile(r"[^\s<|\\/>]{1,64}")
"""Names of messages that the chat API takes, by its own error message."""
INPUT_KEYS = ("messages", "tools", "parallel_tool_calls")
"""Keys of what a preference row asks."""


def check_row(row: object, line: int) -> Iterator[Finding]:
    """Yield every finding that `row` alone shows, in the order of its messages."""
    if not isinstance(row, dict):
        yield finding("not_object", line, None)
        return
    if "preferred_output" in row or "non_preferred_output" in row:
        yield from _preference(row, line)
        return
    messages = row.get("messages")
    unknown = [str(key) for key in row if key not in _KNOWN_ROW]
    if unknown:
        whole = isinstance(messages, list) and bool(messages)
        yield finding("unknown_key", line, None, ", ".join(unknown[:5]), fixable=whole)
    if not isinstance(messages, list) or not messages:
        yield finding("no_messages", line, None)
        return
    for place, message in enumerate(messages):
        yield from _message(message, line, place, messages)
    if _images(messages) > _MOST_IMAGES:
        yield finding("image_invalid", line, None, f"there are {_images(messages)}")
    yield from _order(messages, line)
    yield from _weights(messages, line)
    yield from tool_faults(row, messages, line)


def every_message(row: dict[str, Any]) -> Messages:
    """Return all that stands where a message should, in a preference row's three parts, too."""
    asked = row.get("input")
    parts: list[object] = [row.get("messages"), asked.get("messages") if isinstance(asked, dict) else None]
    parts += [row.get("preferred_output"), row.get("non_preferred_output")]
    return [message for part in parts if isinstance(part, list) for message in part]


def hidden_faults(row: dict[str, Any], line: int) -> Iterator[Finding]:
    """Yield NUL and halves of surrogate pairs outside what is said: in names, arguments, keys, other fields."""
    messages = every_message(row)
    for place, message in enumerate(messages):
        yield from _hidden(_unsaid(message) if isinstance(message, dict) else message, line, place)
    asked = row.get("input")
    rest: dict[str, Any] = {**row, **dict.fromkeys(_MESSAGE_LISTS & row.keys())}
    yield from _hidden(
        {**rest, "input": {**asked, "messages": None} if isinstance(asked, dict) else asked}, line, None
    )


def _unsaid(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without the texts that `_content` looks at."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    other = [{**part, "text": ""} if isinstance(part, dict) else part for part in parts]
    return {**message, "content": other}


def _hidden(value: object, line: int, place: int | None) -> Iterator[Finding]:
    texts = list(texts_of(value))
    if any("\0" in text for text in texts):
        yield finding("nul", line, place, "outside the content")
    if any(map(is_lone, texts)):
        yield finding("lone_surrogate", line, place, "outside the content")


def _preference(row: dict[str, Any], line: int) -> Iterator[Finding]:
    unknown = [str(key) for key in row if key not in _KNOWN_PREFERENCE]
    if unknown:
        yield finding("unknown_key", line, None, ", ".join(unknown[:5]))
    asked = row.get("input")
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or not isinstance(messages, list) or not messages:
        yield finding("preference_invalid", line, None, "input has no messages")
        return
    unknown = [f"input.{key}" for key in asked if key not in INPUT_KEYS]
    if unknown:
        yield finding("unknown_key", line, None, ", ".join(unknown[:5]))
    sides = [row.get("preferred_output"), row.get("non_preferred_output")]
    for name, side in zip(PREFERENCE_KEYS[1:], sides, strict=True):
        if not isinstance(side, list) or len(side) != 1 or role_of(side[0]) != "assistant":
            yield finding("preference_invalid", line, None, f"{name} is not one assistant message")
            return
    if _stripped(sides[0]) == _stripped(sides[1]):
        yield finding("preference_same", line, None)
    yield from _compared(asked, messages, [side[0] for side in sides if side], line)


def _stripped(side: Any) -> dict[str, Any]:
    """Return the answer of a side of a preference row without the blanks around its text."""
    content = side[0].get("content")
    return {**side[0], "content": content.strip() if isinstance(content, str) else content}


def _compared(asked: dict[str, Any], messages: Messages, answers: Messages, line: int) -> Iterator[Finding]:
    """Yield the faults of a prompt's messages and of the two answers, which are counted on from them."""
    everything = [*messages, *answers]
    for place, message in enumerate(everything):
        yield from _message(message, line, place, everything)
        if any(kind not in ("text", "refusal") for kind in _kinds(message)):
            yield finding("preference_invalid", line, place, "images, audio and files are not taken")
    yield from _asked_order(messages, line)
    yield from tool_faults(asked, [*messages, answers[0]], line)
    for one in tool_faults(asked, [*messages, answers[1]], line):
        if one.message == len(messages):
            yield replace(one, message=one.message + 1)


def _asked_order(messages: Messages, line: int) -> Iterator[Finding]:
    """Yield what is wrong with the order of a preference row's prompt, which the two answers follow."""
    roles = [role_of(message) for message in messages]
    if roles[-1] == "assistant":
        yield finding("preference_invalid", line, len(roles) - 1, "input ends with an answer already")
    if "user" not in roles:
        yield finding("no_user", line, None)


def _message(message: object, line: int, place: int, messages: Messages) -> Iterator[Finding]:
    if not isinstance(message, dict):
        yield finding("message_invalid", line, place)
        return
    role = message.get("role")
    if role not in ROLES:
        yield finding("role_unknown", line, place, repr(role)[:40] if "role" in message else "missing")
    unknown = [str(key) for key in message if key not in _KNOWN_MESSAGE]
    if unknown:
        yield finding("unknown_key", line, place, ", ".join(unknown[:5]), fixable=is_known(message))
    for key in ("name", "refusal", "tool_call_id"):
        value = message.get(key)
        if key in message and not isinstance(value, str) and not (value is None and key == "refusal"):
            yield finding("field_invalid", line, place, f"{key} is not text")
    name = message.get("name")
    if isinstance(name, str) and not _NAME.fullmatch(name):
        yield finding("name_refused", line, place, repr(name)[:60])
    if "weight" in message:
        yield from _weight(message, line, place)
    yield from _content(message, line, place, messages)


def is_known(message: dict[str, Any]) -> bool:
    """Return whether a message is the API's but for further keys, so that nothing said is lost without those."""
    return role_of(message) in ROLES and any(
        key in message for key in ("content", "tool_calls", "function_call")
    )


def _weight(message: dict[str, Any], line: int, place: int) -> Iterator[Finding]:
    weight = message["weight"]
    if role_of(message) != "assistant":
        yield finding("weight_not_assistant", line, place)
    elif type(weight) is not int or weight not in (0, 1):
        yield finding("weight_invalid", line, place, repr(weight)[:40], fixable=is_weight_like(weight))


def is_weight_like(weight: object) -> bool:
    """Return whether `weight` surely means 0 or 1: true, false, 1.0, 0.0."""
    return isinstance(weight, bool | float) and weight in (0, 1)


def _content(message: dict[str, Any], line: int, place: int, messages: Messages) -> Iterator[Finding]:
    content, role = message.get("content"), role_of(message)
    acts = bool(
        message.get("tool_calls")
        or message.get("function_call")
        or message.get("refusal")
        or message.get("audio")
    )
    if content is None:
        if not (role == "assistant" and acts) and not (role == "function" and "content" in message):
            yield finding("content_missing", line, place)
    elif isinstance(content, list) and role != "function":
        yield from _parts(content, role, line, place)
    elif not isinstance(content, str):
        yield finding("content_invalid", line, place, f"it is {type(content).__name__}")
    else:
        yield from _text(content, message, acts, line, place, messages)


def _text(
    content: str, message: dict[str, Any], acts: bool, line: int, place: int, messages: Messages
) -> Iterator[Finding]:
    role = role_of(message)
    if not content.strip() and role not in ("tool", "function") and not (role == "assistant" and acts):
        code = "content_blank" if content else "content_empty"
        yield finding(code, line, place, fixable=can_drop(messages, place))
    for code, detail in text_faults(content, role):
        yield finding(code, line, place, detail)


def can_drop(messages: Messages, place: int) -> bool:
    """Return whether the empty message at `place` may go: the system's, or one of a tail that leaves an answer last."""
    role = role_of(messages[place])
    if role in _SYSTEM:
        return True
    answers = [i for i, m in enumerate(messages) if role_of(m) == "assistant" and _says(m)]
    return bool(answers) and place > answers[-1]


def _says(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return bool(content.strip() if isinstance(content, str) else content) or bool(message.get("tool_calls"))


def _parts(parts: list[Any], role: str, line: int, place: int) -> Iterator[Finding]:
    if not parts:
        yield finding("content_empty", line, place, fixable=False)
    elif role not in ("tool", "function") and all(_is_blank(part) for part in parts):
        yield finding("content_blank", line, place, fixable=False)
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if role == "assistant" and kind == "image_url":
            yield finding("image_in_assistant", line, place)
        elif not isinstance(kind, str) or kind not in _PARTS.get(role, _PARTS["user"]):
            yield finding("content_invalid", line, place, f"a part of type {str(kind)[:40]!r}")
        elif not _is_whole(part, kind):
            yield finding("content_invalid", line, place, f"a part of type {kind!r} without its {kind}")
        elif kind == "text":
            for code, detail in text_faults(part["text"], role):
                yield finding(code, line, place, detail)
        elif kind == "image_url" and (fault := _image_fault(part["image_url"]["url"])):
            yield finding("image_invalid", line, place, fault)


def _is_blank(part: object) -> bool:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    return isinstance(text, str) and not text.strip()


def _is_whole(part: dict[str, Any], kind: str) -> bool:
    """Return whether a content part has what its type needs."""
    inner = part.get(kind)
    if kind == "image_url":
        return (
            isinstance(inner, dict)
            and isinstance(inner.get("url"), str)
            and inner.get("detail", "auto") in _DETAILS
        )
    if kind == "input_audio":
        return (
            isinstance(inner, dict) and isinstance(inner.get("data"), str) and inner.get("format") in _SOUNDS
        )
    return isinstance(inner, dict if kind == "file" else str)


def _image_fault(url: str) -> str:
    """Return why an image is not taken: no address, or a data URL of another type or size."""
    if not url.startswith("data:"):
        return "" if url.startswith(("https://", "http://")) else f"{url[:40]!r} is no address of one"
    kind, _, data = url[5:].partition(",")
    kind = kind.partition(";")[0].lower()
    if kind not in _IMAGE_TYPES:
        return f"it is {kind[:40] or 'of no type'}"
    if not _BASE64.fullmatch(data):
        return "its data are not base64"
    return f"it has {len(data) * 3 // 4:,} bytes" if len(data) * 3 // 4 > _LARGEST_IMAGE else ""


def _images(messages: Messages) -> int:
    """Return how many images the messages hold."""
    return sum(_kinds(message).count("image_url") for message in messages)


def _kinds(message: object) -> list[object]:
    """Return the types of a message's content parts."""
    content = message.get("content") if isinstance(message, dict) else None
    return (
        [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )


def _order(messages: Messages, line: int) -> Iterator[Finding]:
    roles = [role_of(message) for message in messages]
    if "assistant" not in roles:
        yield finding("no_assistant", line, None)
    elif roles[-1] != "assistant":
        yield finding("last_not_assistant", line, len(roles) - 1, f"it is {roles[-1] or 'without a role'}")
    spoken = [place for place, role in enumerate(roles) if role not in _SYSTEM]
    if spoken and roles[spoken[0]] == "assistant":
        yield finding("first_assistant", line, spoken[0])
    if "user" not in roles:
        yield finding("no_user", line, None)
    systems = [place for place, role in enumerate(roles) if role in _SYSTEM]
    for place in systems:
        if spoken and place > spoken[0]:
            yield finding("system_in_middle", line, place, fixable=len(systems) == 1)
    if len([place for place in systems if not spoken or place < spoken[0]]) > 1:
        whole = all(isinstance(messages[place].get("content"), str) for place in systems)
        yield finding("system_repeated", line, systems[1], fixable=whole)


def _weights(messages: Messages, line: int) -> Iterator[Finding]:
    answers = [m for m in messages if role_of(m) == "assistant"]
    if answers and all("weight" in m and m["weight"] == 0 for m in answers):
        yield finding("all_weights_zero", line, None)
