"""The trainer as the worker runs it: a process with a job folder, lines out, and a state to go on from."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny_model
from tunedesk.engine.batches import Example
from tunedesk.engine.channel import Channel
from tunedesk.engine.fleet import Fleet
from tunedesk.engine.models import load_net
from tunedesk.engine.objectives import Supervised
from tunedesk.engine.recipe import Job, learning_rate, order, schedule
from tunedesk.engine.trainer import attempt
from tunedesk.errors import EngineError

WORDS = [
    "card",
    "account",
    "fee",
    "address",
    "loan",
    "transfer",
    "bank",
    "close",
    "help",
    "lost",
    "confirm",
    "dispute",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder / "tiny", context=128)
    return folder


def conversation(draw: random.Random) -> dict[str, Any]:
    word = draw.choice(WORDS)
    return {
        "messages": [
            {"role": "system", "content": "You are a bank."},
            {"role": "user", "content": f"{word} {draw.choice(WORDS)}?"},
            {"role": "assistant", "content": f"Thank you. About {word}."},
        ]
    }


def write_job(
    folder: Path, models: Path, *, rows: int = 24, epochs: int = 3, validation: int = 6, **changes: Any
) -> Path:
    folder.mkdir()
    draw = random.Random(11)
    lines = [json.dumps(conversation(draw)) for _ in range(rows + validation)]
    (folder / "train.jsonl").write_text("\n".join(lines[:rows]) + "\n")
    (folder / "valid.jsonl").write_text("\n".join(lines[rows:]) + "\n")
    job = {
        "job": "ftjob-1", "model": "tiny", "models": [str(models)], "parent_adapter": None,
        "training_file": str(folder / "train.jsonl"),
        "validation_file": str(folder / "valid.jsonl") if validation else None,
        "method": "supervised", "seed": 7, "fine_tuned_model": "ft:tiny:local::12345678",
        "hyperparameters": {"n_epochs": epochs, "batch_size": 4, "learning_rate_multiplier": 5.0},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps({**job, **changes}))
    return folder


@contextmanager
def trainer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the trainer on `folder`, its input held open as the worker holds it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tunedesk.engine.trainer", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


def run(folder: Path) -> list[dict[str, Any]]:
    with trainer(folder) as process:
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        process.wait(60)
    return lines


class Heard(Channel):
    """A channel that keeps what is told, for a job within this process: a trainer takes seconds to start."""

    def __init__(self) -> None:
        self.stopping, self.speaks = False, True
        self.lines: list[dict[str, Any]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Keep one line."""
        self.lines.append({"type": kind, **fields})


def told(folder: Path) -> list[dict[str, Any]]:
    """Train a job within this process, and return what it tells."""
    heard = Heard()
    attempt(folder, heard, Fleet())
    return heard.lines


