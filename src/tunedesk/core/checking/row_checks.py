"""Faults of one row: its shape, roles, weights and tool calls against the API's schema and what a trainer needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tunedesk.core.checking.findings import Finding, finding
from tunedesk.core.checking.text_checks import text_faults
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
_PREFERENCE = ("input", "preferred_output", "non_preferred_output")

Messages = list[Any]


def check_row(row: object, line: int) -> Iterator[Finding]:
    """Yield every finding that `row` alone shows, in the order of its messages."""
    if not isinstance(row, dict):
        yield finding("not_object", line, None)
        return
    if "preferred_output" in row or "non_preferred_output" in row:
        yield from _preference(row, line)
        return
    unknown = [str(key) for key in row if key not in _KNOWN_ROW]
    if unknown:
        yield finding("unknown_key", line, None, ", ".join(unknown[:5]))
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        yield finding("no_messages", line, None)
        return
    for place, message in enumerate(messages):
        yield from _message(message, line, place, len(messages), messages)
    yield from _order(messages, line)
    yield from _weights(messages, line)
    yield from _tools(row, line)
    yield from _calls(row, messages, line)


def _preference(row: dict[str, Any], line: int) -> Iterator[Finding]:
    asked = row.get("input")
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(messages, list) or not messages:
        yield finding("preference_invalid", line, None, "input has no messages")
        return
    sides = [row.get("preferred_output"), row.get("non_preferred_output")]
    for name, side in zip(_PREFERENCE[1:], sides, strict=True):
        if not isinstance(side, list) or len(side) != 1 or _role(side[0]) != "assistant":
            yield finding("preference_invalid", line, None, f"{name} is not one assistant message")
            return
    if sides[0] == sides[1]:
        yield finding("preference_same", line, None)
    everything = [*messages, sides[0][0], sides[1][0]]  # type: ignore[index]
    for place, message in enumerate(everything):
        yield from _message(message, line, place, len(everything), everything)


def _role(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def _message(message: object, line: int, place: int, count: int, messages: Messages) -> Iterator[Finding]:
    if not isinstance(message, dict):
        yield finding("message_invalid", line, place)
        return
    role = message.get("role")
    if role not in ROLES:
        yield finding("role_unknown", line, place, repr(role)[:40] if "role" in message else "missing")
    unknown = [str(key) for key in message if key not in _KNOWN_MESSAGE]
    if unknown:
        yield finding("unknown_key", line, place, ", ".join(unknown[:5]))
    for key in ("name", "refusal", "tool_call_id"):
        value = message.get(key)
        if key in message and not isinstance(value, str) and not (value is None and key == "refusal"):
            yield finding("field_invalid", line, place, f"{key} is not text")
    if "weight" in message:
        yield from _weight(message, line, place)
    yield from _content(message, line, place, messages)


def _weight(message: dict[str, Any], line: int, place: int) -> Iterator[Finding]:
    weight = message["weight"]
    if _role(message) != "assistant":
        yield finding("weight_not_assistant", line, place)
    elif type(weight) is not int or weight not in (0, 1):
        yield finding("weight_invalid", line, place, repr(weight)[:40], fixable=is_weight_like(weight))


def is_weight_like(weight: object) -> bool:
    """Return whether `weight` surely means 0 or 1: true, false, 1.0, 0.0."""
    return isinstance(weight, bool | float) and weight in (0, 1)


def _content(message: dict[str, Any], line: int, place: int, messages: Messages) -> Iterator[Finding]:
    content, role = message.get("content"), _role(message)
    acts = bool(
        message.get("tool_calls")
        or message.get("function_call")
        or message.get("refusal")
        or message.get("audio")
    )
    if content is None:
        if not (role == "assistant" and acts) and not (role == "function" and "content" in message):
            yield finding("content_missing", line, place)
    elif isinstance(content, list):
        yield from _parts(content, role, line, place)
    elif not isinstance(content, str):
        yield finding("content_invalid", line, place, f"it is {type(content).__name__}")
    else:
        yield from _text(content, message, acts, line, place, messages)


def _text(
    content: str, message: dict[str, Any], acts: bool, line: int, place: int, messages: Messages
) -> Iterator[Finding]:
    role = _role(message)
    if not content.strip() and role not in ("tool", "function") and not (role == "assistant" and acts):
        code = "content_blank" if content else "content_empty"
        yield finding(code, line, place, fixable=can_drop(messages, place))
    for code, detail in text_faults(content, role):
        yield finding(code, line, place, detail)


def can_drop(messages: Messages, place: int) -> bool:
    """Return whether the empty message at `place` may go: the system's, or one of a tail that leaves an answer last."""
    role = _role(messages[place])
    if role in _SYSTEM:
        return True
    answers = [i for i, m in enumerate(messages) if _role(m) == "assistant" and _says(m)]
    return bool(answers) and place > answers[-1]


