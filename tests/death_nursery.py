"""Gives birth to programs under the shim of death_rig.py: commands, and what only the app does (upload, queue).

Reads one JSON object a line: home, command, dies_at, serve. Answers with status, stdout and stderr, one line each.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import traceback
from contextlib import aclosing
from pathlib import Path

import tunedesk
from tunedesk import cli
from tunedesk.jobs import JobService, LaunchRequest, Lineup
from tunedesk.paths import state_paths
from tunedesk.providers import local
from tunedesk.store import QueueRules
from tunedesk.workbench import Workbench


def load_all() -> None:
    """Load what the programs need once, for all that are born."""
    for found in pkgutil.walk_packages(tunedesk.__path__, "tunedesk."):
        if not found.name.startswith(("tunedesk.engine", "tunedesk.tui", "tunedesk.__main__")):
            importlib.import_module(found.name)
    for name in ("files", "uploads", "fine_tuning", "models"):
        importlib.import_module(f"openai.resources.{name}")


async def upload(bench: Workbench, file: Path) -> None:
    service = await bench.jobs(bench.profile("local"))
    done = await service.upload(file)
    sys.stdout.write(f"{done.file}\n")


async def queue(bench: Workbench, files: list[Path]) -> None:
    async def connect(name: str) -> JobService:
        return await bench.jobs(bench.profile(name))

    lineup = Lineup(bench.store, connect)
    if not lineup.places():
        lineup.add("local", [LaunchRequest("tiny", file) for file in files], [0.0] * len(files))
    lineup.set_rules(QueueRules(running=True))
    async with aclosing(lineup.run()) as run:  # type: ignore[type-var]
        while any(one.state in ("waiting", "running") for one in lineup.places()):
            await anext(run)


async def of_the_app(what: str, *files: str) -> None:
    bench = Workbench(state_paths())
    try:
        if what == "upload":
            await upload(bench, Path(files[0]))
        else:
            await queue(bench, [Path(file) for file in files])
    finally:
        await bench.close()


def born(home: str, command: list[str], dies_at: int, serve: list[str], output: Path) -> None:
    """Be one program, and never come back."""
    os.environ["TUNEDESK_HOME"] = home
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    status = 0
    if serve:
        local.SERVE = tuple(serve)  # type: ignore[assignment]
    ctypes.CDLL(sys.argv[1]).die_at(ctypes.c_long(dies_at))
    try:
        if command[0] == "tunedesk":
            sys.argv = command
            status = cli.main()
        else:
            asyncio.run(of_the_app(*command))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        if (error := sys.exception()) is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
            status = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    load_all()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            child = os.fork()
            if child == 0:
                born(**json.loads(line), output=Path(folder))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said = {f"std{name}": (Path(folder) / name).read_text() for name in ("out", "err")}
            sys.stdout.write(json.dumps({"status": status, **said}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
