"""What was asked of a model and what it answered, as logs, traces, batches and stored completions keep it.

Also the blocks that other providers part a message into (tool_use, tool_result …), as OpenAI's messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns, elements
from tunedesk.core.importing.roles import role_of, said
from tunedesk.core.importing.rows import NotARow, Options, Record, built, pair, with_system

_ASKED = (
    "messages", "input", "inputs", "request", "request_body", "body", "prompt", "input_body_json", "kwargs", "contents",
)  # fmt: skip
_ANSWERED = (
    "response", "response_body", "output", "outputs", "completion", "choices", "generations", "candidates", "message",
    "output_body_json", "body", "messages",
)  # fmt: skip
_BESIDE = ("response", "response_body", "output", "outputs", "completion", "choices")
"""Keys of a log under which the answer stands; `messages` alone are a training row."""
_DEPTH = 5
_BLOCKS = frozenset(("tool_use", "tool_result", "thinking", "redacted_thinking"))
Messages = list[dict[str, Any]]


def is_call(record: Record) -> bool:
    """Return whether `record` holds the messages up to a question, and apart from them what a model answered."""
    bare = {columns.plain(str(key)) for key in record}
    if not bare & {*_BESIDE} or not bare & {*_ASKED}:
        return False
    asked = _asked(record)
    if not asked:
        return bool(_texts(record))
    return asked[-1].get("role") in ("user", "tool") and _answered(record) is not None


def call(record: Record, options: Options) -> Row:
    """Return the row of a call of a model; raises NotARow when the question or the answer is missing."""
    asked, answer = _asked(record), _answered(record)
    if not asked and (texts := _texts(record)):
        return with_system(built(pair(*texts, ""), record, [*_ASKED, *_BESIDE]), "")
    if not asked or answer is None:
        raise NotARow("it has no messages that were asked, or no answer")
    row = built([*openai_messages(asked), *openai_messages([answer])], record, [*_ASKED, *_BESIDE])
    if tools := openai_tools(_first(record, "tools")):
        row["tools"] = tools
    told = _first(record, "instructions") or _first(record, "system")
    return with_system(row, elements.words(told) if told else "")


def has_blocks(messages: object) -> bool:
    """Return whether messages call tools, or think, in blocks of their content."""
    listed = messages if isinstance(messages, list) else ()
    contents = [one.get("content") for one in listed if isinstance(one, Mapping)]
    return any(
        isinstance(part, Mapping) and part.get("type") in _BLOCKS
        for content in contents
        if isinstance(content, list)
        for part in content
    )


def openai_messages(messages: Messages) -> Messages:
    """Return messages with tool_use and tool_result blocks, input_text and output_text as OpenAI's chat has them."""
    return [made for one in messages for made in _message(one)]


def openai_tools(value: object) -> list[dict[str, Any]]:
    """Return the tools of a request, in whichever provider's form, as OpenAI's."""
    found = []
    for tool in value if isinstance(value, list) else ():
        if not isinstance(tool, Mapping):
            continue
        if isinstance(tool.get("function"), Mapping):
            found.append(dict(tool))
        elif isinstance(tool.get("name"), str):
            named = {key: tool[key] for key in ("name", "description", "strict") if tool.get(key) is not None}
            shape = tool.get("input_schema", tool.get("parameters"))
            found.append({"type": "function", "function": {**named, "parameters": shape} if shape else named})
    return found


def _message(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = one.get("content")
    role = one.get("role")
    if one.get("type") == "function_call":
        yield _calling("", [_tool_call(one.get("call_id"), one.get("name"), one.get("arguments"))])
        return
    if one.get("type") == "function_call_output":
        yield {
            "role": "tool",
            "tool_call_id": said(one.get("call_id")),
            "content": elements.words(one.get("output")),
        }
        return
    if not isinstance(content, list):
        yield dict(one)
        return
    calls = [
        _tool_call(part.get("id"), part.get("name"), part.get("input"))
        for part in _of_type(content, "tool_use")
    ]
    for part in _of_type(content, "tool_result"):
        yield {
            "role": "tool",
            "tool_call_id": said(part.get("tool_use_id")),
            "content": elements.words(part.get("content")),
        }
    left = [
        _text_part(part)
        for part in content
        if not (isinstance(part, Mapping) and part.get("type") in _BLOCKS)
    ]
    texts = [part["text"] for part in left if isinstance(part, dict) and part.get("type") == "text"]
    plain = "\n".join(texts) if len(texts) == len(left) and all(isinstance(t, str) for t in texts) else None
    if calls:
        yield _calling(plain or "", calls)
    elif left:
        yield {**one, "role": role, "content": left if plain is None else plain}


def _of_type(content: list[Any], kind: str) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, Mapping) and part.get("type") == kind]


