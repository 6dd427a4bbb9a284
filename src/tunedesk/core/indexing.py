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
_TEXT_OF = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""Which text a role's messages go to; all other roles' go to that of tools."""
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
        return text.casefold()
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
    facts = RowFacts()
    texts: dict[str, list[str]] = {"system": [], "user": [], "assistant": [], "tool": []}
    initials = []
    chars = 0
    for message in messages_of(row):
        if not isinstance(message, dict):
            continue
        role, content = message.get("role"), message.get("content")
        text = content if isinstance(content, str) else content_text(content)
        name = _TEXT_OF.get(role, "tool") if isinstance(role, str) else "tool"
        chars += len(text)
        texts[name].append(text)
        initials.append(role[0] if isinstance(role, str) and role else "?")
        if "tool_calls" in message or "function_call" in message:
            texts["tool"] += _calls(message)
    facts.chars = chars
    facts.turns = len(initials)
    facts.roles = "".join(initials)
    facts.systems = len(texts["system"])
    shown = texts["user"] or texts["assistant"] or texts["system"]
    facts.preview = " ".join(shown[0][: 4 * PREVIEW_CHARACTERS].split())[:PREVIEW_CHARACTERS] if shown else ""
    facts.system = fold(MESSAGE_BREAK.join(texts["system"]))
    for role, wide in TEXT_ROLES.items():
        text = fold(MESSAGE_BREAK.join(texts[role])) if texts[role] else ""
        setattr(facts, role, text)
        if not text.isascii():
            facts.flags |= wide
    if texts["tool"] or row.get("tools") or row.get("functions"):
        facts.flags |= HAS_TOOLS
    _add_metadata(row, facts)
    return facts


def _calls(message: dict[str, Any]) -> Iterator[str]:
    """Yield name and arguments of every tool call of a message."""
    calls = message.get("tool_calls")
    functions = [c.get("function") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
    for function in [*functions, message.get("function_call")]:
        if isinstance(function, dict):
            yield f"{function.get('name', '')} {function.get('arguments', '')}"


def _add_metadata(row: Row, facts: RowFacts) -> None:
    fields = facts.fields
    if len(row) > 1:
        for key, value in row.items():
            if key == "metadata" and isinstance(value, dict):
                _flatten(value, "", fields)
            elif key not in ROW_KEYS and isinstance(value, str | int | float):
                fields.setdefault(key, _value(value))
    facts.intent = fields.get("intent") or fields.get("category") or fields.get("label") or ""
    facts.tags = fields.pop("tags", "")


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
        return ITEM_BREAK.join(dict.fromkeys(_value(item) for item in value if item is not None))
    return json.dumps(value, ensure_ascii=False)


class _Codes:
    """A coded column while it grows; value 0 is "absent"."""

    def __init__(self, rows: int) -> None:
        self.ids = [0] * rows
        self.values: dict[str, int] = {"": 0}

    def add(self, value: str) -> None:
        self.ids.append(self.values.setdefault(value, len(self.values)))


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
        self.numbers: dict[str, list[int]] = {name: [] for name in _NUMBERS}
        self.previews: list[str] = []
        self.texts: dict[str, list[str]] = {role: [] for role in TEXT_ROLES}
        self.codes = {name: _Codes(0) for name in ("system", "roles", "intent", "tags")}
        self.unindexed: set[str] = set()
        """Metadata keys beyond `MAX_FIELDS`."""

    def __len__(self) -> int:
        return len(self.previews)

    def add(self, facts: RowFacts, *, line: int = 0, offset: int = 0, length: int = 0) -> None:
        """Append one row; `offset` and `length` are its bytes in the canonical file."""
        numbers, count = self.numbers, len(self.previews)
        numbers["offset"].append(offset)
        numbers["length"].append(length)
        numbers["line"].append(line)
        numbers["turns"].append(facts.turns)
        numbers["systems"].append(facts.systems)
        numbers["chars"].append(facts.chars)
        numbers["flags"].append(facts.flags)
        self.previews.append(facts.preview)
        self.texts["user"].append(facts.user)
        self.texts["assistant"].append(facts.assistant)
        self.texts["tool"].append(facts.tool)
        codes = self.codes
        codes["system"].add(facts.system)
        codes["roles"].add(facts.roles)
        codes["intent"].add(facts.intent)
        codes["tags"].add(facts.tags)
        for key, value in facts.fields.items():
            column = codes.get(FIELD_PREFIX + key)
            if column is None:
                if len(codes) >= MAX_FIELDS:
                    self.unindexed.add(key)
                    continue
                column = codes[FIELD_PREFIX + key] = _Codes(count)
            column.ids.extend([0] * (count - len(column.ids)))
            column.add(value)

    def rows_frame(self) -> pl.DataFrame:
        """Return numbers, preview and codes, one row a conversation."""
        count = len(self.previews)
        columns = [pl.Series(name, self.numbers[name], dtype=dtype) for name, dtype in _NUMBERS.items()]
        columns.append(pl.Series("preview", self.previews, dtype=pl.String))
        for name, codes in self.codes.items():
            ids = codes.ids + [0] * (count - len(codes.ids))
            columns.append(pl.Series(name, ids, dtype=pl.UInt32))
        return pl.DataFrame(columns)

    def text_frame(self) -> pl.DataFrame:
        """Return the folded texts of user, assistant and tool, one row a conversation."""
        return pl.DataFrame({role: pl.Series(texts, dtype=pl.String) for role, texts in self.texts.items()})

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
