"""What a model came from: kept with it, written as a recipe, made again elsewhere, fetched before a service closes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Canned, Endpoint, HttpEndpoint, ScriptedProvider, no_pause
from tests.http_rig import client, failure
from tunedesk.config import Profile, profiles
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters, JobEvent, ProviderFile
from tunedesk.core.lineage import Lineage, Recipe, RecipeFile, lineage_of, read_recipe, to_toml
from tunedesk.errors import DataError, ProviderError
from tunedesk.jobs import JobService, LaunchRequest, import_jobs
from tunedesk.jobs.recipes import RecipeBook
from tunedesk.jobs.remaking import remake
from tunedesk.paths import Paths
from tunedesk.store import Store
from tunedesk.workbench import Workbench

OPENAI = Profile(name="openai", base_url="https://api.openai.com/v1")
PROMPT = 'You are "Isla".\nBe kind. ☂ \x07'
BASE = "gpt-4.1-mini-2025-04-14"
TUNED = f"ft:{BASE}:org:bank:abc"


def rows(path: Path, count: int = 12, prompt: str = PROMPT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    first = {"role": "system", "content": prompt}
    path.write_text("".join(json.dumps({"messages": [first, *said]}) + "\n" for _ in range(count)))
    return path


def service(store: Store, endpoint: Endpoint, profile: Profile = OPENAI) -> JobService:
    return JobService(store, ScriptedProvider(endpoint, profile), pause=no_pause)


def finished(endpoint: Endpoint) -> None:
    for job in endpoint.jobs.values():
        endpoint.jobs[job.id] = replace(
            job, status="succeeded", fine_tuned_model=TUNED, trained_tokens=2_000_000, finished_at=99,
            hyperparameters=Hyperparameters(3, 1, 1.8),
        )  # fmt: skip


async def test_a_tuned_model_gets_a_recipe_that_knows_all_it_came_from(
    store: Store, paths: Paths, tmp_path: Path
) -> None:
    training = rows(tmp_path / "train.jsonl")
    endpoint = Endpoint()
    jobs = service(store, endpoint)
    known = Lineage(dataset="abc", dataset_name="cards", dataset_version="v2")
    asked = Hyperparameters(n_epochs=3)
    launch = await jobs.launch(
        LaunchRequest(BASE, training, hyperparameters=asked, suffix="bank", seed=7, lineage=known)
    )
    finished(endpoint)
    assert [update async for update in jobs.tail(launch.job or "")]
    ((path, recipe),) = jobs.recipes.all()
    assert path.is_relative_to(paths.data / "recipes" / "openai")
    assert (recipe.model, recipe.base, recipe.parent, recipe.provider) == (TUNED, BASE, "", "openai")
    assert (recipe.job, recipe.launch, recipe.seed, recipe.suffix) == (launch.job, launch.id, 7, "bank")
    assert (recipe.asked.n_epochs, recipe.chosen.batch_size) == (3, 1)
    assert recipe.cost_usd == 10.0
    assert recipe.lineage == replace(known, system_prompt=PROMPT, system_prompts=1, conversations=12)
    training.unlink()
    assert jobs.recipes.file(recipe.training, path).read_text().count("\n") == 12


async def test_a_model_that_continues_another_knows_its_parent(store: Store, tmp_path: Path) -> None:
    endpoint = Endpoint()
    jobs = service(store, endpoint)
    launch = await jobs.launch(LaunchRequest(TUNED, rows(tmp_path / "t.jsonl")))
    endpoint.jobs[launch.job or ""] = replace(
        endpoint.jobs[launch.job or ""], status="succeeded", fine_tuned_model=f"{TUNED}2"
    )
    await jobs.refresh()
    ((_, recipe),) = jobs.recipes.all()
    assert (recipe.base, recipe.parent, recipe.trained_from) == (BASE, TUNED, TUNED)


def test_a_recipe_comes_back_as_it_was_written_whatever_its_words(tmp_path: Path) -> None:
    recipe = Recipe(
        model=TUNED, base=BASE, cost_usd=0.5, asked=Hyperparameters("auto", 4, 1.5, 0.1),
        training=RecipeFile("/a b/'t'.jsonl", "00"), validation=RecipeFile("v.jsonl", "11"),
        lineage=Lineage(system_prompt='"""\\ # [x]\x00\x7f\u202e\n☂', system_prompts=1, split_seed=4),
    )  # fmt: skip
    path = tmp_path / "r.toml"
    path.write_text(to_toml(recipe))
    assert read_recipe(path) == recipe
    assert read_recipe(path).lineage.system_prompt_sha256 in path.read_text()
    assert "\x7f" not in path.read_text()
    path.write_text("model = 3")
    with pytest.raises(DataError, match="no recipe"):
        read_recipe(path)


