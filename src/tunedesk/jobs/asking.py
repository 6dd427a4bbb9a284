"""What a launch is asked for, and what is written down of it before anything is sent."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tunedesk.core.fine_tuning import Hyperparameters, JobRequest
from tunedesk.core.lineage import Lineage
from tunedesk.jobs.finding import LAUNCH_KEY
from tunedesk.store import Launch, LaunchedFile, Quote
from tunedesk.store.jobs import CREATE_SENT, INTENT

SETTLED = 60.0
"""Seconds after which a job that was created stands in the provider's list; before, none is asked for anew."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the user asks for: files on this machine and what to train with."""

    model: str
    training: Path
    validation: Path | None = None
    method: str = "supervised"
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    """Further pairs for the job, beside our own."""
    lineage: Lineage = field(default_factory=Lineage)
    """Where the files came from, as far as the caller knows; the rest is read from the training file."""
    launch: str = ""
    """An id chosen by the caller (see `new_launch_id`): asked for again, it is the same launch. Empty: a fresh one."""


class LaunchBudget(Protocol):
    """What launches may cost."""

    def quote(self, request: LaunchRequest) -> Quote:
        """Return what a launch may cost; raises UsageError when that is more than the user allows."""

    def admitted(self, quote: Quote, model: str) -> AbstractContextManager[None]:
        """Hold the budget while a launch is written down; raises UsageError when it has been spent meanwhile."""


def unsettled(launch: Launch) -> float | None:
    """Return the seconds after which the job of a launch in doubt may be asked for anew; None without doubt.

    Never more than `SETTLED`, whatever the clock did since.
    """
    if launch.state != CREATE_SENT:
        return None
    return min(SETTLED, max(0.0, launch.sent_at + SETTLED - time.time()))


def new_launch_id() -> str:
    """Return a fresh id for a launch, which a caller can write down before launching."""
    return "launch-" + secrets.token_hex(12)


def blank(
    request: LaunchRequest, profile: str, training: LaunchedFile, validation: LaunchedFile | None
) -> Launch:
    """Return what a request asks for as a launch without an id."""
    return Launch(
        "", profile, request.model, training, validation, method=request.method,
        hyperparameters=request.hyperparameters, suffix=request.suffix, seed=request.seed,
        metadata=dict(request.metadata), state=INTENT,
    )  # fmt: skip


def job_request(launch: Launch) -> JobRequest:
    """Return the one request that a launch, its files there, sends for its job."""
    return JobRequest(
        model=launch.model,
        training_file=launch.training.file or "",
        validation_file=launch.validation.file if launch.validation else None,
        method=launch.method,
        hyperparameters=launch.hyperparameters,
        suffix=launch.suffix,
        seed=launch.seed,
        metadata={**launch.metadata, LAUNCH_KEY: launch.id},
    )
