"""The columns of a chunk, out of the facts of its rows.

A chunk holds folded text per role (messages joined by `MESSAGE_BREAK`), numbers, and coded columns: each row has the
number of a value in the chunk's own table of distinct values. System prompts are coded too, so a prompt that a
thousand conversations share is stored and searched once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any

import polars as pl

from tunedesk.core.datasets.indexing import (
    FIELD_PREFIX,
    HAS_TOOLS,
    ITEM_BREAK,
    MAX_FIELDS,
    MESSAGE_BREAK,
    TAG_KEYS,
    TEXT_ROLES,
    RowFacts,
    flat,
    fold,
    intent_of,
    other_cases,
    preview,
)

_GIVEN: dict[str, type[pl.DataType]] = {
    "offset": pl.UInt64,
    "length": pl.UInt32,
    "line": pl.UInt64,
    "turns": pl.UInt32,
    "systems": pl.UInt32,
    "chars": pl.Int64,
    "flags": pl.UInt8,
    "preview": pl.String,
}
_Given = tuple[int, int, int, int, int, int, int, str, str, str, str, str, str]
"""The columns of `_GIVEN` (`chars` without those of the texts), the texts of `TEXT_ROLES`, the system prompt, and the
first letters of the roles."""
_CODED = 4
"""Coded columns that every chunk has: system, roles, intent, tags."""
_NOTHING: Mapping[str, str] = {}
_join = MESSAGE_BREAK.join


@dataclass(frozen=True, slots=True)
class _Codes:
    """A coded column: the distinct values in the order they were met, and each row's place among them."""

    ids: Sequence[int]
    values: Sequence[str]
    """The first one is empty, which says "absent"."""

    @classmethod
    def of(cls, values: Sequence[str]) -> _Codes:
        """Code one value a row."""
        places = {value: place for place, value in enumerate(dict.fromkeys(chain(("",), values)))}
        return cls([places[value] for value in values], list(places))


@dataclass(frozen=True, slots=True)
class Table:
    """The distinct values of one coded column of a chunk; a row's code is a place in it."""

    value: pl.Series
    """As they are shown; a system prompt only in folded form."""
    folded: pl.Series
    """Each item folded and enclosed in `ITEM_BREAK`; a system prompt's whole folded text."""
    chars: pl.Series
    """Length of each value's text in characters."""


class _Order:
    """A sequence of roles that many conversations share, and how to take their texts apart by role."""

    def __init__(self, roles: Sequence[str]) -> None:
        at: dict[str, list[int]] = {"user": [], "assistant": [], "system": [], "tool": []}
        for place, role in enumerate(roles):
            at["system" if role == "developer" else role if role in at else "tool"].append(place)
        self.initials = "".join([role[0] for role in roles])
        self.systems = len(at["system"])
        self.breaks = len(MESSAGE_BREAK) * sum(len(places) - 1 for places in at.values() if places)
        """Characters between the texts where they are joined."""
        self.flags = HAS_TOOLS if at["tool"] else 0
        self.shown = (at["user"] or at["assistant"] or at["system"] or [-1])[0]
        """The message that is previewed, -1 when there is none."""
        self.user, self.assistant = _joined(at["user"]), _joined(at["assistant"])
        self.system, self.tool = _joined(at["system"]), _joined(at["tool"])


def _joined(places: Sequence[int]) -> Callable[[Sequence[str]], str]:
    """Return what joins the texts at some places: no conversation needs a loop over its messages for it."""
    if not places:
        return lambda texts: ""
    take = itemgetter(*places)
    return take if len(places) == 1 else lambda texts: _join(take(texts))


