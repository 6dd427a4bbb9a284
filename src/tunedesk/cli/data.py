"""Commands on conversations: import, export, convert, list, check, fix, split, duplicates, diff."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.output import Progress, emit, emit_list, json_option, say, show, size, table

if TYPE_CHECKING:
    from tunedesk.core.diff import Change, MessageChange
    from tunedesk.core.importing.exporters import Written
    from tunedesk.core.importing.report import Report
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench

FORMATS = click.Choice(["openai", "sharegpt", "alpaca", "parquet"])
format_option = click.option(
    "--format", "format_name", help="Read the file as this format instead of detecting it."
)
map_option = click.option("--map", "mapping", help="Which columns hold what: user=COL,assistant=COL,…")
system_option = click.option("--system", help="System prompt for conversations without one: TEXT, or @FILE.")
model_option = click.option("--model", default="", help="Model whose rules, encoding and prices count.")


def workbench() -> Workbench:
    """Build the services that a command calls."""
    from tunedesk.paths import state_paths
    from tunedesk.workbench import Workbench

    return Workbench(state_paths())


def system_text(system: str | None) -> str | None:
    """Return the text of `--system`, read from the file when it begins with @."""
    from tunedesk.errors import UsageError

    if system is None or not system.startswith("@"):
        return system
    try:
        return Path(system[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the system prompt from {system[1:]}: {error}", "check the path"
        ) from error


def columns(mapping: str | None) -> dict[str, str] | None:
    """Return `--map` as a dictionary of role → column."""
    from tunedesk.errors import UsageError

    if not mapping:
        return None
    pairs = [pair.partition("=") for pair in mapping.split(",")]
    if any(not key or not value for key, _, value in pairs):
        raise UsageError(
            f"--map {mapping!r} is not of the form user=COL,assistant=COL", "name each column once"
        )
    return {key.strip(): value.strip() for key, _, value in pairs}


def report_skipped(report: Report) -> list[dict[str, Any]]:
    """Return the skipped rows as the command contract names them, and tell their number on standard error."""
    for note in report.notes:
        say(f"note: {note}")
    if report.skipped:
        first = report.skipped[0]
        say(f"{len(report.skipped):,} rows were skipped; the first: line {first.line}: {first.reason}")
    return [{"line": row.line, "reason": row.reason} for row in report.skipped]


def _left_out(written: Written, format_name: str) -> list[dict[str, Any]]:
    """Return the rows that a format cannot hold as the command contract names them, and tell their number."""
    if written.skipped:
        first = written.skipped[0]
        say(
            f"{len(written.skipped):,} conversations do not fit {format_name} and were left out; "
            f"the first: line {first.line}: {first.reason}"
        )
    return [{"line": row.line, "reason": row.reason} for row in written.skipped]


def told(report: Report) -> dict[str, Any]:
    """Return what else an import did, for `--json`."""
    return {
        "format": report.format, "rows": report.rows, "merged_turns": report.merged_turns,
        "dropped_tails": report.dropped_tails, "asides": report.asides, "guessed": report.guessed,
    }  # fmt: skip


@contextmanager
def _nothing_told(as_json: bool) -> Iterator[None]:
    """Tell every reason, and end with 1, when a file was read and nothing of it can be used."""
    from tunedesk.core.importing.report import NothingImported

    try:
        yield
    except NothingImported as error:
        say(f"error: {error.message}")
        skipped = report_skipped(error.report)
        if error.report.strangers:
            say(f"hint: {error.hint}")
        if as_json:
            emit({"dataset": None, "conversations": 0, "skipped": skipped, **told(error.report)})
        raise click.exceptions.Exit(1) from error


@click.command("import")
@click.argument("file")
@format_option
@map_option
@system_option
@click.option("--name", help="Name of the dataset; the file's name by default.")
@json_option
def import_(
    file: str,
    format_name: str | None,
    mapping: str | None,
    system: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Import conversations from FILE into the store."""
    try:
        with _nothing_told(as_json), Progress("importing", size) as progress:
            imported = workbench().import_file(
                file, format_name=format_name, mapping=columns(mapping), system=system_text(system), name=name,
                on_progress=progress.update,
            )  # fmt: skip
    except KeyboardInterrupt:
        say("interrupted; nothing was imported")
        raise click.exceptions.Exit(130) from None
    dataset = imported.workspace.dataset
    skipped = report_skipped(imported.report)
    if imported.known:
        say(f"note: {imported.known}")
    if as_json:
        emit(
            {
                "dataset": dataset.name,
                "conversations": len(dataset),
                "skipped": skipped,
                **told(imported.report),
            }
        )
    else:
        show(f"{len(dataset):,} conversations in {dataset.name} (read as {imported.report.format})")


