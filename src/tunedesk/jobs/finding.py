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


async def find_job(store: Store, provider: Provider, launch: Launch) -> FineTuningJob | None:
    """Look for the launch's job: by the filter on metadata, then, where that is not honoured, in the whole list.

    Where no metadata is kept, it is the job on the same file, made since the request, that no other launch has.
    """
    if provider.profile.takes_metadata:
        wanted = {LAUNCH_KEY: launch.id}
        try:
            listed = await provider.jobs(metadata=wanted)
        except ProviderError as error:
            if error.status not in (400, 422):
                raise
            listed = []
        for job in [*listed, *await provider.jobs(limit=1000)]:
            if job.metadata.get(LAUNCH_KEY) == launch.id:
                return job
        return None
    taken = {other.job for other in store.launches(provider.profile.name)}
    for job in await provider.jobs(limit=1000):
        same = job.training_file == launch.training.file and job.id not in taken
        if same and job.created_at >= launch.sent_at - _CLOCKS:
            return job
    return None


async def find_begun(store: Store, provider: Provider, wanted: Launch) -> Launch | None:
    """Return the newest launch that asks for the same as `wanted` with the same key and has not ended."""
    for launch in store.launches(provider.profile.name):
        if launch.state == ABANDONED or _asks(launch) != _asks(wanted):
            continue
        if launch.job is None or await _goes_on(provider, launch.job):
            return launch
    return None


async def _goes_on(provider: Provider, job: str) -> bool:
    try:
        return not (await provider.job(job)).is_final
    except ProviderError as error:
        if error.status != 404:
            raise
        return False


def _asks(launch: Launch) -> tuple[object, ...]:
    return (
        launch.account, launch.training.sha256, launch.validation.sha256 if launch.validation else None,
        launch.model, launch.method, launch.hyperparameters, launch.suffix, launch.seed,
    )  # fmt: skip
