"""The Jobs screen, driven by keys over a real store and a scripted endpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from textual.screen import Screen

from tests.tui.rig import (
    STYLES,
    Bench,
    Endpoint,
    finished_job,
    frame,
    metrics_event,
    running_job,
    until,
    until_shown,
)
from tunedesk.core.fine_tuning import JobEvent
from tunedesk.errors import ProviderError
from tunedesk.tui.desk import Desk
from tunedesk.tui.messages import ChatWanted
from tunedesk.tui.panes.job_events import JobEvents
from tunedesk.tui.panes.job_list import JobList, columns_for
from tunedesk.tui.panes.job_view import duration, seconds_left, tokens
from tunedesk.tui.panes.loss_curve import LossCurve
from tunedesk.tui.screens import jobs_following
from tunedesk.tui.screens.jobs import JobsScreen


class ChatStub(Screen[None]):
    wanted: ChatWanted | None = None

    def on_chat_wanted(self, event: ChatWanted) -> None:
        self.wanted = event


class JobsDesk(Desk):
    MODES: ClassVar[dict[str, Any]] = {"jobs": JobsScreen, "chat": ChatStub}
    DEFAULT_MODE = "jobs"
    CSS_PATH = STYLES

    @property
    def jobs_screen(self) -> JobsScreen:
        return cast(JobsScreen, self.screen)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Iterator[Bench]:
    bench = Bench(tmp_path, endpoint)
    yield bench
    bench.store.close()


def desk(bench: Bench) -> JobsDesk:
    return JobsDesk(lambda: cast(Any, bench))


def launched(bench: Bench, endpoint: Endpoint, **fields: Any) -> None:
    """Put a running job at the endpoint and in the store, as a headless launch does."""
    job = running_job(**fields)
    endpoint.known[job.id] = job
    endpoint.told[job.id] = [JobEvent("ev-00000", job.created_at, "Fine-tuning job started")]
    bench.store.save_jobs("local", [job])


async def test_an_empty_list_says_what_to_do(bench: Bench) -> None:
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "no jobs yet")
        await until_shown(pilot, "no job chosen")
        await until_shown(pilot, "opened the sample")
        await pilot.press("c")
        await until_shown(pilot, "no job is chosen: enter on a job chooses it")


async def test_a_running_job_is_followed_live_to_its_end(bench: Bench, endpoint: Endpoint) -> None:
    launched(bench, endpoint)
    app = desk(bench)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "▶ running")
        await until_shown(pilot, "Fine-tuning job started")
        now = int(time.time())
        for step in range(1, 31):
            endpoint.told["ftjob-1"].append(metrics_event(step, at=now - 60 + step))
        await until_shown(pilot, "Step 30/100: training loss=0.75")
        await until_shown(pilot, "T train 0.75")
        await until_shown(pilot, "V validation 0.8")
        done = replace(
            endpoint.known["ftjob-1"], status="succeeded", finished_at=now, fine_tuned_model="ft:base-1:x"
        )
        endpoint.told["ftjob-1"].append(JobEvent("ev-99999", now, "The job has successfully completed"))
        endpoint.known["ftjob-1"] = done
        await until_shown(pilot, "● ✓ succeeded")
        await until_shown(pilot, "ft:base-1:x is trained · C chats with it")
        assert len(app.jobs_screen.view.events) == 32


async def test_a_job_launched_headless_shows_up_and_is_followed(bench: Bench, endpoint: Endpoint) -> None:
    bench.store.save_jobs("local", [finished_job()])
    app = desk(bench)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● ✓ succeeded")
        launched(bench, endpoint, job_id="ftjob-2")
        await until_shown(pilot, "▶ running")
        await until(
            pilot, lambda: app.jobs_screen.view.job is not None and app.jobs_screen.view.job.id == "ftjob-2"
        )


async def test_cancel_asks_first(bench: Bench, endpoint: Endpoint) -> None:
    launched(bench, endpoint)
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "job started")
        await pilot.press("c")
        await until_shown(pilot, "Cancel base-1 (ftjob-1)?")
        await pilot.press("n")
        assert endpoint.acts == []
        await pilot.press("c")
        await until_shown(pilot, "Cancel base-1 (ftjob-1)?")
        await pilot.press("y")
        await until_shown(pilot, "⊘ cancelled")
        assert endpoint.acts == [("cancel", "ftjob-1")]


async def test_one_key_pauses_and_resumes(bench: Bench, endpoint: Endpoint) -> None:
    launched(bench, endpoint)
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "job started")
        await pilot.press("p")
        await until_shown(pilot, "● ‖ paused")
        await pilot.press("p")
        await until_shown(pilot, "● ▶ running")
        assert [act for act, _ in endpoint.acts] == ["pause", "resume"]


async def test_a_finished_job_refuses_pause_and_says_why(bench: Bench, endpoint: Endpoint) -> None:
    job = finished_job()
    endpoint.known[job.id] = job
    bench.store.save_jobs("local", [job])
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● ✓ succeeded")
        await pilot.press("p")
        await until_shown(pilot, "the job has succeeded; only a job under way")
        assert endpoint.acts == []


async def test_a_key_that_comes_before_its_job_is_opened_is_told_so(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished_job()
    endpoint.known[job.id] = job
    bench.store.save_jobs("local", [job])
    go_on, held = threading.Event(), jobs_following.held

    def slow(*arguments: Any) -> Any:
        go_on.wait(20)
        return held(*arguments)

    monkeypatch.setattr(jobs_following, "held", slow)
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "✓ succeeded")
        await pilot.press("p")
        await until_shown(pilot, "the job is being opened")
        go_on.set()
        await until_shown(pilot, "● ✓ succeeded")


async def test_capital_c_goes_to_chat_with_base_and_tuned(bench: Bench, endpoint: Endpoint) -> None:
    job = finished_job()
    endpoint.known[job.id] = job
    bench.store.save_jobs("local", [job])
    app = desk(bench)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● ✓ succeeded")
        await until(pilot, lambda: app.jobs_screen.view.job is not None)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ChatStub) and app.screen.wanted is not None)
        wanted = cast(ChatStub, app.screen).wanted
        assert wanted is not None
        assert wanted.models == ("base-1", job.fine_tuned_model)


async def test_chat_is_disabled_with_a_reason_until_there_is_a_model(
    bench: Bench, endpoint: Endpoint
) -> None:
    launched(bench, endpoint)
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "job started")
        await pilot.press("C")
        await until_shown(pilot, "no tuned model yet")


async def test_curve_keys_switch_measure_scale_and_smoothing(bench: Bench, endpoint: Endpoint) -> None:
    launched(bench, endpoint)
    endpoint.told["ftjob-1"] += [
        metrics_event(step, at=int(time.time()) - 59 + step // 2) for step in range(1, 51)
    ]
    app = desk(bench)
    async with app.run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "T train 0.5")
        curve = app.screen.query_one(LossCurve)
        await until_shown(pilot, "t train acc→ 0.55")
        await pilot.press("a")
        await until(pilot, lambda: "train acc" not in frame(app))
        await pilot.press("a")
        await until_shown(pilot, "t train acc 0.55")
        await pilot.press("a", "g")
        await until_shown(pilot, "loss (log)")
        await pilot.press("s")
        await until_shown(pilot, "loss (smoothed 0.6)")
        smoothed = curve.series[0].points[-1][1]
        assert smoothed > 0.5
        await pilot.press("s", "s")
        assert curve.smoothing == 0.0


async def test_the_event_tail_pauses_when_scrolled_up_and_f_resumes(bench: Bench, endpoint: Endpoint) -> None:
    launched(bench, endpoint)
    endpoint.told["ftjob-1"] += [
        metrics_event(step, at=int(time.time()) - 59 + step // 2) for step in range(1, 61)
    ]
    app = desk(bench)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Step 60/100")
        app.screen.query_one(JobEvents).focus()
        await pilot.press("up", "up")
        await until_shown(pilot, "paused")
        endpoint.told["ftjob-1"].append(metrics_event(61, at=int(time.time())))
        await until_shown(pilot, "1 new")
        assert "Step 61/100" not in frame(app)
        await pilot.press("f")
        await until_shown(pilot, "Step 61/100")


async def test_an_unreachable_provider_is_said_in_words_and_the_stored_view_stays(
    bench: Bench, endpoint: Endpoint
) -> None:
    launched(bench, endpoint)
    bench.store.add_events("local", "ftjob-1", endpoint.told["ftjob-1"])
    endpoint.failure = ProviderError("the engine does not answer", "tunedesk serve", retryable=True)
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "job started")
        await until_shown(pilot, "the engine does not answer; asking again in")
        endpoint.failure = None
        endpoint.told["ftjob-1"].append(metrics_event(1, at=int(time.time())))
        await until_shown(pilot, "the provider answers again")


async def test_refresh_lists_jobs_that_only_the_provider_knows(bench: Bench, endpoint: Endpoint) -> None:
    job = finished_job("ftjob-7")
    endpoint.known[job.id] = job
    async with desk(bench).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "no jobs yet")
        await until_shown(pilot, "opened the sample")
        await pilot.press("r")
        await until_shown(pilot, "● ✓ succeeded")
        await until_shown(pilot, "local: 1 job")


async def test_names_from_the_provider_are_neither_markup_nor_control(
    bench: Bench, endpoint: Endpoint
) -> None:
    launched(bench, endpoint, model="[@click=app.quit]x[/] \x1b[2J [/nope]")
    endpoint.told["ftjob-1"].append(JobEvent("ev-1", 1, "[bold]loss[/] [/nope] \x1b]0;x\x07"))
    app = desk(bench)
    async with app.run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "[@click=app.quit]x[/]")
        await until_shown(pilot, "[bold]loss[/] [/nope] ␛]0;x␇")
        await pilot.press("c")
        await until_shown(pilot, "Cancel [@click=app.quit]x[/]")
        assert "\x1b" not in frame(app)


async def test_cost_tokens_and_unknown_statuses_are_shown(bench: Bench, endpoint: Endpoint) -> None:
    paid = finished_job("ftjob-8", model="gpt-4.1", fine_tuned_model=None, trained_tokens=2_000_000)
    odd = running_job("ftjob-9", status="resting")
    bench.store.save_jobs("openai", [paid])
    bench.store.save_jobs("local", [odd])
    endpoint.known |= {paid.id: paid, odd.id: odd}
    async with desk(bench).run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "$50.00")
        await until_shown(pilot, "2.00M")
        await until_shown(pilot, "? resting")


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (60, 16)])
async def test_every_size_shows_list_curve_and_events(
    bench: Bench, endpoint: Endpoint, size: tuple[int, int]
) -> None:
    launched(bench, endpoint)
    endpoint.told["ftjob-1"] += [
        metrics_event(step, at=int(time.time()) - 59 + step // 2) for step in range(1, 61)
    ]
    app = desk(bench)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "Step 60/100")
        await until_shown(pilot, "T")
        await until_shown(pilot, "running")
        assert app.screen.query_one(JobList).size.height >= 2
        assert app.screen.query_one(LossCurve).size.height >= 4


def test_narrow_lists_drop_columns_and_keep_status_model_and_time() -> None:
    assert [column.key for column in columns_for(76)] == [
        "mark",
        "status",
        "model",
        "elapsed",
        "left",
        "cost",
    ]
    assert columns_for(190)[-1].key == "job"


def test_durations_and_tokens_read_well() -> None:
    spans = [duration(s) for s in (45, 185, 7_800, 273_600)]
    assert spans == ["45 s", "3 m 05 s", "2 h 10 m", "3 d 4 h"]
    assert [tokens(n) for n in (9_999, 123_456, 2_500_000)] == ["9,999", "123k", "2.50M"]


def test_time_left_is_the_providers_word_or_the_recent_speed() -> None:
    job = running_job()
    points = [replace(metrics_point(step), at=1_000 + 2 * step) for step in range(1, 21)]
    assert seconds_left(job, points, 1_040) == 160
    assert seconds_left(replace(job, estimated_finish=2_000), points, 1_900) == 100
    assert seconds_left(replace(job, status="queued"), points, 1_900) is None


def metrics_point(step: int) -> Any:
    from tunedesk.core.fine_tuning import MetricPoint

    return MetricPoint(step, 100, train_loss=1.0)