class ChunkBuilder:
    """Collects the facts of up to 65,536 rows into the three frames of a chunk; no row comes after the first frame."""

    def __init__(self) -> None:
        self._rows: list[_Given] = []
        self._orders: dict[tuple[str, ...], _Order] = {}
        self._fields: list[Mapping[str, str]] = []
        self._tagged: dict[int, str] = {}
        """Tags of the rows that have any."""
        self._prompt = ""
        """The system prompt of the last row: one object for all rows in turn that have it."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, facts: RowFacts, *, line: int = 0, offset: int = 0, length: int = 0) -> None:
        """Append one row; `offset` and `length` are its bytes in the canonical file."""
        if facts.tags:
            self._tagged[len(self._rows)] = facts.tags
        self._fields.append(facts.fields)
        self._rows.append(
            (
                offset, length, line, facts.turns, facts.systems,
                facts.chars - len(facts.user) - len(facts.assistant) - len(facts.tool), facts.flags, facts.preview,
                facts.user, facts.assistant, facts.tool, facts.system, facts.roles,
            )
        )  # fmt: skip

    def add_plain(
        self, line: int, offset: int, length: int, roles: tuple[str, ...], texts: list[str],
        metadata: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        """Append a row of nothing but these messages (at least one, of known roles) and metadata."""
        order = self._orders.get(roles)
        if order is None:
            order = self._orders[roles] = _Order(roles)
        fields = flat(metadata) if metadata else _NOTHING
        if "tags" in fields or "tag" in fields:
            fields = dict(fields)
            key = next(key for key in TAG_KEYS if key in fields)
            self._tagged[len(self._rows)] = fields.pop(key)
        self._fields.append(fields)
        prompt = order.system(texts)
        if prompt != self._prompt:
            self._prompt = prompt
        self._rows.append(
            (
                offset, length, line, len(texts), order.systems, len(prompt) - order.breaks, order.flags,
                preview(texts[order.shown]) if order.shown >= 0 else "",
                order.user(texts), order.assistant(texts), order.tool(texts), self._prompt, order.initials,
            )
        )  # fmt: skip

    @cached_property
    def _codes(self) -> dict[str, _Codes]:
        """The coded columns by name."""
        system, roles = self._columns[-2:]
        fields = self._fields
        others = other_cases(self._keys)
        intents = [intent_of(one, others) if one else "" for one in fields]
        tags = [""] * len(fields)
        for row, value in self._tagged.items():
            tags[row] = value
        found = {"system": system, "roles": roles, "intent": intents, "tags": tags}
        codes = {name: _Codes.of(values) for name, values in found.items()}
        for key in self._keys[: MAX_FIELDS - _CODED]:
            codes[FIELD_PREFIX + key] = _Codes.of([one.get(key, "") for one in fields])
        return codes

    @cached_property
    def _keys(self) -> list[str]:
        """All metadata keys in the order they were met."""
        return list(dict.fromkeys(chain.from_iterable(self._fields)))

    @property
    def unindexed(self) -> set[str]:
        """Metadata keys beyond `MAX_FIELDS`."""
        return set(self._keys[MAX_FIELDS - _CODED :])

    @cached_property
    def _columns(self) -> list[Sequence[Any]]:
        return list(zip(*self._rows, strict=True)) or [()] * (len(_GIVEN) + len(TEXT_ROLES) + 2)

    @cached_property
    def _texts(self) -> list[_Folded]:
        return [_Folded.of(role, self._columns[at]) for at, role in enumerate(TEXT_ROLES, len(_GIVEN))]

    def rows_frame(self, base: int = 0, lines: int = 0) -> pl.DataFrame:
        """Return numbers, preview and codes of each row; `base` is added to all offsets, `lines` to all lines."""
        columns = {
            name: pl.Series(name, values, dtype=dtype)
            for (name, dtype), values in zip(_GIVEN.items(), self._columns, strict=False)
        }
        columns["offset"] += base
        columns["line"] += lines
        for bit, text in zip(TEXT_ROLES.values(), self._texts, strict=True):
            columns["flags"] |= text.wide.cast(pl.UInt8) * bit
            columns["chars"] += text.chars
        columns["chars"] = columns["chars"].cast(pl.UInt32)
        for name, codes in self._codes.items():
            columns[name] = pl.Series(name, codes.ids, dtype=pl.UInt32)
        return pl.DataFrame(columns)

    def text_frame(self) -> pl.DataFrame:
        """Return the folded texts of user, assistant and tool, one row a conversation."""
        return pl.DataFrame([text.folded for text in self._texts])

    def tables_frame(self) -> pl.DataFrame:
        """Return the tables of all coded columns below one another; `column` names whose value it is."""
        columns, values, folded, chars = [], [], [], []
        for name, codes in self._codes.items():
            for value in codes.values:
                columns.append(name)
                values.append("" if name == "system" else value)
                folded.append(fold(value) if name == "system" else _enclosed(value))
                chars.append(len(value) - len(MESSAGE_BREAK) * value.count(MESSAGE_BREAK))
        return pl.DataFrame(
            {
                "column": pl.Series(columns, dtype=pl.String),
                "value": pl.Series(values, dtype=pl.String),
                "folded": pl.Series(folded, dtype=pl.String),
                "chars": pl.Series(chars, dtype=pl.UInt32),
            }
        )


@dataclass(frozen=True, slots=True)
class _Folded:
    """The texts of one role."""

    folded: pl.Series
    """As `fold` has them."""
    wide: pl.Series
    """Which of them hold characters beyond ASCII then."""
    chars: pl.Series
    """Their characters before."""

    @classmethod
    def of(cls, name: str, texts: Sequence[str]) -> _Folded:
        """Fold a column at once, but texts beyond ASCII one by one."""
        column = pl.Series(name, texts, dtype=pl.String)
        chars = column.str.len_chars().cast(pl.Int64)
        wide = column.str.len_bytes() != chars
        lower = column.str.to_lowercase()
        if wide.any():
            places = wide.arg_true()
            others = pl.Series([fold(texts[place]) for place in places], dtype=pl.String)
            lower = lower.scatter(places, others)
            wide = wide.scatter(places, others.str.len_bytes() != others.str.len_chars())
        return cls(lower, wide, chars)


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
