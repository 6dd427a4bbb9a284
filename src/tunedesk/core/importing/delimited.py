"""Delimited text as records: which delimiter and quotes, where the header is or that there is none, ragged rows."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from tunedesk.core.importing import columns
from tunedesk.core.importing.sources import Item, Seen

_DELIMITERS = ",;\t|^~\x1f"
_MOST_CELL = 1 << 28
"""Characters a cell may have: the csv module's own limit of 128 KiB refuses long transcripts."""
_MOST_RETRIES = 200
"""Rows with a quote left open that are read anew; a file of nothing but quotes would take forever."""
_LOOKED_AT = 60
"""Rows of the head by which dialect and header are told."""
_MOST_PREAMBLE = 30
"""Rows that may stand before a header: titles, dates, totals of an export."""
_SENTENCE = re.compile(r"\S\s+\S+\s+\S.*[.?!…]$|[。？！]$|\n", re.S)
_RULE = re.compile(r":?-{2,}:?")
_VALUE = re.compile(r"[-+]?\d[\d.,:/ T+-]*Z?|\S+@\S+\.\S+|https?://\S+")
"""A number, a date, an e-mail or web address: what no column is called."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are parted and quoted."""

    delimiter: str = ","
    quote: str = '"'
    """Empty where quotes are characters like any other."""
    spaced: bool = False
    """Blanks after a delimiter do not belong to the cell."""
    escape: str = ""
    """Character that takes a quote's meaning away, where quotes are not doubled."""

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Return the csv module's reader of this dialect."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.spaced,
            escapechar=self.escape or None,
        )


def dialect_of(head: str) -> Dialect:
    """Return the dialect that gives the first lines the most columns in equal number, best with known names."""
    declared = re.match(r"sep=(.)\r?\n", head)
    if declared:
        return Dialect(declared[1])
    best, score = Dialect(), 0.0
    for candidate in _candidates(head):
        reached = _score(_rows(head, candidate))
        if reached > score:
            best, score = candidate, reached
    return best


def _candidates(head: str) -> Iterator[Dialect]:
    for delimiter in _DELIMITERS:
        if delimiter not in head:
            continue
        if f'{delimiter} "' in head:
            yield Dialect(delimiter, spaced=True)
        yield Dialect(delimiter)
        if '\\"' in head:
            yield Dialect(delimiter, escape="\\")
        if f"'{delimiter}'" in head:
            yield Dialect(delimiter, "'")
        if delimiter in "\t\x1f" and '"' in head:
            yield Dialect(delimiter, "")


def _rows(head: str, dialect: Dialect) -> list[list[str]]:
    """Return the first rows of `head` that hold anything, without the last one, which may be cut."""
    reader = _Reader(enumerate(io.StringIO(head, newline=""), 1), dialect)
    found: list[list[str]] = []
    for _, row, _ in reader.rows():
        if any(cell.strip() for cell in row):
            found.append(row)
        if len(found) > _LOOKED_AT:
            break
    return found[:-1] if len(found) > 2 else found


def _score(rows: Sequence[Sequence[str]]) -> float:
    """Return how well rows look like a table: columns in equal number, a header of names that are known."""
    widths = Counter(len(row) for row in rows)
    width, equal = max(widths.items(), key=lambda pair: (pair[1] * (pair[0] > 1), pair[0]), default=(1, 0))
    if width < 2:
        return 0.0
    named = max(_known_names(row) for row in rows[:_MOST_PREAMBLE])
    return (equal / len(rows)) ** 2 * min(width, 12) + 3 * named


def _known_names(row: Sequence[str]) -> int:
    return len({cell.strip() for cell in row if columns.is_known(cell)})


class _Reader:
    """A CSV reader that can take a row's lines back: one quote left open must not swallow the rows after it."""

    def __init__(self, lines: Iterable[tuple[int, str]], dialect: Dialect) -> None:
        self._lines = iter(lines)
        self._dialect = dialect
        self._again: deque[tuple[int, str]] = deque()
        self._taken: list[tuple[int, str]] = []
        self._retries = _MOST_RETRIES

    def rows(self) -> Iterator[tuple[int, list[str], int]]:
        """Yield the first line, the cells and the number of lines of each row."""
        csv.field_size_limit(min(_MOST_CELL, sys.maxsize))
        reader = self._dialect.reader(self)
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


@dataclass(frozen=True, slots=True)
class _Header:
    """Where a table begins and what its columns are called."""

    names: list[str]
    skipped: int = 0
    """Rows that hold something before the header."""
    is_data: bool = False
    """There is none: the first row is data."""
    twice: tuple[str, ...] = ()
    """Names that several columns have."""


