"""What the Jobs screen does beyond the followed job: ask all providers, the queue, files, an account's past, dates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from tunedesk.config import find_key
from tunedesk.errors import UsageError
from tunedesk.jobs import import_jobs
from tunedesk.jobs.adapters import base_of, import_adapter
from tunedesk.jobs.overview import Listed, refresh_all
from tunedesk.store import Launch
from tunedesk.tui.messages import ProgressMade
from tunedesk.tui.panes.job_view import clock
from tunedesk.tui.screens.dates import DatesDialog, calendar
from tunedesk.tui.screens.dialogs import ChooseDialog, ConfirmDialog, TellDialog, TextDialog
from tunedesk.tui.screens.files import FilesDialog
from tunedesk.tui.screens.jobs_acting import ActingScreen
from tunedesk.tui.screens.launching import given_up, go_on
from tunedesk.tui.screens.queue import QueueAnswer, QueueDialog
from tunedesk.tui.screens.remaking import ask_profile
from tunedesk.tui.transfer import Transfer

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.jobs import ImportReport
    from tunedesk.workbench import Workbench


class ElsewhereScreen(ActingScreen):
    """Keys that need no followed job."""

    # --- all providers

    def begin(self, workbench: Workbench) -> None:
        """Ask the hosted providers for their jobs once; this machine's are in the store."""
        super().begin(workbench)
        self.desk.work(
            self._refresh_hosted(workbench), name="listing all jobs", group="job-refresh", exclusive=True
        )

    async def _refresh_hosted(self, workbench: Workbench) -> None:
        profiles = [one for one in await asyncio.to_thread(askable, workbench) if not one.is_local]
        async for one in refresh_all(profiles, workbench.jobs):
            self._take(one)

    def _take(self, one: Listed) -> None:
        """Show what came of asking a provider."""
        troubles = self.desk.background.troubles
        if one.trouble:
            troubles[one.profile] = one.trouble
        else:
            troubles.pop(one.profile, None)
        self.look()

    def action_refresh(self) -> None:
        """Ask all providers that are set up for all their jobs."""
        workbench = self.desk.workbench
        if workbench is not None:
            self.desk.work(
                self._refresh(workbench), name="listing all jobs", group="job-refresh", exclusive=True
            )

    async def _refresh(self, workbench: Workbench) -> None:
        profiles = await asyncio.to_thread(askable, workbench)
        self.say(f"asking {', '.join(one.name for one in profiles)} for their jobs …")
        count, troubles = 0, self.desk.background.troubles
        async for one in refresh_all(profiles, workbench.jobs):
            count += one.jobs
            self._take(one)
        silent = [one.name for one in profiles if one.name in troubles]
        told = f"{', '.join(one.name for one in profiles)}: {count} job{'' if count == 1 else 's'}"
        self.say(
            f"{told}; no answer from {', '.join(silent)}" if silent else told,
            "warning" if silent else "information",
        )

    # --- launches that were cut off

    @work
    async def action_unfinished(self) -> None:
        """Ask which launch without a job to go on with, or to give up."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        launches = {one.id: one for one in workbench.store.launches(unfinished=True)}
        if not launches:
            self.say("every launch has its job")
            return
        choices = [(one.id, _launch_line(one)) for one in launches.values()]
        chosen = await self.app.push_screen_wait(ChooseDialog("Launches that were cut off", choices))
        if chosen is None:
            return
        ways = [("on", "go on where it stopped: nothing is sent twice"), ("up", "give it up")]
        way = await self.app.push_screen_wait(ChooseDialog(_launch_line(launches[chosen]), ways))
        if way is not None:
            task = self._unfinished(workbench, launches[chosen], way)
            self.desk.work(task, name=f"launch of {launches[chosen].model}", group="launch", exclusive=True)

    async def _unfinished(self, workbench: Workbench, launch: Launch, way: str) -> None:
        service = await workbench.jobs(workbench.profile(launch.profile))
        if way == "on":
            await go_on(self.desk, service, launch)
        else:
            self.say(await given_up(service, launch.id))
        self.look()

    # --- the queue

    @work
    async def action_queue(self) -> None:
        """Show the queue, then do what was chosen there."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        lineup = self.desk.background.lineup(workbench)
        answer: QueueAnswer | None = await self.app.push_screen_wait(QueueDialog(lineup, workbench))
        if answer is None:
            return
        if answer.models:
            await self._chat(answer.profile, answer.models)
        elif answer.job:
            self.follow_job(answer.job)

    # --- files

    @work
    async def action_files(self) -> None:
        """Ask which provider, and show its files."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        current = self.view.profile or self.desk.profile
        profile = await ask_profile(self.desk, workbench, "Whose files", current)
        if profile is not None:
            await self.app.push_screen_wait(FilesDialog(workbench, profile))

    # --- an account's past

    @work
    async def action_import_account(self) -> None:
        """Ask for an account, and bring all its jobs, events, curves and files here."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        profile = await ask_profile(self.desk, workbench, "Import the jobs of", "openai")
        if profile is None:
            return
        text = (
            f"Bring every job of {profile.label or profile.name} here: events, curves, checkpoints, result files, "
            "and training files while they can be fetched.\nNothing is changed or deleted there.\n"
            "Each tuned model gets a recipe, by which it can be made again elsewhere."
        )
        if await self.app.push_screen_wait(ConfirmDialog("Import an account", text)):
            self.desk.work(
                self._import(workbench, profile), name=f"importing {profile.name}", group="import-account"
            )

    async def _import(self, workbench: Workbench, profile: Profile) -> None:
        service = await workbench.jobs(profile)

        def told(done: int, total: int) -> None:
            self.desk.post_message(ProgressMade(f"importing {profile.name}", done, total))

        try:
            report = await import_jobs(service, on_progress=told)
        finally:
            self.desk.post_message(ProgressMade("", 0, 0))
        self.look()
        self.app.push_screen(TellDialog(f"Imported from {profile.name}", report_lines(report)))

    # --- models of other trainers

    @work
    async def action_import_adapter(self) -> None:
        """Ask for an adapter's folder, its base and a name, and take it into the engine."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        ask = self.app.push_screen_wait
        typed = await ask(
            TextDialog("Adapter to take in", note="the folder of a LoRA adapter as PEFT saves it")
        )
        if not typed:
            return
        folder = Path(typed).expanduser()
        with self.desk.reporting("taking the adapter in"):
            told = base_of(folder)
            base = await ask(TextDialog("Its base model", value=told, note="by its name on this machine"))
            name = await ask(TextDialog("Part of the model's name", value=folder.name)) if base else None
            if base and name is not None:
                task = self._import_adapter(workbench, folder, base, name)
                self.desk.work(task, name="taking the adapter in", group="import-adapter")

    async def _import_adapter(self, workbench: Workbench, folder: Path, base: str, name: str) -> None:
        client = await workbench.connect(workbench.profile(None))
        transfer = Transfer(f"sending {folder.name}")

        def told(done: int, total: int) -> None:
            self.desk.post_message(ProgressMade(transfer.text(done, total), done, 0, whole=True))

        try:
            made = await import_adapter(client, folder, base, name, told)
        finally:
            self.desk.post_message(ProgressMade("", 0, 0))
        self.desk.say(f"{made['model']} is here, on {made['base']}: 3 Chat asks it")

    # --- dates

    @work
    async def action_dates(self) -> None:
        """Show what ends when."""
        workbench = self.desk.workbench
        if workbench is not None:
            dates = await asyncio.to_thread(calendar, workbench)
            await self.app.push_screen_wait(DatesDialog(dates))


def _launch_line(launch: Launch) -> str:
    why = f" · {launch.error}" if launch.error else ""
    return f"{launch.model} at {launch.profile}, {clock(launch.at)}: {launch.state.replace('_', ' ')}{why}"


def askable(workbench: Workbench) -> list[Profile]:
    """Return the profiles that can be asked: this machine, and those with an address and a key."""
    return [one for one in workbench.profiles().values() if one.is_local or (one.base_url and _has_key(one))]


def _has_key(profile: Profile) -> bool:
    try:
        return find_key(profile) is not None
    except UsageError:
        return True  # a key that cannot be used: asking says so


def report_lines(report: ImportReport) -> list[str]:
    """Return what an import brought, and what it could not."""
    lines = [
        f"{report.jobs:,} jobs · {report.events:,} events · {report.points:,} points of curves",
        f"{report.checkpoints:,} checkpoints · {report.files:,} files · {len(report.recipes):,} recipes",
        *(f"model {name}" for name in report.models),
    ]
    if report.recipes:
        lines.append(f"recipes lie in {Path(report.recipes[0]).parent}; R makes a model again")
    lines += [f"! {one.job}: no {one.what}: {one.reason}" for one in report.missing]
    return lines
