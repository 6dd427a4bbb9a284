"""Files at the SDK's boundary: streamed up and down, in parts, once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import Canned, HttpEndpoint, no_pause
from tests.http_rig import FILE, PROFILE, client, failure
from tunedesk.core.uploads import PartialUpload
from tunedesk.errors import DataError, JobError, ProviderError
from tunedesk.jobs import JobService
from tunedesk.providers import in_parts
from tunedesk.providers.payload import Payload
from tunedesk.store import Store

ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "y"}]}\n'


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


async def test_cut_in_part_3_of_5_and_started_again_it_goes_on_there_and_the_same_bytes_go_up_once(
    http: HttpEndpoint, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_parts, "PART", 1000)
    path = tmp_path / "big.jsonl"
    path.write_bytes(ROW * 50)
    size = path.stat().st_size
    assert 4000 < size <= 5000
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    whole = {**FILE, "bytes": size, "filename": f"big-{digest[:24]}.jsonl"}
    parts = [Canned({"id": f"p{number}"}) for number in range(1, 6)]
    cuts = [Canned({"id": "never"}, cut=0)] * 3
    http.answer("GET", "/v1/files", Canned({"data": [], "has_more": False}))
    http.answer("GET", "/v1/files/file-1", Canned(whole))
    http.answer("POST", "/v1/uploads", Canned({"id": "up-1", "expires_at": 9_999_999_999}))
    http.answer("POST", "/v1/uploads/up-1/parts", *parts[:2], *cuts, *parts[2:])
    http.answer("POST", "/v1/uploads/up-1/complete", Canned({"id": "up-1", "file": whole}))

    async def upload(told: list[int]) -> str | None:
        provider = client(http, replace(PROFILE, uploads_above=2000))
        jobs = JobService(store, provider, pause=no_pause)
        try:
            return (await jobs.upload(path, on_upload=lambda _, sent, _size: told.append(sent))).file
        finally:
            await provider.close()

    with pytest.raises(JobError, match=r"broke off after 2,000 of 4,\d+ bytes"):
        await upload([])
    first = [one.path for one in http.requests].count("/v1/uploads/up-1/parts")
    assert first == 2 + 3, "a part is safe to send again, a few times"
    told: list[int] = []
    assert await upload(told) == "file-1"
    sent = [one.path for one in http.requests]
    assert sent.count("/v1/uploads") == 1
    assert sent.count("/v1/uploads/up-1/parts") == first + 3
    assert sent.count("/v1/uploads/up-1/complete") == 1
    assert (told[0], told[-1]) == (2000, size), "progress goes on where it stopped"
    done = json.loads(next(one for one in http.requests if one.path.endswith("/complete")).body)
    assert done["part_ids"] == ["p1", "p2", "p3", "p4", "p5"]
    assert await upload([]) == "file-1"
    assert [one.method for one in http.requests[len(sent) :]] == ["GET"], "the same bytes are there already"


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
