"""The one queue of this user: kept in the store, so that it goes on after a stop, and carried out by one process.

Places at different providers stand in one order. What fails is told in its place and the next goes on. A place's
launch id is chosen when it is put in, so that a queue that was cut off finds its job and makes no second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tunedesk.errors import JobError, TunedeskError
from tunedesk.jobs.asking import LaunchRequest, new_launch_id
from tunedesk.jobs.queue import NOT_STARTED, QueueItem, QueueRow, StopRules, best, carried_out, held_back
from tunedesk.jobs.service import JobService
from tunedesk.paths import private_folder
from tunedesk.store import QueuedLaunch, QueueRules, Store
from tunedesk.store.queue import WAITING

RUNNING = "running"
_LOOK = 1.0
"""Seconds between two looks at a queue that has nothing to do."""
Connect = Callable[[str], Awaitable[JobService]]
"""Returns the service of a profile by its name."""


class Lineup:
    """The queue in the store, and the one process that carries it out."""

    def __init__(
        self, store: Store, connect: Connect, *, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """`connect` returns the service of a profile; `pause` waits for seconds."""
        self._store = store
        self._connect = connect
        self._pause = pause

    # --- what stands in it

    def places(self) -> list[QueuedLaunch]:
        """Return all places in order, those that are over as well."""
        return self._store.queue()

    def rules(self) -> QueueRules:
        """Return whether it runs, and what stops it."""
        return self._store.queue_rules()

    def add(self, profile: str, requests: Sequence[LaunchRequest], costs: Sequence[float | None]) -> int:
        """Put launches at the end, durably; return how many. `costs` are the most that each may cost."""
        places = [
            QueuedLaunch(
                profile=profile, model=one.model, training=str(one.training.absolute()),
                launch=one.launch or new_launch_id(),
                validation=str(one.validation.absolute()) if one.validation else "", method=one.method,
                hyperparameters=one.hyperparameters, suffix=one.suffix, seed=one.seed, lineage=one.lineage, usd=usd,
            )
            for one, usd in zip(requests, costs, strict=True)
        ]  # fmt: skip
        return len(self._store.enqueue(places))

    def move(self, number: int, way: int) -> None:
        """Let a waiting place change its turn with its waiting neighbour: -1 earlier, 1 later.

        Raises JobError when it has begun, or has no such neighbour.
        """
        waiting = [one.id for one in self.places() if one.state == WAITING]
        if number not in waiting:
            raise JobError("only what still waits can be moved", "choose a waiting place")
        other = waiting.index(number) + way
        if not 0 <= other < len(waiting):
            raise JobError(f"it is the {'first' if way < 0 else 'last'} that waits", "")
        self._store.swap_places(number, waiting[other])

    def again(self, number: int) -> None:
        """Let a place that came to no model have another turn; raises JobError for any other.

        Without a job it waits again in its place, as the same launch, which finds what it has sent. One whose job
        ended badly stays as it is, and a new launch of the same waits at the end.
        """
        place = next((one for one in self.places() if one.id == number), None)
        if place is None or place.state in (WAITING, RUNNING, "succeeded"):
            raise JobError("only what failed, was cancelled or held back can have another turn")
        if place.job is None:
            self._store.save_place(replace(place, state=WAITING, reason=""))
            return
        fresh = replace(
            place,
            launch=new_launch_id(),
            state=WAITING,
            job=None,
            reason="",
            train_loss=None,
            valid_loss=None,
        )
        self._store.enqueue([replace(fresh, id=0)])

    def remove(self, number: int) -> None:
        """Take a place out; raises JobError while its job runs."""
        if any(one.id == number and one.state == RUNNING for one in self.places()):
            raise JobError("its job runs", "cancel the job, then take the place out")
        self._store.forget_places([number])

    def clear(self) -> int:
        """Take out all that is over; return how many."""
        over = [one.id for one in self.places() if one.state not in (WAITING, RUNNING)]
        self._store.forget_places(over)
        return len(over)

    def set_rules(self, rules: QueueRules) -> None:
        """Keep whether it runs and what stops it; what a former rule kept back waits again when it runs."""
        self._store.save_queue_rules(rules)
        if rules.running:
            for one in self.places():
                if one.state == NOT_STARTED:
                    self._store.save_place(replace(one, state=WAITING, reason=""))

    def best(self) -> QueuedLaunch | None:
        """Return the place with the lowest validation loss (training loss where none has one), or None."""
        return best_place(self.places())

    # --- carrying it out

    async def run(self) -> AsyncIterator[QueuedLaunch]:
        """Carry the queue out for ever and yield each place when it begins and when it has ended.

        While it is paused, empty, or carried out by another process, it waits and sends nothing.
        """
        while True:
            with self._alone() as mine:
                place = self._next() if mine else None
                if place is not None:
                    async for told in self._carry_out(place):
                        yield told
            if place is None:
                await self._pause(_LOOK)

    def _next(self) -> QueuedLaunch | None:
        """Return the place whose job was cut off, else the first that waits; None while the queue is paused."""
        places = self.places()
        cut_off = next((one for one in places if one.state == RUNNING), None)
        if cut_off is not None:
            return cut_off
        if not self.rules().running:
            return None
        return next((one for one in places if one.state == WAITING), None)

    async def _carry_out(self, place: QueuedLaunch) -> AsyncIterator[QueuedLaunch]:
        try:
            service = await self._connect(place.profile)
        except TunedeskError as error:
            yield self._kept(replace(place, state="failed", reason=error.message))
            return
        item = QueueItem(service, _request(place), place.usd)
        reason = held_back(item, self._stop_rules(), *self._so_far(place))
        if reason:
            yield self._kept(replace(place, state=NOT_STARTED, reason=reason))
            return
        place = self._kept(replace(place, state=RUNNING, reason=""))
        yield place
        row = await carried_out(item, replace(_row(place), state=RUNNING), None)
        yield self._kept(
            replace(
                place, state=row.state, job=row.job, fine_tuned_model=row.fine_tuned_model,
                usd=place.usd if row.job is None else row.usd,
                train_loss=row.train_loss, valid_loss=row.valid_loss, reason=row.reason,
            )
        )  # fmt: skip

    def _kept(self, place: QueuedLaunch) -> QueuedLaunch:
        self._store.save_place(place)
        return place

    def _stop_rules(self) -> StopRules:
        rules = self.rules()
        return StopRules(rules.budget, rules.failures)

    def _so_far(self, place: QueuedLaunch) -> tuple[float, int]:
        """Return the dollars spent and the jobs failed among the other places."""
        over = [
            one for one in self.places() if one.id != place.id and one.state not in (WAITING, NOT_STARTED)
        ]
        return spent(over), sum(one.state == "failed" for one in over)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Tell whether this process is the one that carries the queue out; the lock goes with its holder."""
        path: Path = private_folder(self._store.path.parent / "locks") / "queue.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except BlockingIOError:
                mine = False
            yield mine
        finally:
            os.close(descriptor)


def spent(places: Sequence[QueuedLaunch]) -> float:
    """Return what the places that are over cost, US dollars; one that got no job cost nothing."""
    return sum(one.usd or 0.0 for one in places if one.job and one.state not in (WAITING, RUNNING))


def best_place(places: Sequence[QueuedLaunch]) -> QueuedLaunch | None:
    """Return the place with the lowest validation loss (training loss where none has one), or None."""
    rows = [_row(one) for one in places]
    winner = best(rows)
    return next((one for one, row in zip(places, rows, strict=True) if row is winner), None)


def _request(place: QueuedLaunch) -> LaunchRequest:
    return LaunchRequest(
        place.model, Path(place.training), Path(place.validation) if place.validation else None, place.method,
        place.hyperparameters, place.suffix, place.seed, lineage=place.lineage, launch=place.launch,
    )  # fmt: skip


def _row(place: QueuedLaunch) -> QueueRow:
    return QueueRow(
        place.profile, place.model, place.hyperparameters, place.state, place.launch, place.job,
        place.fine_tuned_model, place.train_loss, place.valid_loss, usd=place.usd, reason=place.reason,
    )  # fmt: skip
