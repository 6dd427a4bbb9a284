"""The SDK at our boundary: single requests, words for every failure, nothing leaked, streams that may break."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Canned, HttpEndpoint, no_pause, sse
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import ChatDelta, Hyperparameters, JobRequest, Usage
from tunedesk.core.uploads import PartialUpload
from tunedesk.errors import DataError, EngineError, ProviderError
from tunedesk.paths import Paths
from tunedesk.providers import connect, in_parts
from tunedesk.providers.base import UNREACHABLE, key_fingerprint
from tunedesk.providers.openai_compatible import OpenAICompatible
from tunedesk.providers.payload import Payload

PROFILE = Profile(name="cloud", base_url="", label="Cloud")
JOB = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "queued", "model": "m", "created_at": 5}
FILE = {"id": "file-1", "filename": "t.jsonl", "bytes": 12, "purpose": "fine-tune", "status": "processed"}
REQUEST = JobRequest("m", "file-1", "file-2", metadata={"tunedesk_launch": "launch-1"}, suffix="bank", seed=7)
KEY = "sk-canary-1234"


@pytest.fixture
async def http() -> AsyncIterator[HttpEndpoint]:
    async with HttpEndpoint() as server:
        yield server


def client(http: HttpEndpoint, profile: Profile = PROFILE) -> OpenAICompatible:
    profile = replace(profile, base_url=http.base_url)
    return OpenAICompatible(profile, lambda _: (http.base_url, KEY), account=KEY, pause=no_pause)


def failure(status: int, code: str | None = None, **headers: str) -> Canned:
    body = {"error": {"message": "their words", "type": "t", "code": code, "param": None}}
    return Canned(body, status, headers={k.replace("_", "-"): v for k, v in headers.items()})


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
     ({"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0)],
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
    assert (await provider.job("j")).id == "ftjob-1"
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


async def test_an_upload_is_streamed_with_progress_and_sent_once(http: HttpEndpoint, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"messages": []}\n' * 20_000)
    http.answer("POST", "/v1/files", Canned(FILE))
    seen: list[tuple[int, int]] = []
    provider = client(http)
    await provider.upload(
        path, filename="t-1.jsonl", idempotency_key="f1", on_progress=lambda d, n: seen.append((d, n))
    )
    sent = http.requests[0]
    assert sent.headers["idempotency-key"] == "f1"
    assert path.read_bytes() in sent.body
    assert b'filename="t-1.jsonl"' in sent.body
    assert seen[-1] == (340_000, 340_000)
    assert len(seen) > 3
    assert seen == sorted(seen)
    await provider.close()


async def test_a_lost_upload_answer_is_not_tried_again(http: HttpEndpoint, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("{}\n")
    http.answer("POST", "/v1/files", Canned(FILE, cut=0))
    provider = client(http)
    with pytest.raises(ProviderError) as caught:
        await provider.upload(path, filename="t.jsonl", idempotency_key="f")
    assert caught.value.in_doubt
    assert len(http.requests) == 1
    await provider.close()


async def test_a_large_file_goes_up_in_parts_and_a_lost_part_is_sent_again(
    http: HttpEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_parts, "PART", 1000)
    path = tmp_path / "big.jsonl"
    path.write_bytes(bytes(range(48, 98)) * 50)
    part = {"object": "upload.part"}
    http.answer("POST", "/v1/uploads", Canned({"id": "up-1", "status": "pending"}))
    http.answer("POST", "/v1/uploads/up-1/parts", Canned({**part, "id": "p1"}), Canned({**part, "id": "lost"}, cut=0),
                Canned({**part, "id": "p2"}), Canned({**part, "id": "p3"}))  # fmt: skip
    http.answer(
        "POST", "/v1/uploads/up-1/complete", Canned({"id": "up-1", "status": "completed", "file": FILE})
    )
    seen: list[int] = []
    provider = client(http, replace(PROFILE, uploads_above=2000, utf8_bom=True))
    file = await provider.upload(
        path, filename="b", idempotency_key="f", on_progress=lambda d, _n: seen.append(d)
    )
    assert file.id == "file-1"
    assert json.loads(http.requests[0].body)["bytes"] == 2503
    parts = [r.body for r in http.requests if r.path.endswith("parts")]
    assert [len(b) > 1000 for b in parts] == [True, True, True, False]
    whole = b"\xef\xbb\xbf" + path.read_bytes()
    for body, start in zip(parts, (0, 1000, 1000, 2000), strict=True):
        assert whole[start : start + 1000] in body
    assert json.loads(http.requests[-1].body) == {"part_ids": ["p1", "p2", "p3"]}
    assert seen[-1] == 2503
    await provider.close()


async def test_an_upload_in_parts_goes_on_at_the_part_where_it_stopped(
    http: HttpEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_parts, "PART", 1000)
    path = tmp_path / "big.jsonl"
    path.write_bytes(bytes(range(48, 98)) * 50)
    http.answer("POST", "/v1/uploads/up-1/parts", Canned({"id": "p3"}))
    http.answer("POST", "/v1/uploads/up-1/complete", Canned({"id": "up-1", "file": FILE}))
    kept: list[PartialUpload] = []
    seen: list[int] = []
    provider = client(http, replace(PROFILE, uploads_above=2000))
    await provider.upload(
        path, filename="b", idempotency_key="f", on_progress=lambda d, _n: seen.append(d),
        resume=PartialUpload("up-1", 1000, ("p1", "p2")), on_part=kept.append,
    )  # fmt: skip
    assert [r.path.rpartition("/")[2] for r in http.requests] == ["parts", "complete"]
    assert kept == [PartialUpload("up-1", 1000, ("p1", "p2", "p3"))]
    assert (seen[0], seen[-1]) == (2000, 2500)
    await provider.close()


async def test_an_upload_that_the_provider_forgot_begins_afresh_and_can_be_cancelled(
    http: HttpEndpoint, tmp_path: Path
) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 2500)
    http.answer("POST", "/v1/uploads/up-1/complete", failure(404))
    http.answer("POST", "/v1/uploads", Canned({"id": "up-2", "expires_at": 7}))
    http.answer("POST", "/v1/uploads/up-2/parts", Canned({"id": "p"}))
    http.answer("POST", "/v1/uploads/up-2/complete", Canned({"id": "up-2", "file": FILE}))
    http.answer("POST", "/v1/uploads/up-2/cancel", Canned({"id": "up-2", "status": "cancelled"}))
    provider = client(http, replace(PROFILE, uploads_above=2000))
    kept: list[PartialUpload] = []
    known = PartialUpload("up-1", 2500, ("p1",))
    file = await provider.upload(path, filename="b", idempotency_key="f", resume=known, on_part=kept.append)
    assert file.id == "file-1"
    assert [(one.id, one.parts, one.expires_at) for one in kept] == [("up-2", (), 7), ("up-2", ("p",), 7)]
    count = len(http.requests)
    await provider.upload(path, filename="b", idempotency_key="f", resume=kept[-1], on_part=kept.append)
    assert http.requests[count].path == "/v1/uploads", "an expired one is not even asked for"
    await provider.cancel_upload("up-2")
    await provider.close()


async def test_a_file_that_shrinks_while_it_is_sent_is_our_error(http: HttpEndpoint, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"x" * 500_000)
    http.answer("POST", "/v1/files", Canned(FILE))
    provider = client(http)

    def cut(_done: int, _size: int) -> None:
        path.write_bytes(b"x" * 10)

    with pytest.raises(DataError, match="became shorter"):
        await provider.upload(path, filename="t", idempotency_key="f", on_progress=cut)
    await provider.close()


def test_a_mark_is_put_first_only_where_it_is_wanted_and_absent(tmp_path: Path) -> None:
    bare, marked = tmp_path / "a", tmp_path / "b"
    bare.write_bytes(b"abc")
    marked.write_bytes(b"\xef\xbb\xbfabc")
    assert Payload.of(bare).size == 3
    assert Payload.of(bare, utf8_bom=True).size == Payload.of(marked, utf8_bom=True).size == 6
    assert Payload.of(bare, utf8_bom=True).sha256() == Payload.of(marked).sha256()
    (tmp_path / "c").touch()
    with pytest.raises(DataError, match="empty"):
        Payload.of(tmp_path / "c")


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, object]:
    delta = {"content": text} if text is not None else {}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "choices": choices, "system_fingerprint": "fp1"}


USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}


async def ask(provider: OpenAICompatible) -> list[ChatDelta]:
    messages = [{"role": "user", "content": "hi"}]
    return [delta async for delta in provider.chat("m", messages, temperature=0.0, max_tokens=5, seed=1)]


async def test_a_chat_is_streamed_with_usage_and_fingerprint_and_store_is_not_sent(
    http: HttpEndpoint,
) -> None:
    body = sse(chunk("Hel"), chunk("lo"), chunk(finish="stop"), USAGE)
    http.answer("POST", "/v1/chat/completions", Canned(body, content_type="text/event-stream"))
    provider = client(http)
    deltas = await ask(provider)
    assert "".join(d.text for d in deltas) == "Hello"
    assert deltas[0].system_fingerprint == "fp1"
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["stop"]
    assert deltas[-1].usage == Usage(9, 2)
    sent = json.loads(http.requests[0].body)
    assert "store" not in sent
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.0, 5, 1)
    await provider.close()


async def test_store_false_is_sent_to_openai_itself(http: HttpEndpoint) -> None:
    http.answer(
        "POST", "/v1/chat/completions", Canned(sse(chunk("x", "stop")), content_type="text/event-stream")
    )
    profile = replace(PROFILE, base_url="https://api.openai.com/v1")
    provider = OpenAICompatible(profile, lambda _: (http.base_url, KEY))
    await ask(provider)
    assert json.loads(http.requests[0].body)["store"] is False
    await provider.close()


async def test_a_cut_stream_gives_what_came_and_then_an_error(http: HttpEndpoint) -> None:
    body = sse(chunk("Hel"), chunk("lo"), done=False)
    http.answer(
        "POST",
        "/v1/chat/completions",
        Canned(body + b"data: {", content_type="text/event-stream", cut=len(body)),
    )
    provider = client(http)
    came: list[str] = []

    async def listen() -> None:
        async for delta in provider.chat("m", [{"role": "user", "content": "hi"}]):
            came.append(delta.text)

    with pytest.raises(ProviderError, match="broke"):
        await listen()
    assert came == ["Hel", "lo"]
    await provider.close()


async def test_an_error_inside_a_stream_is_told_in_its_words(http: HttpEndpoint) -> None:
    body = sse(chunk("a"), {"error": {"message": "out of memory", "code": "oom"}})
    http.answer("POST", "/v1/chat/completions", Canned(body, content_type="text/event-stream"))
    provider = client(http)
    with pytest.raises(ProviderError, match="out of memory"):
        await ask(provider)
    await provider.close()


async def test_a_garbled_stream_is_told(http: HttpEndpoint) -> None:
    http.answer("POST", "/v1/chat/completions", Canned(b"data: {oops\n\n", content_type="text/event-stream"))
    provider = client(http)
    with pytest.raises(ProviderError, match="cannot be read"):
        await ask(provider)
    await provider.close()


async def test_files_are_listed_read_and_deleted(http: HttpEndpoint) -> None:
    http.answer("GET", "/v1/files", Canned({"data": [FILE]}))
    http.answer("GET", "/v1/files/file-1/content", Canned(b"step,train_loss\n1,2\n", content_type="text/csv"))
    http.answer("DELETE", "/v1/files/file-1", Canned({"id": "file-1", "deleted": True}))
    provider = client(http)
    assert [f.bytes for f in await provider.files("fine-tune")] == [12]
    assert http.requests[0].query["purpose"] == ["fine-tune"]
    assert (await provider.file_content("file-1")).startswith(b"step")
    await provider.delete_file("file-1")
    assert http.requests[-1].method == "DELETE"
    await provider.close()


async def test_a_download_is_whole_or_not_there(http: HttpEndpoint, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    http.answer("GET", "/v1/files/f/content", Canned(content), Canned(content, cut=9000), failure(404))
    provider = client(http)
    path = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    assert await provider.download("f", path, on_progress=lambda d, n: seen.append((d, n))) == 3_000_000
    assert seen[-1] == (3_000_000, 3_000_000)
    assert path.read_bytes() == content
    for _ in range(2):
        with pytest.raises(ProviderError):
            await provider.download("f", tmp_path / "other")
        assert list(tmp_path.iterdir()) == [path]
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
