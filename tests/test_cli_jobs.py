"""Commands that talk to a provider, against one that keeps state: files, sweeps, recipes, imports."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider
from tests.test_queue import Training
from tunedesk.cli import main
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import FineTuningJob, ProviderFile
from tunedesk.jobs import RecipeBook
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> Training:
    """Let every profile be at one endpoint in this process."""
    endpoint = Training()

    async def connect(_bench: Workbench, profile: Profile) -> ScriptedProvider:
        return ScriptedProvider(endpoint, profile)

    monkeypatch.setattr(Workbench, "connect", connect)
    (paths.config / "profiles.toml").write_text('[openai]\ncloses = ""\n')
    return endpoint


def output(capsys: Captured, *arguments: str, status: int = 0) -> Any:
    assert main([*arguments, "--json"]) == status
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1])


def test_files_are_listed_downloaded_and_deleted(cloud: Endpoint, capsys: Captured, tmp_path: Path) -> None:
    cloud.files = {
        "file-1": ProviderFile("file-1", "a.jsonl", 3, "fine-tune", "processed", 5),
        "file-2": ProviderFile("file-2", "b.csv", 4, "fine-tune-results", "processed", 9),
    }
    cloud.contents["file-2"] = b"step"
    assert [one["id"] for one in output(capsys, "files", "--provider", "openai")] == ["file-2", "file-1"]
    assert [one["id"] for one in output(capsys, "files", "--purpose", "fine-tune")] == ["file-1"]
    out = tmp_path / "b.csv"
    assert output(capsys, "files", "--download", "file-2", "-o", str(out))["bytes"] == 4
    assert out.read_bytes() == b"step"
    out.write_bytes(b"mine")
    assert main(["files", "--download", "file-2", "-o", str(out)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert main(["files", "--download", "file-2", "-o", str(out), "--yes"]) == 0
    capsys.readouterr()
    assert main(["files", "--delete", "file-1"]) == 2
    assert output(capsys, "files", "--delete", "file-1", "--yes") == {"id": "file-1", "deleted": True}
    assert list(cloud.files) == ["file-2"]
    assert main(["files", "--download", "file-2"]) == 2


@pytest.fixture
def training(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    path.write_text((json.dumps({"messages": said}) + "\n") * 12)
    return path


def test_a_sweep_prints_a_row_for_each_job_and_the_best(
    cloud: Training, capsys: Captured, training: Path
) -> None:
    cloud.fails = ("ftjob-2",)
    cloud.ending([1.5, 1.0, 1.2])
    sweep = ["launch", "--train", str(training), "--sweep", "epochs=1,2,3", "--yes"]
    assert main([*sweep, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["state"] for row in rows[:3]] == ["succeeded", "failed", "succeeded"]
    assert (rows[3]["type"], rows[3]["job"], rows[3]["valid_loss"]) == ("best", "ftjob-3", 1.2)
    assert main(sweep) == 0
    told = capsys.readouterr().out
    assert "best: ft:ftjob-3" in told
    assert cloud.calls.count("create_job") == 3, "the same sweep again finds its jobs"
    assert main([*sweep, "--again", "1"]) == 0
    assert cloud.calls.count("create_job") == 6


def test_a_model_is_made_again_elsewhere_by_its_recipe(
    cloud: Training, capsys: Captured, training: Path, paths: Paths
) -> None:
    cloud.ending([])
    launched = output(
        capsys, "launch", "--train", str(training), "--provider", "openai", "--model", "gpt-4o-mini-2024-07-18",
        "--suffix", "bank", "--epochs", "2", "--learning-rate-multiplier", "1.5", "--seed", "4", "--yes", "--follow",
    )  # fmt: skip
    assert launched["type"] == "job"
    (told,) = output(capsys, "recipes")
    assert (told["provider"], told["base"], told["seed"]) == ("openai", "gpt-4o-mini-2024-07-18", 4)
    training.unlink()
    assert main(["launch", "--recipe", told["path"], "--provider", "local", "--yes", "--json"]) == 0
    said = capsys.readouterr()
    again = json.loads(said.out.splitlines()[-1])
    assert "gpt-4o-mini-2024-07-18 cannot be tuned there: SmolLM2-135M-Instruct stands in for it" in said.err
    job = cloud.jobs[again["job"]]
    assert job.model == "SmolLM2-135M-Instruct"
    assert len(cloud.contents[job.training_file].splitlines()) == 12
    bench = Workbench(paths)
    launch = bench.store.launch(again["launch"])
    assert launch is not None
    assert (launch.hyperparameters.n_epochs, launch.hyperparameters.learning_rate_multiplier) == (2, 1.5)
    assert (launch.suffix, launch.seed) == ("bank", 4)
    bench.store.close()
    assert main(["launch", "--yes"]) == 2
    assert len(RecipeBook(paths.data).all()) >= 1


def test_a_model_is_made_on_top_of_a_tuned_one_and_its_recipe_knows_both(
    cloud: Training, capsys: Captured, training: Path
) -> None:
    cloud.ending([])
    parent = "ft:gpt-4o-mini-2024-07-18:org:first:abc"
    output(
        capsys,
        "launch",
        "--train",
        str(training),
        "--provider",
        "openai",
        "--model",
        parent,
        "--yes",
        "--follow",
    )
    (told,) = output(capsys, "recipes")
    assert (told["base"], told["parent"]) == ("gpt-4o-mini-2024-07-18", parent)
    assert main(["launch", "--recipe", told["path"], "--provider", "local", "--yes"]) == 0
    assert f"continued {parent}, which is not there" in capsys.readouterr().err


def test_jobs_of_an_account_are_imported(cloud: Training, capsys: Captured) -> None:
    cloud.jobs["old"] = FineTuningJob("old", "succeeded", "gpt-4.1-2025-04-14", 4, fine_tuned_model="ft:x:y")
    report = output(capsys, "jobs", "--import", "--provider", "openai")
    assert (report["jobs"], report["models"], len(report["recipes"])) == (1, ["ft:x:y"], 1)


def test_a_followed_job_ends_with_what_its_curve_says(
    cloud: Training, capsys: Captured, training: Path, tmp_path: Path
) -> None:
    cloud.ending([])
    held_back = tmp_path / "held.jsonl"
    held_back.write_bytes(training.read_bytes())
    assert (
        main(["launch", "--train", str(training), "--validation", str(held_back), "--yes", "--follow"]) == 0
    )
    assert "validation is too small" in capsys.readouterr().err


def test_a_launch_that_has_no_job_is_given_up_by_cancel(
    cloud: Training, capsys: Captured, training: Path, paths: Paths
) -> None:
    from tunedesk.errors import ProviderError

    cloud.lose("upload", ProviderError("no", status=401), carried_out=False)
    assert main(["launch", "--train", str(training), "--yes"]) == 1
    bench = Workbench(paths)
    (launch,) = bench.store.launches()
    bench.store.close()
    assert output(capsys, "cancel", launch.id) == {"launch": launch.id, "state": "abandoned"}


def test_the_same_launch_given_twice_is_one_job_until_it_has_ended(
    cloud: Training, capsys: Captured, training: Path
) -> None:
    arguments = ["launch", "--train", str(training), "--provider", "openai", "--yes"]
    first = output(capsys, *arguments)
    assert output(capsys, *arguments)["job"] == first["job"]
    assert output(capsys, *arguments, "--epochs", "3")["job"] != first["job"]
    assert output(capsys, *arguments, "--again", "1")["job"] != first["job"]
    assert cloud.calls.count("create_job") == 3
    for status, job in (("succeeded", "ftjob-3"), ("failed", "ftjob-4")):
        for made in cloud.jobs.values():
            cloud.jobs[made.id] = replace(made, status=status)
        assert output(capsys, *arguments)["job"] == job, status


def test_a_request_that_got_no_answer_is_sent_anew_only_when_no_list_shows_its_job(
    cloud: Training, capsys: Captured, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.jobs.launching.LOOKS", (0.0,))
    monkeypatch.setattr("tunedesk.jobs.asking.SETTLED", 0.0)
    arguments = ["launch", "--train", str(training), "--provider", "openai", "--yes"]
    cloud.lose("create_job", carried_out=False)
    assert main(arguments) == 1
    assert "looks once more" in capsys.readouterr().err
    assert cloud.calls.count("create_job") == 1
    assert output(capsys, *arguments)["job"] == "ftjob-1"
    cloud.lose("create_job", carried_out=False)
    assert main([*arguments, "--seed", "8"]) == 1
    assert output(capsys, *arguments, "--seed", "8", "--resend")["job"] == "ftjob-2"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let the interrupt through: a shell has it ignored by what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_launch_or_tail_says_how_to_go_on(
    cloud: Training, capsys: Captured, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.jobs.asking.SETTLED", 0.0)

    def interrupting(call: str) -> Callable[[], None]:
        def moment() -> None:
            if cloud.calls[-1] == call:
                cloud.moment = lambda: None
                signal.raise_signal(signal.SIGINT)

        return moment

    launch = ["launch", "--train", str(training), "--yes"]
    cloud.moment = interrupting("upload")
    assert main(launch) == 130
    told = capsys.readouterr().err
    assert "the same command goes on with launch-" in told
    assert "tunedesk cancel launch-" in told
    job = output(capsys, *launch)["job"]
    cloud.moment = interrupting("events")
    assert main(["tail", job]) == 130
    assert f"tunedesk tail {job}" in capsys.readouterr().err


def test_several_recipes_are_a_queue_each_at_its_own_provider(
    cloud: Training, capsys: Captured, training: Path, tmp_path: Path
) -> None:
    from tunedesk.core.lineage import Recipe, RecipeFile, to_toml

    cloud.ending([2.0, 1.0])
    digest = hashlib.sha256(training.read_bytes()).hexdigest()
    paths = []
    for provider, base in (("openai", "gpt-4o-mini-2024-07-18"), ("local", "SmolLM2-135M-Instruct")):
        paths.append(tmp_path / f"{provider}.toml")
        recipe = Recipe("ft:x", base, provider=provider, training=RecipeFile(str(training), digest))
        paths[-1].write_text(to_toml(recipe))
    assert main(["launch", "--recipe", str(paths[0]), "--recipe", str(paths[1]), "--yes", "--json"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    told = [(row["provider"], row["state"]) for row in rows[:2]]
    assert told == [("openai", "succeeded"), ("local", "succeeded")]
    assert rows[2]["provider"] == "local"
    assert f"sha256 {digest[:16]}" in captured.err
    assert "warnings left" in captured.err


def test_listing_jobs_finds_the_one_whose_answer_was_lost(
    cloud: Training, capsys: Captured, training: Path
) -> None:
    from tunedesk.errors import ProviderError

    cloud.lose("create_job")
    cloud.lose("jobs", ProviderError("gone", retryable=True, code="unreachable"))
    launch = ["launch", "--train", str(training), "--provider", "openai", "--yes"]
    assert main(launch) == 1
    assert main(["jobs", "--provider", "openai"]) == 0
    assert "unfinished" not in capsys.readouterr().err
    assert output(capsys, *launch)["job"] == "ftjob-1"


def test_each_line_of_a_tail_says_what_it_is(cloud: Training, capsys: Captured, training: Path) -> None:
    cloud.ending([])
    job = output(capsys, "launch", "--train", str(training), "--yes")["job"]
    assert main(["tail", job, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["type"] for row in rows} == {"job", "event", "point"}
    assert [row["kind"] for row in rows if row["type"] == "event"] == ["metrics"]


def test_before_a_launch_all_that_matters_is_said(
    cloud: Training, capsys: Captured, tmp_path: Path, training: Path
) -> None:
    personal = tmp_path / "personal.jsonl"
    said = [
        {"role": "user", "content": "write to anna.smith@gmail.com"},
        {"role": "assistant", "content": "yes"},
    ]
    personal.write_text("".join(json.dumps({"messages": said, "n": n}) + "\n" for n in range(12)))
    files = ["--train", str(personal), "--validation", str(training)]
    assert main(["launch", *files, "--provider", "openai", "--epochs", "2"]) == 2
    told = capsys.readouterr().err
    for words in (
        "personal.jsonl", "train.jsonl", hashlib.sha256(personal.read_bytes()).hexdigest()[:16],
        "personal data in 12 messages would be sent", "n_epochs 2", "prices of 20", "stop on 2027-01-14",
        "train it on this machine instead: --provider local", "add --yes",
    ):  # fmt: skip
        assert words in told
    assert main(["launch", *files, "--provider", "nebius", "--model", "other"]) == 2
    assert "no price of other" in capsys.readouterr().err
    assert main(["launch", *files]) == 2
    told = capsys.readouterr().err
    assert "free: it trains on this machine" in told
    assert "would be trained on" in told
    assert cloud.calls == []


def test_a_closed_provider_is_told_before_anything_is_prepared(
    cloud: Training, capsys: Captured, training: Path, paths: Paths
) -> None:
    (paths.config / "profiles.toml").write_text('[openai]\ncloses = "2026-01-01"\n')
    for command in (["run", str(training)], ["launch", "--train", str(training)]):
        assert main([*command, "--provider", "openai", "--yes"]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "takes no new jobs since 2026-01-01" in captured.err
        assert "--provider local" in captured.err
    assert cloud.calls == []
