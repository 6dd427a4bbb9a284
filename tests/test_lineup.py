"""The kept queue: in order over providers, paused and continued, found again after a stop, never a job twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Endpoint, Killed, ScriptedProvider, no_pause
from tests.test_queue import CLOUD, HERE, Training
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.errors import JobError, ProviderError
from tunedesk.jobs import JobService, LaunchRequest, Lineup
from tunedesk.jobs.lineup import spent
from tunedesk.store import QueuedLaunch, QueueRules, Store


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n' * 30)
    return LaunchRequest("base", path, seed=7)


def lineup(store: Store, **endpoints: Endpoint) -> Lineup:
    profiles = {"cloud": CLOUD, "local": HERE}

    async def connect(name: str) -> JobService:
        return JobService(store, ScriptedProvider(endpoints[name], profiles[name]), pause=no_pause)

    return Lineup(store, connect, pause=no_pause)


def training(*losses: float) -> Training:
    endpoint = Training()
    endpoint.ending(list(losses))
    return endpoint


def epochs(request: LaunchRequest, *counts: int) -> list[LaunchRequest]:
    return [replace(request, hyperparameters=Hyperparameters(count)) for count in counts]


async def ended(queue: Lineup, count: int) -> list[QueuedLaunch]:
    """Run the queue until so many places are over."""
    over: list[QueuedLaunch] = []
    run: AsyncIterator[QueuedLaunch] = queue.run()
    async with aclosing(run):  # type: ignore[type-var]
        async for place in run:
            if place.state != "running":
                over.append(place)
            if len(over) == count:
                return over
    return over


async def test_cloud_and_local_stand_in_one_order_and_the_best_is_named(
    store: Store, request_: LaunchRequest
) -> None:
    cloud, local = training(1.2), training(1.5, 0.9)
    queue = lineup(store, cloud=cloud, local=local)
    queue.add("local", epochs(request_, 1), [0.0])
    queue.add("cloud", epochs(request_, 2), [1.0])
    queue.add("local", epochs(request_, 3), [0.0])
    queue.set_rules(QueueRules(running=True))
    over = await ended(queue, 3)
    assert [(one.profile, one.hyperparameters.n_epochs, one.state) for one in over] == [
        ("local", 1, "succeeded"), ("cloud", 2, "succeeded"), ("local", 3, "succeeded"),
    ]  # fmt: skip
    winner = queue.best()
    assert winner is not None
    assert winner.valid_loss == 0.9


async def test_order_changes_by_hand_among_what_waits(store: Store, request_: LaunchRequest) -> None:
    queue = lineup(store, cloud=training())
    queue.add("cloud", epochs(request_, 1, 2, 3), [1.0, 1.0, 1.0])
    first, second, third = (one.id for one in queue.places())
    queue.move(third, -1)
    assert [one.id for one in queue.places()] == [first, third, second]
    with pytest.raises(JobError, match="first that waits"):
        queue.move(first, -1)
    queue.remove(first)
    assert [one.id for one in queue.places()] == [third, second]


async def test_a_paused_queue_begins_nothing_and_goes_on_when_told(
    store: Store, request_: LaunchRequest
) -> None:
    cloud = training()
    looks = 0

    async def pause(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            assert cloud.jobs == {}
            queue.set_rules(QueueRules(running=True))

    async def connect(name: str) -> JobService:
        return JobService(store, ScriptedProvider(cloud, CLOUD), pause=no_pause)

    queue = Lineup(store, connect, pause=pause)
    queue.add("cloud", epochs(request_, 1), [1.0])
    assert [one.state for one in await ended(queue, 1)] == ["succeeded"]
    assert looks >= 3


async def test_rules_hold_places_back_and_loosened_ones_let_them_begin(
    store: Store, request_: LaunchRequest
) -> None:
    queue = lineup(store, cloud=training())
    queue.add("cloud", epochs(request_, 1, 2), [3.0, 3.0])
    queue.set_rules(QueueRules(running=True, budget=4.0))
    first, second = await ended(queue, 2)
    assert first.state == "succeeded"
    assert second.state == "not started"
    assert "$1.00 of the budget is left" in second.reason
    queue.set_rules(QueueRules(running=True, budget=10.0))
    assert [one.state for one in await ended(queue, 1)] == ["succeeded"]


async def test_after_a_failure_the_next_goes_on(store: Store, request_: LaunchRequest) -> None:
    cloud = training()
    cloud.fails = ("ftjob-1",)
    queue = lineup(store, cloud=cloud)
    queue.add("cloud", epochs(request_, 1, 2), [1.0, 1.0])
    queue.set_rules(QueueRules(running=True))
    assert [one.state for one in await ended(queue, 2)] == ["failed", "succeeded"]
    assert queue.clear() == 2
    assert queue.places() == []


async def test_a_provider_that_cannot_be_reached_is_told_and_blocks_no_other(
    store: Store, request_: LaunchRequest
) -> None:
    async def connect(name: str) -> JobService:
        if name == "cloud":
            raise ProviderError("no key for cloud", "set it")
        return JobService(store, ScriptedProvider(local, HERE), pause=no_pause)

    local = training()
    queue = Lineup(store, connect, pause=no_pause)
    queue.add("cloud", epochs(request_, 1), [1.0])
    queue.add("local", epochs(request_, 2), [0.0])
    queue.set_rules(QueueRules(running=True))
    first, second = await ended(queue, 2)
    assert (first.state, first.reason) == ("failed", "no key for cloud")
    assert second.state == "succeeded"


@pytest.mark.parametrize("moment", range(1, 12))
async def test_killed_at_any_call_it_goes_on_with_the_same_job(
    store: Store, request_: LaunchRequest, moment: int
) -> None:
    cloud = training()
    ending, calls = cloud.moment, 0

    def dying() -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Killed
        ending()

    cloud.moment = dying
    queue = lineup(store, cloud=cloud)
    queue.add("cloud", epochs(request_, 1, 2), [1.0, 1.0])
    queue.set_rules(QueueRules(running=True))
    with pytest.raises(Killed):
        await ended(queue, 2)
    cloud.moment = ending
    left = sum(one.state in ("waiting", "running") for one in queue.places())
    await ended(lineup(store, cloud=cloud), left)
    for one in queue.places():
        assert one.state == "succeeded" or "got no answer" in one.reason
    made = [job.metadata["tunedesk_launch"] for job in cloud.jobs.values()]
    assert len(made) == len(set(made))


async def test_only_one_process_carries_the_queue_out(store: Store, request_: LaunchRequest) -> None:
    cloud = training()
    queue = lineup(store, cloud=cloud)
    queue.add("cloud", epochs(request_, 1), [1.0])
    queue.set_rules(QueueRules(running=True))
    first = queue.run()
    assert (await anext(first)).state == "running"
    waits = 0

    async def pause(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            raise Killed

    async def connect(name: str) -> JobService:
        raise AssertionError("the other one carries it out")

    with pytest.raises(Killed):
        await anext(Lineup(store, connect, pause=pause).run())
    assert [place.state async for place in _rest(first)] == ["succeeded"]


async def _rest(run: AsyncIterator[QueuedLaunch]) -> AsyncIterator[QueuedLaunch]:
    async with aclosing(run):  # type: ignore[type-var]
        async for place in run:
            yield place
            return


async def test_what_failed_has_another_turn_and_its_money_still_counts(
    store: Store, request_: LaunchRequest
) -> None:
    cloud = training()
    cloud.fails = ("ftjob-1",)
    queue = lineup(store, cloud=cloud)
    queue.add("cloud", epochs(request_, 1, 2, 3), [1.0, 2.0, 3.0])
    queue.set_rules(QueueRules(running=True, budget=8.0))
    unreachable = ProviderError("cannot reach it", retryable=True, code="unreachable")
    run = queue.run()
    async with aclosing(run):  # type: ignore[type-var]
        over = 0
        async for place in run:
            over += place.state != "running"
            if over == 1 and place.state != "running":
                cloud.lose("upload", unreachable, carried_out=False)
                cloud.files.clear()
            if over == 3:
                break
    failed, unsent, done = queue.places()
    assert (failed.state, unsent.state, done.state) == ("failed", "failed", "succeeded")
    assert (unsent.job, unsent.usd) == (None, 2.0), "what it may cost is known for its next turn"
    queue.again(failed.id)
    queue.again(unsent.id)
    with pytest.raises(JobError, match="can have another turn"):
        queue.again(done.id)
    states = [(one.state, one.launch) for one in queue.places()]
    assert states[1] == ("waiting", unsent.launch), "nothing was sent: the same launch"
    assert states[0][0] == "failed"
    assert states[3][0] == "waiting"
    assert states[3][1] not in (failed.launch, unsent.launch, done.launch)
    await ended(queue, 2)
    assert [one.state for one in queue.places()] == ["failed", "succeeded", "succeeded", "succeeded"]
    assert spent(queue.places()) == sum(one.usd or 0 for one in queue.places())
