"""A training file at the provider: verified, the same bytes only once, found again after a lost answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from tunedesk.core.fine_tuning import ProviderFile
from tunedesk.errors import JobError, ProviderError
from tunedesk.providers.base import UNREACHABLE, Provider
from tunedesk.providers.payload import Payload
from tunedesk.store import FileKey, KnownFile, LaunchedFile, Store

OnUpload = Callable[[str, int, int], None]
"""Called with (file name, bytes sent, bytes in all)."""
LOOKS = (1.0, 3.0, 6.0)
"""Pauses, in seconds, before each look for something that may have been made without an answer."""
_WORKING = {"uploaded": 30.0, "pending": 600.0, "running": 600.0}
"""Status of a file that is worked through → seconds to wait. OpenAI calls the field deprecated: one that stays at
`uploaded` is taken as it is, and a job on it checks it again."""


class Uploader:
    """Files of one profile: what is there already, and what must be sent."""

    def __init__(self, store: Store, provider: Provider, pause: Callable[[float], Awaitable[object]]) -> None:
        self._store = store
        self._provider = provider
        self._pause = pause
        self._profile = provider.profile.name
        self.sent: set[str] = set()
        """Ids of the files that this process brought up: no job can be on them yet."""

    def described(self, path: Path) -> LaunchedFile:
        """Hash `path` as it would be sent; raises DataError when it cannot be read."""
        payload = Payload.of(path, utf8_bom=self._provider.profile.utf8_bom)
        plain = Payload.of(path).sha256() if payload.prefix else ""
        return LaunchedFile(str(path.absolute()), payload.sha256(), payload.size, plain)

    async def uploaded(self, local: LaunchedFile, on_upload: OnUpload | None) -> LaunchedFile:
        """Return `local` with the id of a verified file of the same bytes: one that is there already, or a new one."""
        known = self._store.file(self._key(local))
        file = await self._still_there(local, known) if known else None
        if file is None:
            file = await self._find_file(local) or await self._upload(local, on_upload)
        file = await self._processed(file, local)
        self._store.save_file(self._key(local), KnownFile(file.id, file.bytes))
        return replace(local, file=file.id)

    async def give_up(self, local: LaunchedFile) -> None:
        """Cancel the upload of these bytes that is under way, if there is one; a file that is there stays."""
        upload = self._store.upload(self._key(local))
        if upload is None:
            return
        try:
            await self._provider.cancel_upload(upload.id)
        except ProviderError as error:
            if error.status not in (400, 404, 409, 410):
                raise
        self._store.forget_upload(self._key(local))

    def _key(self, local: LaunchedFile) -> FileKey:
        return FileKey(self._profile, self._provider.account, local.sha256)

    async def _still_there(self, local: LaunchedFile, known: KnownFile) -> ProviderFile | None:
        try:
            file = await self._provider.file(known.file)
        except ProviderError as error:
            if error.status not in (403, 404, 410):
                raise
            self._store.forget_file(self._key(local))
            return None
        return file if file.bytes == local.bytes and file.status != "error" else None

    async def _find_file(self, local: LaunchedFile) -> ProviderFile | None:
        """Look for these bytes among the provider's files, by the name that carries their hash, and by size."""
        ending = _wire_name(local).rpartition("-")[2]
        for file in await self._provider.files("fine-tune"):
            if file.filename.endswith(ending) and file.bytes == local.bytes and file.status != "error":
                return file
        return None

    async def _upload(self, local: LaunchedFile, on_upload: OnUpload | None) -> ProviderFile:
        name = _wire_name(local)
        path = Path(local.path)
        sent = await asyncio.to_thread(self.described, path)
        if sent.sha256 != local.sha256:
            raise JobError(f"{path} has changed since the launch was written down", "launch afresh")

        key = self._key(local)
        begun = self._store.upload(key)
        if begun is not None and begun.is_whole(sent.bytes):
            file = await self._appearing(local)
            if file is not None:
                return file

        def told(done: int, size: int) -> None:
            if on_upload is not None:
                on_upload(name, done, size)

        try:
            file = await self._provider.upload(
                path,
                filename=name,
                idempotency_key=f"file-{local.sha256[:40]}",
                on_progress=told,
                resume=begun,
                on_part=lambda upload: self._store.save_upload(key, upload),
            )
            self.sent.add(file.id)
            return file
        except ProviderError as error:
            if not error.in_doubt or error.code == UNREACHABLE:
                raise
            partial = self._store.upload(key)
            if partial is not None and not partial.is_whole(sent.bytes):
                there = min(len(partial.parts) * partial.part_bytes, sent.bytes)
                raise JobError(
                    f"the upload of {path.name} broke off after {there:,} of {sent.bytes:,} bytes ({error.message})",
                    "start it again: it goes on from there",
                ) from error
            file = await self._appearing(local)
            if file is not None:
                return file
            raise JobError(
                f"the upload of {path.name} was not confirmed, and the provider does not list it ({error.message})",
                "start the launch again: it looks once more before it sends anything",
            ) from error

    async def _appearing(self, local: LaunchedFile) -> ProviderFile | None:
        """Look a few times for a file that may have been made without an answer."""
        for wait in LOOKS:
            await self._pause(wait)
            file = await self._find_file(local)
            if file is not None:
                return file
        return None

    async def _processed(self, file: ProviderFile, local: LaunchedFile) -> ProviderFile:
        """Wait until the provider has worked through a file, and compare its size."""
        waited, wait = 0.0, 0.5
        while file.status in _WORKING and file.bytes in (0, local.bytes):
            if waited > _WORKING[file.status]:
                if file.status == "uploaded":
                    break
                raise JobError(
                    f"{self._profile} has not processed {file.filename} after {waited:.0f} s",
                    "try again later",
                )
            await self._pause(wait)
            waited, wait = waited + wait, min(wait * 1.5, 10.0)
            file = await self._provider.file(file.id)
        if file.status in ("error", "deleted"):
            raise JobError(
                f"{self._profile} could not process {Path(local.path).name}",
                "run `tunedesk check` on the file",
            )
        if file.bytes != local.bytes:
            raise JobError(
                f"{Path(local.path).name} arrived with {file.bytes:,} of {local.bytes:,} bytes",
                "launch again",
            )
        return file


def _wire_name(local: LaunchedFile) -> str:
    """The name a file goes by at the provider: its own, then its hash, so that the same bytes are found again."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "_" for c in Path(local.path).stem)
    return f"{stem[:60]}-{local.sha256[:24]}.jsonl"
