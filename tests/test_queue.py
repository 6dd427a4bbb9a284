"""Queues and sweeps: in order, on after failures, within the budget, and never a job twice; notices at the end."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tunedesk.config import LOCAL, Notify, Profile, notify_settings
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters, JobEvent
from tunedesk.errors import ProviderError, UsageError
from tunedesk.jobs import JobService, LaunchRequest, Notice, QueueItem, QueueRow, StopRules, run_queue
from tunedesk.jobs.notices import run_command, signals
from tunedesk.jobs.queue import NOT_STARTED, best, grid, sweep_launch_id
from tunedesk.paths import Paths
from tunedesk.store import Store

CLOUD = Profile(name="cloud", base_url="https://cloud.test/v1")
HERE = Profile(name=LOCAL, base_url="")
NO_RULES = StopRules()


class Training(Endpoint):
    """An endpoint whose jobs end at their first look; those named in `fails` fail."""

    fails: tuple[str, ...] = ()

    def ending(self, losses: list[float]) -> None:
        left = list(losses)

        def moment() -> None:
            for job in list(self.jobs.values()):
                if job.is_final:
                    continue
                status = "failed" if job.id in self.fails else "succeeded"
                tuned = f"ft:{job.id}" if status == "succeeded" else None
                self.jobs[job.id] = replace(
                    job, status=status, fine_tuned_model=tuned, error="" if tuned else "why"
                )
                data = {"step": 1, "train_loss": 1.0, "valid_loss": left.pop(0) if left else 9.0}
                self.events[job.id] = [JobEvent(f"e-{job.id}", 1, "m", type="metrics", data=data)]

        self.moment = moment


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n' * 30)
    return LaunchRequest("base", path, seed=7)


def items(store: Store, endpoint: Endpoint, request: LaunchRequest, sweep: str, usd: float | None = 1.0,
          profile: Profile = CLOUD) -> list[QueueItem]:  # fmt: skip
    service = JobService(store, ScriptedProvider(endpoint, profile), pause=no_pause)
    asked = [replace(request, hyperparameters=one) for one in grid([sweep], Hyperparameters())]
    return [QueueItem(service, replace(one, launch=sweep_launch_id(one, service)), usd) for one in asked]


async def ended(queue: list[QueueItem], rules: StopRules = NO_RULES) -> list[QueueRow]:
    return [row async for row in run_queue(queue, rules) if row.state != "running"]


async def test_a_sweep_trains_each_place_of_the_grid_in_order_and_names_the_best(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Training()
    endpoint.ending([1.5, 1.2, 1.4])
    rows = await ended(items(store, endpoint, request_, "epochs=1,2,3"))
    assert [row.hyperparameters.n_epochs for row in rows] == [1, 2, 3]
    assert [row.valid_loss for row in rows] == [1.5, 1.2, 1.4]
    assert [row.job for row in rows] == ["ftjob-1", "ftjob-2", "ftjob-3"]
    winner = best(rows)
    assert winner is not None
    assert winner.fine_tuned_model == "ft:ftjob-2"


async def test_a_failed_job_and_a_refused_one_do_not_stop_the_rest(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Training()
    endpoint.fails = ("ftjob-1",)
    endpoint.ending([])
    queue = items(store, endpoint, request_, "epochs=1,2,3")
    seen: list[QueueRow] = []
    async for row in run_queue(queue):
        if row.state == "failed" and row.job:
            endpoint.lose("create_job", ProviderError("no", status=400), carried_out=False)
        if row.state != "running":
            seen.append(row)
    assert [(row.state, row.reason) for row in seen] == [
        ("failed", "why"),
        ("failed", "no"),
        ("succeeded", ""),
    ]


async def test_a_queue_stops_at_its_budget_and_after_so_many_failures(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Training()
    endpoint.ending([])
    rows = await ended(items(store, endpoint, request_, "epochs=1,2,3"), StopRules(budget=2.5))
    assert [row.state for row in rows] == ["succeeded", "succeeded", NOT_STARTED]
    assert "$0.50 of the budget" in rows[-1].reason
    unknown = await ended(items(store, endpoint, request_, "batch-size=1", usd=None), StopRules(budget=9))
    assert "price is unknown" in unknown[0].reason
    endpoint.fails = tuple(f"ftjob-{n}" for n in range(9))
    rows = await ended(items(store, endpoint, request_, "epochs=4,5,6"), StopRules(failures=1))
    assert [row.state for row in rows] == ["failed", NOT_STARTED, NOT_STARTED]


async def test_a_queue_run_again_finds_its_jobs_and_makes_no_second_ones(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Training()
    endpoint.ending([])
    first = await ended(items(store, endpoint, request_, "epochs=1,2"))
    again = await ended(items(store, endpoint, request_, "epochs=1,2,3"), StopRules(budget=2.5))
    assert [row.job for row in again[:2]] == [row.job for row in first]
    assert endpoint.calls.count("create_job") == 2, (
        "the third is above the budget that the first two count against"
    )


async def test_cloud_and_this_machine_share_one_queue(store: Store, request_: LaunchRequest) -> None:
    cloud, here = Training(), Training()
    cloud.ending([])
    here.ending([])
    queue = [*items(store, cloud, request_, "epochs=1"), *items(store, here, request_, "epochs=1", 0.0, HERE)]
    assert [(row.provider, row.state) for row in await ended(queue)] == [
        ("cloud", "succeeded"),
        (LOCAL, "succeeded"),
    ]


def test_a_grid_is_every_combination_and_faults_in_it_are_told() -> None:
    made = grid(["epochs=2,3", "learning-rate-multiplier=1,0.5"], Hyperparameters(batch_size=4))
    assert [(one.n_epochs, one.learning_rate_multiplier, one.batch_size) for one in made] == [
        (2, 1.0, 4), (2, 0.5, 4), (3, 1.0, 4), (3, 0.5, 4),
    ]  # fmt: skip
    for bad in (
        ["depth=1"],
        ["epochs="],
        ["epochs=x"],
        ["epochs=0"],
        ["epochs=1", "epochs=2"],
        ["epochs=1.5"],
    ):
        with pytest.raises(UsageError):
            grid(bad, Hyperparameters())
    with pytest.raises(UsageError, match="is the most"):
        grid(["epochs=" + ",".join(map(str, range(1, 51))), "batch-size=1,2"], Hyperparameters())


def test_without_validation_the_best_is_by_training_loss_and_nothing_is_best_of_nothing() -> None:
    row = QueueRow("cloud", "m", Hyperparameters(), "succeeded", train_loss=2.0)
    assert best([row, replace(row, train_loss=1.0), replace(row, state="failed", train_loss=0.1)]) == replace(
        row, train_loss=1.0
    )
    assert best([replace(row, state="failed")]) is None


def test_signals_hold_nothing_that_data_could_act_by() -> None:
    evil = Notice("Fine-tuning failed", "a\x1b]52;c;aGk=\x07;b\x9c\n" + "x" * 500)
    told = signals(evil, Notify(osc=("9", "777")))
    assert told.startswith("\a\x1b]9;Fine-tuning failed: a")
    assert told.count("\x1b") == 4
    assert "\x9c" not in told
    assert "\n" not in told
    assert told.count("\a") == 1
    assert len(told) < 600
    assert signals(evil, Notify(bell=False, osc=())) == ""


def test_the_users_command_gets_the_words_and_no_key(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]) + str('OPENAI_API_KEY' in os.environ))"
    command = [sys.executable, "-c", code, str(out), "{status}:{job}", "{text}", "{nothing}"]
    (paths.config / "settings.toml").write_text(f"[notify]\nbell = false\ncommand = {json.dumps(command)}\n")
    settings = notify_settings(paths)
    assert not settings.bell
    notice = Notice.of(FineTuningJob("j-1", "failed", error="{status} $(rm)"))
    run_command(notice, settings)
    assert out.read_text() == "failed:j-1 {status} $(rm) {nothing}False"
    with pytest.raises(UsageError, match="cannot be run"):
        run_command(notice, Notify(command=("/no/such/program",)))
    with pytest.raises(UsageError, match="ended with 3"):
        run_command(notice, Notify(command=(sys.executable, "-c", "raise SystemExit(3)")))
    (paths.config / "settings.toml").write_text("[notify]\nwhistle = true\n")
    with pytest.raises(UsageError, match="whistle"):
        notify_settings(paths)
