"""Faults of what a row's tools are and of how they are called and answered, in today's form and the older one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tunedesk.core.checking.findings import Finding, finding

Messages = list[Any]
_MOST_FUNCTIONS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names that functions may have (the API's description of FunctionObject)."""


def role_of(message: object) -> str:
    """Return a message's role, empty when it has none that is text."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def tool_faults(row: dict[str, Any], messages: Messages, line: int) -> Iterator[Finding]:
    """Yield the faults of a row's tools, then those of the calls and answers in its messages."""
    yield from _tools(row, line)
    yield from _calls(row, messages, line)


def _tools(row: dict[str, Any], line: int) -> Iterator[Finding]:
    wrong = _tools_fault(row["tools"]) if "tools" in row else ""
    if wrong:
        yield finding("tools_invalid", line, None, wrong)
    elif row.get("tools") == []:
        yield finding("tools_empty", line, None)
    if "functions" in row:
        functions = row["functions"]
        good = isinstance(functions, list) and 0 < len(functions) <= _MOST_FUNCTIONS
        fault = (
            next(filter(None, map(_function_fault, functions)), "")
            if good
            else "functions is not a list of 1 to 128"
        )
        if fault:
            yield finding("tools_invalid", line, None, fault)
    if not isinstance(row.get("parallel_tool_calls", True), bool):
        yield finding("field_invalid", line, None, "parallel_tool_calls is not true or false")


def _tools_fault(tools: object) -> str:
    if not isinstance(tools, list):
        return "tools is not a list"
    if len(tools) > _MOST_FUNCTIONS:
        return f"there are {len(tools):,}, {_MOST_FUNCTIONS} are the most"
    for tool in tools:
        if not isinstance(tool, dict):
            return "a tool is not an object"
        if tool.get("type") != "function":
            return "a tool's type is not function"
        if fault := _function_fault(tool.get("function")):
            return fault
    return ""


def _function_fault(function: object) -> str:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        return "a function has no name"
    if not _NAME.fullmatch(function["name"]):
        return f"the name {function['name'][:70]!r} is not 1 to 64 of a-z, A-Z, 0-9, _ and -"
    if not isinstance(function.get("description", ""), str):
        return f"the description of {function['name'][:40]} is not text"
    if not isinstance(function.get("strict"), bool | None):
        return f"strict of {function['name'][:40]} is not true or false"
    if not isinstance(function.get("parameters", {}), dict):
        return f"the parameters of {function['name'][:40]} are not an object"
    return ""


def _declared(row: dict[str, Any]) -> set[str] | None:
    """Return the names of a row's tools and functions, None when it has none."""
    tools, functions = row.get("tools"), row.get("functions")
    listed = (
        [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    )
    listed += functions if isinstance(functions, list) else []
    if not listed:
        return None
    return {f["name"] for f in listed if isinstance(f, dict) and isinstance(f.get("name"), str)}


def _calls(row: dict[str, Any], messages: Messages, line: int) -> Iterator[Finding]:
    declared = _declared(row)
    waiting: dict[str, int] = {}
    called: set[str] = set()
    for place, message in enumerate(messages):
        role = role_of(message)
        if role == "tool":
            answered = message.get("tool_call_id")
            if not isinstance(answered, str) or answered not in waiting:
                yield finding("tool_answer_without_call", line, place, repr(answered)[:60])
            else:
                del waiting[answered]
            continue
        if waiting:
            yield finding("tool_call_unanswered", line, min(waiting.values()), ", ".join(waiting))
            waiting = {}
        if not isinstance(message, dict):
            continue
        if role == "function":
            yield from _old_answer(message, called, line, place)
        if "tool_calls" in message:
            yield from _message_calls(message, declared, line, place, waiting)
        if message.get("function_call") is not None:
            yield from _old_call(message, declared, line, place, called)
    if waiting and role_of(messages[-1]) == "tool":
        yield finding("tool_call_unanswered", line, min(waiting.values()), ", ".join(waiting))


def _message_calls(
    message: dict[str, Any], declared: set[str] | None, line: int, place: int, waiting: dict[str, int]
) -> Iterator[Finding]:
    calls = message["tool_calls"]
    if calls is None or calls == []:
        yield finding("tool_calls_empty", line, place)
        return
    if not isinstance(calls, list):
        yield finding("tool_call_invalid", line, place, "tool_calls is not a list of calls", fixable=False)
        return
    if role_of(message) != "assistant":
        yield finding("tool_call_invalid", line, place, "only the assistant calls tools", fixable=False)
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


def _old_call(
    message: dict[str, Any], declared: set[str] | None, line: int, place: int, called: set[str]
) -> Iterator[Finding]:
    """Yield the faults of a function_call, the form before tool_calls."""
    call = message["function_call"]
    if role_of(message) != "assistant":
        fault = "only the assistant calls functions"
    elif not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        fault = "its function has no name"
    else:
        fault = "" if isinstance(call.get("arguments"), str) else "its arguments are not text"
    if fault:
        yield finding("tool_call_invalid", line, place, fault, fixable=False)
    if isinstance(call, dict):
        called.add(str(call.get("name")))
        yield from _function(call, declared, line, place)


def _old_answer(message: dict[str, Any], called: set[str], line: int, place: int) -> Iterator[Finding]:
    name = message.get("name")
    if not isinstance(name, str):
        if "name" not in message:
            yield finding("field_invalid", line, place, "a function's answer has no name")
    elif name not in called:
        yield finding("tool_answer_without_call", line, place, repr(name)[:60])


def _function(
    function: dict[str, Any], declared: set[str] | None, line: int, place: int
) -> Iterator[Finding]:
    name, arguments = function.get("name"), function.get("arguments")
    if declared is not None and isinstance(name, str) and name not in declared:
        yield finding("tool_not_declared", line, place, name[:60])
    if isinstance(arguments, str) and not _is_object(arguments):
        yield finding("tool_arguments_not_json", line, place)


def _is_object(arguments: str) -> bool:
    """Return whether arguments are one JSON object that all readers take alike: no NaN, no key twice."""
    try:
        return isinstance(json.loads(arguments, object_pairs_hook=_unlike, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _refuse(constant: str) -> float:
    raise ValueError(constant)


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
    if not _NAME.fullmatch(function["name"]):
        return f"its name {function['name'][:70]!r} is not 1 to 64 of a-z, A-Z, 0-9, _ and -"
    return "" if isinstance(function.get("arguments"), str) else "its arguments are not text"


def has_open_arguments(call: object) -> bool:
    """Return whether a call is only wrong in that its arguments are an object instead of JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    return (
        _call_fault(call) == "its arguments are not text"
        and isinstance(function, dict)
        and isinstance(function.get("arguments"), dict)
    )
