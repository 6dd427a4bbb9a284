"""The messages and tools of a chat request, member by member as OpenAI's description types them.

A model's template meets them as they are, so that what it would stumble over is refused here, by name.
"""

from __future__ import annotations

from typing import Any

from tunedesk.engine.wire import ApiError, Fields

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_KEPT = ("name", "tool_calls", "tool_call_id", "function_call")
_LONGEST = 16 << 20
"""Characters of a text; the body's own limit is met before."""


def read_messages(fields: Fields) -> list[dict[str, Any]]:
    """Return the messages of a request, each with its content as one text; raises ApiError 400."""
    fields.required("messages")
    messages = fields.array("messages", most=10_000)
    if not messages:
        message = "Invalid 'messages': expected at least one message."
        raise ApiError(400, message, param="messages", code="empty_array")
    return [_message(_object(message, f"messages[{n}]")) for n, message in enumerate(messages)]


def read_tools(fields: Fields) -> list[dict[str, Any]]:
    """Return the tools of a request as they came; raises ApiError 400."""
    tools = fields.array("tools", most=128)
    for number, tool in enumerate(tools):
        told = _object(tool, f"tools[{number}]")
        kind = told.choice("type", ("function", "custom"))
        told.required(kind)
        inner = told.nested(kind)
        inner.needed_text("name", most=_LONGEST)
        inner.text("description", most=_LONGEST)
        inner.nested("parameters" if kind == "function" else "format")
        if kind == "function":
            inner.flag("strict")
    return tools


def _object(value: Any, path: str) -> Fields:
    if not isinstance(value, dict):
        raise ApiError(400, f"Invalid '{path}': expected an object.", param=path, code="invalid_type")
    return Fields(value, f"{path}.")


def _message(fields: Fields) -> dict[str, Any]:
    """Check a message's members and return those that a template reads."""
    role = fields.choice("role", _ROLES)
    content = _content(fields)
    for number, call in enumerate(fields.array("tool_calls", most=1000)):
        _check_call(_object(call, f"{fields.path}tool_calls[{number}]"))
    if content is None and role != "assistant":
        fields.required("content")
    fields.text("name", most=_LONGEST)
    if role == "tool":
        fields.needed_text("tool_call_id", most=_LONGEST)
    elif role == "function":
        fields.needed_text("name", most=_LONGEST)
    if fields.body.get("function_call") is not None:
        _check_named(fields.nested("function_call"), "arguments")
    kept = {name: fields.body[name] for name in _KEPT if fields.body.get(name) is not None}
    return {"role": role, "content": content, **kept}


def _content(fields: Fields) -> str | None:
    """Return a message's content as one text, None when it has none."""
    content = fields.body.get("content")
    if isinstance(content, list):
        parts = (_object(part, f"{fields.path}content[{n}]") for n, part in enumerate(content))
        return "".join(map(_part, parts))
    if content is not None and not isinstance(content, str):
        path = f"{fields.path}content"
        raise ApiError(400, f"Invalid '{path}': expected text.", param=path, code="invalid_type")
    return content


def _part(part: Fields) -> str:
    kind = part.body.get("type")
    if kind not in ("text", "refusal"):
        path = part.path.removesuffix(".")
        raise ApiError(
            400, f"Invalid '{path}': this engine reads text only.", param=path, code="unsupported_content"
        )
    if part.body.get("prompt_cache_breakpoint") is not None:
        part.nested("prompt_cache_breakpoint").choice("mode", ("explicit",))
    return part.text(kind, most=_LONGEST, needed=True) or ""


def _check_call(call: Fields) -> None:
    call.needed_text("id", most=_LONGEST)
    kind = call.choice("type", ("function", "custom"))
    call.required(kind)
    _check_named(call.nested(kind), "arguments" if kind == "function" else "input")


def _check_named(function: Fields, given: str) -> None:
    function.needed_text("name", most=_LONGEST)
    function.text(given, most=_LONGEST, needed=True)
