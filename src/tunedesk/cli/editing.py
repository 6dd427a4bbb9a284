"""The command that edits an imported dataset: one edit over all that a query matches, or the last one taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from tunedesk.cli.data import filtered, knowing, model_option, show_message, system_text, workbench
from tunedesk.cli.output import Progress, emit, json_option, say, show

if TYPE_CHECKING:
    from tunedesk.core.editing.edits import Edit
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench

Rows: TypeAlias = "Iterable[int] | None"

_SHOWN = 3
"""Conversations that --dry-run shows before and after."""


@click.command()
@click.argument("dataset")
@click.option(
    "--where", "query", default="", help="Query, as in the filter bar; every conversation without it."
)
@click.option("--exclude", is_flag=True, help="Leave them out of training and exports.")
@click.option("--include", is_flag=True, help="Take them back in.")
@click.option("--tag", metavar="NAME", help="Put a tag on them.")
@click.option("--untag", metavar="NAME", help="Take a tag off them.")
@click.option(
    "--replace", metavar="'TEXT => TEXT'", help="Put a text for another: user:/case \\d+/ => a case"
)
@click.option("--system", metavar="TEXT", help="Give them this system prompt; @FILE reads it.")
@click.option("--undo", is_flag=True, help="Take back the last edit, whoever made it.")
@click.option("--redo", is_flag=True, help="Bring back what was undone last.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
@model_option
@json_option
def edit(
    dataset: str, query: str, exclude: bool, include: bool, tag: str | None, untag: str | None, replace: str | None,
    system: str | None, undo: bool, redo: bool, dry_run: bool, model: str, as_json: bool,
) -> None:  # fmt: skip
    """Edit the conversations of DATASET that match a query, as one edit that can be undone.

    It is in the journal like those of the workbench, which shows it within a second where it is open.
    """
    from tunedesk.core.editing import edits
    from tunedesk.errors import UsageError

    def replacing(rows: Rows) -> Edit:
        told = edits.replacement(replace or "")
        return edits.replace_text(rows, told.find, told.text, role=told.role, pattern=told.pattern)

    makers: list[tuple[bool, Callable[[Rows], Edit]]] = [
        (exclude, edits.exclude),
        (include, edits.include),
        (tag is not None, lambda rows: edits.tag(rows, tag or "")),
        (untag is not None, lambda rows: edits.untag(rows, untag or "")),
        (replace is not None, replacing),
        (system is not None, lambda rows: edits.set_system_prompt(rows, system_text(system) or "")),
    ]
    chosen = [make for wanted, make in makers if wanted]
    if len(chosen) + undo + redo != 1 or ((undo or redo) and (query or dry_run)):
        raise UsageError(
            "say what to do, one thing at a time",
            "one of --exclude --include --tag --untag --replace --system, or --undo, or --redo",
        )
    if Path(dataset).exists() or dataset == "-":
        raise UsageError("only an imported dataset keeps edits", f"tunedesk import {dataset}")
    bench = workbench()
    workspace = bench.open(dataset)
    if chosen:
        with Progress("looking") as progress:
            found = filtered(knowing(bench, workspace, query, "", model, progress), query)
            # All rows take no room in the journal; a text is replaced where it is, and no other row counts as edited.
            rows = found.matches if query or replace is not None else None
            made = bench.curation.changing(found, chosen[0](rows), progress.update) if found.matched else None
        _tell(bench, found, made, dry_run=dry_run, as_json=as_json)
    else:
        _walk(bench, workspace, back=undo, as_json=as_json)


def _tell(bench: Workbench, found: Workspace, made: Edit | None, *, dry_run: bool, as_json: bool) -> None:
    """Make an edit unless it is only to be told, and tell it."""
    if made and not dry_run:
        bench.edit(found, made)
    if as_json:
        _emit(found, made, "would be done" if dry_run else "done")
        return
    if made is None:
        say("no conversation matches: nothing was changed")
        return
    if dry_run:
        for sample in bench.curation.preview(found, made, most=_SHOWN).samples:
            show(f"~ line {sample.line}: {sample.preview}")
            for message in sample.messages:
                show_message(message)
    would = "would change" if dry_run else "changed"
    show(f"{made.label}: {would} {_count(found, made):,} of {found.total:,} conversations")
    if not dry_run:
        say(f"tunedesk edit {found.dataset.name} --undo takes it back")


def _count(workspace: Workspace, one: Edit) -> int:
    rows = one.indexes()
    return workspace.total if rows is None else len(rows)


def _emit(workspace: Workspace, one: Edit | None, state: str) -> None:
    count = _count(workspace, one) if one else 0
    label = one.label if one else ""
    emit({"dataset": workspace.dataset.name, "edit": label, "conversations": count, "state": state})


def _walk(bench: Workbench, workspace: Workspace, *, back: bool, as_json: bool) -> None:
    """Take back the newest edit, or bring back the one undone last."""
    from tunedesk.errors import UsageError

    one = workspace.undoable if back else workspace.redoable
    if one is None:
        raise UsageError(f"there is nothing to {'undo' if back else 'redo'}")
    bench.undo(workspace) if back else bench.redo(workspace)
    if as_json:
        _emit(workspace, one.edit, "undone" if back else "redone")
    else:
        count = _count(workspace, one.edit)
        rows = f"{count:,} conversation{'' if count == 1 else 's'}"
        show(f"{'undid' if back else 'redid'}: {one.edit.label}, {rows}")


COMMANDS = (edit,)
