"""The command that trains: one job, one by a recipe, or a small grid of them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _finish, _follow, _run, notify, provider_option
from tunedesk.cli.output import Progress, dollars, emit, json_option, say, show, table

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.core.fine_tuning import Hyperparameters
    from tunedesk.core.lineage import Recipe
    from tunedesk.core.pricing import Estimate
    from tunedesk.jobs import LaunchRequest, QueueRow
    from tunedesk.jobs.tailing import Update
    from tunedesk.workbench import Workbench

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--train", "training", type=_FILE, help="Training file; the recipe's unless given.")
@click.option("--validation", type=_FILE)
@click.option(
    "--recipe", type=_FILE, help="Make a model again as this recipe says; other options go over it."
)
@click.option(
    "--model", default="", help="Base model, or a tuned one to continue; the provider's default unless given."
)
@provider_option
@click.option("--epochs", type=click.IntRange(1, 50))
@click.option("--batch-size", type=click.IntRange(1, 256))
@click.option(
    "--learning-rate-multiplier", type=click.FloatRange(0, min_open=True),
    help="At Nebius the learning rate itself, such as 2e-5.",
)  # fmt: skip
@click.option("--method", type=click.Choice(["supervised", "dpo"]), help="supervised unless given.")
@click.option("--suffix", help="Part of the tuned model's name.")
@click.option("--seed", type=click.IntRange(min=0))
@click.option(
    "--sweep", "sweeps", multiple=True, metavar="NAME=V,V",
    help="Train every combination, one after the other: epochs, batch-size, learning-rate-multiplier.",
)  # fmt: skip
@click.option(
    "--stop-after", type=click.IntRange(min=1), help="Start nothing more after so many failed jobs."
)
@click.option(
    "--again", type=click.IntRange(min=0), default=0,
    help="Another number makes the same job or grid anew, though one is under way.",
)  # fmt: skip
@click.option(
    "--resend", is_flag=True, help="Ask anew for a job whose request got no answer and is listed nowhere."
)
@click.option(
    "--budget", type=click.FloatRange(min=0), help="Refuse to launch above this many US dollars in all."
)
@click.option("--yes", is_flag=True, help="Do not ask before the launch.")
@click.option("--follow", is_flag=True, help="Follow the job to its end.")
@json_option
def launch(
    training: Path | None, validation: Path | None, recipe: Path | None, model: str, provider: str | None,
    epochs: int | None, batch_size: int | None, learning_rate_multiplier: float | None, method: str | None,
    suffix: str | None, seed: int | None, sweeps: tuple[str, ...], stop_after: int | None, again: int, resend: bool,
    budget: float | None, yes: bool, follow: bool, as_json: bool,
) -> None:  # fmt: skip
    """Upload, verify and create exactly one fine-tuning job, or one for each place of a --sweep."""
    from tunedesk.errors import UsageError

    bench = workbench()
    asked = Asked(
        training,
        validation,
        model,
        provider,
        epochs,
        batch_size,
        learning_rate_multiplier,
        method,
        suffix,
        seed,
    )
    if recipe is None and training is None:
        raise UsageError("there is nothing to train on", "--train FILE, or --recipe FILE")
    request, profile = by_recipe(bench, asked, recipe) if recipe else by_options(bench, asked)
    if sweeps:
        _sweep(bench, profile, request, sweeps, (budget, stop_after, again), yes, as_json)
        return
    _afford(bench, profile, [request], budget, yes)
    _one(bench, profile, request, (again, resend), follow, as_json)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say; None and empty where they say nothing."""

    training: Path | None = None
    validation: Path | None = None
    model: str = ""
    provider: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    method: str | None = None
    suffix: str | None = None
    seed: int | None = None

    def over(self, base: Hyperparameters) -> Hyperparameters:
        """Return hyperparameters with what was asked over `base`."""
        from dataclasses import replace

        named = {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.rate,
        }
        return replace(base, **{name: value for name, value in named.items() if value is not None})  # type: ignore[arg-type]


