"""A job that names a model of the hub: fetched with the job's own events, stopped, gone on with, or refused in time."""

from __future__ import annotations

import os
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.engine.fake_hub import REPOSITORY, WEIGHTS, Hub, asked_hub, opened_hub
from tests.engine.rig import Rig, engine, eventually, rows, trainer
from tests.engine.test_server_process import server, wait
from tests.engine.test_worker import messages
from tunedesk.cli import main
from tunedesk.engine import fetch
from tunedesk.engine import hub as hub_client
from tunedesk.engine.catalogue import memory_of_a_gpu
from tunedesk.engine.fetch import Offer, Progress, TooLarge, fetch_model, no_conversion
from tunedesk.errors import EngineError

DATA = bytes(range(256)) * 16384
FILES = {"config.json": b"{}", "tokenizer.json": b"{}", WEIGHTS: DATA}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(hub_client, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "_REPORT_SECONDS", 0.0)
    with asked_hub(Hub(dict(FILES)), monkeypatch) as opened:
        yield opened


async def launched(rig: Rig, model: str = REPOSITORY) -> str:
    client = rig.client()
    file = await client.files.create(file=("train.jsonl", rows()), purpose="fine-tune")
    return (await client.fine_tuning.jobs.create(model=model, training_file=file.id)).id


def fetched(models: Path, said: list[Progress] | None = None) -> Path:
    told = [] if said is None else said
    return fetch_model(models, told.append, no_conversion, Offer("Fake-1M", REPOSITORY))


async def test_a_job_on_a_model_of_the_hub_fetches_it_trains_and_is_chatted_with(
    hub: Hub, tmp_path: Path
) -> None:
    with engine(tmp_path) as rig:
        job_id = await launched(rig)
        await rig.until(job_id, "succeeded")
        job = rig.state.jobs.get(job_id)
        assert job.model == REPOSITORY
        assert job.model_name.startswith("ft:Fake-1M:local:")
        said = messages(rig, job_id)
        assert "Base model Fake-1M: connecting from the model hub" in said
        assert any(message.startswith("Base model Fake-1M: downloading") for message in said)
        assert said.index("Base model Fake-1M: done") < said.index(
            "Files validated, moving job to queued state"
        )
        assert (rig.state.models / "Fake-1M" / WEIGHTS).read_bytes() == DATA
        client = rig.client()
        for name in (REPOSITORY, "Fake-1M", "someone/fake-1m", job.model_name):
            reply = await client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "hi"}]
            )
            assert reply.model == name
        assert (await client.models.retrieve(REPOSITORY)).id == "Fake-1M"
        asked = len(hub.asked)
        await rig.until(await launched(rig), "succeeded")
        assert len(hub.asked) == asked, "what is here is not asked for again"


async def test_the_answer_comes_and_other_jobs_run_while_a_model_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.hold_at = 600_000
    with engine(tmp_path) as rig:
        first, second = await launched(rig), await launched(rig)
        await rig.until(await launched(rig, "tiny"), "succeeded")
        assert {rig.state.jobs.get(one).status for one in (first, second)} == {"validating_files"}
        hub.go.set()
        for one in (first, second):
            await rig.until(one, "succeeded")
        assert hub.ranges_of_weights() == [""], "fetched once for both"


async def test_a_cancelled_fetch_ends_at_once_and_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.hold_at = 600_000
    with engine(tmp_path) as rig:
        job_id = await launched(rig)
        part = rig.state.models / ".fetch" / "Fake-1M.part"
        await eventually(hub.ranges_of_weights)
        began = time.monotonic()
        assert (await rig.client().fine_tuning.jobs.cancel(job_id)).status == "cancelled"
        assert time.monotonic() - began < 5
        hub.go.set()
        await eventually(lambda: not part.exists())
        await rig.until(await launched(rig, "tiny"), "succeeded")
        assert messages(rig, job_id)[-1] == "The job was cancelled"
        assert not (rig.state.models / "Fake-1M").exists()


async def test_a_paused_fetch_goes_on_from_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.hold_at = 600_000
    with engine(tmp_path) as rig:
        client = rig.client(strict=False)
        job_id = await launched(rig)
        kept = rig.state.models / ".fetch" / "Fake-1M.part" / "hub-c0ffee" / WEIGHTS
        await eventually(lambda: kept.exists() and kept.stat().st_size > 500_000)
        assert str((await client.fine_tuning.jobs.pause(job_id)).status) == "paused"
        hub.hold_at = None
        hub.go.set()
        await eventually(lambda: not rig.context.worker._taken)
        had = kept.stat().st_size
        assert 500_000 < had < len(DATA)
        assert rig.state.jobs.get(job_id).status == "paused"
        assert (await client.fine_tuning.jobs.resume(job_id)).status == "validating_files"
        await rig.until(job_id, "succeeded")
        assert hub.ranges_of_weights() == ["", f"bytes={had}-"]


