"""Jobs, their events and checkpoints, and the tuned models that came of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunedesk import db
from tunedesk.engine.database import Database, remember, remembered
from tunedesk.engine.job_requests import FINAL, ORGANIZATION, Job, JobRequest, fresh_seed
from tunedesk.engine.wire import ApiError, PageRequest, new_id

METRICS = (
    "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy", "full_valid_loss",
    "full_valid_mean_token_accuracy",
)  # fmt: skip
"""The measured members of a metrics event, in the order of the result file."""
REWARDS = tuple(
    f"{part}_reward_{kind}" for part in ("train", "valid", "full_valid") for kind in ("accuracy", "margin")
)
"""What a metrics event of a dpo job holds besides."""
_OPEN = ("validating_files", "queued", "running", "paused")
"""The statuses of a job that is not over."""
_COLUMNS = (
    "number, id, created_at, finished_at, status, model, training_file, validation_file, hyperparameters, seed,"
    " metadata, integrations, model_name, trained_tokens, result_file, error, method, validated"
)


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A model that a job made (its last state or one of its checkpoints), or that was imported."""

    number: int
    name: str
    created_at: int
    base: str
    """The base model's id."""
    job_id: str | None
    """None when it was imported."""
    adapter: str
    """The adapter's folder, relative to the job's or, when it was imported, to that of all imported ones."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished training hands over."""

    trained_tokens: int
    base: str
    adapter: str
    result_file: str


