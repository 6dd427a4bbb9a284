"""The engine's own routes: sizes, disk use, cleaning, adapters out and in."""

from __future__ import annotations

import io
import sys
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from tests.engine.rig import Rig, engine, rows
from tunedesk.engine.housekeeping import clean, disk_use
from tunedesk.engine.server import create_app
from tunedesk.engine.state import EngineState

FORM = """
import pathlib, sys
form, base, adapter, out = map(pathlib.Path, sys.argv[1:])
if (adapter / "adapter_config.json").read_text() == "bad":
    sys.exit("the adapter's q_proj does not fit tiny")
out.mkdir()
for path in adapter.iterdir():
    (out / path.name).write_bytes(path.read_bytes())
(out / "form").write_text(form.name)
"""
"""An exporter without the training stack."""


async def tuned(rig: Rig) -> str:
    """Train a model with the scripted trainer and return its name."""
    async with rig.client() as client:
        file = await client.files.create(file=("t.jsonl", rows()), purpose="fine-tune")
        job = await client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
        await rig.until(job.id, "succeeded")
        name = (await client.fine_tuning.jobs.retrieve(job.id)).fine_tuned_model
        assert name is not None
        folder = rig.state.adapter_folder(rig.state.jobs.models()[0])
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_text("weights")
        return name


def scripted(rig: Rig) -> Rig:
    """Return the rig with FORM as the exporter."""
    context = replace(rig.context, exporter=(sys.executable, "-c", FORM))
    rig.transport.app = create_app(context)
    return replace(rig, context=context)


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


async def test_an_adapter_goes_out_and_comes_in_again_as_a_model_that_can_be_asked(tmp_path: Path) -> None:
    with engine(tmp_path) as plain:
        rig = scripted(plain)
        name = await tuned(rig)
        async with rig.http() as http, rig.client() as client:
            made = (await http.post("/v1/engine/export", json={"model": name, "form": "merged"})).json()
            packed = (await client.files.content(made["id"])).content
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                assert {"adapter_config.json", "form"} <= set(tar.getnames())
                form = tar.extractfile("form")
                assert form is not None
                assert form.read() == b"merged"
            sent = await client.files.create(file=("a.tar", packed), purpose="user_data")
            body = {"file": sent.id, "base": "TINY", "suffix": "from afar"}
            answer = await http.post("/v1/engine/import", json=body)
            assert answer.status_code == 200
            imported = answer.json()["id"]
            assert imported.startswith("ft:tiny:local:from-afar:")
            assert imported in {model.id async for model in client.models.list()}
            question = [{"role": "user", "content": "Hello"}]
            await client.chat.completions.create(model=imported, messages=question)  # type: ignore[arg-type]
            assert rig.writer.asked[-1].adapter == rig.state.adapter_folder(rig.state.jobs.models()[0])
            assert (await client.models.delete(imported)).deleted
            assert not list(rig.state.imported.iterdir())


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"no archive at all", "no tar archive"),
        (archive(adapter_config__json="{}"), "no tar archive"),
        (archive(adapter_config__json="bad", adapter_model__safetensors="x"), "does not fit tiny"),
    ],
    ids=["bytes", "half of it", "wrong base"],
)
async def test_what_is_no_adapter_of_that_base_is_refused_and_leaves_nothing(
    tmp_path: Path, packed: bytes, words: str
) -> None:
    with engine(tmp_path, started=False) as plain:
        rig = scripted(plain)
        async with rig.http() as http, rig.client() as client:
            file = await client.files.create(file=("a.tar", packed), purpose="user_data")
            answer = await http.post("/v1/engine/import", json={"file": file.id, "base": "tiny"})
            assert answer.status_code == 400
            assert words in answer.json()["error"]["message"]
            assert not list(rig.state.imported.iterdir())
            unknown = await http.post("/v1/engine/import", json={"file": file.id, "base": "other"})
            assert unknown.status_code == 404
            with pytest.raises(openai.AuthenticationError):
                await rig.client(key="wrong").get("/engine/disk", cast_to=object)


async def test_members_of_an_archive_with_paths_write_nowhere_else(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as plain:
        rig = scripted(plain)
        evil = io.BytesIO()
        with tarfile.open(fileobj=evil, mode="w") as tar:
            for name in ("../../adapter_config.json", "/adapter_model.safetensors", "../../../escaped"):
                member = tarfile.TarInfo(name)
                member.size = 2
                tar.addfile(member, io.BytesIO(b"{}"))
        before = {path for path in tmp_path.rglob("*") if "files" not in path.parts}
        async with rig.http() as http, rig.client() as client:
            file = await client.files.create(file=("a.tar", evil.getvalue()), purpose="user_data")
            assert (
                await http.post("/v1/engine/import", json={"file": file.id, "base": "tiny"})
            ).status_code == 200
        new = {path for path in tmp_path.rglob("*") if "files" not in path.parts} - before
        assert all(rig.state.imported in path.parents for path in new if "sqlite3" not in path.name)


async def test_sizes_tell_what_is_fetched_and_fits(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        name = await tuned(rig)
        folder = tmp_path / "more" / "real"
        folder.mkdir()
        for file in ("config.json", "tokenizer.json"):
            (folder / file).write_text("{}")
        head = b'{"w": {"dtype": "F32", "shape": [1000, 2000], "data_offsets": [0, 8000000]}}'
        (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
        async with rig.http() as http:
            told = (await http.get("/v1/engine/models")).json()
        bases = {base["id"]: base for base in told["bases"]}
        assert bases["real"]["parameters"] == 2_000_000
        assert bases["real"]["chats_here"]
        assert bases["real"]["memory_to_train"] > bases["real"]["memory_to_chat"]
        assert "no safetensors file" in bases["tiny"]["fault"]
        assert not bases["SmolLM2-135M-Instruct"]["fetched"]
        assert name in {model["id"] for model in told["tuned"]}


async def test_cleaning_frees_what_it_says_and_keeps_every_model(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        name = await tuned(rig)
        adapter = rig.state.adapter_folder(rig.state.jobs.models()[0])
        (adapter.parent / "state.safetensors").write_bytes(b"x" * 5000)
        gone = rig.state.job_folder("ftjob-nobody")
        (gone / "old").write_bytes(b"y" * 300)
        async with rig.http() as http:
            before = (await http.get("/v1/engine/disk")).json()
            freed = (await http.post("/v1/engine/clean")).json()["freed"]
            after = (await http.get("/v1/engine/disk")).json()
        assert freed == before["cleanable"] >= 5300
        assert after["cleanable"] == 0
        assert after["adapters"] == before["adapters"] - freed
        assert not gone.exists()
        kept = [rig.state.adapter_folder(model) for model in rig.state.jobs.models()]
        assert len(kept) == 3
        assert all(path.is_dir() for path in kept)
        async with rig.client() as client:
            assert (await client.models.retrieve(name)).id == name


async def test_a_job_that_goes_on_keeps_what_it_goes_on_from(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.client() as client:
            file = await client.files.create(file=("t.jsonl", rows()), purpose="fine-tune")
            job = await client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
        state = rig.state.job_folder(job.id) / "state.safetensors"
        state.write_bytes(b"moments")
        assert clean(rig.state) == 0
        assert state.exists()


def test_what_a_dead_server_left_half_done_is_gone_at_the_next_start(tmp_path: Path) -> None:
    with closing(EngineState(tmp_path)) as state:
        (state.imported / "imported-1.part").mkdir()
        state.exports.mkdir()
    with closing(EngineState(tmp_path)) as state:
        assert not list(state.imported.iterdir())
        assert not state.exports.exists()
        assert disk_use(state).cleanable == 0