def by_options(bench: Workbench, asked: Asked) -> tuple[LaunchRequest, Profile]:
    """Return what the options alone ask for, and of whom."""
    from tunedesk.core.fine_tuning import Hyperparameters
    from tunedesk.jobs import LaunchRequest

    assert asked.training is not None
    request = LaunchRequest(
        model=bench.model_for(asked.model, asked.provider), training=asked.training, validation=asked.validation,
        method=asked.method or "supervised", suffix=asked.suffix, seed=asked.seed,
        hyperparameters=asked.over(Hyperparameters()),
    )  # fmt: skip
    return request, bench.profile(asked.provider)


def by_recipe(bench: Workbench, asked: Asked, path: Path) -> tuple[LaunchRequest, Profile]:
    """Return what a recipe asks for with the options over it; elsewhere it says what cannot go along.

    Raises DataError when the recipe or its training file cannot be found.
    """
    from tunedesk.core.lineage import read_recipe
    from tunedesk.jobs import LaunchRequest, RecipeBook

    recipe = read_recipe(path)
    profile = bench.profile(asked.provider or recipe.provider or None)
    home = bench.profiles().get(recipe.provider)
    same = profile.name == recipe.provider
    book = RecipeBook(bench.paths.data)
    validation = recipe.validation if recipe.validation and not asked.training else None
    request = LaunchRequest(
        model=asked.model or _model_there(recipe, profile, same),
        training=asked.training or book.file(recipe.training, path),
        validation=asked.validation or (book.file(validation, path) if validation else None),
        method=asked.method or recipe.method,
        suffix=asked.suffix or recipe.suffix[: profile.suffix_limit] or None,
        seed=recipe.seed if asked.seed is None else asked.seed,
        hyperparameters=asked.over(
            recipe.hyperparameters_for(
                same_provider=same,
                same_rate=home is not None and home.absolute_learning_rate == profile.absolute_learning_rate,
            )
        ),
        lineage=recipe.lineage,
    )
    if recipe.parent and not same:
        say(f"{recipe.model} continued {recipe.parent}, which is not there: {request.model} begins anew")
    return request, profile


def _model_there(recipe: Recipe, profile: Profile, same: bool) -> str:
    """Return the recipe's own model at its own provider, its base where that can be tuned, else the default."""
    if same:
        return recipe.trained_from
    return recipe.base if recipe.base in profile.tunable else profile.default_model or recipe.base


def _estimate(bench: Workbench, profile: Profile, request: LaunchRequest) -> Estimate:
    workspace = bench.open_source(str(request.training))
    counts = bench.count(workspace, request.model)
    return bench.estimate(counts, workspace, request.model, profile, request.hyperparameters.n_epochs)


