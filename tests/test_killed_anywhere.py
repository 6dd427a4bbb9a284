"""Killed at a durable call of the real program, with the real engine beside it, and started again.

Whatever the call, there is one job and one upload of each file, the job is found again, and no event is missing or
double. Some calls are tried in every run, all of them with `-m slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from tests.death_rig import COMPILER, Alone, Life, Nursery, Place, deaths, shared_engine
from tests.engine.rig import base_model

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for the shim")
NewPlace = Callable[[], Place]
SOME = {"launch": (30,), "upload": (6,), "queue": (45,)}
"""Calls that are tried in every run: in the middle of what each command makes durable."""


@pytest.fixture(scope="module")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewPlace]:
    folder = tmp_path_factory.mktemp("killed")
    numbers = count(1)
    with shared_engine(folder) as engine:
        nursery = Nursery(folder)
        yield lambda: Place(folder / f"home-{next(numbers)}", nursery, engine)
        nursery.close()


def sweep(points: Sequence[int] | None, new_place: NewPlace, live: Callable[[Place, int], bool]) -> int:
    """Let `live` die at each point and live again; return how many times it died."""
    died = 0
    for number in deaths(points):
        place = new_place()
        if not live(place, number):
            break
        died += 1
    return died


def launching(place: Place, dies_at: int, *, parts: bool = False) -> bool:
    if parts:
        (place.home / "config").mkdir(mode=0o700)
        (place.home / "config" / "profiles.toml").write_text("[local]\nuploads_above = 1\n")
    training, validation = place.training("train", str(place.home)), place.training("valid", f"v{place.home}")
    command = (
        "tunedesk", "launch", "--train", str(training), "--validation", str(validation), "--model", "tiny",
        "--provider", "local", "--yes", "--follow",
    )  # fmt: skip
    first = place.run(*command, dies_at=dies_at)
    if first.status == 0:
        return False
    again = place.run(*command)
    for name in {word for word in first.stdout.split() if word.startswith("ftjob-")}:
        assert name in again.stdout, "a job that was told is the job"
    files = place.files_there(training, validation)
    assert [len(ids) for ids in files] == [1, 1]
    (job,) = place.jobs_there(files[0][0])
    place.check_told(job.id)
    listed = place.run("tunedesk", "jobs", "--provider", "local")
    assert "unfinished" not in listed.stderr
    assert job.id in listed.stdout
    return True


def uploading(place: Place, dies_at: int) -> bool:
    file = place.training("train", str(place.home))
    command = ("upload", str(file))
    if place.run(*command, dies_at=dies_at).status == 0:
        return False
    told = place.run(*command).stdout.strip()
    assert place.files_there(file) == [[told]]
    return True


def sweeping(place: Place, dies_at: int) -> bool:
    training = place.training("train", str(place.home))
    command = (
        "tunedesk", "launch", "--train", str(training), "--model", "tiny", "--provider", "local", "--yes",
        "--sweep", "epochs=1,2", "--json",
    )  # fmt: skip
    if place.run(*command, dies_at=dies_at).status == 0:
        return False
    again = place.run(*command)
    assert again.stdout.count('"state": "succeeded"') == 3, "two rows, and the best of them again"
    ((file,),) = place.files_there(training)
    jobs = place.jobs_there(file)
    assert sorted(job.hyperparameters.n_epochs for job in jobs) == [1, 2]
    for job in jobs:
        place.check_told(job.id)
    return True


def queueing(place: Place, dies_at: int) -> bool:
    files = [place.training(name, f"{name} {place.home}") for name in ("one", "two")]
    command = ("queue", *map(str, files))
    if place.run(*command, dies_at=dies_at).status == 0:
        return False
    place.run(*command)
    for ids in place.files_there(*files):
        (file,) = ids
        (job,) = place.jobs_there(file)
        place.check_told(job.id)
    return True


def in_parts(place: Place, dies_at: int) -> bool:
    return launching(place, dies_at, parts=True)


def engine_dies(person: Alone) -> bool:
    """Launch and follow until the job is done, while the engine dies once; whether it did."""
    training, validation = person.training("train", "t"), person.training("valid", "v")
    command = (
        "tunedesk", "launch", "--train", str(training), "--validation", str(validation), "--model", "tiny",
        "--provider", "local", "--yes", "--follow",
    )  # fmt: skip
    try:
        told: list[Life] = []
        while not told or (told[-1].status and len(told) < 4):
            told.append(person.run(*command))
        assert told[-1].status == 0, "\n".join(one.stderr for one in told)
        assert all("hint: " in one.stderr for one in told[:-1]), "a life that ends says how to go on"
        files = person.files_there(training, validation)
        assert [len(ids) for ids in files] == [1, 1]
        (job,) = person.jobs_there(files[0][0])
        person.check_told(job.id)
        assert len(list(person.client.fine_tuning.jobs.list())) == 1
        return person.has_died
    finally:
        person.stop()


LIVES = {"launch": launching, "parts": in_parts, "upload": uploading, "sweep": sweeping, "queue": queueing}


@pytest.mark.parametrize("name", SOME)
def test_killed_in_the_middle_there_is_one_job_and_one_upload(name: str, new_place: NewPlace) -> None:
    assert sweep(SOME[name], new_place, LIVES[name]) == len(SOME[name])


@pytest.mark.parametrize("call", [60])
def test_the_engine_killed_in_the_middle_comes_back_with_one_job_and_each_event_once(
    tmp_path: Path, call: int
) -> None:
    base_model(tmp_path / "models")
    nursery = Nursery(tmp_path)
    try:
        assert engine_dies(Alone(tmp_path / "home", nursery, tmp_path / "models", call))
    finally:
        nursery.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_engine_killed_at_every_durable_call_comes_back_with_one_job_and_each_event_once(
    tmp_path: Path,
) -> None:
    base_model(tmp_path / "models")
    nursery, call = Nursery(tmp_path), 0
    try:
        while engine_dies(Alone(tmp_path / f"home-{call}", nursery, tmp_path / "models", call := call + 1)):
            pass
    finally:
        nursery.close()
    assert call > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LIVES)
def test_killed_at_every_durable_call_there_is_one_job_and_one_upload(name: str, new_place: NewPlace) -> None:
    assert sweep(None, new_place, LIVES[name]) > 10
