"""Following a job: an endless poll turned into typed updates, none lost, none told twice."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, JobEvent, MetricPoint
from tunedesk.core.metrics import point_from_checkpoint, points_from_result_file
from tunedesk.errors import ProviderError
from tunedesk.providers.base import Provider
from tunedesk.store import Store

T = TypeVar("T")

_PAGE = 100
_MOST_PAGES = 1000
"""An endpoint that makes up events without end is asked no more than this in one look."""
_SLOWEST = 60.0
"""Longest pause between two looks, seconds."""
_LONGEST = 3600.0
"""Longest pause that a provider may ask for, seconds: one that asks for days is asked again each hour."""
_CHECKPOINT = "checkpoint"
"""A word of the events by which endpoints tell that a checkpoint was saved."""
_NOT_OFFERED = (400, 403, 404, 405, 501)
"""HTTP statuses by which a provider says that it keeps no checkpoints or no such file."""


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The job is not as it was when last told (or is told for the first time)."""

    job: FineTuningJob


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One event of the job."""

    event: JobEvent


@dataclass(frozen=True, slots=True)
class PointSeen:
    """One point of the loss curve; a point of a step told before replaces it."""

    point: MetricPoint


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """A checkpoint that was not told before, or whose figures changed."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class PollFailed:
    """The provider could not be asked; the job goes on, and so does the tail after a pause."""

    error: ProviderError
    retry_in: float
    """Seconds until the next look."""


Update = JobChanged | EventSeen | PointSeen | CheckpointSeen | PollFailed


