"""The real thing at toy size: the engine, a detached process, really trains a two-layer model, killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunedesk.paths import Paths
from tunedesk.workbench import sample_file

pytest.importorskip("torch", reason="needs the engine extra")

TOPICS = ["card", "loan", "fee", "transfer", "mortgage", "cheque", "address"]
TOPICS += ["limit", "fraud", "pin", "app", "branch", "note", "coin"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_model import build

    folder = tmp_path_factory.mktemp("models") / "tiny"
    build(folder)
    return folder


@pytest.fixture
def engine_home(home: Path, paths: Paths, tiny: Path) -> Iterator[Path]:
    """State folders with the tiny model in the engine's own; whatever engine was started is stopped at the end."""
    shutil.copytree(tiny, paths.engine / "models" / "tiny")
    yield home
    command("serve", "--stop")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = []
    for number in range(28):
        topic = TOPICS[number % len(TOPICS)]
        messages = [
            {"role": "user", "content": f"My {topic} number {number * 37}?"},
            {"role": "assistant", "content": f"Form {number * 911} for the {topic}."},
        ]
        rows.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(rows) + "\n")
    return path


def command(*arguments: str, timeout: int = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunedesk", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def engine_pid(home: Path) -> int:
    return int(json.loads((home / "data/engine/endpoint.json").read_text())["pid"])


def steps_of(text: str) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in map(json.loads, text.splitlines())}


@pytest.mark.timeout(300)
def test_killed_twice_the_journey_trains_once_and_tells_every_step_once(
    engine_home: Path, source: Path
) -> None:
    run = ["run", str(source), "--model", "tiny", "--yes", "--epochs", "40", "--questions", "2", "--json"]
    first = subprocess.Popen(
        [sys.executable, "-m", "tunedesk", *run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    for line in first.stdout:
        if json.loads(line)["step"] == "launch":
            break
    wait_for_a_step(engine_home)
    first.kill()
    first.communicate()
    os.kill(engine_pid(engine_home), signal.SIGKILL)

    done = command(*run)
    assert done.returncode == 0, done.stderr
    steps = steps_of(done.stdout)
    assert list(steps) == ["import", "check", "fix", "split", "launch", "train", "compare"]
    assert steps["launch"]["resumed"]
    assert steps["train"]["train_loss"][1] < steps["train"]["train_loss"][0]
    assert Path(steps["compare"]["report"]).exists()

    jobs = json.loads(command("jobs", "--json").stdout)
    assert [job["status"] for job in jobs] == ["succeeded"]
    updates = [json.loads(line) for line in command("tail", jobs[0]["id"], "--json").stdout.splitlines()]
    trained = [one["step"] for one in updates if one["type"] == "point" and one["train_loss"] is not None]
    assert trained == list(range(1, steps["train"]["steps"] + 1))

    again = command(*run)
    assert all(step["resumed"] for step in steps_of(again.stdout).values())
    assert len(json.loads(command("jobs", "--json").stdout)) == 1


def wait_for_a_step(home: Path) -> None:
    """Wait until the trainer has made a few steps, so that the kill falls into training."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if list((home / "data/engine/jobs").glob("*/row_losses.jsonl")):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise AssertionError("the trainer never made a step")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_sample_journey_teaches_the_house_style(home: Path) -> None:
    """The README's command as printed, with the default model: minutes, and the model's download."""
    done = command("run", str(sample_file("banking.jsonl")), "--yes", "--json", timeout=1700)
    assert done.returncode == 0, done.stderr
    steps = steps_of(done.stdout)
    losses = steps["train"]
    assert losses["train_loss"][1] < losses["train_loss"][0] / 1.5
    assert losses["valid_loss"][1] < losses["valid_loss"][0] / 1.2
    compared = steps["compare"]
    for answer in compared["answers"]:
        assert "Ferncastle" in answer[compared["model"]]
        assert "Next step:" in answer[compared["model"]]
        assert "Next step:" not in answer[compared["base"]]
    command("serve", "--stop")
