"""Tokens of many conversations at once, message by message: the rule of tokens.py over columns.

Lines are decoded, all their texts go through the word cache together, and what belongs to one row is added up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import polars as pl

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.counting.known_texts import KnownTexts, strings
from tunedesk.core.counting.text_counts import TextCounter
from tunedesk.core.counting.tokens import TokenCounter
from tunedesk.core.datasets.indexing import messages_of

OTHER, USER, SYSTEM, UNTRAINED, TRAINED = range(5)
"""What a message is: a tool's or of an unknown role, the user's, a prompt, an answer of weight 0, an answer."""
_KINDS = {"user": USER, "system": SYSTEM, "developer": SYSTEM, "assistant": TRAINED}


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str
    weight: int | float | None = None


class _PlainLine(msgspec.Struct, gc=False):
    messages: list[_Plain]
    tools: msgspec.Raw | None = None


class _Rich(msgspec.Struct, gc=False):
    """A message with all that is counted of it."""

    role: str = ""
    content: str | list[Any] | None = None
    weight: Any = None
    name: Any = None
    tool_calls: Any = None
    function_call: Any = None
    tool_call_id: Any = None

    def extra(self, counter: TokenCounter) -> int:
        """Return the tokens of what is not its role and content."""
        if self.name is self.tool_calls is self.function_call is self.tool_call_id is None:
            return 0
        more = ("name", "tool_calls", "function_call", "tool_call_id")
        return counter.extra({key: getattr(self, key) for key in more})


class _RichLine(msgspec.Struct, gc=False):
    messages: list[_Rich]
    tools: msgspec.Raw | None = None


_decode_plain = msgspec.json.Decoder(_PlainLine).decode
_decode_rich = msgspec.json.Decoder(_RichLine).decode
_decode_row = msgspec.json.Decoder(Row).decode


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Tokens of each row, in their order; typecode I all of them."""

    total: array[int]
    trained: array[int]
    """Of the messages that the loss mask trains on."""
    system: array[int]
    """Of its system prompts, with what a message costs by itself."""

    @classmethod
    def zeros(cls, rows: int) -> RowTokens:
        """Return the counts of `rows` rows without a token."""
        return cls(*(array("I", bytes(4 * rows)) for _ in range(3)))

    def put(self, at: int, other: RowTokens) -> None:
        """Replace the counts from row `at` on."""
        stop = at + len(other.total)
        self.total[at:stop], self.trained[at:stop] = other.total, other.trained
        self.system[at:stop] = other.system

    def part(self, start: int, stop: int) -> RowTokens:
        """Return the counts of the rows from `start` to before `stop`."""
        return RowTokens(self.total[start:stop], self.trained[start:stop], self.system[start:stop])


@dataclass(slots=True)
class _Flat:
    """The messages of many rows below one another."""

    messages: list[_Plain] = field(default_factory=list)
    extra: dict[int, int] = field(default_factory=dict)
    """Place of a message → tokens of its name, calls and further parts."""
    weighed: bool = False
    """Whether a message may have a weight."""
    lengths: list[int] = field(default_factory=list)
    """Messages of each row."""
    by_row: dict[int, int] = field(default_factory=dict)
    """Place of a row → tokens beside its messages and the reply's 3."""


@dataclass(frozen=True, slots=True)
class MessageTable:
    """Tokens and kinds of the messages of some rows, below one another."""

    tokens: pl.Series
    """Of each message, its fixed part included (UInt32)."""
    overhead: pl.Series
    """What of it is neither text nor call: 3, and its role (UInt32)."""
    kinds: pl.Series
    """OTHER, USER, SYSTEM, UNTRAINED or TRAINED (UInt8)."""
    lengths: pl.Series
    """Messages of each row (UInt32)."""
    beside: pl.Series
    """Tokens of each row that are no message's: its tools and the reply's 3; 0 for a row that is none (UInt32)."""

    def rows(self) -> RowTokens:
        """Return the tokens of each row."""
        trained = (self.tokens - self.overhead) * (self.kinds == TRAINED)
        system = self.tokens * (self.kinds == SYSTEM)
        total = self.per_row(self.tokens) + self.beside
        return RowTokens(_array(total), _array(self.per_row(trained)), _array(self.per_row(system)))

    def per_row(self, values: pl.Series) -> pl.Series:
        """Return the sum over each row's messages (Int64)."""
        running = pl.concat([pl.Series([0], dtype=pl.Int64), values.cast(pl.Int64).cum_sum()])
        ends = self.lengths.cast(pl.UInt64).cum_sum()
        return running.gather(ends) - running.gather(ends - self.lengths)

    def within(self, values: pl.Series) -> pl.Series:
        """Return the running sum over each row's messages, the message itself included (Int64)."""
        running = pl.concat([pl.Series([0], dtype=pl.Int64), values.cast(pl.Int64).cum_sum()])
        ends = self.lengths.cast(pl.UInt64).cum_sum()
        return running.slice(1) - self.spread(running.gather(ends - self.lengths))

    def spread(self, values: pl.Series) -> pl.Series:
        """Return a value of each row for each of its messages."""
        rows = pl.int_range(len(self.lengths), dtype=pl.UInt32, eager=True)
        return values.gather(rows.repeat_by(self.lengths).explode().drop_nulls())


