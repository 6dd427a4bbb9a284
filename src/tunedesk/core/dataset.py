"""An imported dataset: immutable, named by its content, opened without being read.

Folder `<datasets>/<id>/`:
  manifest.json         who, from where, how many; sizes of all other files
  rows.jsonl            the truth: canonical rows, metadata included
  rows-000.arrow        numbers, preview and codes of 65,536 rows (indexing.py)
  text-000.arrow        their folded texts by role
  tables-000.arrow      the values that their codes stand for

An import is written under a temporary name, synced and renamed, so that no reader meets a part of one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO

import msgspec
import polars as pl

from tunedesk.core.arrow_parts import map_part, write_part
from tunedesk.core.conversations import Row, SourceRow, encode_row
from tunedesk.core.indexing import CHUNK_ROWS, ChunkBuilder, Table, row_facts, split_tables
from tunedesk.errors import DataError, StoreError
from tunedesk.paths import private_folder, sync_folder, write_whole

FORMAT_VERSION = 1
_ROWS = "rows.jsonl"
_MANIFEST = "manifest.json"
_IMPORTING = ".importing-"

Progress = Callable[[int, int], None]
"""Called with conversations and bytes written so far; whatever it raises cancels the import."""


class Provenance(msgspec.Struct, frozen=True):
    """What is known of a source once it has been read to its end."""

    format: str = ""
    """The importer's name."""
    source_sha256: str = ""
    skipped: int = 0
    """Rows of the source that were left out, each with a reason that the importer reported."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`: what a dataset is, without opening its parts."""

    id: str
    """First 16 hexadecimal digits of the SHA-256 over rows.jsonl."""
    name: str
    source: str
    conversations: int
    created_at: int
    """Unix seconds."""
    format: str = ""
    source_sha256: str = ""
    skipped: int = 0
    unindexed: list[str] = []
    """Metadata keys too many to search by; the rows hold them all the same."""
    files: dict[str, int] = {}
    """Size in bytes of every other file of the folder."""
    version: int = FORMAT_VERSION


