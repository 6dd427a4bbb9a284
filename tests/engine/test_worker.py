from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.rig import Rig, engine, eventually, rows, trainer
from tunedesk.engine import trainer_process
from tunedesk.engine.job_requests import parse_job_request
from tunedesk.engine.job_run import measured, result_csv
from tunedesk.engine.trainer_process import TrainerProcess, scrubbed
from tunedesk.engine.training_files import choose, row_problem
from tunedesk.engine.wire import PageRequest

AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def launch(rig: Rig) -> str:
    with rig.state.files.receiving() as blob:
        blob.write(rows())
        file = rig.state.files.add(blob, "train.jsonl", "fine-tune", None)
    request = parse_job_request({"model": "tiny", "training_file": file.id})
    job = rig.state.jobs.create(request, "tiny", None)
    rig.context.worker.notice()
    return job.id


def messages(rig: Rig, job_id: str) -> list[str]:
    return [event["message"] for event in reversed(rig.state.jobs.events(job_id, PageRequest(1000, None)))]


async def test_a_trainer_that_crashes_once_is_resumed_and_the_job_succeeds(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--mode", "crash-once", "--steps", "6")) as rig:
        job_id = launch(rig)
        await rig.until(job_id, "succeeded")
        assert [point["step"] for point in rig.state.jobs.curve(job_id)] == [1, 2, 3, 4, 5, 6]
        assert (rig.state.job_folder(job_id) / "starts").read_text().split()[::2] == ["1", "3"]
        assert any("status 9; it starts again" in message for message in messages(rig, job_id))


async def test_a_trainer_that_always_crashes_fails_the_job_with_its_last_words(tmp_path: Path) -> None:
    with engine(tmp_path, trainer("--mode", "crash")) as rig:
        job_id = launch(rig)
        await rig.until(job_id, "failed")
        error = rig.state.jobs.get(job_id).error
        assert error is not None
        assert error["code"] == "trainer_crashed"
        assert "Segmentation of the scripted kind" in error["message"]
        assert len((rig.state.job_folder(job_id) / "starts").read_text().splitlines()) == 3


async def test_a_failure_that_the_trainer_explains_is_the_jobs_error(tmp_path: Path) -> None:
    said = {
        "type": "failed",
        "code": "row_too_long",
        "message": "row 12 is too long",
        "param": "training_file",
    }
    with engine(tmp_path, trainer("--say", json.dumps(said))) as rig:
        job_id = launch(rig)
        await rig.until(job_id, "failed")
        assert rig.state.jobs.get(job_id).error == {
            "code": "row_too_long",
            "message": "row 12 is too long",
            "param": "training_file",
        }


async def test_garbled_reports_are_left_out_and_the_rest_is_kept(tmp_path: Path) -> None:
    said = "\n".join(
        [
            "Loading weights: 100%",
            "[" * 5000,
            '{"type": "metrics", "step": "one"}',
            '{"type": "metrics", "step": 1, "total_steps": 2, "train_loss": NaN, "valid_loss": Infinity}',
            '{"type": "checkpoint", "step": 1, "path": "../../elsewhere", "metrics": {}}',
            '{"type": "news"}',
            "5",
            '{"type": "message", "level": "loud", "message": "hello"}',
            '{"type": "done", "trained_tokens": 5, "path": "/etc"}',
            '{"type": "done", "trained_tokens": 5, "path": "adapter"}',
        ]
    )
    with engine(tmp_path, trainer("--say", said)) as rig:
        job_id = launch(rig)
        await rig.until(job_id, "succeeded")
        assert rig.state.jobs.curve(job_id) == [{"step": 1, "total_steps": 2}]
        assert rig.state.jobs.checkpoints(job_id, PageRequest(5, None)) == []
        assert "hello" in messages(rig, job_id)
        assert [model.adapter for model in rig.state.jobs.models()] == ["adapter"]


async def test_a_trainer_that_cannot_be_started_fails_the_job(tmp_path: Path) -> None:
    with engine(tmp_path, [str(tmp_path / "no-such-program")]) as rig:
        job_id = launch(rig)
        await rig.until(job_id, "failed")
        error = rig.state.jobs.get(job_id).error
        assert error is not None
        assert error["code"] == "trainer_not_started"


async def test_a_job_whose_base_model_went_away_fails_in_words(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        job_id = launch(rig)
        (tmp_path / "more" / "tiny" / "model.safetensors").unlink()
        rig.context.worker.start()
        await rig.until(job_id, "failed")
        error = rig.state.jobs.get(job_id).error
        assert error is not None
        assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_a_stopped_worker_leaves_its_job_to_the_next_one(tmp_path: Path) -> None:
    command = trainer("--steps", "40", "--delay", "0.02", "--save-every", "1000")
    with engine(tmp_path, command) as rig:
        job_id = launch(rig)
        await eventually(lambda: len(rig.state.jobs.curve(job_id)) >= 3)
    with engine(tmp_path, command) as rig:
        await rig.until(job_id, "succeeded")
        assert [point["step"] for point in rig.state.jobs.curve(job_id)] == list(range(1, 41))
        assert any(message.startswith("Training was interrupted") for message in messages(rig, job_id))


def test_an_orphan_that_does_not_end_is_killed_before_its_folder_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_process, "ORPHAN_GRACE", 0.3)
    holder = (
        "import fcntl, os, sys, time\n"
        "lock = open(sys.argv[1], 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "lock.write(f'{os.getpid()}\\n'); lock.flush()\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "trainer.lock")],
        stdout=subprocess.PIPE,
        process_group=0,
    ) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"held\n"
        began = time.monotonic()
        process = TrainerProcess([sys.executable, "-c", 'print(\'{"type": "news"}\')'], tmp_path)
        assert list(process.messages()) == [{"type": "news"}]
        assert process.close() == 0
        assert 0.3 <= time.monotonic() - began < 10
        assert orphan.wait(timeout=5) == -9


