"""A real server on loopback: killed, restarted, stopped, started twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from tests.engine.rig import ScriptedWriter, base_model, rows, trainer
from tunedesk.engine.server import serve
from tunedesk.errors import EngineError

ROOT = Path(__file__).parents[2]


def wait(look: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come in time")


class Server:
    """One server process on a folder, and a strict client of it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder / "engine"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.engine.server_script",
                str(self.folder),
                str(folder / "more"),
                *options,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait(lambda: self.endpoint() or self.process.poll() is not None)

    def endpoint(self) -> dict[str, Any] | None:
        path = self.folder / "endpoint.json"
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return found if found and found["pid"] == self.process.pid else None

    def client(self) -> openai.OpenAI:
        endpoint = self.endpoint()
        assert endpoint is not None
        key = (self.folder / "key").read_text().strip()
        return openai.OpenAI(
            base_url=endpoint["base_url"], api_key=key, max_retries=0, _strict_response_validation=True
        )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """End the process by a signal and return its status and what it said on its error output."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        printed, said = self.process.communicate(timeout=30)
        self.printed = printed.decode()
        return self.process.returncode, said.decode()


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    if not (folder / "more").exists():
        base_model(folder / "more")
    running = Server(folder, *options)
    try:
        yield running
    finally:
        running.kill()


def launch(client: openai.OpenAI) -> str:
    file = client.files.create(file=("train.jsonl", rows()), purpose="fine-tune")
    return client.fine_tuning.jobs.create(model="tiny", training_file=file.id).id


def steps_of(client: openai.OpenAI, job_id: str) -> list[int]:
    """The steps of all metrics events, in the order of (created_at, id)."""
    events = sorted(client.fine_tuning.jobs.list_events(job_id, limit=50), key=lambda e: (e.created_at, e.id))
    return [event.data["step"] for event in events if event.type == "metrics"]  # type: ignore[index]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_killed_server_comes_back_and_its_job_ends_with_each_step_once(tmp_path: Path) -> None:
    options = ("--steps", "24", "--delay", "0.05", "--save-every", "5")
    with server(tmp_path, *options) as first:
        job_id = launch(first.client())
        first.kill(signal.SIGKILL)  # while its files are being validated, or just after
    with server(tmp_path, *options) as first:
        client = first.client()
        wait(lambda: len(steps_of(client, job_id)) >= 7)
        trainer_pid = int((first.folder / "jobs" / job_id / "trainer.lock").read_text())
        assert alive(trainer_pid)
        first.kill(signal.SIGKILL)
        wait(lambda: not alive(trainer_pid), seconds=5)  # its stdin ended
        assert (first.folder / "endpoint.json").exists()
    with server(tmp_path, *options) as second:
        client = second.client()
        wait(lambda: client.fine_tuning.jobs.retrieve(job_id).status == "succeeded")
        assert steps_of(client, job_id) == list(range(1, 25))
        starts = (second.folder / "jobs" / job_id / "starts").read_text().split()[::2]
        assert starts[0] == "1"
        assert int(starts[1]) > 1
        job = client.fine_tuning.jobs.retrieve(job_id)
        lines = client.files.content(job.result_files[0]).text.splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == [str(step) for step in range(1, 25)]
        assert len([file for file in client.files.list() if file.purpose == "fine-tune-results"]) == 1


def test_sigterm_stops_the_trainer_gently_and_the_job_goes_on_at_the_next_start(tmp_path: Path) -> None:
    options = ("--steps", "30", "--delay", "0.05", "--save-every", "1000")
    with server(tmp_path, *options) as first:
        client = first.client()
        job_id = launch(client)
        wait(lambda: len(steps_of(client, job_id)) >= 3)
        status, _ = first.kill(signal.SIGTERM)
        assert status == 0
        assert not (first.folder / "endpoint.json").exists()
        saved = json.loads((first.folder / "jobs" / job_id / "scripted_state.json").read_text())["step"]
        assert saved >= 3
    with server(tmp_path, *options) as second:
        client = second.client()
        wait(lambda: client.fine_tuning.jobs.retrieve(job_id).status == "succeeded")
        assert steps_of(client, job_id) == list(range(1, 31))
        assert (second.folder / "jobs" / job_id / "starts").read_text().split()[2] == str(saved + 1)


def test_a_second_server_on_the_folder_refuses_and_leaves_the_first_alone(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        with server(tmp_path) as second:
            status, said = second.kill()
            assert status == 1
            assert f"another engine is serving the folder {first.folder}" in said
        assert first.endpoint() is not None
        assert first.client().models.retrieve("tiny").id == "tiny"


def test_a_stream_arrives_while_it_is_written(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        client = running.client()
        began = time.monotonic()
        messages: list[Any] = [{"role": "user", "content": "Hello"}]
        stream = client.chat.completions.create(model="tiny", messages=messages, stream=True)
        times = [time.monotonic() - began for _ in stream]
        assert len(times) > 40
        assert times[-1] - times[1] > 0.4  # 40 words, 20 ms each


def test_half_a_request_holds_no_connection_and_starves_nobody(tmp_path: Path) -> None:
    with server(tmp_path, "--impatient") as running:
        endpoint = running.endpoint()
        assert endpoint is not None
        address = ("127.0.0.1", urlsplit(endpoint["base_url"]).port or 0)
        slow = [socket.create_connection(address) for _ in range(50)]
        for one in slow:
            one.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\n")
        assert running.client().models.list().data
        for one in slow:
            one.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(10) == b""
            one.close()


async def test_a_thousand_requests_at_once_are_answered_while_a_job_trains(tmp_path: Path) -> None:
    with server(tmp_path, "--steps", "2000", "--delay", "0.05") as running:
        client = running.client()
        job = launch(client)
        limits = httpx2.Limits(max_connections=None)
        headers = {"Authorization": f"Bearer {client.api_key}"}
        async with httpx2.AsyncClient(limits=limits, timeout=60, headers=headers) as http:
            paths = ["models", f"fine_tuning/jobs/{job}", f"fine_tuning/jobs/{job}/events", "files"]
            asked = (http.get(f"{client.base_url}{paths[number % 4]}") for number in range(1000))
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert client.fine_tuning.jobs.retrieve(job).status == "running"


def test_the_folder_is_private_and_the_key_stays(tmp_path: Path) -> None:
    with server(tmp_path) as running:
        key = (running.folder / "key").read_text()
        for name in ("key", "endpoint.json", "engine.sqlite3", "engine.log"):
            assert stat.S_IMODE((running.folder / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(running.folder.stat().st_mode) == 0o700
        base_url = str(running.client().base_url).rstrip("/")
        running.client().models.list()
        status, said = running.kill(signal.SIGTERM)
        assert (status, said, running.printed) == (0, "", base_url + "\n")
        log = (running.folder / "engine.log").read_text()
        assert key.strip() not in log
        lines = [json.loads(line) for line in log.splitlines()]
        answered = next(line for line in lines if line["message"] == "answered")
        assert (answered["method"], answered["path"], answered["status"]) == ("GET", "/v1/models", 200)
        assert {"at", "level", "logger", "ms"} <= answered.keys()
    with server(tmp_path) as running:
        assert (running.folder / "key").read_text() == key


@pytest.mark.parametrize(
    ("host", "port", "key", "words"),
    [
        ("0.0.0.0", 0, " ", "without a key"),
        ("127.0.0.1", 0, "", "without a key"),
        ("203.0.113.1", 0, "k", "cannot listen"),
    ],
)
def test_an_address_without_a_key_or_not_ours_is_refused(
    tmp_path: Path, host: str, port: int, key: str, words: str
) -> None:
    for _ in range(2):  # a refusal lets go of the folder
        with pytest.raises(EngineError, match=words):
            serve(tmp_path, host, port, trainer_command=trainer(), generator=ScriptedWriter(), key=key)
    assert not (tmp_path / "endpoint.json").exists()
