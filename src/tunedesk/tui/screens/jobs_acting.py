"""What is done to the followed job from the Jobs screen: stop it, chat with it, star it, open its rows, remake it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.message import Message

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.errors import JobError
from tunedesk.jobs import JobService, RecipeBook
from tunedesk.jobs.adapters import export_adapter
from tunedesk.store import KnownJob, Launch
from tunedesk.tui.editor import edit_text
from tunedesk.tui.messages import ChatWanted, CompareWanted, ProgressMade, RowsWanted
from tunedesk.tui.panes.checkpoint_list import CheckpointList
from tunedesk.tui.panes.job_diagnosis import JobDiagnosis
from tunedesk.tui.panes.job_view import JobView, model_name
from tunedesk.tui.panes.loss_curve import LossCurve
from tunedesk.tui.screens.dialogs import ChooseDialog, ConfirmDialog, TextDialog
from tunedesk.tui.screens.jobs_following import FollowingScreen
from tunedesk.tui.screens.remaking import ask_and_remake
from tunedesk.tui.transfer import Transfer, size_text
from tunedesk.tui.widgets.line_chart import LineChart
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.tui.desk import OnProgress
    from tunedesk.workbench import Workbench

_PAUSABLE = ("running", "queued", "validating_files")
_ON_A_JOB = (
    "cancel_job", "pause_job", "chat", "compare", "star", "base", "rows", "losses", "remake", "recipe",
    "export",
)  # fmt: skip


class ActingScreen(FollowingScreen):
    """Keys that act on the followed job, each with the reason why it cannot."""

    @dataclass
    class JobActed(Message):
        """A job was cancelled, paused or resumed."""

        profile: str
        job: FineTuningJob

    def why_not(self, action: str) -> str:
        """Return why a key is disabled for the followed job."""
        job = self.view.job
        if self.desk.workbench is None and action not in ("measure", "log_scale", "smooth", "follow"):
            return "the workbench is still loading"
        if action in _ON_A_JOB and job is None:
            return (
                "the job is being opened" if self._chosen else "no job is chosen: enter on a job chooses it"
            )
        if job is None:
            return ""
        return self._why_not_job(action, job)

    def _why_not_job(self, action: str, job: FineTuningJob) -> str:
        reason = ""
        if action in ("cancel_job", "pause_job") and job.is_final:
            reason = f"the job has {job.status}; only a job under way can be cancelled or paused"
        elif action == "pause_job" and job.status not in (*_PAUSABLE, "paused"):
            reason = f"a job that is {job.status} cannot be paused"
        elif action == "export" and self.model_meant() and not self._is_engine:
            reason = "a hosted provider keeps its weights: only an engine hands them out"
        elif action in ("chat", "compare", "export") and self.model_meant() is None:
            reason = "no tuned model yet: chat starts when the job has succeeded or saved a checkpoint"
        elif action in ("star", "base") and not self.view.checkpoints and not job.fine_tuned_model:
            reason = "no checkpoint yet: one is saved after each epoch"
        elif action in ("remake", "recipe") and not self.origin.path:
            reason = "no recipe yet: it is written when the job has succeeded"
        return reason

    @property
    def _is_engine(self) -> bool:
        """Whether the followed job's model lies on an engine, as far as its profile tells."""
        workbench = self.desk.workbench
        profile = workbench.profiles().get(self.view.profile) if workbench else None
        return profile is not None and (profile.is_local or not profile.closing)

    # --- cancel and pause

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
        if self.view.job is not None and self.view.job.id == event.job.id:
            self.choose(KnownJob(event.profile, event.job))

    # --- the model and its checkpoints

    def model_meant(self) -> str | None:
        """Return the checkpoint under the cursor of its list, else the tuned model, else the best checkpoint."""
        listing = self.query_one(CheckpointList)
        if listing.has_focus and listing.highlighted is not None:
            return listing.highlighted.model
        job, best = self.view.job, self.view.best
        latest = self.view.checkpoints[-1] if self.view.checkpoints else None
        checkpoint = best or latest
        return (job.fine_tuned_model if job else None) or (checkpoint.model if checkpoint else None)

    async def action_chat(self) -> None:
        """Chat with the model beside its base."""
        job, model = self.view.job, self.model_meant()
        if job is not None and model:
            await self._chat(self.view.profile, (job.model, model))

    async def _chat(self, profile: str, models: tuple[str, ...]) -> None:
        await self.app.switch_mode("chat")
        self.app.screen.post_message(ChatWanted(profile, models))
        workbench = self.desk.workbench
        if workbench is not None and (step := workbench.profile(profile).deployment):
            self.desk.say(step, "warning")

    async def action_compare(self) -> None:
        """Compare the model with its base on held-out prompts."""
        job, model = self.view.job, self.model_meant()
        if job is not None and model:
            await self.app.switch_mode("compare")
            self.app.screen.post_message(CompareWanted(self.view.profile, (job.model, model)))

    @on(VirtualList.Opened, "CheckpointList")
    async def _checkpoint_opened(self) -> None:
        await self.action_chat()

    def action_star(self) -> None:
        """Star the checkpoint under the cursor, or take its star away."""
        listing, workbench, view = self.query_one(CheckpointList), self.desk.workbench, self.view
        chosen = listing.highlighted
        if workbench is None or view.job is None or chosen is None:
            self.say("v shows the checkpoints: * stars the one under the cursor", "warning")
            return
        starred = "" if view.starred == chosen.id else chosen.id
        workbench.store.star(view.profile, view.job.id, starred)
        self.view = replace(view, starred=starred)
        self.query_one(LossCurve).show_curves()
        told = (
            f"step {chosen.step} is the best"
            if starred
            else "the best is the one with the lowest validation loss"
        )
        self.say(f"★ {told}")

    async def action_base(self) -> None:
        """Go to Data with the model as the base of the next job."""
        model = self.model_meant()
        if model:
            self.desk.profile, self.desk.model = self.view.profile, model
            await self.app.switch_mode("data")
            self.desk.say(f"the next job continues {model}: l launches")

    @work
    async def action_export(self) -> None:
        """Ask how and where to, and save the model for other programs."""
        model, workbench, profile = self.model_meant(), self.desk.workbench, self.view.profile
        if model is None or workbench is None:
            return
        forms = [
            ("peft", "peft    an adapter, as PEFT and vLLM read it"),
            ("merged", "merged  the whole model, the adapter worked in"),
            ("gguf", "gguf    an adapter for llama.cpp"),
        ]
        form = await self.app.push_screen_wait(ChooseDialog(f"Save {model} as", forms))
        if form is None:
            return
        name = f"{model.replace(':', '-').strip('-')}-{form}"
        typed = await self.app.push_screen_wait(TextDialog("Save it as the folder", value=name))
        if typed:
            task = self._export(workbench, profile, model, (form, Path(typed).expanduser()))
            self.desk.work(task, name=f"saving {model}", group="export")

    async def _export(self, workbench: Workbench, profile: str, model: str, where: tuple[str, Path]) -> None:
        form, path = where
        client = await workbench.connect(workbench.profile(profile))
        transfer = Transfer(f"saving {model}")

        def told(done: int, total: int) -> None:
            self.desk.post_message(ProgressMade(transfer.text(done, total), done, 0, whole=True))

        self.say(f"the engine packs {model} as {form} …")
        try:
            count = await export_adapter(client, model, form, path, told)
        finally:
            self.desk.post_message(ProgressMade("", 0, 0))
        self.desk.say(f"{size_text(count)} in {path.absolute()}")

    # --- the conversations behind a step

    @on(LineChart.Chosen)
    def _chart_chosen(self, event: LineChart.Chosen) -> None:
        if event.x is not None:
            self._open_rows(int(event.x))
            return
        spikes = [one for one in self.found if one.code == "spike"]
        if spikes:
            self.query_one(LossCurve).read(spikes[0].steps[0])
            self.say(f"{spikes[0].text} · Enter opens them")
        else:
            self.say("← and → choose a step, Enter opens its conversations")

    @on(JobDiagnosis.Chosen)
    def _finding_chosen(self, event: JobDiagnosis.Chosen) -> None:
        step = event.found.steps[0]
        if event.found.code == "spike":
            self._open_rows(step)
        else:
            self.query_one(LossCurve).read(step)

    def action_losses(self) -> None:
        """Give the Data screen the latest loss of every conversation, for `loss>2` and its order."""
        self._open_rows(None)

    def _open_rows(self, step: int | None) -> None:
        view, workbench = self.view, self.desk.workbench
        if view.job is None or workbench is None:
            return
        what = "all conversations" if step is None else f"the conversations of step {step}"
        self.say(f"looking for {what} …")
        task = self._find_rows(workbench, view, step)
        self.desk.work(task, name=f"opening {what}", group="step-rows", exclusive=True)

    async def _find_rows(self, workbench: Workbench, view: JobView, step: int | None) -> None:
        assert view.job is not None
        service = await workbench.jobs(workbench.profile(view.profile))
        losses = await workbench.training_rows.row_losses(service, view.job.id, step)
        file = await asyncio.to_thread(training_file, workbench, view.launch)
        dataset = view.launch.lineage.dataset if view.launch else ""
        job = view.job.id

        def opened(workspace: Workspace | None, on_progress: OnProgress) -> Workspace:
            if workspace is None or workspace.dataset.id != dataset:
                workspace = self._dataset(workbench, dataset, file, job, on_progress)
            found = workbench.training_rows.find_rows(workspace, file, losses, on_progress)
            if not found.found:
                raise JobError(
                    f"no conversation of {workspace.dataset.name} was in {job}", "they were edited since"
                )
            lost = f", {len(found.missing)} were edited since and are not found" if found.missing else ""
            where = f"of step {step} of {job}" if step is not None else f"that {job} was trained on"
            told = f"{found.found:,} conversations {where}, by loss{lost}"
            self.desk.call_from_thread(self._rows_found, workspace.dataset.id, told)
            return workspace.with_known(replace(workspace.known, loss=found.losses))

        self.desk.change("", opened)

    def _dataset(
        self, workbench: Workbench, dataset: str, file: Path, job: str, on_progress: OnProgress
    ) -> Workspace:
        """Open the dataset that a file was split from, or the file itself where it was not made here."""
        if dataset and workbench.store.dataset(dataset) is not None:
            return workbench.open(dataset)
        return workbench.import_file(file, name=f"trained by {job}", on_progress=on_progress).workspace

    def _rows_found(self, dataset: str, told: str) -> None:
        async def going() -> None:
            await self.app.switch_mode("data")
            self.app.screen.post_message(RowsWanted(dataset, "loss>=0", "loss", told))

        self.desk.work(going(), name="opening conversations", group="step-rows-open")

    # --- making it again

    def action_remake(self) -> None:
        """Ask where, and make the model again by its recipe."""
        workbench, origin = self.desk.workbench, self.origin
        if workbench is not None and origin.recipe is not None:
            task = ask_and_remake(self.desk, workbench, origin.recipe, Path(origin.path))
            self.desk.work(task, name="making the model again", group="launch", exclusive=True)

    def action_recipe(self) -> None:
        """Open the recipe in the user's editor, and keep what it becomes."""
        workbench, path = self.desk.workbench, Path(self.origin.path)
        if workbench is None:
            return
        with self.desk.reporting("editing the recipe"):
            written = edit_text(self.app, path.read_text(encoding="utf-8"), suffix=".toml")
            if written is not None:
                recipe = RecipeBook(workbench.paths.data).rewrite(path, written)
                self.origin = replace(self.origin, recipe=recipe)
                self.say(f"kept: {path}")


def training_file(workbench: Workbench, launch: Launch | None) -> Path:
    """Return where the training file of a launch lies; raises JobError when it is not here."""
    if launch is None:
        raise JobError(
            "the job was not launched from here, so its training file is not known", "I imports it"
        )
    book = RecipeBook(workbench.paths.data)
    kept = book.kept(launch.training.content_sha256 or launch.training.sha256)
    for path in (kept, Path(launch.training.path)):
        if path.is_file():
            return path
    raise JobError(f"the training file of {launch.job} is gone", "it lay at " + launch.training.path)
