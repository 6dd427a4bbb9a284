"""The command that trains: one job, one by a recipe, or a small grid of them."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunedesk.cli.data import workbench
from tunedesk.cli.jobs import _finish, _follow, _run, provider_option
from tunedesk.cli.output import Progress, duration, emit, json_option, say, show
from tunedesk.cli.summary import tell
from tunedesk.cli.sweeps import run_places, spread

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.core.fine_tuning import Hyperparameters
    from tunedesk.jobs import JobService, LaunchRequest
    from tunedesk.store import Launch
    from tunedesk.workbench import Workbench

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--train", "training", type=_FILE, help="Training file; the recipe's unless given.")
@click.option("--validation", type=_FILE)
@click.option(
    "--recipe", "recipes", type=_FILE, multiple=True,
    help="Make a model again as this recipe says; other options go over it. Several are a queue.",
)  # fmt: skip
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
    training: Path | None, validation: Path | None, recipes: tuple[Path, ...], model: str, provider: str | None,
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
    if not recipes and training is None:
        raise UsageError("there is nothing to train on", "--train FILE, or --recipe FILE")
    asks = [by_recipe(bench, asked, path) for path in recipes] or [by_options(bench, asked)]
    if sweeps or len(asks) > 1:
        places = [(place, profile) for one, profile in asks for place in spread(one, sweeps)]
        costs = afford(bench, places, None, yes)
        run_places(bench, places, costs, (budget, stop_after, again), as_json)
        return
    afford(bench, asks, budget, yes)
    _one(bench, *asks[0], (again, resend), follow, as_json)


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
    from dataclasses import replace

    from tunedesk.core.lineage import read_recipe
    from tunedesk.jobs import RecipeBook
    from tunedesk.jobs.remaking import remake

    recipe = read_recipe(path)
    profile = bench.profile(asked.provider or recipe.provider or None)
    made = remake(RecipeBook(bench.paths.data), recipe, path, profile, bench.profiles(), asked.training)
    for note in () if asked.model else made.notes:
        say(note)
    request = made.request
    changed = replace(
        request,
        model=asked.model or request.model,
        validation=asked.validation or request.validation,
        method=asked.method or request.method,
        suffix=asked.suffix or request.suffix,
        seed=request.seed if asked.seed is None else asked.seed,
        hyperparameters=asked.over(request.hyperparameters),
    )
    return changed, profile


def afford(
    bench: Workbench, places: list[tuple[LaunchRequest, Profile]], budget: float | None, yes: bool
) -> list[float | None]:
    """Tell what will be sent, what it costs and what ends when, refuse one job above the budget, and ask once.

    Returns the most that each may cost. Raises UsageError.
    """
    from tunedesk.errors import UsageError
    from tunedesk.providers.limits import check_open, today

    if len(places) == 1:
        check_open(places[0][1], today())
    quotes = [
        bench.spending.quote(request.training, request.model, profile, request.hyperparameters.n_epochs)
        for request, profile in places
    ]
    for (request, _), quote in zip(places, quotes, strict=True):
        bench.spending.afford(quote, request.model, budget)
    tell(bench, places, quotes)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("the launch was not confirmed", "add --yes to launch without a question")
        many = f"{len(places)} jobs, " if len(places) > 1 else ""
        names = ", ".join(dict.fromkeys(f"{one.model} at {p.label or p.name}" for one, p in places))
        click.confirm(f"Launch {many}{names}?", abort=True, err=True)
    return [one.high for one in quotes]


async def _carried_out(service: JobService, launch: Launch, resend: bool) -> Launch:
    """Upload with progress and create the job; a Ctrl-C in between says how to go on."""
    from tunedesk.jobs import unsettled

    wait = unsettled(launch)
    if wait is not None:
        say(f"its request for a job got no answer: looking for the job, for up to {duration(wait)}")
    try:
        with Progress("uploading") as progress:

            def moved(_name: str, sent: int, size: int) -> None:
                progress.update(sent, size, " B")

            if resend:
                return await service.carry_out(launch.id, again=True, on_upload=moved)
            return await service.go_on(launch, on_upload=moved)
    except asyncio.CancelledError:
        say(
            f"the same command goes on with {launch.id} where it stopped; tunedesk cancel {launch.id} ends it"
        )
        raise


def _one(
    bench: Workbench, request: LaunchRequest, profile: Profile, asked: tuple[int, bool], follow: bool, as_json: bool
) -> None:  # fmt: skip
    """Launch, or go on with the same launch where it stopped, and print its job."""
    again, resend = asked

    async def work() -> None:
        service = await bench.jobs(profile)
        launch, there = await service.begin(request, again=bool(again))
        if there:
            under_way = (
                f"this was launched already, as {launch.job}" if launch.job else f"going on with {launch.id}"
            )
            say(f"{under_way} (--again 1 launches another)")
        done = await _carried_out(service, launch, resend)
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


COMMANDS = (launch,)
