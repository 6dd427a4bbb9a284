"""Commands on what an engine keeps: tuned models out and in, its disk. For an engine here or on another host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _run, provider_option
from tunedesk.cli.output import Progress, emit, json_option, say, show, size, table

if TYPE_CHECKING:
    from tunedesk.providers.base import Provider


@click.command()
@provider_option
@click.option("--export", "wanted", metavar="MODEL", help="Save this tuned model; -o says where.")
@click.option(
    "--form", type=click.Choice(["peft", "merged", "gguf"]), default="peft", show_default=True,
    help="An adapter as PEFT reads it, the base with the adapter worked in, or an adapter for llama.cpp.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The folder to write; it must not exist."
)
@click.option(
    "--import", "brought", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take in an adapter that PEFT, TRL or another trainer wrote; --base says on which model.",
)  # fmt: skip
@click.option("--base", metavar="MODEL", help="The base model that an imported adapter was trained on.")
@click.option("--suffix", default="imported", show_default=True, help="Part of an imported model's name.")
@json_option
def adapters(
    provider: str | None, wanted: str | None, form: str, output: Path | None, brought: Path | None,
    base: str | None, suffix: str, as_json: bool,
) -> None:  # fmt: skip
    """List the tuned models of an engine with their size; or save one for other programs; or take one in."""
    from tunedesk.errors import UsageError

    if bool(wanted) != (output is not None):
        raise UsageError("--export MODEL needs -o FOLDER, and -o needs --export", "name both")
    if bool(brought) != bool(base) or (wanted and brought):
        raise UsageError("--import FOLDER needs --base MODEL, and goes without --export", "name both")
    if output is not None and output.exists():
        raise UsageError(f"{output} exists already", "name a folder that does not")
    bench = workbench()

    async def work() -> None:
        client = await bench.connect(bench.profile(provider))
        if wanted and output is not None:
            done = await _export(client, wanted, form, output)
        elif brought and base:
            done = await _import(client, brought, base, suffix)
        else:
            _list((await client.ask_engine("models"))["tuned"], as_json)
            return
        emit(done) if as_json else show("  ".join(str(value) for value in done.values()))

    _run(bench, work)


async def _export(client: Provider, model: str, form: str, output: Path) -> dict[str, Any]:
    """Save a tuned model, with progress."""
    from tunedesk.jobs.adapters import export_adapter

    say(f"packing {model} as {form} …")
    with Progress("fetching") as progress:
        count = await export_adapter(
            client, model, form, output, lambda sent, all_: progress.update(sent, all_, " B")
        )
    return {"model": model, "form": form, "path": str(output), "bytes": count}


async def _import(client: Provider, folder: Path, base: str, suffix: str) -> dict[str, Any]:
    """Take an adapter in, with progress."""
    from tunedesk.jobs.adapters import import_adapter

    with Progress("sending") as progress:
        return dict(
            await import_adapter(
                client, folder, base, suffix, lambda sent, all_: progress.update(sent, all_, " B")
            )
        )


def _list(tuned: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit(tuned)
        return
    rows = [(one["id"], one["base"], size(one["disk"]), one["job"] or "imported") for one in tuned]
    table([("model", "base", "disk", "job"), *rows], right=(2,))


@click.command()
@provider_option
@click.option("--clean", "cleaning", is_flag=True, help="Delete what no model, file or unfinished job needs.")
@json_option
def disk(provider: str | None, cleaning: bool, as_json: bool) -> None:
    """Show what an engine keeps on disk and what of it can go; --clean deletes that."""
    bench = workbench()

    async def work() -> None:
        client = await bench.connect(bench.profile(provider))
        told: dict[str, Any] = await client.ask_engine("disk")
        if cleaning:
            told |= await client.ask_engine("clean", {})
        if as_json:
            emit(told)
            return
        words = {
            "models": "base models", "adapters": "tuned models and their jobs", "files": "uploaded and result files",
            "other": "database and log", "free": "free on that disk", "cleanable": "can go (--clean)", "freed": "freed",
        }  # fmt: skip
        table([(words[name], size(count)) for name, count in told.items() if name in words], right=(1,))

    _run(bench, work)


COMMANDS = (adapters, disk)
