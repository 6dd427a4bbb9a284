"""A file made into a dataset by the fastest way that fits it.

A file of one record a line goes piece by piece, by several processes when it is large; any other goes row by row.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tunedesk.core.datasets.dataset import ROWS, Dataset
from tunedesk.core.datasets.dataset_writer import Provenance, Written, write_chunk, write_dataset, write_parts
from tunedesk.core.importing import containers, importers, pieces
from tunedesk.core.importing.crew import Crew, CrewLost, lines_of
from tunedesk.core.importing.lines import Reading, build
from tunedesk.core.importing.pieces import Piece
from tunedesk.core.importing.report import NothingImported, Report
from tunedesk.core.importing.sources import Progress, Source, Unchanged, opened
from tunedesk.paths import private_folder, write_whole

WORTH = 48 << 20
"""Bytes of a file, a quarter of it where it is compressed, from which starting processes (half a second) pays."""
_WHOLE_FILE = ("", "turns")
"""Formats that one line cannot be read in: none, and conversations of several lines."""


def import_file(
    path: Path | str, datasets: Path, *, name: str, format_name: str | None = None,
    mapping: Mapping[str, str] | None = None, system: str | None = None, on_progress: Progress | None = None,
) -> tuple[Dataset, Report]:  # fmt: skip
    """Import a file into a folder under `datasets`; errors as of `importers.read` and `write_dataset`.

    Raises DataError, too, when the file changes meanwhile: what was read of it would be of no one state.
    """
    with Unchanged(path) as unchanged:
        if _has_lines(path):
            found = importers.read(path, format=format_name, mapping=mapping, system=system)
            for _ in found:
                break
            if found.report.format not in _WHOLE_FILE:
                said = found.options
                reading = Reading(
                    found.report.format, format_name or "", dict(said.mapping), said.system, said.speakers
                )
                lines = _Lines(
                    Path(path), datasets, name, reading, found.report.guessed, unchanged, on_progress
                )
                try:
                    return lines.store()
                except CrewLost:
                    return lines.store(alone=True)
        rows = importers.read(
            path, format=format_name, mapping=mapping, system=system, on_progress=on_progress
        )
        report = rows.report
        dataset = write_dataset(
            rows, datasets, name=name, source=str(path),
            provenance=lambda: _provenance(report, unchanged),
        )  # fmt: skip
        return dataset, report


def _provenance(report: Report, unchanged: Unchanged) -> Provenance:
    unchanged.require()
    if report.skipped and not report.imported:
        raise NothingImported(report)
    return Provenance(format=report.format, skipped=len(report.skipped))


def keep_reasons(folder: Path, dataset_id: str, report: Report) -> Path | None:
    """Write line and reason of each skipped record of an import under `folder`; None when none was skipped."""
    if not report.skipped:
        return None
    path = private_folder(folder) / f"{dataset_id}-skipped.jsonl"
    lines = [msgspec.json.encode({"line": one.line, "reason": one.reason}) for one in report.skipped]
    write_whole(path, (b"\n".join(lines) + b"\n").decode())
    return path


def _has_lines(path: Path | str) -> bool:
    """Whether a file is JSONL, compressed or not."""
    if str(path) == "-" or not Path(path).is_file():
        return False
    source = Source.open(path)
    try:
        return containers.kind(source) == "jsonl"
    finally:
        source.close()


@dataclass(frozen=True, slots=True)
class _Lines:
    """A JSONL file on its way into a dataset."""

    path: Path
    datasets: Path
    name: str
    reading: Reading
    guessed: str
    """What was guessed when the head of the file was looked at."""
    unchanged: Unchanged
    on_progress: Progress | None

    def store(self, *, alone: bool = False) -> tuple[Dataset, Report]:
        """Write the dataset, `alone` in this process; raises CrewLost when a process was killed."""
        report = Report(format=self.reading.format, guessed=self.guessed)

        def write(folder: Path) -> Written:
            as_it_is = self._is_read_as_it_is()
            source = Source.open(self.path, None if as_it_is else self.on_progress)
            try:
                written = self._write(folder, report, source, alone=alone, as_it_is=as_it_is)
                importers.note_source(source, report)
            finally:
                source.close()
            importers.note_counts(report)
            return written

        dataset = write_parts(
            write, self.datasets, name=self.name, source=str(self.path),
            provenance=lambda: _provenance(report, self.unchanged),
        )  # fmt: skip
        return dataset, report

    def _is_read_as_it_is(self) -> bool:
        """Whether the file is in UTF-8 without a byte order mark, its lines end with line feeds, nothing is packed."""
        source = Source.open(self.path)
        source.close()
        with opened(self.path) as file:
            return not source.bom and file.read(len(source.head)) == source.head

    def _write(self, folder: Path, report: Report, source: Source, *, alone: bool, as_it_is: bool) -> Written:
        told = self.on_progress if as_it_is else None
        with opened(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            length = pieces.piece_bytes(source.head, size)
            cut = pieces.of_blocks(source.blocks(), length)
            if as_it_is:
                cut = pieces.of_file(file.fileno(), size, length)
            if alone or size < (WORTH if as_it_is else WORTH // 4):
                return self._alone(cut, folder, report, source, told)
            with Crew(self.path, folder, self.reading, size, told) as crew:
                written = crew.run(cut, report)
                source.foreign_lines = crew.foreign_lines
                return written

    def _alone(
        self, cut: Iterator[Piece], folder: Path, report: Report, source: Source, told: Progress | None
    ) -> Written:
        digest = hashlib.sha256()
        unindexed: set[str] = set()
        count = chunks = end = foreign = 0
        first = 1
        with opened(self.path, buffering=1 << 20) as lines, (folder / ROWS).open("wb") as rows:
            size = os.fstat(lines.fileno()).st_size
            for piece in cut:
                tell = _teller(told, piece.start, size)
                built = build(lines_of(piece, lines), self.reading, first=first, on_progress=tell)
                tell(piece.stop - piece.start)
                for block in built.blocks(piece, lines.fileno()):
                    rows.write(block)
                    digest.update(block)
                report.add(built.report)
                foreign += built.foreign_lines
                first += built.read
                if len(built.builder):
                    write_chunk(built.builder, folder, chunks, base=end)
                    chunks += 1
                count += len(built.builder)
                end += built.length
                unindexed |= built.builder.unindexed
            rows.flush()
            os.fsync(rows.fileno())
        source.foreign_lines = foreign
        return Written(digest.hexdigest(), count, frozenset(unindexed))


def _teller(told: Progress | None, start: int, size: int) -> Callable[[int], None]:
    """Return what tells the bytes read of a piece as bytes read of the file."""
    if told is None:
        return lambda read: None
    return lambda read: told(start + read, size)
