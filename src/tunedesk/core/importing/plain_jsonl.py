"""Plain OpenAI chat JSONL, the common case, imported by several processes at once.

The file is cut at every 65,536th line, so that each piece becomes one chunk of the dataset. Each process decodes its
piece, tells how long its canonical rows are, and learns where in rows.jsonl they go. The result is what importers.py
and dataset_writer.py make, byte for byte; at the first line that is not plain, all is dropped and they do it.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import BinaryIO

import msgspec

from tunedesk.core.conversations import Row
from tunedesk.core.datasets.arrow_parts import write_part
from tunedesk.core.datasets.dataset import ROWS, Dataset
from tunedesk.core.datasets.dataset_writer import Provenance, Written, write_dataset, write_parts
from tunedesk.core.datasets.indexing import CHUNK_ROWS, ChunkBuilder, row_facts
from tunedesk.core.importing import containers, importers
from tunedesk.core.importing.importers import Report
from tunedesk.core.importing.records import with_system
from tunedesk.core.importing.sources import Progress, Source

WORTH = 16 << 20
"""Bytes of a file from which starting processes (half a second) pays."""
_MOST_PIECE = 256 << 20
"""Bytes of a piece that one process may hold; longer conversations are imported one by one."""
_MOST_PROCESSES = 4
_BLOCK = 1 << 20
_TOLD = 4096
"""Rows between two words of a process about how far it is."""


class NotPlain(Exception):
    """A line is not a plain conversation: the file goes the long way."""


@dataclass(frozen=True, slots=True)
class Piece:
    """65,536 consecutive lines of the source (the last piece: what is left)."""

    number: int
    start: int
    """Offset in bytes."""
    stop: int
    last: bool = False


def import_file(
    path: Path | str, datasets: Path, *, name: str, format_name: str | None = None,
    mapping: Mapping[str, str] | None = None, system: str | None = None, on_progress: Progress | None = None,
) -> tuple[Dataset, Report]:  # fmt: skip
    """Import a file into a folder under `datasets` by the fastest way that fits; errors as of `importers.read`."""
    if not mapping and format_name in (None, "", "openai") and _looks_plain(path):
        with suppress(NotPlain):
            return _import_plain(Path(path), datasets, name, system or "", on_progress)
    rows = importers.read(path, format=format_name, mapping=mapping, system=system, on_progress=on_progress)
    report = rows.report
    dataset = write_dataset(
        rows, datasets, name=name, source=str(path),
        provenance=lambda: Provenance(format=report.format, skipped=len(report.skipped)),
    )  # fmt: skip
    return dataset, report


def _looks_plain(path: Path | str) -> bool:
    """Whether a file is large, uncompressed JSONL in UTF-8 without a byte order mark, told by its head."""
    if str(path) == "-" or not Path(path).is_file() or Path(path).stat().st_size < WORTH:
        return False
    source = Source.open(path)
    try:
        with Path(path).open("rb") as file:
            as_it_is = source.head.startswith(file.read(4))
        whole_lines = b"\n" in source.head[:_BLOCK]
        return as_it_is and whole_lines and containers.kind(source) == "jsonl"
    finally:
        source.close()


def _import_plain(
    path: Path, datasets: Path, name: str, system: str, on_progress: Progress | None
) -> tuple[Dataset, Report]:
    report = Report(format="openai")

    def write(folder: Path) -> Written:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            with _Crew(path, folder, system, size, on_progress) as crew:
                written = crew.run(pieces(file.fileno(), size))
        report.rows = report.imported = report.kinds["openai"] = written.conversations
        report.blank_lines = crew.blank_lines
        importers.note_counts(report)
        return written

    made = lambda: Provenance(format="openai")  # noqa: E731
    return write_parts(write, datasets, name=name, source=str(path), provenance=made), report


def pieces(source: int, size: int) -> Iterator[Piece]:
    """Cut an open file after every 65,536th line; raises NotPlain when a piece would be too long to hold."""
    number = start = at = lines = 0
    while at < size:
        block = os.pread(source, _BLOCK, at)
        if not block:
            break
        count = block.count(b"\n")
        if lines + count < CHUNK_ROWS:
            lines, at = lines + count, at + len(block)
            if at - start > _MOST_PIECE:
                raise NotPlain
            continue
        cut = -1
        for _ in range(CHUNK_ROWS - lines):
            cut = block.index(b"\n", cut + 1)
        stop = at + cut + 1
        yield Piece(number, start, stop, stop >= size)
        number, start, at, lines = number + 1, stop, stop, 0
    if start < at:
        yield Piece(number, start, at, last=True)


@dataclass(slots=True)
class _Progressing:
    """One piece as the crew knows it."""

    piece: Piece
    length: int | None = None
    """Bytes of its canonical rows, once they are known."""
    base: int = 0
    """Where in rows.jsonl they begin, once all pieces before it know their length."""
    asking: Connection | None = None
    """The process that waits to be told where its rows go."""
    done: bool = False


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    link: Connection
    read: int = 0
    """Bytes of its present piece that it has decoded."""


class _Crew:
    """The processes at work on one file, and what the parts they wrote add up to."""

    def __init__(
        self, path: Path, folder: Path, system: str, size: int, on_progress: Progress | None
    ) -> None:
        """Start the processes; close them by leaving the `with` block."""
        self.blank_lines = 0
        self._folder, self._size, self._on_progress = folder, size, on_progress
        self._rows = (folder / ROWS).open("w+b")
        self._hashing, self._syncing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        """Beside the processes: hashes the rows in the order of the file, and syncs finished parts."""
        self._kept: list[Future[None]] = []
        self._digest = hashlib.sha256()
        self._pieces: list[_Progressing] = []
        self._placed = self._hashed = 0
        """Pieces whose rows have a place, and whose rows are on their way into the digest, from the first on."""
        self._end = self._read = self._count = 0
        self._unindexed: set[str] = set()
        self._workers: dict[Connection, _Worker] = {}
        count = min(_MOST_PROCESSES, os.cpu_count() or 1, 1 + size // WORTH)
        context = get_context("spawn")
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, path, folder, system), daemon=True)
            self._workers[ours] = _Worker(process, ours)
            process.start()
            theirs.close()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.process.kill()
            worker.process.join()
            worker.link.close()
        for threads in (self._hashing, self._syncing):
            threads.shutdown(wait=True, cancel_futures=True)
        self._rows.close()

    def run(self, cut: Iterator[Piece]) -> Written:
        """Have all pieces written; raises NotPlain, OSError, and whatever `on_progress` raises."""
        busy = set(self._workers)
        while busy:
            for link in wait(busy):
                assert isinstance(link, Connection)
                try:
                    said = link.recv()
                except (EOFError, ConnectionError):
                    raise NotPlain from None  # the process was killed: one alone may get through
                if said[0] != "ready":
                    getattr(self, f"_{said[0]}")(link, *said[1:])
                elif not self._give(link, next(cut, None)):
                    busy.remove(link)
        for future in self._kept:
            future.result()
        os.fsync(self._rows.fileno())
        return Written(self._digest.hexdigest(), self._count, frozenset(self._unindexed))

    def _give(self, link: Connection, piece: Piece | None) -> bool:
        if piece is not None:
            self._pieces.append(_Progressing(piece))
        link.send(piece)
        return piece is not None

    def _at(self, link: Connection, read: int) -> None:
        self._workers[link].read = read
        self._tell()

    def _tell(self) -> None:
        """Tell how far all processes are together."""
        if self._on_progress is not None:
            self._on_progress(self._read + sum(worker.read for worker in self._workers.values()), self._size)

    def _encoded(self, link: Connection, number: int, length: int) -> None:
        """Tell every process whose rows' place is known by now where it is."""
        self._pieces[number].length, self._pieces[number].asking = length, link
        while self._placed < len(self._pieces) and self._pieces[self._placed].length is not None:
            asking = self._pieces[self._placed].asking
            assert asking is not None
            asking.send(self._end)
            self._pieces[self._placed].base = self._end
            self._end += self._pieces[self._placed].length or 0
            self._placed += 1

    def _wrote(self, link: Connection, number: int, rows: int, blank: int, unindexed: set[str]) -> None:
        """Take a finished piece: hash what is now whole from the beginning on, and sync its parts."""
        one = self._pieces[number]
        one.done = True
        self._count += rows
        self.blank_lines += blank
        self._unindexed |= unindexed
        self._workers[link].read = 0
        self._read += one.piece.stop - one.piece.start
        self._tell()
        self._kept.append(self._syncing.submit(self._sync, number))
        while self._hashed < len(self._pieces) and self._pieces[self._hashed].done:
            place = self._pieces[self._hashed]
            self._kept.append(self._hashing.submit(self._hash, place.base, place.base + (place.length or 0)))
            self._hashed += 1

    def _odd(self, link: Connection) -> None:
        raise NotPlain

    def _failed(self, link: Connection, number: int, reason: str) -> None:
        raise OSError(number, reason)

    def _hash(self, start: int, stop: int) -> None:
        """Add the next bytes of the rows to the digest."""
        while start < stop:
            block = os.pread(self._rows.fileno(), min(stop - start, _BLOCK), start)
            if not block:
                raise OSError(errno.EIO, "the rows are shorter than what was written")
            self._digest.update(block)
            start += len(block)

    def _sync(self, number: int) -> None:
        for path in self._folder.glob(f"*-{number:03}.arrow"):
            with path.open("rb") as file:
                os.fsync(file.fileno())