def test_a_server_killed_in_a_fetch_goes_on_with_it_at_the_next_start(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.hold_at = 600_000
    with server(tmp_path) as running:
        client = running.client()
        file = client.files.create(file=("train.jsonl", rows()), purpose="fine-tune")
        job_id = client.fine_tuning.jobs.create(model=REPOSITORY, training_file=file.id).id
        kept = running.folder / "models" / ".fetch" / "Fake-1M.part" / "hub-c0ffee" / WEIGHTS
        wait(lambda: kept.exists() and kept.stat().st_size > 500_000)
        running.kill()
    had = kept.stat().st_size
    hub.hold_at = None
    with server(tmp_path) as running:
        client = running.client()
        wait(lambda: client.fine_tuning.jobs.retrieve(job_id).status == "succeeded")
        assert hub.ranges_of_weights() == ["", f"bytes={had}-"]
        assert (running.folder / "models" / "Fake-1M" / WEIGHTS).read_bytes() == DATA


async def test_an_engine_that_is_offline_says_so_in_its_answer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with engine(tmp_path) as rig:
        with pytest.raises(openai.BadRequestError) as refused:
            await launched(rig)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        assert "tunedesk serve --fetch someone/Fake-1M" in refused.value.message
        assert "--offline" in refused.value.message
    assert hub.asked == []


def test_offline_is_an_option_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    assert main(["serve", "--offline", "--fetch", REPOSITORY]) == 1
    assert (os.environ["HF_HUB_OFFLINE"], os.environ["PIP_NO_INDEX"]) == ("1", "1")


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "cannot be reached"), (404, "no such model"), (503, "the model hub answers 503")],
)
async def test_a_hub_that_does_not_give_the_model_fails_the_job_in_words(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, words: str
) -> None:
    hub.refuses = status
    if status is None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with engine(tmp_path) as rig:
        job_id = await launched(rig)
        await rig.until(job_id, "failed")
        error = rig.state.jobs.get(job_id).error
        assert error is not None
        assert (error["code"], error["param"]) == ("model_not_fetched", "model")
        assert words in error["message"]
        assert "tunedesk serve --fetch someone/Fake-1M" in error["message"]


async def test_a_bad_file_fails_the_job_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        file = await client.files.create(file=("train.jsonl", rows(3)), purpose="fine-tune")
        job = await client.fine_tuning.jobs.create(model=REPOSITORY, training_file=file.id)
        await rig.until(job.id, "failed")
    assert hub.asked == []


async def test_a_model_too_large_for_the_memory_is_refused_before_it_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.parameters = 70_000_000_000
    monkeypatch.setattr(fetch, "memory_of_this_machine", lambda: 24 << 30)
    monkeypatch.setattr(fetch, "memory_of_a_gpu", lambda: 0)
    with engine(tmp_path) as rig:
        job_id = await launched(rig)
        await rig.until(job_id, "failed")
        error = rig.state.jobs.get(job_id).error
        assert error is not None
        assert (error["code"], error["param"]) == ("model_too_large", "model")
        for figure in ("70.0 billion", "282.7 GB", "25.8 GB"):
            assert figure in error["message"]
        assert hub.ranges_of_weights() == []
        hub.parameters = 4_000_000_000
        await rig.until(job_id := await launched(rig), "succeeded")
        assert any("may be more than this machine can give" in told for told in messages(rig, job_id))


