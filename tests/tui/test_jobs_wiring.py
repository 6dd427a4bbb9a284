"""The Jobs screen over the real workbench: from a spike to its rows, stars, pins, the queue, notices, files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame, until, until_shown
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters, JobEvent, ProviderFile
from tunedesk.errors import ProviderError, TunedeskError
from tunedesk.jobs import JobService, LaunchRequest
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.job_lineage import JobLineage
from tunedesk.tui.panes.job_list import JobList
from tunedesk.tui.panes.loss_curve import LossCurve
from tunedesk.tui.screens.chat import ChatScreen
from tunedesk.tui.screens.dates import calendar, left_text
from tunedesk.tui.screens.files import FilesDialog
from tunedesk.tui.screens.jobs import JobsScreen
from tunedesk.tui.screens.launching import launch
from tunedesk.tui.screens.queue import QueueDialog
from tunedesk.tui.transfer import Pace, Transfer, size_text
from tunedesk.workbench import Workbench

SPIKE = 12


def curve(steps: int = 20) -> list[JobEvent]:
    """Events of a job whose loss jumps at one step."""
    events = []
    for step in range(1, steps + 1):
        loss = 9.0 if step == SPIKE else 2.0 - step * 0.02
        data = {"step": step, "total_steps": steps, "train_loss": loss, "train_mean_token_accuracy": 0.5}
        if step % 10 == 0:
            data |= {"full_valid_loss": 2.5 - step / 20}
        events.append(JobEvent(f"ev-{step:03}", step, f"Step {step}", type="metrics", data=data))
    return events


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Iterator[Workbench]:
    bench = workbench(tmp_path)
    bench.import_file(
        write_rows(tmp_path / "talks.jsonl", [conversation(n) for n in range(24)]), name="talks"
    )
    bench.use(cast(Any, ScriptedProvider(endpoint, bench.profile("local"))))
    yield bench
    bench.store.close()


async def trained(bench: Workbench, endpoint: Endpoint) -> FineTuningJob:
    """Launch a job on a split of the dataset, and let it end with a spike and two checkpoints."""
    files = bench.split(bench.open("talks"), validation=0.25)
    service = JobService(bench.store, await bench.connect(bench.profile("local")), pause=no_pause)
    made = await service.launch(
        LaunchRequest("tiny", files.train, files.validation, hyperparameters=Hyperparameters(2))
    )
    job_id = made.job or ""
    now = int(time.time())
    job = replace(
        endpoint.jobs[job_id], status="succeeded", fine_tuned_model="ft:tiny:local:x", created_at=now - 60,
        finished_at=20, trained_tokens=10, hyperparameters=Hyperparameters(2),
    )  # fmt: skip
    endpoint.jobs[job_id] = job
    endpoint.events[job_id] = curve()
    endpoint.checkpoints[job_id] = [
        Checkpoint("c1", "ft:tiny:local:x:ckpt-step-10", 10, {"full_valid_loss": 2.0}),
        Checkpoint("c2", "ft:tiny:local:x:ckpt-step-20", 20, {"full_valid_loss": 1.5}),
    ]
    endpoint.row_losses[job_id] = {2: (SPIKE, 9.5), 5: (SPIKE, 3.25), 1: (3, 0.5)}
    with suppress(TunedeskError):
        [update async for update in service.tail(job_id)]
    return job


async def on_jobs(pilot: Pilot[None]) -> JobsScreen:
    """Go to the Jobs screen, and wait until a job is followed."""
    app = cast(TunedeskApp, pilot.app)
    await until(pilot, lambda: app.workspace is not None)
    await pilot.press("f2")
    await until(pilot, lambda: isinstance(app.screen, JobsScreen) and bool(app.screen.view.points))
    return cast(JobsScreen, app.screen)


async def test_enter_on_a_spike_opens_its_conversations_to_be_edited(
    bench: Workbench, endpoint: Endpoint
) -> None:
    job = await trained(bench, endpoint)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await on_jobs(pilot)
        await until_shown(pilot, f"! loss spike at step {SPIKE}")
        curve = screen.query_one(LossCurve)
        assert "!" in [mark.sign for mark in curve.marks]
        curve.focus()
        await pilot.press("enter")
        assert curve.cursor == SPIKE
        await pilot.press("enter")
        await until_shown(pilot, f"2 conversations of step {SPIKE} of {job.id}, by loss")
        listing = app.screen.query_one(ConversationList)
        workspace = app.workspace
        assert workspace is not None
        rows = [workspace.view(index) for index in workspace.matches]
        assert [row.loss for row in rows] == [9.5, 3.25]
        assert app.screen.query_one(FilterBar).text == "loss>=0"
        assert "9.500" in frame(app)
        lines = (bench.paths.data / "splits").glob("*/train.jsonl")
        said = next(lines).read_text().splitlines()
        assert [str(workspace.row(row.index)["messages"][1]["content"]) in said[line] for row, line in
                zip(rows, (1, 4), strict=True)] == [True, True]  # fmt: skip
        before = workspace.included_count
        assert listing.has_focus
        await pilot.press("x")
        await until(pilot, lambda: app.workspace is not None and app.workspace.included_count == before - 1)
        await pilot.press("slash")
        app.screen.query_one(FilterBar).set_text("loss>5")
        await until(pilot, lambda: app.workspace is not None and app.workspace.matched == 1)


async def test_a_provider_that_keeps_no_row_losses_is_said_so(bench: Workbench, endpoint: Endpoint) -> None:
    await trained(bench, endpoint)
    endpoint.row_losses.clear()
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await on_jobs(pilot)
        screen.query_one(LossCurve).focus()
        await pilot.press("end", "enter")
        await until_shown(pilot, "does not tell which conversations a step was")


async def test_star_pin_filter_order_and_lineage(bench: Workbench, endpoint: Endpoint) -> None:
    job = await trained(bench, endpoint)
    other = FineTuningJob("ftjob-x", "failed", "base-9", int(time.time()) - 900, 20, error="why")
    bench.store.save_jobs("local", [other])
    bench.store.add_events("local", other.id, curve())
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await on_jobs(pilot)
        best = screen.view.best
        assert best is not None
        assert best.id == "c2"
        await pilot.press("v", "asterisk")
        await until(pilot, lambda: bench.store.starred("local", job.id) == "c1")
        assert [mark.x for mark in screen.query_one(LossCurve).marks if mark.sign == "★"] == [10]
        await until_shown(pilot, "★     10")
        await pilot.press("i")
        await until_shown(pilot, "dataset     talks · version imported")
        assert "split       seed 0" in screen.query_one(JobLineage).text
        listing = screen.query_one(JobList)
        listing.focus()
        await pilot.press("end", "space")
        await until(pilot, lambda: len(screen.pinned) == 1)
        assert "1" in [series.letter for series in screen.query_one(LossCurve).series]
        await pilot.press("slash", *"status:failed", "enter")
        await until(pilot, lambda: [known.job.id for known in screen.rows.jobs] == ["ftjob-x"])
        await until_shown(pilot, "Jobs 1 of 2 · /status:failed")
        await pilot.press("slash", *" colour:red")
        await until_shown(pilot, "jobs have no field colour")
        await pilot.press("escape")
        await until(pilot, lambda: len(screen.rows.jobs) == 2)
        assert not screen.query_one("#jobs-filter").display, "a filter that was left is gone"
        await pilot.press("o")
        await until(
            pilot, lambda: [known.job.status for known in screen.rows.jobs] == ["failed", "succeeded"]
        )


async def test_the_queue_runs_on_screen_and_one_key_chats_with_the_best(
    bench: Workbench, endpoint: Endpoint
) -> None:
    files = bench.split(bench.open("talks"), validation=0.25)

    def ending() -> None:
        for number, job in enumerate(list(endpoint.jobs.values())):
            if not job.is_final:
                tuned = f"ft:tiny:{number}"
                endpoint.jobs[job.id] = replace(job, status="succeeded", fine_tuned_model=tuned)
                data = {"step": 1, "train_loss": 1.0, "valid_loss": 3.0 - number}
                endpoint.events[job.id] = [JobEvent(f"e-{job.id}", 1, "m", type="metrics", data=data)]

    endpoint.moment = ending
    app = TunedeskApp(lambda: bench, ["talks"])
    told: list[str] = []
    app.write_signals = told.append  # type: ignore[method-assign, assignment]
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        await pilot.press("f2", "Q")
        await until(pilot, lambda: isinstance(app.screen, QueueDialog))
        lineup = app.background.lineup(bench)
        base = LaunchRequest("tiny", files.train)
        lineup.add("local", [replace(base, hyperparameters=Hyperparameters(n)) for n in (1, 2)], [0.0, 0.0])
        await until_shown(pilot, "paused: space lets it run · 2 waiting")
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: [one.hyperparameters.n_epochs for one in lineup.places()] == [2, 1])
        assert endpoint.jobs == {}
        await pilot.press("space")
        await until_shown(pilot, "0 waiting, 2 over")
        assert [one.state for one in lineup.places()] == ["succeeded", "succeeded"]
        await until_shown(pilot, "★ ✓ succeeded")
        await until(pilot, lambda: any("Queue finished" in one for one in told))
        await until_shown(pilot, "Enter follows it")
        await pilot.press("r")
        await until_shown(pilot, "held back can have another turn")
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        await until(pilot, lambda: cast(ChatScreen, app.screen).choice.models == ("tiny", "ft:tiny:1"))


async def test_a_job_that_ends_rings_and_runs_the_command_whatever_its_name(
    bench: Workbench, endpoint: Endpoint, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    (bench.paths.config / "settings.toml").write_text(
        f'[notify]\nosc = ["9", "777"]\ncommand = ["touch", "{seen}-{{status}}"]\n'
    )
    job = FineTuningJob("ftjob-7", "running", "base", int(time.time()) - 5)
    endpoint.jobs[job.id] = job
    bench.store.save_jobs("local", [job])
    app = TunedeskApp(lambda: bench, ["talks"])
    told: list[str] = []
    app.write_signals = told.append  # type: ignore[method-assign, assignment]
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        await pilot.pause(1.2)
        assert told == []
        hostile = "ft:\x1b]0;gone\x07;\x9c\u202ex"
        done = replace(job, status="succeeded", fine_tuned_model=hostile)
        endpoint.jobs[job.id] = done
        bench.store.save_jobs("local", [done])
        await until(pilot, lambda: told != [] and Path(f"{seen}-succeeded").exists())
        (signals,) = told
        assert signals.startswith("\a\x1b]9;Fine-tuning succeeded: ft:")
        assert signals.count("\x1b") == 4  # two sequences, each with its end
        assert signals.count("\a") == 1
        assert not {"\x9c", "\u202e"} & set(signals)


async def test_files_are_listed_saved_and_deleted_once_confirmed(
    bench: Workbench, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.files["file-1"] = ProviderFile("file-1", "train.jsonl", 7, "fine-tune", "processed", 1)
    endpoint.contents["file-1"] = b"content"
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        app.push_screen(FilesDialog(bench, bench.profile("local")))
        await until_shown(pilot, "train.jsonl")
        await pilot.press("s")
        await until_shown(pilot, "Save file-1 as")
        await pilot.press("ctrl+u", *str(tmp_path / "saved"), "enter")
        await until_shown(pilot, "7 B in")
        assert (tmp_path / "saved").read_bytes() == b"content"
        await pilot.press("x")
        await until_shown(pilot, "there for good?")
        await pilot.press("n", "x", "y")
        await until_shown(pilot, "train.jsonl is deleted")
        assert endpoint.files == {}


def test_a_transfer_tells_part_speed_and_time_left() -> None:
    now = [0.0]
    transfer = Transfer("uploading x", clock=lambda: now[0])
    now[0] = 2.0
    assert transfer.text(4_000_000, 10_000_000) == "uploading x 40% of 10.0 MB · 2.0 MB/s · 3 s left"
    pace = Pace(clock=lambda: now[0])
    now[0] = 2.5
    assert pace.left(10, 100) == "", "too early to tell"
    now[0] = 4.0
    assert (pace.left(20, 100), pace.left(100, 100)) == ("8 s left", "")
    assert [size_text(size) for size in (7, 1_500, 266_000, 3_000_000_000)] == [
        "7 B",
        "1.5 kB",
        "266 kB",
        "3.0 GB",
    ]


def test_the_calendar_is_by_date_and_marks_what_touches_ones_own_models(bench: Workbench) -> None:
    tuned = "ft:gpt-4o-mini-2024-07-18:a::1"
    job = FineTuningJob("j", "succeeded", "gpt-4o-mini-2024-07-18", 1, fine_tuned_model=tuned)
    bench.store.save_jobs("openai", [job])
    endings = calendar(bench)
    assert [one.day for one in endings] == sorted(one.day for one in endings)
    mine = [one for one in endings if one.mine]
    assert any(f"yours: {tuned}" in one.what for one in mine)
    assert any("nobody can create a job" in one.what for one in mine)
    assert not any("Azure" in one.what for one in mine)
    assert [left_text(day, date(2027, 1, 6)) for day in ("2027-01-06", "2027-01-07", "2027-01-04")] == [
        "today", "in 1 day", "2 days ago",
    ]  # fmt: skip


async def test_hosted_jobs_are_listed_at_once_and_a_silent_provider_is_named(
    bench: Workbench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trained(bench, endpoint)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1")
    monkeypatch.setenv("NEBIUS_API_KEY", "sk-test-2")
    hosted, silent = Endpoint(), Endpoint()
    hosted.jobs["ftjob-h"] = FineTuningJob("ftjob-h", "succeeded", "gpt-4.1", 5, 9)
    for _ in range(5):
        silent.lose("jobs", ProviderError("the address nebius.test cannot be found", retryable=True))
    bench.use(cast(Any, ScriptedProvider(hosted, bench.profile("openai"))))
    bench.use(cast(Any, ScriptedProvider(silent, bench.profile("nebius"))))
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await on_jobs(pilot)
        await until(pilot, lambda: len(screen.rows.jobs) == 2)
        await until_shown(pilot, "! nebius: the address nebius.test cannot be found")
        assert {known.profile for known in screen.rows.jobs} == {"local", "openai"}


async def test_a_model_is_made_again_elsewhere_by_one_key(bench: Workbench, endpoint: Endpoint) -> None:
    await trained(bench, endpoint)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await on_jobs(pilot)
        await until(pilot, lambda: bool(screen.origin.path))
        await pilot.press("R")
        await until_shown(pilot, "Make ft:tiny:local:x again at")
        await pilot.press("enter")
        await until_shown(pilot, "n_epochs 2")
        await until_shown(pilot, "Launch it?")
        assert len(endpoint.jobs) == 1
        await pilot.press("y")
        await until(pilot, lambda: len(endpoint.jobs) == 2)
        made = list(endpoint.jobs.values())[-1]
        first = next(iter(endpoint.jobs.values()))
        assert (made.model, made.training_file) == (first.model, first.training_file)


async def test_a_launch_that_was_cut_off_is_told_and_goes_on_to_its_one_job(
    bench: Workbench, endpoint: Endpoint
) -> None:
    files = bench.split(bench.open("talks"), validation=0.25)
    service = JobService(bench.store, await bench.connect(bench.profile("local")), pause=no_pause)
    cut_off = service.prepare(LaunchRequest("tiny", files.train))
    bench.store.save_launch(replace(cut_off, at=time.time() - 600))
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        await pilot.press("f2")
        await until_shown(pilot, "1 launch cut off: U")
        await pilot.press("U")
        await until_shown(pilot, "tiny at local")
        await pilot.press("enter")
        await until_shown(pilot, "nothing is sent twice")
        await pilot.press("enter")
        await until(pilot, lambda: len(endpoint.jobs) == 1)
        await until(pilot, lambda: "cut off" not in frame(app))
        kept = bench.store.launch(cut_off.id)
        assert kept is not None
        assert kept.job in endpoint.jobs


async def test_an_upload_is_stopped_by_one_key_and_nothing_is_launched(
    bench: Workbench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bench.split(bench.open("talks"), validation=0.25)
    begun = asyncio.Event()

    async def upload(*_arguments: Any, on_progress: Any, **_options: Any) -> ProviderFile:
        on_progress(1, 1000)
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError("not stopped")

    monkeypatch.setattr(ScriptedProvider, "upload", upload)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        request = LaunchRequest("tiny", files.train, launch="launch-1")
        app.work(launch(app, bench, bench.profile("local"), request), name="launching", group="launch")
        await until(pilot, begun.is_set)
        await pilot.press("ctrl+x")
        await until_shown(pilot, "stopped: nothing was launched")
        kept = bench.store.launch("launch-1")
        assert kept is not None
        assert kept.state == "abandoned"
        assert endpoint.jobs == {}
