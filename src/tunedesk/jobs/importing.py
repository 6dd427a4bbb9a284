"""Everything an account holds about its jobs, brought here before the service closes; safe to run again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.core.lineage import RecipeFile, lineage_of, recipe_of
from tunedesk.errors import ProviderError
from tunedesk.jobs.service import JobService
from tunedesk.jobs.tailing import JobChanged, follow
from tunedesk.paths import private_folder
from tunedesk.providers.payload import Payload
from tunedesk.store import FileKey, KnownFile

_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that could not be fetched."""

    job: str
    what: str
    reason: str


@dataclass(slots=True)
class ImportReport:
    """What came of an import."""

    jobs: int = 0
    models: list[str] = field(default_factory=list)
    """Names of the tuned models."""
    events: int = 0
    points: int = 0
    checkpoints: int = 0
    files: int = 0
    """Training, validation and result files that lie here now."""
    recipes: list[str] = field(default_factory=list)
    """Paths of their recipes."""
    missing: list[Missing] = field(default_factory=list)


async def import_jobs(
    service: JobService, *, on_progress: Callable[[int, int], None] | None = None
) -> ImportReport:
    """Fetch all jobs of an account with events, curves, checkpoints, result and training files, and write recipes.

    What one job lacks is reported and stops no other. Raises ProviderError when the jobs cannot be listed.
    """
    jobs = await service.provider.jobs(limit=_MOST)
    service.store.save_jobs(service.provider.profile.name, jobs)
    report = ImportReport(jobs=len(jobs))
    for number, job in enumerate(jobs):
        if on_progress is not None:
            on_progress(number, len(jobs))
        await _One(service, job, report).fetch()
    await _look_for_models(service, jobs, report)
    return report


async def _look_for_models(service: JobService, jobs: Sequence[FineTuningJob], report: ImportReport) -> None:
    """Report the tuned models that are not listed any more, where the provider lists others of these jobs."""
    made = {job.fine_tuned_model: job.id for job in jobs if job.fine_tuned_model}
    try:
        listed = {model.id for model in await service.provider.models()} if made else set()
    except ProviderError as error:
        report.missing.append(Missing("all jobs", "list of models", error.message))
        return
    if listed & made.keys():
        why = "it was deleted there, or its base has been shut down: its recipe makes it again"
        gone = [name for name in made if name not in listed]
        report.missing += [Missing(made[name], f"model {name}", why) for name in gone]


class _One:
    """One job on its way here."""

    def __init__(self, service: JobService, job: FineTuningJob, report: ImportReport) -> None:
        self._service = service
        self._store = service.store
        self._provider = service.provider
        self._profile = service.provider.profile.name
        self._job = job
        self._report = report

    async def fetch(self) -> None:
        """Fetch what there is, then write the recipe of a job that has succeeded."""
        job, report = self._job, self._report
        await self._told()
        for result in job.result_files:
            await self._file(result, "result file")
        training = await self._file(job.training_file, "training file") if job.training_file else None
        validation = await self._file(job.validation_file, "validation file") if job.validation_file else None
        if job.status != "succeeded":
            return
        if job.fine_tuned_model:
            report.models.append(job.fine_tuned_model)
        recipes = self._service.recipes
        path = recipes.note(self._profile, job, self._store.launch_of(self._profile, job.id))
        launch = self._store.launch_of(self._profile, job.id)
        if launch is None and training is not None:
            recipe = recipes.priced(recipe_of(job, self._profile))
            lineage = lineage_of(recipes.kept(training))
            path = recipes.write(
                replace(recipe, training=_recipe_file(training, recipes.kept(training)), lineage=lineage,
                        validation=_recipe_file(validation, recipes.kept(validation)) if validation else None)
            )  # fmt: skip
        if path is not None:
            report.recipes.append(str(path))

    async def _told(self) -> None:
        """Fetch events, curve and checkpoints: one look of a tail, which stops there whatever the status."""
        job, store = self._job, self._store
        try:
            async for update in follow(store, self._provider, job.id, interval=0, looks=1):
                if isinstance(update, JobChanged):
                    self._job = update.job
        except ProviderError as error:
            self._lacks("events", error)
        self._report.events += len(store.events(self._profile, job.id))
        self._report.points += len(store.points(self._profile, job.id))
        self._report.checkpoints += len(store.checkpoints(self._profile, job.id))

    async def _file(self, file_id: str, what: str) -> str | None:
        """Bring a file here, unless it is; return the hash under which it is kept."""
        recipes = self._service.recipes
        sha256 = self._store.file_sha256(self._profile, file_id)
        if sha256 is not None and recipes.kept(sha256).exists():
            self._report.files += 1
            return sha256
        with tempfile.TemporaryDirectory(dir=private_folder(recipes.folder)) as folder:
            arriving = Path(folder) / "file"
            try:
                size = await self._provider.download(file_id, arriving)
            except ProviderError as error:
                self._lacks(f"{what} {file_id}", error)
                return None
            if not size:
                self._report.missing.append(Missing(self._job.id, f"{what} {file_id}", "it is empty"))
                return None
            sha256 = Payload.of(arriving).sha256()
            recipes.keep(arriving, sha256)
        key = FileKey(self._profile, self._provider.account, sha256)
        self._store.save_file(key, KnownFile(file_id, size))
        self._report.files += 1
        return sha256

    def _lacks(self, what: str, error: ProviderError) -> None:
        self._report.missing.append(Missing(self._job.id, what, error.message))


def _recipe_file(sha256: str, kept: Path) -> RecipeFile:
    return RecipeFile(str(kept), sha256)
