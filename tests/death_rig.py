"""Killed exactly at a durable call: a shim under the program counts them in all threads and ends it at the chosen one.

The shim is a library that is loaded before the C library (LD_PRELOAD) and built by the compiler of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openai

from tests.engine.test_server_process import Server, server
from tunedesk.paths import Paths
from tunedesk.store import Store

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
CALLS = {
    "fsync": ("int", "int f"),
    "fdatasync": ("int", "int f"),
    "ftruncate": ("int", "int f, off_t n"),
    "ftruncate64": ("int", "int f, off_t n"),
    "pwrite": ("ssize_t", "int f, const void *b, size_t n, off_t o"),
    "pwrite64": ("ssize_t", "int f, const void *b, size_t n, off_t o"),
    "rename": ("int", "const char *a, const char *b"),
    "renameat": ("int", "int f, const char *a, int g, const char *b"),
    "link": ("int", "const char *a, const char *b"),
    "linkat": ("int", "int f, const char *a, int g, const char *b, int n"),
    "unlink": ("int", "const char *a"),
    "unlinkat": ("int", "int f, const char *a, int n"),
}
"""Every call by which this program makes something durable: its result and its arguments, as C declares them."""
_HEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
static atomic_long calls;
static long dies_at;
__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("DIES_AT"); dies_at = at ? atol(at) : 0;
  unsetenv("LD_PRELOAD"); unsetenv("DIES_AT");
}
void die_at(long call) { atomic_store(&calls, 0); dies_at = call; }
static void moment(void) { if (atomic_fetch_add(&calls, 1) + 1 == dies_at) kill(getpid(), SIGKILL); }
"""


def shim(folder: Path) -> Path:
    """Build the library in `folder` and return its path."""
    assert COMPILER is not None
    source, built = folder / "shim.c", folder / "shim.so"
    code = _HEAD
    for name, (result, arguments) in CALLS.items():
        words = ", ".join(one.replace("*", " ").split()[-1] for one in arguments.split(","))
        code += (
            f"{result} {name}({arguments}) {{ static {result} (*next)({arguments});\n"
            f'  if (!next) next = dlsym(RTLD_NEXT, "{name}"); moment(); return next({words}); }}\n'
        )
    source.write_text(code)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-w", "-o", built, source, "-ldl"], check=True)
    return built


class Nursery:
    """A process with the shim that has loaded everything, and gives birth to one program after the other."""

    def __init__(self, folder: Path) -> None:
        self.library = library = shim(folder)
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.death_nursery", str(library)], cwd=ROOT, text=True,
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, home: Path, command: Sequence[str], dies_at: int, serve: Sequence[str] = ()) -> Life:
        """Run a program to its end, or to its durable call of that number (0: left alone).

        `serve` is how it starts the engine of its home, where that does not run.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"home": str(home), "command": command, "dies_at": dies_at, "serve": serve}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Life(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Life:
    """What became of one program."""

    status: int
    """Its exit status, minus the signal that ended it."""
    stdout: str
    stderr: str


@dataclass
class Person:
    """A user with a home of their own, and what the engine there holds of them."""

    home: Path
    nursery: Nursery

    @property
    def store(self) -> Path:
        return Paths(self.home / "data", self.home, self.home, self.home).store

    @property
    def client(self) -> openai.OpenAI:
        raise NotImplementedError

    def training(self, name: str, words: str) -> Path:
        """Write a training file that nobody else has."""
        rows = [
            {"messages": [{"role": "user", "content": f"{words} {n}?"}, {"role": "assistant", "content": "Yes."}]}
            for n in range(12)
        ]  # fmt: skip
        path = self.home / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def files_there(self, *files: Path) -> list[list[str]]:
        """Return, for each file, the ids under which the engine holds it."""
        import hashlib

        listed = [(one.id, one.filename) for one in self.client.files.list(purpose="fine-tune")]
        endings = [hashlib.sha256(file.read_bytes()).hexdigest()[:24] + ".jsonl" for file in files]
        return [[id_ for id_, name in listed if name.endswith(ending)] for ending in endings]

    def jobs_there(self, training: str) -> list[Any]:
        """Return the engine's jobs on a file."""
        return [job for job in self.client.fine_tuning.jobs.list() if job.training_file == training]

    def check_told(self, job: str) -> None:
        """Hold what the store knows of a job against the engine's word: the status, and each event once, in order."""
        there = sorted(
            self.client.fine_tuning.jobs.list_events(job, limit=50), key=lambda e: (e.created_at, e.id)
        )
        with Store(self.store) as store:
            known = store.job(job, "local")
            assert known is not None
            assert known.job.status == "succeeded"
            assert [event.id for event in store.events("local", job)] == [event.id for event in there]
            steps = [event.data["step"] for event in there if event.type == "metrics"]  # type: ignore[index]
            assert [point.step for point in store.points("local", job)] == sorted(steps)


@dataclass
class Place(Person):
    """A person whose engine is shared with others, and never dies."""

    engine: Server

    def __post_init__(self) -> None:
        data = self.home / "data"
        data.mkdir(parents=True, mode=0o700)
        (data / "engine").symlink_to(self.engine.folder)

    @cached_property
    def client(self) -> openai.OpenAI:
        return self.engine.client()

    def run(self, *command: str, dies_at: int = 0) -> Life:
        """Run a command of this place's own, killed at its durable call of that number (0: left alone)."""
        done = self.nursery.run(self.home, command, dies_at)
        assert done.status in (0, -signal.SIGKILL), f"{done.status}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done


@dataclass
class Alone(Person):
    """A person whose own engine dies once, at its durable call of a number, and is started again by who needs it."""

    models: Path
    dies_at: int

    def __post_init__(self) -> None:
        (self.home / "data").mkdir(parents=True, mode=0o700)
        (self.home / "dies_at").write_text(str(self.dies_at))

    @property
    def engine(self) -> Path:
        return self.home / "data" / "engine"

    @property
    def has_died(self) -> bool:
        """Whether the engine was started more than once."""
        return (self.home / "starts").read_text().count("start") > 1

    @property
    def client(self) -> openai.OpenAI:
        told = json.loads((self.engine / "endpoint.json").read_text())
        key = (self.engine / "key").read_text().strip()
        return openai.OpenAI(base_url=told["base_url"], api_key=key, max_retries=0)

    def run(self, *command: str) -> Life:
        """Run a command, which starts the engine where it needs one."""
        serve = [
            sys.executable, str(ROOT / "tests" / "death_engine.py"), str(self.home), str(self.nursery.library),
            str(self.engine), str(self.models), "--steps", "4", "--delay", "0.02",
        ]  # fmt: skip
        done = self.nursery.run(self.home, command, 0, serve)
        assert done.status in (0, 1), f"{done.status}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def stop(self) -> None:
        """Kill the engine that runs now."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(json.loads((self.engine / "endpoint.json").read_text())["pid"], signal.SIGKILL)


def deaths(points: Sequence[int] | None, most: int = 2000) -> Iterator[int]:
    """Yield the chosen calls, or every one; the caller breaks off when a command outlives its call."""
    yield from points if points is not None else range(1, most)


@contextmanager
def shared_engine(folder: Path) -> Iterator[Server]:
    """Run an engine whose training takes a moment."""
    with server(folder, "--steps", "4", "--delay", "0.02") as running:
        yield running
