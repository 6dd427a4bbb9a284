"""Examining many lines by several processes; results come back in order, so that several find what one does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice

from tunedesk.core.checking.examining import Examined, Examiner, Line, Wanted
from tunedesk.core.grouping.duplicates import Finder, Group
from tunedesk.core.spawning import Pool

BATCH = 4_000
"""Lines that one process takes at a time."""
WORTH, WORTH_UNREAD = 20_000, 120_000
"""Lines from which starting processes (a second) pays, the latter where nothing that is said is read."""
_AHEAD = 3
"""Batches for each process that wait or are under way."""

_examiners: dict[Wanted, Examiner] = {}
"""A process's own: what it learnt of texts in one batch serves the next."""


def examined(lines: Iterable[Line], wanted: Wanted) -> Iterator[Examined]:
    """Yield the batches of `lines` as they are examined, in order; by several processes when there are many."""
    rest = iter(lines)
    worth = WORTH if wanted.said else WORTH_UNREAD
    first = list(islice(rest, worth))
    if len(first) < worth:
        examiner = Examiner(wanted)
        yield from (examiner.examine(batch) for batch in _batches(iter(first)))
        return
    yield from _by_processes(_batches(chain(first, rest)), wanted)


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


def _by_processes(batches: Iterator[list[Line]], wanted: Wanted) -> Iterator[Examined]:
    waiting: deque[tuple[list[Line], Future[Examined] | None]] = deque()
    with Pool() as pool:
        for batch in batches:
            waiting.append((batch, _given(pool, batch, wanted)))
            if len(waiting) >= pool.count * _AHEAD:
                yield _result(*waiting.popleft(), wanted)
        while waiting:
            yield _result(*waiting.popleft(), wanted)


def _given(pool: Pool, batch: list[Line], wanted: Wanted) -> Future[Examined] | None:
    """Have a process examine a batch; None once one of them was killed (memory, a signal)."""
    with suppress(BrokenProcessPool):
        return pool.submit(_examine, batch, wanted)
    return None


def _examine(batch: list[Line], wanted: Wanted) -> Examined:
    return _examiners.setdefault(wanted, Examiner(wanted)).examine(batch)


def _result(batch: list[Line], future: Future[Examined] | None, wanted: Wanted) -> Examined:
    """Return what came of a batch; what no process could do is done here."""
    with suppress(BrokenProcessPool):
        if future is not None:
            return future.result()
    return _examine(batch, wanted)


def find_in_lines(lines: Iterable[Line]) -> list[Group]:
    """Return the groups of exact and near duplicates among encoded rows; members are the numbers they came with."""
    finder = Finder()
    numbers: list[int] = []
    for batch in examined(lines, Wanted(rows=False, file=False)):
        numbers += batch.marks.lines
        finder.add_batch(batch.marks.identities, batch.sketches)
    return [
        replace(group, members=tuple(numbers[place] for place in group.members)) for group in finder.groups()
    ]
