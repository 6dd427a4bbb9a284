"""From the Launch key to a followed job: gather the facts, ask once, upload, create exactly one job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tunedesk.errors import ProviderError, TunedeskError
from tunedesk.jobs import JobService, LaunchRequest, OnUpload, new_launch_id
from tunedesk.providers.limits import CLOSED, today
from tunedesk.store import Launch
from tunedesk.tui.messages import JobLaunched, ProgressMade
from tunedesk.tui.screens.dialogs import ConfirmDialog
from tunedesk.tui.screens.launch import FileFacts, IntoQueue, LaunchDialog, LaunchFacts, TrainHere
from tunedesk.tui.transfer import Transfer

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.core.checking.checks import Finding
    from tunedesk.core.workspace import Workspace
    from tunedesk.tui.desk import Desk, OnProgress
    from tunedesk.workbench import SplitFiles, Workbench

_PROGRESS_EVERY = 0.1
"""Seconds between two messages about an upload."""


async def ask_and_launch(
    desk: Desk,
    workbench: Workbench,
    workspace: Workspace,
    *,
    split: SplitFiles | None = None,
    findings: Sequence[Finding] | None = None,
) -> None:
    """Launch a job on the included conversations, once confirmed; run it as work of the desk.

    Without `split` one is made (a fifth held back); without `findings` the conversations are checked.
    The job is told to the Jobs screen as `JobLaunched`. Raises TunedeskError.
    """
    profile = workbench.profile(desk.profile)
    model = desk.model or profile.default_model
    while True:
        gather = partial(gather_facts, workbench, workspace, profile, model, split, findings)
        facts = await desk.in_thread(gather, name="preparing the launch")
        request = await desk.push_screen_wait(LaunchDialog(facts))
        if request is None:
            desk.say("nothing was sent")
            return
        if isinstance(request, IntoQueue):
            await desk.in_thread(
                partial(_queue, desk, workbench, profile, request.request), name="reckoning the cost"
            )
            return
        if not isinstance(request, TrainHere):
            try:
                await launch(desk, workbench, profile, request)
                return
            except ProviderError as error:
                if error.code != CLOSED or profile.is_local or not await _goes_here(desk, error):
                    raise
        profile = workbench.profile(None)
        model, findings = profile.default_model, None


def _queue(desk: Desk, workbench: Workbench, profile: Profile, request: LaunchRequest, _: OnProgress) -> None:
    """Put a launch at the end of the queue, with the most that it may cost."""
    quote = workbench.spending.quote(
        request.training, request.model, profile, request.hyperparameters.n_epochs
    )
    lineup = desk.background.lineup(workbench)
    lineup.add(profile.name, [request], [quote.high])
    waiting = sum(one.state == "waiting" for one in lineup.places())
    goes = "it begins when its turn comes" if lineup.rules().running else "space there lets the queue run"
    desk.say(f"in the queue, {waiting} waiting · Q on 2 Jobs shows it: {goes}")


async def _goes_here(desk: Desk, error: ProviderError) -> bool:
    question = f"{error.message}.\n\nTrain it on this machine instead?"
    answer = await desk.push_screen_wait(ConfirmDialog("No new job there", question))
    return answer is True


def gather_facts(
    workbench: Workbench,
    workspace: Workspace,
    profile: Profile,
    model: str,
    split: SplitFiles | None,
    findings: Sequence[Finding] | None,
    on_progress: OnProgress,
) -> LaunchFacts:
    """Return what the dialog shows: files as they lie on disk, cost of the training file alone, findings left."""
    if findings is None:
        findings = workbench.check(workspace, model, on_progress, profile)
    files = split or workbench.split(workspace)
    training = workbench.load(files.train, on_progress=on_progress).workspace
    counts = workbench.count(training, model, on_progress)
    errors = sum(one.severity == "error" for one in findings)
    return LaunchFacts(
        profile=profile,
        model=model,
        models=profile.tunable,
        training=_file(files.train, files.train_count, files),
        validation=_file(files.validation, files.validation_count, files) if files.validation_count else None,
        estimate=lambda name, epochs: workbench.estimate(counts, training, name, profile, epochs),
        shutdowns={name: price.shutdown for name, price in workbench.prices.items() if price.shutdown},
        errors=errors,
        warnings=len(findings) - errors,
        personal=sum(one.code == "pii" for one in findings),
        seed=files.seed,
        today=today(),
    )


def _file(path: Path, conversations: int, files: SplitFiles) -> FileFacts:
    return FileFacts(path, conversations, path.stat().st_size, files.sha256[path.name])


async def _another(desk: Desk, job: str) -> bool:
    question = f"The same files with the same settings are job {job}. Launch another beside it?"
    answer = await desk.push_screen_wait(ConfirmDialog("Launched already", question))
    return answer is True


async def launch(
    desk: Desk, workbench: Workbench, profile: Profile, request: LaunchRequest, *, again: bool = False
) -> None:
    """Upload the files with progress, create the job, and tell the Jobs screen; raises JobError, ProviderError.

    A launch of the same that was begun before goes on; one that has its job already is made anew only when asked for,
    here or before (`again`).
    """
    desk.say(f"launching on {profile.label or profile.name} … ^x stops the upload")
    request = request if request.launch else replace(request, launch=new_launch_id())
    service = await workbench.jobs(profile)
    launched = request.launch
    try:
        begun, there = await service.begin(request)
        if there and begun.job is not None and (again or await _another(desk, begun.job)):
            begun = await asyncio.to_thread(service.prepare, request)
        launched = begun.id
        await _told(desk, service.go_on(begun, on_upload=upload_told(desk)))
    except asyncio.CancelledError:
        desk.say(await given_up(service, launched))
        raise


async def go_on(desk: Desk, service: JobService, launch: Launch) -> None:
    """Bring a launch that was cut off to its one job; raises JobError, ProviderError."""
    desk.say(f"going on with {launch.id} …")
    await _told(desk, service.go_on(launch, on_upload=upload_told(desk)))


async def given_up(service: JobService, launch_id: str) -> str:
    """Give a launch up, and return what became of it."""
    try:
        if service.store.launch(launch_id) is not None:
            await service.abandon(launch_id)
    except TunedeskError as error:
        return f"{error.message}: r on Jobs looks for its job"
    return "stopped: nothing was launched"


async def _told(desk: Desk, launching: Awaitable[Launch]) -> None:
    try:
        launched = await launching
    finally:
        desk.post_message(ProgressMade("", 0, 0))
    desk.say(f"launched: job {launched.job}")
    await desk.switch_mode("jobs")
    desk.screen.post_message(JobLaunched(launched.job or ""))


def upload_told(desk: Desk) -> OnUpload:
    """Return what shows an upload's part, speed and time left in the status line."""
    told = 0.0
    moving: dict[str, Transfer] = {}

    def on_upload(name: str, sent: int, size: int) -> None:
        nonlocal told
        if monotonic() - told > _PROGRESS_EVERY:
            told = monotonic()
            transfer = moving.setdefault(name, Transfer(f"uploading {name}"))
            desk.post_message(ProgressMade(transfer.text(sent, size), sent, 0, whole=True))

    return on_upload
