"""Every answer of a launch lost, cut, garbled or refused in turn, at every preset: one job, told in words."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes import Canned, HttpEndpoint, Request, no_pause
from tunedesk.cli import main
from tunedesk.config import find_profile
from tunedesk.errors import JobError, ProviderError, TunedeskError
from tunedesk.jobs import JobService, LaunchRequest
from tunedesk.paths import Paths
from tunedesk.providers import openai_compatible
from tunedesk.providers.openai_compatible import OpenAICompatible
from tunedesk.store import Store
from tunedesk.store.jobs import ADOPTED

BEFORE = date(2026, 11, 22)


def _error(status: int, **headers: str) -> Canned:
    body = {"error": {"message": "their words", "type": "t", "code": None, "param": None}}
    return Canned(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


HTML = Canned(b"<html><h1>Sign in</h1></html>", content_type="text/html")
FAULTS: dict[str, tuple[bool | None, Canned | Callable[[Canned], Canned]]] = {
    "lost": (True, Canned(cut=0)),
    "reset before": (False, Canned(cut=0)),
    "cut": (True, lambda whole: replace(whole, cut=max(1, len(whole.bytes()) // 2))),
    "garbled": (True, lambda whole: Canned(b'{"id": "fi' + b"\x00" + whole.bytes()[10:])),
    "a page": (False, HTML),
    "a page after": (True, HTML),
    "empty": (True, Canned(b"")),
    "late": (True, lambda whole: replace(whole, delay=0.5)),
    "late, nothing done": (False, Canned({}, delay=0.5)),
    "moved": (False, Canned(b"", 302, {"Location": "/login"}, "text/html")),
    "moved for good": (False, Canned(b"", 308, {"Location": "https://elsewhere.invalid/v1"}, "text/html")),
    **{f"{status}": (False, _error(status)) for status in (400, 401, 403, 404, 409, 413, 422, 500, 503)},
    **{f"{status} after": (True, _error(status)) for status in (408, 409, 500, 503)},
    "502 page": (True, Canned(b"<html>Bad gateway</html>", 502, content_type="text/html")),
    "429 seconds": (False, _error(429, retry_after="7")),
    "429 date": (False, _error(429, retry_after="Thu, 07 Jan 2027 00:01:30 GMT",
                               date="Thu, 07 Jan 2027 00:00:00 GMT")),
}  # fmt: skip
"""Name → whether the endpoint does what it was asked, and what it answers."""


@dataclass
class Living(HttpEndpoint):
    """An endpoint over HTTP that keeps files and jobs, and answers chosen requests wrongly."""

    keeps_metadata: bool = True
    faults: dict[int, str] = field(default_factory=dict)
    """Which requests are answered wrongly, from 1, and how."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def _chosen(self, request: Request) -> Canned:
        self.count += 1
        done, answer = FAULTS[self.faults[self.count]] if self.count in self.faults else (True, None)
        whole = self._true(request) if done else Canned()
        return whole if answer is None else answer(whole) if callable(answer) else answer

    def _true(self, request: Request) -> Canned:
        path = request.path.removeprefix("/v1")
        if path == "/files" and request.method == "GET":
            return _list(self.files)
        if path == "/files":
            name = re.search(rb'filename="([^"]+)"', request.body)
            content = re.search(rb"\r\n\r\n((?:\xef\xbb\xbf)?\{.*\}\n)\r\n", request.body, re.DOTALL)
            assert name
            assert content
            made: dict[str, Any] = {
                "id": f"file-{len(self.files) + 1}", "object": "file", "filename": name[1].decode(),
                "bytes": len(content[1]), "purpose": "fine-tune", "status": "processed", "created_at": 1,
            }  # fmt: skip
            return Canned(self.files.setdefault(made["id"], made))
        if path == "/fine_tuning/jobs" and request.method == "POST":
            asked = json.loads(request.body)
            made = {
                "id": f"ftjob-{len(self.jobs) + 1}", "object": "fine_tuning.job", "status": "running",
                "created_at": 2_000_000_000, "model": asked["model"], "training_file": asked["training_file"],
                "metadata": asked.get("metadata") if self.keeps_metadata else None,
            }  # fmt: skip
            return Canned(self.jobs.setdefault(made["id"], made))
        if path == "/fine_tuning/jobs":
            return _list(self.jobs)
        kept = self.files if path.startswith("/files/") else self.jobs
        found = kept.get(path.rpartition("/")[2])
        return HTML if found is None else Canned(found)


