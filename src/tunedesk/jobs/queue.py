"""Several launches in order, at one provider or several: the next begins when the last has ended, however it ended."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import msgspec

from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters
from tunedesk.core.lineage import recipe_of
from tunedesk.errors import DataError, JobError, ProviderError, UsageError
from tunedesk.jobs.asking import LaunchRequest
from tunedesk.jobs.service import JobService
from tunedesk.jobs.tailing import JobChanged, Update
from tunedesk.store import Store

KNOBS = {
    "epochs": ("n_epochs", int), "batch-size": ("batch_size", int),
    "learning-rate-multiplier": ("learning_rate_multiplier", float),
}  # fmt: skip
"""What a sweep may vary: its name on the command line → the hyperparameter and its kind."""
_MOST = 64
"""Jobs in one grid; more is a slip of the hand."""
NOT_STARTED = "not started"
"""State of a row that a stop rule kept back."""


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One launch that waits for its turn."""

    service: JobService
    request: LaunchRequest
    """With a launch id chosen beforehand: run again, the queue finds its jobs and makes no second ones."""
    usd: float | None = None
    """Most that it may cost; None when that is unknown."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One line of the results."""

    provider: str
    model: str
    hyperparameters: Hyperparameters
    state: str = "waiting"
    """waiting, running, the job's final status, failed where there is no job, or not started."""
    launch: str = ""
    job: str | None = None
    fine_tuned_model: str | None = None
    train_loss: float | None = None
    valid_loss: float | None = None
    """The last over the whole validation file where it was measured, else on a batch of it."""
    trained_tokens: int | None = None
    usd: float | None = None
    """What it cost; its estimate's upper end while that is unknown."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StopRules:
    """When a queue ends early."""

    budget: float | None = None
    """US dollars in all; what may go above it is not started."""
    failures: int | None = None
    """Failed jobs after which nothing more is started."""


NO_RULES = StopRules()


def grid(sweeps: Sequence[str], base: Hyperparameters) -> list[Hyperparameters]:
    """Return every combination of `NAME=VALUE,VALUE…`, the first name changing slowest; raises UsageError."""
    axes: list[list[tuple[str, int | float]]] = []
    for text in sweeps:
        name, _, values = text.partition("=")
        if name not in KNOBS or not values:
            raise UsageError(
                f"--sweep {text!r} cannot be read", f"NAME=VALUE,VALUE with one of {', '.join(KNOBS)}"
            )
        attribute, kind = KNOBS[name]
        if attribute in {axis[0][0] for axis in axes}:
            raise UsageError(f"{name} is swept twice", "give all its values at once")
        try:
            axes.append([(attribute, kind(value)) for value in dict.fromkeys(values.split(","))])
        except ValueError as error:
            raise UsageError(f"--sweep {text!r}: {error}", "values are numbers between commas") from error
        if any(value <= 0 for _, value in axes[-1]):
            raise UsageError(
                f"--sweep {text!r}: values are above 0", "leave it out to let the provider choose"
            )
    made = [replace(base, **dict(chosen)) for chosen in product(*axes)]  # type: ignore[arg-type]
    if len(made) > _MOST:
        raise UsageError(f"the grid has {len(made)} jobs, {_MOST} is the most", "sweep fewer values")
    return made


def sweep_launch_id(request: LaunchRequest, service: JobService, turn: int = 0) -> str:
    """Return the launch id of one place of a grid: the same files and settings at the same account give the same.

    `turn` asks for another one on purpose. Raises DataError when a file cannot be read.
    """
    try:
        files = [
            hashlib.sha256(f.read_bytes()).hexdigest() for f in (request.training, request.validation) if f
        ]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", "check the path") from error
    asked = (
        files, service.provider.profile.name, service.provider.account, request.model, request.method,
        request.hyperparameters, request.suffix, request.seed, turn,
    )  # fmt: skip
    return "launch-" + hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:24]


async def run_queue(
    items: Sequence[QueueItem],
    rules: StopRules = NO_RULES,
    *,
    on_update: Callable[[QueueRow, Update], None] | None = None,
) -> AsyncIterator[QueueRow]:
    """Carry out launches one after the other and yield each one's row when it begins and when it has ended.

    What fails is told in its row and the next goes on, until a stop rule holds the rest back.
    """
    spent, failures = 0.0, 0
    for item in items:
        row = QueueRow(
            item.service.provider.profile.name, item.request.model, item.request.hyperparameters,
            launch=item.request.launch, usd=item.usd,
        )  # fmt: skip
        reason = held_back(item, rules, spent, failures)
        if reason:
            yield replace(row, state=NOT_STARTED, usd=None, reason=reason)
            continue
        yield replace(row, state="running")
        row = await carried_out(item, row, on_update)
        spent += row.usd or 0.0
        failures += row.state != "succeeded"
        yield row


def best(rows: Sequence[QueueRow]) -> QueueRow | None:
    """Return the succeeded row with the lowest validation loss (training loss where none has one), or None.

    Where no loss was told at all it is the first that succeeded.
    """
    done = [row for row in rows if row.state == "succeeded"]
    held = [row for row in done if row.valid_loss is not None]
    told = held or [row for row in done if row.train_loss is not None]
    if not told:
        return next(iter(done), None)
    return min(told, key=lambda row: row.valid_loss if held else row.train_loss, default=None)  # type: ignore[arg-type, return-value]


def held_back(item: QueueItem, rules: StopRules, spent: float, failures: int) -> str:
    """Return why a launch may not begin after so much was spent and so many failed, empty when it may."""
    known = item.service.store.launch(item.request.launch)
    if known is not None and known.job is not None:
        return ""
    if rules.failures is not None and failures >= rules.failures:
        return f"{failures} jobs had failed before"
    if rules.budget is not None and item.usd is None:
        return "its price is unknown, so the budget cannot be held"
    if rules.budget is not None and spent + (item.usd or 0.0) > rules.budget:
        return f"it may cost ${item.usd:,.2f}, and ${rules.budget - spent:,.2f} of the budget is left"
    return ""


async def carried_out(
    item: QueueItem, row: QueueRow, on_update: Callable[[QueueRow, Update], None] | None
) -> QueueRow:
    """Launch, follow to the end, and return the row of what came of it; failures are told in it."""
    service = item.service
    job: FineTuningJob | None = None
    try:
        launch = await service.launch(item.request)
        row = replace(row, launch=launch.id, job=launch.job)
        async for update in service.tail(launch.job or ""):
            if isinstance(update, JobChanged):
                job = update.job
            if on_update is not None:
                on_update(row, update)
    except (ProviderError, JobError, DataError, UsageError) as error:
        return replace(row, state="failed", usd=row.usd if row.job else None, reason=error.message)
    if job is None:
        return replace(row, state="failed", reason="the job was never told")
    train, valid = losses(service.store, row.provider, job.id)
    cost = service.recipes.priced(recipe_of(job, row.provider)).cost_usd
    return replace(
        row, state=job.status, fine_tuned_model=job.fine_tuned_model, train_loss=train, valid_loss=valid,
        trained_tokens=job.trained_tokens, usd=cost if cost is not None else item.usd, reason=job.error,
    )  # fmt: skip


def losses(store: Store, profile: str, job: str) -> tuple[float | None, float | None]:
    """Return a job's last training and validation loss, None where none was told."""
    last: dict[str, float] = {}
    for point in store.points(profile, job):
        for name in ("train_loss", "valid_loss", "full_valid_loss"):
            value = getattr(point, name)
            if value is not None:
                last[name] = value
    return last.get("train_loss"), last.get("full_valid_loss", last.get("valid_loss"))
