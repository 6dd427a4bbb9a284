"""Processes that work beside this one: without the terminal's interrupt, under an app that has it, too."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from threading import Thread
from types import TracebackType
from typing import ParamSpec, TypeVar

MOST_PROCESSES = 4
_THREADS = "POLARS_MAX_THREADS"
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def spawning() -> SpawnContext:
    """Return what starts processes that share nothing with this one.

    The standard library lends its resource tracker our standard error, which in an app is no file. And the process
    that starts the tracker has it let the interrupt through: it is started here, before `uninterrupted`.
    """
    with redirect_stderr(sys.__stderr__):
        resource_tracker.ensure_running()
    return get_context("spawn")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Leave the terminal's interrupt to this process: a child started meanwhile takes over what is blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Pool:
    """Processes that take one piece of work after the other, and end with this process even where it is killed.

    Leave it as a `with` block: by an exception, its processes are killed within their work.
    """

    def __init__(self, begin: Callable[..., object] | None = None, *given: object) -> None:
        """Have each process call `begin` with what is `given`, both picklable, before its first piece."""
        self.count = min(MOST_PROCESSES, os.cpu_count() or 1)
        self._pool = ProcessPoolExecutor(self.count, spawning(), _begin, (begin, given))

    def submit(
        self, work: Callable[_Given, _Made], *args: _Given.args, **options: _Given.kwargs
    ) -> Future[_Made]:
        """Have one of the processes do `work`; raises BrokenProcessPool once one of them was killed."""
        with _one_thread_each(), uninterrupted():
            return self._pool.submit(work, *args, **options)

    def kill(self) -> None:
        """End the processes within their work; Python 3.14 calls it `kill_workers`."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _begin(begin: Callable[..., object] | None, given: tuple[object, ...]) -> None:
    """Be one of the processes: nobody else would end it when its parent was killed."""
    Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*given)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


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
