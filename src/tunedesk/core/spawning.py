"""Processes that work beside this one: without the terminal's interrupt, under an app that has it, too."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import SpawnContext


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
