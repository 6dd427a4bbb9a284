"""The steps of the journey as both front ends call them: the app by keys, the command line by commands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from tunedesk.config import Profile, add_profile, find_key, find_profile, profiles
from tunedesk.core.checking.checks import (
    Checked,
    Finding,
    Rules,
    check_file,
    check_lines,
    check_rows,
    is_rows_file,
)
from tunedesk.core.checking.file_checks import encoded
from tunedesk.core.checking.fix_preview import LineFix, preview_file, preview_lines
from tunedesk.core.checking.fixes import FIXABLE, fix_file, fix_rows
from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.counting import pricing
from tunedesk.core.counting.local_tokens import LocalCounter
from tunedesk.core.counting.pricing import Estimate, Price
from tunedesk.core.editing import edits
from tunedesk.core.editing.history import Recorded
from tunedesk.core.editing.reading_ahead import read_ahead
from tunedesk.core.grouping.duplicates import THRESHOLD
from tunedesk.core.grouping.split_files import split_files
from tunedesk.core.importing import importers
from tunedesk.core.importing.exporters import Written, write_rows
from tunedesk.core.known_rows import with_duplicates, with_findings, with_personal_data, with_topics
from tunedesk.core.row_views import RowView
from tunedesk.core.searching.completion import FieldValues, candidates
from tunedesk.core.searching.facets import facet_groups, narrowed, term
from tunedesk.core.workspace import Workspace
from tunedesk.counting import Counting, Counts
from tunedesk.curation import Curation, fixing
from tunedesk.errors import DataError, TunedeskError, UsageError
from tunedesk.jobs import JobService, job_filter, rows
from tunedesk.library import Imported, Library, OnProgress, sample_file
from tunedesk.paths import Paths, private_folder
from tunedesk.providers import connect
from tunedesk.providers.base import Provider
from tunedesk.spending import Spending
from tunedesk.versions import IMPORTED, Versions, Views

__all__ = ["Counts", "DuplicateLines", "Imported", "Row", "Workbench", "sample_file"]

_PATIENCE = 8.0
"""Seconds that a list of models may take before it is done without."""
_STEP = 500
"""Rows between two calls of a progress function."""


@dataclass(frozen=True, slots=True)
class DuplicateLines:
    """Conversations of a file that say the same, or nearly."""

    lines: tuple[int, ...]
    similarity: float


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """A split as it lies on disk."""

    train: Path
    validation: Path
    train_count: int
    validation_count: int
    groups: int
    """Groups of twins that were kept on one side."""
    leaks: int
    """Validation rows with a twin in training, counted on the written files: 0."""
    seed: int
    sha256: dict[str, str]
    """File name → hash of its bytes."""
    warnings: tuple[str, ...] = ()

    @property
    def proof(self) -> str:
        """The line that says that nothing leaks."""
        return f"{self.leaks} leaks at similarity ≥ {THRESHOLD}, {self.groups:,} groups kept together"


class Endpoints(Library):
    """The prices, and the providers that profiles name."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths)
        self._providers: dict[str, Provider] = {}

    @cached_property
    def prices(self) -> dict[str, Price]:
        """Prices by model, the user's own over the shipped ones."""
        return pricing.load_prices(self.paths.config / "prices.toml")

    @cached_property
    def counting(self) -> Counting:
        """Tokens of workspaces and files, counted once."""
        return Counting(self.paths)

    @cached_property
    def spending(self) -> Spending:
        """Estimates, ledger and budget."""
        return Spending(self.paths, lambda: self.store, lambda: self.prices, self.counting)

    def profiles(self) -> dict[str, Profile]:
        """Return all profiles by name."""
        return profiles(self.paths)

    def profile(self, wanted: str | None) -> Profile:
        """Return the profile of this name or base URL, the local engine's for None; raises UsageError."""
        return find_profile(self.paths, wanted)

    def add_profile(self, base_url: str) -> Profile:
        """Keep an endpoint as a profile of the user's own; raises UsageError when `base_url` is none."""
        return add_profile(self.paths, base_url)

    def model_for(self, model: str, provider: str | None) -> str:
        """Return `model`, or the provider's default one when it is empty."""
        return model or self.profile(provider).default_model

    async def connect(self, profile: Profile) -> Provider:
        """Return the client of `profile`, made once; the local engine starts at its first request.

        Raises ProviderError when there is no address or no key.
        """
        if profile.name not in self._providers:
            key = find_key(profile)
            self._providers[profile.name] = await asyncio.to_thread(connect, profile, key, self.paths)
        return self._providers[profile.name]

    async def askable_models(self, profile: Profile, chosen: Iterable[str] = ()) -> list[tuple[str, str]]:
        """Return the models to choose from for a question, each with what it was tuned from and when it stops.

        Those that can be tuned come first, then what was tuned from them; `chosen` ones are offered in any case.
        """
        listed = {model.id: model.shutdown_date for model in await (await self.connect(profile)).models()}
        listed |= {name: None for name in chosen if name not in listed}
        known = await asyncio.to_thread(self.store.jobs, profile.name)
        bases = {one.job.fine_tuned_model: one.job.model for one in known}
        found = []
        for model, told in listed.items():
            what = [f"tuned from {bases[model]}"] if model in bases else []
            price = pricing.price_for(model, self.prices)
            stops = told or (price.shutdown if price else "")
            what += [f"stops on {stops}"] if stops else []
            found.append((model, " · ".join(what)))
        return sorted(found, key=lambda one: (one[0] not in profile.tunable, one[0] not in bases, one[0]))

    async def tunable_models(self, profile: Profile) -> list[str]:
        """Return the models to choose from for a job: the profile's own list, then what the endpoint tells in time.

        Where a list is known, only tuned models (to continue from) are added to it; the engine's are all added.
        """
        names = list(profile.tunable)
        try:
            async with asyncio.timeout(_PATIENCE):
                listed = [model.id for model in await (await self.connect(profile)).models()]
        except (TunedeskError, TimeoutError):
            return names
        known = bool(names) and not profile.is_local
        fitting = [name for name in listed if name.startswith("ft:") or not known]
        return list(dict.fromkeys([*names, *fitting]))

    def use(self, provider: Provider) -> None:
        """Take `provider` as the client of its profile from now on."""
        self._providers[provider.profile.name] = provider

    async def jobs(self, profile: Profile) -> JobService:
        """Return the service that launches and follows jobs at `profile`.

        An endpoint that was only named by its URL is kept as a profile, so that its jobs are found again.
        """
        if profile.name not in self._providers and profile.name not in self.profiles():
            profile = self.add_profile(profile.base_url)
        provider = await self.connect(profile)
        return JobService(self.store, provider, budget=self.spending.guard(profile))

    async def close(self) -> None:
        """Close all connections and the store."""
        for provider in self._providers.values():
            await provider.close()
        self._providers.clear()
        if "store" in self.__dict__:
            self.store.close()
            for name in ("store", "versions", "views"):
                self.__dict__.pop(name, None)


