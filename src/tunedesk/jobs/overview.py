"""All jobs of all profiles, asked for side by side: a provider that does not answer holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from tunedesk.config import Profile
from tunedesk.errors import TunedeskError
from tunedesk.jobs.service import JobService

PATIENCE = 20.0
"""Seconds in which a provider must have listed its jobs."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What came of asking one profile."""

    profile: str
    jobs: int = 0
    trouble: str = ""
    """Why it could not be asked, empty when it answered."""


async def refresh_all(
    profiles: Sequence[Profile],
    connect: Callable[[Profile], Awaitable[JobService]],
    *,
    patience: float = PATIENCE,
) -> AsyncIterator[Listed]:
    """Ask every profile for its jobs, adopt what was launched without an answer, and yield each as it is done."""
    asked = [asyncio.create_task(_asked(one, connect, patience)) for one in profiles]
    try:
        for done in asyncio.as_completed(asked):
            yield await done
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _asked(
    profile: Profile, connect: Callable[[Profile], Awaitable[JobService]], patience: float
) -> Listed:
    try:
        async with asyncio.timeout(patience):
            service = await connect(profile)
            await service.reconcile()
            return Listed(profile.name, len(await service.refresh()))
    except TimeoutError:
        return Listed(profile.name, trouble=f"no answer in {patience:.0f} s")
    except TunedeskError as error:
        return Listed(profile.name, trouble=error.message)
