"""Keys of the Jobs screen: an account's past, recipes, adapters, comparing, files, curves, and many jobs at once."""

from __future__ import annotations

import contextlib
import io
import json
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.fakes import Endpoint, ScriptedProvider
from tests.tui.bench import workbench
from tests.tui.rig import frame, until, until_shown
from tests.tui.test_jobs_wiring import bench, curve, endpoint, on_jobs, trained
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters, Model, ProviderFile
from tunedesk.core.lineage import read_recipe
from tunedesk.errors import ProviderError
from tunedesk.jobs import RecipeBook
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.panes.job_list import JobList
from tunedesk.tui.panes.loss_curve import LossCurve
from tunedesk.tui.screens.compare import CompareScreen
from tunedesk.tui.screens.files import FilesDialog
from tunedesk.tui.screens.jobs import JobsScreen
from tunedesk.workbench import Workbench

__all__ = ["bench", "endpoint"]
TUNED = "ft:gpt-4.1-mini-2025-04-14:org:bank:1"
ROWS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}\n' * 12


class Engine(ScriptedProvider):
    """A scripted provider that packs and takes in adapters, as the engine does."""

    def __init__(self, endpoint: Endpoint, profile: Any) -> None:
        super().__init__(endpoint, profile)
        self.asked: list[tuple[str, dict[str, Any] | None]] = []

    async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append((what, body))
        if what == "import":
            return {"id": "ft:tiny:local:mine:1", "base": "tiny"}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            entry = tarfile.TarInfo("adapter_config.json")
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"{}"))
        self.endpoint.files["file-packed"] = ProviderFile("file-packed", "export.tar")
        self.endpoint.contents["file-packed"] = packed.getvalue()
        return {"id": "file-packed"}


class Account(ScriptedProvider):
    """A hosted account whose training files have partly expired and whose models are partly deleted."""

    async def download(self, file_id: str, path: Path, **options: Any) -> int:
        if file_id not in self.endpoint.contents:
            raise ProviderError(f"OpenAI does not know it (reading file {file_id})", status=404)
        return await super().download(file_id, path, **options)

    async def models(self) -> list[Model]:
        return [Model("gpt-4.1-mini-2025-04-14"), Model(TUNED)]


def account() -> Endpoint:
    hosted = Endpoint()
    for number in (1, 2):
        job = FineTuningJob(
            f"ftjob-h{number}", "succeeded", "gpt-4.1-mini-2025-04-14", number, 20,
            fine_tuned_model=TUNED[:-1] + str(number), training_file=f"file-t{number}",
            hyperparameters=Hyperparameters(3, 8, 2.0), trained_tokens=900,
        )  # fmt: skip
        hosted.jobs[job.id] = job
        hosted.events[job.id] = curve()
    hosted.contents["file-t1"] = ROWS
    return hosted