def _text_part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") in ("text", "input_text", "output_text", None):
        text = part.get("text")
        return {"type": "text", "text": text} if isinstance(text, str) else part
    return part


def _calling(text: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", **({"content": text} if text else {}), "tool_calls": calls}


def _tool_call(name: object, function: object, arguments: object) -> dict[str, Any]:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {
        "id": said(name),
        "type": "function",
        "function": {"name": said(function), "arguments": written},
    }


def _texts(record: Record) -> tuple[str, str] | tuple[()]:
    """Return question and answer of a run whose inputs and outputs are objects of one text each, by name or alone."""
    bare = {columns.plain(str(key)): value for key, value in record.items()}
    found = []
    for side, keys in (
        ("user", ("inputs", "input", "request")),
        ("assistant", ("outputs", "output", "response")),
    ):
        given: Mapping[str, Any] = next((bare[key] for key in keys if isinstance(bare.get(key), Mapping)), {})
        texts = {str(key): one for key, one in given.items() if isinstance(one, str) and one.strip()}
        name = columns.find(side, texts) or next(iter(texts), "")
        if not name or (len(texts) > 1 and columns.find(side, texts) is None):
            return ()
        found.append(texts[name])
    return found[0], found[1]


def _asked(value: object, depth: int = _DEPTH) -> Messages:
    """Return the messages of a request, wherever in it they stand; a text is the user's."""
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], list):
            return _asked(value[0], depth - 1)
        return _messages(value)
    if isinstance(value, Mapping) and depth:
        bare = {columns.plain(str(key)): inner for key, inner in value.items()}
        for key in _ASKED:
            if (
                key in ("input", "prompt")
                and isinstance(bare.get(key), str)
                and bare.get("object") == "response"
            ):
                return [{"role": "user", "content": bare[key]}]
            if found := _asked(bare.get(key), depth - 1):
                return found
    return []


def _messages(value: list[Any]) -> Messages:
    made: Messages = []
    for one in value:
        if not isinstance(one, Mapping):
            return []
        if one.get("type") in ("function_call", "function_call_output"):
            made.append(dict(one))
            continue
        turns = elements.turns_of(one)
        role = role_of(turns[0].speaker) if turns else None
        if role not in ("user", "assistant", "system", "developer", "tool"):
            return []
        kept = {key: one[key] for key in ("tool_calls", "tool_call_id", "name") if one.get(key) is not None}
        content = one.get("content") if isinstance(one.get("content"), list) else turns[0].text
        made.append({"role": role, "content": content, **kept})
    return made


def _answered(value: object, depth: int = _DEPTH + 2) -> dict[str, Any] | None:
    """Return the assistant's message of an answer, wherever in it it stands."""
    if not depth:
        return None
    if isinstance(value, list):
        made = (_answered(one, depth - 1) for one in value)
        return next((one for one in made if one is not None), None)
    if not isinstance(value, Mapping):
        return None
    value = elements.plainly(value) if isinstance(value.get("kwargs"), Mapping) else value
    role = value.get("role", value.get("type"))
    if (isinstance(role, str) and role_of(role) == "assistant") or "tool_calls" in value:
        text = value.get("content", value.get("text", value.get("parts")))
        calls = {"tool_calls": value["tool_calls"]} if value.get("tool_calls") else {}
        if text or calls:
            return {"role": "assistant", "content": text if isinstance(text, list) else said(text), **calls}
    bare = {columns.plain(str(key)): inner for key, inner in value.items()}
    within = (_answered(bare[key], depth - 1) for key in _ANSWERED if key in bare and key != _outer(bare))
    found = next((one for one in within if one is not None), None)
    if found is None and depth == _DEPTH + 2:
        text = next(
            (bare[key] for key in _BESIDE if isinstance(bare.get(key), str) and bare[key].strip()), None
        )
        return {"role": "assistant", "content": text} if text is not None else None
    if (
        found is None
        and isinstance(bare.get("text"), str)
        and bare["text"].strip()
        and "generation_info" in bare
    ):
        return {"role": "assistant", "content": bare["text"]}
    return found


def _outer(bare: Mapping[str, Any]) -> str:
    """Return the key of the question's own messages, where the answer stands beside them."""
    return "messages" if bare.keys() & {*_BESIDE} else ""


def _first(value: object, name: str, depth: int = 3) -> Any:
    """Return what stands under `name` in an object, or in one of the objects of the request in it."""
    if not isinstance(value, Mapping):
        return None
    if value.get(name):
        return value[name]
    inner = (
        _first(value[key], name, depth - 1) for key in value if depth and columns.plain(str(key)) in _ASKED
    )
    return next((one for one in inner if one), None)
