"""What edits made of very many rows, indexed by several processes before a search asks for it.

Alone, a million rows take this process half a minute, and all that time it holds up keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import polars as pl

from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import aside, chunk_aside, write_aside
from tunedesk.core.editing.overlay import Overlay
from tunedesk.core.editing.rewritten import Span, built, never, unread
from tunedesk.core.spawning import Pool
from tunedesk.errors import DataError, StoreError

OnProgress = Callable[[int, int], None]
WORTH = 100_000
"""Rows from which starting processes (a second) pays."""
_LOOK_S = 0.1
"""Seconds between two looks at whether anybody still waits."""

_edited: list[tuple[Overlay, Dataset]] = []
"""A process's own: what was edited, and how."""


def read_ahead(
    overlay: Overlay,
    dataset: Dataset,
    cancelled: Callable[[], bool] = never,
    on_progress: OnProgress | None = None,
) -> None:
    """Index all rewritten rows, which the next search would do; ends once `cancelled`."""
    spans = list(unread(overlay, dataset.imported, overlay.indexed))
    if sum(len(span.rows) for span in spans) >= WORTH:
        # Without room, or once a process was killed, this one does what is left.
        with suppress(BrokenProcessPool, StoreError, DataError):
            _by_processes(overlay, dataset.imported, spans, cancelled, on_progress)
    for chunk in dataset.chunks:
        for _ in overlay.rewritten_in(dataset, chunk.start, chunk.stop, cancelled):
            if cancelled():
                return


def _by_processes(
    overlay: Overlay, dataset: Dataset, spans: Sequence[Span], cancelled: Callable[[], bool],
    on_progress: OnProgress | None,
) -> None:  # fmt: skip
    """Index spans; raises BrokenProcessPool, StoreError, and DataError."""
    read, total = 0, sum(len(span.rows) for span in spans)
    with (
        overlay.indexed.claimed(spans),
        aside(dataset.folder.parent) as folder,
        Pool(_begin, overlay, dataset.folder) as pool,
    ):
        waiting = {pool.submit(_write, span.rows, folder, span.number): span for span in spans}
        while waiting:
            done, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            if cancelled():
                pool.kill()
                return
            for future in done:
                span = waiting.pop(future)
                future.result()
                indexes = pl.Series(span.rows, dtype=pl.UInt32)
                overlay.indexed.keep(span, chunk_aside(folder, span.number, indexes))
                read += len(span.rows)
            if on_progress:
                on_progress(read, total)


def _begin(overlay: Overlay, folder: Path) -> None:
    _edited.append((overlay, Dataset.open(folder)))


def _write(rows: Sequence[int], folder: Path, number: int) -> None:
    [(overlay, dataset)] = _edited
    builder = built(rows, dataset, overlay.facts_by_many)
    assert builder is not None
    write_aside(builder, folder, number)