def kinds(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


@pytest.fixture(scope="module")
def unbroken(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A whole job, done without a break."""
    folder = write_job(tmp_path_factory.mktemp("jobs") / "unbroken", models)
    return folder, run(folder)


def test_a_job_runs_from_start_to_done_and_both_losses_fall(
    unbroken: tuple[Path, list[dict[str, Any]]],
) -> None:
    _, lines = unbroken
    (started,) = kinds(lines, "started")
    assert started["total_steps"] == 18
    assert started["examples"] == 24
    assert 0 < started["trained_tokens_per_epoch"] < started["tokens_per_epoch"]
    metrics = kinds(lines, "metrics")
    assert [line["step"] for line in metrics] == list(range(1, 19))
    full = [line["full_valid_loss"] for line in metrics if "full_valid_loss" in line]
    assert len(full) == 3
    assert full[0] > full[-1]
    assert metrics[0]["train_loss"] > metrics[-1]["train_loss"] + 0.5
    assert metrics[0]["train_mean_token_accuracy"] < metrics[-1]["train_mean_token_accuracy"]
    assert any("Before training: validation loss" in line["message"] for line in kinds(lines, "message"))
    assert lines[-1] == {"type": "done", "trained_tokens": 3 * started["tokens_per_epoch"], "path": "adapter"}


def test_each_epoch_leaves_an_adapter_and_the_last_is_the_result(
    unbroken: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, lines = unbroken
    saved = kinds(lines, "checkpoint")
    assert [(line["epoch"], line["path"]) for line in saved] == [
        (n, f"checkpoints/step-{6 * n}") for n in (1, 2, 3)
    ]
    assert saved[-1]["metrics"]["full_valid_loss"] > 0
    first, last, result = (
        load_file(folder / path / "adapter_model.safetensors")
        for path in (saved[0]["path"], saved[-1]["path"], "adapter")
    )
    assert all(torch.equal(result[name], last[name]) for name in result)
    assert not all(torch.equal(result[name], first[name]) for name in result)
    assert json.loads((folder / "adapter" / "adapter_config.json").read_bytes())["r"] == 16
    assert len(result) == 2 * 7 * 2


def test_each_rows_loss_is_kept_and_means_to_the_batchs(unbroken: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, lines = unbroken
    records = [json.loads(line) for line in (folder / "row_losses.jsonl").read_text().splitlines()]
    assert sorted(record["row"] for record in records if record["epoch"] == 2) == list(range(1, 25))
    mine = [record for record in records if record["step"] == 5]
    mean = sum(record["loss"] * record["tokens"] for record in mine) / sum(
        record["tokens"] for record in mine
    )
    assert mean == pytest.approx(kinds(lines, "metrics")[4]["train_loss"], rel=1e-4)


@pytest.mark.parametrize("step", [4, 6])
def test_a_job_stopped_and_started_again_ends_with_the_same_weights(
    unbroken: tuple[Path, list[dict[str, Any]]], models: Path, tmp_path: Path, step: int
) -> None:
    folder = write_job(tmp_path / "job", models)
    with trainer(folder) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["type"] == "metrics" and lines[-1]["step"] == step:
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert lines[-1]["type"] == "stopped"
    stopped = lines[-1]["step"]
    assert step <= stopped < 18
    again = run(folder)
    assert kinds(again, "metrics")[0]["step"] in (stopped, stopped + 1)
    whole = {line["step"]: line["train_loss"] for line in kinds(unbroken[1], "metrics")}
    assert {line["step"]: line["train_loss"] for line in kinds(lines + again, "metrics")} == whole
    left, right = (load_file(job / "adapter/adapter_model.safetensors") for job in (folder, unbroken[0]))
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert (folder / "row_losses.jsonl").read_text() == (unbroken[0] / "row_losses.jsonl").read_text()


def test_a_killed_job_goes_on_from_its_last_epoch(
    unbroken: tuple[Path, list[dict[str, Any]]], models: Path, tmp_path: Path
) -> None:
    folder = write_job(tmp_path / "job", models)
    with trainer(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("step") == 9:
                process.kill()
                break
    again = run(folder)
    assert kinds(again, "metrics")[0]["step"] == 7
    left, right = (load_file(job / "adapter/adapter_model.safetensors") for job in (folder, unbroken[0]))
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert (folder / "row_losses.jsonl").read_text() == (unbroken[0] / "row_losses.jsonl").read_text()


def test_the_trainer_ends_when_its_server_is_gone(models: Path, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", models, epochs=500)
    with trainer(folder) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            if json.loads(line)["type"] == "metrics":
                break
        process.stdin.close()
        process.wait(20)
        process.stdin = None
    assert not (folder / "adapter").exists()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"training_file": "bad.jsonl"}, "invalid_training_file", "row 2: it is not valid JSON"),
        ({"validation_file": "bad.jsonl"}, "invalid_validation_file", "row 2"),
        ({"model": "other"}, "training_failed", "no base model 'other'"),
        ({"method": "reinforcement"}, "training_failed", "'reinforcement' cannot be trained"),
        ({"method": "dpo"}, "invalid_training_file", "row 1: it has no input"),
        ({"seed": "x"}, "training_failed", "job.json cannot be used"),
    ],
)
def test_what_cannot_be_trained_fails_with_its_reason(
    models: Path, tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(conversation(random.Random(0))) + "\nnot json\n")
    changes = {key: str(bad) if value == "bad.jsonl" else value for key, value in changes.items()}
    lines = told(write_job(tmp_path / "job", models, **changes))
    assert lines[-1]["type"] == "failed"
    assert lines[-1]["code"] == code
    assert words in lines[-1]["message"]
    assert lines[-1]["param"] == (code.removeprefix("invalid_") if code.startswith("invalid") else None)


def test_a_row_whose_answers_all_lie_beyond_the_context_is_left_out_and_named(
    models: Path, tmp_path: Path
) -> None:
    folder = write_job(tmp_path / "job", models, rows=6, epochs=1, validation=0)
    row = conversation(random.Random(1))
    row["messages"][1]["content"] = "card and loan " * 200
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    lines = run(folder)
    warnings = [line["message"] for line in kinds(lines, "message") if line["level"] == "warn"]
    assert warnings == [
        "training_file: 1 rows are left out, as none of their answers fits into 128 tokens (rows 7)"
    ]
    assert kinds(lines, "started")[0]["examples"] == 6
    assert lines[-1]["type"] == "done"
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    shutil.rmtree(folder / "adapter")
    (folder / "state.safetensors").unlink(missing_ok=True)
    assert "no row has anything to train" in told(folder)[-1]["message"]


def test_training_continues_from_a_parent_adapter(
    unbroken: tuple[Path, list[dict[str, Any]]], models: Path, tmp_path: Path
) -> None:
    folder, before = unbroken
    lines = run(
        write_job(tmp_path / "job", models, epochs=1, validation=0, parent_adapter=str(folder / "adapter"))
    )
    metrics = kinds(lines, "metrics")
    assert metrics[0]["train_loss"] < kinds(before, "metrics")[0]["train_loss"] - 0.5
    assert all(line["valid_loss"] is None for line in metrics)


def test_a_dpo_job_learns_what_is_preferred_and_stops_and_resumes_exactly(
    models: Path, tmp_path: Path
) -> None:
    draw = random.Random(2)

    def pair() -> str:
        row = conversation(draw)["messages"]
        other = {"role": "assistant", "content": f"No. {draw.choice(WORDS)} is closed."}
        return json.dumps(
            {"input": {"messages": row[:-1]}, "preferred_output": row[-1:], "non_preferred_output": [other]}
        )

    for name in ("whole", "broken"):
        folder = write_job(tmp_path / name, models, method="dpo")
    lines = [pair() for _ in range(30)]
    for name in ("whole", "broken"):
        folder = tmp_path / name
        (folder / "train.jsonl").write_text("\n".join(lines[:24]) + "\n")
        (folder / "valid.jsonl").write_text("\n".join(lines[24:]) + "\n")
        job = json.loads((folder / "job.json").read_text())
        job["hyperparameters"]["beta"] = 0.5
        (folder / "job.json").write_text(json.dumps(job))
    whole = run(tmp_path / "whole")
    metrics = kinds(whole, "metrics")
    assert metrics[0]["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[0]["train_reward_margin"] == pytest.approx(0, abs=1e-5)
    assert metrics[-1]["full_valid_loss"] < 0.5
    assert metrics[-1]["full_valid_reward_accuracy"] == 1.0
    assert metrics[-1]["full_valid_reward_margin"] > 0.5
    assert whole[-1]["type"] == "done"

    with trainer(tmp_path / "broken") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("step") == 8:
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    run(tmp_path / "broken")
    left, right = (
        load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("whole", "broken")
    )
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_a_two_layer_model_learns_its_rows_by_heart(models: Path) -> None:
    net, _ = load_net(models / "tiny", torch.float32, "cpu", 3, None)
    rows = [Example(n, tuple(range(40 + 9 * n, 52 + 9 * n)), (False, *(True,) * 11)) for n in range(4)]
    parameters = [tensor for pair in net.adapter.pairs.values() for tensor in pair]
    optimizer = torch.optim.AdamW(parameters, lr=3e-2)
    losses = []
    for _ in range(80):
        (part,) = Supervised().parts(net, rows)
        part.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(part.loss.detach()))
    assert losses[0] > 5
    assert losses[-1] < 1.0


def test_the_rate_warms_up_falls_to_nothing_and_shrinks_with_size() -> None:
    shares = [schedule(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.2)
    assert max(shares) == shares[4] < 1
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert shares[-1] == pytest.approx(0.01)
    assert learning_rate(100_000, 1) == 1e-3
    assert learning_rate(7_000_000_000, 2) == pytest.approx(4.1e-4, rel=0.05)


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert order(1, 0, 50) == order(1, 0, 50)
    assert sorted(order(1, 1, 50)) == list(range(50))
    assert len({tuple(order(seed, epoch, 50)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_training_ends_after_as_many_epochs_without_a_lower_validation_loss_as_asked(
    models: Path, tmp_path: Path
) -> None:
    folder = write_job(
        tmp_path / "job", models, rows=8, epochs=12, metadata={"tunedesk_patience": "2"},
        hyperparameters={"n_epochs": 12, "batch_size": 4, "learning_rate_multiplier": 60.0},
    )  # fmt: skip
    lines = run(folder)
    full = {
        line["step"]: line["full_valid_loss"] for line in kinds(lines, "metrics") if "full_valid_loss" in line
    }
    best = min(full, key=lambda step: full[step])
    assert max(full) == best + 2 * 2 < 24
    told = [line["message"] for line in kinds(lines, "message")]
    assert any(f"after step {best}: checkpoint ckpt-step-{best}" in message for message in told)
    assert lines[-1]["trained_tokens"] == max(full) // 2 * kinds(lines, "started")[0]["tokens_per_epoch"]
    result, kept = (
        load_file(folder / path / "adapter_model.safetensors")
        for path in ("adapter", f"checkpoints/step-{best}")
    )
    assert all(torch.equal(result[name], kept[name]) for name in kept)


@pytest.mark.parametrize(("patience", "validation"), [("soon", 6), ("1", 0)])
def test_early_stopping_that_cannot_be_done_is_refused(
    models: Path, tmp_path: Path, patience: str, validation: int
) -> None:
    folder = write_job(
        tmp_path / "job", models, validation=validation, metadata={"tunedesk_patience": patience}
    )
    with pytest.raises(EngineError, match="tunedesk_patience"):
        Job.read(folder)
