"""All known jobs of all profiles, one line each, filtered and in an order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive

from tunedesk.config import LOCAL
from tunedesk.core.counting.pricing import Price
from tunedesk.store import KnownJob, Quote
from tunedesk.tui.panes.job_view import (
    JobView,
    clock,
    cost,
    dollars,
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


ORDERS = ("started", "status", "model", "elapsed", "tokens", "cost", "provider")
"""Columns that the list can be ordered by, in the order of the key that goes through them."""
Key = tuple[str, str]
"""Profile and job id."""


@dataclass(frozen=True, slots=True)
class JobRows:
    """What the list shows."""

    jobs: tuple[KnownJob, ...] = ()
    """Those that the filter matched, in their order."""
    prices: dict[str, Price] = field(default_factory=dict)
    """By model, for what finished jobs cost."""
    total: int = 0
    """Jobs in all."""
    quotes: Mapping[Key, Quote] = field(default_factory=dict)
    """What launches were estimated at."""
    query: str = ""
    order: str = "started"
    falling: bool = True
    unfinished: int = 0
    """Launches without a job yet, that no other process is busy with as far as is known."""
    trouble: tuple[tuple[str, str], ...] = ()
    """Profiles that could not be asked, with the reason."""


class JobList(VirtualList):
    """The list of jobs; `enter` chooses the one that the other panes show (●), `space` pins curves beside it (1-9)."""

    BORDER_TITLE = "Jobs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pin", "Pin", id="jobs.pin", tooltip="Lay the job's curves over those of the followed one"),
        Binding("shift+down,shift+up,escape", "nothing", show=False, id="jobs.no-selection"),
    ]  # fmt: skip

    rows: reactive[JobRows] = reactive(JobRows, init=False)
    view: reactive[JobView] = reactive(JobView, init=False)
    """The job that is followed: its newer word wins, and its points tell the time left."""
    pinned: reactive[tuple[JobView, ...]] = reactive((), init=False)
    """Jobs whose curves are laid over the followed one's."""

    @dataclass
    class PinToggled(Message):
        """The job under the cursor shall be pinned, or not any more."""

        known: KnownJob

    def __init__(self) -> None:
        """Start without jobs."""
        super().__init__(_COLUMNS, self._rows, empty="no jobs yet · go back to 1 Data, then launch")

    def on_mount(self) -> None:
        """Keep elapsed times moving."""
        self.set_interval(1.0, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        """Show the columns that there is room for."""
        super().on_resize(event)
        self.columns = columns_for(self.scrollable_content_region.width)
        self.reload()

    def action_pin(self) -> None:
        """Tell that the job under the cursor shall be pinned, or not any more."""
        if self.highlighted is not None:
            self.post_message(self.PinToggled(self.highlighted))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Jobs are pinned, not selected."""
        return action != "nothing" and super().check_action(action, parameters)

    @property
    def highlighted(self) -> KnownJob | None:
        """The job under the cursor, None when there is none."""
        return self.rows.jobs[self.index] if self.index is not None else None

    def watch_rows(self, old: JobRows, new: JobRows) -> None:
        """Show the new list; the cursor stays on its job."""
        keys = [key_of(known) for known in new.jobs]
        here = key_of(old.jobs[self.cursor]) if self.cursor < len(old.jobs) else None
        self.sorted_by = (new.order, new.falling)
        self.empty = (
            "no job matches: / changes the filter"
            if new.total
            else "no jobs yet · go back to 1 Data, then launch"
        )
        if keys != [key_of(known) for known in old.jobs] or new.total != old.total:
            self.show(range(len(keys)), keep_place=True)
            if here in keys:
                self.go_to(keys.index(here))
        self.reload()

    def watch_view(self) -> None:
        """Show the followed job's newer word."""
        self.reload()

    watch_pinned = watch_view

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
        key = key_of(known)
        followed = self.view.job is not None and key == self.view.key
        pins = [view.key for view in self.pinned]
        pin = str(pins.index(key) + 1) if key in pins else ""
        job = self.view.job if followed and self.view.job is not None else known.job
        points = self.view.curve if followed else []
        left = seconds_left(job, points, now)
        cells = {
            "mark": "●" if followed else pin,
            "status": status_text(job.status),
            "model": model_name(job),
            "step": step_text(points),
            "elapsed": duration(elapsed(job, now)),
            "left": duration(left) if left is not None else "",
            "tokens": tokens(job.trained_tokens) if job.trained_tokens is not None else "",
            "cost": cost(
                job, self.rows.prices, local=known.profile == LOCAL, quote=self.rows.quotes.get(key)
            ),
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


def key_of(known: KnownJob) -> Key:
    """Return what names a job among those of all profiles."""
    return (known.profile, known.job.id)


def arranged(rows: JobRows, jobs: Sequence[KnownJob], now: float) -> tuple[KnownJob, ...]:
    """Return the jobs in the order of `rows`; equal ones, and what is unknown, by the newest."""

    def rank(known: KnownJob) -> tuple[bool, float | str]:
        job = known.job
        told: dict[str, float | str | None] = {
            "started": job.created_at, "status": job.status, "model": model_name(job).casefold(),
            "elapsed": elapsed(job, now), "tokens": job.trained_tokens, "provider": known.profile,
            "cost": 0.0 if known.profile == LOCAL else dollars(job, rows.prices, rows.quotes.get(key_of(known))),
        }  # fmt: skip
        value = told[rows.order]
        return (value is not None, value if value is not None else 0.0)

    newest = sorted(jobs, key=lambda known: -known.job.created_at)
    known = [one for one in newest if rank(one)[0]]
    unknown = [one for one in newest if not rank(one)[0]]
    return (*sorted(known, key=lambda one: rank(one)[1], reverse=rows.falling), *unknown)


def headline(rows: JobRows) -> str:
    """Return what stands over the list: how many, the filter, and who could not be asked."""
    count = f"Jobs {len(rows.jobs):,} of {rows.total:,}" if rows.query else f"Jobs {rows.total:,}"
    parts = [count, *([f"/{rows.query}"] if rows.query else [])]
    if rows.unfinished:
        parts.append(f"{rows.unfinished} launch{'' if rows.unfinished == 1 else 'es'} cut off: U")
    parts += [f"! {profile}: {why}" for profile, why in rows.trouble]
    return " · ".join(parts)
