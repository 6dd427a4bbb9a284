"""The Jobs screen: every known job, and the events and curves of the one that is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.jobs import JobService, Update
from tunedesk.store import KnownJob
from tunedesk.tui.coalescing import coalesced
from tunedesk.tui.messages import ChatWanted, JobLaunched, WorkbenchLoaded
from tunedesk.tui.panes.job_events import JobEvents
from tunedesk.tui.panes.job_list import JobList, JobRows
from tunedesk.tui.panes.job_view import JobView, model_name
from tunedesk.tui.panes.loss_curve import LossCurve
from tunedesk.tui.screens.desk_screen import DeskScreen
from tunedesk.tui.screens.dialogs import ConfirmDialog
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.workbench import Workbench

_REDRAW = 0.1
"""Least seconds between two redraws of a followed job."""
_LOOK = 1.0
"""Seconds between two looks at the store for jobs that another process launched or changed."""
_PAUSABLE = ("running", "queued", "validating_files")


class JobsScreen(DeskScreen):
    """List, events and curves; the followed job is tailed live, whoever launched it."""

    MODE = "jobs"
    CSS_PATH = "jobs.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "c", "cancel_job", "Cancel", id="jobs.cancel", tooltip="Cancel the job for good (asks first)"
        ),
        Binding("p", "pause_job", "Pause", id="jobs.pause", tooltip="Pause the job, or let it go on"),
        Binding("C", "chat", "Chat", id="jobs.chat", tooltip="Chat with the tuned model beside its base"),
        Binding(
            "f", "follow", "Follow", id="jobs.follow", tooltip="Follow the events again, or stop following"
        ),
        Binding("a", "measure", "Accuracy", id="jobs.measure", tooltip="Draw token accuracy, or loss"),
        Binding("g", "log_scale", "Log", id="jobs.log", tooltip="Logarithmic or linear y axis"),
        Binding(
            "s", "smooth", "Smooth", id="jobs.smooth", tooltip="Smooth the training curve: none, 0.6, 0.9"
        ),
        Binding("r", "refresh", "Refresh", id="jobs.refresh", tooltip="Ask the provider for all its jobs"),
    ]

    rows: reactive[JobRows] = reactive(JobRows, init=False)
    """All known jobs."""
    view: reactive[JobView] = reactive(JobView, init=False, bindings=True)
    """The followed job."""

    @dataclass
    class JobsListed(Message):
        """The store's jobs were read, and differ from what is shown."""

        rows: JobRows

    @dataclass
    class JobOpened(Message):
        """What the store holds of a job was read."""

        view: JobView

    @dataclass
    class JobAdvanced(Message):
        """The followed job told something new."""

        profile: str
        job: str
        updates: Sequence[Update]

    @dataclass
    class JobActed(Message):
        """A job was cancelled, paused or resumed."""

        profile: str
        job: FineTuningJob

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self._wanted: str | None = None

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list over (or beside) curves and events."""
        screen = JobsScreen
        yield Container(
            JobList().data_bind(rows=screen.rows, view=screen.view),
            Container(
                LossCurve().data_bind(view=screen.view),
                JobEvents().data_bind(view=screen.view),
                id="followed",
            ),
            id="jobs",
        )

    def on_mount(self) -> None:
        """Begin to watch the store, once the services are there."""
        if self.desk.workbench is not None:
            self._begin(self.desk.workbench)

    @on(WorkbenchLoaded)
    def _loaded(self, event: WorkbenchLoaded) -> None:
        self._begin(event.workbench)

    def _begin(self, workbench: Workbench) -> None:
        self.desk.work(
            self._watch_store(workbench), name="reading the jobs", group="jobs-store", exclusive=True
        )
        self.query_one(JobList).focus()

    # --- what is known

    async def _watch_store(self, workbench: Workbench) -> None:
        """Read the store each second: jobs launched headless, or changed by another process, show up."""
        shown: JobRows | None = None
        while True:
            if self.is_current:
                rows = JobRows(tuple(await asyncio.to_thread(workbench.store.jobs)), workbench.prices)
                if rows != shown:
                    shown = rows
                    self.post_message(self.JobsListed(rows))
            await asyncio.sleep(_LOOK)

    @on(JobsListed)
    def _jobs_listed(self, event: JobsListed) -> None:
        """Show the list; follow the newest job when nothing, or a finished job, is followed."""
        before = {known.job.id for known in self.rows.jobs}
        self.rows = event.rows
        new = [known for known in event.rows.jobs if known.job.id not in before]
        if self._wanted is not None:
            self.follow_job(self._wanted)
        elif new and (self.view.job is None or self.view.job.is_final):
            self._choose(new[0])

    def follow_job(self, job_id: str) -> None:
        """Follow a job, now or as soon as the store holds it."""
        known = self.query_one(JobList).go_to_job(job_id)
        self._wanted = None if known else job_id
        if known:
            self._choose(known)

    @on(JobLaunched)
    def _launched(self, event: JobLaunched) -> None:
        self.follow_job(event.job)

    @on(VirtualList.Opened)
    def _opened(self, event: VirtualList.Opened) -> None:
        self._choose(self.rows.jobs[event.index])

    def _choose(self, known: KnownJob) -> None:
        if self.desk.workbench is None:
            return
        self.query_one(JobList).go_to_job(known.job.id)
        task = self._follow(self.desk.workbench, known)
        self.desk.work(task, name=f"following {known.job.id}", group="tail", exclusive=True)

    async def _follow(self, workbench: Workbench, known: KnownJob) -> None:
        """Show what the store holds, then tail the job unless it has told everything."""
        view = await asyncio.to_thread(_held, workbench, known)
        self.post_message(self.JobOpened(view))
        if view.is_complete:
            return
        service = await workbench.jobs(workbench.profile(known.profile))
        async for updates in coalesced(service.tail(known.job.id), _REDRAW):
            self.post_message(self.JobAdvanced(known.profile, known.job.id, updates))

    @on(JobOpened)
    def _job_opened(self, event: JobOpened) -> None:
        self.view = event.view
        self._title()

    @on(JobAdvanced)
    def _job_advanced(self, event: JobAdvanced) -> None:
        view = self.view
        if view.job is None or (view.profile, view.job.id) != (event.profile, event.job):
            return
        self.view = view.take(event.updates)
        if self.view.trouble:
            self.say(self.view.trouble, "warning")
        elif view.trouble:
            self.say("the provider answers again")
        if self.view.job is not None and self.view.job.status != view.job.status:
            self._tell_status(self.view.job)
        self._title()

    def _tell_status(self, job: FineTuningJob) -> None:
        if job.status == "failed":
            self.say(f"{model_name(job)} failed: {job.error or 'no reason given'}", "error")
        elif job.status == "succeeded":
            self.say(f"{model_name(job)} is trained · C chats with it")
        else:
            self.say(f"{model_name(job)}: {job.status}")

    def _title(self) -> None:
        job = self.view.job
        self.refresh_bindings()
        title = "Curves" if job is None else f"Curves of {job.id}"
        self.query_one(LossCurve).border_title = plain_line(title).markup

    # --- keys

    def why_not(self, action: str) -> str:
        """Return why a key is disabled for the followed job."""
        job = self.view.job
        if action == "refresh" and self.desk.workbench is None:
            return "the workbench is still loading"
        if action in ("cancel_job", "pause_job", "chat") and job is None:
            return "no job is chosen: enter on a job chooses it"
        if job is None:
            return ""
        if action in ("cancel_job", "pause_job") and job.is_final:
            return f"the job has {job.status}; only a job under way can be cancelled or paused"
        if action == "pause_job" and job.status not in (*_PAUSABLE, "paused"):
            return f"a job that is {job.status} cannot be paused"
        if action == "chat" and not job.fine_tuned_model:
            return "no tuned model yet: chat starts when the job has succeeded"
        return ""

    @work
    async def action_cancel_job(self) -> None:
        """Cancel the followed job, once confirmed."""
        view = self.view
        if view.job is None:
            return
        text = (
            f"Cancel {model_name(view.job)} ({view.job.id})?\n"
            "What it trained so far is lost but for its checkpoints."
        )
        if await self.app.push_screen_wait(ConfirmDialog("Cancel the job", text)):
            self._act("cancel", view)

    def action_pause_job(self) -> None:
        """Pause the followed job, or let it go on."""
        if self.view.job is not None:
            self._act("resume" if self.view.job.status == "paused" else "pause", self.view)

    def _act(self, what: str, view: JobView) -> None:
        if self.desk.workbench is not None and view.job is not None:
            task = self._acted(self.desk.workbench, what, view.profile, view.job.id)
            self.desk.work(task, name=f"{what} {view.job.id}", group="job-action")

    async def _acted(self, workbench: Workbench, what: str, profile: str, job_id: str) -> None:
        service = await workbench.jobs(workbench.profile(profile))
        act = {"cancel": JobService.cancel, "pause": JobService.pause, "resume": JobService.resume}[what]
        self.post_message(self.JobActed(profile, await act(service, job_id)))

    @on(JobActed)
    def _job_acted(self, event: JobActed) -> None:
        self.say(f"{model_name(event.job)}: {event.job.status}")
        known = KnownJob(event.profile, event.job)
        if self.view.job is not None and self.view.job.id == event.job.id:
            self._choose(known)

    def action_follow(self) -> None:
        """Follow the events again, or stop following."""
        self.query_one(JobEvents).action_follow()

    def action_measure(self) -> None:
        """Draw the other measure."""
        self.say(f"curves show {self.query_one(LossCurve).toggle_measure()}")

    def action_log_scale(self) -> None:
        """Switch the y axis between logarithmic and linear."""
        curve = self.query_one(LossCurve)
        curve.log_scale = not curve.log_scale
        self.say(f"the y axis is {'logarithmic' if curve.log_scale else 'linear'}")

    def action_smooth(self) -> None:
        """Go to the next smoothing."""
        weight = self.query_one(LossCurve).next_smoothing()
        self.say(f"training curve smoothed by {weight}" if weight else "training curve as measured")

    async def action_chat(self) -> None:
        """Chat with the tuned model beside its base."""
        job = self.view.job
        if job is not None and job.fine_tuned_model:
            await self.app.switch_mode("chat")
            self.app.screen.post_message(ChatWanted(self.view.profile, (job.model, job.fine_tuned_model)))

    def action_refresh(self) -> None:
        """Ask the selected provider for all its jobs."""
        workbench = self.desk.workbench
        if workbench is not None:
            name = self.desk.profile
            self.say(f"asking {name} for its jobs …")
            self.desk.work(
                self._refresh(workbench, name), name=f"listing the jobs of {name}", group="job-refresh"
            )

    async def _refresh(self, workbench: Workbench, name: str) -> None:
        service = await workbench.jobs(workbench.profile(name))
        await service.reconcile()
        found = await service.refresh()
        rows = JobRows(tuple(await asyncio.to_thread(workbench.store.jobs)), workbench.prices)
        self.post_message(self.JobsListed(rows))
        self.say(f"{name} has {len(found)} job{'' if len(found) == 1 else 's'}")


def _held(workbench: Workbench, known: KnownJob) -> JobView:
    """Return what the store holds of a job."""
    store, job = workbench.store, known.job
    return JobView(
        profile=known.profile,
        job=job,
        events={event.id: event for event in store.events(known.profile, job.id)},
        points={point.step: point for point in store.points(known.profile, job.id)},
    )
