"""The queue: validates files, runs one trainer at a time, and brings jobs back after a crash."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence

from tunedesk.engine.fetch import (
    Interrupted,
    Offer,
    TooLarge,
    check_memory,
    fetch_model,
    in_words,
    no_conversion,
)
from tunedesk.engine.hub import Listing
from tunedesk.engine.job_files import check_files
from tunedesk.engine.job_requests import FINAL, Job
from tunedesk.engine.job_run import JobRun, Progress
from tunedesk.engine.library import ModelLibrary
from tunedesk.engine.state import EngineState
from tunedesk.engine.trainer_process import TrainerProcess
from tunedesk.engine.training_files import TrainingFileError, choose
from tunedesk.engine.wire import ApiError
from tunedesk.errors import EngineError, StoreError
from tunedesk.paths import write_whole

log = logging.getLogger(__name__)

CRASHES_ALLOWED = 2
"""How often a trainer that ends without a word is started again before its job fails."""
STOP_GRACE = 30.0
"""Seconds that a trainer gets to finish its step and save, when paused or when the server stops."""
_ELSEWHERE = "tunedesk.engine.on_ray"
"""The trainer whose memory is not this machine's."""
RETRY_AFTER = 5.0
"""Seconds until the queue is tried again after our own disk refused."""


class _Abandoned(Exception):
    """Nobody wants the model any more that is being fetched."""