def _list(kept: dict[str, dict[str, Any]]) -> Canned:
    return Canned({"object": "list", "data": list(kept.values())[::-1], "has_more": False})


@dataclass
class Try:
    """A user who gives the same launch until it has its job, and what they were told meanwhile."""

    paths: Paths
    name: str
    request: LaunchRequest
    told: list[TunedeskError] = field(default_factory=list)

    async def launch(self, http: Living, tries: int = 4) -> None:
        profile = find_profile(self.paths, self.name)
        with Store(self.paths.data / f"{len(list(self.paths.data.iterdir()))}.sqlite3") as store:
            for _ in range(tries):
                provider = OpenAICompatible(
                    profile, lambda _: (http.base_url, "sk-x"), account="sk-x", pause=no_pause
                )
                jobs = JobService(store, provider, pause=no_pause, today=lambda: BEFORE)
                try:
                    launch = await jobs.launch(self.request)
                except (ProviderError, JobError) as error:
                    self.told.append(error)
                else:
                    assert launch.state == ADOPTED
                    assert launch.job in http.jobs
                    return
                finally:
                    await provider.close()
        raise AssertionError(f"no job after {tries} tries: {self.told[-1].message}")

    def check(self, http: Living) -> None:
        where = f"{self.name}: {http.faults}: {[f'{r.method} {r.path}' for r in http.requests]}"
        assert len(http.jobs) == 1, where
        assert len(http.files) == 2, where
        for error in self.told:
            assert error.message, where
            assert error.hint, where


