"""How the reports of a running trainer become rows, events, checkpoints, a result file and a model."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from tunedesk.engine.job_requests import Job
from tunedesk.engine.job_store import METRICS, REWARDS, Outcome
from tunedesk.engine.state import EngineState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the running job is."""

    job: str
    step: int = 0
    total_steps: int | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    at: float = field(default_factory=time.time)
    """When the trainer said so, Unix seconds."""

    @property
    def estimated_finish(self) -> int | None:
        """Unix seconds at which the training should end, None while that is unknown."""
        return None if self.seconds_left is None else int(self.at + self.seconds_left)

    def shape(self) -> dict[str, Any]:
        """Return what /healthz tells of the running job."""
        return {
            "id": self.job,
            "step": self.step,
            "total_steps": self.total_steps,
            "tokens_per_second": self.tokens_per_second,
            "seconds_left": self.seconds_left,
        }


class JobRun:
    """One run of a job's trainer, from its start to its last report."""

    def __init__(self, state: EngineState, job: Job, base: str) -> None:
        self._state = state
        self._jobs = state.jobs
        self.job = job
        self._base = base
        self.progress = Progress(job.id)

    def hear(self, message: Mapping[str, Any]) -> str:
        """Store one report of the trainer and return its type; one that cannot be read is left out."""
        kind = str(message.get("type"))
        handler = {
            "message": self._said,
            "started": self._started,
            "metrics": self._measured,
            "progress": self._progressed,
            "checkpoint": self._saved,
            "done": self._done,
            "failed": self._failed,
        }.get(kind)
        try:
            if handler is not None:
                handler(message)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("the trainer sent a %s report that cannot be read: %s", kind, type(error).__name__)
            return ""
        return kind

    def _said(self, message: Mapping[str, Any]) -> None:
        level = message.get("level")
        self._jobs.message(
            self.job.id, str(message["message"]), level if level in ("warn", "error") else "info"
        )

    def _started(self, message: Mapping[str, Any]) -> None:
        self.progress = replace(self.progress, total_steps=int(message["total_steps"]))

    def _progressed(self, message: Mapping[str, Any]) -> None:
        self.progress = replace(
            self.progress,
            step=int(message["step"]),
            tokens_per_second=_finite(message.get("tokens_per_second")),
            seconds_left=_finite(message.get("seconds_left")),
            at=time.time(),
        )

    def _measured(self, message: Mapping[str, Any]) -> None:
        step, total_steps = int(message["step"]), int(message["total_steps"])
        self._jobs.metrics(self.job.id, step, total_steps, measured(message))
        self.progress = replace(self.progress, step=step, total_steps=total_steps)

    def _saved(self, message: Mapping[str, Any]) -> None:
        adapter = _inside(message["path"])
        self._jobs.checkpoint(
            self.job, self._base, int(message["step"]), adapter, measured(message["metrics"])
        )

    def _failed(self, message: Mapping[str, Any]) -> None:
        param = message.get("param")
        self._jobs.fail(
            self.job.id, str(message["code"]), str(message["message"]), None if param is None else str(param)
        )

    def _done(self, message: Mapping[str, Any]) -> None:
        """Make the result file and the model appear in one transaction with the job's success."""
        trained_tokens, adapter = int(message["trained_tokens"]), _inside(message["path"])
        with self._state.files.receiving() as blob, self._state.together():
            blob.write(result_csv(self._jobs.curve(self.job.id)).encode())
            file = self._state.files.add(blob, "step_metrics.csv", "fine-tune-results", None)
            self._jobs.succeed(self.job.id, Outcome(trained_tokens, self._base, adapter, file.id))


def _inside(path: Any) -> str:
    """Return a path that stays in the job's folder; raises ValueError for any other."""
    relative = PurePosixPath(str(path))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError(path)
    return str(relative)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def measured(message: Mapping[str, Any]) -> dict[str, float]:
    """Return the measured values of a report that are there and finite."""
    found = {name: _finite(message.get(name)) for name in (*METRICS, *REWARDS)}
    return {name: value for name, value in found.items() if value is not None}


def result_csv(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return the result file: a line for each step, empty where nothing was measured."""
    output = io.StringIO()
    writer = csv.DictWriter(output, ("step", *METRICS), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return output.getvalue()