class Worker:
    """Three threads: for new jobs in order, for those whose model must be fetched, and for training the queued ones."""

    def __init__(
        self,
        state: EngineState,
        library: ModelLibrary,
        command: Sequence[str],
        *,
        stop_grace: float = STOP_GRACE,
    ) -> None:
        self._state = state
        self._jobs = state.jobs
        self._library = library
        self._command = tuple(command)
        self._stop_grace = stop_grace
        self._turn = threading.Condition()
        """Guards the members below, and each change of a status together with the process that it is about."""
        self._news = 0
        self._stopping = False
        self._process: TrainerProcess | None = None
        self._run: JobRun | None = None
        self._crashes: dict[str, int] = {}
        self._taken: set[str] = set()
        self._threads = [
            threading.Thread(target=self._loop, args=(self._validate_next,), name="validate", daemon=True),
            threading.Thread(target=self._loop, args=(self._fetch_next,), name="fetch", daemon=True),
            threading.Thread(target=self._loop, args=(self._train_next,), name="train", daemon=True),
        ]

    @property
    def progress(self) -> Progress | None:
        """How far the running job is, None when none runs."""
        run = self._run
        return None if run is None else run.progress

    def start(self) -> None:
        """Take up the queue, first of all the job that a dead server left running."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; a running trainer saves its state, and its job is resumed at the next start."""
        with self._turn:
            self._stopping = True
            if self._process is not None:
                self._process.ask_to_stop(self._stop_grace)
        self.notice()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(self._stop_grace + 15)

    def notice(self) -> None:
        """Look for new work: to be called after a job was created."""
        with self._turn:
            self._news += 1
            self._turn.notify_all()

    def cancel(self, job_id: str) -> Job:
        """End a job for good; raises ApiError 404, or 400 when it is over."""
        with self._turn:
            self._open_job(job_id)
            self._jobs.cancel(job_id)
            if self._process is not None and self._is_running(job_id):
                self._run = None  # what it still reports is not heard
                self._process.kill()
            return self._jobs.get(job_id)

    def pause(self, job_id: str) -> Job:
        """Hold a job; its trainer saves its state, a fetch what it has; raises ApiError 404, or 400 when it is over."""
        with self._turn:
            self._open_job(job_id)
            sources = ("validating_files", "queued", "running")
            moved = self._jobs.move(job_id, sources, "paused", "The job was paused")
            if moved and self._process is not None and self._is_running(job_id):
                self._process.ask_to_stop(self._stop_grace)
            return self._jobs.get(job_id)

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again; raises ApiError 404, or 400 when it is not paused."""
        with self._turn:
            job = self._open_job(job_id)
            if job.status != "paused":
                raise ApiError(400, "The job is not paused.", code="job_not_paused")
            if job.validated:
                self._jobs.move(job_id, ("paused",), "queued", "The job was resumed and is queued")
            else:
                message = "The job was resumed and is validated"
                self._jobs.move(job_id, ("paused",), "validating_files", message)
            self.notice()
            return self._jobs.get(job_id)

    def _open_job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job.status in FINAL:
            raise ApiError(400, f"The job is over: it has {_ENDED[job.status]}.", code="job_over")
        return job

    def _is_running(self, job_id: str) -> bool:
        return self._run is not None and self._run.job.id == job_id

    def _loop(self, work: Callable[[], bool]) -> None:
        """Do `work` until there is none (False), then wait for news; wait a little when our disk refuses."""
        while not self._stopping:
            seen = self._news
            patience = None
            try:
                busy = work()
            except (StoreError, OSError) as error:
                log.error("the queue waits: %s", error)
                busy, patience = False, RETRY_AFTER
            with self._turn:
                if not busy and seen == self._news:
                    self._turn.wait(patience)

    def _validate_next(self) -> bool:
        """Validate the first job whose model is here, or is not to be had."""
        return self._take(
            lambda job: self._offer(job) is None, lambda job: self._validated(job, lambda: None)
        )

    def _fetch_next(self) -> bool:
        """Validate the first job whose model is not here, and fetch that."""
        return self._take(
            lambda job: self._offer(job) is not None,
            lambda job: self._validated(job, lambda: self._fetch(job)),
        )

    def _take(self, mine: Callable[[Job], bool], work: Callable[[Job], None]) -> bool:
        """Do `work` on the first job to be validated that is `mine` and that the other thread does not have."""
        with self._turn:
            waiting = self._jobs.waiting("validating_files")
            job = next((job for job in waiting if job.id not in self._taken and mine(job)), None)
            if job is None:
                return False
            self._taken.add(job.id)
        try:
            work(job)
        finally:
            with self._turn:
                self._taken.remove(job.id)
        return True

    def _offer(self, job: Job) -> Offer | None:
        try:
            return self._library.to_fetch(job.model)
        except ApiError:
            return None  # the job fails in the place where a model must be here

    def _validated(self, job: Job, fetch: Callable[[], None]) -> None:
        """Check a job's files, `fetch` its model, and queue it or say why it failed."""
        try:
            examples = check_files(self._state, job, lambda: self._stopping)
            if not self._stopping:
                fetch()
        except TrainingFileError as error:
            self._jobs.fail(job.id, error.code, error.message, error.param)
        except TooLarge as error:
            self._jobs.fail(job.id, "model_too_large", f"{error.message}; {error.hint}", "model")
        except EngineError as error:
            self._jobs.fail(job.id, "model_not_fetched", f"{error.message}; {error.hint}", "model")
        except ApiError as error:
            self._jobs.fail(job.id, error.code or "model_not_found", error.message, error.param)
        except (Interrupted, _Abandoned) as left:
            log.info("the fetch for %s ends: %s", job.id, type(left).__name__)
        else:
            if not self._stopping and self._jobs.validated(job.id, choose(job.hyperparameters, examples)):
                self.notice()

    def _fetch(self, job: Job) -> None:
        """Bring the job's base model here, telling it in the job's events; raises EngineError, or what `look` does."""

        def look() -> None:
            status = self._jobs.get(job.id).status
            if self._stopping or status == "paused":
                raise Interrupted
            if status != "validating_files":
                raise Interrupted if job.model in self._jobs.still_wanted() else _Abandoned

        def say(words: str, level: str = "info") -> None:
            with self._turn:  # so that nothing is said after the job's last event
                if self._jobs.get(job.id).status == "validating_files":
                    self._jobs.message(job.id, words, level)

        def admit(listing: Listing) -> None:
            if _ELSEWHERE not in self._command:
                check_memory(listing, lambda words: say(words, "warn"))

        if (offer := self._library.to_fetch(job.model)) is None:
            return  # another job's fetch has brought it meanwhile
        report = in_words(say, look)
        fetch_model(self._state.models, report, no_conversion, offer, admit)

    def _train_next(self) -> bool:
        """Train the first job of the queue; what is still marked running was left so by a server that died."""
        left = self._jobs.first("running")
        if left is not None:
            message = "Training was interrupted; the job resumes from its last saved state"
            return self._jobs.move(left.id, ("running",), "queued", message, "warn")
        job = self._jobs.first("queued")
        if job is None:
            return False
        try:
            run = self._prepare(job)
            process = TrainerProcess(self._command, self._state.job_folder(job.id))
        except ApiError as error:
            self._jobs.fail(job.id, error.code or "invalid_model", error.message, error.param)
        except EngineError as error:
            self._jobs.fail(job.id, "trainer_not_started", error.message)
        else:
            self._train(run, process)
        return True

    def _prepare(self, job: Job) -> JobRun:
        """Write job.json, the trainer's orders."""
        folder = self._state.job_folder(job.id)
        start = self._library.start(job.model)
        orders = {
            "job": job.id,
            "model": start.base,
            "models": [str(path) for path in self._library.folders],
            "parent_adapter": None if start.parent_adapter is None else str(start.parent_adapter),
            "training_file": str(folder / "training.jsonl"),
            "validation_file": str(folder / "validation.jsonl") if job.validation_file else None,
            "method": job.method,
            "hyperparameters": job.hyperparameters,
            "seed": job.seed,
            "fine_tuned_model": job.model_name,
            "metadata": job.metadata or {},
        }
        write_whole(folder / "job.json", json.dumps(orders, indent=1))
        return JobRun(self._state, job, start.base)

    def _train(self, run: JobRun, process: TrainerProcess) -> None:
        """Follow a trainer to its end, unless the job was paused or cancelled while it was started."""
        last = ""
        try:
            with self._turn:
                if self._stopping or not self._jobs.move(
                    run.job.id, ("queued",), "running", "Fine-tuning job started"
                ):
                    process.kill()
                    return
                self._process, self._run = process, run
            last = self._listen(run, process)
        except (StoreError, OSError):
            process.kill()  # what was not stored is reported again after the resume
            raise
        finally:
            status = process.close()
            with self._turn:
                self._process = self._run = None
        if last not in ("done", "failed") and not self._stopping:
            self._crashed(run.job, process, status)

    def _listen(self, run: JobRun, process: TrainerProcess) -> str:
        """Hear all reports and return the type of the last one that could be read."""
        last = ""
        for message in process.messages():
            with self._turn:
                if self._run is run:
                    last = run.hear(message) or last
        return last

    def _crashed(self, job: Job, process: TrainerProcess, status: int) -> None:
        """Queue a job again whose trainer ended without a word while it was to run; fail it after three times."""
        crashes = self._crashes[job.id] = self._crashes.get(job.id, 0) + 1
        with self._turn:
            if self._jobs.get(job.id).status != "running":
                return
            if crashes > CRASHES_ALLOWED:
                words = process.last_words() or "it wrote no error"
                self._jobs.fail(job.id, "trainer_crashed", f"The trainer ended with status {status}: {words}")
            else:
                message = f"The trainer ended with status {status}; it starts again from its last saved state"
                self._jobs.move(job.id, ("running",), "queued", message, "warn")


_ENDED = {"succeeded": "completed", "failed": "failed", "cancelled": "been cancelled"}
