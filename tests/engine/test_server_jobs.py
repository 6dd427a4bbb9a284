from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.engine.rig import Rig, engine, eventually, rows, trainer
from tunedesk.engine.training_files import row_problem


async def launch(rig: Rig, data: bytes = rows(), **arguments: Any) -> FineTuningJob:
    client = rig.client()
    file = await client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    return await client.fine_tuning.jobs.create(**{"model": "tiny", "training_file": file.id, **arguments})


async def events_of(rig: Rig, job_id: str) -> list[Any]:
    """All events, oldest first, read page by page."""
    listed = [event async for event in rig.client().fine_tuning.jobs.list_events(job_id, limit=3)]
    return sorted(listed, key=lambda event: (event.created_at, event.id))


async def test_a_job_goes_from_upload_to_a_tuned_model_with_all_its_records(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        held = await client.files.create(file=("held.jsonl", rows(2)), purpose="fine-tune")
        job = await launch(
            rig,
            validation_file=held.id,
            suffix="my bank!",
            seed=7,
            metadata={"tunedesk_launch": "L1"},
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}},
            },
        )
        assert (job.status, job.fine_tuned_model, job.seed) == ("validating_files", None, 7)
        await rig.until(job.id, "succeeded")
        job = await client.fine_tuning.jobs.retrieve(job.id)

        assert job.fine_tuned_model is not None
        assert job.fine_tuned_model.startswith("ft:tiny:local:my-bank:")
        assert len(job.fine_tuned_model.rsplit(":", 1)[1]) == 8
        assert job.trained_tokens == 1000
        assert job.finished_at is not None
        assert job.finished_at >= job.created_at
        assert (job.estimated_finish, job.error) == (None, None)
        assert job.metadata == {"tunedesk_launch": "L1"}
        assert job.hyperparameters.n_epochs == 2
        assert job.hyperparameters.batch_size == 1
        assert job.hyperparameters.learning_rate_multiplier == 1.0

        events = await events_of(rig, job.id)
        assert [event.message for event in events] == [
            f"Created fine-tuning job: {job.id}",
            f"Validating training file: {job.training_file} and validation file: {held.id}",
            "Files validated, moving job to queued state",
            "Fine-tuning job started",
            "Step 1/4: training loss=2.00",
            "Step 2/4: training loss=1.00, full validation loss=1.50",
            f"Checkpoint created at step 2: {job.fine_tuned_model}:ckpt-step-2",
            "Step 3/4: training loss=0.67",
            "Step 4/4: training loss=0.50, full validation loss=0.75",
            f"Checkpoint created at step 4: {job.fine_tuned_model}:ckpt-step-4",
            f"New fine-tuned model created: {job.fine_tuned_model}",
            "The job has successfully completed",
        ]
        metrics = [event for event in events if event.type == "metrics"]
        assert metrics[0].data == {
            "step": 1,
            "total_steps": 4,
            "train_loss": 2.0,
            "train_mean_token_accuracy": 0.5,
        }

        checkpoints = (await client.fine_tuning.jobs.checkpoints.list(job.id)).data
        assert [point.step_number for point in checkpoints] == [4, 2]
        assert checkpoints[0].metrics.full_valid_loss == 0.75

        table = (await client.files.content(job.result_files[0])).text
        assert table.splitlines()[0] == (
            "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,"
            "full_valid_loss,full_valid_mean_token_accuracy"
        )
        read = list(csv.DictReader(io.StringIO(table)))
        assert [line["step"] for line in read] == ["1", "2", "3", "4"]
        assert read[3]["full_valid_loss"] == "0.75"
        assert (await client.files.retrieve(job.result_files[0])).purpose == "fine-tune-results"


async def test_the_trainer_gets_its_orders_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with engine(tmp_path) as rig:
        job = await launch(rig, seed=3)
        await rig.until(job.id, "succeeded")
        folder = rig.state.job_folder(job.id)
        assert (folder / "starts").read_text() == "1 scrubbed\n"
        orders = json.loads((folder / "job.json").read_text())
        assert orders["model"] == "tiny"
        assert str(tmp_path / "more") in orders["models"]
        assert (orders["parent_adapter"], orders["seed"], orders["method"]) == (None, 3, "supervised")
        assert orders["hyperparameters"] == {"n_epochs": 8, "batch_size": 1, "learning_rate_multiplier": 1.0}
        assert Path(orders["training_file"]).read_bytes() == rows()


