"""The lines of a JSONL file made into rows and their facts, one piece of the file at a time.

A line of nothing but roles, texts and metadata, as most lines are, is decoded into typed messages and never becomes
a dictionary. All other lines are read as importers.py reads them. Both ways index the same, and a row that is kept as
it is keeps the bytes of its line.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from tunedesk.core.conversations import SourceRow
from tunedesk.core.datasets.chunk_builder import ChunkBuilder
from tunedesk.core.datasets.dataset_writer import encode_line
from tunedesk.core.datasets.indexing import row_facts
from tunedesk.core.importing.importers import Import
from tunedesk.core.importing.pieces import Piece
from tunedesk.core.importing.rows import Options
from tunedesk.core.importing.sources import Source
from tunedesk.errors import DataError

_TOLD = 4096
"""Lines between two calls of a progress function."""
_BLOCK = 1 << 20
_SPACE = b" \t\r\n"


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool", "developer", "function"]
    content: str


class _PlainRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    messages: list[_Message]
    metadata: dict[str, Any] | None = None


_decode_plain = msgspec.json.Decoder(_PlainRow).decode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Reading:
    """How the lines of a file are read."""

    format: str
    """Told by the head of the file, or by the user."""
    forced: str = ""
    """What the user said, if anything."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    system: str = ""
    speakers: bool = False
    """Whether the mapping names speakers, not columns."""

    @property
    def may_be_plain(self) -> bool:
        """Whether rows of OpenAI's own shape are taken as they are."""
        return self.format == "openai" and not self.mapping and not self.system


class Built:
    """The rows of one piece."""

    def __init__(self, reading: Reading) -> None:
        self.builder = ChunkBuilder()
        self.read = 0
        """Lines that were read."""
        self.length = 0
        """Bytes that go into rows.jsonl, a line feed after each row."""
        self._kept: list[tuple[int, int] | bytearray] = []
        """What they are: spans of the piece as it is, and other lines."""
        self._reading = Import(
            "", reading.forced, Options(dict(reading.mapping), reading.system, reading.speakers), None
        )
        self.report = self._reading.report
        self.report.format = reading.format
        self._source = Source(io.BytesIO(), "")

    @property
    def foreign_lines(self) -> int:
        """Lines that are not UTF-8."""
        return self._source.foreign_lines

    def keep_span(self, start: int, stop: int) -> None:
        """Take lines as the piece has them, by their offsets in it."""
        self.length += stop - start
        last = self._kept[-1] if self._kept else None
        if isinstance(last, tuple) and last[1] == start:
            self._kept[-1] = (last[0], stop)
        else:
            self._kept.append((start, stop))

    def keep(self, line: bytes) -> None:
        """Take a line, its line feed included."""
        self.length += len(line)
        if not self._kept or isinstance(self._kept[-1], tuple):
            self._kept.append(bytearray())
        last = self._kept[-1]
        assert isinstance(last, bytearray)
        last += line

    def add(self, number: int, line: bytes) -> None:
        """Add the rows of a line that is not plain, or note why there are none; raises DataError as `encode_line`."""
        try:
            value = _decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            text = self._source.text(line.removesuffix(b"\n").removesuffix(b"\r"))
            for row in self._reading.of_line(number, text):
                self._add(row, encode_line(row))
            return
        for row in self._reading.of_value(number, value):
            self._add(row, line.strip(_SPACE) + b"\n" if row.row == value else encode_line(row))

    def _add(self, row: SourceRow, kept: bytes) -> None:
        self.builder.add(row_facts(row.row), line=row.line, offset=self.length, length=len(kept) - 1)
        self.keep(kept)

    def blocks(self, piece: Piece, source: int) -> Iterator[bytes | bytearray]:
        """Yield the bytes that go into rows.jsonl; `source` is the descriptor of the piece's file.

        Raises DataError when the file became shorter.
        """
        for part in self._kept:
            if isinstance(part, bytearray):
                yield part
                continue
            start, stop = part
            while start < stop:
                end = min(stop, start + _BLOCK)
                block = (
                    os.pread(source, end - start, piece.start + start)
                    if piece.data is None
                    else piece.data[start:end]
                )
                if not block:
                    raise DataError("the file became shorter while it was read", "read it again")
                yield block
                start += len(block)


def build(
    lines: Iterable[bytes],
    reading: Reading,
    *,
    first: int = 1,
    on_progress: Callable[[int], None] = lambda read: None,
) -> Built:
    """Return the rows of `lines`, which end with their line feeds, the `first` of them so numbered.

    `on_progress` is called with bytes read. Raises DataError as `encode_line`.
    """
    built = Built(reading)
    plain, add = reading.may_be_plain, built.builder.add_plain
    read = number = count = begun = 0
    for number, line in enumerate(lines, first):
        start, read = read, read + len(line)
        if not number % _TOLD:
            on_progress(read)
        row = _plain(line) if plain else None
        if row is None:
            built.keep_span(begun, start)
            built.add(number, line)
            begun = read
            continue
        offset, length = built.length + start - begun, read - start - 1
        if not line.endswith(b"}\n"):
            built.keep_span(begun, start)
            text = line.strip(_SPACE)
            offset, length = built.length, len(text)
            built.keep(text + b"\n")
            begun = read
        messages = row.messages
        texts = [message.content for message in messages]
        add(number, offset, length, tuple([message.role for message in messages]), texts, row.metadata)
        count += 1
    built.keep_span(begun, read)
    built.read = max(0, number - first + 1)
    built.report.rows += count
    built.report.imported += count
    if count:
        built.report.kinds["openai"] = built.report.kinds.get("openai", 0) + count
    return built


def _plain(line: bytes) -> _PlainRow | None:
    """Return the row of a line of nothing but messages, at least one, and metadata; None of any other."""
    try:
        row = _decode_plain(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return row if row.messages else None