async def test_an_account_is_imported_by_one_key_and_what_is_gone_is_told(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1")
    hosted = account()
    bench.use(cast(Any, Account(hosted, bench.profile("openai"))))
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        await pilot.press("f2", "I")
        await until_shown(pilot, "Import the jobs of")
        await pilot.press("enter")
        await until_shown(pilot, "Each tuned model gets a recipe")
        await pilot.press("y")
        await until_shown(pilot, "Imported from openai")
        await until_shown(pilot, "2 jobs · 40 events · 40 points of curves")
        shown = " ".join(frame(app).replace("│", " ").split())
        assert f"model {TUNED}" in shown
        assert "no training file file-t2: OpenAI does not know it" in shown
        assert f"no model {TUNED[:-1]}2: it was deleted there" in shown
        await pilot.press("escape")
        await until(pilot, lambda: len(cast(JobsScreen, app.screen).rows.jobs) == 2)
    (path,) = [path for path, recipe in RecipeBook(bench.paths.data).all() if recipe.model == TUNED]
    made = read_recipe(path)
    assert made.training.sha256
    assert made.cost_usd is not None
    assert "delete_file" not in hosted.calls


async def test_a_recipe_is_opened_in_the_editor_and_kept_only_as_one(
    bench: Workbench, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def editor(script: str) -> None:
        path = tmp_path / "editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("EDITOR", str(path))

    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr(TunedeskApp, "suspend", lambda self: contextlib.nullcontext())
    await trained(bench, endpoint)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await on_jobs(pilot)
        await until(pilot, lambda: bool(screen.origin.path))
        editor("sed -i 's/^n_epochs = 2/n_epochs = 4/' $1")
        await pilot.press("T")
        await until_shown(pilot, "kept: ")
        assert read_recipe(Path(screen.origin.path)).asked.n_epochs == 4
        assert screen.origin.recipe is not None
        assert screen.origin.recipe.asked.n_epochs == 4
        editor("echo 'model = 3' > $1")
        await pilot.press("T")
        await until_shown(pilot, "what was written is no recipe: ")
        assert read_recipe(Path(screen.origin.path)).asked.n_epochs == 4


async def test_a_model_is_compared_and_saved_by_one_key_each_and_an_adapter_taken_in(
    bench: Workbench, endpoint: Endpoint, tmp_path: Path
) -> None:
    await trained(bench, endpoint)
    engine = Engine(endpoint, bench.profile("local"))
    bench.use(cast(Any, engine))
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(120, 40)) as pilot:
        await on_jobs(pilot)
        await pilot.press("E")
        await until_shown(pilot, "Save ft:tiny:local:x as")
        await pilot.press("enter")
        await until_shown(pilot, "Save it as the folder")
        await answer(pilot, str(tmp_path / "out"))
        await until_shown(pilot, "kB in /")
        assert (tmp_path / "out" / "adapter_config.json").read_text() == "{}"
        assert "file-packed" not in endpoint.files, "what was packed is not left there"

        folder = tmp_path / "mine"
        await taken_in(pilot, folder)
        await until_shown(pilot, "no adapter_config.json that can be read in")
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/tiny"}))
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        await taken_in(pilot, folder)
        await until_shown(pilot, "Its base model")
        await pilot.press("enter")
        await until_shown(pilot, "Part of the model's name")
        await pilot.press("enter")
        await until_shown(pilot, "ft:tiny:local:mine:1 is here, on tiny")
        assert engine.asked[-1][1] == {"file": "file-3", "base": "tiny", "suffix": "mine"}

        await pilot.press("M")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await until_shown(pilot, "ft:tiny:local:x")


async def taken_in(pilot: Pilot[None], folder: Path) -> None:
    await pilot.press("A")
    await until_shown(pilot, "Adapter to take in")
    await answer(pilot, str(folder))


async def answer(pilot: Pilot[None], text: str) -> None:
    """Put a text into the field that asks for it, at once, and accept it."""
    field = pilot.app.focused
    assert isinstance(field, Input)
    field.value = text
    await pilot.press("enter")


async def test_a_file_goes_up_by_one_key_and_the_same_bytes_only_once(
    bench: Workbench, endpoint: Endpoint, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(ROWS)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        app.push_screen(FilesDialog(bench, bench.profile("local")))
        for _ in range(2):
            await until_shown(pilot, "u upload")
            await pilot.press("u")
            await until(pilot, lambda: not isinstance(app.screen, FilesDialog))
            await answer(pilot, str(path))
            await until_shown(pilot, "mine.jsonl is there as file-1")
    assert endpoint.calls.count("upload") == 1


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_curves_are_pinned_scaled_smoothed_zoomed_and_read_out_at_every_size(
    bench: Workbench, endpoint: Endpoint, size: tuple[int, int]
) -> None:
    first = await trained(bench, endpoint)
    other = replace(first, id="ftjob-0", fine_tuned_model="ft:tiny:local:y", created_at=first.created_at - 9)
    bench.store.save_jobs("local", [other])
    bench.store.add_events("local", other.id, [replace(one, id=f"o-{one.id}") for one in curve()])
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=size) as pilot:
        screen = await on_jobs(pilot)
        chart = screen.query_one(LossCurve)
        await until_shown(pilot, "★" if size[1] > 30 else "loss")
        screen.query_one(JobList).focus()
        await pilot.press("down", "space")
        await until(pilot, lambda: [view.key[1] for view in screen.pinned] == ["ftjob-0"])
        await until_shown(pilot, "──1")
        await pilot.press("a", "g", "s")
        await until_shown(pilot, "loss (smoothed 0.6) (log)")
        chart.focus()
        await pilot.press("home", "right", "right")
        await until_shown(pilot, "step 3")
        await pilot.press("plus", "plus")
        part = chart.window
        assert part is not None
        assert part[1] - part[0] < 10
        lines = frame(app).splitlines()
        assert {len(line) for line in lines} == {size[0]}
        assert any("step 3" in line and "1" in line for line in lines)
        await pilot.press("0")
        assert chart.window is None
        assert chart.cursor is None
        screen.query_one(JobList).focus()
        await pilot.press("space")
        await until(pilot, lambda: screen.pinned == ())


async def test_hundreds_of_jobs_of_four_profiles_stay_quick_while_one_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "NEBIUS_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-test")
    bench = workbench(tmp_path)
    (bench.paths.config / "profiles.toml").write_text('[azure]\nbase_url = "https://azure.test/v1"\n')
    now, places = int(time.time()), {name: Endpoint() for name in ("local", "openai", "nebius", "azure")}
    for number in range(500):
        name = list(places)[number % 4]
        status = "running" if number in (0, 1, 2, 3, 498) else "succeeded"
        made = now - 100 - number
        job = FineTuningJob(
            f"ftjob-{number:03}", status, "base", made, made + 50 if status != "running" else None
        )
        places[name].jobs[job.id] = job
        bench.store.save_jobs(name, [job])
        if number < 4:
            bench.store.save_checkpoints(name, job.id, [Checkpoint("c", "m", 1)])
    for name, place in places.items():
        place.jobs = dict(reversed(place.jobs.items()))
        bench.use(cast(Any, ScriptedProvider(place, bench.profile(name))))
    places["nebius"].faults = []
    unreachable = ProviderError("cannot reach nebius.test", retryable=True, code="unreachable")
    for _ in range(300):
        for method in ("jobs", "job", "events"):
            places["nebius"].lose(method, unreachable, carried_out=False)
    app = TunedeskApp(lambda: bench)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        await pilot.press("f2")
        await until_shown(pilot, "! nebius: cannot reach nebius.test")
        screen = cast(JobsScreen, app.screen)
        assert len(screen.rows.jobs) == 500
        began = time.monotonic()
        await pilot.press("end", "home", "pagedown", "home")
        assert time.monotonic() - began < 20, "the list never waits for a provider"
        for name in ("local", "openai", "azure"):
            running = [job for job in places[name].jobs.values() if job.status == "running"]
            for job in running:
                places[name].jobs[job.id] = replace(job, status="failed", finished_at=now, error="why")
        await pilot.press("r")
        await until(
            pilot,
            lambda: sum(known.job.status == "failed" for known in screen.rows.jobs) == 3,
        )
        still = [known for known in screen.rows.jobs if known.job.status == "running"]
        assert {known.profile for known in still} == {"nebius"}
    bench.store.close()


async def test_files_that_cannot_be_listed_are_told_so_and_a_closed_dialog_is_no_defect(
    bench: Workbench, endpoint: Endpoint
) -> None:
    refused = ProviderError("OpenAI does not accept the key (listing files)", "check the key", status=401)
    endpoint.lose("files", refused, carried_out=False)
    app = TunedeskApp(lambda: bench, ["talks"])
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.workspace is not None)
        dialog = FilesDialog(bench, bench.profile("local"))
        app.push_screen(dialog)
        await until_shown(pilot, "the files could not be listed: r asks again")
        assert "does not accept the key" in frame(app)
        await pilot.press("r")
        await until_shown(pilot, "no files")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, FilesDialog))
        dialog.tell("what came later")
