"""`tunedesk run`: the whole journey, headless and resumable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import notify
from tunedesk.cli.output import Progress, dollars, emit, json_option, say, show

if TYPE_CHECKING:
    from tunedesk.journey import Journey, StepDone, Update


@click.command()
@click.argument("file")
@click.option("--model", default="", help="Base model; the provider's default one unless given.")
@click.option("--provider", help="Who trains: a profile's name or a base URL; this machine by default.")
@click.option("--epochs", type=click.IntRange(1, 50), help="Epochs; the provider chooses unless given.")
@click.option("--batch-size", type=click.IntRange(1, 256))
@click.option("--learning-rate-multiplier", type=click.FloatRange(0, min_open=True))
@click.option(
    "--validation", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--questions",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Held-out questions to compare on.",
)
@click.option("--again", is_flag=True, help="Begin afresh even if this journey was made before.")
@click.option("--yes", is_flag=True, help="Do not ask before the launch.")
@json_option
@click.pass_context
def run(
    context: click.Context, file: str, model: str, provider: str | None, epochs: int | None, batch_size: int | None,
    learning_rate_multiplier: float | None, validation: float, seed: int, questions: int, again: bool, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Take FILE all the way: import, check, fix, split, upload, train, compare. Killed, it goes on when run again."""
    import asyncio

    from tunedesk.core.fine_tuning import Hyperparameters
    from tunedesk.errors import UsageError
    from tunedesk.journey import Journey, Plan

    bench = workbench()
    if file == "-":
        raise UsageError(
            "run needs a file that can be read again after a stop", "save standard input to a file first"
        )
    bench.require_source(file)
    profile = bench.profile(provider)
    chosen = model or profile.default_model
    if not chosen:
        raise UsageError(f"no model was named for {profile.name}", "add --model")
    plan = Plan(
        source=file, model=chosen, profile=profile, validation=validation, seed=seed, questions=questions,
        hyperparameters=Hyperparameters(epochs or "auto", batch_size or "auto", learning_rate_multiplier or "auto"),
    )  # fmt: skip
    with Progress("importing") as progress:
        journey = Journey(bench, plan, on_progress=progress.update)
        if again:
            journey.forget()
        asyncio.run(_travel(journey, Printer(progress, as_json), yes))


async def _travel(journey: Journey, printer: Printer, yes: bool) -> None:
    from tunedesk.errors import JobError
    from tunedesk.jobs import Notice
    from tunedesk.journey import StepDone
    from tunedesk.providers.limits import check_open, today

    try:
        if journey.done("intent") is None:
            check_open(journey.plan.profile, today())
        async for update in journey.prepare():
            printer.tell(update)
        split = journey.done("split") or {}
        if not yes and journey.done("launch") is None:
            printer.close()
            _ask(journey, split)
        async for update in journey.finish():
            printer.tell(update)
            if isinstance(update, StepDone) and update.step == "compare" and not update.resumed:
                notify(journey.bench, Notice("Fine-tuning succeeded", update.data["model"]))
    except JobError as error:
        notify(journey.bench, Notice("Fine-tuning stopped", error.message))
        raise
    finally:
        printer.close()
        await journey.bench.close()


def _ask(journey: Journey, split: dict[str, Any]) -> None:
    from tunedesk.errors import UsageError

    plan = journey.plan
    question = (
        f"Train {plan.model} on {split['train']:,} conversations at {plan.profile.label or plan.profile.name}"
        f" (about {split['billed_tokens']:,} tokens, {dollars(split['estimated_usd'])})?"
    )
    if not sys.stdin.isatty():
        raise UsageError("the launch was not confirmed", "add --yes to launch without a question")
    click.confirm(question, abort=True, err=True)


class Printer:
    """Prints a journey: steps on standard output, the rest on standard error."""

    def __init__(self, progress: Progress, as_json: bool) -> None:
        """Keep the line that is written over, and how steps are printed."""
        self._progress = progress
        self._as_json = as_json
        self._quiet = 0
        self._moved = 0.0

    def tell(self, update: Update) -> None:
        """Print one update."""
        from tunedesk.journey import Moved, StepDone

        if isinstance(update, Moved):
            self._moving(update.text)
            return
        self.close()
        if isinstance(update, StepDone):
            emit(
                {"step": update.step, "resumed": update.resumed, **update.data}
            ) if self._as_json else self._step(update)
        else:
            say(f"  {update.text}")

    def close(self) -> None:
        """Take the moving line away."""
        self._progress.close()

    def _moving(self, text: str) -> None:
        """Write over the line on a terminal; elsewhere print one line in ten seconds."""
        import time

        if sys.stderr.isatty():
            self._progress.line(text)
        elif time.monotonic() - self._moved >= 10:
            self._moved = time.monotonic()
            say(f"  {text}")

    def _step(self, done: StepDone) -> None:
        show(f"{done.step:8} {_DESCRIBED[done.step](done.data)}{' (done before)' if done.resumed else ''}")


def _import(data: dict[str, Any]) -> str:
    return f"{data['conversations']:,} conversations" + (
        f", {len(data['skipped'])} skipped" if data["skipped"] else ""
    )


def _check(data: dict[str, Any]) -> str:
    counted = ", ".join(f"{code} {count:,}" for code, count in data["codes"].items())
    return f"{data['errors']:,} errors, {data['warnings']:,} warnings" + (f" ({counted})" if counted else "")


def _fix(data: dict[str, Any]) -> str:
    left = f", {len(data['left_out'])} left out: see tunedesk check" if data["left_out"] else ""
    return f"{data['fixed']:,} fixed{left}"


def _split(data: dict[str, Any]) -> str:
    kept = f"{data['leaks']} leaks, {data['groups']:,} groups of twins kept together"
    return f"{data['train']:,} train, {data['validation']:,} validation, {kept}"


def _launch(data: dict[str, Any]) -> str:
    return f"job {data['job']}"


def _train(data: dict[str, Any]) -> str:
    losses = [
        f"{name} {data[key][0]:.3f} → {data[key][1]:.3f}"
        for name, key in (("loss", "train_loss"), ("validation", "valid_loss"))
        if data.get(key)
    ]
    return f"{data['model']}  {', '.join(losses)}"


def _compare(data: dict[str, Any]) -> str:
    lines = [data["report"]]
    for answer in data["answers"]:
        lines += [
            "",
            f"Q: {answer['question']}",
            f"base:  {answer[data['base']]}",
            f"tuned: {answer[data['model']]}",
        ]
    return "\n".join(lines)


_DESCRIBED = {
    "import": _import, "check": _check, "fix": _fix, "split": _split, "launch": _launch, "train": _train,
    "compare": _compare,
}  # fmt: skip

COMMANDS = (run,)
