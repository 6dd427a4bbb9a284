"""Files and uploads: rows in SQLite, bytes once each under their sha256, nothing ever half there."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tunedesk import db
from tunedesk.engine.database import Database, remember, remembered
from tunedesk.engine.wire import ApiError, PageRequest, new_id
from tunedesk.paths import private_folder, sync_folder

UPLOAD_LIFETIME = 3600
"""Seconds an upload may take from its creation to its completion (OpenAI's rule)."""
UPLOAD_BYTES = 8 << 30
"""Bytes of all parts of an upload (OpenAI's limit)."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as the API lists it."""

    number: int
    id: str
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    bytes: int
    sha256: str

    def shape(self) -> dict[str, Any]:
        """Return OpenAI's file object; `evals` is a legal purpose to send but none to answer."""
        shown = {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": "user_data" if self.purpose == "evals" else self.purpose,
            "status": "processed",
        }
        return shown if self.expires_at is None else {**shown, "expires_at": self.expires_at}


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload in parts."""

    number: int
    id: str
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    bytes: int
    status: str
    keep_seconds: int | None
    file_id: str | None

    def shape(self, file: StoredFile | None = None) -> dict[str, Any]:
        """Return OpenAI's upload object, with the finished file when there is one."""
        names = ("id", "created_at", "expires_at", "filename", "purpose", "bytes", "status")
        shown = {name: getattr(self, name) for name in names} | {"object": "upload"}
        return shown if file is None else {**shown, "file": file.shape()}


@dataclass(frozen=True, slots=True)
class UploadPart:
    """One received part of an upload."""

    number: int
    id: str
    created_at: int
    upload_id: str
    bytes: int
    sha256: str

    def shape(self) -> dict[str, Any]:
        """Return OpenAI's part object."""
        return {
            "id": self.id,
            "object": "upload.part",
            "created_at": self.created_at,
            "upload_id": self.upload_id,
        }


class Blob:
    """Bytes on their way in: a temporary file that is hashed while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = path.open("xb")
        path.chmod(0o600)

    @property
    def sha256(self) -> str:
        """The hash of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def close(self) -> None:
        """Give up the bytes, unless they were kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def keep(self, path: Path) -> None:
        """Make the bytes durable as `path`; what lay there under the same hash is the same."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(path)
        sync_folder(path.parent)


class FileStore:
    """All files and uploads of one engine folder."""

    def __init__(self, folder: Path, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.folder = private_folder(folder / "files")
        """Bytes of files and parts by their sha256, and what is just arriving."""
        self._incoming = private_folder(self.folder / "incoming")
        self._database = database
        self._clock = clock
        self._sweep()

    def _sweep(self) -> None:
        """Drop what a crash or an expiry left: half-received bytes, rows out of date, bytes of no row."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)
        now = int(self._clock())
        with self._database.write() as connection:
            for row in connection.execute("SELECT id FROM files WHERE expires_at <= ?", (now,)).fetchall():
                self._forget(connection, row["id"])
            for row in connection.execute(
                "SELECT id FROM uploads WHERE status = 'pending' AND expires_at <= ?", (now,)
            ).fetchall():
                self._end_upload(connection, row["id"], "expired")
        for path in self.folder.iterdir():
            if path.is_file():
                self._drop_unused([path.name])

    @contextmanager
    def receiving(self) -> Iterator[Blob]:
        """Yield a growing blob; what is not stored by the end of the block is gone."""
        blob = Blob(self._incoming / uuid.uuid4().hex)
        try:
            yield blob
        finally:
            blob.close()

    def add(
        self, blob: Blob, filename: str, purpose: str, keep_seconds: int | None, key: str | None = None
    ) -> StoredFile:
        """Store a received blob as a file; the same Idempotency-Key `key` returns the file it made first."""
        fingerprint = f"{blob.sha256} {purpose} {filename}"
        with self._database.write() as connection:
            known = remembered(connection, "file", key, fingerprint)
            if known is not None:
                return self.get(known)
            if (path := self.folder / blob.sha256).exists():
                blob.close()
            else:
                blob.keep(path)
            now = int(self._clock())
            file_id = new_id("file-")
            expires_at = None if keep_seconds is None else now + keep_seconds
            connection.execute(
                "INSERT INTO files (id, created_at, expires_at, filename, purpose, bytes, sha256)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (file_id, now, expires_at, filename, purpose, blob.bytes, blob.sha256),
            )
            remember(connection, "file", key, fingerprint, file_id)
        return self.get(file_id)

    def find(self, file_id: str) -> StoredFile | None:
        """Return the file of this id, None when there is none (any more)."""
        row = self._database.row(
            "SELECT * FROM files WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)",
            (file_id, int(self._clock())),
        )
        return None if row is None else StoredFile(*row)

    def get(self, file_id: str) -> StoredFile:
        """Return the file of this id; raises ApiError 404 when there is none."""
        file = self.find(file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {file_id[:80]}", param="id")
        return file

    def path(self, file: StoredFile) -> Path:
        """Return where the bytes of a file lie."""
        return self.folder / file.sha256

    def listed(self, request: PageRequest, purpose: str | None, *, ascending: bool) -> list[StoredFile]:
        """Return up to `limit` + 1 files, newest first unless `ascending`."""
        sign, order = (">", "ASC") if ascending else ("<", "DESC")
        sql = "SELECT * FROM files WHERE (expires_at IS NULL OR expires_at > ?)"
        parameters: list[Any] = [int(self._clock())]
        if purpose is not None:
            sql += " AND purpose = ?"
            parameters.append(purpose)
        if request.after is not None:
            sql += f" AND number {sign} ?"
            parameters.append(self.get(request.after).number)
        sql += f" ORDER BY number {order} LIMIT ?"
        return [StoredFile(*row) for row in self._database.rows(sql, [*parameters, request.limit + 1])]

    def delete(self, file_id: str) -> None:
        """Forget a file, and its bytes when no other file has the same; raises ApiError 404."""
        self._database.freeing(lambda: self._delete(file_id))

    def _delete(self, file_id: str) -> None:
        with self._database.write() as connection:
            sha256 = self.get(file_id).sha256
            self._forget(connection, file_id)
        self._drop_unused([sha256])

    def _forget(self, connection: db.Connection, file_id: str) -> None:
        connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
        connection.execute("DELETE FROM idempotency WHERE kind = 'file' AND object_id = ?", (file_id,))

    def _drop_unused(self, hashes: Sequence[str]) -> None:
        """Delete the bytes that no row names; done in a write turn, so that no add comes between."""
        with self._database.write() as connection:
            for sha256 in hashes:
                used = connection.execute(
                    "SELECT 1 FROM files WHERE sha256 = ?1 UNION ALL SELECT 1 FROM parts WHERE sha256 = ?1",
                    (sha256,),
                ).fetchone()
                if used is None:
                    (self.folder / sha256).unlink(missing_ok=True)

    def create_upload(
        self, filename: str, purpose: str, size: int, keep_seconds: int | None, key: str | None
    ) -> Upload:
        """Open an upload of `size` bytes; the same Idempotency-Key `key` returns the first one."""
        fingerprint = f"{size} {purpose} {filename}"
        with self._database.write() as connection:
            known = remembered(connection, "upload", key, fingerprint)
            if known is not None:
                return self.upload(known)
            now = int(self._clock())
            upload_id = new_id("upload_", 32)
            connection.execute(
                "INSERT INTO uploads"
                " (id, created_at, expires_at, filename, purpose, bytes, status, keep_seconds)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending', ?)",
                (upload_id, now, now + UPLOAD_LIFETIME, filename, purpose, size, keep_seconds),
            )
            remember(connection, "upload", key, fingerprint, upload_id)
        return self.upload(upload_id)

    def upload(self, upload_id: str) -> Upload:
        """Return an upload, expired when its hour is over; raises ApiError 404 when there is none."""
        row = self._database.row("SELECT * FROM uploads WHERE id = ?", (upload_id,))
        if row is None:
            raise ApiError(404, f"No such Upload object: {upload_id[:80]}", param="upload_id")
        upload = Upload(*row)
        if upload.status == "pending" and upload.expires_at <= self._clock():
            with self._database.write() as connection:
                self._end_upload(connection, upload_id, "expired")
            upload = replace(upload, status="expired")
        return upload

    def pending_upload(self, upload_id: str) -> Upload:
        """Return an upload that still takes parts; raises ApiError 404, or 400 when it is over."""
        upload = self.upload(upload_id)
        if upload.status != "pending":
            raise ApiError(400, f"The Upload is {upload.status}; it takes no more parts.", code="upload_over")
        return upload

    def add_part(self, upload_id: str, blob: Blob) -> UploadPart:
        """Store one part of a pending upload; raises ApiError when the upload is over or all its parts are too much.

        They may be more than the upload announced: a part whose answer was lost is sent again, and only the parts
        named at the completion count.
        """
        with self._database.write() as connection:
            self.pending_upload(upload_id)
            held = connection.execute("SELECT SUM(bytes) FROM parts WHERE upload_id = ?", (upload_id,))
            if (held.fetchone()[0] or 0) + blob.bytes > UPLOAD_BYTES:
                message = f"The parts of this Upload hold more than {UPLOAD_BYTES} bytes."
                raise ApiError(400, message, param="data", code="upload_too_long")
            blob.keep(self.folder / blob.sha256)
            part_id = new_id("part_", 32)
            connection.execute(
                "INSERT INTO parts (id, created_at, upload_id, bytes, sha256) VALUES (?, ?, ?, ?, ?)",
                (part_id, int(self._clock()), upload_id, blob.bytes, blob.sha256),
            )
            row = connection.execute("SELECT * FROM parts WHERE id = ?", (part_id,)).fetchone()
        return UploadPart(*row)

    def complete_upload(
        self, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[Upload, StoredFile]:
        """Join the parts in the order given into a file.

        Completing again answers the same file, so that a lost answer costs nothing. Raises ApiError 400 when a
        part is unknown or named twice, or the bytes differ from the announced number or `md5`.
        """
        upload = self.upload(upload_id)
        if upload.status == "completed" and upload.file_id is not None:
            return upload, self.get(upload.file_id)
        upload = self.pending_upload(upload_id)
        rows = self._database.rows("SELECT * FROM parts WHERE upload_id = ?", (upload_id,))
        parts = {row["id"]: UploadPart(*row) for row in rows}
        if len(set(part_ids)) != len(part_ids) or not set(part_ids) <= parts.keys():
            message = "'part_ids' must name parts of this Upload, each once."
            raise ApiError(400, message, param="part_ids", code="invalid_part_ids")
        with self.receiving() as blob:
            self._join([parts[part_id] for part_id in part_ids], blob, upload, md5)
            with self._database.write() as connection:
                self.pending_upload(upload_id)
                file = self.add(blob, upload.filename, upload.purpose, upload.keep_seconds)
                self._end_upload(connection, upload_id, "completed", file.id)
        self._drop_unused([part.sha256 for part in parts.values()])
        return self.upload(upload_id), file

    def _join(self, parts: Sequence[UploadPart], blob: Blob, upload: Upload, md5: str | None) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            with (self.folder / part.sha256).open("rb") as file:
                while data := file.read(1 << 20):
                    blob.write(data)
                    digest.update(data)
        if blob.bytes != upload.bytes:
            message = f"The parts hold {blob.bytes} bytes, but {upload.bytes} were announced for this Upload."
            raise ApiError(400, message, param="part_ids", code="byte_count_mismatch")
        if md5 is not None and md5.lower() != digest.hexdigest():
            raise ApiError(
                400, "The md5 of the parts is not the one given.", param="md5", code="md5_mismatch"
            )

    def cancel_upload(self, upload_id: str) -> Upload:
        """Give up a pending upload and its parts; raises ApiError 404, or 400 when it is over."""
        rows = self._database.rows("SELECT sha256 FROM parts WHERE upload_id = ?", (upload_id,))
        hashes = [row["sha256"] for row in rows]
        with self._database.write() as connection:
            if self.upload(upload_id).status != "cancelled":
                self.pending_upload(upload_id)
                self._end_upload(connection, upload_id, "cancelled")
        self._drop_unused(hashes)
        return self.upload(upload_id)

    def _end_upload(
        self, connection: db.Connection, upload_id: str, status: str, file_id: str | None = None
    ) -> None:
        """Set the final status and forget the parts."""
        connection.execute(
            "UPDATE uploads SET status = ?, file_id = ? WHERE id = ?", (status, file_id, upload_id)
        )
        connection.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))
