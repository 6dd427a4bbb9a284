"""Several launches by one command: a grid, or a queue of recipes; what came of each, and the best of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from tunedesk.cli.jobs import _run, notify
from tunedesk.cli.output import dollars, emit, say, show, table

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.jobs import LaunchRequest, QueueRow
    from tunedesk.jobs.tailing import Update
    from tunedesk.workbench import Workbench


def spread(request: LaunchRequest, sweeps: tuple[str, ...]) -> list[LaunchRequest]:
    """Return the request for each place of the grid; raises UsageError."""
    from tunedesk.jobs.queue import grid

    return [replace(request, hyperparameters=one) for one in grid(sweeps, request.hyperparameters)]


def run_places(
    bench: Workbench, places: list[tuple[LaunchRequest, Profile]], costs: list[float | None],
    stops: tuple[float | None, int | None, int], as_json: bool,
) -> None:  # fmt: skip
    """Train in order and print each row when its job has ended, the best last; raises JobError when none succeeded."""
    from tunedesk.errors import JobError
    from tunedesk.jobs import JobChanged, Notice, QueueItem, StopRules, run_queue
    from tunedesk.jobs.queue import best, sweep_launch_id

    budget, failures, turn = stops

    def moved(row: QueueRow, update: Update) -> None:
        if isinstance(update, JobChanged):
            say(f"{row.job} {update.job.status}")

    async def work() -> None:
        items = []
        for (request, profile), usd in zip(places, costs, strict=True):
            service = await bench.jobs(profile)
            named = replace(request, launch=sweep_launch_id(request, service, turn))
            items.append(QueueItem(service, named, usd))
        rows: list[QueueRow] = []
        async for row in run_queue(items, StopRules(budget, failures), on_update=moved):
            if row.state != "running":
                rows.append(row)
                if as_json:
                    emit({"type": "row", **asdict(row)})
        winner = best(rows)
        if as_json:
            emit({"type": "best", **(asdict(winner) if winner else {"job": None})})
        else:
            _show(rows, winner)
        good = sum(row.state == "succeeded" for row in rows)
        notify(bench, Notice("Queue finished", f"{good} of {len(rows)} jobs succeeded"))
        if winner is None:
            raise JobError("no job succeeded", "see the reasons above")

    _run(bench, work)


def _show(rows: list[QueueRow], winner: QueueRow | None) -> None:
    heading = ("", "provider", "epochs", "batch", "rate", "state", "train loss", "validation", "cost", "job")
    lines = [
        (
            "*" if row is winner else "", row.provider, row.hyperparameters.n_epochs, row.hyperparameters.batch_size,
            row.hyperparameters.learning_rate_multiplier, row.state, _loss(row.train_loss), _loss(row.valid_loss),
            dollars(row.usd), row.job or row.reason,
        )
        for row in rows
    ]  # fmt: skip
    table([heading, *lines], right=(2, 3, 4, 6, 7, 8))
    if winner is not None and winner.fine_tuned_model:
        show(f"best: {winner.fine_tuned_model}")
        show(f"tunedesk chat {winner.model} {winner.fine_tuned_model} --provider {winner.provider}")


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
