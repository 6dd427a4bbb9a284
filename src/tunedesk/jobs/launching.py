"""A launch, exactly once, from wherever an earlier try of it stopped.

A launch is written down before anything is sent and moves through the states of store/jobs.py, each durable
before the next request. Whatever may have been carried out without an answer is looked for, never sent again
blindly: a file by the name that carries its hash, a job by the launch's id in its metadata.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.core.lineage import Lineage, count_lines, lineage_of
from tunedesk.errors import JobError, ProviderError
from tunedesk.jobs.asking import LaunchBudget, LaunchRequest, blank, job_request, new_launch_id, unsettled
from tunedesk.jobs.finding import find_begun, find_job, jobs_before
from tunedesk.jobs.recipes import RecipeBook
from tunedesk.jobs.uploading import LOOKS, OnUpload, Uploader
from tunedesk.paths import private_folder
from tunedesk.providers.base import UNREACHABLE, Provider
from tunedesk.providers.limits import check_open, check_request, today
from tunedesk.store import Launch, LaunchedFile, Store
from tunedesk.store.jobs import (
    ABANDONED,
    ADOPTED,
    CREATE_SENT,
    INTENT,
    TRAINING_UPLOADED,
    VALIDATION_UPLOADED,
)

_TURN = 0.05
"""Seconds between two looks at a lock that another program holds for a moment."""


class Launching:
    """Launches at one provider, durable in the store."""

    def __init__(
        self,
        store: Store,
        provider: Provider,
        *,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        today: Callable[[], date] = today,
        budget: LaunchBudget | None = None,
    ) -> None:
        """`pause` waits for seconds; `today` tells the day on which a provider may have closed."""
        self.store = store
        self.provider = provider
        self._pause = pause
        self._today = today
        self._budget = budget
        self._profile = provider.profile.name
        self._files = Uploader(store, provider, pause)
        self.recipes = RecipeBook(store.path.parent)

    def prepare(self, request: LaunchRequest) -> Launch:
        """Write the intent down, durably, and send nothing; the same launch id again returns what is known of it.

        Reads and hashes the files. Raises DataError, StoreError, UsageError when the provider would misread the
        request or the launch would cost too much, ProviderError when it takes no new jobs.
        """
        known = self.store.launch(request.launch) if request.launch else None
        if known is not None:
            return known
        check_open(self.provider.profile, self._today())
        check_request(self.provider.profile, request.suffix, request.hyperparameters)
        quote = self._budget.quote(request) if self._budget else None
        training = self._files.described(request.training)
        validation = self._files.described(request.validation) if request.validation else None
        for file in (training, validation):
            if file is not None:
                self.recipes.keep(Path(file.path), file.content_sha256 or file.sha256)
        launch = replace(
            blank(request, self._profile, training, validation),
            id=request.launch or new_launch_id(),
            lineage=self._lineage(request, training),
            account=self.provider.account,
            at=time.time(),
            quote=quote,
        )
        with self._budget.admitted(quote, request.model) if self._budget and quote else nullcontext():
            self.store.add_launch(launch)
        return launch

    async def launch(self, request: LaunchRequest, *, on_upload: OnUpload | None = None) -> Launch:
        """Upload, verify, create exactly one job, and return the adopted launch (see `carry_out`)."""
        launch = await asyncio.to_thread(self.prepare, request)
        return await self.go_on(launch, on_upload=on_upload)

    async def go_on(self, launch: Launch, *, on_upload: OnUpload | None = None) -> Launch:
        """Carry a launch out from wherever an earlier try stopped.

        Where that was at a request without an answer, its job is looked for, and asked for anew only when the time
        in which it would be listed is over and no list shows it. Raises as `carry_out` does.
        """
        wait = unsettled(launch)
        if wait is not None:
            await self.reconcile()
            if self._latest(launch).state == CREATE_SENT:
                await self._pause(wait)
        return await self.carry_out(launch.id, again=wait is not None, on_upload=on_upload)

    async def carry_out(
        self, launch_id: str, *, again: bool = False, on_upload: OnUpload | None = None
    ) -> Launch:
        """Bring a launch to its one job from wherever it stopped; an adopted one is returned as it is.

        `again` is the user's word that a job request without an answer may be sent anew when the provider
        lists no job of it. Raises JobError (in doubt, or busy elsewhere), ProviderError, DataError.
        """
        with self._alone(launch_id):
            launch = self.store.launch(launch_id)
            if launch is None:
                raise JobError(f"no launch {launch_id}", "see `tunedesk jobs`")
            if launch.state == ADOPTED:
                return launch
            if launch.state == ABANDONED:
                raise JobError(f"launch {launch_id} was given up", "launch afresh")
            self._check_same_place(launch)
            try:
                if launch.state == CREATE_SENT:
                    return await self._settle(launch, again=again)
                check_open(self.provider.profile, self._today())
                launch = await self._upload_both(launch, on_upload)
                return await self._create(launch)
            except (ProviderError, JobError) as error:
                self.store.save_launch(replace(self._latest(launch), error=error.message))
                raise

    async def upload(self, path: Path, *, on_upload: OnUpload | None = None) -> LaunchedFile:
        """Bring a training file up, verified, for later launches; the same bytes that are there are not sent again."""
        described = await asyncio.to_thread(self._files.described, path)
        return await self._files.uploaded(described, on_upload)

    async def reconcile(self) -> list[Launch]:
        """Adopt every job that was created without our learning of it, and send nothing that creates.

        Returns the launches that are still unfinished. Raises ProviderError when the jobs cannot be listed.
        """
        for launch in self.store.launches(self._profile, unfinished=True):
            if launch.state == CREATE_SENT:
                with self._alone(launch.id):
                    job = await find_job(self.store, self.provider, launch)
                    if job is not None:
                        self._adopt(launch, job)
        return self.store.launches(self._profile, unfinished=True)

    async def begin(self, request: LaunchRequest, *, again: bool = False) -> tuple[Launch, bool]:
        """Return the launch that asks for the same and True, else a fresh one, written down, and False.

        Of two programs that ask for the same at the same moment, one writes it down and the other finds it. `again`
        asks for a fresh one whatever was begun. Raises as `prepare` and `begun` do.
        """
        lock = self._lock_file("begin")
        while (held := _locked(lock)) is None:
            await asyncio.sleep(_TURN)
        try:
            begun = None if again else await self.begun(request)
            if begun is not None:
                return begun, True
            return await asyncio.to_thread(self.prepare, request), False
        finally:
            lock.unlink(missing_ok=True)
            os.close(held)

    async def begun(self, request: LaunchRequest) -> Launch | None:
        """Return the launch that asks for the same: half done, or with a job that did not fail; else None.

        So the same command given twice, after a stop or by mistake, does not pay twice. Raises ProviderError.
        """
        training = await asyncio.to_thread(self._files.described, request.training)
        validation = (
            await asyncio.to_thread(self._files.described, request.validation) if request.validation else None
        )
        wanted = replace(blank(request, self._profile, training, validation), account=self.provider.account)
        return await find_begun(self.store, self.provider, wanted)

    async def abandon(self, launch_id: str) -> Launch:
        """Give a launch up before its job is asked for: cancel what is half uploaded, and never carry it out.

        Raises JobError when a job was asked for already, ProviderError when an upload cannot be cancelled.
        """
        with self._alone(launch_id):
            launch = self.store.launch(launch_id)
            if launch is None or launch.state in (CREATE_SENT, ADOPTED):
                raise JobError(f"launch {launch_id} cannot be given up any more", "cancel its job instead")
            for file in (launch.training, launch.validation):
                if file is not None:
                    await self._files.give_up(file)
            launch = replace(launch, state=ABANDONED, error="given up")
            self.store.save_launch(launch)
            return launch

    def _lineage(self, request: LaunchRequest, training: LaunchedFile) -> Lineage:
        held_back = count_lines(request.validation) if request.validation else 0
        known = replace(request.lineage, validation=held_back)
        return lineage_of(request.training, training.content_sha256 or training.sha256, known)

    def _check_same_place(self, launch: Launch) -> None:
        if launch.profile != self._profile:
            raise JobError(
                f"launch {launch.id} belongs to {launch.profile}", f"use --provider {launch.profile}"
            )
        if launch.account and self.provider.account and launch.account != self.provider.account:
            raise JobError(
                f"launch {launch.id} was begun with another key ({launch.account.split()[0]})",
                "use that key, or launch afresh",
            )

    def _latest(self, launch: Launch) -> Launch:
        return self.store.launch(launch.id) or launch

    def _lock_file(self, name: str) -> Path:
        return private_folder(self.store.path.parent / "locks") / f"{name.replace(os.sep, '_')}.lock"

    @contextlib.contextmanager
    def _alone(self, launch_id: str) -> Iterator[None]:
        """Hold a launch in this process only; the lock goes with its holder, however that ends."""
        path = self._lock_file(launch_id)
        descriptor = _locked(path)
        if descriptor is None:
            raise JobError(f"another tunedesk is busy with launch {launch_id}", "wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    async def _upload_both(self, launch: Launch, on_upload: OnUpload | None) -> Launch:
        """Bring both files up, verified; each id is durable before the next request."""
        training = await self._files.uploaded(launch.training, on_upload)
        if launch.training != training or launch.state == INTENT:
            launch = replace(launch, training=training, state=TRAINING_UPLOADED)
            self.store.save_launch(launch)
        validation = launch.validation
        if validation is not None:
            validation = await self._files.uploaded(validation, on_upload)
        launch = replace(launch, validation=validation, state=VALIDATION_UPLOADED)
        self.store.save_launch(launch)
        return launch

    async def _create(self, launch: Launch) -> Launch:
        """Send the one request for a job; its being sent is durable before it goes."""
        ready = launch
        fresh = launch.training.file in self._files.sent
        before = () if fresh else await jobs_before(self.provider, launch)
        launch = replace(launch, state=CREATE_SENT, sent_at=time.time(), jobs_before=before, error="")
        self.store.save_launch(launch)
        try:
            job = await self.provider.create_job(job_request(launch), idempotency_key=launch.id)
        except ProviderError as error:
            if not error.in_doubt or error.code == UNREACHABLE:
                self.store.save_launch(replace(ready, error=error.message))
                raise
            return await self._settle(launch, again=False, cause=error)
        return self._adopt(launch, job)

    async def _settle(self, launch: Launch, *, again: bool, cause: ProviderError | None = None) -> Launch:
        """Find out what became of a request for a job that got no good answer; `cause` is what came instead."""
        try:
            for wait in (0.0, *LOOKS):
                await self._pause(wait)
                job = await find_job(self.store, self.provider, launch)
                if job is not None:
                    return self._adopt(launch, job)
                if self.provider.profile.is_local:
                    break
        except ProviderError as error:
            raise JobError(
                f"{_unconfirmed(cause)}, and the jobs cannot be listed: {error.message}",
                "nothing is sent twice; start the launch again when the provider can be reached",
            ) from error
        if again or self.provider.profile.is_local:
            return await self._create_again(launch)
        raise JobError(
            f"{_unconfirmed(cause)}, and the provider lists no job of it",
            "the same launch again looks once more, and asks anew if none is listed a minute after the request",
        ) from cause

    async def _create_again(self, launch: Launch) -> Launch:
        """Send the request anew, after the list has shown no job of it; our engine also honours its Idempotency-Key."""
        launch = replace(launch, sent_at=time.time())
        self.store.save_launch(launch)
        try:
            job = await self.provider.create_job(job_request(launch), idempotency_key=launch.id)
        except ProviderError as error:
            state = CREATE_SENT if error.in_doubt and error.code != UNREACHABLE else VALIDATION_UPLOADED
            self.store.save_launch(replace(launch, state=state, error=error.message))
            raise
        return self._adopt(launch, job)

    def _adopt(self, launch: Launch, job: FineTuningJob) -> Launch:
        self.store.save_jobs(self._profile, [job])
        launch = replace(launch, state=ADOPTED, job=job.id, error="")
        self.store.save_launch(launch)
        return launch


def _unconfirmed(cause: ProviderError | None) -> str:
    if cause is None or cause.status == 0:
        return "the request for the job got no answer" + (f" ({cause.message})" if cause else "")
    return f"the request for the job was not confirmed ({cause.message})"


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock of `path`, None when another holder lives.

    A holder that ends takes the file away, so the lock counts only on the file that is still there.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)
