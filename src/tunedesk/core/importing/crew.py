"""One file of lines imported by several processes at once.

Each process takes one piece of the file after the other, tells how long the rows are that it made, and learns where in
rows.jsonl they go. Hashing and syncing go on beside them.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import BinaryIO

from tunedesk.core.datasets.arrow_parts import write_part
from tunedesk.core.datasets.dataset import ROWS
from tunedesk.core.datasets.dataset_writer import Written
from tunedesk.core.importing.lines import Built, Reading, build
from tunedesk.core.importing.pieces import Piece
from tunedesk.core.importing.report import Report
from tunedesk.core.importing.sources import Progress, opened
from tunedesk.core.spawning import MOST_PROCESSES, spawning, uninterrupted
from tunedesk.errors import DataError

_BLOCK = 1 << 20


class CrewLost(Exception):
    """A process was killed, or met what it cannot tell of: one process alone may get through, or say why not."""


@dataclass(slots=True)
class _Progressing:
    """One piece as the crew knows it."""

    piece: Piece
    length: int | None = None
    """Bytes of its rows, once they are known."""
    lines: int = 0
    base: int = 0
    """Where in rows.jsonl they begin, once all pieces before it know their length."""
    asking: Connection | None = None
    """The process that waits to be told where its rows go."""
    built: Report | None = None
    """What was read in it, once its parts are written."""
    rows: int = 0


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    link: Connection
    read: int = 0
    """Bytes of its present piece that it has decoded."""


class Crew:
    """The processes at work on one file, and what the parts they wrote add up to."""

    def __init__(
        self, path: Path, folder: Path, reading: Reading, size: int, on_progress: Progress | None
    ) -> None:
        """Start the processes; close them by leaving the `with` block. `on_progress` is told bytes of `size`."""
        self.foreign_lines = 0
        self._folder, self._size, self._on_progress = folder, size, on_progress
        self._rows = (folder / ROWS).open("w+b")
        self._hashing, self._syncing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        """Beside the processes: hashes the rows in the order of the file, and syncs what is written."""
        self._kept: list[Future[None]] = []
        self._digest = hashlib.sha256()
        self._pieces: list[_Progressing] = []
        self._placed = self._hashed = 0
        """Pieces whose rows have a place, and whose rows are on their way into the digest, from the first on."""
        self._end = self._lines = self._read = 0
        self._unindexed: set[str] = set()
        self._workers: dict[Connection, _Worker] = {}
        context = spawning()
        for _ in range(min(MOST_PROCESSES, max(2, os.cpu_count() or 1))):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, path, folder, reading), daemon=True)
            self._workers[ours] = _Worker(process, ours)
            with uninterrupted():
                process.start()
            theirs.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.process.kill()
            worker.process.join()
            worker.link.close()
        for threads in (self._hashing, self._syncing):
            threads.shutdown(wait=True, cancel_futures=True)
        self._rows.close()

    def run(self, cut: Iterator[Piece], report: Report) -> Written:
        """Have all pieces written; raises CrewLost, OSError, DataError, and whatever `on_progress` raises."""
        busy = set(self._workers)
        while busy:
            for link in wait(busy):
                assert isinstance(link, Connection)
                try:
                    said = link.recv()
                    if said[0] != "ready":
                        getattr(self, f"_{said[0]}")(link, *said[1:])
                    elif not self._give(link, next(cut, None)):
                        busy.remove(link)
                except (EOFError, ConnectionError):
                    raise CrewLost from None
        for future in self._kept:
            future.result()
        os.fsync(self._rows.fileno())
        lines = 0
        for one in self._pieces:
            assert one.built is not None
            report.add(one.built, lines)
            lines += one.lines
        self._close_ranks()
        count = sum(one.rows for one in self._pieces)
        return Written(self._digest.hexdigest(), count, frozenset(self._unindexed))

    def _close_ranks(self) -> None:
        """Number the parts without gaps: a piece of skipped lines alone has none."""
        for place, one in enumerate([one for one in self._pieces if one.rows]):
            if place != one.piece.number:
                for kind in ("rows", "text", "tables"):
                    old = self._folder / f"{kind}-{one.piece.number:03}.arrow"
                    old.rename(self._folder / f"{kind}-{place:03}.arrow")

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

    def _encoded(self, link: Connection, number: int, length: int, lines: int) -> None:
        """Tell every process whose rows' place is known by now where it is, and how many lines were before."""
        own = self._pieces[number]
        own.length, own.lines, own.asking = length, lines, link
        while self._placed < len(self._pieces) and self._pieces[self._placed].length is not None:
            placed = self._pieces[self._placed]
            assert placed.asking is not None
            placed.asking.send((self._end, self._lines))
            placed.base = self._end
            self._end += placed.length or 0
            self._lines += placed.lines
            self._placed += 1

    def _wrote(
        self, link: Connection, number: int, rows: int, report: Report, foreign: int, unindexed: set[str]
    ) -> None:
        """Take a finished piece: hash what is now whole from the beginning on, and sync its parts."""
        one = self._pieces[number]
        one.built, one.rows = report, rows
        self.foreign_lines += foreign
        self._unindexed |= unindexed
        self._workers[link].read = 0
        self._read += one.piece.stop - one.piece.start
        self._tell()
        if rows:
            self._kept.append(self._syncing.submit(self._sync, number))
        while self._hashed < len(self._pieces) and self._pieces[self._hashed].built is not None:
            place = self._pieces[self._hashed]
            self._kept.append(self._hashing.submit(self._hash, place.base, place.base + (place.length or 0)))
            self._hashed += 1

    def _refused(self, link: Connection) -> None:
        # Only one process that reads from the beginning can tell the number of the line.
        raise CrewLost

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
        for kind in ("rows", "text", "tables"):
            with (self._folder / f"{kind}-{number:03}.arrow").open("rb") as file:
                os.fsync(file.fileno())
        # What is written by now; at the end there is little left to wait for.
        os.fsync(self._rows.fileno())


