"""Fine-tuning jobs at one provider: launched, listed, stopped, followed; the provider's word wins over ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import ProviderError
from tunedesk.jobs.launching import Launching
from tunedesk.jobs.tailing import JobChanged, Update, follow
from tunedesk.providers.base import UNREACHABLE
from tunedesk.providers.limits import check_pause
from tunedesk.store import KnownJob


class JobService(Launching):
    """Jobs at one provider, remembered in the store."""

    async def refresh(self, limit: int = 100) -> list[KnownJob]:
        """Ask the provider for its jobs, keep them, and return all that are known at this profile."""
        self.remember(await self.provider.jobs(limit=limit))
        return self.known_jobs()

    def remember(self, jobs: Sequence[FineTuningJob]) -> None:
        """Keep jobs as the provider told them, and write the recipes of those that have succeeded."""
        self.store.save_jobs(self._profile, jobs)
        for job in jobs:
            self.recipes.note(self._profile, job, self.store.launch_of(self._profile, job.id))

    def known_jobs(self) -> list[KnownJob]:
        """Return the jobs of this profile as last heard of, the newest first."""
        return self.store.jobs(self._profile)

    async def cancel(self, job_id: str) -> FineTuningJob:
        """Stop a job for good."""
        return await self._acted(job_id, self.provider.cancel)

    async def pause(self, job_id: str) -> FineTuningJob:
        """Halt a job so that it can go on later; raises UsageError where that is not offered."""
        check_pause(self.provider.profile)
        return await self._acted(job_id, self.provider.pause)

    async def resume(self, job_id: str) -> FineTuningJob:
        """Let a paused job go on."""
        return await self._acted(job_id, self.provider.resume)

    async def tail(self, job_id: str, *, interval: float | None = None) -> AsyncIterator[Update]:
        """Follow a job to its end, beginning with what the store holds (see tailing.follow); then write its recipe."""
        async for update in follow(self.store, self.provider, job_id, interval=interval, pause=self._pause):
            if isinstance(update, JobChanged) and update.job.is_final:
                self.remember([update.job])
            yield update

    async def _acted(self, job_id: str, act: Callable[[str], Awaitable[FineTuningJob]]) -> FineTuningJob:
        """Do something to a job; an answer that got lost is replaced by a look at the job."""
        try:
            job = await act(job_id)
        except ProviderError as error:
            if not error.in_doubt or error.code == UNREACHABLE:
                raise
            job = await self.provider.job(job_id)
        self.store.save_jobs(self._profile, [job])
        return job