@click.command()
@click.argument("dataset")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--format", "format_name", type=FORMATS, default="openai", show_default=True)
@click.option("--keep-metadata", is_flag=True, help="Keep metadata, which the API does not take.")
@json_option
def export(dataset: str, output: Path, format_name: str, keep_metadata: bool, as_json: bool) -> None:
    """Write the conversations of DATASET (a name or a file) as a training file."""
    written = workbench().export(dataset, output, format_name=format_name, keep_metadata=keep_metadata)
    skipped = _left_out(written, format_name)
    if as_json:
        told = {"path": str(written.path), "conversations": written.conversations, "bytes": written.bytes}
        emit(told | ({"skipped": skipped} if skipped else {}))
    else:
        show(f"{written.conversations:,} conversations, {written.bytes:,} bytes: {written.path}")


@click.command()
@click.argument("file")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--to", "target", type=FORMATS, default="openai", show_default=True)
@format_option
@map_option
@system_option
@click.option("--keep-metadata", is_flag=True, help="Keep metadata, which the API does not take.")
@json_option
def convert(
    file: str, output: Path, target: str, format_name: str | None, mapping: str | None, system: str | None,
    keep_metadata: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import FILE and write it as a training file, without the store."""
    bench = workbench()
    with _nothing_told(as_json), Progress("reading", size) as progress:
        imported = bench.load(
            file, format_name=format_name, mapping=columns(mapping), system=system_text(system),
            on_progress=progress.update,
        )  # fmt: skip
    written = bench.export_workspace(
        imported.workspace, output, format_name=target, keep_metadata=keep_metadata
    )
    skipped = report_skipped(imported.report) + _left_out(written, target)
    if as_json:
        emit(
            {
                "dataset": None, "conversations": written.conversations, "skipped": skipped,
                "path": str(written.path), "bytes": written.bytes, **told(imported.report),
            }
        )  # fmt: skip
    else:
        show(f"{written.conversations:,} conversations, {written.bytes:,} bytes: {written.path}")


def knowing(
    bench: Workbench, workspace: Workspace, query: str, column: str, model: str, progress: Progress
) -> Workspace:
    """Return the workspace that knows what a query and an order ask for; a query that is none asks for nothing."""
    from tunedesk.core.searching.query import QueryError, facts, parse, reads_rows

    try:
        parsed = parse(query)
        wanted = facts(parsed)
    except QueryError:
        return workspace
    if column.lstrip("-") == "tokens":
        wanted |= {"tokens"}
    if column or reads_rows(parsed.root):
        bench.read_edits(workspace.overlay, workspace.dataset, on_progress=progress.update)
    return bench.knowing(workspace, wanted, model, progress.update)


def filtered(workspace: Workspace, query: str) -> Workspace:
    """Return what a query leaves; where it cannot be understood, point at the column before the error is told."""
    from tunedesk.core.searching.query import QueryError

    try:
        return workspace.with_query(query)
    except QueryError as error:
        say(query.replace("\n", " "))
        say(" " * (error.column - 1) + "^")
        raise


@click.command("list")
@click.argument("file")
@click.option(
    "--where", "query", default="", help="Query, as in the filter bar: user:refund -tag:done turns>4 …"
)
@click.option("--sort", "column", help="Column to sort by; -COLUMN for the other way round.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True)
@model_option
@json_option
def list_(file: str, query: str, column: str | None, limit: int, model: str, as_json: bool) -> None:
    """List conversations of FILE (or a dataset) that match a query.

    What a query asks for beside texts and metadata (tokens, has:pii, check:, dup:, about:) is worked out first.
    """
    bench = workbench()
    with Progress("looking") as progress:
        workspace = knowing(bench, bench.open_source(file), query, column or "", model, progress)
    workspace = filtered(workspace, query)
    if column:
        workspace = workspace.with_sort(column.lstrip("-"), column.startswith("-"))
    rows = bench.listed(workspace, limit)
    if as_json:
        emit({"matched": workspace.matched, "total": workspace.total, "rows": rows})
        return
    heading = ("line", "turns", "intent", "preview")
    table([heading, *([str(row[key] or "")[:80] for key in heading] for row in rows)], right=(0, 1))
    say(f"{workspace.matched:,} of {workspace.total:,} conversations")


@click.command()
@click.argument("files", nargs=-1, required=True)
@model_option
@click.option("--provider", help="Provider whose rules count.")
@click.option(
    "--quick", is_flag=True, help="All errors, but nothing of what is said: seconds a million rows."
)
@json_option
@click.pass_context
def check(
    context: click.Context,
    files: tuple[str, ...],
    model: str,
    provider: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Find everything that is wrong with FILE…, in one pass; exit 1 on errors."""
    bench = workbench()
    checked = {}
    for file in files:
        with Progress(f"checking {Path(file).name}", size) as progress:
            checked[file] = bench.check_source(
                file, model=model, provider=provider, said=not quick, on_progress=progress.update
            )
    findings = [(file, finding) for file, one in checked.items() for finding in one.findings]
    errors = sum(finding.severity == "error" for _, finding in findings)
    if as_json:
        head = {
            "conversations": sum(one.conversations for one in checked.values()),
            "errors": errors,
            "warnings": len(findings) - errors,
        }
        rows = (
            {
                **({"file": source} if len(files) > 1 else {}),
                "line": found.line, "message": found.message, "severity": found.severity, "code": found.code,
                "text": found.text, "fix": found.fix,
            }
            for source, found in findings
        )  # fmt: skip
        emit_list(head, "findings", rows)
    else:
        for source, found in findings:
            where = f"{source}:{found.line}" + ("" if found.message is None else f" message {found.message}")
            show(
                f"{where}: {found.severity} {found.code}: {found.text}"
                + (f" [fix: {found.fix}]" if found.fix else "")
            )
        conversations = sum(one.conversations for one in checked.values())
        say(f"{conversations:,} conversations: {errors:,} errors, {len(findings) - errors:,} warnings")
    context.exit(1 if errors else 0)


@click.command()
@click.argument("file")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
@click.option("--codes", help="Fix only these codes (comma-separated).")
@click.option("--dry-run", is_flag=True, help="Show what each fix would change, and write nothing.")
@json_option
def fix(file: str, output: Path | None, codes: str | None, dry_run: bool, as_json: bool) -> None:
    """Apply the safe fixes to FILE and write the result; --dry-run shows them as a diff first."""
    from tunedesk.errors import UsageError

    wanted = tuple(codes.split(",")) if codes else None
    if dry_run:
        _preview_fixes(file, wanted, as_json)
        return
    if output is None:
        raise UsageError("fix needs -o OUTPUT to write to", "--dry-run shows the fixes without writing")
    with Progress(f"fixing {Path(file).name}", size) as progress:
        fixed = workbench().fix_file(file, output, wanted, progress.update)
    if as_json:
        emit({"fixed": [{"line": line, "code": code} for line, code in fixed]})
    else:
        for line, code in fixed:
            show(f"line {line}: {code}")
        say(f"{len(fixed):,} fixes: {output}")


_DIFFS = 3
"""Diffs shown of each code; --json has all."""


def _preview_fixes(file: str, codes: tuple[str, ...] | None, as_json: bool) -> None:
    """Tell what the safe fixes would change, by finding."""
    from tunedesk.core.checking.findings import CHECKS

    with Progress(f"looking at {Path(file).name}", size) as progress:
        found = list(workbench().preview_fixes(file, codes, progress.update, None if as_json else _DIFFS))
    if as_json:
        listed = [{"line": one.line, "code": one.code, "diff": list(one.diff)} for one in found]
        emit({"fixed": listed, "dry_run": True})
        return
    for code in dict.fromkeys(one.code for one in found):
        lines = [one for one in found if one.code == code]
        show(f"{code}: {len(lines):,} × {CHECKS[code].fix}")
        for one in lines[:_DIFFS]:
            show("\n".join([f"  line {one.line}", *(f"    {part}" for part in one.diff)]))
        if len(lines) > _DIFFS:
            show(f"  and {len(lines) - _DIFFS:,} more")
    say(f"{len(found):,} fixes, none made: -o OUTPUT instead of --dry-run makes them")


@click.command()
@click.argument("file")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write into.")
@click.option(
    "--validation", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--by", help="Metadata key whose values both sides shall have in the same shares.")
@click.option("--group", help="Metadata key whose equal values stay on one side (customer, ticket …).")
@json_option
def split(
    file: str, output: Path, validation: float, seed: int, by: str | None, group: str | None, as_json: bool
) -> None:
    """Split FILE into training and validation without leaks: near-duplicates stay on one side."""
    bench = workbench()
    with Progress("splitting") as progress:
        done = bench.split(
            bench.open_source(file), output, validation=validation, seed=seed, by=by, group=group,
            on_progress=progress.update,
        )  # fmt: skip
    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        emit(
            {
                "train": done.train_count, "validation": done.validation_count, "groups": done.groups,
                "leaks": done.leaks, "seed": done.seed, "sha256": done.sha256,
            }
        )  # fmt: skip
    else:
        show(f"{done.train_count:,} train, {done.validation_count:,} validation; {done.proof}")


@click.command()
@click.argument("file")
@json_option
def duplicates(file: str, as_json: bool) -> None:
    """Find exact and near duplicates in FILE."""
    with Progress("looking for duplicates") as progress:
        groups = workbench().duplicates(file, progress.update)
    if as_json:
        emit({"groups": [{"lines": list(group.lines), "similarity": group.similarity} for group in groups]})
        return
    for group in groups:
        show(f"{group.similarity:.2f}  lines {', '.join(map(str, group.lines))}")
    say(f"{len(groups):,} groups")


@click.command()
@click.argument("before")
@click.argument("after")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Tell what changed from BEFORE to AFTER: each a file, a dataset, or dataset@version (dataset@imported)."""
    with Progress("comparing") as progress:
        was, now, difference = workbench().versions.diff(before, after, progress.update)
    counts = {kind: difference.count(kind) for kind in ("added", "removed", "reworded")}
    if as_json:
        head = {"before": before, "after": after, **counts, "unchanged": difference.unchanged}
        emit_list(head, "changes", (_change(one, was, now)[0] for one in difference.changes))
        return
    for one in difference.changes:
        _show_change(*_change(one, was, now))
    say(
        ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        + f", {difference.unchanged:,} unchanged"
    )


def _change(one: Change, was: Workspace, now: Workspace) -> tuple[dict[str, Any], Sequence[MessageChange]]:
    messages, keys = one.told()
    told = {
        "kind": one.kind,
        "before_line": None if one.before is None else was.line(one.before),
        "after_line": None if one.after is None else now.line(one.after),
        "preview": (now if one.after is not None else was).view(one.row).preview,
        "messages": [
            {
                "kind": message.kind, "before_message": message.before, "after_message": message.after,
                "role": message.role, "before": message.was, "after": message.now,
                "keys": {key: list(values) for key, values in message.keys.items()},
            }
            for message in messages
        ],
        "keys": list(keys),
    }  # fmt: skip
    return told, messages


def _show_change(change: dict[str, Any], messages: Sequence[MessageChange]) -> None:
    mark = {"added": "+", "removed": "-", "reworded": "~"}[change["kind"]]
    line = change["before_line"] if change["after_line"] is None else change["after_line"]
    show(f"{mark} line {line}: {change['preview']}")
    for message in messages:
        show_message(message)
    if change["keys"]:
        show(f"    changed: {', '.join(change['keys'])}")


def show_message(message: MessageChange) -> None:
    """Print what happened to a message, as it was and as it is."""
    place = message.before if message.after is None else message.after
    show(f"    {message.kind} message {place} ({message.role})")
    for sign, text in zip("-+", message.sides(), strict=True):
        if text:
            show("\n".join(f"    {sign} {part}" for part in text.splitlines()))


COMMANDS = (import_, export, convert, list_, check, fix, split, duplicates, diff)
