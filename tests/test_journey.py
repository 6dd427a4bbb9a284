"""The journey: every step real, killed anywhere it goes on, and one file is trained on once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Endpoint, Killed, ScriptedProvider, no_pause
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import ChatDelta, JobEvent, MetricPoint, Usage
from tunedesk.errors import DataError, JobError, StoreError
from tunedesk.journey import STEPS, Journey, Moved, Plan, StepDone, Told, held_out, progress_line
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

CLOUD = Profile(name="cloud", base_url="https://cloud.test/v1", default_model="base-1")


def conversations(count: int) -> list[dict[str, object]]:
    words = [
        "card",
        "loan",
        "fee",
        "transfer",
        "mortgage",
        "cheque",
        "address",
        "limit",
        "fraud",
        "pin",
        "app",
    ]
    return [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"Question {n} about my {words[n % len(words)]} number {n * 7919}",
                },
                {
                    "role": "assistant",
                    "content": f"Answer {n}: see {words[(n * 3) % len(words)]} page {n * 104729}.",
                },
            ],
            "metadata": {"intent": words[n % len(words)]},
        }
        for n in range(count)
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in conversations(60)))
    return path


class Cloud(Endpoint):
    """An endpoint whose jobs succeed at the second look, with one metrics event a look."""

    def finish_jobs(self, status: str = "succeeded") -> None:
        for job in list(self.jobs.values()):
            if not job.is_final:
                tuned = f"ft:{job.model}:me::{job.id}" if status == "succeeded" else None
                error = "" if tuned else "the file was refused"
                self.jobs[job.id] = replace(
                    job, status=status, fine_tuned_model=tuned, error=error, trained_tokens=9
                )
                data = {"step": 1, "total_steps": 2, "train_loss": 2.5, "valid_loss": 2.25}
                self.events[job.id] = [
                    JobEvent("e1", 100, "started"),
                    JobEvent("e2", 101, "Step 1/2", type="metrics", data=data),
                    JobEvent(
                        "e3", 105, "Step 2/2", type="metrics", data=data | {"step": 2, "train_loss": 1.5}
                    ),
                ]

    def answers(self, *models: str) -> None:
        for model in models:
            said = [ChatDelta(f"I am {model}"), ChatDelta(finish_reason="stop", usage=Usage(5, 3))]
            self.replies[model] = lambda _messages, said=said: list(said)  # type: ignore[misc]


def bench_on(endpoint: Endpoint, paths: Paths) -> Workbench:
    bench = Workbench(paths)
    bench.use(ScriptedProvider(endpoint, CLOUD))
    return bench


async def travel(journey: Journey, endpoint: Cloud, status: str = "succeeded") -> list[StepDone]:
    """Run a journey to its end; the provider finishes its jobs while the journey looks on."""
    steps = [update async for update in journey.prepare() if isinstance(update, StepDone)]
    async for update in journey.finish():
        if isinstance(update, StepDone):
            steps.append(update)
            if update.step == "launch":
                endpoint.finish_jobs(status)
                endpoint.answers("base-1", *(job.fine_tuned_model or "" for job in endpoint.jobs.values()))
    return steps


async def test_the_journey_tells_every_step_and_ends_with_model_and_report(
    source: Path, paths: Paths
) -> None:
    cloud = Cloud()
    steps = await travel(Journey(bench_on(cloud, paths), Plan(str(source), "base-1", CLOUD)), cloud)
    assert [one.step for one in steps] == list(STEPS)
    last = steps[-1].data
    (job,) = cloud.jobs.values()
    assert last["model"] == job.fine_tuned_model
    assert "I am base-1" in Path(last["report"]).read_text()
    assert len(last["answers"]) == 5
    assert steps[-2].data["train_loss"] == [2.5, 1.5]


async def test_the_files_that_go_up_hold_four_fifths_and_no_metadata(source: Path, paths: Paths) -> None:
    cloud = Cloud()
    steps = await travel(Journey(bench_on(cloud, paths), Plan(str(source), "base-1", CLOUD)), cloud)
    split = next(one.data for one in steps if one.step == "split")
    assert (split["train"], split["validation"], split["leaks"]) == (48, 12, 0)
    sizes = sorted(len(content.splitlines()) for content in cloud.contents.values())
    assert sizes == [12, 48]
    assert not any(b"metadata" in content for content in cloud.contents.values())


async def test_a_finished_journey_run_again_sends_nothing(source: Path, paths: Paths) -> None:
    cloud = Cloud()
    plan = Plan(str(source), "base-1", CLOUD)
    await travel(Journey(bench_on(cloud, paths), plan), cloud)
    before = list(cloud.calls)
    steps = await travel(Journey(bench_on(cloud, paths), plan), cloud)
    assert all(one.resumed for one in steps)
    assert cloud.calls == before


async def test_another_seed_or_file_is_another_journey(source: Path, paths: Paths, tmp_path: Path) -> None:
    bench = bench_on(Cloud(), paths)
    plan = Plan(str(source), "base-1", CLOUD)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(source.read_bytes())
    assert Journey(bench, plan).key == Journey(bench, replace(plan, source=str(copy))).key
    assert Journey(bench, plan).key != Journey(bench, replace(plan, seed=1)).key
    copy.write_bytes(source.read_bytes()[:-2])
    assert Journey(bench, plan).key != Journey(bench, replace(plan, source=str(copy))).key


def dying_at(count: int) -> Callable[[], None]:
    left = [count]

    def moment() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return moment


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
async def test_killed_around_any_request_it_goes_on_and_trains_once(
    source: Path, paths: Paths, stride: int
) -> None:
    died = 0
    for count in range(random.randint(1, stride), 60, stride):
        cloud = Cloud()
        plan = Plan(str(source), "base-1", CLOUD, seed=count)
        cloud.moment = dying_at(count)
        try:
            await travel(Journey(bench_on(cloud, paths), plan), cloud)
            finished = True
        except (Killed, BaseExceptionGroup):
            finished = False
            died += 1
        cloud.moment = lambda: None
        if cloud.jobs:
            cloud.finish_jobs()
            cloud.answers("base-1", *(job.fine_tuned_model or "" for job in cloud.jobs.values()))
        steps = await travel(Journey(bench_on(cloud, paths), plan, pause=no_pause), cloud)
        assert steps[-1].step == "compare"
        assert len(cloud.jobs) == 1, f"killed at moment {count}"
        if finished:
            break
    assert died > 10 // stride


async def test_a_failed_job_says_why_and_a_second_run_launches_anew(source: Path, paths: Paths) -> None:
    cloud = Cloud()
    plan = Plan(str(source), "base-1", CLOUD)
    with pytest.raises(JobError, match="the file was refused"):
        await travel(Journey(bench_on(cloud, paths), plan), cloud, status="failed")
    steps = await travel(Journey(bench_on(cloud, paths), plan), cloud)
    assert steps[-1].step == "compare"
    assert sorted(job.status for job in cloud.jobs.values()) == ["failed", "succeeded"]


async def test_rows_that_would_be_refused_are_mended_or_left_out_with_reasons(
    source: Path, paths: Paths
) -> None:
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[3]["messages"].append({"role": "user", "content": "thanks, bye"})
    rows[5]["messages"] = [{"role": "user", "content": "nobody answered this one, ever"}]
    rows[7] = rows[6]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cloud = Cloud()
    steps = await travel(Journey(bench_on(cloud, paths), Plan(str(source), "base-1", CLOUD)), cloud)
    fixed = next(one.data for one in steps if one.step == "fix")
    assert fixed["conversations"] == 58
    assert [one["line"] for one in fixed["left_out"]] == [6]
    uploaded = b"".join(cloud.contents.values())
    assert b"thanks, bye" not in uploaded
    assert b"nobody answered" not in uploaded
    assert len(uploaded.splitlines()) == 58


async def test_too_few_conversations_are_refused_before_anything_is_sent(
    tmp_path: Path, paths: Paths
) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in conversations(7)))
    cloud = Cloud()
    with pytest.raises(DataError, match="at least 10 conversations: it has 7"):
        await travel(Journey(bench_on(cloud, paths), Plan(str(path), "base-1", CLOUD)), cloud)
    assert cloud.calls == []


async def test_a_changed_training_file_is_made_anew_before_launch(source: Path, paths: Paths) -> None:
    bench = bench_on(Cloud(), paths)
    journey = Journey(bench, Plan(str(source), "base-1", CLOUD))
    assert [one async for one in journey.prepare()]
    train = journey.folder / "train.jsonl"
    whole = train.read_bytes()
    train.write_bytes(whole[:100])
    steps = [one async for one in journey.prepare() if isinstance(one, StepDone)]
    assert train.read_bytes() == whole
    assert not steps[-1].resumed


async def test_two_at_once_on_one_journey_are_refused(source: Path, paths: Paths) -> None:
    bench = bench_on(Cloud(), paths)
    plan = Plan(str(source), "base-1", CLOUD)
    first = Journey(bench, plan).prepare()
    await anext(first)
    with pytest.raises(StoreError, match="another tunedesk"):
        await anext(Journey(bench, plan).prepare())
    await first.aclose()  # type: ignore[attr-defined]


async def test_job_messages_and_progress_are_told(source: Path, paths: Paths) -> None:
    cloud = Cloud()
    journey = Journey(bench_on(cloud, paths), Plan(str(source), "base-1", CLOUD))
    told: list[object] = [update async for update in journey.prepare()]
    async for update in journey.finish():
        told.append(update)
        if isinstance(update, StepDone) and update.step == "launch":
            cloud.finish_jobs()
            cloud.answers("base-1", *(job.fine_tuned_model or "" for job in cloud.jobs.values()))
    assert Told("started") in told
    moved = [update.text for update in told if isinstance(update, Moved)]
    assert moved[0].startswith("step 1/2  loss 2.500")


def test_the_progress_line_tells_step_losses_speed_and_time_left() -> None:
    points = [
        MetricPoint(10, 100, train_loss=3.0, at=1000),
        MetricPoint(20, 100, train_loss=2.0, valid_loss=2.5, at=1010),
    ]
    assert (
        progress_line(points, 400.0) == "step 20/100  loss 2.000  validation 2.500  400 tokens/s  1:20 left"
    )
    assert progress_line(points[:1], 400.0) == "step 10/100  loss 3.000"


def test_held_out_questions_come_from_the_validation_file(tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    path.write_text("".join(json.dumps({"messages": row["messages"]}) + "\n" for row in conversations(4)))
    assert [one.reference for one in held_out(path, 2)] == [
        "Answer 0: see card page 0.",
        "Answer 1: see transfer page 104729.",
    ]
    with pytest.raises(DataError, match="cannot be read"):
        held_out(tmp_path / "none.jsonl", 2)
