"""Several processes train one job as one process would: by torchrun on this host, by Ray on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny_model
from tests.engine.test_trainer import kinds, write_job
from tunedesk.engine.adapters import load_adapter

TRAINER = ("-m", "tunedesk.engine.trainer")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder / "tiny", context=128)
    return folder


def start(folder: Path, command: tuple[str, ...] = TRAINER, **environment: str) -> subprocess.Popen[str]:
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, *command, str(folder)], text=True, process_group=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip


def train(folder: Path, command: tuple[str, ...] = TRAINER, **environment: str) -> list[dict[str, Any]]:
    """Run a job to its end and return what was told."""
    with start(folder, command, **environment) as process:
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0, (folder / "errors").read_text()[-3000:]
    return lines


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    # 23 rows in batches of 4: the last batch of an epoch has fewer rows, which are shared unevenly
    folder = write_job(tmp_path_factory.mktemp("jobs") / "alone", models, rows=23, epochs=2)
    return folder, train(folder)


def same(found: tuple[Path, list[dict[str, Any]]], alone: tuple[Path, list[dict[str, Any]]]) -> None:
    """Hold a job to what one process made of it: each step once, its losses, its rows, the weights."""
    for one, other in zip(kinds(found[1], "metrics"), kinds(alone[1], "metrics"), strict=True):
        assert one["step"] == other["step"]
        for name in ("train_loss", "full_valid_loss"):
            assert one.get(name) == pytest.approx(other.get(name), rel=2e-3), (name, one["step"])
        assert one["train_mean_token_accuracy"] == pytest.approx(other["train_mean_token_accuracy"], abs=0.05)
    assert found[1][-1] == alone[1][-1]
    losses = [
        sorted(
            (row["step"], row["row"], round(row["loss"], 1))
            for row in map(json.loads, path.read_text().splitlines())
        )
        for path in (found[0] / "row_losses.jsonl", alone[0] / "row_losses.jsonl")
    ]
    assert [row[:2] for row in losses[0]] == [row[:2] for row in losses[1]]
    ours, theirs = (load_adapter(folder / "adapter").pairs for folder in (found[0], alone[0]))
    for name, (a, b) in ours.items():
        assert torch.allclose(b @ a, theirs[name][1] @ theirs[name][0], atol=5e-3), name


def test_two_processes_of_this_host_train_as_one(
    models: Path, tmp_path: Path, alone: tuple[Path, list[dict[str, Any]]]
) -> None:
    folder = write_job(tmp_path / "two", models, rows=23, epochs=2)
    lines = train(folder, TUNEDESK_TRAINERS="2")
    assert len(kinds(lines, "started")) == 1
    same((folder, lines), alone)


def test_a_fleet_that_is_stopped_goes_on_where_it_was(
    models: Path, tmp_path: Path, alone: tuple[Path, list[dict[str, Any]]]
) -> None:
    folder = write_job(tmp_path / "stopped", models, rows=23, epochs=2)
    first = []
    with start(folder, TUNEDESK_TRAINERS="2") as process:
        assert process.stdout is not None
        for line in process.stdout:
            first.append(json.loads(line))
            if first[-1].get("step") == 5 and first[-1]["type"] == "metrics":
                process.send_signal(signal.SIGTERM)
    assert first[-1]["type"] == "stopped"
    second = train(folder, TUNEDESK_TRAINERS="2")
    steps = [line["step"] for line in kinds([*first, *second], "metrics")]
    assert steps == list(range(1, 13))
    same((folder, [*kinds(first, "metrics"), *second]), alone)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of two nodes on this machine."""
    utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed: pip install '.[cluster]'")
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = utils.Cluster()
    for _ in range(2):
        nodes.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
    yield nodes.address
    nodes.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_two_nodes_trains_as_one(
    models: Path, tmp_path: Path, alone: tuple[Path, list[dict[str, Any]]], cluster: str
) -> None:
    folder = write_job(tmp_path / "ray", models, rows=23, epochs=2)
    lines = train(folder, ("-m", "tunedesk.engine.on_ray", "--workers", "2", "--address", cluster))
    same((folder, lines), alone)
