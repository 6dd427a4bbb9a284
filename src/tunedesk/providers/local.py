"""The engine on this machine: found, started detached, asked how it is, stopped. HTTP is the only way to it."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunedesk.errors import EngineError
from tunedesk.paths import Paths, private_folder

SERVE = (sys.executable, "-m", "tunedesk", "serve")
"""The command that is the engine."""
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "OPENAI_", "AUTH")
"""Parts of names of environment variables that no child process gets."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A running engine, as it answered just now."""

    base_url: str
    pid: int
    version: str
    started_at: float
    """Unix seconds, 0 when unknown."""


def start_engine(
    paths: Paths,
    *,
    models_dir: Path | None = None,
    command: Sequence[str] | None = None,
    patience: float = 60.0,
    given_up: threading.Event | None = None,
) -> tuple[str, str]:
    """Return (base URL, key) of the engine on this machine, started if it does not run; it outlives this process.

    `models_dir` (more base models) counts only when it is started now. Blocks until it answers; raises EngineError
    when it dies, does not answer within `patience` seconds, or `given_up` is set meanwhile (it goes on starting).
    """
    folder = private_folder(paths.engine)
    running = engine_status(paths)
    if running is None:
        with _starting(folder, patience):
            running = engine_status(paths)
            if running is None:
                extra = ["--models", str(models_dir)] if models_dir is not None else []
                running = _start(
                    paths, [*(command or SERVE), *extra], patience, given_up or threading.Event()
                )
    try:
        return running.base_url, (folder / "key").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"the engine runs, but its key {folder / 'key'} cannot be read",
            "tunedesk serve --stop, then try again",
        ) from error


def engine_status(paths: Paths) -> EngineStatus | None:
    """Return the engine of this folder when it answers now, or None.

    It is ours when something healthy answers at the address it wrote down while the folder's lock is held, which
    an engine does for its whole life. The lock is tried last: taken earlier, it could be in a starting engine's way.
    """
    told = _endpoint(paths.engine)
    if told is None:
        return None
    health = _health(str(told["base_url"]))
    if health is None or health.get("status") != "ok" or health.get("pid", told["pid"]) != told["pid"]:
        return None
    if not _alive(told["pid"]) or not _locked(paths.engine / "lock"):
        return None
    return EngineStatus(
        str(told["base_url"]), told["pid"], str(told.get("version", "")), _seconds(told.get("started_at"))
    )


def stop_engine(paths: Paths, *, patience: float = 30.0) -> bool:
    """Stop the engine, which saves its work first; return whether one was running.

    Only a process that is surely this folder's engine (see `engine_status`) is signalled. Raises EngineError when
    it does not end.
    """
    running = engine_status(paths)
    if running is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while _alive(running.pid):
        if time.monotonic() > deadline:
            raise EngineError(
                f"the engine (process {running.pid}) has not stopped after {patience:.0f} s",
                f"kill {running.pid}",
            )
        time.sleep(0.05)
    return True


def clean_environment() -> dict[str, str]:
    """Return the environment without anything that looks like a secret, for child processes."""
    return {
        name: value for name, value in os.environ.items() if not any(part in name.upper() for part in _SECRET)
    }


def _start(paths: Paths, command: Sequence[str], patience: float, given_up: threading.Event) -> EngineStatus:
    log = paths.engine / "engine.log"
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=paths.engine,
                env=clean_environment(),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
    except OSError as error:
        raise EngineError(
            f"the engine cannot be started: {error.strerror}", "check the installation"
        ) from error
    threading.Thread(target=process.wait, name="engine-reaper", daemon=True).start()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        running = engine_status(paths)
        if running is not None:
            return running
        if process.poll() is not None:
            raise EngineError(
                f"the engine ended at once (exit {process.returncode}): {_tail(log)}", f"see {log}"
            )
        if given_up.wait(0.05):
            raise EngineError("the engine is still starting", "tunedesk serve --status tells when it answers")
    raise EngineError(f"the engine did not answer within {patience:.0f} s", f"see {log}")


@contextlib.contextmanager
def _starting(folder: Path, patience: float) -> Iterator[None]:
    """Let one process start the engine while others wait for it; the lock goes with its holder."""
    descriptor = os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise EngineError(
                        "another tunedesk is still starting the engine", "wait and try again"
                    ) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _endpoint(folder: Path) -> dict[str, Any] | None:
    """Return endpoint.json when it is whole and names a loopback address and a process."""
    try:
        told = json.loads((folder / "endpoint.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("pid"), int) or told["pid"] <= 1:
        return None
    return told if isinstance(told.get("base_url"), str) else None


def _health(base_url: str) -> dict[str, Any] | None:
    """Ask /healthz at the root of the engine's address, past any proxy settings; None when no engine answers."""
    parts = urlsplit(base_url)
    if parts.hostname is None:
        return None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        health = json.loads(answer.read(65536)) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return health if isinstance(health, dict) else None


def _locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _tail(log: Path) -> str:
    lines = log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
