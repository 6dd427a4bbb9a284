"""The SDK at our boundary: single requests, words for every failure, nothing leaked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.fakes import Canned, HttpEndpoint, no_pause
from tests.http_rig import JOB, KEY, PROFILE, client, failure
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import (
    Checkpoint,
    FineTuningJob,
    Hyperparameters,
    JobEvent,
    JobRequest,
)
from tunedesk.errors import EngineError, ProviderError
from tunedesk.paths import Paths
from tunedesk.providers import connect
from tunedesk.providers.base import UNREACHABLE, key_fingerprint
from tunedesk.providers.openai_compatible import OpenAICompatible
from tunedesk.store import Store
from tunedesk.terminal import json_text

REQUEST = JobRequest("m", "file-1", "file-2", metadata={"tunedesk_launch": "launch-1"}, suffix="bank", seed=7)


@pytest.mark.parametrize(
    "fault", [failure(500), failure(429), failure(409), Canned(JOB, cut=0), Canned(JOB, cut=9)]
)
async def test_a_job_is_created_with_one_single_request_whatever_happens(
    http: HttpEndpoint, fault: Canned
) -> None:
    http.answer("POST", "/v1/fine_tuning/jobs", fault)
    provider = client(http)
    with pytest.raises(ProviderError) as caught:
        await provider.create_job(REQUEST, idempotency_key="launch-1")
    assert len(http.requests) == 1
    assert caught.value.in_doubt == (fault.status != 429)
    await provider.close()


async def test_a_job_request_carries_the_launch_twice_and_says_only_what_was_asked(
    http: HttpEndpoint,
) -> None:
    http.answer("POST", "/v1/fine_tuning/jobs", Canned(JOB))
    provider = client(http)
    asked = replace(REQUEST, hyperparameters=Hyperparameters(n_epochs=3))
    job = await provider.create_job(asked, idempotency_key="launch-1")
    assert job.id == "ftjob-1"
    sent = http.requests[0]
    assert sent.headers["idempotency-key"] == "launch-1"
    assert json.loads(sent.body) == {
        "model": "m",
        "training_file": "file-1",
        "validation_file": "file-2",
        "suffix": "bank",
        "seed": 7,
        "metadata": {"tunedesk_launch": "launch-1"},
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    }
    await provider.close()


async def test_a_profile_may_want_hyperparameters_at_the_top_and_no_metadata(http: HttpEndpoint) -> None:
    http.answer("POST", "/v1/fine_tuning/jobs", Canned(JOB))
    provider = client(http, replace(PROFILE, hyperparameters_in_method=False, takes_metadata=False))
    asked = replace(REQUEST, hyperparameters=Hyperparameters(batch_size=4))
    await provider.create_job(asked, idempotency_key="k")
    sent = json.loads(http.requests[0].body)
    assert sent["hyperparameters"] == {"batch_size": 4}
    assert "method" not in sent
    assert "metadata" not in sent
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "words", "hint", "retryable"),
    [
        (failure(400), "did not accept", "check", False),
        (failure(401), "does not accept the key", "check the key", False),
        (failure(403), "does not allow", "owner", False),
        (failure(403, "training_not_available"), "does not offer training", "on this machine instead", False),
        (failure(404), "does not know", "name or id", False),
        (failure(409), "in conflict", "wait", True),
        (Canned(b"<html>404</html>", 404, content_type="text/html"), "does not know it", "base URL", False),
        (failure(413), "too large", "smaller", False),
        (failure(429, retry_after="7"), "slow down", "wait 7 s", True),
        (failure(429, "insufficient_quota"), "quota", "billing", False),
        (failure(500), "HTTP 500", "later", True),
        (failure(503), "HTTP 503", "later", True),
        (Canned(b"<html>Bad gateway</html>", 502, content_type="text/html"), "HTTP 502", "later", True),
        (Canned(b'{"id": "ftjob-1", "sta'), "cannot be read", "OpenAI-compatible", True),
        (Canned(b"<html>hello</html>", content_type="text/html"), "cannot be read", "base URL", True),
        (Canned([1, 2]), "cannot be read", "base URL", True),
        (Canned(JOB, cut=0), "broke", "network", True),
    ],
)  # fmt: skip
async def test_every_failure_is_told_in_words_with_a_hint(
    http: HttpEndpoint, answer: Canned, words: str, hint: str, retryable: bool
) -> None:
    http.answer("GET", "/v1/fine_tuning/jobs/ftjob-1", answer)
    provider = client(http)
    with pytest.raises(ProviderError, match=words) as caught:
        await provider.job("ftjob-1")
    assert hint in caught.value.hint
    assert caught.value.retryable is retryable
    assert "looking at job ftjob-1" in caught.value.message
    assert KEY not in str(caught.value)
    await provider.close()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "7"}, 7.0), ({"retry_after_ms": "250"}, 0.25), ({"retry_after": "soon"}, None),
     ({"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
     ({"retry_after": "Thu, 07 Jan 2027 00:01:30 GMT", "date": "Thu, 07 Jan 2027 00:00:00 GMT"}, 90.0),
     ({"retry_after": "-5"}, 0.0), ({"retry_after": "inf"}, None), ({"retry_after": "nan"}, None),
     ({"retry_after": "99999999999"}, 99999999999.0), ({"retry_after": "Mon, 99 Foo 99999 99:99:99 GMT"}, None)],
)  # fmt: skip
async def test_retry_after_is_read_in_each_of_its_forms(
    http: HttpEndpoint, headers: dict[str, str], seconds: float | None
) -> None:
    http.answer("GET", "/v1/fine_tuning/jobs/j", failure(429, **headers))
    provider = client(http)
    with pytest.raises(ProviderError) as caught:
        await provider.job("j")
    assert caught.value.retry_after == seconds
    await provider.close()


async def test_a_reading_request_is_tried_again_and_a_wrong_key_is_not(http: HttpEndpoint) -> None:
    http.answer("GET", "/v1/fine_tuning/jobs/j", failure(500), Canned(JOB, cut=0), Canned(JOB))
    http.answer("GET", "/v1/files/f", failure(401))
    provider = client(http)
    assert (await provider.job("j")).status == "queued"
    assert len(http.requests) == 3
    with pytest.raises(ProviderError):
        await provider.file("f")
    assert len(http.requests) == 4
    await provider.close()


async def test_a_name_that_cannot_be_found_is_told_and_certainly_sent_nothing() -> None:
    provider = OpenAICompatible(
        replace(PROFILE, base_url="http://nowhere.invalid/v1"),
        lambda _: ("http://nowhere.invalid/v1", KEY),
        pause=no_pause,
    )
    with pytest.raises(ProviderError, match="cannot be found") as caught:
        await provider.create_job(REQUEST, idempotency_key="k")
    assert caught.value.code == UNREACHABLE
    await provider.close()


async def test_a_refused_connection_is_told_and_the_address_is_asked_for_again(http: HttpEndpoint) -> None:
    http.answer("GET", "/v1/models", Canned({"data": [{"id": "m"}]}))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    addresses = [http.base_url, dead]
    provider = OpenAICompatible(PROFILE, lambda _: (addresses.pop(), KEY), pause=no_pause)
    with pytest.raises(ProviderError, match="cannot reach") as caught:
        await provider.create_job(REQUEST, idempotency_key="k")
    assert caught.value.code == UNREACHABLE
    assert [m.id for m in await provider.models()] == ["m"]
    await provider.close()


async def test_an_engine_that_cannot_start_is_told_as_such() -> None:
    def broken(_: threading.Event) -> tuple[str, str]:
        raise EngineError("the engine ended at once")

    with pytest.raises(EngineError):
        await OpenAICompatible(PROFILE, broken).models()


async def test_no_stray_variable_reaches_another_provider(
    http: HttpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-secret")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://nowhere.invalid/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: header-secret")
    http.answer("GET", "/v1/models", Canned({"data": []}))
    provider = client(http)
    await provider.models()
    assert "secret" not in json.dumps(http.requests[0].headers)
    assert http.requests[0].headers["authorization"] == f"Bearer {KEY}"
    await provider.close()


async def test_objects_with_missing_and_unknown_fields_are_taken_as_they_come(http: HttpEndpoint) -> None:
    odd = {
        "id": "j", "status": "paused", "error": {"code": "x"}, "hyperparameters": {"n_epochs": "auto"},
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}}, "result_files": None,
    }  # fmt: skip
    http.answer("GET", "/v1/fine_tuning/jobs/j", Canned(odd))
    http.answer(
        "GET",
        "/v1/fine_tuning/jobs/j/events",
        Canned({"data": [{"type": "moderation_checks", "message": "m"}]}),
    )
    provider = client(http)
    job = await provider.job("j")
    assert (job.status, job.error, job.hyperparameters.n_epochs, job.result_files) == ("paused", "x", 4, ())
    first, again = (await provider.events("j"))[0], (await provider.events("j"))[0]
    assert first.type == "moderation_checks"
    assert first.id
    assert first.id == again.id
    await provider.close()


async def test_lists_are_walked_to_their_end_and_each_item_taken_once(http: HttpEndpoint) -> None:
    http.answer(
        "GET", "/v1/fine_tuning/jobs",
        Canned({"data": [{**JOB, "id": "a", "created_at": 1}, {**JOB, "id": "b", "created_at": 2}], "has_more": True}),
        Canned({"data": [{**JOB, "id": "b"}, {**JOB, "id": "c", "created_at": 3}], "has_more": True}),
        Canned({"data": [], "has_more": False}),
    )  # fmt: skip
    provider = client(http)
    jobs = await provider.jobs(limit=50, metadata={"tunedesk_launch": "x"})
    assert [job.id for job in jobs] == ["c", "b", "a"]
    assert http.requests[0].query["metadata[tunedesk_launch]"] == ["x"]
    assert [r.query.get("after") for r in http.requests] == [None, ["b"], ["c"]]
    await provider.close()


async def test_jobs_are_cancelled_paused_and_resumed_and_checkpoints_sorted(http: HttpEndpoint) -> None:
    http.answer("POST", "/v1/fine_tuning/jobs/j/(cancel|pause|resume)", Canned({**JOB, "status": "odd"}))
    ckpt = {
        "id": "c2",
        "fine_tuned_model_checkpoint": "ft:m:ckpt-step-2",
        "step_number": 2,
        "metrics": {"train_loss": 1},
    }
    http.answer(
        "GET", "/v1/fine_tuning/jobs/j/checkpoints", Canned({"data": [ckpt, {"id": "c1", "step_number": 1}]})
    )
    provider = client(http)
    for act in (provider.cancel, provider.pause, provider.resume):
        assert (await act("j")).status == "odd"
    found = await provider.checkpoints("j")
    assert [(c.step, c.metrics) for c in found] == [(1, {}), (2, {"train_loss": 1.0})]
    await provider.close()


def test_a_profile_without_address_or_key_is_refused_before_anything_is_sent(paths: Paths) -> None:
    with pytest.raises(ProviderError, match="base_url"):
        connect(Profile(name="azure", base_url=""), KEY, paths)
    with pytest.raises(ProviderError, match="no key") as caught:
        connect(Profile(name="x", base_url="https://x.test/v1", key_variable="X_KEY"), None, paths)
    assert "X_KEY" in caught.value.hint


def test_a_fingerprint_tells_keys_apart_and_is_not_the_key(paths: Paths) -> None:
    provider = connect(Profile(name="x", base_url="https://x.test/v1"), KEY, paths)
    assert provider.account == key_fingerprint(KEY) != key_fingerprint(KEY + "x")
    assert KEY not in provider.account
    assert provider.account.startswith("…1234 ")
    assert key_fingerprint("") == ""


ODD = [
    b"", b"null", b"7", b'"text"', b"[]", b"[[]]", b"{}", b'{"data": null}', b'{"data": {"a": 1}}',
    b'{"data": [null, 7, {}]}', b'{"id": null}', b'{"id": 7}',
    b'{"id": "x", "status": null, "created_at": 1e400, "method": 7, "error": "no", "metadata": []}',
    b'{"id": "x", "created_at": 99999999999999999999999999, "result_files": {"a": 1}, "seed": NaN}',
    b'{"id": "x", "hyperparameters": [], "method": {"type": [], "supervised": 4}, "bytes": "many"}',
    b'{"data": [{"id": "x", "created_at": -1e300, "step_number": 1e99, "metrics": {"train_loss": NaN}}]}',
    b'{"data": [{"id": "x", "created_at": 5, "type": "metrics", "data": {"step": 1e99, "train_loss": [NaN]}}]}',
    b"[" * 100_000, b'{"id": "x"', b"\xff\xfe\x00", b"<!doctype html><html>",
]  # fmt: skip


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
async def test_no_answer_is_odd_enough_for_a_traceback(
    http: HttpEndpoint, body: bytes, tmp_path: Path, store: Store
) -> None:
    http.answer("GET", ".*", Canned(body))
    http.answer("POST", ".*", Canned(body))
    provider = client(http)
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"{}")
    asked: list[Callable[[], Awaitable[object]]] = [
        provider.models, provider.files, provider.jobs, lambda: provider.job("ftjob-1"), lambda: provider.file("f"),
        lambda: provider.events("ftjob-1"), lambda: provider.checkpoints("ftjob-1"), lambda: provider.cancel("ftjob-1"),
        lambda: provider.upload(path, filename="t", idempotency_key="k"), lambda: provider.file_content("f"),
        lambda: provider.create_job(REQUEST, idempotency_key="k"),
    ]  # fmt: skip
    words: list[str] = []
    for ask in asked:
        try:
            answer = await ask()
        except ProviderError as error:
            words += [error.message, error.hint]
        else:
            told = answer if isinstance(answer, list) else [answer]
            store.save_jobs("cloud", [one for one in told if isinstance(one, FineTuningJob)])
            store.save_checkpoints("cloud", "j", [one for one in told if isinstance(one, Checkpoint)])
            store.add_events("cloud", "j", [one for one in told if isinstance(one, JobEvent)])
    assert all(words)
    assert "NaN" not in json_text([asdict(one) for one in store.events("cloud", "j")])
    await provider.close()


async def test_an_answer_about_another_job_is_taken_for_the_one_that_was_asked_about(
    http: HttpEndpoint,
) -> None:
    http.answer("GET", "/v1/fine_tuning/jobs/mine", Canned({**JOB, "id": "other"}))
    http.answer("POST", "/v1/fine_tuning/jobs/mine/cancel", Canned({**JOB, "id": "other"}))
    provider = client(http)
    assert (await provider.job("mine")).id == (await provider.cancel("mine")).id == "mine"
    await provider.close()


async def test_times_told_in_milliseconds_are_seconds_here(http: HttpEndpoint) -> None:
    http.answer("GET", "/v1/fine_tuning/jobs/ftjob-1", Canned({**JOB, "created_at": 1_700_000_000_123}))
    provider = client(http)
    assert (await provider.job("ftjob-1")).created_at == 1_700_000_000
    await provider.close()


async def test_a_list_that_never_ends_is_left_and_a_last_page_is_believed(
    http: HttpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [Canned({"data": [{**JOB, "id": f"j{n}"}], "has_more": True}) for n in range(9)]
    http.answer("GET", "/v1/fine_tuning/jobs", *pages)
    http.answer("GET", "/v1/models", Canned({"data": [{"id": "m"}], "has_more": False}))
    monkeypatch.setattr("tunedesk.providers.requests._MOST_PAGES", 5)
    provider = client(http)
    assert len(await provider.jobs()) == 5
    asked = len(http.requests)
    assert len(await provider.models()) == 1
    assert len(http.requests) == asked + 1
    await provider.close()


async def test_no_trusted_connection_is_told_as_such(http: HttpEndpoint) -> None:
    url = http.base_url.replace("http:", "https:")
    provider = OpenAICompatible(replace(PROFILE, base_url=url), lambda _given_up: (url, KEY), pause=no_pause)
    with pytest.raises(ProviderError, match="no trusted connection") as caught:
        await provider.models()
    assert "certificates" in caught.value.hint
    assert caught.value.code == UNREACHABLE
    await provider.close()
