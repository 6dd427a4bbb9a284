"""The command on imported datasets: list, forget, and give back the room of what commands read for themselves."""

from __future__ import annotations

import time

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.output import emit, json_option, say, show, size, table


@click.command()
@click.option("--forget", "unwanted", metavar="NAME", help="Remove this dataset with its edits and versions.")
@click.option("--clear-cache", is_flag=True, help="Remove the imports of files that commands were given.")
@click.option("--yes", is_flag=True, help="Do not ask before removing.")
@json_option
def datasets(unwanted: str | None, clear_cache: bool, yes: bool, as_json: bool) -> None:
    """List the imported datasets, the newest first; or forget one."""
    bench = workbench()
    if unwanted:
        if not yes:
            _confirm(unwanted)
        gone = bench.forget(unwanted)
        emit({"forgotten": gone.name, "id": gone.id}) if as_json else show(f"forgotten: {gone.name}")
        return
    if clear_cache:
        removed = bench.known_files.make_room(most=0)
        emit({"removed": removed}) if as_json else show(f"{removed:,} imports removed")
        return
    found = bench.datasets()
    cached = bench.known_files.size()
    if as_json:
        emit(
            {
                "datasets": [
                    {
                        "name": one.name, "id": one.id, "conversations": one.conversations, "source": one.source,
                        "imported_at": one.imported_at,
                    }
                    for one in found
                ],
                "cache_bytes": cached,
            }
        )  # fmt: skip
        return
    rows = [(one.name, f"{one.conversations:,}", _minute(one.imported_at), one.source) for one in found]
    table([("dataset", "conversations", "imported", "source"), *rows], right=(1,))
    if cached:
        say(f"imports of files that commands were given take {size(cached)} more; --clear-cache removes them")


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _confirm(name: str) -> None:
    import sys

    from tunedesk.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("the removal was not confirmed", "add --yes to forget without a question")
    click.confirm(f"Forget {name} with all its edits and versions, for good?", abort=True, err=True)


COMMANDS = (datasets,)
