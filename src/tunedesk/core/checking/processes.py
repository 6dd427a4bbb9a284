"""Examining many lines by several processes; results come back in order, so that several find what one does."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice

from tunedesk.core.checking.examining import Examined, Examiner, Line, Wanted
from tunedesk.core.grouping.duplicates import Finder, Group
from tunedesk.core.spawning import spawning, uninterrupted

BATCH = 4_000
"""Lines that one process takes at a time."""
WORTH, WORTH_UNREAD = 20_000, 120_000
"""Lines from which starting processes (a second) pays, the latter where nothing that is said is read."""
_PROCESSES = 4
_THREADS = "POLARS_MAX_THREADS"
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
    count = min(_PROCESSES, os.cpu_count() or 1)
    waiting: deque[tuple[list[Line], Future[Examined]]] = deque()
    pool = ProcessPoolExecutor(count, spawning())
    wanted_no_more = True
    try:
        with _one_thread_each(), uninterrupted():
            pool.submit(_nothing)
        for batch in batches:
            with uninterrupted():
                waiting.append((batch, pool.submit(_examine, batch, wanted)))
            if len(waiting) >= count * _AHEAD:
                yield _result(*waiting.popleft(), wanted)
        while waiting:
            yield _result(*waiting.popleft(), wanted)
        wanted_no_more = False
    except BrokenProcessPool:
        # A process was killed (memory, a signal): what is left is done here.
        left = [batch for batch, _ in waiting]
        yield from (_examine(batch, wanted) for batch in chain(left, batches))
    finally:
        if wanted_no_more:
            _kill(pool)
        pool.shutdown(wait=True, cancel_futures=True)


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool within their batches, which take seconds; Python 3.14 calls it `kill_workers`."""
    for process in list((pool._processes or {}).values()):
        process.kill()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have the processes that start meanwhile run Polars on one thread: one for each core, they would only wait."""
    own = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if own is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = own


def _examine(batch: list[Line], wanted: Wanted) -> Examined:
    return _examiners.setdefault(wanted, Examiner(wanted)).examine(batch)


def _result(batch: list[Line], future: Future[Examined], wanted: Wanted) -> Examined:
    try:
        return future.result()
    except BrokenProcessPool:
        return _examine(batch, wanted)


def _nothing() -> None:
    """Have the processes begin."""


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
