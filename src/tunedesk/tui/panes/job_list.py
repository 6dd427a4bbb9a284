"""All known jobs, one line each, newest first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from textual import events
from textual.reactive import reactive

from tunedesk.config import LOCAL
from tunedesk.core.counting.pricing import Price
from tunedesk.store import KnownJob
from tunedesk.tui.panes.job_view import (
    JobView,
    clock,
    cost,
    duration,
    elapsed,
    model_name,
    seconds_left,
    status_text,
    step_text,
    tokens,
)
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

_COLUMNS = (
    Column("mark", "", 1),
    Column("status", "status", 12),
    Column("model", "model"),
    Column("step", "step", 9, right=True),
    Column("elapsed", "elapsed", 9, right=True),
    Column("left", "left", 9, right=True),
    Column("tokens", "tokens", 7, right=True),
    Column("cost", "cost", 7, right=True),
    Column("provider", "provider", 8),
    Column("started", "started", 12),
    Column("job", "job", 30),
)
_FIRST_TO_GO = ("job", "started", "provider", "tokens", "step", "cost", "left", "elapsed")
"""Columns in the order in which they give way when the list is narrow."""
_MODEL_LEAST = 22
"""Cells that the model's name gets before another column is shown."""


@dataclass(frozen=True, slots=True)
class JobRows:
    """What the list shows."""

    jobs: tuple[KnownJob, ...] = ()
    prices: dict[str, Price] = field(default_factory=dict)
    """By model, for what finished jobs cost."""


class JobList(VirtualList):
    """The list of jobs; `enter` chooses the one that the other panes show, marked by ●."""

    BORDER_TITLE = "Jobs"

    rows: reactive[JobRows] = reactive(JobRows, init=False)
    view: reactive[JobView] = reactive(JobView, init=False)
    """The job that is followed: its newer word wins, and its points tell the time left."""

    def __init__(self) -> None:
        """Start without jobs."""
        super().__init__(_COLUMNS, self._rows, empty="no jobs yet · go back to 1 Data, then launch")

    def on_mount(self) -> None:
        """Keep elapsed times moving."""
        self.set_interval(1.0, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        """Show the columns that there is room for."""
        self.columns = columns_for(self.scrollable_content_region.width)
        self.reload()

    @property
    def highlighted(self) -> KnownJob | None:
        """The job under the cursor, None when there is none."""
        return self.rows.jobs[self.index] if self.index is not None else None

    def watch_rows(self, old: JobRows, new: JobRows) -> None:
        """Show the new list; the cursor stays on its job."""
        keys = [_key(known) for known in new.jobs]
        here = _key(old.jobs[self.cursor]) if self.cursor < len(old.jobs) else None
        if keys != [_key(known) for known in old.jobs]:
            self.show(range(len(keys)), keep_place=True)
            if here in keys:
                self.go_to(keys.index(here))
        self.reload()

    def watch_view(self) -> None:
        """Show the followed job's newer word."""
        self.reload()

    def go_to_job(self, job_id: str) -> KnownJob | None:
        """Put the cursor on a job and return it; None when the list does not hold it."""
        for position, known in enumerate(self.rows.jobs):
            if known.job.id == job_id:
                self.cursor = position
                return known
        return None

    def _tick(self) -> None:
        if any(not known.job.is_final for known in self.rows.jobs):
            self.reload()

    def _rows(self, indexes: Sequence[int]) -> Sequence[ListRow]:
        now = time.time()
        return [self._row_of(self.rows.jobs[index], now) for index in indexes]

    def _row_of(self, known: KnownJob, now: float) -> ListRow:
        followed = self.view.job is not None and _key(known) == (self.view.profile, self.view.job.id)
        job = self.view.job if followed and self.view.job is not None else known.job
        points = self.view.curve if followed else []
        left = seconds_left(job, points, now)
        cells = {
            "mark": "●" if followed else "",
            "status": status_text(job.status),
            "model": model_name(job),
            "step": step_text(points),
            "elapsed": duration(elapsed(job, now)),
            "left": duration(left) if left is not None else "",
            "tokens": tokens(job.trained_tokens) if job.trained_tokens is not None else "",
            "cost": cost(job, self.rows.prices, local=known.profile == LOCAL),
            "provider": known.profile,
            "started": clock(job.created_at) if job.created_at else "",
            "job": job.id,
        }
        return ListRow(
            [cells[column.key] for column in self.columns], "bad" if job.status == "failed" else ""
        )


def columns_for(width: int) -> tuple[Column, ...]:
    """Return the columns that fit into `width` cells; the model takes what the others leave."""
    shown = {column.key: column for column in _COLUMNS}
    for key in _FIRST_TO_GO:
        if width - 2 - sum(column.width + 1 for column in shown.values()) >= _MODEL_LEAST:
            break
        del shown[key]
    return tuple(shown.values())


def _key(known: KnownJob) -> tuple[str, str]:
    return (known.profile, known.job.id)
