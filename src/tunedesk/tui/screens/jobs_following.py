"""What the Jobs screen knows: all jobs as the store holds them, one followed live, and those pinned beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from textual import on
from textual.message import Message
from textual.reactive import reactive

from tunedesk.core.diagnosis import Diagnosis
from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import UsageError
from tunedesk.jobs import RecipeBook, Update
from tunedesk.jobs.recipes import recipe_for
from tunedesk.store import KnownJob
from tunedesk.tui.coalescing import coalesced
from tunedesk.tui.messages import JobLaunched, WorkbenchLoaded
from tunedesk.tui.panes.job_lineage import Origin
from tunedesk.tui.panes.job_list import JobList, JobRows, arranged, key_of
from tunedesk.tui.panes.job_view import JobView, dollars, elapsed, model_name
from tunedesk.tui.screens.desk_screen import DeskScreen
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.jobs.job_filter import JobFacts
    from tunedesk.workbench import Workbench

_REDRAW = 0.1
"""Least seconds between two redraws of a followed job."""
_LOOK = 1.0
"""Seconds between two looks at the store for jobs that another process launched or changed."""
_DIAGNOSE = 1.0
"""Seconds after which new points are looked at for what they say."""
_CUT_OFF = 60.0
"""Seconds after which a launch without a job is told: until then it is on its way."""
_MOST_PINNED = 9


class FollowingScreen(DeskScreen):
    """Reads the store each second, tails the followed job and those pinned."""

    rows: reactive[JobRows] = reactive(JobRows, init=False)
    """All known jobs, filtered and in their order."""
    view: reactive[JobView] = reactive(JobView, init=False, bindings=True)
    """The followed job."""
    pinned: reactive[tuple[JobView, ...]] = reactive((), init=False)
    """Jobs whose curves are laid over the followed one's."""
    found: reactive[tuple[Diagnosis, ...]] = reactive((), init=False)
    """What the followed job's curve says."""
    origin: reactive[Origin] = reactive(Origin, init=False)
    """What the followed job's model came from."""

    @dataclass
    class JobsListed(Message):
        """The store's jobs were read, and differ from what is shown."""

        rows: JobRows

    @dataclass
    class FilterRefused(Message):
        """The filter makes no sense."""

        reason: str

    @dataclass
    class JobOpened(Message):
        """What the store holds of a job was read."""

        view: JobView
        origin: Origin

    @dataclass
    class JobAdvanced(Message):
        """A followed or pinned job told something new."""

        profile: str
        job: str
        updates: Sequence[Update]

    @dataclass
    class Diagnosed(Message):
        """The followed job's curve was looked at."""

        key: tuple[str, str]
        found: tuple[Diagnosis, ...]

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self.listing = JobRows()
        """The filter and the order that are asked for."""
        self._wanted: str | None = None
        self._chosen: KnownJob | None = None
        """The followed job as it was when it was last chosen; it is chosen again when it ends."""
        self._look = asyncio.Event()
        self._diagnosing = self._diagnose_again = False
        self._restored: dict[str, Any] = {}

    def begin(self, workbench: Workbench) -> None:
        """Begin to watch the store."""
        self.desk.work(
            self._watch_store(workbench), name="reading the jobs", group="jobs-store", exclusive=True
        )
        self.query_one(JobList).focus()

    def on_mount(self) -> None:
        """Begin, once the services are there."""
        if self.desk.workbench is not None:
            self.begin(self.desk.workbench)

    @on(WorkbenchLoaded)
    def _loaded(self, event: WorkbenchLoaded) -> None:
        self.begin(event.workbench)

    # --- the list

    async def _watch_store(self, workbench: Workbench) -> None:
        """Read the store each second: jobs launched headless, or changed by another process, show up."""
        shown: JobRows | None = None
        while True:
            self._look.clear()
            if self.is_current:
                troubles = tuple(sorted(self.desk.background.troubles.items()))
                asked = replace(self.listing, trouble=troubles)
                try:
                    rows = await asyncio.to_thread(listed, workbench, asked)
                except UsageError as error:
                    self.post_message(self.FilterRefused(f"{error.message} {error.hint}".strip()))
                else:
                    if rows != shown:
                        shown = rows
                        self.post_message(self.JobsListed(rows))
            try:
                await asyncio.wait_for(self._look.wait(), _LOOK)
            except TimeoutError:
                continue

    def look(self) -> None:
        """Read the store now."""
        self._look.set()

    @on(JobsListed)
    def _jobs_listed(self, event: JobsListed) -> None:
        """Show the list; follow the newest job when nothing, or a finished job, is followed."""
        before = {key_of(known) for known in self.rows.jobs}
        first = not self.rows.total
        self.rows = event.rows
        new = [known for known in event.rows.jobs if key_of(known) not in before]
        if first and self._restore_pins():
            return
        if self._wanted is not None:
            self.follow_job(self._wanted)
        elif new:
            newest = max(new, key=lambda known: known.job.created_at)
            current = self._chosen
            over = current is not None and current.job.is_final and not event.rows.query and not first
            if current is None or (over and newest.job.created_at >= current.job.created_at):
                self.choose(newest)

    def follow_job(self, job_id: str) -> None:
        """Follow a job, now or as soon as the store holds it."""
        known = self.query_one(JobList).go_to_job(job_id)
        self._wanted = None if known else job_id
        if known:
            self.choose(known)

    @on(JobLaunched)
    def _launched(self, event: JobLaunched) -> None:
        self.follow_job(event.job)

    @on(VirtualList.Opened, "JobList")
    def _opened(self, event: VirtualList.Opened) -> None:
        self.choose(self.rows.jobs[event.index])

    # --- the followed job and the pinned ones

    def choose(self, known: KnownJob) -> None:
        """Follow a job."""
        if self.desk.workbench is None:
            return
        self.query_one(JobList).go_to_job(known.job.id)
        self._chosen = known
        task = self._follow(self.desk.workbench, known, pinned=False)
        self.desk.work(task, name=f"following {known.job.id}", group="tail", exclusive=True)

    async def _follow(self, workbench: Workbench, known: KnownJob, *, pinned: bool) -> None:
        """Show what the store holds, then tail the job unless it has told everything."""
        view, origin = await asyncio.to_thread(held, workbench, known)
        self.post_message(PinOpened(view) if pinned else self.JobOpened(view, origin))
        if view.is_complete:
            return
        service = await workbench.jobs(workbench.profile(known.profile))
        async for updates in coalesced(service.tail(known.job.id), _REDRAW):
            self.post_message(self.JobAdvanced(known.profile, known.job.id, updates))

    @on(JobOpened)
    def _job_opened(self, event: JobOpened) -> None:
        same = self.view.key == event.view.key
        if not same:
            self.found = ()
            self._diagnosing = False
        self.view, self.origin = event.view, event.origin
        self._diagnose()
        self.job_shown(same=same)

    def job_shown(self, *, same: bool) -> None:
        """Another job is followed (or the same one was read again)."""

    @on(JobAdvanced)
    def _job_advanced(self, event: JobAdvanced) -> None:
        key = (event.profile, event.job)
        pins = tuple(view.take(event.updates) if view.key == key else view for view in self.pinned)
        if pins != self.pinned:
            self.pinned = pins
        view = self.view
        if view.job is None or view.key != key:
            return
        self.view = view.take(event.updates)
        if self.view.trouble:
            self.say(self.view.trouble, "warning")
        elif view.trouble:
            self.say("the provider answers again")
        if self.view.job is not None and self.view.job.status != view.job.status:
            self._tell_status(self.view.job)
            if self.view.job.is_final and self.desk.workbench is not None:
                self.choose(KnownJob(event.profile, self.view.job))
        self._diagnose()

    def _diagnose(self) -> None:
        """Look at what the curve says, at once, then at most so often while points come."""
        if self._diagnosing:
            self._diagnose_again = True
        else:
            self._diagnosing = True
            self.desk.work(self._diagnosed(), name="diagnosis", group="diagnosis", exclusive=True)

    async def _diagnosed(self) -> None:
        self._diagnose_again = False
        began = time.monotonic()
        view = self.view
        self.post_message(self.Diagnosed(view.key, tuple(await asyncio.to_thread(view.diagnosis))))
        await asyncio.sleep(max(_DIAGNOSE, 5 * (time.monotonic() - began)))
        self._diagnosing = False
        if self._diagnose_again:
            self._diagnose()

    @on(Diagnosed)
    def _take_diagnosis(self, event: Diagnosed) -> None:
        if event.key == self.view.key:
            self.found = event.found

    def _tell_status(self, job: FineTuningJob) -> None:
        if job.status == "failed":
            self.say(f"{model_name(job)} failed: {job.error or 'no reason given'}", "error")
        elif job.status == "succeeded":
            self.say(f"{model_name(job)} is trained · C chats with it")
        else:
            self.say(f"{model_name(job)}: {job.status}")

    @on(JobList.PinToggled)
    def _pin_toggled(self, event: JobList.PinToggled) -> None:
        key = key_of(event.known)
        if key in [view.key for view in self.pinned]:
            self.pinned = tuple(view for view in self.pinned if view.key != key)
            self.say(f"{model_name(event.known.job)} is not pinned any more")
        elif len(self.pinned) >= _MOST_PINNED:
            self.say(f"{_MOST_PINNED} jobs are pinned: space on one of them takes it off", "warning")
        else:
            self.pin(event.known)

    def pin(self, known: KnownJob) -> None:
        """Lay a job's curves over the followed one's."""
        if self.desk.workbench is not None:
            task = self._follow(self.desk.workbench, known, pinned=True)
            self.desk.work(
                task, name=f"following {known.job.id}", group=f"pin-{known.job.id}", exclusive=True
            )

    def on_pin_opened(self, event: PinOpened) -> None:
        """Show a pinned job."""
        others = tuple(view for view in self.pinned if view.key != event.view.key)
        self.pinned = (*others, event.view)

    # --- what the next start shows again

    def restore(self, state: dict[str, Any]) -> None:
        """Follow and pin, once the list is there, what was followed and pinned last."""
        self._restored = state

    def _restore_pins(self) -> bool:
        """Follow and pin what was; whether a job is followed."""
        state, self._restored = self._restored, {}
        jobs = {list(key_of(known)) == state.get("job"): known for known in self.rows.jobs}
        for wanted in state.get("pinned", ()):
            for known in self.rows.jobs:
                if list(key_of(known)) == wanted:
                    self.pin(known)
        if True in jobs and self._wanted is None:
            self.choose(jobs[True])
            return True
        return False


