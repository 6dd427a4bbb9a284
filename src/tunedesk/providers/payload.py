"""A file on its way up: hashed, and streamed whole or in parts, counted as it is read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tunedesk.errors import DataError

BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes that are sent for a local file: the file's own, after `prefix`."""

    path: Path
    prefix: bytes
    """A byte-order mark where the provider wants one and the file has none, else empty."""
    size: int
    """Bytes that are sent."""

    @classmethod
    def of(cls, path: Path, *, utf8_bom: bool = False) -> Payload:
        """Look at `path`; raises DataError when it cannot be read or is empty."""
        try:
            with path.open("rb") as file:
                start = file.read(len(BOM))
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error
        if not size:
            raise DataError(f"{path} is empty", "choose a file with conversations")
        prefix = BOM if utf8_bom and start != BOM else b""
        return cls(path, prefix, size + len(prefix))

    def sha256(self) -> str:
        """Return the hash of the bytes that are sent; raises DataError when the file cannot be read."""
        digest = hashlib.sha256(self.prefix)
        try:
            with self.path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}", "check the disk") from error
        return digest.hexdigest()

    def open(self, start: int, length: int, on_read: Callable[[int], None]) -> IO[bytes]:
        """Open `length` bytes from `start` as a file; `on_read` gets the highest offset read so far, from 0 to size."""
        return cast(IO[bytes], Window(self, start, min(length, self.size - start), on_read))


class Window(io.RawIOBase):
    """A read-only stretch of a payload that looks like a file of its own."""

    def __init__(self, payload: Payload, start: int, length: int, on_read: Callable[[int], None]) -> None:
        super().__init__()
        self._prefix = payload.prefix
        self._start = start
        self._length = length
        self._at = 0
        self._on_read = on_read
        try:
            self._file = payload.path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {payload.path}: {error.strerror}", "check the path") from error

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always: the SDK measures a file by seeking."""
        return True

    def tell(self) -> int:
        """Return the position inside the window."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move inside the window and return the new position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes (all that is left when negative); raises DataError when the file got shorter."""
        left = max(0, self._length - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        offset = self._start + self._at
        block = self._prefix[offset : offset + wanted]
        if len(block) < wanted:
            self._file.seek(max(0, offset - len(self._prefix)))
            block += self._file.read(wanted - len(block))
        if not block:
            raise DataError(
                f"{self._file.name} became shorter while it was sent", "let it rest and start again"
            )
        self._at += len(block)
        self._on_read(self._start + self._at)
        return block

    def close(self) -> None:
        """Close the file behind it."""
        self._file.close()
        super().close()
