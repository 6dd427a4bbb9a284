"""Following a job: every event once and in order, politely, from whatever the provider tells."""

from __future__ import annotations

import pytest

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tests.job_rig import event, ids, service, told
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, JobEvent
from tunedesk.errors import ProviderError
from tunedesk.jobs import (
    CheckpointSeen,
    EventSeen,
    JobChanged,
    JobService,
    PointSeen,
    PollFailed,
)
from tunedesk.providers.base import UNREACHABLE
from tunedesk.store import Store


@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("page", [1, 7, 100])
async def test_a_tail_tells_every_event_once_and_in_order_whatever_the_pages(
    store: Store, oldest_first: bool, page: int
) -> None:
    endpoint = Endpoint(oldest_first=oldest_first, page_size=page)
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.events["j"] = [event(n, loss=5 / n) for n in range(1, 24)]
    looks = 0

    def grow() -> None:
        nonlocal looks
        if endpoint.calls[-1] == "job":
            looks += 1
            if looks % 2:
                start = len(endpoint.events["j"]) + 1
                endpoint.events["j"] += [event(n, loss=5 / n) for n in range(start, start + 17)]
            if looks == 8:
                endpoint.jobs["j"] = FineTuningJob("j", "succeeded", fine_tuned_model="ft:x")

    endpoint.moment = grow
    updates = await told(service(store, endpoint))
    expected = [e.id for e in endpoint.events["j"]]
    assert ids(updates) == expected
    assert [u.point.step for u in updates if isinstance(u, PointSeen)] == list(range(1, len(expected) + 1))
    assert isinstance(updates[-1], JobChanged)
    assert updates[-1].job.fine_tuned_model == "ft:x"


async def test_events_of_the_same_second_that_come_late_are_not_lost(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.events["j"] = [event(3, at=10), event(5, at=11)]

    def late() -> None:
        if endpoint.calls.count("job") == 2:
            endpoint.events["j"] = [event(1, at=10), event(3, at=10), event(4, at=11), event(5, at=11)]
            endpoint.jobs["j"] = FineTuningJob("j", "failed", error="why")

    endpoint.moment = late
    updates = await told(service(store, endpoint))
    assert ids(updates) == ["ev-0003", "ev-0005", "ev-0001", "ev-0004"]
    assert [e.id for e in store.events("cloud", "j")] == ["ev-0001", "ev-0003", "ev-0004", "ev-0005"]


@pytest.mark.parametrize("status", ["paused", "validating_files", "no_such_word"])
async def test_only_three_words_end_a_tail(store: Store, status: str) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", status)

    def end() -> None:
        if endpoint.calls.count("job") == 3:
            endpoint.jobs["j"] = FineTuningJob("j", "cancelled")

    endpoint.moment = end
    updates = await told(service(store, endpoint))
    assert [u.job.status for u in updates if isinstance(u, JobChanged)] == [status, "cancelled"]


async def test_a_tail_goes_on_after_failures_and_obeys_retry_after(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.lose("job", ProviderError("slow down", status=429, retryable=True, retry_after=33))
    endpoint.lose("events")
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    jobs = JobService(store, ScriptedProvider(endpoint), pause=pause)
    updates = [update async for update in jobs.tail("j", interval=2.0)]
    failed = [u for u in updates if isinstance(u, PollFailed)]
    assert [u.error.message for u in failed] == ["slow down", "no answer in time"]
    assert waits[0] == failed[0].retry_in == 33
    assert 2.0 < waits[1] < 12
    assert isinstance(updates[-1], JobChanged)


async def test_an_absurd_retry_after_and_a_night_without_a_network_end_no_tail(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.lose("job", ProviderError("slow down", status=429, retryable=True, retry_after=1e11))
    for _ in range(1100):
        endpoint.lose("job", ProviderError("gone", retryable=True, code=UNREACHABLE))
    updates = await told(service(store, endpoint))
    waits = [u.retry_in for u in updates if isinstance(u, PollFailed)]
    assert waits[0] == 3600.0
    assert len(waits) == 1101
    assert max(waits[1:]) <= 75.0
    assert isinstance(updates[-1], JobChanged)


async def test_a_tail_ends_where_asking_again_cannot_help(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.lose("job", ProviderError("no such key", status=401))
    with pytest.raises(ProviderError, match="no such key"):
        await told(service(store, endpoint))


async def test_a_quiet_job_is_asked_less_and_less_often(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            endpoint.jobs["j"] = FineTuningJob("j", "succeeded")

    jobs = JobService(store, ScriptedProvider(endpoint), pause=pause)
    assert [u async for u in jobs.tail("j")]
    assert waits[0] < 6
    assert waits[0] * 2 < waits[-1] < 60


async def test_a_checkpoint_is_told_while_the_job_still_runs_and_once(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    told = [JobEvent("e1", 1, "m", type="metrics", data={"step": 1, "train_loss": 1.0})]
    endpoint.events["j"] = told
    service = JobService(store, ScriptedProvider(endpoint), pause=no_pause)
    seen: list[str] = []
    async for update in service.tail("j", interval=0):
        if isinstance(update, CheckpointSeen):
            seen.append(update.checkpoint.id)
            endpoint.jobs["j"] = FineTuningJob("j", "succeeded", finished_at=3)
        elif isinstance(update, EventSeen) and update.event.id == "e1":
            endpoint.checkpoints["j"] = [Checkpoint("c1", "m1", 1)]
            told.append(JobEvent("e2", 2, "Checkpoint created at step 1: m1"))
    assert seen == ["c1"]
    again = [update async for update in service.tail("j", interval=0)]
    assert [u.checkpoint.id for u in again if isinstance(u, CheckpointSeen)] == ["c1"]


async def test_without_metrics_events_the_curve_comes_from_checkpoints(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.events["j"] = [event(1)]
    endpoint.checkpoints["j"] = [Checkpoint("c1", "m1", 10, {"train_loss": 1.0, "valid_loss": 1.2})]
    updates = await told(service(store, endpoint))
    (point,) = [u.point for u in updates if isinstance(u, PointSeen)]
    assert (point.step, point.train_loss, point.valid_loss) == (10, 1.0, 1.2)


@pytest.mark.parametrize(
    "content", [b"step,train_loss\n1,2.5\n2,2.0\n", b"c3RlcCx0cmFpbl9sb3NzCjEsMi41CjIsMi4wCg=="]
)
async def test_without_checkpoints_the_curve_comes_from_the_result_file(store: Store, content: bytes) -> None:
    endpoint = Endpoint(contents={"file-r": content})
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded", result_files=("file-r",))
    endpoint.lose("checkpoints", ProviderError("not here", status=404), carried_out=False)
    updates = await told(service(store, endpoint))
    points = [(u.point.step, u.point.train_loss) for u in updates if isinstance(u, PointSeen)]
    assert points == [(1, 2.5), (2, 2.0)]
