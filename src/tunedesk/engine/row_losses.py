"""row_losses.jsonl of a job: written by the trainer, a line for each row of each step, and read back for a client."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

NAME = "row_losses.jsonl"


class RowLosses:
    """For each step, each of its rows with its mean loss."""

    def __init__(self, path: Path, keep: int) -> None:
        """Open `path`, dropping what lies behind its first `keep` bytes: steps that will be done again."""
        self._file = path.open("a+b")
        self._file.truncate(keep)

    def write(self, step: int, epoch: int, by_row: Sequence[tuple[int, float, int]]) -> None:
        """Append the rows of a step: (physical line, mean loss, trained tokens)."""
        for line, loss, tokens in by_row:
            record = {"step": step, "epoch": epoch, "row": line, "loss": round(loss, 6), "tokens": tokens}
            self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Make all written rows durable and return the file's length."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Record(msgspec.Struct):
    step: int
    row: int
    loss: float | None = None
    """None for what is no number in JSON."""


def read_row_losses(folder: Path, step: int | None) -> dict[str, Any]:
    """Return the rows of one step, or every row with its latest loss, as two lists; empty before the first step.

    `rows` are physical lines of the training file, from 1. A line cut off while it is written is left out.
    """
    latest: dict[int, float | None] = {}
    try:
        with (folder / NAME).open("rb") as file:
            for line in file:
                try:
                    record = msgspec.json.decode(line, type=_Record)
                except msgspec.DecodeError:
                    continue
                if step is None or record.step == step:
                    latest[record.row] = record.loss
    except FileNotFoundError:
        latest = {}
    rows = [row for row, loss in latest.items() if loss is not None]
    return {
        "object": "fine_tuning.job.row_losses",
        "step": step,
        "rows": rows,
        "losses": [latest[row] for row in rows],
    }
