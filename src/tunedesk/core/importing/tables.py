"""Tables: CSV of any delimiter and Parquet as records, and tables of one message a row as conversations."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.importing import columns
from tunedesk.core.importing.records import NotARow, Options, spoken_row, with_system
from tunedesk.core.importing.roles import Turn, role_of, said
from tunedesk.errors import DataError

_DELIMITERS = ",;\t|"
_MOST_CELL = 1 << 28
"""Characters a cell may have: the csv module's own limit of 128 KiB refuses long transcripts."""
_THREAD, _DEPTH = "thread", "reply"
"""Names of the columns that stand for a chain of replies."""
_MOST_RETRIES = 200
"""Rows with a quote left open that are read anew; a file of nothing but quotes would take forever."""
_TRUE = ("true", "1", "yes", "y", "t")
_FALSE = ("false", "0", "no", "n", "f")


@dataclass(frozen=True, slots=True)
class Cells:
    """One row of a table as a record, or why it is none."""

    line: int
    record: dict[str, Any]
    fault: str = ""


def delimiter_of(head: str) -> str:
    """Return the delimiter that gives the first lines the most columns in equal number; a comma when none does."""
    declared = re.match(r"sep=(.)\r?\n", head)
    if declared:
        return declared[1]
    best, score = ",", 0.0
    for delimiter in _DELIMITERS:
        rows = list(_rows(io.StringIO(head, newline=""), delimiter))[:40]
        widths = [len(row) for _, row in rows[:-1] or rows if row]
        if not widths or widths[0] < 2:
            continue
        equal = sum(width == widths[0] for width in widths) / len(widths)
        if equal * min(widths[0], 12) > score:
            best, score = delimiter, equal * min(widths[0], 12)
    return best


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each row, as far as quotes let them be told apart."""
    return ((line, row) for line, row, _ in _Reader(enumerate(lines, 1), delimiter).rows())


class _Reader:
    """A CSV reader that can take a row's lines back: one quote left open must not swallow the rows after it."""

    def __init__(self, lines: Iterable[tuple[int, str]], delimiter: str) -> None:
        self._lines = iter(lines)
        self._delimiter = delimiter
        self._again: deque[tuple[int, str]] = deque()
        self._taken: list[tuple[int, str]] = []
        self._retries = _MOST_RETRIES

    def rows(self) -> Iterator[tuple[int, list[str], int]]:
        """Yield the first line, the cells and the number of lines of each row."""
        csv.field_size_limit(min(_MOST_CELL, sys.maxsize))
        reader = csv.reader(self, delimiter=self._delimiter)
        while True:
            self._taken.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                row = []
            yield (self._taken[0][0] if self._taken else 0), row, len(self._taken)

    def take_back(self) -> bool:
        """Give all lines of the last row but its first to be read anew; False when that was done too often."""
        if len(self._taken) < 2 or not self._retries:
            return False
        self._retries -= 1
        self._again.extendleft(reversed(self._taken[1:]))
        return True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line; may go on after it ended, when lines were given back."""
        pair = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(pair)
        return pair[1]


def read_csv(lines: Iterable[tuple[int, str]], head: str) -> Iterator[Cells]:
    """Yield each row under the header, with the physical line it starts on; blank lines are passed over.

    Raises DataError when there is no header with at least one name.
    """
    delimiter = delimiter_of(head)
    reader = _Reader(((number, f"{line}\n") for number, line in lines), delimiter)
    header: list[str] = []
    for line, row, height in reader.rows():
        if not any(cell.strip() for cell in row) or (len(row) <= 2 and row[0].startswith("sep=")):
            continue
        if not header:
            header = _header(row)
            continue
        record: dict[str, Any] = dict(zip(header, row, strict=False))
        extra = [cell for cell in row[len(header) :] if cell.strip()]
        uneven = len(row) < len(header) or bool(extra)
        fault = f"it has {len(row)} cells where the header has {len(header)}" if uneven else ""
        if uneven and height > 1 and reader.take_back():
            fault = "a quote in it is not closed, or it is cut"
        yield Cells(line, record, fault)


def _header(row: Sequence[str]) -> list[str]:
    names: list[str] = []
    for place, cell in enumerate(row, 1):
        name = cell.strip() or f"column_{place}"
        names.append(name if name not in names else f"{name}_{place}")
    return names


def read_parquet(data: bytes, name: str) -> Iterator[Cells]:
    """Yield each row of a Parquet file, numbered from 1; raises DataError when it is not one."""
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{name} is not a Parquet file that can be read: {error}", "Is it cut?") from error
    number = 0
    for part in frame.iter_slices(4_096):
        for record in part.to_dicts():
            number += 1
            for key in ("tools", "functions", "parallel_tool_calls"):
                if record.get(key, ...) is None:
                    del record[key]
            yield Cells(number, {key: _filled(value) for key, value in record.items()})


def _filled(value: Any) -> Any:
    """Return `value` without the null fields that Parquet gives every object of a list that has them in one."""
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None}
    return value


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """Which columns of a table of messages mean what; an empty name where there is none."""

    conversation: str
    speaker: str
    text: str
    order: str = ""
    aside: str = ""
    own: str = ""
    """The message's own id, where `conversation` names the message it answers instead of a conversation."""


