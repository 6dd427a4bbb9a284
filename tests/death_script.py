"""What the app does and no command does alone: `upload FILE`, and the queue `FILE FILE…` carried out to its end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

from tunedesk.jobs import JobService, LaunchRequest, Lineup
from tunedesk.paths import state_paths
from tunedesk.store import QueueRules
from tunedesk.workbench import Workbench


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


async def main(what: str, *files: str) -> None:
    bench = Workbench(state_paths())
    try:
        if what == "upload":
            await upload(bench, Path(files[0]))
        else:
            await queue(bench, [Path(file) for file in files])
    finally:
        await bench.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