class Chunk:
    """Columns of up to 65,536 consecutive rows, or of scattered rows when `indexes` is given."""

    def __init__(
        self,
        start: int,
        columns: dict[str, pl.Series],
        texts: Callable[[], dict[str, pl.Series]],
        tables: Callable[[], dict[str, pl.Series]],
        indexes: pl.Series | None = None,
    ) -> None:
        self.start = start
        self.columns = columns
        self.indexes = indexes
        self._texts, self._tables = texts, tables

    def __len__(self) -> int:
        return len(self.columns["turns"])

    @cached_property
    def texts(self) -> dict[str, pl.Series]:
        """Folded text by role."""
        return self._texts()

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables of the coded columns."""
        return split_tables(self._tables())

    @classmethod
    def scattered(cls, builder: ChunkBuilder, indexes: pl.Series) -> Chunk:
        """Return the chunk of the rows in `builder`, whose places in the dataset are `indexes`."""
        return cls(
            0,
            builder.rows_frame().to_dict(),
            lambda: builder.text_frame().to_dict(),
            lambda: builder.tables_frame().to_dict(),
            indexes,
        )


class Dataset:
    """An imported dataset, opened by memory map; reading a row or a column touches only its own pages."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.chunks = [_open_chunk(folder, k) for k in range(-(-manifest.conversations // CHUNK_ROWS))]
        """The columns, in order; Polars types, for core alone."""
        with (folder / _ROWS).open("rb") as file:
            self._rows = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Open the dataset in `folder`; raises DataError when it is not one, or not whole."""
        manifest = read_manifest(folder)
        for name, size in manifest.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise DataError(f"the dataset {folder.name} is damaged: {name}", "import it again")
        dataset = cls(folder, manifest)
        if sum(len(chunk) for chunk in dataset.chunks) != manifest.conversations:
            raise DataError(f"the dataset {folder.name} is damaged: rows are missing", "import it again")
        return dataset

    def __len__(self) -> int:
        return self.manifest.conversations

    @property
    def id(self) -> str:
        """The content's name."""
        return self.manifest.id

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.manifest.name

    def row(self, index: int) -> Row:
        """Return the row at `index`, from 0; raises DataError when there is none."""
        return _decode(self.raw(index))

    def raw(self, index: int) -> bytes:
        """Return the canonical bytes of the row at `index`, without the line feed."""
        columns, place = self._place(index)
        offset: int = columns["offset"][place]
        return self._rows[offset : offset + columns["length"][place]]

    def rows(self, indexes: Iterable[int] | None = None) -> Iterator[tuple[int, Row]]:
        """Yield (index, row) of the given rows, or of all in order."""
        for index in range(len(self)) if indexes is None else indexes:
            yield index, self.row(index)

    def source_rows(self) -> Iterator[SourceRow]:
        """Yield all rows with their physical lines in the source, as an importer would."""
        for index in range(len(self)):
            yield SourceRow(self.line(index), self.row(index))

    def line(self, index: int) -> int:
        """Return the physical line of a row in its source, from 1."""
        columns, place = self._place(index)
        line: int = columns["line"][place]
        return line

    def field_names(self) -> list[str]:
        """Return the metadata keys that rows can be filtered and counted by, sorted."""
        names = {name[2:] for chunk in self.chunks for name in chunk.columns if name.startswith("m:")}
        return sorted(names)

    def warm(self) -> None:
        """Read every text part once; worth doing in a thread before the first search."""
        for chunk in self.chunks:
            for text in chunk.texts.values():
                text.str.contains("\0", literal=True).any()

    def _place(self, index: int) -> tuple[dict[str, pl.Series], int]:
        if not 0 <= index < len(self):
            raise DataError(f"there is no conversation {index}: {self.name} has {len(self)}")
        return self.chunks[index // CHUNK_ROWS].columns, index % CHUNK_ROWS


def _open_chunk(folder: Path, number: int) -> Chunk:
    return Chunk(
        number * CHUNK_ROWS,
        map_part(folder / f"rows-{number:03}.arrow"),
        lambda: map_part(folder / f"text-{number:03}.arrow"),
        lambda: map_part(folder / f"tables-{number:03}.arrow"),
    )


_decode = msgspec.json.Decoder(Row).decode


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the dataset in `folder`; raises DataError when there is none that this version reads."""
    try:
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{folder} is not a dataset", "import the file again") from error
    if manifest.version != FORMAT_VERSION:
        raise DataError(
            f"the dataset {manifest.name} was imported by another version", "import the file again"
        )
    return manifest


def list_datasets(datasets: Path) -> list[Manifest]:
    """Return the manifests of all whole datasets under `datasets`, newest first."""
    found = []
    for path in datasets.glob(f"*/{_MANIFEST}"):
        if not path.parent.name.startswith("."):
            found.append(read_manifest(path.parent))
    return sorted(found, key=_newest_first)


def _newest_first(manifest: Manifest) -> tuple[int, str]:
    return -manifest.created_at, manifest.id


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
    private_folder(datasets)
    with _temporary(datasets) as folder:
        digest, count, unindexed = _write_parts(rows, folder, on_progress)
        if not count:
            raise DataError(f"{source} holds no conversations", "tunedesk import tells why rows were skipped")
        known = provenance()
        manifest = Manifest(
            id=digest[:16],
            name=name,
            source=source,
            conversations=count,
            created_at=int(time.time()),
            format=known.format,
            source_sha256=known.source_sha256,
            skipped=known.skipped,
            unindexed=sorted(unindexed)[:1000],
            files={path.name: path.stat().st_size for path in folder.iterdir()},
        )
        return _publish(folder, datasets / manifest.id, manifest)


def _publish(folder: Path, target: Path, manifest: Manifest) -> Dataset:
    """Give a finished import its name, or its manifest to the same content imported earlier."""
    content = msgspec.json.format(msgspec.json.encode(manifest))
    if target.exists():
        try:
            Dataset.open(target)
        except DataError:
            # Renaming aside first keeps the name free of anything half-removed.
            aside = folder / "damaged"
            target.replace(aside)
        else:
            write_whole(target / _MANIFEST, content)
            return Dataset.open(target)
    write_whole(folder / _MANIFEST, content)
    if (folder / "damaged").exists():
        shutil.rmtree(folder / "damaged")
    sync_folder(folder)
    try:
        folder.replace(target)
    except OSError as error:
        # Another process imported the same content in this moment: its folder is as good.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_folder(target.parent)
    return Dataset.open(target)


@contextmanager
def _temporary(datasets: Path) -> Iterator[Path]:
    """Yield a locked folder for one import and remove it unless it was renamed; disk errors become StoreError."""
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


def _write_parts(
    rows: Iterable[SourceRow], folder: Path, on_progress: Progress | None
) -> tuple[str, int, set[str]]:
    """Write canonical rows and parts; return the rows' SHA-256, their number and the keys left unindexed."""
    digest = hashlib.sha256()
    unindexed: set[str] = set()
    count = offset = number = 0
    builder = ChunkBuilder()
    with (folder / _ROWS).open("wb", buffering=1 << 20) as file:
        for source in rows:
            line = _encode(source)
            file.write(line)
            digest.update(line)
            builder.add(row_facts(source.row), line=source.line, offset=offset, length=len(line) - 1)
            offset += len(line)
            count += 1
            if len(builder) == CHUNK_ROWS:
                _write_chunk(builder, folder, number)
                unindexed |= builder.unindexed
                number, builder = number + 1, ChunkBuilder()
            if on_progress and count % 1000 == 0:
                on_progress(count, offset)
        if len(builder):
            _write_chunk(builder, folder, number)
            unindexed |= builder.unindexed
        _sync(file)
    if on_progress:
        on_progress(count, offset)
    return digest.hexdigest(), count, unindexed


def _encode(source: SourceRow) -> bytes:
    try:
        return encode_row(source.row) + b"\n"
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"line {source.line} cannot be kept as JSON: {error}", "correct or remove the line"
        ) from error


def _write_chunk(builder: ChunkBuilder, folder: Path, number: int) -> None:
    write_part(builder.rows_frame(), folder / f"rows-{number:03}.arrow")
    write_part(builder.text_frame(), folder / f"text-{number:03}.arrow")
    write_part(builder.tables_frame(), folder / f"tables-{number:03}.arrow")


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
