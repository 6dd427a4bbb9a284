"""The command on files at a provider: list, download, delete."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _run, provider_option
from tunedesk.cli.output import Progress, emit, json_option, show, table

if TYPE_CHECKING:
    from tunedesk.core.fine_tuning import ProviderFile


@click.command()
@provider_option
@click.option("--purpose", help="Only files of this purpose, such as fine-tune or fine-tune-results.")
@click.option("--download", "wanted", metavar="ID", help="Save this file; -o says where.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--delete", "unwanted", metavar="ID", help="Delete this file there.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting, or before replacing OUT.")
@json_option
def files(
    provider: str | None, purpose: str | None, wanted: str | None, output: Path | None, unwanted: str | None,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """List the files at a provider, the newest first; or download one, or delete one."""
    from tunedesk.errors import UsageError

    if wanted and unwanted:
        raise UsageError("--download and --delete do not go together", "one after the other")
    if bool(wanted) != (output is not None):
        raise UsageError("--download ID needs -o OUT, and -o needs --download", "name both")
    if output is not None and output.exists() and not yes:
        raise UsageError(f"{output} is there already", "name another file, or add --yes to replace it")
    bench = workbench()
    profile = bench.profile(provider)
    if unwanted and not yes:
        _confirm(unwanted, profile.label or profile.name)

    async def work() -> None:
        client = await bench.connect(profile)
        done: dict[str, Any]
        if wanted and output is not None:
            with Progress("downloading") as progress:
                count = await client.download(
                    wanted, output, on_progress=lambda sent, size: progress.update(sent, size, " B")
                )
            done = {"id": wanted, "path": str(output), "bytes": count}
        elif unwanted:
            await client.delete_file(unwanted)
            bench.store.forget_file_id(profile.name, unwanted)
            done = {"id": unwanted, "deleted": True}
        else:
            _list(sorted(await client.files(purpose), key=lambda one: -one.created_at), as_json)
            return
        emit(done) if as_json else show("  ".join(str(value) for value in done.values() if value is not True))

    _run(bench, work)


def _confirm(file: str, place: str) -> None:
    import sys

    from tunedesk.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("the deletion was not confirmed", "add --yes to delete without a question")
    click.confirm(f"Delete {file} at {place} for good?", abort=True, err=True)


def _list(found: list[ProviderFile], as_json: bool) -> None:
    if as_json:
        emit([asdict(one) for one in found])
        return
    heading = ("file", "bytes", "purpose", "status", "created", "name")
    rows = [
        (one.id, f"{one.bytes:,}", one.purpose, one.status, _day(one.created_at), one.filename)
        for one in found
    ]
    table([heading, *rows], right=(1,))


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


COMMANDS = (files,)
