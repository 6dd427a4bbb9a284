"""The command that asks whether it got better: compare, with a model as judge where one is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _run, provider_option
from tunedesk.cli.output import Progress, dollars, emit, json_option, show

if TYPE_CHECKING:
    from tunedesk.evaluate import CompareResult, Judgement
    from tunedesk.workbench import Workbench


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--on", "source", required=True, help="Held-out conversations: a file or a dataset.")
@click.option("--limit", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--judge", help="Let this model judge each pair of answers: blind, and in both orders.")
@click.option("--judge-provider", help="Where the judge is asked; --provider unless given.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True
)
@provider_option
@json_option
def compare(
    models: tuple[str, ...], source: str, limit: int, judge: str | None, judge_provider: str | None, output: Path,
    provider: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Put the same held-out questions to MODELS, score the answers, and write a report."""
    from itertools import islice

    from tunedesk import evaluate
    from tunedesk.core.conversations import from_row
    from tunedesk.errors import UsageError

    if judge_provider and not judge:
        raise UsageError("--judge-provider says where the judge is asked", "name one with --judge MODEL")
    if judge and len(models) < 2:
        raise UsageError(
            "a judge compares two models or more", "name them all: compare BASE TUNED --judge MODEL"
        )
    bench = workbench()
    rows = [row for _, row in islice(bench.open_source(source).included(), limit)]

    async def work() -> None:
        client = await bench.connect(bench.profile(provider))
        with Progress("asking") as progress:
            counted = _counter(progress, len(rows) * len(models))
            named = [(client, model) for model in models]
            result = await evaluate.compare(named, [from_row(row) for row in rows], on_answer=counted)
        judgement = await _judged(bench, result, judge, judge_provider or provider) if judge else None
        evaluate.write_report(result, output, judgement=judgement[0] if judgement else None)
        if as_json:
            emit({**_compared(result, judgement), "report": str(output)})
            return
        for line in evaluate.summary(result):
            show(line)
        if judgement:
            for line in evaluate.judged(result, judgement[0]):
                show(line)
            show(f"judging cost {dollars(judgement[1])}")
        show(f"report: {output}")

    _run(bench, work)


async def _judged(
    bench: Workbench, result: CompareResult, judge: str, provider: str | None
) -> tuple[Judgement, float | None]:
    """Return what the judge found and what that cost, which is in the ledger then."""
    from tunedesk import evaluate

    profile = bench.profile(provider)
    client = await bench.connect(profile)
    with Progress("judging") as progress:
        counted = _counter(progress, len(evaluate.questions(result)))
        judgement = await evaluate.judge(client, judge, result, on_verdict=counted)
    return judgement, bench.spending.note_asking("judging", profile, judge, judgement.usage)


def _counter(progress: Progress, total: int) -> Any:
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        progress.update(done, total)

    return count


def _compared(result: CompareResult, judgement: tuple[Judgement, float | None] | None) -> dict[str, Any]:
    """Return a comparison as the command contract names its parts; rates are against the first model.

    The win rate is the judge's where there is one, else by nearness to the people's answer.
    """
    import msgspec

    from tunedesk.evaluate import win_rate

    rates = []
    for model in result.models[1:]:
        rate = judgement[0].win_rate(model) if judgement else win_rate(result, model)
        if rate is not None:
            rates.append({"model": model, "rate": rate.mean, "low": rate.low, "high": rate.high})
    told: dict[str, Any] = {
        "models": list(result.models),
        "metrics": [msgspec.to_builtins(score) for score in result.scores],
        "win_rate": rates[0] if len(rates) == 1 else rates,
        "differences": {one.model: msgspec.to_builtins(one) for one in result.differences},
    }
    if judgement is not None:
        found, usd = judgement
        told["judging"] = {
            "judge": found.judge, "verdicts": len(found.verdicts), "ties": found.ties, "invalid": found.invalid,
            "agreement": {model: found.agreement(model) for model in result.models[1:]},
            "usage": {"prompt_tokens": found.usage.prompt_tokens, "completion_tokens": found.usage.completion_tokens},
            "usd": usd,
        }  # fmt: skip
    return told


COMMANDS = (compare,)
