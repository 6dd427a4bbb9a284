"""Killed at any moment of a launch or a tail and started again: one job, no event missing or double."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import Endpoint, Killed
from tests.job_rig import CLOUD, HERE, event, ids, service, told
from tunedesk import db
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import JobError
from tunedesk.jobs import (
    LaunchRequest,
    PointSeen,
)
from tunedesk.paths import Paths
from tunedesk.store import MIGRATIONS, Store
from tunedesk.store.database import Database


class MortalDatabase(Database):
    """A database in which the process may die just before and just after each commit."""

    moment: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def writing(self) -> Iterator[db.Connection]:
        with super().writing() as connection:
            yield connection
            self.moment()
        self.moment()


class Life:
    """Counts the moments of one process's life and ends it at the chosen one."""

    def __init__(self, dies_at: int | None) -> None:
        self.left = dies_at

    def moment(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Killed


async def live(path: Path, endpoint: Endpoint, profile: Profile, request: LaunchRequest, life: Life) -> None:
    """One process: open the store, launch, die or not."""
    store = Store(path)
    mortal = MortalDatabase(path, MIGRATIONS)
    store.database.close()
    store.database = mortal
    mortal.moment = endpoint.moment = life.moment
    try:
        await service(store, endpoint, profile).launch(request)
    finally:
        mortal.close()


@pytest.mark.parametrize("parts", [0, 200], ids=["whole", "in parts"])
@pytest.mark.parametrize("profile", [CLOUD, HERE], ids=["cloud", "local"])
async def test_killed_at_any_moment_of_a_launch_and_started_again_there_is_one_job(
    paths: Paths, request_: LaunchRequest, profile: Profile, parts: int
) -> None:
    moments = 0
    for dies_at in range(1, 200):
        path = paths.data / f"{dies_at}" / "store.sqlite3"
        path.parent.mkdir()
        endpoint = Endpoint(honours_keys=profile.is_local, part_bytes=parts)
        try:
            await live(path, endpoint, profile, request_, Life(dies_at))
        except Killed:
            moments += 1
        else:
            break
        try:
            await live(path, endpoint, profile, request_, Life(None))
        except JobError:
            assert not profile.is_local
            assert not endpoint.jobs, "only a request that made no job may be left to the user"
            with Store(path) as store:
                await service(store, endpoint, profile).carry_out(request_.launch, again=True)
        assert len(endpoint.jobs) == 1
        assert len(endpoint.files) == 2
        assert endpoint.calls.count("part") <= 5, "one part may be sent twice, where its answer was lost"
        with Store(path) as store:
            known = store.launch(request_.launch)
            assert known is not None
            assert known.job == "ftjob-1"
    assert moments > 20


@pytest.mark.parametrize("profile", [CLOUD, HERE], ids=["cloud", "local"])
async def test_killed_at_any_moment_of_a_tail_and_started_again_nothing_is_lost_or_doubled(
    paths: Paths, profile: Profile
) -> None:
    moments = 0
    for dies_at in range(1, 200):
        path = paths.data / f"{dies_at}" / "store.sqlite3"
        path.parent.mkdir()
        endpoint = Endpoint(page_size=3)
        endpoint.jobs["j"] = FineTuningJob("j", "running")
        endpoint.events["j"] = [event(n, loss=1 / n) for n in range(1, 9)]
        store = Store(path)
        store.database.close()
        mortal = MortalDatabase(path, MIGRATIONS)
        store.database = mortal
        mortal.moment = endpoint.moment = Life(dies_at).moment
        died = False
        try:
            await told(service(store, endpoint, profile), limit=40 if dies_at < 30 else 17)
        except Killed:
            died = True
        finally:
            mortal.close()
        endpoint.moment = lambda: None
        endpoint.events["j"] += [event(n, loss=1 / n) for n in range(9, 14)]
        endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
        with Store(path) as again:
            updates = await told(service(again, endpoint, profile))
            assert ids(updates) == [e.id for e in endpoint.events["j"]]
            assert [p.step for p in again.points(profile.name, "j")] == list(range(1, 14))
            steps = [u.point.step for u in updates if isinstance(u, PointSeen)]
            assert steps == sorted(set(steps)) == list(range(1, 14))
        if not died:
            break
        moments += 1
    assert moments > 8