def _header_of(rows: Sequence[Sequence[str]]) -> _Header:
    """Return the header among the first rows of a table; the first row where none looks more like one."""
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    named = [_known_names(row) for row in rows]
    usual = Counter(filled).most_common(1)[0][0] if filled else 0
    at = 0
    for place in range(min(len(rows), _MOST_PREAMBLE)):
        if named[place] > 1 and all(
            filled[before] < filled[place] or _is_note(rows[before]) for before in range(place)
        ):
            at = place
            break
    else:
        while at < len(rows) - 1 and filled[at] <= 1 < usual and not named[at]:
            at += 1
    if not rows:
        return _Header([])
    if not named[at] and _is_data(rows[at]):
        return _Header([f"column_{place}" for place in range(1, len(rows[at]) + 1)], at, True)
    counted = Counter(cell.strip() for cell in rows[at] if cell.strip())
    return _Header(_names(rows[at]), at, twice=tuple(name for name, count in counted.items() if count > 1))


def _is_note(row: Sequence[str]) -> bool:
    """Return whether a row is a line such as "Created;2024-01-01" above a header."""
    cells = [cell.strip() for cell in row if cell.strip()]
    return len(cells) <= 2 and any(_VALUE.fullmatch(cell) for cell in cells)


def _is_data(row: Sequence[str]) -> bool:
    """Return whether a first row is no header: sentences, numbers, dates or addresses stand in it."""
    cells = [cell.strip() for cell in row if cell.strip()]
    return len(cells) > 1 and any(
        _SENTENCE.search(cell) or len(cell) > 80 or _VALUE.fullmatch(cell) for cell in cells
    )


def _names(row: Sequence[str]) -> list[str]:
    names: list[str] = []
    for place, cell in enumerate(row, 1):
        name = cell.strip().strip("\ufeff") or f"column_{place}"
        names.append(name if name not in names else f"{name}_{place}")
    return names


def read_csv(lines: Iterable[tuple[int, str]], head: str, seen: Seen) -> Iterator[Item]:
    """Yield each row of a table, with the physical line it starts on; `head` is its beginning, for a look ahead.

    Without a header (the first row reads like data) columns are called column_1, column_2 …; `seen` tells.
    """
    dialect = dialect_of(head)
    header = _header_of([row for row in _rows(head, dialect) if not _declares(row)])
    seen.headerless = header.is_data
    seen.twice = header.twice
    reader = _Reader(((number, f"{line}\n") for number, line in lines), dialect)
    left = header.skipped + (0 if header.is_data else 1)
    for line, row, height in reader.rows():
        if not any(cell.strip() for cell in row) or _is_rule(row):
            seen.blank_lines += height
        elif left or _declares(row):
            left -= 0 if _declares(row) else 1
            seen.before_header += height if left and not _declares(row) else 0
        else:
            yield _item(line, row, height, header.names, reader)


def read_rows(rows: Iterable[tuple[int, list[str]]], seen: Seen) -> Iterator[Item]:
    """Yield each row of a table whose cells are known already, as of a workbook's sheet, with its number."""
    numbered = iter(rows)
    head = list(islice(numbered, _LOOKED_AT))
    header = _header_of([row for _, row in head if any(cell.strip() for cell in row)])
    seen.headerless, seen.twice = header.is_data, header.twice
    left = header.skipped + (0 if header.is_data else 1)
    for number, row in chain(head, numbered):
        if not any(cell.strip() for cell in row):
            seen.blank_lines += 1
        elif left:
            left -= 1
            seen.before_header += bool(left)
        else:
            padded = [*row, *[""] * (len(header.names) - len(row))]
            more = [cell for cell in row[len(header.names) :] if cell.strip()]
            fault = f"it has {len(row)} cells where the header has {len(header.names)}" if more else ""
            yield Item(number, dict(zip(header.names, padded, strict=False)), fault)


def _declares(row: Sequence[str]) -> bool:
    """Return whether a row is Excel's `sep=;` line."""
    return 0 < len(row) <= 2 and row[0].startswith("sep=")


def _is_rule(row: Sequence[str]) -> bool:
    """Return whether a row is the rule under the header of a Markdown table."""
    return all(_RULE.fullmatch(cell.strip()) for cell in row if cell.strip())


def _item(line: int, row: list[str], height: int, names: list[str], reader: _Reader) -> Item:
    extra = [cell for cell in row[len(names) :] if cell.strip()]
    uneven = len(row) < len(names) or bool(extra)
    fault = f"it has {len(row)} cells where the header has {len(names)}" if uneven else ""
    if [cell.strip() for cell in row] == names:
        fault = "it is the header again"
    if uneven and height > 1 and reader.take_back():
        fault = "a quote in it is not closed, or it is cut"
    return Item(line, dict(zip(names, row, strict=False)), fault)