def work(link: Connection, path: Path, folder: Path, system: str) -> None:
    """Be one of the processes: write the parts of one piece after the other until there is none left."""
    # The terminal's interrupt is the parent's to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    with suppress(EOFError, BrokenPipeError), path.open("rb") as source, (folder / ROWS).open("r+b") as rows:
        link.send(("ready",))
        while (piece := link.recv()) is not None:
            try:
                _write_piece(link, piece, source, rows.fileno(), folder, system)
            except NotPlain:
                link.send(("odd",))
                return
            except OSError as error:
                link.send(("failed", error.errno, error.strerror))
                return
            link.send(("ready",))


def _write_piece(
    link: Connection, piece: Piece, source: BinaryIO, rows: int, folder: Path, system: str
) -> None:
    """Write the parts of one piece, in the words that `_Crew` understands."""
    source.seek(piece.start)
    builder, canonical = ChunkBuilder(), bytearray()
    blank = read = 0
    number = piece.number * CHUNK_ROWS
    while read < piece.stop - piece.start:
        line = source.readline()
        number, read = number + 1, read + len(line)
        if line.isspace():
            blank += 1
            continue
        row = plain_row(line, system)
        offset = len(canonical)
        _append(row, canonical)
        builder.add(row_facts(row), line=number, offset=offset, length=len(canonical) - offset)
        canonical += b"\n"
        if not number % _TOLD:
            link.send(("at", read))
    if not len(builder) or (blank and not piece.last):
        raise NotPlain
    link.send(("encoded", piece.number, len(canonical)))
    write_part(builder.text_frame(), folder / f"text-{piece.number:03}.arrow", durable=False)
    write_part(builder.tables_frame(), folder / f"tables-{piece.number:03}.arrow", durable=False)
    base: int = link.recv()
    _write_at(rows, canonical, base)
    write_part(builder.rows_frame(base), folder / f"rows-{piece.number:03}.arrow", durable=False)
    link.send(("wrote", piece.number, len(builder), blank, builder.unindexed))


_decode = msgspec.json.Decoder().decode
_encode_into = msgspec.json.Encoder().encode_into


def plain_row(line: bytes, system: str) -> Row:
    """Return the row of a line as importers.py would make it; raises NotPlain where that is not plain to see."""
    try:
        record = _decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NotPlain from None
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
        raise NotPlain
    other = "preferred_output" in record or "conversations" in record or "chosen" in record
    if other or "role" not in messages[0]:
        raise NotPlain
    return with_system(record, system) if system else record


def _append(row: Row, lines: bytearray) -> None:
    """Append the canonical bytes of a row, those of `encode_row`."""
    try:
        _encode_into(row, lines, -1)
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError):
        raise NotPlain from None


def _write_at(file: int, lines: bytearray, offset: int) -> None:
    """Write at a place of a file that several processes write."""
    data = memoryview(lines)
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
