"""Commands on tokens and money: tokens, trim, prices, budget, ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import model_option, workbench
from tunedesk.cli.output import Progress, dollars, duration, emit, json_option, say, show, table

if TYPE_CHECKING:
    from tunedesk.core.counting.pricing import Estimate
    from tunedesk.core.counting.token_stats import Spread
    from tunedesk.core.workspace import Workspace
    from tunedesk.counting import Counts
    from tunedesk.workbench import Workbench

_BAR = 30
"""Width of the histogram's longest bar, characters."""


@click.command()
@click.argument("file")
@model_option
@click.option("--provider", help="Provider that would train.")
@click.option("--epochs", type=click.IntRange(1, 50), help="Epochs; the published rule by default.")
@click.option("--compare", "others", multiple=True, metavar="MODEL", help="A further model, side by side.")
@click.option("--measure", is_flag=True, help="Measure for some seconds how fast this machine trains MODEL.")
@click.option("--where", is_flag=True, help="Tell where the tokens go, and what trimming would save.")
@json_option
def tokens(
    file: str, model: str, provider: str | None, epochs: int | None, others: tuple[str, ...], measure: bool,
    where: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count the tokens of FILE and what training on them costs."""
    bench = workbench()
    profile = bench.profile(provider)
    workspace = bench.open_source(file)
    with Progress("counting") as progress:
        names = dict.fromkeys((bench.model_for(model, provider), *others))
        counted = {name: bench.count(workspace, name, on_progress=progress.update) for name in names}
        savings = (
            bench.counting.savings(workspace, next(iter(names)), on_progress=progress.update) if where else []
        )
    if measure:
        _measure(bench, workspace, next(iter(names)))
    estimates = bench.spending.side_by_side(
        {name: one.stats for name, one in counted.items()}, profile, epochs or "auto"
    )
    counts, estimate = next(iter(counted.values())), next(iter(estimates.values()))
    for one in counted.values():
        if one.encoding.note:
            say(f"note: {one.encoding.note}")
    if as_json:
        told = _told(bench, counts, estimate)
        told["models"] = {name: _brief(bench, one, estimates[name]) for name, one in counted.items()}
        if where:
            told["costliest"] = [
                {"line": workspace.line(row), "tokens": total} for row, total in _spread(counts).costliest
            ]
            told["trims"] = [
                {"turns": one.turns, "conversations": one.conversations, "saved": one.saved}
                for one in savings
            ]
        emit(told)
        return
    _show(counts, estimate)
    for line in bench.spending.notes(counts.model, profile):
        show(f"note           {line}")
    if len(counted) > 1:
        pairs = [(name, one, estimates[name]) for name, one in counted.items()]
        lines = [
            (name, one.encoding.name, f"{one.stats.total:,}", f"{est.billed_tokens:,}", dollars(est.usd))
            for name, one, est in pairs
        ]
        table([("model", "encoding", "tokens", "billed", "cost"), *lines], right=(2, 3, 4))
    if where:
        table(
            [("line", "tokens"), *((workspace.line(row), f"{n:,}") for row, n in _spread(counts).costliest)]
        )
        rows = [(one.turns, f"{one.conversations:,}", f"{one.saved:,}") for one in savings]
        table([("last turns kept", "conversations", "tokens saved"), *rows], right=(0, 1, 2))


def _measure(bench: Workbench, workspace: Workspace, model: str) -> None:
    """Have this machine's engine measure its speed for `model`, and say it."""
    import asyncio

    async def work() -> float:
        try:
            provider = await bench.connect(bench.profile(None))
            return await bench.spending.measure(provider, model, bench.counting.sample(workspace))
        finally:
            await bench.close()

    say(f"{model}: {asyncio.run(work()):,.0f} tokens a second on this machine")


def _spread(counts: Counts) -> Spread:
    assert counts.spread is not None
    return counts.spread


def _cost(estimate: Estimate) -> dict[str, Any]:
    price = estimate.price
    return {
        "usd": estimate.usd, "low": estimate.low, "high": estimate.high,
        "price_per_million": price.training if price else None, "as_of": price.as_of if price else None,
    }  # fmt: skip


def _told(bench: Workbench, counts: Counts, estimate: Estimate) -> dict[str, Any]:
    """Return what `--json` prints; the first keys are the command contract's."""
    from dataclasses import asdict

    stats, spread, price = counts.stats, _spread(counts), estimate.price
    return {
        "conversations": stats.conversations,
        "encoding": counts.encoding.name,
        "tokens": {
            "total": stats.total, "min": stats.minimum, "median": stats.median, "p95": stats.p95, "max": stats.maximum,
        },
        "trained_tokens_per_epoch": stats.trained_per_epoch,
        "over_limit": stats.over_limit,
        "epochs": asdict(estimate.epochs),
        "billed_tokens": estimate.billed_tokens,
        "cost": _cost(estimate),
        "model": counts.model,
        "note": counts.encoding.note,
        "limit": stats.limit,
        "billed_tokens_per_epoch": stats.billed_per_epoch,
        "system_prompt_tokens": spread.system,
        "histogram": [asdict(bar) for bar in spread.histogram],
        "seconds": estimate.seconds,
        "price_age_days": price.age(bench.spending.today()) if price else None,
        "shutdown": price.shutdown or None if price else None,
    }  # fmt: skip


def _brief(bench: Workbench, counts: Counts, estimate: Estimate) -> dict[str, Any]:
    kept = (
        "encoding",
        "tokens",
        "trained_tokens_per_epoch",
        "over_limit",
        "billed_tokens",
        "cost",
        "shutdown",
    )
    told = _told(bench, counts, estimate)
    return {name: told[name] for name in kept}


def _show(counts: Counts, estimate: Estimate) -> None:
    stats, price, spread = counts.stats, estimate.price, _spread(counts)
    show(f"model          {counts.model} ({counts.encoding.name})")
    show(
        f"conversations  {stats.conversations:,}, {stats.over_limit:,} over the limit of {stats.limit:,} tokens"
    )
    figures = f"min {stats.minimum:,}, median {stats.median:,.0f}, p95 {stats.p95:,}, max {stats.maximum:,}"
    show(f"tokens         {stats.total:,} ({figures})")
    show(f"system prompts {spread.system:,} ({spread.system_share:.0%})")
    show(f"trained        {stats.trained_per_epoch:,} an epoch")
    show(f"billed         {estimate.billed_tokens:,} in {estimate.epochs.n} epochs ({estimate.epochs.rule})")
    dated = f", price of {price.as_of}" if price else ""
    show(
        f"cost           {dollars(estimate.usd)} ({dollars(estimate.low)} to {dollars(estimate.high)}{dated})"
    )
    if estimate.seconds is not None:
        show(f"time           {duration(estimate.seconds)} on this machine, by {estimate.measured}")
    elif estimate.price is None and estimate.usd == 0:
        show("time           unknown; --measure tells how fast this machine is")
    most = max((bar.conversations for bar in spread.histogram), default=0)
    for bar in (one for one in spread.histogram if one.conversations):
        length = -(-bar.conversations * _BAR // most) if most else 0
        mark = "over" if bar.over else ""
        show(f"{bar.low:>9,} to {bar.high:>9,}  {bar.conversations:>9,}  {'█' * length} {mark}".rstrip())


@click.command()
@click.argument("dataset")
@model_option
@click.option("--provider", help="Provider that would train.")
@click.option(
    "--turns", type=click.IntRange(min=1), help="Keep so many last turns; to the model's limit otherwise."
)
@json_option
def trim(dataset: str, model: str, provider: str | None, turns: int | None, as_json: bool) -> None:
    """Keep the last turns of every conversation of DATASET, as one edit that can be undone in the workbench."""
    from tunedesk.errors import UsageError

    bench = workbench()
    if Path(dataset).exists() or dataset == "-":
        raise UsageError("only an imported dataset keeps edits", f"tunedesk import {dataset}")
    workspace = bench.open(dataset)
    name = bench.model_for(model, provider)
    before = bench.count(workspace, name)
    shorter = bench.trim(workspace, turns) if turns else bench.trim_to_limit(workspace, before)
    after = bench.count(shorter, name)
    if as_json:
        emit({"tokens_before": before.stats.total, "tokens_after": after.stats.total})
    else:
        show(f"{before.stats.total:,} tokens before, {after.stats.total:,} after")


@click.command()
@click.option(
    "--set", "pair", metavar="MODEL=USD", help="Your own price, US dollars a million tokens trained."
)
@json_option
def prices(pair: str | None, as_json: bool) -> None:
    """List the known prices with their age and the models' ends, or set one."""
    from dataclasses import asdict

    from tunedesk.errors import UsageError

    bench = workbench()
    if pair:
        model, _, usd = pair.rpartition("=")
        try:
            bench.spending.set_price(model, float(usd))
        except ValueError as error:
            raise UsageError(
                f"--set {pair!r} is not of the form MODEL=USD", "such as my-model=0.5"
            ) from error
    today = bench.spending.today()
    known = {price.model: price for price in bench.prices.values()}
    if as_json:
        emit([{**asdict(price), "age_days": price.age(today)} for price in known.values()])
        return
    lines = [
        (one.model, dollars(one.training), one.as_of, f"{one.age(today)} days", one.shutdown, one.source)
        for one in known.values()
    ]
    table([("model", "a million", "read on", "age", "shuts down", "source"), *lines], right=(1, 3))


@click.command()
@click.option("--per-launch", type=click.FloatRange(min=0), help="US dollars that one launch may cost.")
@click.option("--per-month", type=click.FloatRange(min=0), help="US dollars of all launches of a month.")
@click.option("--none", "nothing", is_flag=True, help="Take both limits away.")
@json_option
def budget(per_launch: float | None, per_month: float | None, nothing: bool, as_json: bool) -> None:
    """Show or set what launches may cost; more is refused before anything is sent."""
    from dataclasses import replace

    from tunedesk.spending import Budget

    spending = workbench().spending
    known = Budget() if nothing else spending.budget()
    if nothing or per_launch is not None or per_month is not None:
        known = replace(
            known,
            per_launch=known.per_launch if per_launch is None else per_launch,
            per_month=known.per_month if per_month is None else per_month,
        )
        spending.set_budget(known)
    if as_json:
        emit(
            {
                "per_launch": known.per_launch,
                "per_month": known.per_month,
                "spent_this_month": spending.spent(),
            }
        )
        return
    for name, limit in (("a launch", known.per_launch), ("a month", known.per_month)):
        show(f"{name:<9} {'no limit' if limit is None else dollars(limit)}")
    show(f"this month {dollars(spending.spent())}")


@click.command()
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option
def ledger(as_csv: bool, as_json: bool) -> None:
    """List all launches with what was estimated and what came of it, the newest first."""
    import csv
    import io
    from dataclasses import asdict, fields
    from datetime import UTC, datetime

    from tunedesk.spending import Entry

    entries = workbench().spending.ledger()
    if as_json:
        emit([asdict(entry) for entry in entries])
        return
    if as_csv:
        text = io.StringIO()
        writer = csv.DictWriter(text, [one.name for one in fields(Entry)], lineterminator="\n")
        writer.writeheader()
        for entry in entries:
            writer.writerow({name: _formula_free(value) for name, value in asdict(entry).items()})
        show(text.getvalue().rstrip("\n"))
        return
    lines = [
        (
            datetime.fromtimestamp(one.at, tz=UTC).strftime("%Y-%m-%d"), one.profile, one.model, one.status,
            _number(one.estimated_tokens), _number(one.actual_tokens), dollars(one.estimated_usd),
            dollars(one.actual_usd), one.job or "",
        )
        for one in entries
    ]  # fmt: skip
    heading = ("day", "provider", "model", "status", "tokens est.", "actual", "cost est.", "actual", "job")
    table([heading, *lines], right=(4, 5, 6, 7))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _formula_free(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


COMMANDS = (tokens, trim, prices, budget, ledger)
