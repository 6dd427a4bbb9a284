"""Every test: a state folder of its own, no key from outside, no socket but loopback."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HttpEndpoint
from tunedesk.jobs import LaunchRequest, new_launch_id
from tunedesk.paths import Paths, state_paths
from tunedesk.providers import local
from tunedesk.store import Store

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pytest_xdist_auto_num_workers() -> int:
    """Run three tests on two processors under `-n auto`: a third of the time is waiting for processes and timers."""
    return max(2, (os.cpu_count() or 2) * 3 // 2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move all state under a temporary folder and hide the caller's keys and proxies."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TUNEDESK_HOME", str(folder))
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "TUNEDESK_API_KEY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return folder


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no engine by the way: a test that wants one says by which command."""
    refusal = "raise SystemExit('a test starts no engine by the way')"
    monkeypatch.setattr(local, "SERVE", (sys.executable, "-c", refusal))


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    """Let what an app has frozen be collected: its store and loop hold files, of which `select` takes a thousand."""
    yield
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection and every name outside this machine."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOOPBACK:
            raise OSError(f"tests may not connect to {address[0]}")
        connect(self, address)

    def known(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name not in _LOOPBACK:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.fixture
def paths(home: Path) -> Paths:
    """The state folders of this test."""
    assert home.is_absolute()
    return state_paths()


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    """An empty store."""
    with Store(paths.store) as opened:
        yield opened


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    """A launch of two small files."""
    training, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    training.write_text('{"messages": []}\n' * 30)
    validation.write_text('{"messages": [1]}\n' * 8)
    return LaunchRequest("base", training, validation, suffix="bank", seed=7, launch=new_launch_id())


@pytest.fixture
async def http() -> AsyncIterator[HttpEndpoint]:
    """A server on loopback that answers what it is told to."""
    async with HttpEndpoint() as server:
        yield server
