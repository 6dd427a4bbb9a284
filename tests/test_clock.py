"""A clock that is wrong, jumps, or stands in another zone: figures stay sane, dates are the same for everybody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Endpoint
from tests.job_rig import event, ids, service, told
from tunedesk.core.fine_tuning import FineTuningJob, MetricPoint
from tunedesk.core.metrics import steps_per_second
from tunedesk.store import Store
from tunedesk.tui.panes.job_view import duration, elapsed, seconds_left

RUNNING = FineTuningJob("j", "running", created_at=10_000)


def points(*at: int) -> list[MetricPoint]:
    return [MetricPoint(step, 100, train_loss=1.0, at=moment) for step, moment in enumerate(at, 1)]


@pytest.mark.parametrize("jump", [-7_200, 7_200, 86_400 * 400])
def test_the_speed_is_that_of_the_steps_whatever_the_clock_did_between(jump: int) -> None:
    steady = [1_000 + 2 * step for step in range(20)]
    jumped = steady[:10] + [at + jump for at in steady[10:]]
    assert steps_per_second(points(*jumped)) == pytest.approx(0.5, rel=0.1)
    assert seconds_left(RUNNING, points(*jumped), 0) == pytest.approx(160, rel=0.1)


def test_elapsed_and_left_are_never_negative() -> None:
    assert elapsed(RUNNING, 2_000) == 0, "our clock is behind the provider's"
    assert elapsed(replace(RUNNING, finished_at=9_000), 20_000) == 0, "theirs went back meanwhile"
    assert seconds_left(replace(RUNNING, estimated_finish=11_000), [], 50_000) == 0
    assert duration(elapsed(RUNNING, 2_000)) == "0 s"


def test_a_finish_that_the_steps_belie_by_hours_gives_way_to_them() -> None:
    running = replace(RUNNING, estimated_finish=10_000 + 160)
    steady = points(*(9_960 + 2 * step for step in range(20)))
    assert seconds_left(running, steady, 10_000) == 160
    assert seconds_left(running, steady, 10_000 - 5 * 3_600) == 160, "our clock is five hours behind"
    assert seconds_left(running, steady, 10_060) == 100, "a little off is the provider's word"


async def test_events_of_a_provider_whose_clock_jumps_are_all_told_once(store: Store) -> None:
    endpoint = Endpoint(page_size=2)
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    moments = [5_000, 5_001, 1_400, 1_401, 9_000, 9_001, 5_002]
    endpoint.events["j"] = [event(n, at=at, loss=1 / n) for n, at in enumerate(moments, 1)]
    first = await told(service(store, endpoint), limit=9)
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.events["j"].append(event(8, at=1_402, loss=0.1))
    seen = ids(first) + ids(await told(service(store, endpoint)))
    assert set(seen) == {one.id for one in endpoint.events["j"]}
    assert [one.id for one in store.events("cloud", "j")] == [
        one.id for one in sorted(endpoint.events["j"], key=lambda one: (one.created_at, one.id))
    ]
    assert [point.step for point in store.points("cloud", "j")] == list(range(1, 9)), "a curve is by step"


_DAY = """
import time
moment = 1_799_193_600 + {hour} * 3600  # 2027-01-06 00:00 UTC and some hours
time.time = lambda: moment
import datetime
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(moment, tz)
datetime.datetime = Clock
from tunedesk.config import profiles
from tunedesk.paths import state_paths
from tunedesk.providers.limits import today
print(today(), profiles(state_paths())["openai"].is_closed(today()))
"""


@pytest.mark.parametrize("zone", ["UTC0", "EARLY-14", "LATE12"])
def test_the_last_day_of_a_provider_is_the_same_in_every_time_zone(zone: str) -> None:
    def said(hour: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", _DAY.format(hour=hour)], capture_output=True, text=True, check=True,
            env={**os.environ, "TZ": zone, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
        ).stdout.strip()  # fmt: skip

    assert said(-1) == "2027-01-05 False"
    assert said(1) == "2027-01-06 True"
    assert time.time() > 0
