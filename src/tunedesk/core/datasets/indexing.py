"""What the list and the search know about a row: facts drawn from it once, and columns of them for 65,536 rows.

A chunk holds folded text per role (messages joined by `MESSAGE_BREAK`), numbers, and coded columns: each row has the
number of a value in the chunk's own table of distinct values. System prompts are coded too, so a prompt that a
thousand conversations share is stored and searched once.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tunedesk.core.conversations import ROW_KEYS, Row, content_text

CHUNK_ROWS = 65_536
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
FIELD_PREFIX = "m:"
"""Columns of metadata keys are named by this and the key."""

_NUMBERS: dict[str, type[pl.DataType]] = {
    "offset": pl.UInt64,
    "length": pl.UInt32,
    "line": pl.UInt64,
    "turns": pl.UInt32,
    "systems": pl.UInt32,
    "chars": pl.UInt32,
    "flags": pl.UInt8,
}


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
    roles: str = ""
    """First letters of the roles in order, such as `suaua`."""
    preview: str = ""
    user: str = ""
    assistant: str = ""
    tool: str = ""
    """Folded text of tool results, tool calls and roles of any other name."""
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
        facts.preview = _preview(shown[0])
    facts.systems = len(system)
    if system:
        facts.system = fold(MESSAGE_BREAK.join(system))
    if user:
        facts.user = fold(MESSAGE_BREAK.join(user))
    if assistant:
        facts.assistant = fold(MESSAGE_BREAK.join(assistant))
    flags = 0 if facts.user.isascii() else USER_WIDE
    if not facts.assistant.isascii():
        flags |= ASSISTANT_WIDE
    if tool:
        facts.tool = fold(MESSAGE_BREAK.join(tool))
        flags |= HAS_TOOLS if facts.tool.isascii() else HAS_TOOLS | TOOL_WIDE
    if len(row) > 1:
        if row.get("tools") or row.get("functions"):
            flags |= HAS_TOOLS
        _add_metadata(row, facts)
    facts.flags = flags
    return facts


def _preview(text: str) -> str:
    """Return the first characters of a text, each run of white space as one space."""
    for enough in (PREVIEW_CHARACTERS + 40, 4 * PREVIEW_CHARACTERS):
        words = " ".join(text[:enough].split())
        if len(words) >= PREVIEW_CHARACTERS or len(text) <= enough:
            break
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
            _flatten(value, "", fields)
        elif key not in ROW_KEYS and isinstance(value, str | int | float):
            fields.setdefault(key, _value(value))
    facts.intent = fields.get("intent") or fields.get("category") or fields.get("label") or ""
    facts.tags = fields.pop("tags", "")


def _flatten(values: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for key, value in values.items():
        if type(value) is str and not prefix:
            into[key] = value.replace(ITEM_BREAK, " ")
        elif isinstance(value, dict) and not prefix:
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


class _Codes:
    """A coded column while it grows; value 0 is "absent", also of rows at its end that have no id yet."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.values: dict[str, int] = {"": 0}


@dataclass(frozen=True, slots=True)
class Table:
    """The distinct values of one coded column of a chunk; a row's code is a place in it."""

    value: pl.Series
    """As they are shown; a system prompt only in folded form."""
    folded: pl.Series
    """Each item folded and enclosed in `ITEM_BREAK`; a system prompt's whole folded text."""
    chars: pl.Series
    """Length of each value's text in characters."""


class ChunkBuilder:
    """Collects the facts of up to 65,536 rows into the three frames of a chunk."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, int, int, str, str, str, str]] = []
        """Numbers in the order of `_NUMBERS`, preview, then the texts in the order of `TEXT_ROLES`."""
        self.codes = {name: _Codes() for name in ("system", "roles", "intent", "tags")}
        self._always = tuple(self.codes.values())
        self._fields: dict[str, _Codes] = {}
        self.unindexed: set[str] = set()
        """Metadata keys beyond `MAX_FIELDS`."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, facts: RowFacts, *, line: int = 0, offset: int = 0, length: int = 0) -> None:
        """Append one row; `offset` and `length` are its bytes in the canonical file."""
        count = len(self._rows)
        self._rows.append(
            (
                offset, length, line, facts.turns, facts.systems, facts.chars, facts.flags,
                facts.preview, facts.user, facts.assistant, facts.tool,
            )
        )  # fmt: skip
        system, roles, intent, tags = self._always
        system.ids.append(system.values.setdefault(facts.system, len(system.values)))
        roles.ids.append(roles.values.setdefault(facts.roles, len(roles.values)))
        intent.ids.append(intent.values.setdefault(facts.intent, len(intent.values)))
        tags.ids.append(tags.values.setdefault(facts.tags, len(tags.values)))
        for key, value in facts.fields.items():
            field = self._fields.get(key) or self._field(key)
            if field is None:
                continue
            if len(field.ids) < count:
                field.ids.extend([0] * (count - len(field.ids)))
            field.ids.append(field.values.setdefault(value, len(field.values)))

    def _field(self, key: str) -> _Codes | None:
        """Return the new column of a metadata key, None when there are too many."""
        if len(self.codes) >= MAX_FIELDS:
            self.unindexed.add(key)
            return None
        self._fields[key] = self.codes[FIELD_PREFIX + key] = _Codes()
        return self._fields[key]

    def rows_frame(self, base: int = 0) -> pl.DataFrame:
        """Return numbers, preview and codes, one row a conversation; `base` is added to all offsets."""
        count = len(self._rows)
        columns = [self._column(at, name, dtype) for at, (name, dtype) in enumerate(_NUMBERS.items())]
        columns[0] = columns[0] + base
        columns.append(self._column(len(_NUMBERS), "preview", pl.String))
        for name, codes in self.codes.items():
            ids = codes.ids + [0] * (count - len(codes.ids))
            columns.append(pl.Series(name, ids, dtype=pl.UInt32))
        return pl.DataFrame(columns)

    def text_frame(self) -> pl.DataFrame:
        """Return the folded texts of user, assistant and tool, one row a conversation."""
        first = len(_NUMBERS) + 1
        return pl.DataFrame([self._column(at, role, pl.String) for at, role in enumerate(TEXT_ROLES, first)])

    def _column(self, at: int, name: str, dtype: type[pl.DataType]) -> pl.Series:
        return pl.Series(name, [row[at] for row in self._rows], dtype=dtype)

    def tables_frame(self) -> pl.DataFrame:
        """Return the tables of all coded columns below one another; `column` names whose value it is."""
        columns, values, folded, chars = [], [], [], []
        for name, codes in self.codes.items():
            for value in codes.values:
                columns.append(name)
                values.append("" if name == "system" else value)
                folded.append(value if name == "system" else _enclosed(value))
                chars.append(len(value))
        return pl.DataFrame(
            {
                "column": pl.Series(columns, dtype=pl.String),
                "value": pl.Series(values, dtype=pl.String),
                "folded": pl.Series(folded, dtype=pl.String),
                "chars": pl.Series(chars, dtype=pl.UInt32),
            }
        )


def _enclosed(value: str) -> str:
    return ITEM_BREAK + fold(value) + ITEM_BREAK if value else ""


def split_tables(columns: Mapping[str, pl.Series]) -> dict[str, Table]:
    """Return the tables of a chunk by column from the columns of its tables frame."""
    tables: dict[str, Table] = {}
    start = 0
    for run in columns["column"].rle().to_list():
        stop = start + run["len"]
        tables[run["value"]] = Table(*(columns[name][start:stop] for name in ("value", "folded", "chars")))
        start = stop
    return tables
