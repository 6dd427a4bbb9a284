"""Rows imported into a dataset of their own, and those that a query finds among them."""

from __future__ import annotations

from pathlib import Path

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.searching.piece import Known
from tunedesk.core.workspace import Workspace


def imported(folder: Path, rows: list[Row]) -> Dataset:
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    return write_dataset(source, folder / "datasets", name="n", source="s")


def found(folder: Path, rows: list[Row], query: str, known: Known | None = None) -> list[int]:
    return list(Workspace.open(imported(folder, rows), known=known).with_query(query).matches)


def user(text: str, **metadata: object) -> Row:
    return {"messages": [{"role": "user", "content": text}], "metadata": metadata}