class JobStore:
    """All jobs of one engine folder; every change is one transaction that is on disk when the call returns."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, request: JobRequest, base: str, key: str | None) -> Job:
        """Store a new job and its first events; the same Idempotency-Key `key` returns the first job."""
        with self._database.write() as connection:
            known = self.known(request, key)
            if known is not None:
                return known
            job_id = new_id("ftjob-")
            seed = fresh_seed() if request.seed is None else request.seed
            name = f"ft:{base}:{ORGANIZATION}:{request.suffix}:{new_id('', 8)}"
            connection.execute(
                "INSERT INTO jobs (id, created_at, status, model, training_file, validation_file, hyperparameters,"
                " seed, metadata, integrations, model_name, method)"
                " VALUES (?, ?, 'validating_files', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job_id, int(self._clock()), request.model, request.training_file, request.validation_file,
                    json.dumps(request.hyperparameters), seed, _json(request.metadata), _json(request.integrations),
                    name, request.method,
                ),
            )  # fmt: skip
            files = request.training_file
            if request.validation_file:
                files += f" and validation file: {request.validation_file}"
            self._event(connection, job_id, f"Created fine-tuning job: {job_id}")
            self._event(connection, job_id, f"Validating training file: {files}")
            if request.integrations:
                message = "Integrations are kept but not run by this engine: metrics stay on this machine"
                self._event(connection, job_id, message, "warn")
            remember(connection, "job", key, request.fingerprint, job_id)
        return self.get(job_id)

    def known(self, request: JobRequest, key: str | None) -> Job | None:
        """Return the job that was made under this Idempotency-Key; raises ApiError 400 if from another request."""
        with self._database.write() as connection:
            known = remembered(connection, "job", key, request.fingerprint)
            return None if known is None else self.get(known)

    def get(self, job_id: str) -> Job:
        """Return the job of this id; raises ApiError 404 when there is none."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        if row is None:
            raise ApiError(
                404,
                f"Could not find fine tune: {job_id[:80]}",
                param="fine_tune_id",
                code="fine_tune_not_found",
            )
        return _job(row)

    def listed(
        self, request: PageRequest, metadata: Mapping[str, str], *, without_metadata: bool = False
    ) -> list[Job]:
        """Return up to `limit` + 1 jobs, newest first, that carry all of `metadata`."""
        sql, parameters = f"SELECT {_COLUMNS} FROM jobs WHERE number < ?", [self._cursor(request.after)]
        if without_metadata:
            sql += " AND (metadata IS NULL OR metadata = '{}')"
        for key, value in metadata.items():
            sql += " AND EXISTS (SELECT 1 FROM json_each(jobs.metadata) WHERE key = ? AND value = ?)"
            parameters += [key, value]
        sql += " ORDER BY number DESC LIMIT ?"
        return [_job(row) for row in self._database.rows(sql, [*parameters, request.limit + 1])]

    def _cursor(self, after: str | None) -> Any:
        return math.inf if after is None else self.get(after).number

    def statuses(self) -> dict[str, str]:
        """Return id → status of all jobs."""
        return {row["id"]: row["status"] for row in self._database.rows("SELECT id, status FROM jobs")}

    def first(self, status: str) -> Job | None:
        """Return the oldest job of this status, None when there is none."""
        return next(iter(self.waiting(status, most=1)), None)

    def waiting(self, status: str, *, most: int = -1) -> list[Job]:
        """Return the jobs of this status, the oldest first."""
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE status = ? ORDER BY number LIMIT ?"
        return [_job(row) for row in self._database.rows(sql, (status, most))]

    def still_wanted(self) -> set[str]:
        """Return the models that jobs which are not over start from."""
        marks = ", ".join("?" * len(_OPEN))
        rows = self._database.rows(f"SELECT DISTINCT model FROM jobs WHERE status IN ({marks})", _OPEN)
        return {row["model"] for row in rows}

    def count(self, status: str) -> int:
        """Return how many jobs have this status."""
        return int(self._database.rows("SELECT COUNT(*) FROM jobs WHERE status = ?", (status,))[0][0])

    def move(
        self, job_id: str, sources: Sequence[str], status: str, message: str, level: str = "info"
    ) -> bool:
        """Set `status` with an event if the job is in one of `sources`; tell whether it was."""
        finished = int(self._clock()) if status in FINAL else None
        with self._database.write() as connection:
            marks = ", ".join("?" * len(sources))
            changed = connection.execute(
                f"UPDATE jobs SET status = ?, finished_at = ? WHERE id = ? AND status IN ({marks})",
                (status, finished, job_id, *sources),
            ).rowcount
            if changed:
                self._event(connection, job_id, message, level)
        return bool(changed)

    def cancel(self, job_id: str) -> None:
        """End a job that is not over for good, even on a full disk."""
        self._database.freeing(lambda: self.move(job_id, _OPEN, "cancelled", "The job was cancelled"))

    def validated(self, job_id: str, hyperparameters: Mapping[str, Any]) -> bool:
        """Queue a job whose files are good, with the numbers chosen for it; False when it was cancelled before."""
        with self._database.write() as connection:
            moved = self.move(
                job_id, ("validating_files",), "queued", "Files validated, moving job to queued state"
            )
            if moved:
                connection.execute(
                    "UPDATE jobs SET hyperparameters = ?, validated = 1 WHERE id = ?",
                    (json.dumps(hyperparameters), job_id),
                )
        return moved

    def fail(self, job_id: str, code: str, message: str, param: str | None = None) -> None:
        """End a job that is not over with OpenAI's error {code, message, param}."""
        error = json.dumps({"code": code, "message": message, "param": param})
        with self._database.write() as connection:
            if self.move(job_id, _OPEN, "failed", f"Fine-tuning job failed: {message}", "error"):
                connection.execute("UPDATE jobs SET error = ? WHERE id = ?", (error, job_id))

    def succeed(self, job_id: str, outcome: Outcome) -> bool:
        """End a job well: its model, result file and last events appear together, or not when it was cancelled."""
        with self._database.write() as connection:
            job = self.get(job_id)
            sources = ("queued", "running", "paused")
            message = f"New fine-tuned model created: {job.model_name}"
            if not self.move(job_id, sources, "succeeded", message):
                return False
            connection.execute(
                "UPDATE jobs SET trained_tokens = ?, result_file = ? WHERE id = ?",
                (outcome.trained_tokens, outcome.result_file, job_id),
            )
            self._model(connection, job.model_name, outcome.base, job_id, outcome.adapter)
            self._event(connection, job_id, "The job has successfully completed")
        return True

    def message(self, job_id: str, message: str, level: str = "info") -> None:
        """Add an event of type `message`."""
        with self._database.write() as connection:
            self._event(connection, job_id, message, level)

    def metrics(self, job_id: str, step: int, total_steps: int, measured: Mapping[str, float]) -> None:
        """Add the metrics event of a step, once: what a resumed trainer repeats is dropped."""
        message = f"Step {step}/{total_steps}: training loss={measured.get('train_loss', math.nan):.2f}"
        for name, words in (("valid_loss", "validation loss"), ("full_valid_loss", "full validation loss")):
            if name in measured:
                message += f", {words}={measured[name]:.2f}"
        data = {"step": step, "total_steps": total_steps, **measured}
        with self._database.write() as connection:
            self._event(connection, job_id, message, data=data)

    def checkpoint(self, job: Job, base: str, step: int, adapter: str, measured: Mapping[str, float]) -> None:
        """Add a checkpoint and the model it can be used as, once for each step."""
        name = f"{job.model_name}:ckpt-step-{step}"
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO checkpoints (id, job_id, created_at, step, model_name, metrics)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    new_id("ftckpt_"), job.id, int(self._clock()), step, name,
                    json.dumps({"step": step, **measured}),
                ),
            ).rowcount  # fmt: skip
            if added:
                self._model(connection, name, base, job.id, adapter)
                self._event(connection, job.id, f"Checkpoint created at step {step}: {name}")

    def _event(
        self,
        connection: db.Connection,
        job_id: str,
        message: str,
        level: str = "info",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one event; its time never lies before that of the one before it."""
        last = connection.execute(
            "SELECT MAX(created_at) FROM events WHERE job_id = ?", (job_id,)
        ).fetchone()[0]
        connection.execute(
            "INSERT OR IGNORE INTO events (job_id, created_at, level, message, type, step, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                job_id, max(int(self._clock()), last or 0), level, message, "metrics" if data else "message",
                data["step"] if data else None, json.dumps(data or {}),
            ),
        )  # fmt: skip

    def import_model(self, base: str, suffix: str, folder: str) -> TunedModel:
        """Add a tuned model whose adapter was made elsewhere and lies in `folder` by now."""
        name = f"ft:{base}:{ORGANIZATION}:{suffix}:{new_id('', 8)}"
        with self._database.write() as connection:
            self._model(connection, name, base, None, folder)
        found = self.model(name)
        assert found is not None
        return found

    def _model(
        self, connection: db.Connection, name: str, base: str, job_id: str | None, adapter: str
    ) -> None:
        connection.execute(
            "INSERT INTO models (name, created_at, base, job_id, adapter) VALUES (?, ?, ?, ?, ?)",
            (name, int(self._clock()), base, job_id, adapter),
        )

    def events(self, job_id: str, request: PageRequest) -> list[dict[str, Any]]:
        """Return up to `limit` + 1 event objects of a job, newest first; raises ApiError 404 for no such job."""
        self.get(job_id)
        before: float = math.inf
        if request.after is not None:
            digits = request.after.removeprefix("ftevent-")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
                raise ApiError(404, f"No such event: {request.after[:80]}", param="after")
            before = int(digits)
        rows = self._database.rows(
            "SELECT * FROM events WHERE job_id = ? AND number < ? ORDER BY number DESC LIMIT ?",
            (job_id, before, request.limit + 1),
        )
        return [_event_shape(row) for row in rows]

    def checkpoints(self, job_id: str, request: PageRequest) -> list[dict[str, Any]]:
        """Return up to `limit` + 1 checkpoint objects of a job, newest first; raises ApiError 404."""
        self.get(job_id)
        before: float = math.inf
        if request.after is not None:
            found = self._database.row(
                "SELECT number FROM checkpoints WHERE job_id = ? AND id = ?", (job_id, request.after)
            )
            if found is None:
                raise ApiError(404, f"No such checkpoint: {request.after[:80]}", param="after")
            before = found["number"]
        rows = self._database.rows(
            "SELECT * FROM checkpoints WHERE job_id = ? AND number < ? ORDER BY number DESC LIMIT ?",
            (job_id, before, request.limit + 1),
        )
        return [_checkpoint_shape(row) for row in rows]

    def curve(self, job_id: str) -> list[dict[str, Any]]:
        """Return the data of a job's metrics events by step."""
        sql = "SELECT data FROM events WHERE job_id = ? AND type = 'metrics' ORDER BY step"
        return [json.loads(row["data"]) for row in self._database.rows(sql, (job_id,))]

    def models(self) -> list[TunedModel]:
        """Return all tuned models and checkpoints, newest first."""
        return [TunedModel(*row) for row in self._database.rows("SELECT * FROM models ORDER BY number DESC")]

    def model(self, name: str) -> TunedModel | None:
        """Return the tuned model of this name, None when there is none."""
        row = self._database.row("SELECT * FROM models WHERE name = ?", (name,))
        return None if row is None else TunedModel(*row)

    def delete_model(self, model: TunedModel) -> None:
        """Forget a tuned model; raises ApiError 409 while a job that is not over makes it or starts from it."""
        self._database.freeing(lambda: self._delete_model(model))

    def _delete_model(self, model: TunedModel) -> None:
        with self._database.write() as connection:
            marks = ", ".join("?" * len(FINAL))
            user = connection.execute(
                f"SELECT id FROM jobs WHERE (model = ? OR id = ?) AND status NOT IN ({marks})",
                (model.name, model.job_id, *FINAL),
            ).fetchone()
            if user is not None:
                message = f"The job {user['id']} still needs this model; cancel it first."
                raise ApiError(409, message, param="model", code="model_in_use")
            connection.execute("DELETE FROM models WHERE name = ?", (model.name,))


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _job(row: db.Row) -> Job:
    values = dict(row)
    for name in ("hyperparameters", "metadata", "integrations", "error"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Job(**values)


def _event_shape(row: db.Row) -> dict[str, Any]:
    """Return OpenAI's event object; the id counts up, so that (created_at, id) is the true order."""
    return {
        "id": f"ftevent-{row['number']:018d}",
        "object": "fine_tuning.job.event",
        "created_at": row["created_at"],
        "level": row["level"],
        "message": row["message"],
        "type": row["type"],
        "data": json.loads(row["data"]),
    }


def _checkpoint_shape(row: db.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "fine_tuning.job.checkpoint",
        "created_at": row["created_at"],
        "fine_tuning_job_id": row["job_id"],
        "fine_tuned_model_checkpoint": row["model_name"],
        "step_number": row["step"],
        "metrics": json.loads(row["metrics"]),
    }