def test_elsewhere_the_epochs_go_along_and_the_learning_rate_only_where_it_means_the_same() -> None:
    recipe = Recipe(
        TUNED, BASE, asked=Hyperparameters("auto", "auto", 1.5), chosen=Hyperparameters(3, 8, 1.5)
    )
    assert recipe.hyperparameters_for(same_provider=True, same_rate=True) == recipe.asked
    assert recipe.hyperparameters_for(same_provider=False, same_rate=True) == Hyperparameters(3, "auto", 1.5)
    assert recipe.hyperparameters_for(same_provider=False, same_rate=False) == Hyperparameters(3)


def test_the_split_beside_a_file_is_believed_only_with_its_hash(tmp_path: Path) -> None:
    path = rows(tmp_path / "train.jsonl")
    (tmp_path / "split.json").write_text(
        json.dumps({"seed": 4, "rule": "r", "sha256": {"train.jsonl": "aa"}})
    )
    assert lineage_of(path, "aa").split_seed == 4
    assert lineage_of(path, "bb").split_seed is None
    (tmp_path / "split.json").write_text("[")
    assert lineage_of(path, "aa").split_seed is None


async def test_the_dataset_and_its_version_go_from_the_split_into_the_recipe(
    paths: Paths, tmp_path: Path
) -> None:
    rng = random.Random(1)
    lines = [
        {
            "messages": [
                {"role": role, "content": f"{rng.random()} {rng.random()}"} for role in ("user", "assistant")
            ]
        }
        for _ in range(40)
    ]
    source = tmp_path / "cards.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench = Workbench(paths)
    workspace = bench.import_file(source).workspace
    told = []
    for step in range(3):
        if step:
            workspace = bench.exclude(workspace, [step])
        if step == 2:
            bench.versions.save(workspace, "v2")
        lineage = lineage_of((files := bench.split(workspace)).train, files.sha256["train.jsonl"])
        assert (lineage.dataset, lineage.dataset_name) == (workspace.dataset.id, "cards")
        told.append(lineage.dataset_version)
    assert told[0] == "imported"
    assert told[1].startswith("1 edits ")
    assert told[2] == "v2"
    await bench.close()


