"""Writing a dataset: streamed into parts, under a temporary name until it is whole, then named by its content."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import polars as pl

from tunedesk.core.conversations import SourceRow, encode_row
from tunedesk.core.datasets.arrow_parts import map_part, write_part
from tunedesk.core.datasets.chunk_builder import ChunkBuilder, split_tables
from tunedesk.core.datasets.dataset import MANIFEST, ROWS, Chunk, Dataset, Manifest
from tunedesk.core.datasets.indexing import CHUNK_ROWS, row_facts
from tunedesk.errors import DataError, StoreError
from tunedesk.paths import private_folder, sync_folder, write_whole

_IMPORTING = ".importing-"
_ROOM = 1 << 30
"""Bytes of the disk that are left to what must be kept."""

Progress = Callable[[int, int], None]
"""Called with conversations and bytes written so far; whatever it raises cancels the import."""


class Provenance(msgspec.Struct, frozen=True):
    """What is known of a source once it has been read to its end."""

    format: str = ""
    """The importer's name."""
    source_sha256: str = ""
    skipped: int = 0
    """Rows of the source that were left out, each with a reason that the importer reported."""


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a dataset before it has a name."""

    sha256: str
    """Of rows.jsonl."""
    conversations: int
    unindexed: frozenset[str]
    """Metadata keys too many to search by."""


def write_dataset(
    rows: Iterable[SourceRow],
    datasets: Path,
    *,
    name: str,
    source: str,
    on_progress: Progress | None = None,
    provenance: Callable[[], Provenance] = Provenance,
) -> Dataset:
    """Import `rows` into a folder under `datasets` named by their content, and open it.

    Rows are streamed: memory holds one chunk at a time. `provenance` is asked after the last row. Content that is
    there already is not written twice, but takes the new name and source. Raises DataError when there is no row or
    one cannot be written as JSON, StoreError when the disk refuses.
    """
    return write_parts(
        lambda folder: _write_rows(rows, folder, on_progress),
        datasets,
        name=name,
        source=source,
        provenance=provenance,
    )


def write_parts(
    write: Callable[[Path], Written],
    datasets: Path,
    *,
    name: str,
    source: str,
    provenance: Callable[[], Provenance] = Provenance,
) -> Dataset:
    """Let `write` fill a temporary folder, then publish it as a dataset; errors as of `write_dataset`."""
    private_folder(datasets)
    with aside(datasets) as folder:
        written = write(folder)
        known = provenance()
        if not written.conversations:
            raise DataError(f"{source} holds no conversations", "is it the right file?")
        manifest = Manifest(
            id=written.sha256[:16],
            name=name,
            source=source,
            conversations=written.conversations,
            created_at=int(time.time()),
            format=known.format,
            source_sha256=known.source_sha256,
            skipped=known.skipped,
            unindexed=sorted(written.unindexed)[:1000],
            files={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        )
        for path in folder.iterdir():
            path.chmod(0o600)
        return _publish(folder, datasets / manifest.id, manifest)


def _publish(folder: Path, target: Path, manifest: Manifest) -> Dataset:
    """Give a finished import its name, or its manifest to the same content imported earlier."""
    content = msgspec.json.format(msgspec.json.encode(manifest))
    aside = folder / "earlier"
    if target.exists():
        if _holds(target, manifest):
            write_whole(target / MANIFEST, content)
            return Dataset.open(target)
        # Damaged, or cut into other parts. Renaming aside first keeps the name free of anything half-removed.
        target.replace(aside)
    write_whole(folder / MANIFEST, content)
    if aside.exists():
        shutil.rmtree(aside)
    sync_folder(folder)
    try:
        folder.replace(target)
    except OSError as error:
        # Another process imported the same content in this moment: its folder is as good.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_folder(target.parent)
    return Dataset.open(target)


def _holds(target: Path, manifest: Manifest) -> bool:
    """Whether the dataset in `target` is whole and made of the very parts that `manifest` names."""
    try:
        return Dataset.open(target).manifest.files == manifest.files
    except DataError:
        return False


def renamed(dataset: Dataset, *, name: str, source: str) -> Dataset:
    """Return a dataset under another name and source, as if its content had been imported again."""
    kept = msgspec.structs.replace(dataset.manifest, name=name, source=source, created_at=int(time.time()))
    write_whole(dataset.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(kept)))
    return Dataset.open(dataset.folder)


def set_aside(builder: ChunkBuilder, indexes: pl.Series, datasets: Path) -> Chunk:
    """Return the chunk of some rows, kept in files that nobody else sees and whose disk is free once it is dropped.

    It stays in memory where the disk refuses, or has not much room.
    """
    try:
        with aside(datasets) as folder:
            write_aside(builder, folder, 0)
            return chunk_aside(folder, 0, indexes)
    except (StoreError, DataError):
        return Chunk.scattered(builder, indexes)


def write_aside(builder: ChunkBuilder, folder: Path, number: int) -> None:
    """Write the parts of a chunk for `chunk_aside`; raises StoreError where that leaves the disk too little room."""
    if shutil.disk_usage(folder).free < _ROOM:
        raise StoreError("the disk has no room for what edits made of rows", "free some space")
    write_chunk(builder, folder, number, durable=False)


def chunk_aside(folder: Path, number: int, indexes: pl.Series) -> Chunk:
    """Return the chunk written to `folder` as the given rows; the files may go, raises DataError without them."""
    parts: list[dict[str, pl.Series]] = []
    for part in ("rows", "text", "tables"):
        # A variable, not the interpreter's stack, holds them when the next one fails (see Chunk.__del__).
        parts.append(map_part(folder / f"{part}-{number:03}.arrow"))
    rows, texts, tables = parts
    return Chunk(0, rows, lambda: texts, lambda: split_tables(tables), indexes)


def remove_dataset(folder: Path) -> None:
    """Remove a dataset; what a kill leaves of it is taken for a leftover by the next import."""
    aside = folder.with_name(f"{_IMPORTING}{folder.name}")
    with suppress(FileNotFoundError):
        folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def aside(datasets: Path) -> Iterator[Path]:
    """Yield a locked folder that no reader sees, and remove it unless it was renamed; disk errors become StoreError."""
    try:
        # Held while leftovers are told from folders that are about to be locked.
        with _locked(datasets):
            _remove_leftovers(datasets)
            folder = Path(tempfile.mkdtemp(prefix=_IMPORTING, dir=datasets))
            lock = _lock(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, or set TUNEDESK_HOME to a larger disk" if full else ""
        raise StoreError(f"cannot write the dataset: {error.strerror or error}", hint) from error


def _lock(folder: Path, flags: int = fcntl.LOCK_EX) -> int:
    """Lock a folder and return the descriptor that holds the lock; the system drops it with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(datasets: Path) -> None:
    """Remove imports that nobody is writing any more."""
    for folder in datasets.glob(f"{_IMPORTING}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _write_rows(rows: Iterable[SourceRow], folder: Path, on_progress: Progress | None) -> Written:
    digest = hashlib.sha256()
    unindexed: set[str] = set()
    count = offset = number = 0
    builder = ChunkBuilder()
    with (folder / ROWS).open("wb", buffering=1 << 20) as file:
        for source in rows:
            line = encode_line(source)
            file.write(line)
            digest.update(line)
            builder.add(row_facts(source.row), line=source.line, offset=offset, length=len(line) - 1)
            offset += len(line)
            count += 1
            if len(builder) == CHUNK_ROWS:
                write_chunk(builder, folder, number)
                unindexed |= builder.unindexed
                number, builder = number + 1, ChunkBuilder()
            if on_progress and count % 1000 == 0:
                on_progress(count, offset)
        if len(builder):
            write_chunk(builder, folder, number)
            unindexed |= builder.unindexed
        _sync(file)
    if on_progress:
        on_progress(count, offset)
    return Written(digest.hexdigest(), count, frozenset(unindexed))


def encode_line(source: SourceRow) -> bytes:
    """Return the canonical line of a row; raises DataError when JSON cannot hold it."""
    try:
        return encode_row(source.row) + b"\n"
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"line {source.line} cannot be kept as JSON: {error}", "correct or remove the line"
        ) from error


def write_chunk(
    builder: ChunkBuilder, folder: Path, number: int, *, base: int = 0, durable: bool = True
) -> None:
    """Write the three parts of chunk `number`, whose first row lies at `base` of rows.jsonl."""
    write_part(builder.rows_frame(base), folder / f"rows-{number:03}.arrow", durable=durable)
    write_part(builder.text_frame(), folder / f"text-{number:03}.arrow", durable=durable)
    write_part(builder.tables_frame(), folder / f"tables-{number:03}.arrow", durable=durable)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
