"""From a loss spike to the conversations behind it: over the engine's own answer, found in a dataset however edited."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tests.test_jobs_engine import rows, served
from tunedesk.core.conversations import SourceRow
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.editing import edits
from tunedesk.core.fine_tuning import JobRequest
from tunedesk.core.workspace import Workspace
from tunedesk.engine.row_losses import RowLosses
from tunedesk.errors import JobError
from tunedesk.jobs import JobService
from tunedesk.jobs.rows import find_rows, row_losses
from tunedesk.store import Store

TALKS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "Yes."}],
     "metadata": {"id": n}}
    for n in range(6)
]  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    source = (SourceRow(line, row) for line, row in enumerate(TALKS, 1))
    return Workspace.open(write_dataset(source, tmp_path / "datasets", name="n", source="s"))


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Rows 5, 3, 1, 0 of the dataset as a split wrote them, under a system prompt."""
    path = tmp_path / "train.jsonl"
    prompt = {"role": "system", "content": "Be kind."}
    lines = [{"messages": [prompt, *TALKS[n]["messages"]]} for n in (5, 3, 1, 0)]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def known(losses: list[float]) -> dict[int, float]:
    return {index: loss for index, loss in enumerate(losses) if not math.isnan(loss)}


def test_lines_of_the_training_file_become_rows_whatever_the_system_prompt(
    workspace: Workspace, training: Path
) -> None:
    found = find_rows(workspace, training, {1: 4.5, 4: 0.25})
    assert known(list(found.losses)) == {5: 4.5, 0: 0.25}
    assert (found.found, found.missing) == (2, ())


def test_a_row_edited_since_is_found_and_a_stranger_is_told(workspace: Workspace, training: Path) -> None:
    edited = workspace.apply(edits.replace_message([3], 0, "another question"))
    assert known(list(find_rows(edited, training, {2: 3.0}).losses)) == {3: 3.0}
    with training.open("ab") as file:
        file.write(b'{"messages": [{"role": "user", "content": "never imported"}]}\n')
    assert find_rows(edited, training, {2: 3.0, 5: 9.0}).missing == (5,)


async def test_the_engine_tells_the_rows_of_a_step_and_the_latest_of_all(
    tmp_path: Path, store: Store
) -> None:
    async with served(tmp_path / "e", "--steps", "2", "--delay", "0.01") as provider:
        jobs = JobService(store, provider)
        file = await provider.upload(
            rows(tmp_path / "t.jsonl", 12, "Hm?"), filename="t.jsonl", idempotency_key="k"
        )
        job = await provider.create_job(JobRequest("tiny", file.id), idempotency_key="j")
        with pytest.raises(JobError, match="nothing is known of step 2"):
            await row_losses(jobs, job.id, 2)
        folder = next((tmp_path / "e").rglob(job.id))
        losses = RowLosses(folder / "row_losses.jsonl", 0)
        losses.write(1, 1, [(3, 2.5, 10), (1, 0.5, 4)])
        losses.write(2, 2, [(3, 1.5, 10)])
        losses.close()
        with (folder / "row_losses.jsonl").open("ab") as cut:
            cut.write(b'{"step": 3, "ro')
        assert await row_losses(jobs, job.id, 1) == {3: 2.5, 1: 0.5}
        assert await row_losses(jobs, job.id) == {3: 1.5, 1: 0.5}


async def test_a_provider_that_cannot_tell_says_so_in_words(store: Store) -> None:
    service = JobService(store, ScriptedProvider(Endpoint()), pause=no_pause)
    with pytest.raises(JobError, match="cloud does not tell which conversations"):
        await row_losses(service, "ftjob-1", 4)
