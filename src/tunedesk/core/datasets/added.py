"""A dataset with conversations that were added since its import: one more chunk after the imported ones."""

from __future__ import annotations

from collections.abc import Sequence

from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.datasets.chunk_builder import ChunkBuilder, split_tables
from tunedesk.core.datasets.dataset import Chunk, Dataset
from tunedesk.core.datasets.indexing import row_facts


class ExtendedDataset(Dataset):
    """An imported dataset and rows after its last one, which live in the journal of edits; its name is the same."""

    def __init__(
        self, imported: Dataset, added: Sequence[Row]
    ) -> None:  # it opens nothing, so no super().__init__
        """Lay `added` behind the rows of `imported`; their lines count on after the source's last one."""
        self.folder, self.manifest = imported.folder, imported.manifest
        self._imported, self._added = imported, tuple(added)
        self._first, self._lines = len(imported), imported.line(len(imported) - 1) + 1
        self.shared, self.previews = imported.shared, imported.previews
        self.chunks = [*imported.chunks, self._chunk()]

    @property
    def imported(self) -> Dataset:
        """The dataset without what was added."""
        return self._imported

    def __len__(self) -> int:
        return self._first + len(self._added)

    def row(self, index: int) -> Row:
        """Return the row at `index`, from 0; raises DataError when there is none."""
        return self._added[index - self._first] if self._is_added(index) else self._imported.row(index)

    def raw(self, index: int) -> bytes:
        """Return the canonical bytes of the row at `index`, without the line feed."""
        return encode_row(self.row(index)) if self._is_added(index) else self._imported.raw(index)

    def line(self, index: int) -> int:
        """Return the physical line of a row in its source; an added one's is counted on from there."""
        return self._lines + index - self._first if self._is_added(index) else self._imported.line(index)

    def place(self, index: int) -> tuple[Chunk, int]:
        """Return the chunk that holds a row, and where; raises DataError when there is none."""
        return (
            (self.chunks[-1], index - self._first) if self._is_added(index) else self._imported.place(index)
        )

    def _is_added(self, index: int) -> bool:
        return self._first <= index < len(self)

    def _chunk(self) -> Chunk:
        builder = ChunkBuilder()
        for place, row in enumerate(self._added):
            builder.add(row_facts(row), line=self._lines + place)
        return Chunk(
            self._first,
            builder.rows_frame().to_dict(),
            lambda: builder.text_frame().to_dict(),
            lambda: split_tables(builder.tables_frame().to_dict()),
        )


def extended(dataset: Dataset, added: Sequence[Row]) -> Dataset:
    """Return a dataset with exactly `added` behind its imported rows."""
    imported = dataset.imported
    return ExtendedDataset(imported, added) if added else imported