def test_a_trainers_environment_holds_nothing_named_like_a_secret() -> None:
    given = {
        "PATH": "/bin",
        "OPENAI_API_KEY": "a",
        "HF_TOKEN": "b",
        "aws_secret_access": "c",
        "DB_PASSWORD": "d",
        "GOOGLE_CREDENTIALS": "e",
    }
    assert scrubbed(given) == {"PATH": "/bin", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}


@pytest.mark.parametrize(
    ("rows_", "epochs", "batch"),
    [
        (10, 10, 1),
        (4, 25, 1),
        (49, 2, 1),
        (50, 2, 1),
        (300, 2, 6),
        (5000, 2, 16),
        (13_000, 1, 16),
        (100_000, 1, 16),
    ],
)
def test_auto_follows_the_documented_rule(rows_: int, epochs: int, batch: int) -> None:
    assert choose(AUTO, rows_) == {"n_epochs": epochs, "batch_size": batch, "learning_rate_multiplier": 1.0}
    asked = {"n_epochs": 7, "batch_size": 9, "learning_rate_multiplier": 0.5}
    assert choose(asked, rows_) == asked


def _row(*messages: Any, **more: Any) -> bytes:
    return json.dumps({"messages": list(messages), **more}).encode()


USER = {"role": "user", "content": "Hi"}
REPLY = {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    "line",
    [
        _row(USER, REPLY),
        _row({"role": "system", "content": "s"}, USER, {**REPLY, "weight": 0}, USER, {**REPLY, "weight": 1}),
        _row(
            {"role": "developer", "content": "s"},
            {**USER, "name": "Ann"},
            REPLY,
            tools=[],
            parallel_tool_calls=False,
        ),
        _row({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, REPLY),
        _row(
            USER,
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "9"},
            REPLY,
        ),
        _row(USER, REPLY, metadata={"intent": "card_lost"}),
        b"\t" + _row(USER, REPLY) + b"\r\n",
    ],
)
def test_a_row_that_can_be_trained_is_let_through(line: bytes) -> None:
    assert row_problem(line) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xef\xbb\xbf" + _row(USER, REPLY), "not valid JSON"),
        (b'{"messages": NaN}', "not valid JSON"),
        (b"{" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"prompt": "a"}', "no list of messages"),
        (_row(), "no list of messages"),
        (_row("Hi"), "message 1 is not an object"),
        (_row(USER, {"role": "bot", "content": "x"}), "message 2 has no known role"),
        (_row({"role": ["user"], "content": "x"}), "message 1 has no known role"),
        (_row(USER), "no message of the assistant"),
        (_row(USER, {**REPLY, "weight": 0}), "weight 0"),
        (_row(USER, {**REPLY, "weight": 0.5}), "neither 0 nor 1"),
        (_row({**USER, "weight": 1}, REPLY), "only messages of the assistant"),
        (_row({"role": "user"}, REPLY), "message 1 has no content"),
        (_row(USER, {"role": "assistant", "content": None}), "message 2 has no content"),
        (_row({"role": "user", "content": [{"type": "image_url"}]}, REPLY), "not text"),
        (_row(USER, REPLY, tools={"a": 1}), "tools are not a list"),
    ],
)
def test_a_row_that_cannot_be_trained_is_told_why(line: bytes, problem: str) -> None:
    found = row_problem(line)
    assert found is not None
    assert problem in found


def test_the_result_file_has_empty_cells_where_nothing_was_measured() -> None:
    values = measured({"train_loss": 1.5, "valid_loss": math.nan, "full_valid_loss": None, "step": 1})
    assert values == {"train_loss": 1.5}
    assert result_csv([{"step": 1, "total_steps": 2, **values}]).splitlines()[1] == "1,1.5,,,,,"
