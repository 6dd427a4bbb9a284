"""Files and datasets of one user, opened as workspaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tunedesk
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import remove_dataset, renamed
from tunedesk.core.first_page import keep_first_page
from tunedesk.core.importing import SUFFIXES, importers, storing
from tunedesk.core.importing.known_files import Asked, KnownFiles
from tunedesk.core.importing.looking import look
from tunedesk.core.importing.report import Report
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError
from tunedesk.paths import Paths, private_folder
from tunedesk.store import DatasetEntry, Store

OnProgress = Callable[[int, int], None]
"""Called with units done and units in all (0 when unknown); what it raises stops the work."""
SAMPLE = "banking"
"""Name of the shipped sample dataset."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of reading a file."""

    workspace: Workspace
    report: Report
    reasons: Path | None = None
    """Where each skipped record stands with its line and reason; None when there is none, or nothing was kept."""
    known: str = ""
    """What is to be said of conversations that were here before the import; empty when they were not."""


class Library:
    """The store and the datasets, those that commands read for themselves apart."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    @cached_property
    def store(self) -> Store:
        """The store, opened at first use."""
        return Store(self.paths.store)

    @cached_property
    def known_files(self) -> KnownFiles:
        """What files became that were read before."""
        return KnownFiles(self.paths.cache / "imports")

    def datasets(self) -> list[DatasetEntry]:
        """Return the imported datasets, the newest first."""
        return self.store.datasets()

    def import_file(
        self, path: Path | str, *, format_name: str | None = None, mapping: Mapping[str, str] | None = None,
        system: str | None = None, name: str | None = None, on_progress: OnProgress | None = None,
    ) -> Imported:  # fmt: skip
        """Import a file into the store and open it; the same content again finds the dataset that is there.

        Raises DataError when it cannot be read or holds no conversation.
        """
        name = name or _plain_name(path)
        imported = self._read(path, self.paths.datasets, name, format_name, mapping, system, on_progress)
        dataset = imported.workspace.dataset
        before = self.store.dataset(dataset.id)
        self.store.save_dataset(DatasetEntry(dataset.id, name, str(path), len(dataset), time.time()))
        reasons = storing.keep_reasons(self.paths.data / "imports", dataset.id, imported.report)
        workspace = Workspace.open(dataset, self.store)
        if before is None:
            keep_first_page(workspace)
        return Imported(workspace, imported.report, reasons, _known(before, name, workspace))

    def load(
        self, path: Path | str, *, format_name: str | None = None, mapping: Mapping[str, str] | None = None,
        system: str | None = None, on_progress: OnProgress | None = None,
    ) -> Imported:  # fmt: skip
        """Read a file for one command: nothing is added to the user's datasets, edits end with the process."""
        return self._read(
            path, self.paths.cache / "imports", _plain_name(path), format_name, mapping, system, on_progress
        )

    look = staticmethod(look)
    formats: Mapping[str, str] = {name: one.meaning for name, one in importers.IMPORTERS.items()}
    """Name of each format that can be imported → what it is."""

    def _read(
        self, path: Path | str, folder: Path, name: str, format_name: str | None,
        mapping: Mapping[str, str] | None, system: str | None, on_progress: OnProgress | None,
    ) -> Imported:  # fmt: skip
        """Import a file into a folder of datasets, unless it is known what it became there."""
        asked = Asked(Path(path), format_name or "", mapping, system or "")
        before = asked.path.stat() if str(path) != "-" and asked.path.is_file() else None
        stored = folder == self.paths.datasets
        found = self.known_files.find(asked, [folder] if stored else [folder, self.paths.datasets])
        if before is not None and found is not None:
            dataset, report = found
            if stored:
                dataset = renamed(dataset, name=name, source=str(path))
            return Imported(Workspace.open(dataset), report)
        dataset, report = storing.import_file(
            path, private_folder(folder), name=name, format_name=format_name, mapping=mapping, system=system,
            on_progress=on_progress,
        )  # fmt: skip
        if before is not None:
            self.known_files.keep(asked, before, dataset, report)
        if not stored:
            self.known_files.make_room(kept=dataset.id)
        return Imported(Workspace.open(dataset), report)

    def forget(self, name: str) -> DatasetEntry:
        """Remove a dataset with all its edits and versions for good; raises DataError when there is none."""
        entry = self.store.dataset(name)
        if entry is None:
            raise DataError(f"no dataset named {name!r}", "tunedesk datasets lists them")
        self.store.forget_dataset(entry.id)
        remove_dataset(self.paths.datasets / entry.id)
        with suppress(OSError):
            if entry.id.encode() in self.paths.last_view.read_bytes():  # it holds rows of it
                self.paths.last_view.unlink()
        return entry

    def open(self, name: str) -> Workspace:
        """Open the dataset of this name or id with all its edits; raises DataError when there is none."""
        entry = self.store.dataset(name)
        if entry is None:
            known = ", ".join(sorted({one.name for one in self.datasets()})) or "none yet"
            raise DataError(
                f"no file and no dataset named {name!r}", f"datasets: {known}; tunedesk import FILE adds one"
            )
        return Workspace.open(Dataset.open(self.paths.datasets / entry.id), self.store)

    def require_source(self, source: str) -> None:
        """Raise DataError unless `source` is a file, a dataset's name or `-`."""
        if source != "-" and not Path(source).exists() and self.store.dataset(source) is None:
            self.open(source)

    def open_source(self, source: str, on_progress: OnProgress | None = None) -> Workspace:
        """Open a file (or `-`) for one command, or a dataset by its name; raises DataError."""
        if source == "-" or Path(source).exists():
            return self.load(source, on_progress=on_progress).workspace
        return self.open(source)

    def open_sample(self, on_progress: OnProgress | None = None) -> Workspace:
        """Open the shipped sample conversations, imported at first use."""
        if self.store.dataset(SAMPLE) is None:
            self.import_file(sample_file("banking.jsonl"), name=SAMPLE, on_progress=on_progress)
        return self.open(SAMPLE)

    def sample_file(self, name: str) -> Path:
        """Return where a file of the shipped sample data lies; raises DataError when it is not installed."""
        return sample_file(name)


def sample_file(name: str) -> Path:
    """Return where a file of the shipped sample data lies: in the package, or in the checkout it is installed from."""
    package = Path(tunedesk.__file__).parent
    for folder in (package / "sample_data", package.parents[1] / "sample_data"):
        if (folder / name).exists():
            return folder / name
    raise DataError(f"the sample data {name} is not installed", "install tunedesk again")


def _known(before: DatasetEntry | None, name: str, workspace: Workspace) -> str:
    """Return what is to be said when the same conversations were imported earlier; empty when all is as expected."""
    if before is None:
        return ""
    called = f"as {before.name}, and are called {name} now" if before.name != name else ""
    edited = "with the edits made since: H goes back to what was imported" if workspace.undoable else ""
    told = "; ".join(one for one in (called, edited) if one)
    return f"these conversations were here already {told}" if told else ""


def _plain_name(path: Path | str) -> str:
    name = Path(path).name if str(path) != "-" else "stdin"
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name or "dataset"
