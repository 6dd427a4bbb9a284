"""The engine's life as the workbench sees it: one is started, found, restarted after its death, and stopped."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunedesk.config import LOCAL, Profile
from tunedesk.errors import EngineError
from tunedesk.paths import Paths
from tunedesk.providers import connect, local
from tunedesk.providers.local import clean_environment, engine_status, start_engine, stop_engine

ENGINE = """
import fcntl, http.server, json, os, signal, sys, time
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
folder = os.getcwd()
open("environment.json", "w").write(json.dumps(dict(os.environ)))
open("arguments.json", "w").write(json.dumps(sys.argv[1:]))
open("starts", "a").write("x")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        models = {"object": "list", "data": [{"id": "SmolLM2", "object": "model"}]}
        body = json.dumps({"status": "ok", "version": "0.1"} if self.path == "/healthz" else models).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
def stop(*_):
    os.unlink("endpoint.json")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open("key", "w").write("local-key\\n")
base = f"http://127.0.0.1:{server.server_port}/v1"
open("part", "w").write(json.dumps({"base_url": base, "pid": os.getpid(), "version": "0.1", "started_at": time.time()}))
os.rename("part", "endpoint.json")
server.serve_forever()
"""


@pytest.fixture
def command(tmp_path: Path, paths: Paths) -> Iterator[list[str]]:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    yield [sys.executable, str(script)]
    stop_engine(paths)


def test_an_engine_is_started_once_found_again_and_stopped(paths: Paths, command: list[str]) -> None:
    assert engine_status(paths) is None
    base_url, key = start_engine(paths, command=command)
    assert key == "local-key"
    assert start_engine(paths, command=command) == (base_url, key)
    assert (paths.engine / "starts").read_text() == "x"
    status = engine_status(paths)
    assert status is not None
    assert status.base_url == base_url
    assert os.getsid(status.pid) == status.pid, "it must not die with our terminal"
    assert stop_engine(paths)
    assert engine_status(paths) is None
    assert not stop_engine(paths)


def test_many_at_once_start_one_engine(paths: Paths, command: list[str]) -> None:
    found: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(start_engine(paths, command=command))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert (paths.engine / "starts").read_text() == "x"


def test_after_a_kill_a_new_one_is_started(paths: Paths, command: list[str]) -> None:
    start_engine(paths, command=command)
    status = engine_status(paths)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while engine_status(paths) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (paths.engine / "endpoint.json").exists()
    start_engine(paths, command=command)
    fresh = engine_status(paths)
    assert fresh is not None
    assert fresh.pid != status.pid


def test_the_engine_gets_no_key_and_its_log_is_private(
    paths: Paths, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "NEBIUS_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "canary")
    start_engine(paths, command=command, models_dir=paths.data / "models")
    given = json.loads((paths.engine / "environment.json").read_text())
    assert "canary" not in given.values()
    assert given["TUNEDESK_HOME"] == os.environ["TUNEDESK_HOME"]
    assert given["PATH"] == os.environ["PATH"]
    assert json.loads((paths.engine / "arguments.json").read_text()) == [
        "--models",
        str(paths.data / "models"),
    ]
    assert stat.S_IMODE((paths.engine / "engine.log").stat().st_mode) == 0o600
    assert "OPENAI_API_KEY" not in clean_environment()


def test_an_engine_that_dies_at_once_is_told_with_its_last_words(paths: Paths) -> None:
    with pytest.raises(EngineError, match=r"exit 3.*no disk"):
        start_engine(paths, command=[sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"])
    with pytest.raises(EngineError, match="cannot be started"):
        start_engine(paths, command=["/no/such/program"])
    with pytest.raises(EngineError, match="did not answer"):
        start_engine(paths, command=[sys.executable, "-c", "import time; time.sleep(2)"], patience=0.3)


def test_a_stranger_is_never_signalled(paths: Paths, command: list[str]) -> None:
    start_engine(paths, command=command)
    status = engine_status(paths)
    assert status is not None
    (paths.engine / "lock").rename(paths.engine / "held")
    (paths.engine / "lock").touch()
    assert engine_status(paths) is None, "it answers, but nobody holds this folder"
    assert not stop_engine(paths)
    os.kill(status.pid, 0)
    (paths.engine / "held").rename(paths.engine / "lock")
    assert engine_status(paths) == status


BROKEN = ["", "{", "[]", '{"base_url": 1, "pid": 5}', '{"base_url": "http://127.0.0.1:1/v1", "pid": 1}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_endpoint_file_means_no_engine(paths: Paths, text: str) -> None:
    paths.engine.mkdir(parents=True)
    (paths.engine / "endpoint.json").write_text(text)
    assert engine_status(paths) is None


async def test_the_local_provider_starts_the_engine_at_its_first_request_and_again_after_its_death(
    paths: Paths, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SERVE", command)
    provider = connect(Profile(LOCAL, ""), None, paths)
    assert engine_status(paths) is None
    assert [m.id for m in await provider.models()] == ["SmolLM2"]
    status = engine_status(paths)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    assert [m.id for m in await provider.models()] == ["SmolLM2"]
    await provider.close()


def test_leaving_does_not_wait_for_an_engine_that_is_still_starting(paths: Paths) -> None:
    given_up = threading.Event()
    threading.Timer(0.2, given_up.set).start()
    with pytest.raises(EngineError, match="still starting"):
        start_engine(
            paths,
            command=[sys.executable, "-c", "import time; time.sleep(2)"],
            patience=30,
            given_up=given_up,
        )
