"""What goes on whichever screen is shown: looking after unfinished jobs, telling that one has ended, the queue."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunedesk.config import Notify, Profile, notify_settings
from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import ProviderError, TunedeskError, UsageError
from tunedesk.jobs import Lineup, Notice
from tunedesk.jobs.notices import run_command, signals
from tunedesk.jobs.service import JobService
from tunedesk.store import KnownJob, QueuedLaunch

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Workbench

_LOOK = 1.0
"""Seconds between two looks at the store."""
_ASK = 10.0
"""Seconds between two questions to a provider about its unfinished jobs."""
_ASK_LEAST = 160.0
"""The longest that becomes of it while the provider does not answer."""
_ASK_ALONE = 5
"""Unfinished jobs older than those that are listed, which are asked for one by one at each question."""
_PATIENCE = 20.0
"""Seconds in which it must answer."""


class Background:
    """Work of the app that belongs to no screen."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.troubles: dict[str, str] = {}
        """Profiles that did not answer when last asked, with the reason."""
        self._asking: set[str] = set()

    def begin(self, workbench: Workbench) -> None:
        """Begin all of it."""
        work = self._desk.work
        work(self._watch(workbench), name="watching the jobs", group="background-watch")
        work(self._carry_out(workbench), name="the queue", group="background-queue")

    def lineup(self, workbench: Workbench) -> Lineup:
        """Return the queue."""

        async def connect(name: str) -> JobService:
            return await workbench.jobs(workbench.profile(name))

        return Lineup(workbench.store, connect)

    # --- jobs of all profiles

    async def _watch(self, workbench: Workbench) -> None:
        """Tell each job that ends from now on, and keep those that nobody follows up to date."""
        before: dict[tuple[str, str], bool] | None = None
        while True:
            known = await asyncio.to_thread(workbench.store.jobs)
            ends = {(one.profile, one.job.id): one.job.is_final for one in known}
            if before is not None:
                for one in known:
                    if ends[one.profile, one.job.id] and before.get((one.profile, one.job.id)) is False:
                        self._tell(workbench, one.job)
            before = ends
            self._ask_for_unfinished(workbench, known)
            await asyncio.sleep(_LOOK)

    def _ask_for_unfinished(self, workbench: Workbench, known: Iterable[KnownJob]) -> None:
        waiting = {one.profile for one in known if not one.job.is_final} - self._asking
        for name in waiting & workbench.profiles().keys():
            self._asking.add(name)
            self._desk.work(
                self._ask(workbench, workbench.profile(name)), name=f"asking {name}", group="background-ask"
            )

    async def _ask(self, workbench: Workbench, profile: Profile) -> None:
        """Ask one provider again and again for its unfinished jobs, ever more seldom while it does not answer."""
        wait = _ASK
        try:
            while unfinished := await asyncio.to_thread(_unfinished, workbench, profile.name):
                try:
                    async with asyncio.timeout(_PATIENCE):
                        service = await workbench.jobs(profile)
                        told = {job.id: job for job in await service.provider.jobs(limit=100)}
                        told |= await _asked_alone(service, unfinished - told.keys())
                    service.remember([told[job] for job in sorted(unfinished & told.keys())])
                    self.troubles.pop(profile.name, None)
                    wait = _ASK
                except TimeoutError:
                    self.troubles[profile.name] = f"no answer in {_PATIENCE:.0f} s"
                    wait = min(wait * 2, _ASK_LEAST)
                except TunedeskError as error:
                    self.troubles[profile.name] = error.message
                    wait = min(wait * 2, _ASK_LEAST)
                await asyncio.sleep(wait)
        finally:
            self.troubles.pop(profile.name, None)
            self._asking.discard(profile.name)

    # --- notices

    def _tell(self, workbench: Workbench, job: FineTuningJob) -> None:
        self.tell(workbench, Notice.of(job))

    def tell(self, workbench: Workbench, notice: Notice) -> None:
        """Ring, notify by the terminal, and run the user's command, as settings.toml has it."""
        try:
            settings = notify_settings(workbench.paths)
        except UsageError as error:
            self._desk.say(f"{error.message}: {error.hint}", "warning")
            return
        self._desk.write_signals(signals(notice, settings))
        self._desk.work(self._run(notice, settings), name="the command of [notify]", group="notify")

    async def _run(self, notice: Notice, settings: Notify) -> None:
        if settings.command:
            await asyncio.to_thread(run_command, notice, settings)

    # --- the queue

    async def _carry_out(self, workbench: Workbench) -> None:
        told: QueuedLaunch
        lineup = self.lineup(workbench)
        async for told in lineup.run():
            if told.state == "running":
                self._desk.say(f"the queue trains {told.model} at {told.profile}")
                continue
            left = sum(one.state == "waiting" for one in lineup.places())
            self._desk.say(f"queue: {told.model} {told.state}, {left} left")
            if not left:
                self.tell(workbench, Notice("Queue finished", f"the last job {told.state}"))


def _unfinished(workbench: Workbench, profile: str) -> set[str]:
    return {one.job.id for one in workbench.store.jobs(profile) if not one.job.is_final}


async def _asked_alone(service: JobService, jobs: set[str]) -> dict[str, FineTuningJob]:
    """Return a few of these jobs, any of them, each asked for by itself; one that is gone there is left as it is."""
    told = {}
    for job in random.sample(sorted(jobs), min(_ASK_ALONE, len(jobs))):
        try:
            told[job] = await service.provider.job(job)
        except ProviderError as error:
            if error.status != 404:
                raise
    return told
