"""Edits: each one undoable operation on one row, some, or all, as data that is journalled and replayed.

An edit changes no row on disk: applying.py gives the row as it is after the edit, the dataset below stays what was
imported, and a system prompt put on a million rows is one entry of the journal.
"""

from __future__ import annotations

import operator
import re
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from tunedesk.core.conversations import ROLES, Row
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
    "replace_text",
    "set_system_prompt",
    "replace_row",
    "replace_rows",
    "add_rows",
    "restore",
    "revert",
    "fix",
    "trim",
    "mask",
    "exclude",
    "include",
    "tag",
    "untag",
]
END = -1
"""The place behind the last message, wherever that is in a row."""
MARKS = frozenset({"exclude", "include", "tag", "untag"})
"""Kinds that leave the row itself as it is."""
_AT_ONCE = 65_536
"""Row numbers that are worked on in one call: other threads, the screen's among them, go on between two."""


@runtime_checkable
class Ordered(Protocol):
    """Row numbers that are given in order, each once, without a Python number for each."""

    def array(self) -> array[int]:
        """Return them (typecode I)."""


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


def meet(one: Edit, other: Edit) -> bool:
    """Whether one edit may build on the other: they rewrite or add the same rows, or one goes to a version."""
    kinds = {one.kind, other.kind}
    if "restore" in kinds:
        return True
    if kinds & MARKS and "add_rows" not in kinds:
        return False
    rows, others = one.indexes(), other.indexes()
    return rows is None or others is None or not set(rows).isdisjoint(others)


def in_order(indexes: Iterable[int]) -> array[int]:
    """Return row numbers sorted, each once (typecode I)."""
    return indexes.array() if isinstance(indexes, Ordered) else array("I", sorted(set(indexes)))


def pack(indexes: Iterable[int]) -> bytes:
    """Return row numbers as compressed differences (little-endian unsigned 32 bits), sorted, each once."""
    ordered = in_order(indexes)
    packer, packed = zlib.compressobj(1), []
    before = array("I", [0])
    for start in range(0, len(ordered), _AT_ONCE):
        block = ordered[start : start + _AT_ONCE]
        deltas = array("I", map(operator.sub, block, before + block))
        before = block[-1:]
        if sys.byteorder == "big":
            deltas.byteswap()
        packed.append(packer.compress(deltas))
    return b"".join([*packed, packer.flush()])


def unpack(packed: bytes) -> array[int]:
    """Return the row numbers that `pack` packed."""
    numbers = array("I")
    numbers.frombytes(zlib.decompress(packed))
    if sys.byteorder == "big":
        numbers.byteswap()
    last = 0
    for start in range(0, len(numbers), _AT_ONCE):
        block = array("I", accumulate(numbers[start : start + _AT_ONCE], initial=last))
        numbers[start : start + _AT_ONCE] = block[1:]
        last = block[-1]
    return numbers


def of_row(edit: Edit, place: int) -> Edit:
    """Return what an edit does to the row at `place` of its rows, where that differs from row to row.

    `replace_rows` stands in journals of older versions: a revert held all rows that it went back to.
    """
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


def replace_message(rows: Iterable[int], message: int, text: str, *, of: str = "") -> Edit:
    """Give a message new text; with `of` only where it is of that role, as in all edits that take it."""
    return _edit("replace_message", rows, "reword message", message=message, text=text, **_of(of))


def replace_text(
    rows: Iterable[int] | None, find: str, text: str, *, role: str = "", pattern: bool = False
) -> Edit:
    """Put `text` for every `find` in the messages (of one role, when given); with `pattern` it is a regular expression.

    Raises DataError when there is nothing to find, or the pattern is none.
    """
    if not find:
        raise DataError("there is no text to find", "type what is to be replaced")
    if pattern:
        _pattern(find, text)
    label = f"replace {find!r} by {text!r}"
    return _edit("replace_text", rows, label, find=find, text=text, role=role, pattern=pattern)


class Replacement(msgspec.Struct, frozen=True):
    """What `replacement` read."""

    find: str
    text: str
    role: str = ""
    pattern: bool = False


def replacement(line: str) -> Replacement:
    """Read `[role:]find => text`, where `/find/` is a regular expression; raises DataError when it is not that."""
    find, arrow, text = line.partition("=>")
    find, text = find.strip(), text.strip()
    role = next((one for one in ROLES if find.startswith(f"{one}:")), "")
    find = find.removeprefix(f"{role}:").strip() if role else find
    pattern = len(find) > 2 and find.startswith("/") and find.endswith("/")
    if not arrow or not find:
        raise DataError(
            "type what to find, =>, and what to put in its place", "such as: Hello => Good morning"
        )
    return Replacement(find[1:-1] if pattern else find, text, role, pattern)


def set_role(rows: Iterable[int], message: int, role: str, *, of: str = "") -> Edit:
    """Give a message another role; raises DataError for a role that the API does not know."""
    return _edit("set_role", rows, f"make it {role}", message=message, role=_known(role), **_of(of))


