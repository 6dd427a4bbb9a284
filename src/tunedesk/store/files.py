"""Uploaded files whose bytes we know, and uploads in parts that are under way, by profile and account."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tunedesk.core.uploads import PartialUpload
from tunedesk.store.database import Database, decode, encode


@dataclass(frozen=True, slots=True)
class FileKey:
    """Whose bytes: another key may be another account, which has other files."""

    profile: str
    account: str
    """Fingerprint of the key."""
    sha256: str
    """Of the bytes that are sent."""

    def columns(self) -> tuple[str, str, str]:
        """Return the key as its columns."""
        return (self.profile, self.account, self.sha256)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """An uploaded file whose bytes we know."""

    file: str
    """The provider's id."""
    bytes: int


class FileTables:
    """Tables files and uploads."""

    database: Database

    def save_file(self, key: FileKey, known: KnownFile) -> None:
        """Keep that these bytes are at the provider under this id; their upload is over."""
        with self.database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                (*key.columns(), known.file, known.bytes, time.time()),
            )
            connection.execute(_DELETE_UPLOAD, key.columns())

    def file(self, key: FileKey) -> KnownFile | None:
        """Return the file that holds these bytes in this account, or None."""
        row = self.database.read_one(
            "SELECT file, bytes FROM files WHERE profile = ? AND account = ? AND sha256 = ?", *key.columns()
        )
        return KnownFile(row["file"], row["bytes"]) if row else None

    def file_sha256(self, profile: str, file: str) -> str | None:
        """Return the hash of a file's bytes by the provider's id, None when they were never here."""
        row = self.database.read_one("SELECT sha256 FROM files WHERE profile = ? AND file = ?", profile, file)
        return str(row["sha256"]) if row else None

    def forget_file(self, key: FileKey) -> None:
        """Drop a file that the provider does not have any more."""
        self.database.write(
            "DELETE FROM files WHERE profile = ? AND account = ? AND sha256 = ?", *key.columns()
        )

    def forget_file_id(self, profile: str, file: str) -> None:
        """Drop a file that was deleted there."""
        self.database.write("DELETE FROM files WHERE profile = ? AND file = ?", profile, file)

    def save_upload(self, key: FileKey, upload: PartialUpload) -> None:
        """Keep how far an upload in parts has come."""
        self.database.write(
            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", *key.columns(), encode(upload)
        )

    def upload(self, key: FileKey) -> PartialUpload | None:
        """Return the upload of these bytes that is under way, or None."""
        row = self.database.read_one(
            "SELECT body FROM uploads WHERE profile = ? AND account = ? AND sha256 = ?", *key.columns()
        )
        return decode(row["body"], PartialUpload) if row else None

    def forget_upload(self, key: FileKey) -> None:
        """Drop an upload that was given up, here or there."""
        self.database.write(_DELETE_UPLOAD, *key.columns())


_DELETE_UPLOAD = "DELETE FROM uploads WHERE profile = ? AND account = ? AND sha256 = ?"