def work(link: Connection, path: Path, folder: Path, reading: Reading) -> None:
    """Be one of the processes: write the parts of one piece after the other until there is none left."""
    gc.disable()
    # A parent that was killed has nobody who listens.
    with suppress(EOFError, BrokenPipeError):
        try:
            _take_pieces(link, path, folder, reading)
        except DataError:
            link.send(("refused",))
        except BrokenPipeError:
            raise
        except OSError as error:
            link.send(("failed", error.errno, error.strerror))


def _take_pieces(link: Connection, path: Path, folder: Path, reading: Reading) -> None:
    with opened(path, buffering=_BLOCK) as source, (folder / ROWS).open("r+b") as rows:
        link.send(("ready",))
        while (piece := link.recv()) is not None:
            built = build(lines_of(piece, source), reading, on_progress=lambda read: link.send(("at", read)))
            _write(link, piece, built, source.fileno(), rows.fileno(), folder)
            link.send(("ready",))


def lines_of(piece: Piece, source: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a piece of an open file, with their line feeds."""
    if piece.data is not None:
        yield from io.BytesIO(piece.data)
        return
    left = piece.stop - piece.start
    source.seek(piece.start)
    for line in source:
        yield line
        left -= len(line)
        if left <= 0:
            return


def _write(link: Connection, piece: Piece, built: Built, source: int, rows: int, folder: Path) -> None:
    """Write the parts of one piece, in the words that `Crew` understands."""
    builder, number = built.builder, piece.number
    link.send(("encoded", number, built.length, built.read))
    if len(builder):
        write_part(builder.text_frame(), folder / f"text-{number:03}.arrow", durable=False)
        write_part(builder.tables_frame(), folder / f"tables-{number:03}.arrow", durable=False)
    base, lines = link.recv()
    offset = base
    for block in built.blocks(piece, source):
        offset += _write_at(rows, block, offset)
    if len(builder):
        write_part(builder.rows_frame(base, lines), folder / f"rows-{number:03}.arrow", durable=False)
    link.send(("wrote", number, len(builder), built.report, built.foreign_lines, builder.unindexed))


def _write_at(file: int, block: bytes | bytearray, offset: int) -> int:
    """Write at a place of a file that several processes write; return how many bytes."""
    data = memoryview(block)
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
    return len(block)
