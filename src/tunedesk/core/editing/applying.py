"""What an edit makes of a row. Apart from edits.py: fixing and masking load much that building an edit needs not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tunedesk.core.checking import fixes
from tunedesk.core.conversations import Row, with_system_prompt
from tunedesk.core.editing.edits import END, MARKS, Edit
from tunedesk.core.personal_data import privacy
from tunedesk.errors import DataError


def apply(edit: Edit, row: Row) -> Row:
    """Return `row` after `edit`, the given row unchanged; raises DataError when it has no such message."""
    if edit.kind in MARKS or edit.kind == "revert":
        return row  # what a revert goes back to, the overlay has
    if edit.kind == "set_system_prompt":
        return _system_prompt(row, **edit.arguments)
    if edit.kind == "fix":
        return fixes.fix(row, edit.arguments["codes"])[0]
    if edit.kind == "mask":
        return privacy.mask_row(row)[0]
    if edit.kind == "trim":
        return trimmed(row, edit.arguments["turns"])
    if edit.kind == "replace_row":
        replacement: Row = edit.arguments["row"]
        return replacement
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise DataError("this row has no messages to edit", "edit it as JSON")
    arguments = dict(edit.arguments)
    wanted = arguments.pop("of", "")
    place = arguments["at"] - 1 if edit.kind == "add_message" else arguments.get("message", 0)
    if wanted and _at(messages, place).get("role") != wanted:
        raise DataError(f"the message is none of {wanted}", "choose another one")
    return {**row, "messages": _OPERATIONS[edit.kind](list(messages), **arguments)}


def _system_prompt(row: Row, prompt: str, *, fill: bool = False) -> Row:
    prompt = filled(prompt, row) if fill else prompt
    prompted = row.get("input")
    if "messages" not in row and isinstance(prompted, dict):
        return {**row, "input": with_system_prompt(prompted, prompt)}
    return with_system_prompt(row, prompt)


_VARIABLE = re.compile(r"\{\{\s*([\w.\- ]+?)\s*\}\}")


def variables(prompt: str) -> list[str]:
    """Return the metadata keys that a prompt asks for as {{key}}, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(prompt)))


def filled(prompt: str, row: Row) -> str:
    """Return `prompt` with each {{key}} replaced from the row's metadata; what that does not have stays."""
    known = row.get("metadata")
    values = known if isinstance(known, dict) else {}

    def value(found: re.Match[str]) -> str:
        one = values.get(found[1])
        return str(one) if isinstance(one, str | int | float) else found[0]

    return _VARIABLE.sub(value, prompt)


def trimmed(row: Row, turns: int) -> Row:
    """Return a row with its system prompts and its last `turns` user messages and what follows them.

    A row with no more of them is returned as it is.
    """
    messages = row.get("messages")
    if not isinstance(messages, list):
        return row
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    users = [place for place, role in enumerate(roles) if role == "user"]
    if len(users) <= turns:
        return row
    start = users[-turns]
    kept = [
        one for place, one in enumerate(messages) if place >= start or roles[place] in ("system", "developer")
    ]
    return {**row, "messages": kept}


Messages = list[dict[str, Any]]
_CALLING = ("tool_calls", "function_call")
_LOST = frozenset((*_CALLING, "tool_call_id", "refusal", "audio"))
"""What the second of two messages says beside its text, which a merged one would not have."""


def _at(messages: Messages, place: int) -> dict[str, Any]:
    if not 0 <= place < len(messages) or not isinstance(messages[place], dict):
        raise DataError(f"there is no message {place + 1}", f"the conversation has {len(messages)}")
    return messages[place]


def _replace(messages: Messages, message: int, text: str) -> Messages:
    messages[message] = {**_at(messages, message), "content": text}
    return messages


def _role(messages: Messages, message: int, role: str) -> Messages:
    changed = {**_at(messages, message), "role": role}
    if role != "assistant":
        # The API takes a weight on assistant messages alone.
        changed.pop("weight", None)
    messages[message] = changed
    return messages


