"""Tokens of many conversations at once, message by message: the rule of tokens.py over columns.

Lines are decoded, all their texts go through the word cache together, and what belongs to one row is added up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import polars as pl

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.counting.tokens import TokenCounter
from tunedesk.core.counting.word_counts import WordCounter, strings
from tunedesk.core.datasets.indexing import messages_of

OTHER, USER, SYSTEM, UNTRAINED, TRAINED = range(5)
"""What a message is: a tool's or of an unknown role, the user's, a prompt, an answer of weight 0, an answer."""
_KINDS = {"user": USER, "system": SYSTEM, "developer": SYSTEM, "assistant": TRAINED}


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str
    weight: int | float | None = None


class _Line(msgspec.Struct, gc=False):
    messages: list[_Plain]
    tools: msgspec.Raw | None = None


_decode_plain = msgspec.json.Decoder(_Line).decode
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


@dataclass(slots=True)
class _Flat:
    """The messages of many rows below one another."""

    texts: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    extra: dict[int, int] = field(default_factory=dict)
    """Place of a message → tokens of its name, calls and further parts."""
    untrained: list[int] = field(default_factory=list)
    """Places of answers of weight 0, and of answers that are not trained on for another reason."""
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
        self._words = WordCounter(counter.tiktoken)

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
                row = _decode_plain(line)
            except msgspec.ValidationError:
                self._add(flat, _decode_row(line))
                continue
            messages = row.messages
            start = len(flat.texts)
            flat.texts += [message.content for message in messages]
            flat.roles += [message.role for message in messages]
            flat.untrained += [start + n for n, message in enumerate(messages) if message.weight == 0]
            if row.tools is not None:
                flat.by_row[len(flat.lengths)] = self._counter.tools(msgspec.json.decode(row.tools))
            flat.lengths.append(len(messages))
        return self._table(flat)

    def rows(self, rows: Iterable[Row]) -> MessageTable:
        """Count rows."""
        flat = _Flat()
        for row in rows:
            self._add(flat, row)
        return self._table(flat)

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
        for place, message in enumerate(messages):
            text = content_text(message.get("content"))
            role = message.get("role", "")
            if message.keys() - {"role", "content", "weight"}:
                extra = self._counter.extra(message)
                if extra:
                    flat.extra[len(flat.texts)] = extra
            if message.get("weight") == 0 or place < asked:
                flat.untrained.append(len(flat.texts))
            flat.texts.append(text)
            flat.roles.append(role if isinstance(role, str) else str(role))
        flat.lengths.append(len(messages))

    def _table(self, flat: _Flat) -> MessageTable:
        counter = self._counter
        roles = strings(flat.roles)
        known = pl.DataFrame({"role": roles}).unique()
        names = known["role"].to_list()
        known = known.with_columns(
            fixed=pl.Series([3 + counter.text(name) for name in names], dtype=pl.UInt32),
            kind=pl.Series([_KINDS.get(name, OTHER) for name in names], dtype=pl.UInt8),
        )
        told = pl.DataFrame({"role": roles}).join(known, on="role", how="left", maintain_order="left")
        overhead, kinds = told["fixed"], told["kind"]
        if flat.untrained:
            places = pl.Series(flat.untrained, dtype=pl.UInt32)
            kinds = kinds.scatter(places.filter(kinds.gather(places) == TRAINED), UNTRAINED)
        tokens = self._words.count(flat.texts) + overhead
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


def _array(values: pl.Series) -> array[int]:
    return array("I", values.to_list())