def turn_columns(sample: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> TurnColumns | None:
    """Return the columns when `sample` looks like one message a row (an id, a speaker, a text); None when it does not.

    Raises DataError when ids repeat and texts are there, but no column says who speaks.
    """
    if not sample or not all(isinstance(record, Mapping) for record in sample):
        return None
    names = [str(name) for name in sample[0]]
    conversation = mapping.get("conversation") or columns.find("conversation", names)
    own = ""
    if conversation is None:
        conversation, own = columns.find("parent", names), columns.find("own", names) or ""
        names = names if own else []
    if conversation is None or conversation not in names:
        return None
    rest = [name for name in names if name != conversation]
    speaker = mapping.get("speaker") or _speaker(sample, rest)
    text = mapping.get("text") or columns.find("text", [name for name in rest if name != speaker])
    ids = [said(record.get(conversation)) for record in sample]
    repeated = len(set(ids)) < len(ids) and all(len(one) < 200 for one in ids)
    if text is None or not (own or repeated or {"conversation", "speaker"} <= set(mapping)):
        return None
    if speaker is None:
        if columns.find("assistant", [name for name in rest if name != text]) is not None:
            return None
        raise DataError(
            f"the table has one message a row (by {conversation!r}), but no column says who speaks",
            f"Columns: {', '.join(names)}. Name it with --map speaker=COLUMN, or it has the customers' side only.",
        )
    order = mapping.get("order") or columns.find("order", rest) or ""
    return TurnColumns(conversation, speaker, text, order, columns.find("aside", rest) or "", own)


def _speaker(sample: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Return the most trusted speaker column whose cells really name sides, else the most trusted one."""
    candidates = [name for name in names if columns.find("speaker", [name]) is not None]
    candidates.sort(key=lambda name: columns.MEANINGS["speaker"].split().index(_trusted(name)))
    for name in candidates:
        cells = {said(record.get(name)) for record in sample}
        if {side(name, cell) for cell in cells} >= {"user", "assistant"}:
            return name
    return candidates[0] if candidates and len({said(r.get(candidates[0])) for r in sample}) > 1 else None


def _trusted(name: str) -> str:
    wanted = columns.MEANINGS["speaker"].split()
    return next(one for one in wanted if columns.plain(name) in (one, one.replace("_", "")))


def side(column: str, cell: str) -> str | None:
    """Return the role that a cell of a speaker column names; true and false are read by the column's name."""
    word = cell.strip().lower()
    name = columns.plain(column)
    if name in ("inbound", "incoming", "is_customer", "is_agent") and word in (*_TRUE, *_FALSE):
        return "user" if (word in _TRUE) != (name == "is_agent") else "assistant"
    return role_of(cell)


@dataclass(slots=True)
class _Talk:
    first: int
    record: dict[str, Any]
    turns: list[tuple[Any, Turn]] = field(default_factory=list)


def conversations(
    cells: Iterable[Cells], names: TurnColumns, options: Options, skip: Any
) -> Iterator[SourceRow]:
    """Yield the conversations of a table of messages, regrouped by id, in the order of their first message.

    `skip(line, reason)` is called for every row of the table that does not become part of a conversation.
    """
    if names.own:
        cells, names = _threads(cells, names), replace(names, conversation=_THREAD, order=_DEPTH)
    talks: dict[str, _Talk] = {}
    known = options.known_roles()
    for cell in cells:
        reason = cell.fault or _unfit(cell.record, names)
        if reason:
            skip(cell.line, reason)
            continue
        record = cell.record
        talk = talks.setdefault(said(record[names.conversation]), _Talk(cell.line, record))
        speaker = said(record[names.speaker])
        speaker = speaker if speaker.strip().lower() in known else side(names.speaker, speaker) or speaker
        talk.turns.append(
            (_order(record.get(names.order)), Turn(speaker, said(record[names.text]), cell.line))
        )
    used = (names.speaker, names.text, names.order, names.aside)
    for talk in talks.values():
        try:
            row: Row = spoken_row(_ordered(talk.turns), talk.record, options, used)
        except NotARow as error:
            for _, turn in talk.turns:
                skip(turn.line, str(error))
            continue
        yield SourceRow(talk.first, with_system(row, options.system))


def _threads(cells: Iterable[Cells], names: TurnColumns) -> Iterator[Cells]:
    """Yield the rows with the first message of their chain of replies, and how deep in it they stand."""
    kept = list(cells)
    parents = {
        said(c.record.get(names.own)): said(c.record.get(names.conversation)) for c in kept if not c.fault
    }
    known: dict[str, tuple[str, int]] = {}
    for own in parents:
        path: dict[str, None] = {}
        at = own
        while at in parents and at not in known and parents[at] and at not in path:
            path[at] = None
            at = parents[at]
        root, depth = known.get(at, (at, 0))
        for back, one in enumerate(reversed(path), 1):
            known[one] = (root, depth + back)
    for cell in kept:
        own = said(cell.record.get(names.own))
        root, depth = known.get(own, (own, 0))
        yield cell if cell.fault else replace(cell, record={**cell.record, _THREAD: root, _DEPTH: depth})


def _unfit(record: Mapping[str, Any], names: TurnColumns) -> str:
    if not said(record.get(names.conversation)).strip():
        return f"{names.conversation} is empty"
    if names.aside:
        word = said(record.get(names.aside)).strip().lower()
        name = columns.plain(names.aside)
        if (
            (word in _FALSE)
            if "public" in name and name != "visibility"
            else word in (*_TRUE, "note", "internal", "private")
        ):
            return "an internal note"
    if role_of(said(record.get(names.speaker))) == "aside":
        return "not said by customer or agent"
    if not said(record.get(names.text)).strip():
        return "the message is empty"
    if not said(record.get(names.speaker)).strip():
        return f"{names.speaker} is empty"
    return ""


def _order(value: object) -> object:
    text = said(value).strip()
    try:
        return float(text)
    except ValueError:
        return text


def _ordered(turns: list[tuple[Any, Turn]]) -> list[Turn]:
    """Return the turns sorted by the order column where all its cells compare (numbers, or dates from the year down).

    Where an agent speaks, what the "system" says is an automatic event of the ticket, not a system prompt.
    """
    keys = [key for key, _ in turns]
    numbers = all(isinstance(key, float) for key in keys)
    dates = all(isinstance(key, str) and re.match(r"\d{4}-\d\d", key) for key in keys)
    ordered = [turn for _, turn in (sorted(turns, key=lambda pair: pair[0]) if numbers or dates else turns)]
    if all(role_of(turn.speaker) != "assistant" for turn in ordered):
        return ordered
    return [replace(turn, speaker="event") if role_of(turn.speaker) == "system" else turn for turn in ordered]