async def follow(
    store: Store,
    provider: Provider,
    job_id: str,
    *,
    interval: float | None = None,
    looks: int | None = None,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[Update]:
    """Yield what the store holds of a job, then all that is new, until its status is final.

    Each update is durable before it is yielded. `interval` is the pause in seconds between looks while things
    happen (1 for the local engine, else 5); quiet stretches and failures lengthen it, with jitter, and a
    Retry-After is obeyed. `looks` ends it after so many, final or not, and lets every failure out. Raises
    ProviderError when asking again cannot help (401, 404, …).
    """
    poll = _Poll(store, provider, job_id)
    base = interval if interval is not None else (1.0 if provider.profile.is_local else 5.0)
    for update in poll.held():
        yield update
    quiet = failures = seen = 0
    while True:
        try:
            updates = await poll.look()
        except ProviderError as error:
            if not error.retryable or looks is not None:
                raise
            failures += 1
            wait = min(_SLOWEST, base * 2 ** min(failures, 9)) * random.uniform(0.75, 1.25)
            wait = max(wait, min(error.retry_after or 0.0, _LONGEST))
            yield PollFailed(error, wait)
        else:
            failures = 0
            quiet = 0 if updates else quiet + 1
            for update in updates:
                yield update
            seen += 1
            if poll.done or seen == looks:
                return
            wait = min(base * 1.3 ** min(quiet, 6), _SLOWEST) * random.uniform(0.9, 1.1)
        await pause(wait)


class _Poll:
    """What is known of one job, and one look at what is new."""

    def __init__(self, store: Store, provider: Provider, job_id: str) -> None:
        self._store = store
        self._provider = provider
        self._id = job_id
        self._profile = provider.profile.name
        self._job: FineTuningJob | None = None
        self._known: set[str] = set()
        self._points = 0
        self._metrics_told = False
        self._oldest_first = False
        self._cursor: str | None = None
        self._checkpoints: dict[str, Checkpoint] = {}
        self.done = False

    def held(self) -> list[Update]:
        """Return what the store holds, and begin from there."""
        known = self._store.job(self._id, self._profile)
        self._job = known.job if known else None
        events = self._store.events(self._profile, self._id)
        points = self._store.points(self._profile, self._id)
        self._known = {event.id for event in events}
        self._points = len(points)
        self._metrics_told = any(event.type == "metrics" for event in events)
        self._checkpoints = {one.id: one for one in self._store.checkpoints(self._profile, self._id)}
        held: list[Update] = [JobChanged(self._job)] if self._job else []
        held += [EventSeen(event) for event in events] + [PointSeen(point) for point in points]
        return held + [CheckpointSeen(one) for one in self._checkpoints.values()]

    async def look(self) -> list[Update]:
        """Ask once. The job is asked for before its events, so that a final job's events are all there."""
        job = await self._provider.job(self._id)
        fetched = await self._fetch(everything=job.is_final)
        events, changed = self._store.add_events(self._profile, self._id, fetched)
        self._known |= {event.id for event in events}
        self._metrics_told = self._metrics_told or any(event.type == "metrics" for event in events)
        checkpoints: list[Checkpoint] = []
        told_of = any(_CHECKPOINT in event.message.lower() for event in events if event.type != "metrics")
        if told_of or not self._metrics_told or job.is_final:
            checkpoints = await _if_offered(self._provider.checkpoints(self._id), [])
        if not self._metrics_told:
            elsewhere = await self._points_elsewhere(job, checkpoints)
            changed += self._store.save_points(self._profile, self._id, elsewhere)
        self._points += len(changed)
        updates: list[Update] = [EventSeen(event) for event in events]
        updates += [PointSeen(point) for point in changed]
        updates += [CheckpointSeen(one) for one in self._new_checkpoints(checkpoints)]
        if job != self._job:
            self._store.save_jobs(self._profile, [job])
            self._job = job
            updates.append(JobChanged(job))
        self.done = job.is_final
        return updates

    def _new_checkpoints(self, told: list[Checkpoint]) -> list[Checkpoint]:
        """Keep the checkpoints that are new or changed, and return them."""
        new = [one for one in told if self._checkpoints.get(one.id) != one]
        if new:
            self._store.save_checkpoints(self._profile, self._id, new)
            self._checkpoints |= {one.id: one for one in new}
        return new

    async def _fetch(self, *, everything: bool) -> list[JobEvent]:
        """Read pages until nothing new comes; lists come newest first or oldest first, the API does not say which.

        Pages are kept together and stored in one transaction, so that a list read newest first never leaves
        a gap behind when this process dies between two pages.
        """
        fetched: dict[str, JobEvent] = {}
        after = None if everything else self._cursor
        for _ in range(_MOST_PAGES):
            page = await self._provider.events(self._id, limit=_PAGE, after=after)
            fresh = [event for event in page if event.id not in fetched]
            fetched |= {event.id: event for event in fresh}
            if len(page) > 1 and page[0].created_at != page[-1].created_at:
                self._oldest_first = page[0].created_at < page[-1].created_at
            if fresh and self._oldest_first:
                self._cursor = page[-1].id
            caught_up = not self._oldest_first and any(event.id in self._known for event in page)
            if not fresh or (caught_up and not everything):
                break
            after = page[-1].id
        return list(fetched.values())

    async def _points_elsewhere(self, job: FineTuningJob, checkpoints: list[Checkpoint]) -> list[MetricPoint]:
        """Take the curve from checkpoints, or at the end from the result file, where events tell no metrics."""
        points = [point_from_checkpoint(checkpoint) for checkpoint in checkpoints if checkpoint.metrics]
        if not points and not self._points and job.is_final:
            for file in job.result_files:
                content = await _if_offered(self._provider.file_content(file), b"")
                points += points_from_result_file(_text(content))
        return points


async def _if_offered(answer: Awaitable[T], otherwise: T) -> T:
    """Wait for an answer that only some providers give."""
    try:
        return await answer
    except ProviderError as error:
        if error.status not in _NOT_OFFERED:
            raise
        return otherwise


def _text(content: bytes) -> str:
    """Decode a result file, which some endpoints hand out in base64."""
    if b"," not in content:
        with contextlib.suppress(binascii.Error):
            content = base64.b64decode(content, validate=True)
    return content.decode("utf-8-sig", errors="replace")