class Workbench(Endpoints):
    """All services of one user's state folders; safe to call from several threads, one call at a time each."""

    # What the app takes from here, as it may not load Polars before its first frame.
    facets, narrowed, term = staticmethod(facet_groups), staticmethod(narrowed), staticmethod(term)
    completions, field_values = staticmethod(candidates), FieldValues
    read_edits, job_filter, training_rows = staticmethod(read_ahead), job_filter, rows

    @cached_property
    def versions(self) -> Versions:
        """Named versions of datasets, and what differs between two states."""
        return Versions(self.store, self.open_source)

    @cached_property
    def curation(self) -> Curation:
        """Personal data, duplicates and coverage: what needs a look at all conversations."""
        return Curation(self.paths, self.open_source)

    @cached_property
    def views(self) -> Views:
        """Queries under names."""
        return Views(self.store)

    # --- lists

    def knowing(
        self,
        workspace: Workspace,
        facts: Collection[str],
        model: str = "",
        on_progress: OnProgress | None = None,
    ) -> Workspace:
        """Return the workspace with `query.facts` worked out, all but the loss, which only a training tells."""
        if "tokens" in facts:
            counts = self.count(workspace, self.model_for(model, None), on_progress)
            workspace = self.with_counts(workspace, counts)
        if "findings" in facts:
            workspace = with_findings(workspace, self.check(workspace, model, on_progress))
        elif "duplicates" in facts:
            groups = self.curation.twins(workspace, on_progress)
            workspace = with_duplicates(workspace, (one.rows for one in groups))
        if "pii" in facts:
            rows = self.curation.rows_with_personal_data(workspace, on_progress)
            workspace = with_personal_data(workspace, workspace, rows)
        if "topics" in facts:
            workspace = with_topics(workspace, self.curation.coverage(workspace, on_progress).topics)
        return workspace

    def listed(self, workspace: Workspace, limit: int) -> list[dict[str, Any]]:
        """Return the first `limit` matches as the `list` command prints them."""
        return [_listed(view) for view in workspace.meta_rows(slice(0, limit))]

    # --- checks, fixes, edits

    def rules(self, model: str, profile: Profile) -> Rules:
        """Return what conversations are held against for `model` at `profile`."""
        counter = self.counting.counter(model or profile.default_model)
        unstopped = counter.unstopped() if isinstance(counter, LocalCounter) else ""
        return Rules(
            provider=profile.name, count_tokens=counter.row, limit=counter.limit, unstopped=unstopped
        )

    def check(
        self,
        workspace: Workspace,
        model: str = "",
        on_progress: OnProgress | None = None,
        profile: Profile | None = None,
    ) -> list[Finding]:
        """Return all findings on the included rows, by line."""
        total = workspace.total

        def lines() -> Iterator[tuple[int, bytes]]:
            for index, raw in workspace.included_lines():
                if on_progress and index % _STEP == 0:
                    on_progress(index, total)
                yield workspace.line(index), raw

        return check_lines(lines(), self.rules(model, profile or self.profile(None))).findings

    def check_source(
        self,
        source: str,
        *,
        model: str = "",
        provider: Profile | str | None = None,
        said: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Checked:
        """Check a file as it lies on disk, a file of another format as it would be imported, or a dataset.

        Unless `said`, only what an API or a trainer refuses, and the shape of rows: not what is said in them.
        """
        rules = self.rules(model, provider if isinstance(provider, Profile) else self.profile(provider))
        rules = replace(rules, said=said)
        if source != "-" and not Path(source).exists():
            workspace = self.open(source)
            return check_lines(((workspace.line(i), raw) for i, raw in workspace.included_lines()), rules)
        if source == "-" or is_rows_file(source):
            return check_file(source, rules, on_progress)
        rows = importers.read(source, on_progress=on_progress)
        checked = check_rows(rows, rules)
        skipped = [
            Finding(one.line, None, "error", "not_imported", one.reason) for one in rows.report.skipped
        ]
        return Checked(checked.conversations, sorted([*checked.findings, *skipped], key=lambda one: one.line))

    def fix(self, workspace: Workspace, findings: Sequence[Finding]) -> Workspace:
        """Apply the safe fixes of `findings`: mend rows, exclude further copies of a duplicate, in one edit."""
        try:
            return workspace.apply(fixing(workspace, findings))
        except DataError:
            return workspace

    def fix_file(
        self,
        source: str,
        output: Path,
        codes: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[tuple[int, str]]:
        """Write `source` with its safe fixes applied; return (line, code) of each. Raises DataError, UsageError."""
        wanted = _fixable(codes)
        if source == "-" or (Path(source).exists() and is_rows_file(source)):
            return fix_file(source, output, wanted, on_progress)
        done: list[tuple[int, str]] = []
        rows = fix_rows(self._source_rows(source), wanted, lambda *one: done.append(one))
        write_rows(((row.line, row.row) for row in rows), output, keep_metadata=True)
        return done

    def preview_fixes(
        self,
        source: str,
        codes: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
        most: int | None = None,
    ) -> Iterator[LineFix]:
        """Yield what `fix_file` would do, with a diff for each of the first `most` fixes of a code."""
        wanted = _fixable(codes)
        if source == "-" or (Path(source).exists() and is_rows_file(source)):
            return preview_file(source, wanted, on_progress, most)
        return preview_lines(
            ((one.line, encoded(one.row)) for one in self._source_rows(source)), wanted, most
        )

    def _source_rows(self, source: str) -> Any:
        if source == "-" or Path(source).exists():
            return importers.read(source)
        workspace = self.open(source)
        return (SourceRow(workspace.line(index), row) for index, row in workspace.included())

    def exclude(self, workspace: Workspace, indexes: Iterable[int]) -> Workspace:
        """Leave rows out of every export, as one undoable edit."""
        return workspace.apply(edits.exclude(indexes))

    def edit(self, workspace: Workspace, edit: edits.Edit) -> Workspace:
        """Apply one edit: it is in the journal before the workspace that shows it exists."""
        return workspace.apply(edit)

    def undo(self, workspace: Workspace, *, since: Recorded | None = None) -> Workspace:
        """Take the latest edit back; with `since`, only one made after that."""
        newest = workspace.undoable
        if since is not None and (newest is None or newest.id <= since.id):
            return workspace
        return workspace.undo()

    def redo(self, workspace: Workspace) -> Workspace:
        """Put the latest edit taken back in force again."""
        return workspace.redo()

    def duplicates(self, source: str, on_progress: OnProgress | None = None) -> list[DuplicateLines]:
        """Return groups of conversations that say the same, or nearly, by their lines."""
        workspace = self.open_source(source)
        return [
            DuplicateLines(tuple(workspace.line(index) for index in twins.rows), twins.similarity)
            for twins in self.curation.twins(workspace, on_progress)
        ]

    # --- tokens and money

    def count(self, workspace: Workspace, model: str, on_progress: OnProgress | None = None) -> Counts:
        """Count all rows of a workspace for `model`, those alone that were never counted (see counting.py)."""
        return self.counting.count(workspace, model, on_progress)

    def with_counts(self, workspace: Workspace, counts: Counts) -> Workspace:
        """Return the workspace that knows its tokens, for the list and for `tokens>500`."""
        return workspace.with_known(replace(workspace.known, tokens=counts.per_row, counted=counts.overlay))

    def estimate(
        self, counts: Counts, workspace: Workspace, model: str, profile: Profile, n_epochs: int | str = "auto"
    ) -> Estimate:
        """Return what training on the included conversations would bill and cost (see spending.py)."""
        return self.spending.estimate(counts.stats, model, profile, n_epochs)

    def trim(self, workspace: Workspace, turns: int, rows: Iterable[int] | None = None) -> Workspace:
        """Keep only the last `turns` of the included rows (or of `rows`), as one undoable edit."""
        chosen = workspace.included_indexes() if rows is None else rows
        return workspace.apply(edits.trim(chosen, turns))

    def trim_to_limit(self, workspace: Workspace, counts: Counts) -> Workspace:
        """Keep of each included row over the model's limit the last turns that fit; the same when none is over."""
        edit = self.counting.to_limit(workspace, counts)
        return workspace if edit is None else workspace.apply(edit)

    # --- files for training

    def split(
        self, workspace: Workspace, folder: Path | None = None, *, validation: float = 0.2, seed: int = 0,
        by: str | None = None, group: str | None = None, on_progress: OnProgress | None = None,
    ) -> SplitFiles:  # fmt: skip
        """Write train.jsonl, validation.jsonl and split.json, near-duplicates on one side, and prove it on the files.

        `folder` is one of the workbench's own unless given. Raises DataError when nothing can be held back.
        """
        folder = folder or self.paths.data / "splits" / f"{workspace.dataset.id}-{seed}"
        made, written = split_files(
            _Rows(workspace), private_folder(folder), validation=validation, seed=seed, by=by, group=group,
            origin=self._origin(workspace), on_progress=on_progress,
        )  # fmt: skip
        self.versions.keep_split(workspace, written.sha256[written.train.name])
        return SplitFiles(
            train=written.train, validation=written.validation, train_count=len(made.train),
            validation_count=len(made.validation), groups=made.groups, leaks=written.leaks, seed=seed,
            sha256=written.sha256, warnings=made.warnings,
        )  # fmt: skip

    def _origin(self, workspace: Workspace) -> dict[str, str]:
        """Return which dataset, under which name, and which of its versions: by name, else by its edits' hash."""
        position = workspace.position
        named = [one.name for one in self.versions.all(workspace) if one.edits == position]
        digest = hashlib.sha256(repr(position).encode()).hexdigest()[:12]
        version = named[0] if named else f"{len(position)} edits {digest}" if position else IMPORTED
        return {
            "dataset": workspace.dataset.id,
            "dataset_name": workspace.dataset.name,
            "dataset_version": version,
        }

    def export(self, source: str, output: Path, *, format_name: str, keep_metadata: bool) -> Written:
        """Write a dataset's (or a file's) included rows as a training file."""
        return self.export_workspace(
            self.open_source(source), output, format_name=format_name, keep_metadata=keep_metadata
        )

    def export_workspace(
        self, workspace: Workspace, output: Path, *, format_name: str = "openai", keep_metadata: bool = False
    ) -> Written:
        """Write the included rows of a workspace, whole or not at all."""
        rows = ((workspace.line(index), row) for index, row in workspace.included())
        return write_rows(rows, output, format_name=format_name, keep_metadata=keep_metadata)


class _Rows(Sequence[Row]):
    """The included rows of a workspace, each read when it is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._indexes = workspace.included_indexes()

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            return [self._workspace.row(index) for index in self._indexes[place]]
        return self._workspace.row(self._indexes[place])


def _listed(view: RowView) -> dict[str, Any]:
    return {
        "line": view.line, "turns": view.turns, "chars": view.chars, "tokens": view.tokens, "intent": view.intent,
        "tags": list(view.tags), "edited": view.edited, "excluded": view.excluded, "preview": view.preview,
    }  # fmt: skip


def _fixable(codes: Sequence[str] | None) -> frozenset[str]:
    """Return the codes to fix, all that can be when none are named; raises UsageError for one that cannot."""
    unknown = set(codes or ()) - FIXABLE
    if unknown:
        raise UsageError(
            f"no safe fix for {', '.join(sorted(unknown))}", f"there is for: {', '.join(sorted(FIXABLE))}"
        )
    return frozenset(codes) if codes else FIXABLE