async def test_jobs_run_one_after_the_other_in_the_order_they_came(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--delay", "0.02")) as rig:
        jobs = [await launch(rig) for _ in range(3)]
        await rig.until(jobs[-1].id, "succeeded")
        done = [rig.state.jobs.get(job.id) for job in jobs]
        assert [job.status for job in done] == ["succeeded"] * 3
        rows_ = rig.state._database.rows(
            "SELECT job_id, message FROM events WHERE message LIKE 'Fine-tuning job started'"
            " OR message LIKE '%successfully%' ORDER BY number"
        )
        assert [row["job_id"] for row in rows_] == [job.id for job in jobs for _ in range(2)]


async def test_a_running_job_tells_when_it_will_end(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--steps", "400", "--delay", "0.05")) as rig:
        job = await launch(rig)
        await rig.until(job.id, "running")
        shown = job
        for _ in range(400):
            shown = await rig.client().fine_tuning.jobs.retrieve(job.id)
            if shown.estimated_finish:
                break
            await asyncio.sleep(0.01)
        assert shown.estimated_finish is not None
        assert 0 <= shown.estimated_finish - shown.created_at < 60
        async with rig.http() as http:
            health = (await http.get("/healthz")).json()
        assert health["state"] == "training"
        assert health["running_job"]["id"] == job.id
        assert health["running_job"]["tokens_per_second"] == 123.0
        await rig.client().fine_tuning.jobs.cancel(job.id)


async def test_a_cancelled_job_ends_at_once_and_says_nothing_more(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--steps", "1000", "--delay", "0.01", "--mode", "deaf")) as rig:
        running, waiting = await launch(rig), await launch(rig)
        await rig.until(running.id, "running")
        client = rig.client()
        for job in (running, waiting):
            cancelled = await client.fine_tuning.jobs.cancel(job.id)
            assert cancelled.status == "cancelled"
            assert cancelled.finished_at is not None
        events = await events_of(rig, running.id)
        assert events[-1].message == "The job was cancelled"
        after = await launch(rig)
        await rig.until(after.id, "running", seconds=5)  # the queue goes on
        assert await events_of(rig, running.id) == events
        with pytest.raises(openai.BadRequestError, match="over"):
            await client.fine_tuning.jobs.cancel(running.id)
        await client.fine_tuning.jobs.cancel(after.id)


async def test_a_paused_job_lets_the_next_one_run_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--steps", "30", "--delay", "0.02", "--save-every", "1000")) as rig:
        # "paused" is in OpenAI's example answer but not in its enum: a strict client refuses it
        client = rig.client(strict=False)
        first, second = await launch(rig), await launch(rig)
        await eventually(lambda: len(rig.state.jobs.curve(first.id)) >= 3)
        assert str((await client.fine_tuning.jobs.pause(first.id)).status) == "paused"
        await rig.until(second.id, "running")
        assert rig.state.jobs.get(first.id).status == "paused"
        assert (await client.fine_tuning.jobs.resume(first.id)).status == "queued"
        with pytest.raises(openai.BadRequestError, match="not paused"):
            await client.fine_tuning.jobs.resume(first.id)
        await rig.until(first.id, "succeeded")
        starts = (rig.state.job_folder(first.id) / "starts").read_text().splitlines()
        assert len(starts) == 2
        assert int(starts[1].split()[0]) > 1
        steps = [point["step"] for point in rig.state.jobs.curve(first.id)]
        assert steps == list(range(1, 31))


async def test_a_queued_job_can_be_paused(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--steps", "300", "--delay", "0.02")) as rig:
        first, second = await launch(rig), await launch(rig)
        await rig.until(first.id, "running")
        await rig.until(second.id, "queued")
        client = rig.client(strict=False)
        assert str((await client.fine_tuning.jobs.pause(second.id)).status) == "paused"
        await client.fine_tuning.jobs.cancel(first.id)
        await asyncio.sleep(0.1)
        assert rig.state.jobs.get(second.id).status == "paused"
        assert (await client.fine_tuning.jobs.cancel(second.id)).status == "cancelled"


async def test_a_trainer_that_does_not_stop_is_killed_and_the_job_stays_paused(tmp_path: Path) -> None:
    with engine(
        tmp_path, trainer("--steps", "5000", "--delay", "0.01", "--mode", "deaf"), stop_grace=0.2
    ) as rig:
        job = await launch(rig)
        await rig.until(job.id, "running")
        await rig.client(strict=False).fine_tuning.jobs.pause(job.id)
        await asyncio.sleep(0.6)
        assert rig.context.worker.progress is None
        assert rig.state.jobs.get(job.id).status == "paused"


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (rows(9), "invalid_n_examples", "has 9 example(s), but must have at least 10"),
        (rows(11) + b'{"messages": [}\n', "invalid_training_file", "row 12: it is not valid JSON"),
        (
            rows(3) + b"\n" + b'{"messages": []}\n' + rows(9),
            "invalid_training_file",
            "row 5: it has no list of",
        ),
        (
            rows(10) + b'{"messages": [{"role": "user", "content": "x"}]}\n',
            "invalid_training_file",
            "row 11: it has no",
        ),
        (rows(10) + b"[" * 100_000, "invalid_training_file", "row 11: it is not valid JSON"),
        (
            rows(10) + b'{"messages": [{"role": "user", "content": "\xff"}]}\n',
            "invalid_training_file",
            "row 11",
        ),
    ],
)
async def test_a_bad_training_file_fails_the_job_naming_the_row(
    tmp_path: Path, data: bytes, code: str, words: str
) -> None:
    with engine(tmp_path) as rig:
        job = await launch(rig, data)
        await rig.until(job.id, "failed")
        failed = await rig.client().fine_tuning.jobs.retrieve(job.id)
        assert failed.error is not None
        assert (failed.error.code, failed.error.param) == (code, "training_file")
        assert words in failed.error.message
        assert failed.finished_at is not None
        events = await events_of(rig, job.id)
        assert events[-1].level == "error"
        assert words in events[-1].message


async def test_a_bad_validation_file_is_named_as_such(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        held = await client.files.create(file=("held.jsonl", b"{}\n"), purpose="fine-tune")
        job = await launch(rig, validation_file=held.id)
        await rig.until(job.id, "failed")
        error = (await client.fine_tuning.jobs.retrieve(job.id)).error
        assert error is not None
        assert (error.code, error.param) == ("invalid_validation_file", "validation_file")


async def test_a_job_names_its_missing_or_wrong_file_at_once(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        with pytest.raises(openai.BadRequestError) as refused:
            await client.fine_tuning.jobs.create(model="tiny", training_file="file-none")
        assert (refused.value.code, refused.value.param) == ("file_not_found", "training_file")
        other = await client.files.create(file=("a.jsonl", rows()), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
            await client.fine_tuning.jobs.create(model="tiny", training_file=other.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await launch(rig, model="gpt-9")
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


async def test_a_file_deleted_before_validation_fails_the_job(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        job = await launch(rig)
        await rig.client().files.delete(job.training_file)
        rig.context.worker.start()
        await rig.until(job.id, "failed")
        error = rig.state.jobs.get(job.id).error
        assert error is not None
        assert (error["code"], error["param"]) == ("file_not_found", "training_file")


async def test_a_file_deleted_after_validation_does_not_end_the_job(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--steps", "300", "--delay", "0.01")) as rig:
        first, second = await launch(rig), await launch(rig)
        await rig.until(second.id, "queued")
        await rig.client().files.delete(second.training_file)
        await rig.client().fine_tuning.jobs.cancel(first.id)
        await rig.until(second.id, "running")
        await asyncio.sleep(0.1)
        assert rig.state.jobs.get(second.id).status == "running"
        await rig.client().fine_tuning.jobs.cancel(second.id)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"suffix": "x" * 65}, "suffix"),
        ({"suffix": ""}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 10**400}},
            "hyperparameters.learning_rate_multiplier",
        ),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 0}}}},
            "method.supervised.hyperparameters.batch_size",
        ),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": "magic"}}, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations[0].wandb.project"),
        ({"epochs": 3}, "epochs"),
        ({"training_file": None}, "training_file"),
        ({"model": 5}, "model"),
    ],
)
async def test_a_wrong_parameter_of_a_job_is_refused_by_name(
    tmp_path: Path, arguments: dict[str, Any], param: str
) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            body = {"model": "tiny", "training_file": "file-x", **arguments}
            answer = await http.post("/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert error["type"] == "invalid_request_error"
        assert set(error) == {"message", "type", "param", "code"}


def preference(**changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": "Where is my card?"}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": "On its way."}],
        "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
        **changes,
    }