async def test_a_gpu_or_a_cluster_makes_room_for_a_larger_model(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.parameters = 13_000_000_000
    monkeypatch.setattr(fetch, "memory_of_this_machine", lambda: 8 << 30)
    monkeypatch.setattr(fetch, "memory_of_a_gpu", lambda: 80 << 30)
    with engine(tmp_path / "gpu") as rig:
        await rig.until(await launched(rig), "succeeded")
    monkeypatch.setattr(fetch, "memory_of_a_gpu", lambda: 0)
    with engine(tmp_path / "cluster", [*trainer(), "--say", "", "--mode", "tunedesk.engine.on_ray"]) as rig:
        await rig.until(await launched(rig), "succeeded")


def test_the_memory_of_a_gpu_is_what_its_drivers_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory_of_a_gpu() == 0
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 24576\n")
    tool.chmod(0o700)
    assert memory_of_a_gpu() == 81559 << 20


def test_a_model_too_large_for_the_disk_is_refused_before_it_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tunedesk.engine.fetch.shutil.disk_usage", lambda _: Usage(10, 5, (64 << 20) + len(DATA) - 1)
    )
    with pytest.raises(TooLarge, match=r"0\.0 GB more on disk, and 0\.1 GB are free"):
        fetched(tmp_path)
    assert hub.ranges_of_weights() == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_line_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path, ranges: bool) -> None:
    hub.cuts, hub.ranges = [1000, 500, 0] if ranges else [1000, 1500], ranges
    said: list[Progress] = []
    assert (fetched(tmp_path, said) / WEIGHTS).read_bytes() == DATA
    assert hub.ranges_of_weights()[1] == "bytes=1000-"
    assert said[-2].done == said[-2].total == sum(map(len, FILES.values()))


def test_a_line_that_breaks_for_good_keeps_what_came_for_the_next_try(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [2000] + [0] * hub_client.BREAKS_ALLOWED
    with pytest.raises(EngineError, match="broke off"):
        fetched(tmp_path)
    assert (fetched(tmp_path) / WEIGHTS).read_bytes() == DATA
    assert hub.ranges_of_weights()[-1] == "bytes=2000-"


def test_what_was_damaged_on_the_disk_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / ".fetch" / "Fake-1M.part" / "hub-c0ffee"
    part.mkdir(parents=True)
    (part / WEIGHTS).write_bytes(b"x" * 1000)
    (part.parent / "hub-older").mkdir()
    said: list[Progress] = []
    assert (fetched(tmp_path, said) / WEIGHTS).read_bytes() == DATA
    assert hub.ranges_of_weights() == ["bytes=1000-", ""]
    assert said[-2].done == said[-2].total
    assert not part.parent.exists()


@pytest.mark.parametrize(("name", "missing"), [(WEIGHTS, "safetensors"), ("tokenizer.json", "tokenizer")])
def test_a_repository_that_is_no_such_model_is_not_fetched(
    hub: Hub, tmp_path: Path, name: str, missing: str
) -> None:
    del hub.files[name]
    hub.files["pytorch_model.bin"] = b"pickle"
    with pytest.raises(EngineError, match=f"the model hub has no {missing} of {REPOSITORY}"):
        fetched(tmp_path)
    assert len(hub.asked) == 1


async def test_a_model_of_the_same_name_from_elsewhere_is_not_taken_for_it(hub: Hub, tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        fetched(rig.state.models)
        for name in ("other/Fake-1M", "evil/SmolLM2-135M-Instruct"):
            with pytest.raises(openai.BadRequestError) as refused:
                await launched(rig, name)
            assert refused.value.code == "model_name_taken"
            with pytest.raises(openai.NotFoundError):
                await rig.client().models.retrieve(name)
        assert (await rig.client().models.retrieve("HuggingFaceTB/SmolLM2-135M-Instruct")).id
        with pytest.raises(openai.NotFoundError, match="tunedesk serve --fetch a/b"):
            await rig.client().chat.completions.create(
                model="a/b", messages=[{"role": "user", "content": "hi"}]
            )


async def test_what_a_failed_fetch_left_is_cleaned_by_command_unless_a_job_wants_it(
    hub: Hub, tmp_path: Path
) -> None:
    hub.cuts = [2000] + [0] * hub_client.BREAKS_ALLOWED
    with engine(tmp_path) as rig, pytest.raises(EngineError):
        fetched(rig.state.models)
    with engine(tmp_path, started=False) as rig:
        part = rig.state.models / ".fetch" / "Fake-1M.part"
        job_id = await launched(rig)
        async with rig.http() as http:
            await http.post("/v1/engine/clean")
            assert part.exists()
            await rig.client().fine_tuning.jobs.cancel(job_id)
            assert (await http.post("/v1/engine/clean")).json()["freed"] >= 2000
        assert not part.exists()


def test_the_users_token_goes_to_the_hub_and_not_where_it_points(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    elsewhere = Hub(dict(FILES))
    with opened_hub(elsewhere) as address:
        hub.moved_to = address
        assert (fetched(tmp_path) / WEIGHTS).read_bytes() == DATA
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert elsewhere.tokens == [""]