def _says(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return bool(content.strip() if isinstance(content, str) else content) or bool(message.get("tool_calls"))


def _parts(parts: list[Any], role: str, line: int, place: int) -> Iterator[Finding]:
    if not parts:
        yield finding("content_empty", line, place, fixable=False)
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if role == "assistant" and kind == "image_url":
            yield finding("image_in_assistant", line, place)
        elif not isinstance(kind, str) or kind not in _PARTS.get(role, _PARTS["user"]):
            yield finding("content_invalid", line, place, f"a part of type {str(kind)[:40]!r}")
        elif not isinstance(part.get(kind), dict if kind in ("image_url", "input_audio", "file") else str):
            yield finding("content_invalid", line, place, f"a part of type {kind!r} without its {kind}")
        elif kind == "text":
            for code, detail in text_faults(part["text"], role):
                yield finding(code, line, place, detail)


def _order(messages: Messages, line: int) -> Iterator[Finding]:
    roles = [_role(message) for message in messages]
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
    answers = [m for m in messages if _role(m) == "assistant"]
    if answers and all("weight" in m and m["weight"] == 0 for m in answers):
        yield finding("all_weights_zero", line, None)


def _tools(row: dict[str, Any], line: int) -> Iterator[Finding]:
    if "tools" not in row:
        return
    tools = row["tools"]
    good = isinstance(tools, list) and all(
        isinstance(tool, dict)
        and tool.get("type") == "function"
        and isinstance(tool.get("function"), dict)
        and isinstance(tool["function"].get("name"), str)
        for tool in tools
    )
    if not good:
        yield finding("tools_invalid", line, None)


def _declared(row: dict[str, Any]) -> set[str] | None:
    tools = row.get("tools")
    if not isinstance(tools, list) or not tools:
        return None
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return {f["name"] for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str)}


def _calls(row: dict[str, Any], messages: Messages, line: int) -> Iterator[Finding]:
    declared = _declared(row)
    waiting: dict[str, int] = {}
    for place, message in enumerate(messages):
        role = _role(message)
        if role == "tool":
            called = message.get("tool_call_id")
            if not isinstance(called, str) or called not in waiting:
                yield finding("tool_answer_without_call", line, place, repr(called)[:60])
            else:
                del waiting[called]
            continue
        if waiting:
            yield finding("tool_call_unanswered", line, min(waiting.values()), ", ".join(waiting))
            waiting = {}
        if isinstance(message, dict) and message.get("tool_calls") is not None:
            yield from _message_calls(message["tool_calls"], declared, line, place, waiting)
    if waiting and _role(messages[-1]) == "tool":
        yield finding("tool_call_unanswered", line, min(waiting.values()), ", ".join(waiting))


def _message_calls(
    calls: object, declared: set[str] | None, line: int, place: int, waiting: dict[str, int]
) -> Iterator[Finding]:
    if not isinstance(calls, list) or not calls:
        yield finding("tool_call_invalid", line, place, "tool_calls is not a list of calls", fixable=False)
        return
    for call in calls:
        fault = _call_fault(call)
        if fault:
            yield finding("tool_call_invalid", line, place, fault, fixable=has_open_arguments(call))
        if not isinstance(call, dict):
            continue
        name = call.get("id")
        if isinstance(name, str) and name:
            if name in waiting:
                yield finding("tool_ids", line, place, name[:60])
            waiting[name] = place
        function = call.get("function")
        if isinstance(function, dict):
            yield from _function(function, declared, line, place)


def _function(
    function: dict[str, Any], declared: set[str] | None, line: int, place: int
) -> Iterator[Finding]:
    name, arguments = function.get("name"), function.get("arguments")
    if declared is not None and isinstance(name, str) and name not in declared:
        yield finding("tool_not_declared", line, place, name[:60])
    if isinstance(arguments, str):
        try:
            good = isinstance(json.loads(arguments), dict)
        except (ValueError, RecursionError):
            good = False
        if not good:
            yield finding("tool_arguments_not_json", line, place)


def _call_fault(call: object) -> str:
    if not isinstance(call, dict):
        return "it is not an object"
    function = call.get("function")
    if not isinstance(call.get("id"), str) or not call["id"]:
        return "it has no id"
    if call.get("type") != "function":
        return "its type is not function"
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        return "its function has no name"
    return "" if isinstance(function.get("arguments"), str) else "its arguments are not text"


def has_open_arguments(call: object) -> bool:
    """Return whether a call is only wrong in that its arguments are an object instead of JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    return (
        _call_fault(call) == "its arguments are not text"
        and isinstance(function, dict)
        and isinstance(function.get("arguments"), dict)
    )
