"""Commands that curate conversations as a whole: privacy, coverage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.output import Progress, emit, json_option, say, show, table


@click.command()
@click.argument("file")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write with placeholders in their stead."
)
@json_option
def privacy(file: str, output: Path | None, as_json: bool) -> None:
    """Find personal data in FILE; with -o write it masked, the map kept on this machine alone."""
    curation = workbench().curation
    with Progress("looking for personal data") as progress:
        masked = curation.mask_file(file, output, progress.update) if output else None
        found = masked.found if masked else curation.personal(file, progress.update)
    if as_json:
        keys = ("line", "message", "kind", "start", "end")
        emit({"found": [{key: value for key, value in asdict(one).items() if key in keys} for one in found]})
    else:
        for one in found:
            show(f"line {one.line} message {one.message}: {one.kind} {one.start}-{one.end}: {one.text}")
    say(f"{len(found):,} stretches of personal data on {len({one.line for one in found}):,} lines")
    if masked:
        say(f"{masked.conversations:,} conversations masked: {output}; what stands for what: {masked.map}")


@click.command()
@click.argument("file")
@json_option
def coverage(file: str, as_json: bool) -> None:
    """Tell which intents FILE covers, which are thin, and how many answers refuse or hand off."""
    with Progress("looking at the intents") as progress:
        found = workbench().curation.coverage(file, progress.update)
    if as_json:
        told = {key: value for key, value in asdict(found).items() if key != "topics"}
        emit({**told, "thin": list(found.thin)})
        return
    rows = [
        (f"{one.share:.1%}", f"{one.conversations:,}", one.name, "thin" if one.thin else "")
        for one in found.intents
    ]
    table([("share", "rows", found.by, ""), *rows], right=(0, 1))
    say(
        f"{found.conversations:,} conversations, {len(found.intents):,} by {found.by}, {len(found.thin):,} thin; "
        f"{found.refusals:.1%} refuse, {found.hand_offs:.1%} hand off"
    )


COMMANDS = (privacy, coverage)
