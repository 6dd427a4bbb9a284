"""Bytes of a file or a pipe as numbered lines of text: gzip, encodings, byte order marks, cut files.

Nothing here knows what the lines mean. What was unusual about the file is kept on the `Source`.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from tunedesk.core.importing.encodings import legacy_encoding
from tunedesk.errors import DataError

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the size of the file (0 when it is not known, as of a pipe)."""

_CHUNK = 1 << 20
_PATIENCE_S = 0.2
"""Seconds between two looks at whether a pipe is still waited for."""
_HEAD = 1 << 18
_MOST_WHOLE = 2 << 30
"""Bytes of a file that has to be held in memory as a whole: a small gzip file may unpack to anything."""
_GZIP = b"\x1f\x8b"
_BINARY = (b"PAR1", b"PK\x03\x04", b"PK\x05\x06")
"""How files begin whose bytes are no text: Parquet, zips."""
_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Marks and encodings of more than one byte a character; UTF-32's little mark begins with UTF-16's."""


@dataclass(frozen=True, slots=True)
class Item:
    """A record with its place; `fault` says why it is not even a record."""

    line: int
    """Physical line, or the place of its file in a folder or zip (both from 1)."""
    record: Any
    fault: str = ""


@dataclass(slots=True)
class Seen:
    """What was unusual about a file on the way to its records."""

    blank_lines: int = 0
    """Empty lines, and table rows of nothing but empty cells."""
    before_header: int = 0
    """Lines of a table passed over before its header."""
    headerless: bool = False
    """The first row of a table is data: its columns are called column_1, column_2 …"""
    twice: tuple[str, ...] = ()
    """Names that stand over several columns of a table; those after the first are called NAME_3 by their place."""


def opened(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Open a file to read its bytes; raises DataError when it cannot be."""
    try:
        return path.open("rb", buffering=buffering)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "Check the path and its rights."
        ) from error


def is_pipe(path: Path | str) -> bool:
    """Return whether `path` is a pipe with a name: what is read from it is gone."""
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False


class _Pipe:
    """A pipe with a name, which nobody may write to yet: who waits for it is asked whether to go on."""

    def __init__(self, path: Path, waiting: Callable[[], object]) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._waiting = waiting

    def read(self, size: int) -> bytes:
        """Return what there is of `size` bytes, nothing at the end; `waiting` may raise meanwhile."""
        while not select.select([self._file], [], [], _PATIENCE_S)[0]:
            self._waiting()
        return os.read(self._file, size)

    def close(self) -> None:
        os.close(self._file)