def test_odd_lines_count_for_nothing_and_the_commonest_prompt_wins(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.jsonl", 3)
    other = rows(tmp_path / "o.jsonl", 1, "Other.").read_text()
    path.write_text(
        "\ufeff" + path.read_text() + other + 'junk\n{"messages": 4}\n{"messages": [{"role": 1}]}\n'
    )
    told = lineage_of(path)
    assert (told.system_prompt, told.system_prompts, told.conversations) == (PROMPT, 2, 5)


def test_a_file_is_found_as_named_beside_the_recipe_or_kept_but_never_another(
    paths: Paths, tmp_path: Path
) -> None:
    book = RecipeBook(paths.data)
    path = rows(tmp_path / "a" / "t.jsonl")
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wanted, recipe = RecipeFile(str(path), digest), tmp_path / "b" / "r.toml"
    assert book.file(wanted, recipe) == path
    book.keep(path, digest)
    path.write_text("changed")
    assert book.file(wanted, recipe) == book.kept(digest)
    book.kept(digest).unlink()
    with pytest.raises(DataError, match="neither"):
        book.file(wanted, recipe)
    assert book.file(wanted, rows(tmp_path / "b" / "t.jsonl").parent / "r.toml") == tmp_path / "b" / "t.jsonl"


def account(tmp_path: Path) -> Endpoint:
    """An account with a past: one good job, one whose file was deleted, one that failed."""
    endpoint = Endpoint(contents={"file-r": b"step,train_loss\n1,2.0\n"})
    endpoint.contents["file-t"] = rows(tmp_path / "theirs.jsonl").read_bytes()
    endpoint.files["file-t"] = ProviderFile("file-t")
    good = FineTuningJob("good", "succeeded", BASE, 10, 20, fine_tuned_model=TUNED, training_file="file-t",
                         result_files=("file-r",), trained_tokens=1_000_000)  # fmt: skip
    endpoint.jobs = {
        "failed": FineTuningJob("failed", "failed", BASE, 5, error="why"),
        "poor": FineTuningJob(
            "poor", "succeeded", BASE, 7, fine_tuned_model=f"{TUNED}p", training_file="file-x"
        ),
        "good": good,
    }
    endpoint.events["good"] = [JobEvent("e1", 11, "Created"), JobEvent("e2", 12, "Done")]
    endpoint.checkpoints["good"] = [Checkpoint("c1", f"{TUNED}:ckpt-step-9", 9)]
    return endpoint


class Deleting(ScriptedProvider):
    """An account where some files are gone."""

    async def file_content(self, file_id: str) -> bytes:
        if file_id not in self.endpoint.contents:
            raise ProviderError(f"no file {file_id}", status=404)
        return await super().file_content(file_id)


async def test_an_accounts_jobs_models_and_files_are_fetched_and_what_is_gone_is_told(
    store: Store, tmp_path: Path
) -> None:
    endpoint = account(tmp_path)
    jobs = JobService(store, Deleting(endpoint, OPENAI), pause=no_pause)
    report = await import_jobs(jobs)
    assert (report.jobs, report.events, report.checkpoints, report.files) == (3, 2, 1, 2)
    assert report.models == [TUNED, f"{TUNED}p"]
    assert [(one.job, one.what) for one in report.missing] == [("poor", "training file file-x")]
    assert [known.job.id for known in jobs.known_jobs()] == ["good", "poor", "failed"]
    recipe = read_recipe(Path(report.recipes[0]))
    assert recipe.lineage.system_prompt == PROMPT
    assert recipe.cost_usd == 5.0
    assert (
        jobs.recipes.file(recipe.training, Path(report.recipes[0])).read_bytes()
        == endpoint.contents["file-t"]
    )


async def test_an_import_run_again_downloads_nothing_twice(store: Store, tmp_path: Path) -> None:
    endpoint = account(tmp_path)
    jobs = JobService(store, Deleting(endpoint, OPENAI), pause=no_pause)
    first = await import_jobs(jobs)
    before = endpoint.calls.count("file_content")
    again = await import_jobs(jobs)
    assert endpoint.calls.count("file_content") == before
    assert (again.events, again.files, again.recipes) == (first.events, first.files, first.recipes)


async def test_an_account_of_many_pages_is_walked_to_its_end_with_expired_files_and_deleted_models(
    http: HttpEndpoint, store: Store, tmp_path: Path
) -> None:
    made: list[dict[str, Any]] = [
        {
            "id": f"ftjob-{number:03}", "object": "fine_tuning.job", "status": "succeeded", "created_at": 1000 - number,
            "finished_at": 2000, "model": BASE, "fine_tuned_model": f"{TUNED}-{number}", "trained_tokens": 10,
            "training_file": "file-kept" if number % 2 else "file-expired", "result_files": [],
        }
        for number in range(50)
    ]  # fmt: skip
    pages = [Canned({"data": made[at : at + 20], "has_more": at + 20 < 50}) for at in (0, 20, 40)]
    http.answer("GET", "/v1/fine_tuning/jobs", *pages)
    for job in made:
        path = f"/v1/fine_tuning/jobs/{job['id']}"
        http.answer("GET", path, Canned(job))
        http.answer("GET", f"{path}/(events|checkpoints)", Canned({"data": [], "has_more": False}))
    http.answer("GET", "/v1/files/file-kept/content", Canned(rows(tmp_path / "t.jsonl").read_bytes()))
    http.answer("GET", "/v1/files/file-expired/content", failure(410))
    listed = [{"id": one["fine_tuned_model"]} for one in made if one["id"] != "ftjob-007"]
    http.answer("GET", "/v1/models", Canned({"data": listed, "object": "list"}))
    provider = client(http, OPENAI)
    report = await import_jobs(JobService(store, provider, pause=no_pause))
    await provider.close()
    assert (report.jobs, len(report.models), len(report.recipes)) == (50, 50, 50)
    gone = [one for one in report.missing if "file-expired" in one.what]
    assert len(gone) == 25
    assert [(one.job, one.what) for one in report.missing if one not in gone] == [
        ("ftjob-007", f"model {TUNED}-7")
    ]
    asked = [one.query.get("after", [""])[0] for one in http.requests if one.path == "/v1/fine_tuning/jobs"]
    assert asked == ["", "ftjob-019", "ftjob-039"]
    downloads = sum(one.path == "/v1/files/file-kept/content" for one in http.requests)
    assert downloads == 1, "a file of many jobs is fetched once"


def test_what_does_not_go_along_to_another_provider_is_said(tmp_path: Path, paths: Paths) -> None:
    path = rows(tmp_path / "t.jsonl")
    known = profiles(paths)
    recipe = Recipe(
        TUNED, BASE, parent=f"ft:{BASE}:org::first", provider="openai", suffix="a-suffix-that-is-long",
        asked=Hyperparameters(3, "auto", 1.8), training=RecipeFile(str(path), ""),
    )  # fmt: skip

    def notes(name: str) -> str:
        book = RecipeBook(paths.data)
        return "\n".join(remake(book, recipe, path, known[name], known, training=path).notes)

    assert notes("openai") == ""
    assert f"{BASE} cannot be tuned there: SmolLM2-135M-Instruct stands in for it" in notes("local")
    assert "which is not there: SmolLM2-135M-Instruct begins anew" in notes("local")
    assert "learning rate" not in notes("local")
    assert "the learning rate 1.8 means something else there" in notes("nebius")
    assert "the suffix is cut to a-suffix-that-is-l," in notes("azure")
