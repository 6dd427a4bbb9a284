"""From a step of a job to the conversations it was trained on: lines of the training file, rows of a dataset."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.editing.overlay import EDITED
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, JobError, ProviderError
from tunedesk.jobs.service import JobService

_NOT_TOLD = (400, 403, 404, 405, 501)
"""HTTP statuses by which an endpoint says that it does not tell which rows a step saw."""
_EVERY = 500
"""Rows between two calls of a progress function."""
_SPOKEN = ("messages", "input", "preferred_output", "non_preferred_output", "tools")
"""Keys of a row that are trained on."""


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows of a dataset that a job was trained on."""

    losses: array[float]
    """Loss of each row of the dataset, NaN where none is known."""
    found: int
    """Rows that have a loss."""
    missing: tuple[int, ...] = field(default=())
    """Lines of the training file that no row of the dataset says any more."""


async def row_losses(service: JobService, job_id: str, step: int | None = None) -> dict[int, float]:
    """Return the loss of each line of the training file that a step saw, or the latest of all lines.

    Raises JobError in words where the provider does not tell it, ProviderError when it cannot be asked.
    """
    try:
        told = await service.provider.row_losses(job_id, step)
    except ProviderError as error:
        if error.status not in _NOT_TOLD:
            raise
        name = service.provider.profile.label or service.provider.profile.name
        raise JobError(
            f"{name} does not tell which conversations a step was trained on",
            "the engine on this machine does: train the same file there",
        ) from error
    if not told:
        when = "no loss is known yet" if step is None else f"nothing is known of step {step}"
        raise JobError(f"{when} for the conversations of {job_id}", "the first comes after the first step")
    return told


def find_rows(
    workspace: Workspace,
    training: Path,
    losses: Mapping[int, float],
    on_progress: Callable[[int, int], None] | None = None,
) -> FoundRows:
    """Find the dataset's rows that stand on the given lines of a training file, whatever its system prompt is now.

    A row edited since is found by what was imported. Raises DataError when the file cannot be read.
    """
    wanted = _wanted(training, losses)
    found = array("d", [math.nan]) * len(workspace.dataset)
    met: set[bytes] = set()
    for index in workspace.everything:
        if on_progress is not None and index % _EVERY == 0:
            on_progress(index, workspace.total)
        keys = [_key(workspace.row(index))]
        if workspace.overlay.has(index, EDITED):
            keys.append(_key(workspace.dataset.row(index)))
        for key in keys:
            if key in wanted:
                found[index] = losses[wanted[key][0]]
                met.add(key)
    count = sum(1 for loss in found if not math.isnan(loss))
    missing = sorted(line for key, lines in wanted.items() if key not in met for line in lines)
    return FoundRows(found, count, tuple(missing))


def _wanted(training: Path, losses: Mapping[int, float]) -> dict[bytes, list[int]]:
    """Return the lines of a training file that have a loss, by what is said on them."""
    wanted: dict[bytes, list[int]] = {}
    try:
        with training.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number in losses:
                    row = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=dict[str, Any])
                    wanted.setdefault(_key(row), []).append(number)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"the training file {training} cannot be read: {error}", "check the path") from error
    return wanted


def _key(row: Row) -> bytes:
    """Return a hash of what a row says, without its system prompt: that is put on all rows at once, and changed so."""
    said: dict[str, Any] = {name: row[name] for name in _SPOKEN if name in row}
    if isinstance(messages := said.get("messages"), list):
        said["messages"] = [
            one
            for one in messages
            if not (isinstance(one, dict) and one.get("role") in ("system", "developer"))
        ]
    return hashlib.blake2b(encode_row(said), digest_size=16).digest()