def _weight(messages: Messages, message: int | None, weight: int | None) -> Messages:
    if message is not None and _at(messages, message).get("role") != "assistant":
        raise DataError("only assistant messages have a weight", "choose a reply")
    for place, one in enumerate(messages):
        chosen = place == message if message is not None else isinstance(one, dict)
        if chosen and one.get("role") == "assistant":
            rest = {key: value for key, value in one.items() if key != "weight"}
            messages[place] = rest if weight is None else {**rest, "weight": weight}
    return messages


def _add(messages: Messages, at: int, role: str, text: str) -> Messages:
    at = len(messages) if at == END else at
    if not 0 <= at <= len(messages):
        raise DataError(f"there is no place {at + 1}", f"the conversation has {len(messages)} messages")
    messages.insert(at, {"role": role, "content": text})
    return messages


def _delete(messages: Messages, message: int) -> Messages:
    _at(messages, message)
    del messages[message]
    return messages


def _move(messages: Messages, message: int, to: int) -> Messages:
    _at(messages, to)
    moved = _at(messages, message)
    del messages[message]
    messages.insert(to, moved)
    return messages


def _split(messages: Messages, message: int, role: str | None, at: int = 0, find: str = "") -> Messages:
    one = _at(messages, message)
    text = one.get("content")
    if find and isinstance(text, str) and (found := re.search(find, text)):
        at = found.start()
    if not isinstance(text, str) or not 0 < at < len(text):
        raise DataError("the message cannot be split there", "put the cursor inside its text")
    # Calls come after what was said, and their answers after them: they stay at the end.
    first = {key: value for key, value in one.items() if key not in _CALLING}
    said = text[at:].lstrip()
    if role in (None, one.get("role")):
        second = {**one, "content": said}
    elif len(first) == len(one):
        second = {"role": role, "content": said}
    else:
        raise DataError("both halves of a message that calls a tool are the assistant's", "keep its role")
    messages[message : message + 1] = [{**first, "content": text[:at].rstrip()}, second]
    return messages


def _merge(messages: Messages, message: int) -> Messages:
    first, second = _at(messages, message), _at(messages, message + 1)
    texts = [first.get("content"), second.get("content")]
    if not all(isinstance(text, str) for text in texts) or not _LOST.isdisjoint(second):
        raise DataError("only two messages of plain text can be merged", "edit the row as JSON")
    joined = {**first, "content": "\n".join(text for text in texts if text)}
    if first.get("role") == second.get("role") and second.get("weight") == 0:
        # What was left out of the loss is not trained on for being joined to a reply that is.
        joined["weight"] = 0
    messages[message : message + 2] = [joined]
    return messages


def _replace_text(messages: Messages, find: str, text: str, role: str, pattern: bool) -> Messages:
    def changed(said: str) -> str:
        return re.sub(find, text, said) if pattern else said.replace(find, text)

    for place, one in enumerate(messages):
        if not isinstance(one, dict) or (role and one.get("role") != role):
            continue
        content = one.get("content")
        if isinstance(content, str):
            messages[place] = {**one, "content": changed(content)}
        elif isinstance(content, list):
            messages[place] = {**one, "content": [_changed_part(part, changed) for part in content]}
    return messages


def _changed_part(part: Any, changed: Callable[[str], str]) -> Any:
    text = part.get("text") if isinstance(part, dict) else None
    return {**part, "text": changed(text)} if isinstance(text, str) else part


_OPERATIONS: dict[str, Callable[..., Messages]] = {
    "replace_message": _replace,
    "set_role": _role,
    "set_weight": _weight,
    "add_message": _add,
    "delete_message": _delete,
    "move_message": _move,
    "split_message": _split,
    "merge_messages": _merge,
    "replace_text": _replace_text,
}
