"""What was worked out of the rows after their import, laid over a workspace for its marks and its filter."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunedesk.core.checking.findings import Finding
    from tunedesk.core.workspace import Workspace


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


def with_duplicates(workspace: Workspace, groups: Iterable[Iterable[int]]) -> Workspace:
    """Return the workspace that knows which rows say what others say, for `dup:yes`."""
    rows = array("I", sorted(row for group in groups for row in group))
    return workspace.with_known(replace(workspace.known, duplicates=rows))


def with_topics(workspace: Workspace, topics: Mapping[str, array[int]]) -> Workspace:
    """Return the workspace that knows what its questions are about, for `about:"lost card"`."""
    return workspace.with_known(replace(workspace.known, topics=topics))


def with_personal_data(workspace: Workspace, looked_at: Workspace, rows: array[int]) -> Workspace:
    """Return the workspace that knows which rows hold personal data, unless it was edited since it was looked at."""
    if workspace.overlay is not looked_at.overlay:
        return workspace
    return workspace.with_known(replace(workspace.known, pii=rows))


def index_of(workspace: Workspace, line: int) -> int:
    """Return the index of the row that begins on `line` of its source; lines ascend with the rows."""
    last = len(workspace.dataset) - 1
    return min(bisect_left(range(last + 1), line, key=workspace.line), last)
