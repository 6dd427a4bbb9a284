"""A server whose disk is full says so, loses nothing that it acknowledged, and goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.engine.foreign import ROOT
from tests.engine.rig import base_model, rows

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root can mount a small disk",
)


@contextmanager
def small_server(folder: Path, size: str) -> Iterator[openai.OpenAI]:
    """Run a server whose folder is a disk of `size`, mounted for its process alone."""
    disk = folder / "disk"
    disk.mkdir()
    base_model(folder / "more")
    command = f'mount -t tmpfs -o size={size} small {disk} && exec "$@"'
    script = [sys.executable, "-m", "tests.engine.server_script", str(disk / "engine"), str(folder / "more")]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", command, "sh", *script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            assert process.stderr is not None
            pytest.skip(f"no small disk here: {process.stderr.read()[-200:]}")
        key = Path(f"/proc/{process.pid}/root{disk}/engine/key").read_text().strip()
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=30)


def finished(client: openai.OpenAI, job_id: str) -> str:
    deadline = time.monotonic() + 40
    while (status := client.fine_tuning.jobs.retrieve(job_id).status) not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return status


@pytest.mark.parametrize("size", ["2M", "4M"])
def test_a_full_disk_is_told_nothing_is_lost_and_room_brings_it_back(tmp_path: Path, size: str) -> None:
    with small_server(tmp_path, size) as client:
        kept: dict[str, bytes] = {}

        def store(data: bytes) -> str:
            file = client.files.create(file=("train.jsonl", data), purpose="fine-tune")
            kept[file.id] = data
            return file.id

        training = store(rows())
        refused: list[openai.APIStatusError] = []
        for length in (200_000, 20_000, 2_000, 200):
            for number in range(40):
                try:
                    store(bytes([65 + number]) * length)
                except openai.APIStatusError as error:
                    refused.append(error)
                    break
        assert refused
        job = None
        try:
            job = client.fine_tuning.jobs.create(model="tiny", training_file=training).id
        except openai.APIStatusError as error:
            refused.append(error)
        assert {(error.status_code, error.code) for error in refused} == {(500, "storage")}

        listed = [file.id for file in client.files.list()]
        assert set(kept) <= set(listed)
        for file_id, data in kept.items():
            assert client.files.content(file_id).read() == data
        for file_id in list(kept):
            if file_id != training:
                client.files.delete(file_id)
        again = client.fine_tuning.jobs.create(model="tiny", training_file=training).id
        assert finished(client, again) == "succeeded"
        assert job is None or finished(client, job) == "succeeded"
