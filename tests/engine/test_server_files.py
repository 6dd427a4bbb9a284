from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.engine.rig import Rig, engine, rows
from tunedesk.engine import file_store
from tunedesk.engine.routes import context
from tunedesk.engine.routes.context import Limits


def blobs(rig: Rig) -> list[str]:
    return sorted(path.name for path in (rig.state.folder / "files").iterdir() if path.is_file())


async def test_a_file_is_stored_once_by_its_bytes_and_comes_back_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    with engine(tmp_path, started=False) as rig:
        files = rig.client().files
        first = await files.create(file=("a.jsonl", data), purpose="fine-tune")
        second = await files.create(file=("b.jsonl", data), purpose="batch")
        assert (first.bytes, first.filename, first.purpose, first.status) == (
            len(data), "a.jsonl", "fine-tune", "processed",
        )  # fmt: skip
        assert blobs(rig) == [hashlib.sha256(data).hexdigest()]
        assert (await files.content(second.id)).content == data
        deleted = await files.delete(first.id)
        assert (deleted.id, deleted.deleted) == (first.id, True)
        assert (await files.content(second.id)).content == data
        await files.delete(second.id)
        assert blobs(rig) == []
        for call in (files.retrieve, files.delete, files.content):
            with pytest.raises(openai.NotFoundError, match="No such File"):
                await call(first.id)


