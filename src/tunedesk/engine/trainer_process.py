"""One run of the trainer as a subprocess: started, listened to, asked to stop, killed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tunedesk.errors import EngineError

log = logging.getLogger(__name__)

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_MAX_LINE = 1 << 20
ORPHAN_GRACE = 10.0
"""Seconds that the trainer of a server that died gets to notice it."""
_NICER = 1
"""How much a trainer gives way to replies: on two cores, beside a chat without a pause, both go at 40 to 50 % of their
own speed; with 5 the trainer was left 23 %."""


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without anything that is named like a secret; OpenMP threads spin only shortly.

    Endless spinning (OpenMP's default) starves a busy machine and is starved by it; none at all wakes a thread
    for each product: some ten microseconds trained 1.27 times as many tokens a second on two cores.
    """
    kept = {name: value for name, value in environment.items() if not _SECRET.search(name)}
    return {**kept, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}


class TrainerProcess:
    """A running trainer of one job folder.

    It holds a lock on the folder that it shares with this process and keeps alone when this process dies, so
    that two trainers never write to one folder. Raises EngineError when it cannot be started.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._log_path = folder / "trainer.log"
        self._killer: threading.Timer | None = None
        lock = _hold(folder / "trainer.lock")
        try:
            os.ftruncate(lock, 0)
            with self._log_path.open("wb") as errors:
                self._process = subprocess.Popen(
                    [*command, str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=scrubbed(os.environ),
                    process_group=0,
                    pass_fds=(lock,),
                )
            os.pwrite(lock, f"{self._process.pid}\n".encode(), 0)
        except OSError as error:
            raise EngineError(
                f"the trainer cannot be started: {error}", "install tunedesk[engine]"
            ) from error
        finally:
            os.close(lock)
        try:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER)
        except OSError as error:
            log.debug("the trainer runs at our own priority: %s", error)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the trainer reports, one object a line, until it closes its output."""
        output = _pipe(self._process.stdout)
        while line := output.readline(_MAX_LINE):
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                yield message
            else:
                log.debug("the trainer printed a line of %d bytes that is no message", len(line))

    def ask_to_stop(self, grace: float) -> None:
        """Ask the trainer to save its state and end; it is killed after `grace` seconds."""
        self._process.send_signal(signal.SIGTERM)
        if self._killer is None:
            self._killer = threading.Timer(grace, self.kill)
            self._killer.daemon = True
            self._killer.start()

    def kill(self) -> None:
        """End the trainer and its children at once."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("the trainer had ended already")

    def close(self) -> int:
        """Wait for the end, killing what does not end, and return the exit status (negative: the signal)."""
        _pipe(self._process.stdin).close()
        try:
            status = self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        if self._killer is not None:
            self._killer.cancel()
        _pipe(self._process.stdout).close()
        return status

    def last_words(self, lines: int = 5) -> str:
        """Return the end of what the trainer wrote to its error output."""
        with self._log_path.open("rb") as file:
            file.seek(max(0, self._log_path.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.strip().splitlines()[-lines:])


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # always opened as a pipe
    return pipe


def _hold(path: Path) -> int:
    """Return an open, locked descriptor of `path`, after the orphan of a dead server has let go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + ORPHAN_GRACE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                _kill_holder(descriptor)
                deadline += ORPHAN_GRACE
            time.sleep(0.05)


def _kill_holder(descriptor: int) -> None:
    """Kill the process group that wrote its number into the lock; the lock being held proves that it lives."""
    try:
        number = int(os.pread(descriptor, 20, 0))
        log.warning("the trainer %d of a server that died does not end; killing it", number)
        os.killpg(number, signal.SIGKILL)
    except (ValueError, ProcessLookupError, PermissionError) as error:
        log.warning("the trainer of a server that died cannot be killed: %s", error)
