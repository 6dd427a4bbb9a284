"""An imported dataset: immutable, named by its content, opened without being read.

Folder `<datasets>/<id>/`:
  manifest.json         who, from where, how many; sizes of all other files
  rows.jsonl            the truth: one row a line, metadata included, as its source wrote it where nothing was changed
  rows-000.arrow        numbers, preview and codes of up to 65,536 rows (indexing.py, chunk_builder.py)
  text-000.arrow        their folded texts by role
  tables-000.arrow      the values that their codes stand for

dataset_writer.py writes it, under a temporary name that is synced and renamed: no reader meets a part of one.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import msgspec
import polars as pl

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.datasets.arrow_parts import map_part
from tunedesk.core.datasets.chunk_builder import ChunkBuilder, Table, split_tables
from tunedesk.core.datasets.indexing import TEXT_ROLES
from tunedesk.core.datasets.ranking import Ranked
from tunedesk.core.datasets.shared_texts import SharedTexts, shared_texts
from tunedesk.errors import DataError

FORMAT_VERSION = 1
ROWS = "rows.jsonl"
MANIFEST = "manifest.json"
_RANKED = 2_000_000
"""Most rows whose previews are put in order ahead: a second and 20 MB a million."""


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
        tables: Callable[[], dict[str, Table]],
        indexes: pl.Series | None = None,
    ) -> None:
        self.start = start
        self.columns = columns
        self.indexes = indexes
        self._texts, self._tables = texts, tables

    def __del__(self) -> None:
        """Let go of the columns where Python keeps an error that is on its way.

        Polars calls back when the last of a file is dropped (arrow_parts.py): a callback by ctypes that finds an error
        loses it, and may end the process.
        """
        self.__dict__.clear()

    def __len__(self) -> int:
        return len(self.columns["turns"])

    @property
    def stop(self) -> int:
        """The row after its last one, where its rows are consecutive."""
        return self.start + len(self)

    @cached_property
    def texts(self) -> dict[str, pl.Series]:
        """Folded text by role."""
        return self._texts()

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables of the coded columns."""
        return self._tables()

    def part(self, start: int, stop: int) -> Chunk:
        """Return some of its rows, which are consecutive, as a chunk; nothing is copied."""
        return Chunk(
            self.start + start,
            {name: column[start:stop] for name, column in self.columns.items()},
            lambda: {role: texts[start:stop] for role, texts in self.texts.items()},
            lambda: self.tables,
        )

    @classmethod
    def scattered(cls, builder: ChunkBuilder, indexes: pl.Series) -> Chunk:
        """Return the chunk of the rows in `builder`, whose places in the dataset are `indexes`."""
        rows, texts = builder.rows_frame().to_dict(), builder.text_frame().to_dict()
        tables = split_tables(builder.tables_frame().to_dict())
        # Made here and now: the builder takes five times as much, and is let go.
        return cls(0, rows, lambda: texts, lambda: tables, indexes)


class Dataset:
    """An imported dataset, opened by memory map; reading a row or a column touches only its own pages."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.shared: dict[str, SharedTexts] = {}
        """What the texts of a role share, once `warm` has found it."""
        self.previews: list[Ranked] = []
        """The order of the previews, once `warm` has found it."""
        self.chunks: list[Chunk] = []
        """The columns, in order; Polars types, for core alone."""
        for number in range(sum(name.startswith("rows-") for name in manifest.files)):
            self.chunks.append(_open_chunk(folder, number, self.chunks[-1].stop if self.chunks else 0))
        self._starts = [chunk.start for chunk in self.chunks]
        with (folder / ROWS).open("rb") as file:
            self._rows = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __del__(self) -> None:
        """Let go of all columns, as a chunk does."""
        self.__dict__.clear()

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
    def size(self) -> int:
        """Bytes of its imported rows."""
        return len(self.imported._rows)

    @property
    def imported(self) -> Dataset:
        """The dataset without the rows that were added since (see added.py)."""
        return self

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
        """Return the bytes of the row at `index` as rows.jsonl has them, without the line feed."""
        chunk, place = self.place(index)
        offset: int = chunk.columns["offset"][place]
        return self._rows[offset : offset + chunk.columns["length"][place]]

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
        chunk, place = self.place(index)
        line: int = chunk.columns["line"][place]
        return line

    def field_names(self) -> list[str]:
        """Return the metadata keys that rows can be filtered and counted by, sorted."""
        names = {name[2:] for chunk in self.chunks for name in chunk.columns if name.startswith("m:")}
        return sorted(names)

    def warm(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Read every text once, find what repeats, and order the previews; for a thread, before the first search."""
        for role in TEXT_ROLES:
            shared = shared_texts([chunk.texts[role] for chunk in self.imported.chunks], stopped)
            if shared is not None:
                self.shared[role] = shared
        if len(self.imported) <= _RANKED and not self.previews and not stopped():
            self.previews.append(Ranked.of([chunk.columns["preview"] for chunk in self.imported.chunks]))

    def place(self, index: int) -> tuple[Chunk, int]:
        """Return the chunk of a row and its place in there; raises DataError when there is none."""
        if not 0 <= index < len(self):
            raise DataError(f"there is no conversation {index}: {self.name} has {len(self)}")
        chunk = self.chunks[bisect_right(self._starts, index) - 1]
        return chunk, index - chunk.start


def _open_chunk(folder: Path, number: int, start: int) -> Chunk:
    return Chunk(
        start,
        map_part(folder / f"rows-{number:03}.arrow"),
        lambda: map_part(folder / f"text-{number:03}.arrow"),
        lambda: split_tables(map_part(folder / f"tables-{number:03}.arrow")),
    )


_decode = msgspec.json.Decoder(Row).decode


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the dataset in `folder`; raises DataError when there is none that this version reads."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
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
    for path in datasets.glob(f"*/{MANIFEST}"):
        if not path.parent.name.startswith("."):
            found.append(read_manifest(path.parent))
    return sorted(found, key=_newest_first)


def _newest_first(manifest: Manifest) -> tuple[int, str]:
    return -manifest.created_at, manifest.id