async def test_files_are_listed_by_pages_purpose_and_order(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        files = rig.client().files
        assert (await files.list()).data == []
        made = [await files.create(file=(f"{n}.jsonl", b"x"), purpose="fine-tune") for n in range(3)]
        other = await files.create(file=("o.jsonl", b"x"), purpose="batch")
        assert [file.id async for file in files.list(limit=2)] == [other.id, *(f.id for f in reversed(made))]
        assert [file.id async for file in files.list(limit=1, order="asc")] == [
            *(f.id for f in made),
            other.id,
        ]
        assert [file.id async for file in files.list(purpose="batch")] == [other.id]
        async with rig.http() as http:
            assert (await http.get("/v1/files", params={"after": "file-none"})).status_code == 404
            assert (await http.get("/v1/files", params={"order": "up"})).status_code == 400


async def test_a_file_with_an_expiry_is_gone_after_it(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        files = rig.client().files
        kept = await files.create(
            file=("a.jsonl", b"x"),
            purpose="user_data",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert kept.expires_at == kept.created_at + 3600
        rig.state.files._clock = lambda: kept.created_at + 3600
        assert (await files.list()).data == []
        with pytest.raises(openai.NotFoundError):
            await files.retrieve(kept.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await files.create(
                file=("a.jsonl", b"x"),
                purpose="user_data",
                expires_after={"anchor": "created_at", "seconds": 60},
            )
        assert refused.value.param == "expires_after.seconds"


async def test_the_same_idempotency_key_stores_one_file(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        files = rig.client().files
        headers = {"Idempotency-Key": "upload-1"}
        made = [
            await files.create(file=("a.jsonl", rows()), purpose="fine-tune", extra_headers=headers)
            for _ in range(2)
        ]
        assert made[0].id == made[1].id
        with pytest.raises(openai.BadRequestError) as refused:
            await files.create(file=("a.jsonl", rows(11)), purpose="fine-tune", extra_headers=headers)
        assert refused.value.code == "idempotency_key_reused"
        assert len((await files.list()).data) == 1
        await files.delete(made[0].id)
        again = await files.create(file=("a.jsonl", rows()), purpose="fine-tune", extra_headers=headers)
        assert again.id != made[0].id


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with engine(tmp_path, started=False, limits=Limits(file=1000)) as rig:
        with pytest.raises(openai.APIStatusError) as refused:
            await rig.client().files.create(file=("a.jsonl", b"x" * 1001), purpose="fine-tune")
        assert (refused.value.status_code, refused.value.code) == (413, "body_too_large")

        async def endless() -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            while True:
                yield b"x" * 500

        async with rig.http() as http:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            answer = await http.post("/v1/files", content=endless(), headers=headers)
        assert answer.status_code == 413
        assert blobs(rig) == []
        assert list((rig.state.folder / "files" / "incoming").iterdir()) == []
        await rig.client().files.create(file=("a.jsonl", b"x" * 1000), purpose="fine-tune")


@pytest.mark.parametrize("pause", [10.0, 0.03])
async def test_a_body_that_comes_too_slowly_is_408_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    monkeypatch.setattr(context, "SILENCE", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield HEAD
        while True:
            await asyncio.sleep(pause)
            yield b"x"

    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            answer = await http.post("/v1/files", content=slow(), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert list((rig.state.folder / "files" / "incoming").iterdir()) == []


HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
PURPOSE = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"not a form"),
        ("multipart/form-data; boundary=b", HEAD + b"cut in the mid"),
        ("multipart/form-data; boundary=b", HEAD + b"x\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", PURPOSE + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", PURPOSE + PURPOSE + HEAD + b"x\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", PURPOSE + HEAD + b"x\r\n" + HEAD + b"x\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            PURPOSE.replace(b"fine-tune", b"world domination") + HEAD + b"x\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            PURPOSE.replace(b"purpose", b"\xff\xfe") + HEAD + b"x\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            PURPOSE.replace(b"fine-tune", b"x" * 5000) + HEAD + b"x\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Much: y\r\n" * 1000 + b"\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            PURPOSE + PURPOSE.replace(b"purpose", b"path") + HEAD + b"x\r\n--b--\r\n",
        ),
        (f"multipart/form-data; boundary={'b' * 5000}", b"x"),
        ("multipart/form-data", HEAD),
        ("application/json", b"{}"),
        ("", b"x"),
    ],
)
async def test_a_malformed_form_is_400_and_leaves_nothing(tmp_path: Path, kind: str, body: bytes) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            answer = await http.post("/v1/files", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 400
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert blobs(rig) == []


async def test_a_file_name_from_a_request_is_only_a_name(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        files = rig.client().files
        file = await files.create(file=("../../../evil\x7f.jsonl", b"x"), purpose="fine-tune")
        assert [path.name for path in tmp_path.iterdir() if "evil" in path.name] == []
        async with rig.http() as http:
            for path in ("..%2f..%2fkey", "%2e%2e", "../key", "a%00b", hashlib.sha256(b"x").hexdigest()):
                answer = await http.get(f"/v1/files/{path}/content")
                assert answer.status_code == 404
        assert (await files.content(file.id)).content == b"x"


async def test_an_upload_in_parts_becomes_a_file_in_the_order_given(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        parts = [b"one " * 10, b"two " * 10, b"three"]
        data = b"".join(parts)
        upload = await client.uploads.create(
            bytes=len(data), filename="big.jsonl", mime_type="application/jsonl", purpose="fine-tune"
        )
        assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
        sent = await asyncio.gather(
            *(client.uploads.parts.create(upload.id, data=part) for part in reversed(parts))
        )
        ids = [part.id for part in reversed(sent)]
        md5 = hashlib.md5(data).hexdigest()
        done = await client.uploads.complete(upload.id, part_ids=ids, md5=md5)
        assert done.status == "completed"
        assert done.file is not None
        assert (done.file.filename, done.file.bytes) == ("big.jsonl", len(data))
        assert (await client.files.content(done.file.id)).content == data
        assert blobs(rig) == [hashlib.sha256(data).hexdigest()]
        again = await client.uploads.complete(upload.id, part_ids=ids)
        assert again.file is not None
        assert again.file.id == done.file.id
        with pytest.raises(openai.BadRequestError, match="completed"):
            await client.uploads.parts.create(upload.id, data=b"more")
        with pytest.raises(openai.BadRequestError, match="completed"):
            await client.uploads.cancel(upload.id)


async def test_an_upload_whose_bytes_are_not_those_announced_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(tmp_path, started=False) as rig:
        uploads = rig.client().uploads
        upload = await uploads.create(bytes=4, filename="a", mime_type="text/jsonl", purpose="fine-tune")
        part = await uploads.parts.create(upload.id, data=b"abc")
        with monkeypatch.context() as patch:
            patch.setattr(file_store, "UPLOAD_BYTES", 4)
            with pytest.raises(openai.BadRequestError, match="more than 4 bytes"):
                await uploads.parts.create(upload.id, data=b"de")
        again = await uploads.parts.create(upload.id, data=b"abc")  # the answer to the first one was lost
        assert again.id != part.id
        last = await uploads.parts.create(upload.id, data=b"d")
        for ids, md5, code in (
            ([part.id], None, "byte_count_mismatch"),
            ([part.id, part.id], None, "invalid_part_ids"),
            (["part_none"], None, "invalid_part_ids"),
            ([part.id, last.id], "0" * 32, "md5_mismatch"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await uploads.complete(upload.id, part_ids=ids, md5=md5 or openai.omit)
            assert refused.value.code == code
        assert (await uploads.complete(upload.id, part_ids=[part.id, last.id])).status == "completed"


async def test_a_cancelled_or_expired_upload_takes_nothing_more(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        uploads = rig.client().uploads
        first = await uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune")
        await uploads.parts.create(first.id, data=b"abc")
        assert (await uploads.cancel(first.id)).status == "cancelled"
        assert (await uploads.cancel(first.id)).status == "cancelled"
        assert blobs(rig) == []
        second = await uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune")
        rig.state.files._clock = lambda: second.expires_at
        for upload in (first, second):
            with pytest.raises(openai.BadRequestError):
                await uploads.parts.create(upload.id, data=b"abc")
        with pytest.raises(openai.NotFoundError):
            await uploads.cancel("upload_none")


async def test_the_same_idempotency_key_opens_one_upload(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        uploads = rig.client().uploads
        headers = {"Idempotency-Key": "u"}
        made = [
            await uploads.create(
                bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune", extra_headers=headers
            )
            for _ in range(2)
        ]
        assert made[0].id == made[1].id


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"{",
        b"[]",
        b"null",
        b'{"filename": "\\ud800x", "bytes": 1}',
        b'{"bytes": ' + b"9" * 5000 + b"}",
        b'{"bytes": 1e400}',
        b'{"bytes": NaN}',
        b"\xff\xfe{}",
        b'{"filename": "a", "purpose": "fine-tune", "bytes": 99999999999999999999, "mime_type": "x"}',
        b'{"filename": "a", "purpose": "fine-tune", "bytes": 1.5, "mime_type": "x"}',
        b'{"filename": "a", "purpose": "fine-tune", "bytes": 1, "mime_type": "x", "path": "/etc/passwd"}',
        b'{"filename": "a", "purpose": ["fine-tune"], "bytes": 1, "mime_type": "x"}',
    ],
)
async def test_a_body_that_is_no_good_object_is_400(tmp_path: Path, body: bytes) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            answer = await http.post("/v1/uploads", content=body)
        assert answer.status_code == 400
        assert json.loads(answer.content)["error"]["type"] == "invalid_request_error"


async def test_a_json_body_over_the_limit_is_413(tmp_path: Path) -> None:
    with engine(tmp_path, started=False, limits=Limits(json=100)) as rig:
        async with rig.http() as http:
            assert (await http.post("/v1/uploads", content=b" " * 101)).status_code == 413