class TableCounter:
    """Counts rows in bulk as `counter` counts them one by one; for several threads at once."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._texts = TextCounter(counter.tiktoken)
        self._roles = KnownTexts(2)

    def expect(self, size: int) -> None:
        """Get ready for `size` bytes of rows, where that pays."""
        self._texts.expect(size)

    def count_lines(self, lines: Sequence[bytes]) -> RowTokens:
        """Return the tokens of rows in JSON."""
        return self.lines(lines).rows()

    def count_rows(self, rows: Sequence[Row]) -> RowTokens:
        """Return the tokens of rows."""
        return self.rows(rows).rows()

    def lines(self, lines: Iterable[bytes]) -> MessageTable:
        """Count rows in JSON."""
        flat = _Flat()
        for line in lines:
            try:
                plain = _decode_plain(line)
            except msgspec.ValidationError:
                self._add_rich(flat, line)
                continue
            flat.weighed = flat.weighed or b'"weight"' in line or b"\\u" in line
            flat.messages += plain.messages
            self._end_row(flat, len(plain.messages), plain.tools)
        return self._table(flat)

    def rows(self, rows: Iterable[Row]) -> MessageTable:
        """Count rows."""
        flat = _Flat()
        for row in rows:
            self._add(flat, row)
        return self._table(flat)

    def _add_rich(self, flat: _Flat, line: bytes) -> None:
        """Add a row whose messages have names, calls or parts; one of another shape by way of its dictionary."""
        try:
            row = _decode_rich(line)
        except msgspec.ValidationError:
            self._add(flat, _decode_row(line))
            return
        flat.weighed = True
        for message in row.messages:
            if extra := message.extra(self._counter):
                flat.extra[len(flat.messages)] = extra
            weight = 0 if message.weight == 0 else None
            flat.messages.append(_Plain(message.role, content_text(message.content), weight))
        self._end_row(flat, len(row.messages), row.tools)

    def _end_row(self, flat: _Flat, length: int, tools: msgspec.Raw | None) -> None:
        if tools is not None:
            flat.by_row[len(flat.lengths)] = self._counter.tools(msgspec.json.decode(tools))
        flat.lengths.append(length)

    def _add(self, flat: _Flat, row: Row) -> None:
        """Add a row of any shape."""
        pairs = "messages" not in row
        messages = [message for message in messages_of(row) if isinstance(message, dict)]
        number = len(flat.lengths)
        if not messages and not isinstance(row.get("messages"), list):
            flat.by_row[number] = -3
        elif row.get("tools"):
            flat.by_row[number] = self._counter.tools(row["tools"])
        asked = len(row["input"].get("messages") or ()) if pairs and isinstance(row.get("input"), dict) else 0
        flat.weighed = True
        for place, message in enumerate(messages):
            if message.keys() - {"role", "content", "weight"} and (extra := self._counter.extra(message)):
                flat.extra[len(flat.messages)] = extra
            role = message.get("role", "")
            untrained = message.get("weight") == 0 or place < asked
            flat.messages.append(
                _Plain(
                    role if isinstance(role, str) else str(role),
                    content_text(message.get("content")),
                    0 if untrained else None,
                )
            )
        flat.lengths.append(len(messages))

    def _table(self, flat: _Flat) -> MessageTable:
        overhead, kinds = self._by_role(strings([message.role for message in flat.messages]))
        if flat.weighed:
            untrained = [place for place, message in enumerate(flat.messages) if message.weight == 0]
            places = pl.Series(untrained, dtype=pl.UInt32)
            kinds = kinds.scatter(places.filter(kinds.gather(places) == TRAINED), UNTRAINED)
        tokens = self._texts.count([message.content for message in flat.messages]) + overhead
        if flat.extra:
            places = pl.Series(list(flat.extra), dtype=pl.UInt32)
            tokens = tokens.scatter(
                places, tokens.gather(places) + pl.Series(list(flat.extra.values()), dtype=pl.UInt32)
            )
        beside = [3] * len(flat.lengths)
        for place, more in flat.by_row.items():
            beside[place] += more
        lengths = pl.Series(flat.lengths, dtype=pl.UInt32)
        return MessageTable(tokens, overhead, kinds, lengths, pl.Series(beside, dtype=pl.UInt32))

    def _by_role(self, roles: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Return of each role what a message of it costs by itself, and its kind."""
        if self._roles.full:
            self._roles = KnownTexts(2)
        known = self._roles
        named = roles.cast(known.type)

        def fixed(new: pl.Series) -> pl.Series:
            return pl.Series([3 + self._counter.text(name) for name in new.to_list()], dtype=pl.UInt32)

        def kind(new: pl.Series) -> pl.Series:
            return pl.Series([_KINDS.get(name, OTHER) for name in new.to_list()], dtype=pl.UInt32)

        return known.counts(named, fixed, 0), known.counts(named, kind, 1).cast(pl.UInt8)


def _array(values: pl.Series) -> array[int]:
    return array("I", values.to_list())
