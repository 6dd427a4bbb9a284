"""Exactly one job for each launch, whatever answer is lost."""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tests.job_rig import CLOUD, HERE, service
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters
from tunedesk.errors import JobError, ProviderError, UsageError
from tunedesk.jobs import (
    LAUNCH_KEY,
    JobService,
    LaunchRequest,
    new_launch_id,
    unsettled,
)
from tunedesk.jobs.launching import _locked
from tunedesk.paths import Paths
from tunedesk.providers.base import UNREACHABLE
from tunedesk.store import Store
from tunedesk.store.jobs import ADOPTED, CREATE_SENT, INTENT, VALIDATION_UPLOADED

DOUBT = [
    ProviderError("no answer in time", retryable=True, code="timeout"),
    ProviderError("the connection broke", retryable=True, code="broken"),
    ProviderError("failed", retryable=True, status=503),
    ProviderError("garbled", retryable=True, code="garbled"),
    ProviderError("conflict", retryable=True, status=409),
]


async def test_a_launch_uploads_both_files_and_creates_one_job_that_names_it(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint(processing=2)
    progress: list[tuple[str, int, int]] = []
    launch = await service(store, endpoint).launch(request_, on_upload=lambda *seen: progress.append(seen))
    assert launch.state == ADOPTED
    (job,) = endpoint.jobs.values()
    assert job.id == launch.job
    assert job.metadata == {LAUNCH_KEY: launch.id}
    assert endpoint.contents[job.training_file] == request_.training.read_bytes()
    assert job.validation_file is not None
    assert endpoint.contents[job.validation_file] == Path(str(request_.validation)).read_bytes()
    assert [name.split("-")[0] for name, _, _ in progress] == ["train", "validation"]
    known = store.job(job.id)
    assert known is not None
    assert known.profile == "cloud"


async def test_the_intent_is_durable_before_anything_is_sent(paths: Paths, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    seen: list[str] = []

    def look() -> None:
        with Store(paths.store) as other:
            seen.append(other.launches()[0].state)

    endpoint.moment = look
    with Store(paths.store) as store:
        await service(store, endpoint).launch(request_)
    states = dict(zip(endpoint.calls, seen[::2], strict=False))
    assert states["files"] == INTENT or seen[0] == INTENT
    assert seen[-1] == seen[-2] == CREATE_SENT
    assert endpoint.calls[-1] == "create_job"


@pytest.mark.parametrize("lost", DOUBT, ids=lambda e: e.code or str(e.status))
@pytest.mark.parametrize("profile", [CLOUD, HERE], ids=["cloud", "local"])
@pytest.mark.parametrize("filters", [True, False], ids=["filter honoured", "filter ignored"])
async def test_a_lost_answer_to_the_job_request_makes_no_second_job(
    store: Store, request_: LaunchRequest, lost: ProviderError, profile: Profile, filters: bool
) -> None:
    endpoint = Endpoint(honours_keys=profile.is_local, honours_metadata_filter=filters)
    jobs = service(store, endpoint, profile)
    other = await jobs.launch(replace(request_, launch=new_launch_id()))
    endpoint.lose("create_job", lost)
    launch = await jobs.launch(request_)
    assert len(endpoint.jobs) == 2
    assert launch.job not in (None, other.job)
    assert endpoint.calls.count("create_job") == 2


async def test_every_upload_answer_lost_makes_no_second_upload(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    for error in DOUBT[:2]:
        endpoint.lose("upload", error)
    await service(store, endpoint).launch(request_)
    assert len(endpoint.files) == 2
    assert endpoint.calls.count("upload") == 2


async def test_an_upload_that_never_arrived_is_sent_again_only_when_asked_again(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("upload", carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(JobError, match="does not list it"):
        await jobs.launch(request_)
    assert endpoint.calls.count("upload") == 1
    await jobs.launch(request_)
    assert len(endpoint.files) == 2
    assert len(endpoint.jobs) == 1


async def test_a_request_that_no_list_shows_is_not_sent_again_to_a_paid_provider_without_the_users_word(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job", carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(JobError, match="lists no job of it") as caught:
        await jobs.launch(request_)
    assert caught.value.hint
    with pytest.raises(JobError):
        await jobs.carry_out(request_.launch)
    assert endpoint.calls.count("create_job") == 1
    launch = await jobs.carry_out(request_.launch, again=True)
    assert len(endpoint.jobs) == 1
    assert launch.job is not None


async def test_launched_again_a_request_without_a_job_waits_until_its_job_would_be_listed(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job", carried_out=False)
    with pytest.raises(JobError):
        await service(store, endpoint).launch(request_)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    launch = await JobService(store, ScriptedProvider(endpoint), pause=wait).launch(request_)
    assert launch.job == "ftjob-1"
    assert 50 < waits[0] <= 60
    assert len(endpoint.jobs) == 1


async def test_a_clock_that_jumps_never_makes_a_launch_wait_longer(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job", carried_out=False)
    with pytest.raises(JobError):
        await service(store, endpoint).launch(request_)
    launch = store.launch(request_.launch)
    assert launch is not None
    assert unsettled(replace(launch, sent_at=launch.sent_at + 1e9)) == 60.0
    assert unsettled(replace(launch, sent_at=0.0)) == 0.0
    assert unsettled(replace(launch, state="adopted")) is None


async def test_our_own_engine_is_asked_again_since_it_honours_the_key(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint(honours_keys=True)
    endpoint.lose("create_job", carried_out=False)
    launch = await service(store, endpoint, HERE).launch(request_)
    assert launch.job == "ftjob-1"
    assert len(endpoint.jobs) == 1


async def test_a_job_that_the_list_shows_late_is_still_found(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    jobs = service(store, endpoint)
    hidden: dict[str, FineTuningJob] = {}
    endpoint.lose("create_job")
    looks = 0

    def moment() -> None:
        nonlocal looks
        if endpoint.calls[-1] == "jobs":
            looks += 1
            if looks == 1:
                hidden.update(endpoint.jobs)
                endpoint.jobs.clear()
            elif looks == 5:
                endpoint.jobs.update(hidden)

    endpoint.moment = moment
    launch = await jobs.launch(request_)
    assert launch.job == "ftjob-1"
    assert len(endpoint.jobs) == 1


async def test_a_provider_that_keeps_no_metadata_is_searched_by_file_and_time(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    profile = replace(CLOUD, takes_metadata=False)
    jobs = service(store, endpoint, profile)
    first = await jobs.launch(replace(request_, launch=new_launch_id()))
    endpoint.lose("create_job")
    second = await jobs.launch(request_)
    assert {first.job, second.job} == set(endpoint.jobs) == {"ftjob-1", "ftjob-2"}


@pytest.mark.parametrize("reused", [False, True], ids=["fresh file", "reused file"])
async def test_where_metadata_is_dropped_the_job_is_found_by_its_file_whatever_the_clocks_say(
    store: Store, request_: LaunchRequest, monkeypatch: pytest.MonkeyPatch, reused: bool
) -> None:
    endpoint = Endpoint(honours_metadata_filter=False)
    jobs = service(store, endpoint)
    if reused:
        await jobs.launch(replace(request_, launch=new_launch_id()))
        endpoint.jobs["made elsewhere"] = replace(endpoint.jobs["ftjob-1"], id="made elsewhere", metadata={})
    monkeypatch.setattr("tunedesk.jobs.launching.time.time", lambda: 4_000_000_000.0)

    def forgetful() -> None:
        endpoint.jobs |= {one.id: replace(one, metadata={}) for one in endpoint.jobs.values()}

    endpoint.moment = forgetful
    endpoint.lose("create_job")
    launch = await service(store, endpoint).launch(request_)
    made = f"ftjob-{len(endpoint.jobs)}"
    assert launch.job == made
    assert len(endpoint.jobs) == (3 if reused else 1)


async def test_when_the_jobs_before_cannot_be_listed_now_nothing_is_sent(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
    endpoint.lose("jobs")
    with pytest.raises(ProviderError):
        await service(store, endpoint).launch(request_)
    assert len(endpoint.jobs) == 1
    endpoint.lose("jobs", ProviderError("not with this key", status=403))
    assert (await service(store, endpoint).launch(request_)).job == "ftjob-2"


@pytest.mark.parametrize(
    "error",
    [ProviderError("no", status=401), ProviderError("slow", status=429, retryable=True, retry_after=3),
     ProviderError("closed", status=403, code="training_not_available"),
     ProviderError("gone", retryable=True, code=UNREACHABLE)],
)  # fmt: skip
async def test_a_clear_refusal_is_told_and_the_launch_can_be_sent_again(
    store: Store, request_: LaunchRequest, error: ProviderError
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job", error, carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(ProviderError) as caught:
        await jobs.launch(request_)
    assert caught.value is error
    known = store.launch(request_.launch)
    assert known is not None
    assert (known.state, known.error) == (VALIDATION_UPLOADED, error.message)
    assert "jobs" not in endpoint.calls
    launch = await jobs.launch(request_)
    assert launch.job == "ftjob-1"
    assert endpoint.calls.count("upload") == 2


async def test_when_not_even_the_list_answers_nothing_is_sent_and_the_next_try_looks_first(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job")
    endpoint.lose("jobs", ProviderError("gone", retryable=True, code=UNREACHABLE))
    jobs = service(store, endpoint)
    with pytest.raises(JobError, match="cannot be listed"):
        await jobs.launch(request_)
    assert await jobs.reconcile() == []
    known = store.launch(request_.launch)
    assert known is not None
    assert known.job == "ftjob-1"
    assert len(endpoint.jobs) == 1


async def test_reconcile_never_creates(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    jobs = service(store, endpoint)
    jobs.prepare(request_)
    endpoint.lose("create_job", carried_out=False)
    other = replace(request_, launch=new_launch_id())
    with pytest.raises(JobError):
        await jobs.launch(other)
    endpoint.calls.clear()
    assert {launch.id for launch in await jobs.reconcile()} == {request_.launch, other.launch}
    assert set(endpoint.calls) == {"jobs"}


async def test_a_provider_that_has_closed_is_sent_nothing_and_the_way_out_is_named(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    closing = replace(CLOUD, closes="2027-01-06")
    provider = ScriptedProvider(endpoint, closing)
    day = date(2027, 1, 5)
    jobs = JobService(store, provider, pause=no_pause, today=lambda: day)
    jobs.prepare(request_)
    day = date(2027, 1, 7)
    for launch in (request_, replace(request_, launch=new_launch_id())):
        with pytest.raises(ProviderError, match="since 2027-01-06") as caught:
            await jobs.launch(launch)
        assert "--provider local" in caught.value.hint
    assert endpoint.calls == []


async def test_a_job_made_before_the_closing_is_still_found_after_it(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    endpoint.lose("create_job")
    endpoint.lose("jobs", ProviderError("gone", retryable=True, code=UNREACHABLE))
    provider = ScriptedProvider(endpoint, replace(CLOUD, closes="2027-01-06"))
    day = date(2027, 1, 5)
    jobs = JobService(store, provider, pause=no_pause, today=lambda: day)
    with pytest.raises(JobError):
        await jobs.launch(request_)
    day = date(2027, 1, 7)
    assert (await jobs.launch(request_)).job == "ftjob-1"


def rate(number: float) -> Hyperparameters:
    return Hyperparameters(learning_rate_multiplier=number)


@pytest.mark.parametrize(
    ("change", "asked", "words"),
    [
        ({"suffix_limit": 3}, {}, "1 to 3 characters"),
        ({"absolute_learning_rate": True}, {"hyperparameters": rate(1.5)}, "too high"),
        ({}, {"hyperparameters": rate(2e-5)}, "train nothing"),
    ],
)  # fmt: skip
async def test_what_the_provider_would_misread_is_refused_before_anything_is_written(
    store: Store, request_: LaunchRequest, change: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    jobs = service(store, Endpoint(), replace(CLOUD, **change))
    with pytest.raises(UsageError, match=words):
        jobs.prepare(replace(request_, **asked))
    assert store.launches() == []


async def test_a_provider_that_cannot_pause_is_not_asked_to(store: Store) -> None:
    endpoint = Endpoint()
    with pytest.raises(UsageError, match="cannot pause"):
        await service(store, endpoint, replace(CLOUD, pauses=False)).pause("j")
    assert endpoint.calls == []


async def test_a_launch_stays_with_its_provider_and_key(store: Store, request_: LaunchRequest) -> None:
    service(store, Endpoint()).prepare(request_)
    with pytest.raises(JobError, match="belongs to cloud"):
        await service(store, Endpoint(), HERE).carry_out(request_.launch)
    with pytest.raises(JobError, match="another key"):
        await service(store, Endpoint(), CLOUD, "…other").carry_out(request_.launch)
    with pytest.raises(JobError, match="no launch"):
        await service(store, Endpoint()).carry_out("launch-unknown")


async def test_two_programs_never_carry_out_the_same_launch_at_once(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    jobs = service(store, endpoint)
    jobs.prepare(request_)
    folder = store.path.parent / "locks"
    folder.mkdir()
    held = os.open(folder / f"{request_.launch}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(JobError, match="another tunedesk"):
        await jobs.launch(request_)
    os.close(held)
    await jobs.launch(request_)
    assert len(endpoint.jobs) == 1
    assert list(folder.iterdir()) == []


async def test_cancel_pause_and_resume_survive_a_lost_answer(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    jobs = service(store, endpoint)
    assert (await jobs.pause("j")).status == "paused"
    assert (await jobs.resume("j")).status == "running"
    endpoint.lose("cancel")
    assert (await jobs.cancel("j")).status == "cancelled"
    assert [known.job.status for known in jobs.known_jobs()] == ["cancelled"]
    endpoint.lose("cancel", ProviderError("no", status=401))
    with pytest.raises(ProviderError):
        await jobs.cancel("j")


async def test_jobs_made_elsewhere_become_known(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["theirs"] = FineTuningJob("theirs", "succeeded", created_at=4)
    assert [known.job.id for known in await service(store, endpoint).refresh()] == ["theirs"]


def test_a_lock_counts_only_on_the_file_that_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "launch.lock"
    held = _locked(path)
    assert held is not None
    assert _locked(path) is None
    flock = fcntl.flock
    late: list[int] = []

    def meanwhile(descriptor: int, how: int) -> None:
        """The holder ends, and takes its file away, between our opening the file and our locking it."""
        if not late:
            late.append(descriptor)
            path.unlink()
            os.close(held)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    mine = _locked(path)
    assert mine is not None
    assert path.stat().st_ino == os.fstat(mine).st_ino
    os.close(mine)


async def test_two_programs_that_ask_for_the_same_at_the_same_moment_make_one_launch(
    paths: Paths, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    asked = [replace(request_, launch=new_launch_id()) for _ in range(4)]
    stores = [Store(paths.store) for _ in asked]
    begun = await asyncio.gather(
        *(service(store, endpoint).begin(one) for store, one in zip(stores, asked, strict=True))
    )
    assert len({launch.id for launch, _ in begun}) == 1
    assert sorted(there for _, there in begun) == [False, True, True, True]
    another = replace(request_, launch=new_launch_id())
    fresh, there = await service(stores[0], endpoint).begin(another, again=True)
    assert (fresh.id, there) == (another.launch, False)
    for store in stores:
        store.close()