def set_weight(rows: Iterable[int] | None, message: int | None, weight: int | None) -> Edit:
    """Train on a message (1), leave it out of the loss (0) or drop the key (None); no message: all assistant's."""
    return _edit("set_weight", rows, f"weight {weight}", message=message, weight=weight)


def add_message(rows: Iterable[int], at: int, role: str, text: str, *, of: str = "") -> Edit:
    """Put a new message before place `at`, END for behind the last one; with `of` only behind one of that role.

    Raises DataError for a role that the API does not know.
    """
    return _edit("add_message", rows, f"add {role} message", at=at, role=_known(role), text=text, **_of(of))


def delete_message(rows: Iterable[int], message: int, *, of: str = "") -> Edit:
    """Take a message out."""
    return _edit("delete_message", rows, "delete message", message=message, **_of(of))


def move_message(rows: Iterable[int], message: int, to: int, *, of: str = "") -> Edit:
    """Move a message so that it ends at place `to`."""
    return _edit("move_message", rows, "move message", message=message, to=to, **_of(of))


def split_message(rows: Iterable[int], message: int, at: int, role: str | None = None) -> Edit:
    """Split a message before its character `at`; the second half takes `role`, or the same one."""
    return _edit(
        "split_message", rows, "split message", message=message, at=at, role=_known(role) if role else None
    )


def split_before(rows: Iterable[int], message: int, line: str, *, of: str = "") -> Edit:
    """Split a message before the first place where a text stands, read from `find[ => role]` as `replacement` does.

    Raises DataError when there is nothing to find, the pattern is none, or the role is not known.
    """
    told = replacement(line if "=>" in line else f"{line} =>")
    find = _pattern(told.find, "") if told.pattern else re.escape(told.find)
    role = _known(told.text) if told.text else None
    return _edit("split_message", rows, "split message", message=message, find=find, role=role, **_of(of))


def merge_messages(rows: Iterable[int], message: int, *, of: str = "") -> Edit:
    """Join a message and the one after it by a line break, under the first one's role."""
    return _edit("merge_messages", rows, "merge messages", message=message, **_of(of))


def set_system_prompt(rows: Iterable[int] | None, prompt: str, *, fill: bool = False) -> Edit:
    """Replace the system prompt, or put it first; an empty one removes it; None for all rows.

    With `fill` each {{key}} in it becomes the value that the row's metadata has under that key.
    """
    label = "set system prompt" if prompt else "remove system prompt"
    return _edit("set_system_prompt", rows, label, prompt=prompt, **({"fill": True} if fill else {}))


def replace_row(row_index: int, row: Row, label: str = "edit as JSON") -> Edit:
    """Put another row in place of one (a fix, or an edit of its JSON)."""
    return _edit("replace_row", (row_index,), label, row=row)


def add_rows(first: int, rows: Sequence[Row], label: str) -> Edit:
    """Put new rows behind the last one, the first of them as row `first`; raises DataError when there are none."""
    if not rows:
        raise DataError("there is no conversation to add", "select conversations first")
    return _edit("add_rows", range(first, first + len(rows)), label, contents=list(rows))


def restore(kept: Sequence[int], name: str) -> Edit:
    """Go to the state that the edits of some journal ids make, whatever has been done since."""
    return _edit("restore", None, f"go to {name}", edits=list(kept))


def revert(
    rows: Iterable[int], kept: Sequence[int], name: str, *, excluded: Iterable[int], included: Iterable[int]
) -> Edit:
    """Make some rows what the edits of some journal ids make of them, leave some out and take some back in."""
    marks = {"excluded": sorted(excluded), "included": sorted(included)}
    told = {key: found for key, found in marks.items() if found}
    return _edit("revert", rows, f"revert to {name}", edits=list(kept), **told)


def fix(rows: Iterable[int], codes: Sequence[str], *, excluded: Iterable[int] = ()) -> Edit:
    """Apply the safe fixes of `codes` (fixes.FIXABLE) to `rows`, and leave `excluded` rows out, in one."""
    out = sorted(set(excluded))
    return _edit(
        "fix", rows, f"fix {', '.join(codes)}", codes=list(codes), **({"excluded": out} if out else {})
    )


def mask(rows: Iterable[int]) -> Edit:
    """Replace personal data by placeholders (privacy.mask_row)."""
    return _edit("mask", rows, "mask personal data")


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


def _of(role: str) -> dict[str, str]:
    return {"of": role} if role else {}


def _known(role: str) -> str:
    if role not in ROLES:
        raise DataError(f"there is no role {role!r}", f"one of {', '.join(ROLES)}")
    return role


def _pattern(find: str, text: str) -> str:
    """Return a regular expression that can be replaced by `text`; raises DataError when it is none."""
    try:
        re.compile(find)
        re.sub(find, text, "")
    except (re.error, IndexError) as error:
        raise DataError(f"not a regular expression: {error}", "or search for it without slashes") from error
    return find


def _tag_name(name: str) -> str:
    if not name or not name.isprintable() or name != name.strip():
        raise DataError("a tag needs a name of printable characters", "such as keep")
    return name
