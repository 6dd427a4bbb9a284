"""The whole journey without a screen: a file in, a tuned and compared model out; killed anywhere, it goes on.

Each finished step is durable before the next begins. The launch's id is written down before the launch is, so that a
second start finds the same launch, and through it the same job: nothing is trained twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tunedesk import evaluate
from tunedesk.config import Profile
from tunedesk.core.checking.across import FEWEST
from tunedesk.core.checking.findings import Finding
from tunedesk.core.conversations import Conversation
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters, MetricPoint
from tunedesk.core.metrics import steps_per_second
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, JobError, StoreError
from tunedesk.jobs import (
    EventSeen,
    JobChanged,
    JobService,
    LaunchRequest,
    PointSeen,
    PollFailed,
    new_launch_id,
    unsettled,
)
from tunedesk.paths import private_folder
from tunedesk.providers.replies import Sampling
from tunedesk.workbench import Workbench

STEPS = ("import", "check", "fix", "split", "launch", "train", "compare")
"""Names of the steps in order; each is told once when it is done."""
ANSWERS = Sampling(temperature=0.0, max_tokens=200, seed=0)
"""How the held-out questions are answered: the likeliest words, and no more than shows the difference."""
QUESTIONS = 5
"""Held-out questions that are put to the base and the tuned model at the end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a journey is asked to do; equal plans on equal bytes are the same journey."""

    source: str
    model: str
    profile: Profile
    validation: float = 0.2
    seed: int = 0
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    questions: int = QUESTIONS


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is done (now, or in an earlier run: `resumed`)."""

    step: str
    data: dict[str, Any]
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """Something worth a line to the person: a note, an event of the job."""

    text: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Training or comparing has moved on; shown on one line that is written over."""

    text: str


Update = StepDone | Told | Moved


class Journey:
    """One run of a plan, from where the last one stopped."""

    def __init__(
        self,
        bench: Workbench,
        plan: Plan,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Hash the source to find out whether this journey was begun before.

        Raises DataError when it cannot be read.
        """
        self.bench = bench
        self.plan = plan
        self.key = _key(bench, plan)
        self.folder = private_folder(bench.paths.runs / self.key)
        self._on_progress = on_progress
        self._pause = pause

    def done(self, step: str) -> dict[str, Any] | None:
        """Return what a step left in an earlier run, or None."""
        journey = self.bench.store.journey(self.key)
        return journey.steps.get(step) if journey else None

    def forget(self) -> None:
        """Begin afresh at the next start; jobs, models and datasets stay."""
        self.bench.store.forget_journey(self.key)

    async def prepare(self) -> AsyncIterator[Update]:
        """Import, check, fix and split: all that happens on this machine before anything is sent."""
        with self._alone():
            if self._files_whole():
                for step in STEPS[:4]:
                    yield StepDone(step, self.done(step) or {}, resumed=True)
                return
            async for update in self._prepare():
                yield update

    async def finish(self) -> AsyncIterator[Update]:
        """Launch, follow and compare; the last update holds the tuned model and the report's path."""
        with self._alone():
            service = await self.bench.jobs(self.plan.profile)
            async for update in self._launch(service):
                yield update
            async for update in self._train(service):
                yield update
            async for update in self._compare():
                yield update

    # --- on this machine

    async def _prepare(self) -> AsyncIterator[Update]:
        imported = await asyncio.to_thread(self.bench.load, self.plan.source, on_progress=self._on_progress)
        for note in imported.report.notes:
            yield Told(note)
        skipped = [asdict(row) for row in imported.report.skipped]
        yield self._keep("import", {"conversations": imported.workspace.total, "skipped": skipped})
        workspace = imported.workspace
        findings = await asyncio.to_thread(self._findings, workspace)
        codes: dict[str, int] = {}
        for one in findings:
            codes[one.code] = codes.get(one.code, 0) + 1
        errors = sum(one.severity == "error" for one in findings)
        yield self._keep("check", {"errors": errors, "warnings": len(findings) - errors, "codes": codes})
        workspace, left_out = await asyncio.to_thread(self._fixed, workspace, findings)
        fixed = len({one.line for one in findings if one.fix})
        yield self._keep(
            "fix", {"fixed": fixed, "left_out": left_out, "conversations": workspace.included_count}
        )
        yield await asyncio.to_thread(self._split, workspace)

    def _findings(self, workspace: Workspace) -> list[Finding]:
        return self.bench.check(workspace, self.plan.model, None, self.plan.profile)

    def _fixed(self, workspace: Workspace, findings: list[Finding]) -> tuple[Workspace, list[dict[str, Any]]]:
        """Apply the safe fixes, then leave out what would still be refused; say which and why.

        Raises DataError when the file as a whole would be refused even so.
        """
        by_line = {workspace.line(index): index for index in workspace.included_indexes()}
        workspace = self.bench.fix(workspace, findings)
        left_out: list[Finding] = []
        while errors := [one for one in self._findings(workspace) if one.severity == "error"]:
            refused = [one for one in errors if one.line in by_line]
            if not refused:
                raise DataError(
                    errors[0].text, f"tunedesk check {self.plan.source} tells everything that is wrong"
                )
            left_out += refused
            workspace = self.bench.exclude(workspace, {by_line[one.line] for one in refused})
        return workspace, [{"line": one.line, "code": one.code, "reason": one.text} for one in left_out]

    def _split(self, workspace: Workspace) -> StepDone:
        plan = self.plan
        if not workspace.included_count:
            raise DataError(
                "no conversation is left to train on", f"tunedesk check {plan.source} says what is wrong"
            )
        files = self.bench.split(workspace, self.folder, validation=plan.validation, seed=plan.seed)
        if files.train_count < FEWEST:
            raise DataError(
                f"only {files.train_count} conversations would train: {FEWEST} is the least",
                "add conversations, or hold fewer back: --validation 0.1",
            )
        counts = self.bench.count(workspace, plan.model)
        estimate = self.bench.estimate(
            counts, workspace, plan.model, plan.profile, plan.hyperparameters.n_epochs
        )
        data = {
            "train": files.train_count, "validation": files.validation_count, "groups": files.groups,
            "leaks": files.leaks, "seed": files.seed, "sha256": files.sha256, "folder": str(self.folder),
            "tokens": counts.stats.total, "estimated_usd": estimate.usd,
            "billed_tokens": round(estimate.billed_tokens * files.train_count / max(1, workspace.included_count)),
        }  # fmt: skip
        return self._keep("split", data)

    def _files_whole(self) -> bool:
        split = self.done("split")
        return split is not None and all(
            _sha256(self.folder / name) == digest for name, digest in split["sha256"].items()
        )

    # --- at the provider

    async def _launch(self, service: JobService) -> AsyncIterator[Update]:
        intent = await self._intent(service)
        known = service.store.launch(intent)
        request = LaunchRequest(
            model=self.plan.model, training=self.folder / "train.jsonl", validation=self.folder / "validation.jsonl",
            hyperparameters=self.plan.hyperparameters, seed=self.plan.seed, launch=intent,
        )  # fmt: skip
        if known is None or known.job is None:
            yield Told(f"uploading to {self.plan.profile.label or self.plan.profile.name}")
        launch = await asyncio.to_thread(service.prepare, request)
        if unsettled(launch) is not None:
            yield Told("the request for a job got no answer before: looking for its job")
        launch = await service.go_on(launch)
        data = {
            "launch": launch.id, "job": launch.job, "training_file": launch.training.file,
            "validation_file": launch.validation.file if launch.validation else None,
        }  # fmt: skip
        yield self._keep("launch", data, resumed=known is not None and known.job is not None)

    async def _intent(self, service: JobService) -> str:
        """Return the id of this journey's launch, written down before it is used; a new one after a failed job."""
        kept = self.done("intent")
        if kept is not None:
            launch = service.store.launch(kept["launch"])
            known = service.store.job(launch.job, launch.profile) if launch and launch.job else None
            if known is None or known.job.status not in ("failed", "cancelled"):
                return str(kept["launch"])
        intent = new_launch_id()
        self.bench.store.save_journey_step(self.key, "intent", {"launch": intent})
        return intent

    async def _train(self, service: JobService) -> AsyncIterator[Update]:
        launched = self.done("launch") or {}
        kept = self.done("train")
        if kept is not None and kept["job"] == launched["job"]:
            yield StepDone("train", kept, resumed=True)
            return
        points: list[MetricPoint] = []
        job: FineTuningJob | None = None
        per_step = 0.0
        async for update in service.tail(launched["job"]):
            if isinstance(update, PointSeen):
                points.append(update.point)
                per_step = per_step or self._tokens_per_step(update.point)
                yield Moved(progress_line(points, per_step))
            elif isinstance(update, EventSeen) and update.event.type != "metrics":
                yield Told(update.event.message)
            elif isinstance(update, JobChanged):
                job = update.job
            elif isinstance(update, PollFailed):
                yield Told(f"{update.error.message}; looking again")
        if job is None or job.status != "succeeded" or not job.fine_tuned_model:
            reason = (job.error if job else "") or (job.status if job else "it was never told")
            raise JobError(
                f"the job {launched['job']} did not succeed: {reason}", "mend the cause and run again"
            )
        data = {
            "job": job.id, "model": job.fine_tuned_model, "trained_tokens": job.trained_tokens,
            "train_loss": _ends(points, "train_loss"), "full_valid_loss": _ends(points, "full_valid_loss"),
            "valid_loss": _ends(points, "valid_loss"), "steps": points[-1].step if points else None,
        }  # fmt: skip
        yield self._keep("train", data)

    def _tokens_per_step(self, point: MetricPoint) -> float:
        split = self.done("split") or {}
        return split.get("billed_tokens", 0) / point.total_steps if point.total_steps else 0.0

    async def _compare(self) -> AsyncIterator[Update]:
        trained = self.done("train") or {}
        report = self.folder / "report.html"
        kept = self.done("compare")
        if kept is not None and kept["model"] == trained["model"] and report.exists():
            yield StepDone("compare", kept, resumed=True)
            return
        provider = await self.bench.connect(self.plan.profile)
        models = [(provider, self.plan.model), (provider, trained["model"])]
        answers: asyncio.Queue[evaluate.Answer | None] = asyncio.Queue()
        items = held_out(self.folder / "validation.jsonl", self.plan.questions)

        async def asking() -> evaluate.CompareResult:
            try:
                return await evaluate.compare(models, items, sampling=ANSWERS, on_answer=answers.put_nowait)
            finally:
                answers.put_nowait(None)

        task = asyncio.create_task(asking())
        count = 0
        while (answer := await answers.get()) is not None:
            count += 1
            yield Moved(f"asking both models: {count} of {len(items) * 2} answers ({answer.model})")
        result = await task
        for line in evaluate.summary(result):
            yield Told(line)
        await asyncio.to_thread(evaluate.write_report, result, report)
        data = {
            "model": trained["model"], "base": self.plan.model, "job": trained["job"], "report": str(report),
            "metrics": [msgspec.to_builtins(score) for score in result.scores],
            "answers": [
                {"question": item.messages[-1].get("content"), "reference": item.reference}
                | {name: result.answer(place, name).text for name in result.models}
                for place, item in enumerate(result.items)
            ],
        }  # fmt: skip
        yield self._keep("compare", data)

    # --- state

    def _keep(self, step: str, data: dict[str, Any], *, resumed: bool = False) -> StepDone:
        self.bench.store.save_journey_step(self.key, step, data)
        return StepDone(step, data, resumed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the journey in this process only; the lock goes with its holder, however that ends."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise StoreError("another tunedesk is on this journey", "wait for it, or stop it") from error
        finally:
            os.close(descriptor)


def held_out(path: Path, count: int) -> list[Conversation]:
    """Return the first `count` conversations of a training file; raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            lines = [line for line, _ in zip(file, range(count), strict=False)]
        return [msgspec.json.decode(line, type=Conversation) for line in lines]
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "choose a file of OpenAI chat rows") from error


def progress_line(points: list[MetricPoint], tokens_per_step: float) -> str:
    """Return one line of how training goes: step, loss, tokens a second, time left."""
    last = points[-1]
    losses = [f"loss {last.train_loss:.3f}"] if last.train_loss is not None else []
    valid = next(
        (p.valid_loss or p.full_valid_loss for p in reversed(points) if p.valid_loss or p.full_valid_loss),
        None,
    )
    losses += [f"validation {valid:.3f}"] if valid is not None else []
    speed = steps_per_second(points)
    told = [f"step {last.step}{f'/{last.total_steps}' if last.total_steps else ''}", *losses]
    if speed:
        told.append(f"{speed * tokens_per_step:,.0f} tokens/s")
        if last.total_steps:
            seconds = round((last.total_steps - last.step) / speed)
            told.append(f"{seconds // 60}:{seconds % 60:02d} left")
    return "  ".join(told)


def _ends(points: list[MetricPoint], name: str) -> list[float] | None:
    """Return the first and last value of a curve, None when it has none."""
    values = [value for point in points if (value := getattr(point, name)) is not None]
    return [values[0], values[-1]] if values else None


def _key(bench: Workbench, plan: Plan) -> str:
    """Name a journey by its input and all that changes its outcome."""
    path = Path(plan.source)
    source = _sha256(path) if path.is_file() else str(path.absolute())
    if source is None:
        raise DataError(f"{plan.source} cannot be read", "check the path")
    asked = (
        source,
        plan.model,
        plan.profile.name,
        plan.validation,
        plan.seed,
        asdict(plan.hyperparameters),
        plan.questions,
    )
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
