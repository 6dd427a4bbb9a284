"""Commands that talk to a provider, against one that keeps state: files, sweeps, recipes, imports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider
from tunedesk.cli import main
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import ProviderFile
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> Endpoint:
    """Let every profile be at one endpoint in this process."""
    endpoint = Endpoint()

    async def connect(_bench: Workbench, profile: Profile) -> ScriptedProvider:
        return ScriptedProvider(endpoint, profile)

    monkeypatch.setattr(Workbench, "connect", connect)
    assert paths.data.exists()
    return endpoint


def output(capsys: Captured, *arguments: str, status: int = 0) -> Any:
    assert main([*arguments, "--json"]) == status
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1])


def test_files_are_listed_downloaded_and_deleted(cloud: Endpoint, capsys: Captured, tmp_path: Path) -> None:
    cloud.files = {
        "file-1": ProviderFile("file-1", "a.jsonl", 3, "fine-tune", "processed", 5),
        "file-2": ProviderFile("file-2", "b.csv", 4, "fine-tune-results", "processed", 9),
    }
    cloud.contents["file-2"] = b"step"
    assert [one["id"] for one in output(capsys, "files", "--provider", "openai")] == ["file-2", "file-1"]
    assert [one["id"] for one in output(capsys, "files", "--purpose", "fine-tune")] == ["file-1"]
    out = tmp_path / "b.csv"
    assert output(capsys, "files", "--download", "file-2", "-o", str(out))["bytes"] == 4
    assert out.read_bytes() == b"step"
    assert main(["files", "--delete", "file-1"]) == 2
    assert output(capsys, "files", "--delete", "file-1", "--yes") == {"id": "file-1", "deleted": True}
    assert list(cloud.files) == ["file-2"]
    assert main(["files", "--download", "file-2"]) == 2
