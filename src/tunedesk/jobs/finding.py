"""Looking for what was made before: a launch's job at the provider, a launch like the one asked for in the store."""

from __future__ import annotations

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import ProviderError
from tunedesk.providers.base import Provider
from tunedesk.store import Launch, Store
from tunedesk.store.jobs import ABANDONED

LAUNCH_KEY = "tunedesk_launch"
"""The key of a job's metadata that names our launch."""
_CLOCKS = 300
"""Seconds by which the provider's clock and ours may differ."""
_LISTED = 1000
"""Jobs, the newest first, among which one is looked for."""


async def jobs_before(provider: Provider, launch: Launch) -> tuple[str, ...] | None:
    """Return the jobs on the launch's file just before its own is asked for; None where jobs cannot be listed.

    Raises ProviderError when the list may come later: nothing was sent yet, so nothing is lost by waiting.
    """
    try:
        listed = await provider.jobs(limit=_LISTED)
    except ProviderError as error:
        if error.retryable:
            raise
        return None
    return tuple(job.id for job in listed if job.training_file == launch.training.file)


async def find_job(store: Store, provider: Provider, launch: Launch) -> FineTuningJob | None:
    """Look for the launch's job: by the filter on metadata, then in the whole list by its id, then by its file.

    Where metadata is not kept, it is the job on the same file that was not there before the request (by the clock
    alone where that is not known), that names no launch and that no other launch has.
    """
    listed: list[FineTuningJob] = []
    if provider.profile.takes_metadata:
        try:
            listed = await provider.jobs(metadata={LAUNCH_KEY: launch.id})
        except ProviderError as error:
            if error.status not in (400, 422):
                raise
    everything = await provider.jobs(limit=_LISTED)
    for job in [*listed, *everything]:
        if job.metadata.get(LAUNCH_KEY) == launch.id:
            return job
    taken = {other.job for other in store.launches(provider.profile.name)}
    nameless = [job for job in everything if LAUNCH_KEY not in job.metadata and job.id not in taken]
    for job in nameless:
        fresh = (
            job.created_at >= launch.sent_at - _CLOCKS
            if launch.jobs_before is None
            else job.id not in launch.jobs_before
        )
        if fresh and job.training_file == launch.training.file:
            return job
    return None


async def find_begun(store: Store, provider: Provider, wanted: Launch) -> Launch | None:
    """Return the newest launch that asks for the same as `wanted` with the same key and came to no bad end."""
    for launch in store.launches(provider.profile.name):
        if launch.state == ABANDONED or _asks(launch) != _asks(wanted):
            continue
        if launch.job is None or await _is_good(store, provider, launch.job):
            return launch
    return None


async def _is_good(store: Store, provider: Provider, job_id: str) -> bool:
    """Whether a job is on or has succeeded; it is kept as it is now."""
    try:
        job = await provider.job(job_id)
    except ProviderError as error:
        if error.status != 404:
            raise
        return False
    store.save_jobs(provider.profile.name, [job])
    return job.status not in ("failed", "cancelled")


def _asks(launch: Launch) -> tuple[object, ...]:
    return (
        launch.account, launch.training.sha256, launch.validation.sha256 if launch.validation else None,
        launch.model, launch.method, launch.hyperparameters, launch.suffix, launch.seed,
    )  # fmt: skip