class Unchanged:
    """A file that is read several times over, and has to be the same each time.

    Whatever is wrong with a file that changed while the `with` block read it, that it changed is told instead.
    """

    def __init__(self, path: Path | str) -> None:
        """Note the state it is in; a pipe or what is not there has none."""
        self._path = Path(path)
        self._before = self._state()

    def __enter__(self) -> Unchanged:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, DataError):
            self.require()

    def require(self) -> None:
        """Raise DataError when the file was written to, replaced or removed since."""
        if self._state() != self._before:
            raise DataError(
                f"{self._path} changed while it was read", "read it again when nothing writes to it any more"
            )

    def _state(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        if not stat.S_ISREG(found.st_mode):
            return ()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Source:
    """One input, read once from its beginning to its end; `head` may be looked at before."""

    def __init__(
        self, stream: BinaryIO, name: str, size: int = 0, on_progress: Progress | None = None
    ) -> None:
        """Read from `stream`, of `size` bytes (0 when not known)."""
        self.name = name
        self.bom = False
        """The text began with a byte order mark, which was taken off."""
        self.cut = False
        """The gzip stream ended before its end: what was read is what came before the cut."""
        self.encoding = "utf-8"
        self.foreign_lines = 0
        """Lines that are not UTF-8 and were read in an older encoding."""
        self.foreign = ""
        """The older encoding, once a line needed it."""
        self._stream = stream
        self.size = size
        """Bytes of the file as it was opened, 0 when not known."""
        self._progress = on_progress
        chunks = self._unmarked(self._inflated(self._read()))
        pieces: list[bytes] = []
        for chunk in chunks:
            pieces.append(chunk)
            if sum(map(len, pieces)) >= _HEAD:
                break
        self.head = b"".join(pieces)
        """The first bytes, inflated and in UTF-8 where the encoding could be told: at least 256 KiB, or all."""
        self._chunks = chain((self.head,), chunks)

    @classmethod
    def open(cls, path: Path | str, on_progress: Progress | None = None) -> Source:
        """Open `path` (`-` is standard input); raises DataError when it cannot be read."""
        if str(path) == "-":
            return cls(sys.stdin.buffer, "standard input", 0, on_progress)
        path = Path(path)
        if is_pipe(path):
            pipe = _Pipe(path, lambda: on_progress(0, 0) if on_progress else None)
            with ExitStack() as unread:
                unread.callback(pipe.close)  # or its writer would find a reader who reads no more
                source = cls(cast("BinaryIO", pipe), path.name, 0, on_progress)
                unread.pop_all()
                return source
        stream = opened(path)
        return cls(stream, path.name, os.fstat(stream.fileno()).st_size, on_progress)

    @classmethod
    def of_bytes(cls, data: bytes, name: str) -> Source:
        """Return a source over `data` in memory, as of a file inside a zip."""
        return cls(io.BytesIO(data), name, len(data))

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._stream is not sys.stdin.buffer:
            self._stream.close()

    def blocks(self) -> Iterator[bytes]:
        """Return the bytes as they come, inflated and in UTF-8 where the encoding could be told."""
        return self._chunks

    def whole(self) -> bytes:
        """Return all bytes, inflated: for formats that cannot be read line by line; raises DataError above 2 GiB."""
        pieces: list[bytes] = []
        size = 0
        for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > _MOST_WHOLE:
                raise DataError(
                    f"{self.name} is larger than {_MOST_WHOLE >> 30} GiB",
                    "Write it as JSON lines, or in parts.",
                )
        return b"".join(pieces)

    def raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each physical line with its number (1-based), without its line end."""
        number, rest = 0, []
        for chunk in self._chunks:
            head, newline, tail = chunk.partition(b"\n")
            if not newline:
                rest.append(chunk)
                continue
            number += 1
            yield number, b"".join((*rest, head)).removesuffix(b"\r")
            *whole, last = tail.split(b"\n")
            for line in whole:
                number += 1
                yield number, line.removesuffix(b"\r")
            rest = [last]
        if last := b"".join(rest):
            yield number + 1, last.removesuffix(b"\r")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield each physical line as text; a line that is not UTF-8 is read in an older encoding and counted."""
        for number, line in self.raw_lines():
            yield number, self.text(line)

    def text(self, data: bytes) -> str:
        """Return `data` as text: UTF-8, else the older encoding that fits, with the bytes it leaves open as Latin-1."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.foreign_lines += 1
        self.foreign = self.foreign or legacy_encoding(self.head.rpartition(b"\n")[0] + b"\n" + data[:_CHUNK])
        try:
            return data.decode(self.foreign)
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def _read(self) -> Iterator[bytes]:
        done = 0
        while True:
            try:
                chunk = self._stream.read(_CHUNK)
            except OSError as error:
                raise DataError(f"{self.name} cannot be read: {error.strerror}", "Is it a file?") from error
            if not chunk:
                return
            done += len(chunk)
            yield chunk
            if self._progress is not None:
                self._progress(done, self.size)

    def _inflated(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        first = next(chunks, b"")
        if not first.startswith(_GZIP):
            yield first
            yield from chunks
            return
        inflate = zlib.decompressobj(31)
        for chunk in chain((first,), chunks):
            data = chunk
            while data:
                before = inflate.copy()
                try:
                    yield inflate.decompress(data, _CHUNK)
                except zlib.error:
                    self.cut = True
                    yield _before_damage(before, data)
                    return
                data = inflate.unconsumed_tail
                if inflate.eof:
                    data = inflate.unused_data.lstrip(b"\0")
                    if data:
                        inflate = zlib.decompressobj(31)
        self.cut = not inflate.eof

    def _unmarked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        first = next(chunks, b"")
        if first.startswith(_BINARY):
            yield first
            yield from chunks
            return
        for mark, encoding in _WIDE:
            if first.startswith(mark) or _looks_wide(first, encoding):
                self.encoding, self.bom = encoding, first.startswith(mark)
                decoder = codecs.getincrementaldecoder(encoding)("replace")
                for chunk in chain((first.removeprefix(mark),), chunks):
                    yield _one_newline(decoder.decode(chunk).encode("utf-8", "replace"))
                return
        self.bom = first.startswith(codecs.BOM_UTF8)
        first = first.removeprefix(codecs.BOM_UTF8)
        old_mac = b"\r" in first and b"\n" not in first and b"\r\n" not in first
        for chunk in chain((first,), chunks):
            yield _one_newline(chunk) if old_mac else chunk


def _one_newline(data: bytes) -> bytes:
    return data.replace(b"\r", b"\n") if b"\n" not in data else data


def _before_damage(inflate: Any, data: bytes) -> bytes:
    """Return what a gzip stream still holds before the place where it is damaged."""
    made = []
    try:
        for at in range(len(data)):
            made.append(inflate.decompress(data[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(made)


def _looks_wide(data: bytes, encoding: str) -> bool:
    """Return whether a text without a mark is in this encoding, by the zeros beside its ASCII characters."""
    if encoding.startswith("utf-32"):
        first = data[:4]
        zeros, letter = (first[:3], first[3:]) if encoding.endswith("be") else (first[1:], first[:1])
        return zeros == bytes(3) and letter not in (b"", b"\0")
    begins = (b"\0{\0", b"\0[\0") if encoding == "utf-16-be" else (b"{\0", b"[\0")
    if data.startswith(begins) and data[2:4] != b"\0\0":
        return True
    sample = data[:400]
    zeros = sample[1::2] if encoding == "utf-16-le" else sample[0::2]
    others = sample[0::2] if encoding == "utf-16-le" else sample[1::2]
    return len(sample) >= 20 and zeros.count(0) > 0.7 * len(zeros) and others.count(0) == 0
