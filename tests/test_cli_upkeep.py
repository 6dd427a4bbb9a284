"""Tuned models leave and enter an engine by command, and its disk is told and cleaned: against the real engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny_model import build
from tunedesk.cli import main
from tunedesk.engine.adapters import Adapter, load_adapter, save_adapter
from tunedesk.paths import Paths
from tunedesk.providers.local import start_engine, stop_engine

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def engine(paths: Paths) -> Iterator[Paths]:
    build(paths.engine / "models" / "tiny")
    start_engine(paths, command=[sys.executable, "-m", "tunedesk", "serve"])
    yield paths
    stop_engine(paths)


def told(capsys: Captured, *arguments: str) -> object:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_adapter_is_taken_in_listed_saved_and_cleaned_away(
    engine: Paths, tmp_path: Path, capsys: Captured
) -> None:
    pairs = {"model.layers.0.mlp.up_proj": (torch.ones(2, 64), torch.ones(128, 2))}
    save_adapter(tmp_path / "theirs", Adapter(pairs, 2, 4), "tiny")
    brought = told(capsys, "adapters", "--import", str(tmp_path / "theirs"), "--base", "tiny")
    assert isinstance(brought, dict)
    name = brought["model"]
    listed = told(capsys, "adapters")
    assert isinstance(listed, list)
    assert [(one["id"], one["base"], one["job"]) for one in listed] == [(name, "tiny", None)]

    told(capsys, "adapters", "--export", name, "-o", str(tmp_path / "ours"))
    assert load_adapter(tmp_path / "ours").pairs.keys() == pairs.keys()
    assert main(["adapters", "--export", name, "-o", str(tmp_path / "ours")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["adapters", "--export", "ft:none", "-o", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    models = told(capsys, "models")
    assert isinstance(models, list)
    tiny = next(model for model in models if model["id"] == "tiny")
    assert tiny["parameters"] > 1000
    assert tiny["trains_here"]
    assert main(["models"]) == 0
    assert "trains and chats here" in capsys.readouterr().out

    (engine.engine / "jobs" / "ftjob-gone").mkdir()
    (engine.engine / "jobs" / "ftjob-gone" / "state").write_bytes(b"x" * 999)
    cleaned = told(capsys, "disk", "--clean")
    assert isinstance(cleaned, dict)
    assert cleaned["freed"] == 999
    assert told(capsys, "disk")["cleanable"] == 0  # type: ignore[index]
    assert main(["adapters"]) == 0
    assert name in capsys.readouterr().out


def test_what_is_no_adapter_or_half_a_command_is_told(tmp_path: Path, capsys: Captured) -> None:
    assert main(["adapters", "--export", "m"]) == 2
    assert main(["adapters", "--import", str(tmp_path)]) == 2
    assert "--base" in capsys.readouterr().err
