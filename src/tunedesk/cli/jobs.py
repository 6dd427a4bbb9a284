"""Commands on fine-tuning jobs that exist: list, import, follow, cancel, pause, resume; recipes of their models."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.output import Progress, dollars, duration, emit, json_option, say, show, table

if TYPE_CHECKING:
    from tunedesk.core.fine_tuning import FineTuningJob
    from tunedesk.jobs import JobService, Notice
    from tunedesk.workbench import Workbench

provider_option = click.option("--provider", help="A profile's name or a base URL; this machine by default.")


@click.command("jobs")
@provider_option
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option(
    "--import", "bring", is_flag=True,
    help="Fetch all jobs of the account with events, checkpoints and files, and write recipes.",
)  # fmt: skip
@json_option
def jobs_(provider: str | None, limit: int, bring: bool, as_json: bool) -> None:
    """List the fine-tuning jobs of a provider, the newest first."""
    bench = workbench()

    async def work() -> None:
        service = await bench.jobs(bench.profile(provider))
        if bring:
            await _bring(service, as_json)
            return
        for launch in await service.reconcile():
            say(
                f"launch {launch.id} of {launch.model} is unfinished ({launch.state}): launch again, or cancel it"
            )
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


async def _bring(service: JobService, as_json: bool) -> None:
    from dataclasses import asdict

    from tunedesk.jobs import import_jobs

    with Progress("importing jobs") as progress:
        report = await import_jobs(service, on_progress=progress.update)
    if as_json:
        emit(asdict(report))
        return
    show(f"{report.jobs:,} jobs, {report.events:,} events, {report.points:,} points of loss curves")
    show(f"{report.checkpoints:,} checkpoints, {report.files:,} files, {len(report.recipes):,} recipes")
    for name in report.models:
        show(f"model  {name}")
    for path in report.recipes:
        show(f"recipe {path}")
    for one in report.missing:
        say(f"{one.job}: no {one.what}: {one.reason}")


@click.command()
@json_option
def recipes(as_json: bool) -> None:
    """List how each tuned model was made; `launch --recipe` makes it again, anywhere."""
    import msgspec

    from tunedesk.jobs import RecipeBook

    found = RecipeBook(workbench().paths.data).all()
    if as_json:
        emit([{"path": str(path), **msgspec.to_builtins(recipe)} for path, recipe in found])
        return
    heading = ("model", "from", "provider", "dataset", "cost", "recipe")
    rows = [
        (one.model, one.trained_from, one.provider, one.lineage.dataset_name, dollars(one.cost_usd), path)
        for path, one in found
    ]
    table([heading, *rows], right=(4,))


@click.command()
@click.argument("job")
@provider_option
@json_option
def tail(job: str, provider: str | None, as_json: bool) -> None:
    """Follow JOB to its end: every event and metric once, also what was told before."""
    bench = workbench()

    async def work() -> None:
        _finish(bench, await _follow(await _service(bench, job, provider), job, as_json))

    _run(bench, work)


async def _service(bench: Workbench, job: str, provider: str | None) -> JobService:
    """Return the service of the provider where `job` is known to live, else of the one named."""
    known = bench.store.job(job)
    return await bench.jobs(bench.profile(provider or (known.profile if known else None)))


async def _follow(service: JobService, job: str, as_json: bool) -> FineTuningJob | None:
    """Print the updates of a job as they come, then what its curve says, and return it as it ended."""
    from dataclasses import asdict

    from tunedesk.jobs import CheckpointSeen, EventSeen, JobChanged, PointSeen, PollFailed

    last: FineTuningJob | None = None
    try:
        async for update in service.tail(job):
            if isinstance(update, JobChanged):
                last = update.job
                emit({"type": "job", **_told(last)}) if as_json else say(f"{last.id} {last.status}")
            elif isinstance(update, EventSeen):
                told = {**asdict(update.event), "type": "event", "kind": update.event.type}
                emit(told) if as_json else show(update.event.message)
            elif isinstance(update, PointSeen) and as_json:
                emit({"type": "point", **asdict(update.point)})
            elif isinstance(update, CheckpointSeen) and as_json:
                emit({"type": "checkpoint", **asdict(update.checkpoint)})
            elif isinstance(update, PollFailed):
                say(f"{update.error.message}; looking again in {duration(update.retry_in)}")
    except asyncio.CancelledError:
        say(f"the job goes on; follow it again with tunedesk tail {job}, stop it with tunedesk cancel {job}")
        raise
    if last is not None:
        _explain(service, last, as_json)
    return last


def _explain(service: JobService, job: FineTuningJob, as_json: bool) -> None:
    """Print what the curve of a finished job says, and what is left to do before its model answers."""
    from dataclasses import asdict

    from tunedesk.core.diagnosis import diagnose

    profile = service.provider.profile
    launch = service.store.launch_of(profile.name, job.id)
    epochs = job.hyperparameters.n_epochs
    found = diagnose(
        service.store.points(profile.name, job.id),
        n_epochs=epochs if isinstance(epochs, int) else None,
        validation=launch.lineage.validation or None if launch else None,
    )
    for one in found:
        if as_json:
            emit({"type": "diagnosis", **asdict(one)})
        else:
            say(f"{one.text} ({one.evidence}): {one.advice}")
    if job.status == "succeeded" and profile.deployment:
        say(profile.deployment)


def _finish(bench: Workbench, job: FineTuningJob | None) -> None:
    """Notify, and raise JobError unless the job succeeded."""
    from tunedesk.errors import JobError
    from tunedesk.jobs import Notice
    from tunedesk.providers.limits import TRAIN_HERE

    if job is not None:
        notify(bench, Notice.of(job))
    if job is None or job.status != "succeeded":
        raise JobError(
            f"the job did not succeed: {(job.error or job.status) if job else 'it was never told'}",
            f"mend the cause and launch again, here or elsewhere ({TRAIN_HERE})",
        )


def notify(bench: Workbench, notice: Notice) -> None:
    """Ring, notify and run the user's command; what goes wrong there is said and stops nothing."""
    from tunedesk.config import notify_settings
    from tunedesk.errors import UsageError
    from tunedesk.jobs.notices import run_command, signals

    try:
        settings = notify_settings(bench.paths)
        if sys.stderr.isatty():
            sys.stderr.write(signals(notice, settings))
            sys.stderr.flush()
        run_command(notice, settings)
    except UsageError as error:
        say(f"{error.message} ({error.hint})")


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

COMMANDS = (jobs_, tail, cancel, pause, resume, recipes)
