"""Commands on fine-tuning jobs: launch, list, follow, cancel, pause, resume."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.output import Progress, dollars, emit, json_option, say, show, table

if TYPE_CHECKING:
    from tunedesk.core.fine_tuning import FineTuningJob
    from tunedesk.jobs import JobService
    from tunedesk.workbench import Workbench

provider_option = click.option("--provider", help="A profile's name or a base URL; this machine by default.")


@click.command()
@click.option(
    "--train", "training", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--validation", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model", default="", help="Base model, or a tuned one to continue; the provider's default unless given."
)
@provider_option
@click.option("--epochs", type=click.IntRange(1, 50))
@click.option("--batch-size", type=click.IntRange(1, 256))
@click.option("--learning-rate-multiplier", type=click.FloatRange(0, min_open=True))
@click.option("--method", type=click.Choice(["supervised", "dpo"]), default="supervised", show_default=True)
@click.option("--suffix", help="Part of the tuned model's name.")
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--budget", type=click.FloatRange(min=0), help="Refuse to launch above this many US dollars.")
@click.option("--yes", is_flag=True, help="Do not ask before the launch.")
@click.option("--follow", is_flag=True, help="Follow the job to its end.")
@json_option
def launch(
    training: Path, validation: Path | None, model: str, provider: str | None, epochs: int | None,
    batch_size: int | None, learning_rate_multiplier: float | None, method: str, suffix: str | None,
    seed: int | None, budget: float | None, yes: bool, follow: bool, as_json: bool,
) -> None:  # fmt: skip
    """Upload, verify and create exactly one fine-tuning job."""
    from tunedesk.core.fine_tuning import Hyperparameters
    from tunedesk.jobs import LaunchRequest

    bench = workbench()
    profile = bench.profile(provider)
    chosen = bench.model_for(model, provider)
    _afford(bench, training, chosen, provider, epochs, budget, yes)
    request = LaunchRequest(
        model=chosen, training=training, validation=validation, method=method, suffix=suffix, seed=seed,
        hyperparameters=Hyperparameters(epochs or "auto", batch_size or "auto", learning_rate_multiplier or "auto"),
    )  # fmt: skip

    async def work() -> None:
        service = await bench.jobs(profile)
        with Progress("uploading") as progress:
            done = await service.launch(
                request, on_upload=lambda _, sent, size: progress.update(sent, size, " B")
            )
        known = service.store.job(done.job or "", profile.name)
        status = known.job.status if known else ""
        if as_json:
            emit(
                {
                    "launch": done.id, "job": done.job, "training_file": done.training.file,
                    "validation_file": done.validation.file if done.validation else None, "status": status,
                }
            )  # fmt: skip
        else:
            show(f"{done.job} {status}")
        if follow:
            _finish(await _follow(service, done.job or "", as_json))

    _run(bench, work)


def _afford(
    bench: Workbench, training: Path, model: str, provider: str | None, epochs: int | None, budget: float | None,
    yes: bool,
) -> None:  # fmt: skip
    """Tell the cost, refuse it above the budget, and ask once."""
    from datetime import date

    from tunedesk.errors import UsageError
    from tunedesk.providers.limits import check_open

    profile = bench.profile(provider)
    check_open(profile, date.today())
    workspace = bench.open_source(str(training))
    counts = bench.count(workspace, model)
    estimate = bench.estimate(counts, workspace, model, profile, epochs or "auto")
    cost = f"{dollars(estimate.usd)} ({dollars(estimate.low)} to {dollars(estimate.high)})"
    if budget is not None:
        if estimate.high is None:
            raise UsageError(
                f"the price of {model} is unknown, so the budget cannot be held", "add it to prices.toml"
            )
        if estimate.high > budget:
            raise UsageError(
                f"the job may cost {dollars(estimate.high)}, above the budget of {dollars(budget)}"
            )
    say(f"{counts.stats.conversations:,} conversations, {estimate.billed_tokens:,} tokens billed, {cost}")
    for notice in profile.notices(date.today()):
        say(f"{profile.label} {notice}")
    if estimate.price and estimate.price.shutdown:
        say(f"{model} and what is tuned from it stop on {estimate.price.shutdown}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("the launch was not confirmed", "add --yes to launch without a question")
    click.confirm(f"Launch on {model} at {profile.label or profile.name}?", abort=True, err=True)


@click.command("jobs")
@provider_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
def jobs_(provider: str | None, limit: int, as_json: bool) -> None:
    """List the fine-tuning jobs of a provider, the newest first."""
    bench = workbench()

    async def work() -> None:
        service = await bench.jobs(bench.profile(provider))
        known = await service.refresh(limit)
        if as_json:
            emit([_told(one.job) for one in known[:limit]])
            return
        heading = ("job", "status", "model", "fine-tuned model")
        rows = [
            (one.job.id, one.job.status, one.job.model, one.job.fine_tuned_model or "")
            for one in known[:limit]
        ]
        table([heading, *rows])

    _run(bench, work)


@click.command()
@click.argument("job")
@provider_option
@json_option
def tail(job: str, provider: str | None, as_json: bool) -> None:
    """Follow JOB to its end: every event and metric once, also what was told before."""
    bench = workbench()

    async def work() -> None:
        _finish(await _follow(await _service(bench, job, provider), job, as_json))

    _run(bench, work)


async def _service(bench: Workbench, job: str, provider: str | None) -> JobService:
    """Return the service of the provider where `job` is known to live, else of the one named."""
    known = bench.store.job(job)
    return await bench.jobs(bench.profile(provider or (known.profile if known else None)))


async def _follow(service: JobService, job: str, as_json: bool) -> FineTuningJob | None:
    """Print the updates of a job as they come and return it as it ended."""
    from dataclasses import asdict

    from tunedesk.jobs import EventSeen, JobChanged, PointSeen, PollFailed

    last: FineTuningJob | None = None
    async for update in service.tail(job):
        if isinstance(update, JobChanged):
            last = update.job
            emit({"type": "job", **_told(last)}) if as_json else say(f"{last.id} {last.status}")
        elif isinstance(update, EventSeen):
            emit({"type": "event", **asdict(update.event)}) if as_json else show(update.event.message)
        elif isinstance(update, PointSeen) and as_json:
            emit({"type": "point", **asdict(update.point)})
        elif isinstance(update, PollFailed):
            say(f"{update.error.message}; looking again")
    return last


def _finish(job: FineTuningJob | None) -> None:
    from tunedesk.errors import JobError

    if job is None or job.status != "succeeded":
        raise JobError(
            f"the job did not succeed: {(job.error or job.status) if job else 'it was never told'}"
        )


def _acting(
    name: str, act: Callable[[JobService, str], Awaitable[FineTuningJob]], meaning: str
) -> click.Command:
    def command(job: str, provider: str | None, as_json: bool) -> None:
        bench = workbench()

        async def work() -> None:
            if name == "cancel" and job.startswith("launch-"):
                launch = await (await bench.jobs(bench.profile(provider or _place(bench, job)))).abandon(job)
                emit({"launch": launch.id, "state": launch.state}) if as_json else show(
                    f"{job} {launch.state}"
                )
                return
            done = await act(await _service(bench, job, provider), job)
            emit(_told(done)) if as_json else show(f"{done.id} {done.status}")

        _run(bench, work)

    decorated = json_option(provider_option(click.argument("job")(command)))
    return click.command(name, help=meaning)(decorated)


def _place(bench: Workbench, launch: str) -> str | None:
    known = bench.store.launch(launch)
    return known.profile if known else None


def _told(job: FineTuningJob) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(job)


def _run(bench: Workbench, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` to its end on a fresh event loop, and close what it opened."""
    import asyncio

    async def closing() -> None:
        try:
            await work()
        finally:
            await bench.close()

    asyncio.run(closing())


cancel = _acting(
    "cancel",
    lambda service, job: service.cancel(job),
    "Stop JOB for good; or give up a launch without a job.",
)
pause = _acting("pause", lambda service, job: service.pause(job), "Halt JOB so that it can go on later.")
resume = _acting("resume", lambda service, job: service.resume(job), "Let a paused JOB go on.")

COMMANDS = (launch, jobs_, tail, cancel, pause, resume)