def _afford(
    bench: Workbench, profile: Profile, requests: list[LaunchRequest], budget: float | None, yes: bool
) -> list[float | None]:
    """Tell what it will cost and what ends when, refuse it above the budget, and ask once; return the upper ends."""
    from tunedesk.errors import UsageError
    from tunedesk.providers.limits import check_open

    check_open(profile, date.today())
    estimates = [_estimate(bench, profile, request) for request in requests]
    first, model = estimates[0], requests[0].model
    high = [one.high for one in estimates]
    most = None if None in high else sum(one or 0.0 for one in high)
    if budget is not None and most is None:
        raise UsageError(
            f"the price of {model} is unknown, so the budget cannot be held", "add it to prices.toml"
        )
    if budget is not None and len(requests) == 1 and (most or 0.0) > budget:
        raise UsageError(f"the job may cost {dollars(most)}, above the budget of {dollars(budget)}")
    low = None if most is None else sum(one.low or 0.0 for one in estimates)
    usd = None if most is None else sum(one.usd or 0.0 for one in estimates)
    tokens = sum(one.billed_tokens for one in estimates)
    as_of = f", prices of {first.price.as_of}" if first.price else ""
    many = f"{len(requests)} jobs, " if len(requests) > 1 else ""
    say(f"{many}{tokens:,} tokens billed, {dollars(usd)} ({dollars(low)} to {dollars(most)}{as_of})")
    for notice in profile.notices(date.today()):
        say(f"{profile.label} {notice}")
    if first.price and first.price.shutdown:
        say(f"{model} and what is tuned from it stop on {first.price.shutdown}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("the launch was not confirmed", "add --yes to launch without a question")
        click.confirm(f"Launch {many}on {model} at {profile.label or profile.name}?", abort=True, err=True)
    return high


def _one(
    bench: Workbench, profile: Profile, request: LaunchRequest, asked: tuple[int, bool], follow: bool, as_json: bool
) -> None:  # fmt: skip
    """Launch, or go on with the same launch where it stopped, and print its job."""
    again, resend = asked

    async def work() -> None:
        service = await bench.jobs(profile)
        begun = None if again else await service.begun(request)
        if begun is not None:
            under_way = (
                f"job {begun.job} is the same and has not ended" if begun.job else f"going on with {begun.id}"
            )
            say(f"{under_way} (--again 1 makes another)")
        launch = begun or service.prepare(request)
        with Progress("uploading") as progress:
            done = await service.carry_out(
                launch.id, again=resend, on_upload=lambda _, sent, size: progress.update(sent, size, " B")
            )
        known = service.store.job(done.job or "", profile.name)
        status = known.job.status if known else ""
        if as_json:
            emit(
                {
                    "launch": done.id, "job": done.job, "training_file": done.training.file,
                    "validation_file": done.validation.file if done.validation else None, "status": status,
                }
            )  # fmt: skip
        else:
            show(f"{done.job} {status}")
        if follow:
            _finish(bench, await _follow(service, done.job or "", as_json))

    _run(bench, work)


def _sweep(
    bench: Workbench, profile: Profile, request: LaunchRequest, sweeps: tuple[str, ...],
    stops: tuple[float | None, int | None, int], yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train a grid in order; each row is printed when its job has ended, the best one last."""
    from dataclasses import replace

    from tunedesk.errors import JobError
    from tunedesk.jobs import JobChanged, Notice, QueueItem, StopRules, run_queue
    from tunedesk.jobs.queue import best, grid, sweep_launch_id

    budget, failures, turn = stops
    requests = [replace(request, hyperparameters=one) for one in grid(sweeps, request.hyperparameters)]
    costs = _afford(bench, profile, requests, budget, yes)

    def moved(row: QueueRow, update: Update) -> None:
        if isinstance(update, JobChanged):
            say(f"{row.job} {update.job.status}")

    async def work() -> None:
        service = await bench.jobs(profile)
        named = [replace(one, launch=sweep_launch_id(one, service, turn)) for one in requests]
        items = [QueueItem(service, one, usd) for one, usd in zip(named, costs, strict=True)]
        rows: list[QueueRow] = []
        async for row in run_queue(items, StopRules(budget, failures), on_update=moved):
            if row.state != "running":
                rows.append(row)
                if as_json:
                    emit({"type": "row", **asdict(row)})
        winner = best(rows)
        if as_json:
            emit({"type": "best", **(asdict(winner) if winner else {"job": None})})
        else:
            _show(rows, winner)
        good = sum(row.state == "succeeded" for row in rows)
        notify(bench, Notice("Sweep finished", f"{good} of {len(rows)} jobs succeeded"))
        if winner is None:
            raise JobError("no job of the sweep succeeded", "see the reasons above")

    _run(bench, work)


def _show(rows: list[QueueRow], winner: QueueRow | None) -> None:
    heading = ("", "epochs", "batch", "rate", "state", "train loss", "validation", "cost", "job")
    lines = [
        (
            "*" if row is winner else "", row.hyperparameters.n_epochs, row.hyperparameters.batch_size,
            row.hyperparameters.learning_rate_multiplier, row.state, _loss(row.train_loss), _loss(row.valid_loss),
            dollars(row.usd), row.job or row.reason,
        )
        for row in rows
    ]  # fmt: skip
    table([heading, *lines], right=(1, 2, 3, 5, 6, 7))
    if winner is not None and winner.fine_tuned_model:
        show(f"best: {winner.fine_tuned_model}")
        show(f"tunedesk chat {winner.model} {winner.fine_tuned_model} --provider {winner.provider}")


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


COMMANDS = (launch,)
