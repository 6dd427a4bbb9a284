"""Edits: each one undoable operation on one row, some, or all, as data that is journalled and replayed.

An edit changes no row on disk. `apply` gives the row as it is after the edit; the dataset below stays what was
imported, and a system prompt put on a million rows is one entry of the journal.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import msgspec

from tunedesk.core import fixes
from tunedesk.core.conversations import ROLES, Row, with_system_prompt
from tunedesk.errors import DataError, StoreError

Kind = Literal[
    "replace_message",
    "set_role",
    "set_weight",
    "add_message",
    "delete_message",
    "move_message",
    "split_message",
    "merge_messages",
    "set_system_prompt",
    "replace_row",
    "replace_rows",
    "restore",
    "fix",
    "trim",
    "exclude",
    "include",
    "tag",
    "untag",
]
MARKS = frozenset({"exclude", "include", "tag", "untag"})
"""Kinds that leave the row itself as it is."""


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One operation."""

    kind: Kind
    rows: bytes | None
    """The rows it touches, as `pack` makes them; None for all rows of the dataset."""
    arguments: dict[str, Any] = {}
    label: str
    """What it does, in a few words, for the undo list."""
    parent: int = 0
    """Journal id of the newest edit in force when this one was made: what a redo has to follow, 0 for none."""

    def indexes(self) -> array[int] | None:
        """Return the rows it touches in order, None for all."""
        return None if self.rows is None else unpack(self.rows)


def pack(indexes: Iterable[int]) -> bytes:
    """Return row numbers as compressed differences (little-endian unsigned 32 bits), sorted, each once."""
    ordered = array("I", sorted(set(indexes)))
    deltas = array("I", ordered[:1])
    deltas.extend(b - a for a, b in pairwise(ordered))
    if sys.byteorder == "big":
        deltas.byteswap()
    return zlib.compress(deltas.tobytes(), 1)


def unpack(packed: bytes) -> array[int]:
    """Return the row numbers that `pack` packed."""
    numbers = array("I")
    numbers.frombytes(zlib.decompress(packed))
    if sys.byteorder == "big":
        numbers.byteswap()
    return array("I", accumulate(numbers))


def of_row(edit: Edit, place: int) -> Edit:
    """Return what an edit does to the row at `place` of its rows, where that differs from row to row."""
    if edit.kind == "trim" and isinstance(edit.arguments["turns"], list):
        return msgspec.structs.replace(edit, arguments={"turns": edit.arguments["turns"][place]})
    if edit.kind != "replace_rows":
        return edit
    row: Row = edit.arguments["contents"][place]
    return msgspec.structs.replace(edit, kind="replace_row", arguments={"row": row})


def encode(edit: Edit) -> bytes:
    """Return an edit as the journal keeps it (JSON)."""
    return msgspec.json.encode(edit)


def decode(data: bytes) -> Edit:
    """Return the edit that `encode` encoded; raises StoreError when it is none of this version's."""
    try:
        return msgspec.json.decode(data, type=Edit)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"an edit in the journal cannot be read: {error}", "update tunedesk; the edit itself is kept"
        ) from error


def apply(edit: Edit, row: Row) -> Row:
    """Return `row` after `edit`, the given row unchanged; raises DataError when it has no such message."""
    if edit.kind in MARKS:
        return row
    if edit.kind == "set_system_prompt":
        return _system_prompt(row, edit.arguments["prompt"])
    if edit.kind == "fix":
        return fixes.fix(row, edit.arguments["codes"])[0]
    if edit.kind == "trim":
        return trimmed(row, edit.arguments["turns"])
    if edit.kind == "replace_row":
        replacement: Row = edit.arguments["row"]
        return replacement
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise DataError("this row has no messages to edit", "edit it as JSON")
    return {**row, "messages": _OPERATIONS[edit.kind](list(messages), **edit.arguments)}


def replace_message(rows: Iterable[int], message: int, text: str) -> Edit:
    """Give a message new text."""
    return _edit("replace_message", rows, "reword message", message=message, text=text)


def set_role(rows: Iterable[int], message: int, role: str) -> Edit:
    """Give a message another role; raises DataError for a role that the API does not know."""
    return _edit("set_role", rows, f"make it {role}", message=message, role=_known(role))


def set_weight(rows: Iterable[int] | None, message: int | None, weight: int | None) -> Edit:
    """Train on a message (1), leave it out of the loss (0) or drop the key (None); no message: all assistant's."""
    return _edit("set_weight", rows, f"weight {weight}", message=message, weight=weight)


def add_message(rows: Iterable[int], at: int, role: str, text: str) -> Edit:
    """Put a new message before place `at`; raises DataError for a role that the API does not know."""
    return _edit("add_message", rows, f"add {role} message", at=at, role=_known(role), text=text)


def delete_message(rows: Iterable[int], message: int) -> Edit:
    """Take a message out."""
    return _edit("delete_message", rows, "delete message", message=message)


def move_message(rows: Iterable[int], message: int, to: int) -> Edit:
    """Move a message so that it ends at place `to`."""
    return _edit("move_message", rows, "move message", message=message, to=to)


