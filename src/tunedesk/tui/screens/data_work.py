"""What the Data screen has done in threads: searching, checking, counting. Nothing here touches a widget."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from textual.message import Message

from tunedesk.errors import UsageError
from tunedesk.tui.widgets.block_view import Needle, needle

if TYPE_CHECKING:
    from tunedesk.core.checking.findings import Finding
    from tunedesk.core.workspace import Workspace
    from tunedesk.curation import Twins
    from tunedesk.workbench import SplitFiles


_PAINTING_S = 0.03
"""The longest that a search waits for its first screenful to be painted."""


@dataclass
class RowsMatched(Message):
    """A search found the first screenful, or all."""

    workspace: Workspace
    """The searched workspace with its matches."""
    complete: bool
    painted: Callable[[], None] = lambda: None
    """To be called once they are on the screen: the search waits for it, so that it takes no processor from that."""


@dataclass
class QueryRefused(Message):
    """The typed query makes no sense, or asks for what is not known yet."""

    message: str
    hint: str
    column: int
    """From 1, 0 when unknown."""


@dataclass
class ModelsListed(Message):
    """The provider told what it can tune."""

    names: tuple[str, ...]


@dataclass
class SplitWritten(Message):
    """Training and validation files are on disk."""

    files: SplitFiles


def scan(
    workspace: Workspace, text: str, post: Callable[[Message], object], stopped: Callable[[], bool]
) -> None:
    """Search `workspace` for `text`, posting what is found; ends within a chunk when `stopped` says so."""
    last: Workspace | None = None
    painted = Event()
    painted.set()

    def waiting() -> bool:
        painted.wait(_PAINTING_S)
        painted.set()  # waited for once
        return stopped()

    try:
        for last in workspace.searching(text, waiting):
            if text.strip() and not last.found.aligned:  # the first screenful, shown while the search goes on
                painted.clear()
                post(RowsMatched(last, False, painted.set))
    except UsageError as error:
        if not stopped():
            post(QueryRefused(error.message, error.hint, getattr(error, "column", 0)))
        return
    if last is not None and not stopped():
        post(RowsMatched(last, True))


def with_findings(workspace: Workspace, findings: Iterable[Finding]) -> Workspace:
    """Return the workspace that knows which rows have which findings, for marks and the filter."""
    rows: defaultdict[str, set[int]] = defaultdict(set)
    errors: set[int] = set()
    for finding in findings:
        if not finding.line:
            continue  # about the whole file
        index = index_of(workspace, finding.line)
        rows[finding.code].add(index)
        if finding.severity == "error":
            errors.add(index)
    twins = rows["exact_duplicate"] | rows["near_duplicate"]
    known = replace(
        workspace.known,
        pii=array("I", sorted(rows["pii"])),
        duplicates=array("I", sorted(twins)),
        findings={code: array("I", sorted(found)) for code, found in rows.items() if found},
        errors=array("I", sorted(errors)),
    )
    return workspace.with_known(known)


def with_duplicates(workspace: Workspace, groups: Iterable[Twins]) -> Workspace:
    """Return the workspace that knows which rows say what others say, for `dup:yes`."""
    rows = array("I", sorted(row for group in groups for row in group.rows))
    return workspace.with_known(replace(workspace.known, duplicates=rows))


def with_topics(workspace: Workspace, topics: Mapping[str, array[int]]) -> Workspace:
    """Return the workspace that knows what its questions are about, for `about:"lost card"`."""
    return workspace.with_known(replace(workspace.known, topics=topics))


def with_personal_data(workspace: Workspace, looked_at: Workspace, rows: array[int]) -> Workspace:
    """Return the workspace that knows which rows hold personal data, unless it was edited since it was looked at."""
    if workspace.overlay is not looked_at.overlay:
        return workspace
    return workspace.with_known(replace(workspace.known, pii=rows))


def needles_of(workspace: Workspace) -> list[Needle]:
    """Return what to mark in the conversations that the query matched."""
    made = (needle(mark.source, mark.scope) for mark in workspace.marks)
    return [one for one in made if one is not None]


def index_of(workspace: Workspace, line: int) -> int:
    """Return the index of the row that begins on `line` of its source; lines ascend with the rows."""
    last = len(workspace.dataset) - 1
    return min(bisect_left(range(last + 1), line, key=workspace.line), last)