async def test_a_dpo_job_gets_its_beta_and_says_what_was_rewarded(tmp_path: Path) -> None:
    report = {"type": "metrics", "step": 1, "total_steps": 1, "train_loss": 0.5, "train_reward_margin": 0.25}
    with engine(tmp_path, trainer("--say", json.dumps(report))) as rig:
        data = b"".join(json.dumps(preference()).encode() + b"\n" for _ in range(12))
        method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.4}}}
        job = await launch(rig, data, method=method)
        await rig.until(job.id, "failed")  # the scripted trainer says no more
        job = await rig.client().fine_tuning.jobs.retrieve(job.id)
        assert job.method is not None
        assert job.method.type == "dpo"
        assert job.method.dpo is not None
        assert job.method.dpo.hyperparameters is not None
        assert job.method.dpo.hyperparameters.beta == 0.4
        assert job.method.dpo.hyperparameters.batch_size == 1
        assert job.hyperparameters.n_epochs == 2
        orders = json.loads((rig.state.job_folder(job.id) / "job.json").read_text())
        assert orders["method"] == "dpo"
        assert orders["hyperparameters"]["beta"] == 0.4
        (metrics,) = [event for event in await events_of(rig, job.id) if event.type == "metrics"]
        assert metrics.data["train_reward_margin"] == 0.25

        bare = await launch(rig, data, method={"type": "dpo"})
        await rig.until(bare.id, "running", "failed")
        assert rig.state.jobs.get(bare.id).hyperparameters["beta"] == 0.1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (json.loads(rows(1)), "it has no input with messages"),
        (preference(input={"messages": []}), "in its input, it has no list of messages"),
        (preference(preferred_output=[]), "its preferred_output is not a list of one message"),
        (preference(non_preferred_output=[{"role": "user", "content": "x"}]), "is not the assistant's"),
        (
            preference(preferred_output=[{"role": "assistant"}]),
            "the message of its preferred_output has no content",
        ),
        (preference(preferred_output=preference()["non_preferred_output"]), "its two outputs are the same"),
    ],
)
def test_a_row_that_is_no_preference_is_refused(row: Any, problem: str) -> None:
    assert row_problem(json.dumps(preference()).encode(), "dpo") is None
    assert problem in str(row_problem(json.dumps(row).encode(), "dpo"))


