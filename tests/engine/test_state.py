from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.rig import rows
from tunedesk.engine.job_requests import Job, parse_job_request
from tunedesk.engine.job_store import Outcome
from tunedesk.engine.state import EngineState
from tunedesk.engine.wire import ApiError, PageRequest
from tunedesk.errors import EngineError, StoreError

ALL = PageRequest(100, None)


@pytest.fixture
def state(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = EngineState(tmp_path / "engine")
    yield opened
    opened.close()


def new_job(state: EngineState) -> Job:
    request = parse_job_request({"model": "tiny", "training_file": "file-a"})
    return state.jobs.create(request, "tiny", None)


def test_a_step_is_recorded_once_however_often_it_is_reported(state: EngineState) -> None:
    job = new_job(state)
    for loss in (2.0, 9.0):
        state.jobs.metrics(job.id, 1, 4, {"train_loss": loss})
    assert state.jobs.curve(job.id) == [{"step": 1, "total_steps": 4, "train_loss": 2.0}]


def test_a_checkpoint_is_recorded_once_however_often_it_is_reported(state: EngineState) -> None:
    job = new_job(state)
    for _ in range(2):
        state.jobs.checkpoint(job, "tiny", 2, "checkpoints/step-2", {"train_loss": 1.0})
    assert len(state.jobs.checkpoints(job.id, ALL)) == 1
    assert [model.name for model in state.jobs.models()] == [f"{job.model_name}:ckpt-step-2"]


def test_events_keep_their_order_when_the_clock_goes_back(tmp_path: Path) -> None:
    times = iter([1000, 1000, 1000, 500, 400, 1001])
    state = EngineState(tmp_path / "engine", lambda: next(times))
    try:
        job = new_job(state)
        state.jobs.message(job.id, "one")
        state.jobs.message(job.id, "two")
        events = state.jobs.events(job.id, ALL)
        in_order = sorted(events, key=lambda event: (event["created_at"], event["id"]))
        assert [event["message"] for event in in_order][-2:] == ["one", "two"]
        assert events == list(reversed(in_order))
    finally:
        state.close()


def test_a_job_ends_once(state: EngineState) -> None:
    job = new_job(state)
    assert state.jobs.move(job.id, ("validating_files",), "running", "started")
    state.jobs.fail(job.id, "trainer_crashed", "it fell over")
    state.jobs.fail(job.id, "other", "again")
    assert not state.jobs.succeed(job.id, Outcome(5, "tiny", "adapter", "file-r"))
    done = state.jobs.get(job.id)
    assert (done.status, done.error) == (
        "failed",
        {"code": "trainer_crashed", "message": "it fell over", "param": None},
    )
    assert state.jobs.models() == []


def test_two_holders_of_one_folder_are_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first = EngineState(tmp_path / "engine")
    with pytest.raises(EngineError, match="another engine") as refused:
        EngineState(tmp_path / "engine")
    assert "serve --stop" in refused.value.hint
    first.close()
    EngineState(tmp_path / "engine").close()


def test_what_a_crash_left_among_the_files_is_swept_at_the_next_start(tmp_path: Path) -> None:
    state = EngineState(tmp_path / "engine")
    with state.files.receiving() as blob:
        blob.write(rows())
        kept = state.files.add(blob, "a.jsonl", "fine-tune", None)
    state.close()
    files = tmp_path / "engine" / "files"
    (files / "incoming" / "half").write_bytes(b"x")
    (files / ("0" * 64)).write_bytes(b"renamed, but its row was never written")
    state = EngineState(tmp_path / "engine")
    assert [path.name for path in files.iterdir() if path.is_file()] == [kept.sha256]
    assert list((files / "incoming").iterdir()) == []
    assert state.files.path(state.files.get(kept.id)).read_bytes() == rows()
    state.close()


STORE_AND_DIE = """
import os, sys
from pathlib import Path
from tunedesk.engine.state import EngineState
state = EngineState(Path(sys.argv[1]))
step = 0
def dying(call):
    def counted(*arguments, **options):
        global step
        step += 1
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return call(*arguments, **options)
    return counted
for name in ("fsync", "replace", "rename", "unlink", "chmod"):
    setattr(os, name, dying(getattr(os, name)))
for number in range(2):
    with state.files.receiving() as blob:
        blob.write(b"same bytes" if number else b"other bytes")
        file = state.files.add(blob, "a.jsonl", "fine-tune", None, f"key-{number}")
print("done", flush=True)
"""


def test_a_store_killed_at_any_durable_call_has_each_file_whole_or_not_at_all(tmp_path: Path) -> None:
    for at in range(1, 40):
        folder = tmp_path / str(at)
        ended = subprocess.run(
            [sys.executable, "-c", STORE_AND_DIE, str(folder), str(at)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            capture_output=True,
            timeout=60,
            check=False,
        )
        state = EngineState(folder)
        stored = state.files.listed(PageRequest(10, None), None, ascending=True)
        for file in stored:
            assert state.files.path(file).read_bytes() in (b"same bytes", b"other bytes")
        with state.files.receiving() as blob:  # the client sends it again
            blob.write(b"other bytes")
            again = state.files.add(blob, "a.jsonl", "fine-tune", None, "key-0")
        assert len(state.files.listed(PageRequest(10, None), None, ascending=True)) == max(1, len(stored))
        assert state.files.path(again).read_bytes() == b"other bytes"
        state.close()
        if ended.stdout == b"done\n":
            assert at > 6
            return
        assert ended.returncode == -9
    raise AssertionError("it never came to its end")


def test_a_database_of_a_newer_engine_or_no_database_is_refused_in_words(tmp_path: Path) -> None:
    EngineState(tmp_path / "engine").close()
    database = tmp_path / "engine" / "engine.sqlite3"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer"):
        EngineState(tmp_path / "engine")
    database.write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(StoreError, match="cannot open"):
        EngineState(tmp_path / "engine")


def test_a_job_of_a_deleted_model_name_and_an_unknown_page_are_errors_in_openais_form(
    state: EngineState,
) -> None:
    job = new_job(state)
    with pytest.raises(ApiError) as missing:
        state.jobs.events(job.id, PageRequest(5, "ftevent-x"))
    assert missing.value.body()["error"]["param"] == "after"
    with pytest.raises(ApiError):
        state.jobs.checkpoints(job.id, PageRequest(5, "ftckpt_none"))


def test_an_empty_key_file_is_refused(state: EngineState) -> None:
    key = state.key()
    assert key.startswith("sk-local-")
    assert state.key() == key
    (state.folder / "key").write_text("\n")
    with pytest.raises(EngineError, match="empty"):
        state.key()
