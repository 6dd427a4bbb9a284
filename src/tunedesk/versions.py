"""States of a dataset under names, what lies between two of them, the way back, and queries under names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tunedesk.core.diff import Difference, OnProgress, diff
from tunedesk.core.editing import edits
from tunedesk.core.editing.overlay import ABSENT
from tunedesk.core.searching.query import parse
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, UsageError
from tunedesk.store import Store, Version, View

IMPORTED = "imported"
"""The name of the state without any edit, which every dataset has."""
UPLOADED = "uploaded"
"""The name of the state whose split was launched last."""
_SPLIT = "@split "
"""Begins the names of states that were split into files, which go on with the hash of the training file; no name that
a user gives has an @."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A state of a dataset that a job was launched on."""

    name: str
    """What `at` takes."""
    launch: str
    profile: str
    at: float
    """Unix seconds of the launch."""


def told(name: str) -> str:
    """Return what a version is called where it is shown; that of an upload has no name that could be typed."""
    return "what was uploaded" if name.startswith(_SPLIT) else name


class Versions:
    """Named versions of the datasets of one store."""

    told = staticmethod(told)
    imported: ClassVar[str] = IMPORTED
    """Name of the version that every dataset has: as it was imported."""

    def __init__(self, store: Store, open_source: Callable[[str], Workspace]) -> None:
        """Use `open_source` for what is a file or a dataset without a version."""
        self._store, self._open_source = store, open_source

    def save(self, workspace: Workspace, name: str) -> Version:
        """Give the present state a name; raises UsageError when the name is taken or cannot be typed.

        Raises DataError when another instance has removed the dataset.
        """
        name = _version_name(name)
        self._store.edits_state(workspace.dataset.id)
        version = self._store.add_version(workspace.dataset.id, name, workspace.position)
        if version is None:
            raise UsageError(f"there is a version {name} already", "choose another name, or forget that one")
        return version

    def all(self, workspace: Workspace) -> list[Version]:
        """Return the named versions of a dataset, the newest first."""
        kept = self._store.versions(workspace.dataset.id)
        return [one for one in kept if not one.name.startswith(_SPLIT)]

    def keep_split(self, workspace: Workspace, sha256: str) -> None:
        """Remember the state that a training file was written from, to find it again when the file is uploaded."""
        if self._store.dataset(workspace.dataset.id) is not None:
            self._store.add_version(workspace.dataset.id, _SPLIT + sha256, workspace.position)

    def uploaded(self, workspace: Workspace) -> list[Uploaded]:
        """Return the states of a dataset that jobs were launched on, the newest launch first."""
        kept = {one.name for one in self._store.versions(workspace.dataset.id)}
        found = []
        for launch in self._store.launches():
            name = _SPLIT + (launch.training.content_sha256 or launch.training.sha256)
            if name in kept:
                found.append(Uploaded(name, launch.id, launch.profile, launch.at))
        return found

    def forget(self, workspace: Workspace, name: str) -> None:
        """Drop a name; no edit is lost."""
        self._store.forget_version(workspace.dataset.id, name)

    def rename(self, workspace: Workspace, name: str, other: str) -> None:
        """Give a version another name; raises UsageError when that is no name, or is taken."""
        other = _version_name(other)
        if other != name and not self._store.rename_version(workspace.dataset.id, name, other):
            raise UsageError(f"there is a version {other} already", "choose another name, or forget that one")

    def at(self, workspace: Workspace, name: str) -> Workspace:
        """Return a version to look at; edits to it are not kept. Raises DataError when there is none."""
        return workspace.at(self._edits(workspace, name))

    def restore(self, workspace: Workspace, name: str) -> Workspace:
        """Go back (or forth) to a version, as one edit that can be undone; raises DataError when there is none."""
        return workspace.apply(edits.restore(self._edits(workspace, name), told(name)))

    def revert(self, workspace: Workspace, name: str, indexes: Iterable[int]) -> Workspace:
        """Make some rows what they were in a version, as one edit that can be undone; tags stay.

        What was added since is left out, what was left out since is taken back in. Raises DataError when they are as
        they were.
        """
        position = self._edits(workspace, name)
        then, now = workspace.at(position).overlay, workspace.overlay
        wanted = list(indexes)
        out = [index for index in wanted if now.included(index) and not then.included(index)]
        back = [index for index in wanted if then.included(index) and not now.included(index)]
        changed = [
            index for index in wanted if then.follows(index) != now.follows(index) or now.has(index, ABSENT)
        ]
        if not changed and bool(out) != bool(back):
            return workspace.apply(edits.exclude(out) if out else edits.include(back))
        if wanted and not (changed or out or back):
            raise DataError(f"they are as in {told(name)} already", "nothing was changed")
        edit = edits.revert(changed or wanted, position, told(name), excluded=out, included=back)
        return workspace.apply(edit)

    def open(self, source: str) -> Workspace:
        """Open `dataset`, `dataset@version` or a file; raises DataError."""
        name, mark, version = source.rpartition("@")
        if not mark or Path(source).exists() or self._store.dataset(name) is None:
            return self._open_source(source)
        return self.at(self._open_source(name), version)

    def compare(
        self, before: Workspace, after: Workspace, on_progress: OnProgress | None = None
    ) -> Difference:
        """Tell what differs between two states."""
        return diff(before, after, on_progress)

    def diff(
        self, before: str, after: str, on_progress: OnProgress | None = None
    ) -> tuple[Workspace, Workspace, Difference]:
        """Compare two of what `open` opens, and return them with their difference."""
        first, second = self.open(before), self.open(after)
        return first, second, diff(first, second, on_progress)

    def _edits(self, workspace: Workspace, name: str) -> tuple[int, ...]:
        if name == IMPORTED:
            return ()
        if name == UPLOADED:
            launched = self.uploaded(workspace)
            if not launched:
                raise DataError(f"{workspace.dataset.name} was not uploaded yet", "l launches a job on it")
            name = launched[0].name
        version = self._store.version(workspace.dataset.id, name)
        if version is None:
            known = ", ".join([one.name for one in self.all(workspace)] + [IMPORTED])
            raise DataError(f"{workspace.dataset.name} has no version {name}", f"versions: {known}")
        return version.edits


class Views:
    """Queries kept under names."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, name: str, query: str) -> None:
        """Keep a query, replacing one of that name; raises QueryError when it is none, UsageError without a name."""
        name = _view_name(name)
        parse(query)
        self._store.save_view(name, query)

    def rename(self, name: str, other: str) -> None:
        """Give a view another name; raises UsageError when that is no name, or is taken."""
        other = _view_name(other)
        if other != name and not self._store.rename_view(name, other):
            raise UsageError(f"there is a view {other} already", "choose another name, or forget that one")

    def find(self, name: str) -> View | None:
        """Return the view that would be replaced under a name, if any."""
        return next((view for view in self.all() if view.name == name.strip()), None)

    def all(self) -> list[View]:
        """Return all views by name."""
        return self._store.views()

    def forget(self, name: str) -> None:
        """Drop a view."""
        self._store.forget_view(name)


def _view_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise UsageError("a view needs a name of printable characters", "such as lost cards")
    return name.strip()


def _version_name(name: str) -> str:
    taken = name in (IMPORTED, UPLOADED)
    if not name or not name.isprintable() or name != name.strip() or "@" in name or taken:
        raise UsageError(f"{name!r} cannot be a version's name", "printable characters without @")
    return name