def split_message(rows: Iterable[int], message: int, at: int, role: str | None = None) -> Edit:
    """Split a message before its character `at`; the second half takes `role`, or the same one."""
    return _edit(
        "split_message", rows, "split message", message=message, at=at, role=_known(role) if role else None
    )


def merge_messages(rows: Iterable[int], message: int) -> Edit:
    """Join a message and the one after it by a line break, under the first one's role."""
    return _edit("merge_messages", rows, "merge messages", message=message)


def set_system_prompt(rows: Iterable[int] | None, prompt: str) -> Edit:
    """Replace the system prompt, or put it first; an empty one removes it; None for all rows."""
    return _edit(
        "set_system_prompt", rows, "set system prompt" if prompt else "remove system prompt", prompt=prompt
    )


def replace_row(row_index: int, row: Row, label: str = "edit as JSON") -> Edit:
    """Put another row in place of one (a fix, or an edit of its JSON)."""
    return _edit("replace_row", (row_index,), label, row=row)


def replace_rows(rows: Mapping[int, Row], label: str) -> Edit:
    """Put other rows in place of some; raises DataError when there are none."""
    if not rows:
        raise DataError("there is no row to replace", "select conversations first")
    return _edit("replace_rows", rows, label, contents=[rows[index] for index in sorted(rows)])


def restore(kept: Sequence[int], name: str) -> Edit:
    """Go to the state that the edits of some journal ids make, whatever has been done since."""
    return _edit("restore", None, f"go to {name}", edits=list(kept))


def fix(rows: Iterable[int], codes: Sequence[str]) -> Edit:
    """Apply the safe fixes of `codes` (fixes.FIXABLE)."""
    return _edit("fix", rows, f"fix {', '.join(codes)}", codes=list(codes))


def trim(rows: Iterable[int] | None, turns: int) -> Edit:
    """Keep the system prompts and the last `turns` user messages with what follows them; raises DataError below 1."""
    if turns < 1:
        raise DataError("a conversation keeps at least one turn", "give a number from 1")
    return _edit("trim", rows, f"keep the last {turns} turns", turns=turns)


def trim_each(turns: Mapping[int, int]) -> Edit:
    """Keep of each row (by its number) so many of its last turns."""
    return _edit("trim", turns, "trim to the limit", turns=[turns[index] for index in sorted(turns)])


def exclude(rows: Iterable[int] | None) -> Edit:
    """Leave rows out of every export; None for all rows."""
    return _edit("exclude", rows, "exclude")


def include(rows: Iterable[int] | None) -> Edit:
    """Take excluded rows back in; None for all rows."""
    return _edit("include", rows, "include")


def tag(rows: Iterable[int] | None, name: str) -> Edit:
    """Tag rows; raises DataError for a name that a query could not ask for."""
    return _edit("tag", rows, f"tag {name}", tag=_tag_name(name))


def untag(rows: Iterable[int] | None, name: str) -> Edit:
    """Take a tag off rows."""
    return _edit("untag", rows, f"untag {name}", tag=_tag_name(name))


def _edit(kind: Kind, rows: Iterable[int] | None, label: str, **arguments: object) -> Edit:
    return Edit(kind=kind, rows=None if rows is None else pack(rows), arguments=arguments, label=label)


def _known(role: str) -> str:
    if role not in ROLES:
        raise DataError(f"there is no role {role!r}", f"one of {', '.join(ROLES)}")
    return role


def _tag_name(name: str) -> str:
    if not name or not name.isprintable() or name != name.strip():
        raise DataError("a tag needs a name of printable characters", "such as keep")
    return name


def _system_prompt(row: Row, prompt: str) -> Row:
    prompted = row.get("input")
    if "messages" not in row and isinstance(prompted, dict):
        return {**row, "input": with_system_prompt(prompted, prompt)}
    return with_system_prompt(row, prompt)


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


def _split(messages: Messages, message: int, at: int, role: str | None) -> Messages:
    one = _at(messages, message)
    text = one.get("content")
    if not isinstance(text, str) or not 0 < at < len(text):
        raise DataError("the message cannot be split there", "put the cursor inside its text")
    second = {"role": role or one.get("role"), "content": text[at:].lstrip()}
    messages[message : message + 1] = [{**one, "content": text[:at].rstrip()}, second]
    return messages


def _merge(messages: Messages, message: int) -> Messages:
    first, second = _at(messages, message), _at(messages, message + 1)
    texts = [first.get("content"), second.get("content")]
    if not all(isinstance(text, str) for text in texts) or "tool_calls" in second or "tool_call_id" in second:
        raise DataError("only two messages of plain text can be merged", "edit the row as JSON")
    messages[message : message + 2] = [{**first, "content": "\n".join(text for text in texts if text)}]
    return messages


_OPERATIONS: dict[str, Callable[..., Messages]] = {
    "replace_message": _replace,
    "set_role": _role,
    "set_weight": _weight,
    "add_message": _add,
    "delete_message": _delete,
    "move_message": _move,
    "split_message": _split,
    "merge_messages": _merge,
}
