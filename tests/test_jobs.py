"""Exactly one job for each launch, whatever is lost and wherever the process dies; a tail without gap or double."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, Killed, ScriptedProvider, no_pause
from tunedesk import db
from tunedesk.config import LOCAL, Profile
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters, JobEvent
from tunedesk.errors import JobError, ProviderError, UsageError
from tunedesk.jobs import (
    LAUNCH_KEY,
    CheckpointSeen,
    EventSeen,
    JobChanged,
    JobService,
    LaunchRequest,
    PointSeen,
    PollFailed,
    Update,
    new_launch_id,
)
from tunedesk.paths import Paths
from tunedesk.providers.base import UNREACHABLE
from tunedesk.store import MIGRATIONS, Store
from tunedesk.store.database import Database
from tunedesk.store.jobs import ABANDONED, ADOPTED, CREATE_SENT, INTENT, VALIDATION_UPLOADED

CLOUD = Profile(name="cloud", base_url="https://cloud.test/v1")
HERE = Profile(name=LOCAL, base_url="")
DOUBT = [
    ProviderError("no answer in time", retryable=True, code="timeout"),
    ProviderError("the connection broke", retryable=True, code="broken"),
    ProviderError("failed", retryable=True, status=503),
    ProviderError("garbled", retryable=True, code="garbled"),
    ProviderError("conflict", retryable=True, status=409),
]


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    training, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    training.write_text('{"messages": []}\n' * 30)
    validation.write_text('{"messages": [1]}\n' * 8)
    return LaunchRequest("base", training, validation, suffix="bank", seed=7, launch=new_launch_id())


def service(store: Store, endpoint: Endpoint, profile: Profile = CLOUD, account: str = "…test") -> JobService:
    return JobService(store, ScriptedProvider(endpoint, profile, account), pause=no_pause)


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
        await jobs.launch(request_)
    assert endpoint.calls.count("create_job") == 1
    launch = await jobs.carry_out(request_.launch, again=True)
    assert len(endpoint.jobs) == 1
    assert launch.job is not None


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


async def test_the_same_bytes_are_uploaded_once_even_with_an_empty_store(
    store: Store, tmp_path: Path, request_: LaunchRequest
) -> None:
    endpoint = Endpoint()
    await service(store, endpoint).launch(request_)
    await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
    with Store(tmp_path / "elsewhere" / "other.sqlite3") as fresh:
        await service(fresh, endpoint).launch(replace(request_, launch=new_launch_id()))
    assert endpoint.calls.count("upload") == 2
    assert len(endpoint.jobs) == 3


async def test_another_key_of_the_same_profile_is_another_account_with_other_files(
    store: Store, request_: LaunchRequest
) -> None:
    ours, theirs = Endpoint(), Endpoint()
    await service(store, ours).launch(request_)
    again = replace(request_, launch=new_launch_id())
    launch = await service(store, theirs, account="…other").launch(again)
    assert theirs.calls.count("upload") == 2
    assert "file" not in theirs.calls, "no file of the first account is asked for with the other key"
    await service(store, ours).launch(replace(request_, launch=new_launch_id()))
    assert ours.calls.count("upload") == 2
    assert launch.training.file in theirs.files


async def test_an_upload_that_was_broken_off_goes_on_after_a_restart(
    store: Store, request_: LaunchRequest
) -> None:
    endpoint = Endpoint(part_bytes=200)
    endpoint.lose("part", ProviderError("no", status=401), carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(ProviderError):
        await jobs.launch(request_)
    await service(store, endpoint).launch(request_)
    assert endpoint.calls.count("open_upload") == 2, "one for each file"
    assert b"".join(endpoint.uploads["up-1"]) == request_.training.read_bytes()


async def test_a_launch_is_given_up_with_its_half_upload(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint(part_bytes=200)
    endpoint.lose("part", ProviderError("no", status=401), carried_out=False)
    jobs = service(store, endpoint)
    with pytest.raises(ProviderError):
        await jobs.launch(request_)
    assert (await jobs.abandon(request_.launch)).state == ABANDONED
    assert endpoint.uploads == {}
    assert await jobs.reconcile() == []
    with pytest.raises(JobError, match="given up"):
        await jobs.carry_out(request_.launch)
    done = await jobs.launch(replace(request_, launch=new_launch_id()))
    with pytest.raises(JobError, match="cannot be given up"):
        await jobs.abandon(done.id)


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


async def test_a_file_that_was_deleted_there_is_uploaded_again(store: Store, request_: LaunchRequest) -> None:
    endpoint = Endpoint()
    await service(store, endpoint).launch(request_)
    endpoint.files.clear()
    await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
    assert endpoint.calls.count("upload") == 4


async def test_a_file_that_changed_after_the_intent_is_not_sent(
    store: Store, request_: LaunchRequest
) -> None:
    jobs = service(store, Endpoint())
    jobs.prepare(request_)
    request_.training.write_text("other\n")
    with pytest.raises(JobError, match="has changed"):
        await jobs.launch(request_)


async def test_a_file_that_arrives_short_or_is_refused_stops_the_launch(
    store: Store, request_: LaunchRequest
) -> None:
    for change, words in (({"bytes": 5}, "5 of"), ({"status": "error"}, "could not process")):
        endpoint = Endpoint(processing=2)

        def spoil(endpoint: Endpoint = endpoint, change: dict[str, Any] = change) -> None:
            if endpoint.calls[-1] == "file":
                endpoint.files = {
                    k: replace(f, **{"status": "processed", **change}) for k, f in endpoint.files.items()
                }

        endpoint.moment = spoil
        with pytest.raises(JobError, match=words):
            await service(store, endpoint).launch(replace(request_, launch=new_launch_id()))
        assert not endpoint.jobs


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


class MortalDatabase(Database):
    """A database in which the process may die just before and just after each commit."""

    moment: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def writing(self) -> Iterator[db.Connection]:
        with super().writing() as connection:
            yield connection
            self.moment()
        self.moment()


class Life:
    """Counts the moments of one process's life and ends it at the chosen one."""

    def __init__(self, dies_at: int | None) -> None:
        self.left = dies_at

    def moment(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Killed


async def live(path: Path, endpoint: Endpoint, profile: Profile, request: LaunchRequest, life: Life) -> None:
    """One process: open the store, launch, die or not."""
    store = Store(path)
    mortal = MortalDatabase(path, MIGRATIONS)
    store.database.close()
    store.database = mortal
    mortal.moment = endpoint.moment = life.moment
    try:
        await service(store, endpoint, profile).launch(request)
    finally:
        mortal.close()


@pytest.mark.parametrize("parts", [0, 200], ids=["whole", "in parts"])
@pytest.mark.parametrize("profile", [CLOUD, HERE], ids=["cloud", "local"])
async def test_killed_at_any_moment_of_a_launch_and_started_again_there_is_one_job(
    paths: Paths, request_: LaunchRequest, profile: Profile, parts: int
) -> None:
    moments = 0
    for dies_at in range(1, 200):
        path = paths.data / f"{dies_at}" / "store.sqlite3"
        path.parent.mkdir()
        endpoint = Endpoint(honours_keys=profile.is_local, part_bytes=parts)
        try:
            await live(path, endpoint, profile, request_, Life(dies_at))
        except Killed:
            moments += 1
        else:
            break
        try:
            await live(path, endpoint, profile, request_, Life(None))
        except JobError:
            assert not profile.is_local
            assert not endpoint.jobs, "only a request that made no job may be left to the user"
            with Store(path) as store:
                await service(store, endpoint, profile).carry_out(request_.launch, again=True)
        assert len(endpoint.jobs) == 1
        assert len(endpoint.files) == 2
        assert endpoint.calls.count("part") <= 5, "one part may be sent twice, where its answer was lost"
        with Store(path) as store:
            known = store.launch(request_.launch)
            assert known is not None
            assert known.job == "ftjob-1"
    assert moments > 20


def event(number: int, *, loss: float | None = None, at: int | None = None) -> JobEvent:
    data: dict[str, Any] = {} if loss is None else {"step": number, "total_steps": 500, "train_loss": loss}
    kind = "message" if loss is None else "metrics"
    return JobEvent(f"ev-{number:04}", number if at is None else at, f"event {number}", type=kind, data=data)


async def told(jobs: JobService, limit: int = 10_000) -> list[Update]:
    updates: list[Update] = []
    async for update in jobs.tail("j"):
        updates.append(update)
        if len(updates) >= limit:
            break
    return updates


def ids(updates: list[Update]) -> list[str]:
    return [u.event.id for u in updates if isinstance(u, EventSeen)]


@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("page", [1, 7, 100])
async def test_a_tail_tells_every_event_once_and_in_order_whatever_the_pages(
    store: Store, oldest_first: bool, page: int
) -> None:
    endpoint = Endpoint(oldest_first=oldest_first, page_size=page)
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.events["j"] = [event(n, loss=5 / n) for n in range(1, 24)]
    looks = 0

    def grow() -> None:
        nonlocal looks
        if endpoint.calls[-1] == "job":
            looks += 1
            if looks % 2:
                start = len(endpoint.events["j"]) + 1
                endpoint.events["j"] += [event(n, loss=5 / n) for n in range(start, start + 17)]
            if looks == 8:
                endpoint.jobs["j"] = FineTuningJob("j", "succeeded", fine_tuned_model="ft:x")

    endpoint.moment = grow
    updates = await told(service(store, endpoint))
    expected = [e.id for e in endpoint.events["j"]]
    assert ids(updates) == expected
    assert [u.point.step for u in updates if isinstance(u, PointSeen)] == list(range(1, len(expected) + 1))
    assert isinstance(updates[-1], JobChanged)
    assert updates[-1].job.fine_tuned_model == "ft:x"


async def test_events_of_the_same_second_that_come_late_are_not_lost(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.events["j"] = [event(3, at=10), event(5, at=11)]

    def late() -> None:
        if endpoint.calls.count("job") == 2:
            endpoint.events["j"] = [event(1, at=10), event(3, at=10), event(4, at=11), event(5, at=11)]
            endpoint.jobs["j"] = FineTuningJob("j", "failed", error="why")

    endpoint.moment = late
    updates = await told(service(store, endpoint))
    assert ids(updates) == ["ev-0003", "ev-0005", "ev-0001", "ev-0004"]
    assert [e.id for e in store.events("cloud", "j")] == ["ev-0001", "ev-0003", "ev-0004", "ev-0005"]


@pytest.mark.parametrize("status", ["paused", "validating_files", "no_such_word"])
async def test_only_three_words_end_a_tail(store: Store, status: str) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", status)

    def end() -> None:
        if endpoint.calls.count("job") == 3:
            endpoint.jobs["j"] = FineTuningJob("j", "cancelled")

    endpoint.moment = end
    updates = await told(service(store, endpoint))
    assert [u.job.status for u in updates if isinstance(u, JobChanged)] == [status, "cancelled"]


@pytest.mark.parametrize("profile", [CLOUD, HERE], ids=["cloud", "local"])
async def test_killed_at_any_moment_of_a_tail_and_started_again_nothing_is_lost_or_doubled(
    paths: Paths, profile: Profile
) -> None:
    moments = 0
    for dies_at in range(1, 200):
        path = paths.data / f"{dies_at}" / "store.sqlite3"
        path.parent.mkdir()
        endpoint = Endpoint(page_size=3)
        endpoint.jobs["j"] = FineTuningJob("j", "running")
        endpoint.events["j"] = [event(n, loss=1 / n) for n in range(1, 9)]
        store = Store(path)
        store.database.close()
        mortal = MortalDatabase(path, MIGRATIONS)
        store.database = mortal
        mortal.moment = endpoint.moment = Life(dies_at).moment
        died = False
        try:
            await told(service(store, endpoint, profile), limit=40 if dies_at < 30 else 17)
        except Killed:
            died = True
        finally:
            mortal.close()
        endpoint.moment = lambda: None
        endpoint.events["j"] += [event(n, loss=1 / n) for n in range(9, 14)]
        endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
        with Store(path) as again:
            updates = await told(service(again, endpoint, profile))
            assert ids(updates) == [e.id for e in endpoint.events["j"]]
            assert [p.step for p in again.points(profile.name, "j")] == list(range(1, 14))
            steps = [u.point.step for u in updates if isinstance(u, PointSeen)]
            assert steps == sorted(set(steps)) == list(range(1, 14))
        if not died:
            break
        moments += 1
    assert moments > 8


async def test_a_tail_goes_on_after_failures_and_obeys_retry_after(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.lose("job", ProviderError("slow down", status=429, retryable=True, retry_after=33))
    endpoint.lose("events")
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    jobs = JobService(store, ScriptedProvider(endpoint), pause=pause)
    updates = [update async for update in jobs.tail("j", interval=2.0)]
    failed = [u for u in updates if isinstance(u, PollFailed)]
    assert [u.error.message for u in failed] == ["slow down", "no answer in time"]
    assert waits[0] == failed[0].retry_in == 33
    assert 2.0 < waits[1] < 12
    assert isinstance(updates[-1], JobChanged)


async def test_a_tail_ends_where_asking_again_cannot_help(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    endpoint.lose("job", ProviderError("no such key", status=401))
    with pytest.raises(ProviderError, match="no such key"):
        await told(service(store, endpoint))


async def test_a_quiet_job_is_asked_less_and_less_often(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            endpoint.jobs["j"] = FineTuningJob("j", "succeeded")

    jobs = JobService(store, ScriptedProvider(endpoint), pause=pause)
    assert [u async for u in jobs.tail("j")]
    assert waits[0] < 6
    assert waits[0] * 2 < waits[-1] < 60


async def test_a_checkpoint_is_told_while_the_job_still_runs_and_once(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "running")
    told = [JobEvent("e1", 1, "m", type="metrics", data={"step": 1, "train_loss": 1.0})]
    endpoint.events["j"] = told
    service = JobService(store, ScriptedProvider(endpoint), pause=no_pause)
    seen: list[str] = []
    async for update in service.tail("j", interval=0):
        if isinstance(update, CheckpointSeen):
            seen.append(update.checkpoint.id)
            endpoint.jobs["j"] = FineTuningJob("j", "succeeded", finished_at=3)
        elif isinstance(update, EventSeen) and update.event.id == "e1":
            endpoint.checkpoints["j"] = [Checkpoint("c1", "m1", 1)]
            told.append(JobEvent("e2", 2, "Checkpoint created at step 1: m1"))
    assert seen == ["c1"]
    again = [update async for update in service.tail("j", interval=0)]
    assert [u.checkpoint.id for u in again if isinstance(u, CheckpointSeen)] == ["c1"]


async def test_without_metrics_events_the_curve_comes_from_checkpoints(store: Store) -> None:
    endpoint = Endpoint()
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded")
    endpoint.events["j"] = [event(1)]
    endpoint.checkpoints["j"] = [Checkpoint("c1", "m1", 10, {"train_loss": 1.0, "valid_loss": 1.2})]
    updates = await told(service(store, endpoint))
    (point,) = [u.point for u in updates if isinstance(u, PointSeen)]
    assert (point.step, point.train_loss, point.valid_loss) == (10, 1.0, 1.2)


@pytest.mark.parametrize(
    "content", [b"step,train_loss\n1,2.5\n2,2.0\n", b"c3RlcCx0cmFpbl9sb3NzCjEsMi41CjIsMi4wCg=="]
)
async def test_without_checkpoints_the_curve_comes_from_the_result_file(store: Store, content: bytes) -> None:
    endpoint = Endpoint(contents={"file-r": content})
    endpoint.jobs["j"] = FineTuningJob("j", "succeeded", result_files=("file-r",))
    endpoint.lose("checkpoints", ProviderError("not here", status=404), carried_out=False)
    updates = await told(service(store, endpoint))
    points = [(u.point.step, u.point.train_loss) for u in updates if isinstance(u, PointSeen)]
    assert points == [(1, 2.5), (2, 2.0)]


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
