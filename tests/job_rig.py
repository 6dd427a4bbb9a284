"""What tests of jobs share: two profiles, a service over a scripted endpoint, and what a tail told."""

from __future__ import annotations

from typing import Any

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tunedesk.config import LOCAL, Profile
from tunedesk.core.fine_tuning import JobEvent
from tunedesk.jobs import EventSeen, JobService, Update
from tunedesk.store import Store

CLOUD = Profile(name="cloud", base_url="https://cloud.test/v1")
HERE = Profile(name=LOCAL, base_url="")


def service(store: Store, endpoint: Endpoint, profile: Profile = CLOUD, account: str = "…test") -> JobService:
    """Return a job service that never waits."""
    return JobService(store, ScriptedProvider(endpoint, profile, account), pause=no_pause)


def event(number: int, *, loss: float | None = None, at: int | None = None) -> JobEvent:
    data: dict[str, Any] = {} if loss is None else {"step": number, "total_steps": 500, "train_loss": loss}
    kind = "message" if loss is None else "metrics"
    return JobEvent(f"ev-{number:04}", number if at is None else at, f"event {number}", type=kind, data=data)


async def told(jobs: JobService, limit: int = 10_000) -> list[Update]:
    updates: list[Update] = []
    async for update in jobs.tail("j"):
        updates.append(update)
        if len(updates) >= limit:
            break
    return updates


def ids(updates: list[Update]) -> list[str]:
    return [u.event.id for u in updates if isinstance(u, EventSeen)]
