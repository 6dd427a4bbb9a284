"""Pictures of the screens, few and looked at; the README shows the first one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from textual.app import App
from textual.pilot import Pilot

from tests.tui.bench import workbench
from tests.tui.rig import Endpoint, metrics_event, until
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.panes.estimate import EstimatePane
from tunedesk.workbench import Workbench

STARTED = 1_790_000_000


class SnapCompare(Protocol):
    def __call__(
        self, app: App[None], *, run_before: object = None, terminal_size: tuple[int, int] = (80, 24)
    ) -> bool: ...


async def counted(pilot: Pilot[None]) -> None:
    """Wait until the sample conversations are on screen and their tokens are counted."""
    await until(
        pilot,
        lambda: bool(pilot.app.query(EstimatePane)) and pilot.app.query_one(EstimatePane).counted is not None,
    )
    await pilot.pause()


def with_job(folder: Path) -> Workbench:
    """Return a workbench that remembers one finished job with its curve."""
    bench = workbench(folder)
    tuned = "ft:SmolLM2-135M-Instruct:local:isla:k3J9xQ2a"
    job = FineTuningJob(
        "ftjob-9fQ2x", "succeeded", "SmolLM2-135M-Instruct", STARTED, STARTED + 330, fine_tuned_model=tuned,
        trained_tokens=123_456, hyperparameters=Hyperparameters(2, 5, 1.0), seed=0,
    )  # fmt: skip
    bench.store.save_jobs("local", [job])
    events = [metrics_event(step, at=STARTED + step * 3) for step in range(1, 101)]
    bench.store.add_events("local", job.id, events)
    return bench


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let times be shown alike on any machine."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["wide", "small"])
def test_data_screen(snap_compare: SnapCompare, tmp_path: Path, size: tuple[int, int]) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path))
    assert snap_compare(app, run_before=counted, terminal_size=size)


def test_jobs_screen(snap_compare: SnapCompare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = with_job(tmp_path)
    endpoint = Endpoint(known={known.job.id: known.job for known in bench.store.jobs()})
    monkeypatch.setattr("tunedesk.workbench.connect", lambda *_: endpoint)

    async def on_jobs(pilot: Pilot[None]) -> None:
        await counted(pilot)
        await pilot.press("2")
        await pilot.pause(1.0)

    app = TunedeskApp(lambda: bench)
    assert snap_compare(app, run_before=on_jobs, terminal_size=(120, 36))