@dataclass
class PinOpened(Message):
    """What the store holds of a job to be pinned was read."""

    view: JobView


def listed(workbench: Workbench, asked: JobRows) -> JobRows:
    """Return all jobs that the filter of `asked` matches in its order; raises QueryError."""
    jobs = workbench.store.jobs()
    launches, now = workbench.store.launches(), time.time()
    quotes = {(one.profile, one.job): one.quote for one in launches if one.job and one.quote}
    cut_off = [one for one in workbench.store.launches(unfinished=True) if now - one.at > _CUT_OFF]
    rows = replace(asked, total=len(jobs), prices=workbench.prices, quotes=quotes, unfinished=len(cut_off))
    if asked.query:
        places = workbench.job_filter.matching(_facts(workbench, jobs, rows, now), asked.query)
        jobs = [jobs[place] for place in places]
    return replace(rows, jobs=arranged(rows, jobs, now))


def _facts(workbench: Workbench, jobs: Sequence[KnownJob], rows: JobRows, now: float) -> list[JobFacts]:
    datasets = {
        (one.profile, one.job): one.lineage.dataset_name for one in workbench.store.launches() if one.job
    }
    return [
        workbench.job_filter.JobFacts(
            one, dollars(one.job, rows.prices, rows.quotes.get(key_of(one))), elapsed(one.job, now) / 60,
            datasets.get(key_of(one), ""),
        )
        for one in jobs
    ]  # fmt: skip


def held(workbench: Workbench, known: KnownJob) -> tuple[JobView, Origin]:
    """Return what the store holds of a job, and what its model came from."""
    store, job = workbench.store, known.job
    launch = store.launch_of(known.profile, job.id)
    view = JobView(
        profile=known.profile,
        job=job,
        events={event.id: event for event in store.events(known.profile, job.id)},
        points={point.step: point for point in store.points(known.profile, job.id)},
        checkpoints=tuple(store.checkpoints(known.profile, job.id)),
        starred=store.starred(known.profile, job.id),
        launch=launch,
    )
    recipe, path = recipe_for(RecipeBook(workbench.paths.data), known, launch)
    return view, Origin(recipe, str(path) if path else "")