async def test_the_same_idempotency_key_returns_the_first_job_even_when_its_file_is_gone(
    tmp_path: Path,
) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        file = await client.files.create(file=("train.jsonl", rows()), purpose="fine-tune")
        wanted: dict[str, Any] = {"model": "tiny", "training_file": file.id}
        headers = {"Idempotency-Key": "launch-1"}
        made = await asyncio.gather(
            *(client.fine_tuning.jobs.create(**wanted, extra_headers=headers) for _ in range(5))
        )
        await client.files.delete(file.id)
        made.append(await client.fine_tuning.jobs.create(**wanted, extra_headers=headers))
        assert len({job.id for job in made}) == 1
        assert len((await client.fine_tuning.jobs.list()).data) == 1
        with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
            await client.fine_tuning.jobs.create(**wanted, suffix="other", extra_headers=headers)


async def test_jobs_are_listed_newest_first_by_pages_and_by_metadata(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        made = [await launch(rig, metadata={"launch": f"L{n}", 'a"b]': "é&="}) for n in range(5)]
        bare = await launch(rig)
        listed = [job.id async for job in client.fine_tuning.jobs.list(limit=2)]
        assert listed == [bare.id, *(job.id for job in reversed(made))]
        page = await client.fine_tuning.jobs.list(limit=2, after=made[3].id)
        assert ([job.id for job in page.data], page.has_more) == ([made[2].id, made[1].id], True)
        found = await client.fine_tuning.jobs.list(metadata={"launch": "L3", 'a"b]': "é&="})
        assert [job.id for job in found.data] == [made[3].id]
        assert (await client.fine_tuning.jobs.list(metadata={"launch": "L9"})).data == []
        async with rig.http() as http:
            answer = await http.get("/v1/fine_tuning/jobs", params={"metadata": "null"})
            assert [job["id"] for job in answer.json()["data"]] == [bare.id]
            answer = await http.get("/v1/fine_tuning/jobs", params={"metadata[a][b]": "c"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")
            params = {"limit": "0", "after": "whatever"}
            answer = await http.get("/v1/fine_tuning/jobs", params=params)
            assert (answer.json()["data"], answer.json()["has_more"]) == ([], True)
            for limit in ("-1", "x", "10001", "9" * 40):
                answer = await http.get("/v1/fine_tuning/jobs", params={"limit": limit})
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


async def test_an_unknown_job_is_404_everywhere(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        jobs = rig.client().fine_tuning.jobs
        for call in (
            jobs.retrieve,
            jobs.cancel,
            jobs.pause,
            jobs.resume,
            jobs.list_events,
            jobs.checkpoints.list,
        ):
            with pytest.raises(openai.NotFoundError) as missing:
                await call("ftjob-none")
            assert missing.value.code == "fine_tune_not_found"


async def test_an_integration_is_kept_and_said_not_to_run(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        job = await launch(rig, integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": ["t"]}}])
        assert job.integrations is not None
        assert job.integrations[0].wandb.project == "p"
        assert any(event.level == "warn" for event in await events_of(rig, job.id))


async def test_a_job_can_go_on_from_a_tuned_model(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        first = await launch(rig)
        await rig.until(first.id, "succeeded")
        name = rig.state.jobs.get(first.id).model_name
        second = await launch(rig, model=name)
        await rig.until(second.id, "succeeded")
        orders = json.loads((rig.state.job_folder(second.id) / "job.json").read_text())
        assert orders["model"] == "tiny"
        assert orders["parent_adapter"] == str(rig.state.job_folder(first.id) / "adapter")
        assert rig.state.jobs.get(second.id).model_name.startswith("ft:tiny:local::")