PRESETS = ("openai", "azure", "nebius", "local")
CREATE = 5
"""The request for the job, after a look for each file and its upload."""
MADE = [name for name, (done, _) in FAULTS.items() if done]
NOT_MADE = [name for name, (done, _) in FAULTS.items() if not done]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no answer longer than a moment."""
    soon = openai.Timeout(0.25)
    monkeypatch.setattr(openai_compatible, "_CREATE", soon)
    monkeypatch.setattr(openai_compatible, "READ", soon)
    monkeypatch.setattr(openai_compatible, "sending_timeout", lambda _size: soon)


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    training, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    training.write_text('{"messages": []}\n' * 30)
    validation.write_text('{"messages": [1]}\n' * 8)
    return LaunchRequest("m", training, validation, launch="launch-x")


async def lived(paths: Paths, name: str, request: LaunchRequest, faults: dict[int, str]) -> list[str]:
    """Launch until there is a job, whatever goes wrong at these requests; return what the user was told."""
    async with Living(name != "nebius", faults) as http:
        user = Try(paths, name, request)
        await user.launch(http)
        user.check(http)
        return [f"{error.message} · {error.hint}" for error in user.told]


async def test_the_requests_of_a_launch_are_as_few_as_they_can_be(
    paths: Paths, request_: LaunchRequest
) -> None:
    async with Living() as http:
        await Try(paths, "openai", request_).launch(http)
    assert [(one.method, one.path.removeprefix("/v1")) for one in http.requests] == [
        ("GET", "/files"), ("POST", "/files"), ("GET", "/files"), ("POST", "/files"),
        ("POST", "/fine_tuning/jobs"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
async def test_whichever_answer_of_a_launch_goes_wrong_there_is_one_job_and_one_upload(
    paths: Paths, request_: LaunchRequest, name: str
) -> None:
    for fault in FAULTS:
        for at in range(1, CREATE + 1):
            await lived(paths, name, request_, {at: fault})


@pytest.mark.parametrize("name", ["openai", "nebius"])
async def test_a_job_that_was_made_is_found_whatever_came_instead_of_its_answer(
    paths: Paths, request_: LaunchRequest, name: str
) -> None:
    for fault in MADE:
        assert await lived(paths, name, request_, {CREATE: fault}) == []


async def test_a_job_that_was_not_made_is_asked_for_again_only_after_it_was_told_why(
    paths: Paths, request_: LaunchRequest
) -> None:
    words = {
        "late, nothing done": "got no answer (OpenAI did not answer in time",
        "reset before": "got no answer (the connection to OpenAI broke", "a page": "an answer that cannot be read",
        "moved": "it points to /login (HTTP 302)", "moved for good": "points to https://elsewhere.invalid/v1",
        "400": "did not accept", "401": "does not accept the key", "403": "does not allow",
        "404": "does not know it", "409": "not confirmed (OpenAI says that it is in conflict",
        "413": "too large", "422": "cannot work with", "500": "not confirmed (OpenAI failed on its side (HTTP 500)",
        "503": "HTTP 503", "429 seconds": "wait 7 s", "429 date": "wait 90 s",
    }  # fmt: skip
    assert set(words) == set(NOT_MADE)
    for fault, told in words.items():
        (said,) = await lived(paths, "openai", request_, {CREATE: fault})
        assert told in said, fault


async def test_what_goes_wrong_with_the_lists_that_look_for_a_job_is_told_as_such_and_makes_no_second_one(
    paths: Paths, request_: LaunchRequest
) -> None:
    look = CREATE + 1
    refused = await lived(paths, "openai", request_, {CREATE: "lost", look: "400"})
    assert refused == [], "a filter that is refused is done without, also while an answer is missing"
    for fault in ("lost", "cut", "empty", "502 page", "409", "503"):
        assert await lived(paths, "openai", request_, {CREATE: "lost", look: fault}) == []
    (said,) = await lived(paths, "openai", request_, {CREATE: "lost", look: "401"})
    assert "the jobs cannot be listed: OpenAI does not accept the key (listing fine-tuning jobs)" in said
    (said,) = await lived(paths, "nebius", request_, {CREATE: "lost", look: "403"})
    assert "cannot be listed: Nebius Token Factory does not allow this" in said
    assert "nothing is sent twice" in said


async def test_what_creates_something_is_never_sent_to_another_address(
    paths: Paths, request_: LaunchRequest
) -> None:
    for at in (2, CREATE):
        async with Living(faults={at: "moved"}) as http:
            user = Try(paths, "openai", request_)
            await user.launch(http)
        assert "/login" not in [one.path for one in http.requests]
        assert "base_url" in user.told[0].hint


@pytest.fixture
def living() -> Iterator[Living]:
    """An endpoint in a thread of its own, for commands that have their own loop."""
    loop, http = asyncio.new_event_loop(), Living()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(http.__aenter__(), loop).result(10)
    yield http
    asyncio.run_coroutine_threadsafe(http.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize(
    ("fault", "error", "hint"),
    [
        ("401", "does not accept the key (creating the fine-tuning job): their words", "check the key"),
        ("413", "finds it too large", "send a smaller file, or split it"),
        ("429 seconds", "asks to slow down, or the quota is used up", "wait 7 s"),
        ("503", "v1 failed on its side (HTTP 503) (creating", "the same launch again looks once more"),
        ("a page", "an answer that cannot be read", "the same launch again looks once more"),
        ("moved", "it points to /login (HTTP 302)", "set it as base_url"),
    ],
)  # fmt: skip
def test_the_command_line_says_what_went_wrong_and_what_to_do_and_the_same_command_goes_on(
    living: Living, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    fault: str, error: str, hint: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TUNEDESK_API_KEY", "sk-test")
    monkeypatch.setattr("tunedesk.jobs.launching.LOOKS", (0.0,))
    monkeypatch.setattr("tunedesk.jobs.asking.SETTLED", 0.0)
    training = tmp_path / "train.jsonl"
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
    training.write_text((json.dumps(row) + "\n") * 12)
    command = ["launch", "--train", str(training), "--model", "m", "--provider", living.base_url, "--yes"]
    living.faults = {3: fault}
    assert main(command) == 1
    said = capsys.readouterr().err
    (told,) = [line for line in said.splitlines() if line.startswith("error: ")]
    (way,) = [line for line in said.splitlines() if line.startswith("hint: ")]
    assert error in told
    assert hint in way
    assert "sk-test" not in said
    living.faults = {}
    assert main(command) == 0
    assert (len(living.jobs), len(living.files)) == (1, 1)
