"""Putting a job, or a grid of jobs, into the queue: what to train on, where, which settings, and what it may cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunedesk.config import Profile
from tunedesk.core.lineage import Recipe
from tunedesk.errors import UsageError
from tunedesk.jobs import LaunchRequest, Lineup, RecipeBook, new_launch_id
from tunedesk.jobs.queue import KNOBS, grid
from tunedesk.jobs.remaking import remake
from tunedesk.providers.limits import check_open
from tunedesk.tui.panes.job_view import clock
from tunedesk.tui.screens.dialogs import ChooseDialog, ConfirmDialog, TextDialog
from tunedesk.tui.screens.remaking import ask_profile
from tunedesk.tui.transfer import size_text

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Workbench


async def add_to_queue(desk: Desk, workbench: Workbench, lineup: Lineup) -> str:
    """Ask for all of it and put it at the end; return what happened. Raises TunedeskError."""
    sources = await desk.in_thread(lambda _: sources_of(workbench), name="looking for training files")
    if not sources:
        return "! nothing to train on yet: split a dataset on 1 Data (S), or launch a job first"
    choices = [(str(number), text) for number, (text, _) in enumerate(sources)]
    chosen = await desk.push_screen_wait(ChooseDialog("What to train on", choices))
    if chosen is None:
        return "nothing was added"
    source = sources[int(chosen)][1]
    profile = await ask_profile(desk, workbench, "Where", desk.profile)
    if profile is None:
        return "nothing was added"
    note = f"a grid of {', '.join(KNOBS)}; empty trains once\nepochs=1,2,3 learning-rate-multiplier=0.5,1"
    sweeps = await desk.push_screen_wait(TextDialog("Settings", value="epochs=1,2,3", note=note))
    if sweeps is None:
        return "nothing was added"
    requests = await desk.in_thread(
        lambda _: requests_of(workbench, source, profile, sweeps), name="reading files"
    )
    costs = await desk.in_thread(lambda _: costs_of(workbench, requests, profile), name="reckoning the cost")
    many = f"{len(requests)} job{'' if len(requests) == 1 else 's'}"
    them = "it" if len(requests) == 1 else "them"
    where = profile.label or profile.name
    text = f"{many} of {requests[0].model} at {where}\n{cost_text(costs)}\n\nPut {them} in?"
    if not await desk.push_screen_wait(ConfirmDialog("Add to the queue", text)):
        return "nothing was added"
    lineup.add(profile.name, requests, costs)
    return f"{many} added" + ("" if lineup.rules().running else ": space lets the queue run")


def sources_of(workbench: Workbench) -> list[tuple[str, Path | tuple[Path, Recipe]]]:
    """Return what can be trained on with its name: training files that splits wrote, then recipes of models."""
    splits = sorted(
        (workbench.paths.data / "splits").glob("*/train.jsonl"), key=lambda path: -path.stat().st_mtime
    )
    found: list[tuple[str, Path | tuple[Path, Recipe]]] = []
    for path in splits:
        entry = workbench.store.dataset(path.parent.name.rpartition("-")[0])
        name, written = entry.name if entry else path.parent.name, path.stat()
        about = f"{size_text(written.st_size)} to train on, made {clock(written.st_mtime)}"
        found.append((f"split of {name}: {about}", path))
    for path, recipe in RecipeBook(workbench.paths.data).all():
        found.append((f"as {recipe.model} was made", (path, recipe)))
    return found


def requests_of(
    workbench: Workbench, source: Path | tuple[Path, Recipe], profile: Profile, sweeps: str
) -> list[LaunchRequest]:
    """Return the request for each place of the grid, each with a launch id of its own; raises UsageError, DataError."""
    check_open(profile, workbench.spending.today())
    if isinstance(source, Path):
        validation = source.with_name("validation.jsonl")
        model = workbench.model_for("", profile.name)
        if not model:
            raise UsageError(
                f"{profile.name} has no default model", "train once from 1 Data, then add its recipe"
            )
        base = LaunchRequest(model, source, validation if validation.exists() else None)
    else:
        path, recipe = source
        base = remake(RecipeBook(workbench.paths.data), recipe, path, profile, workbench.profiles()).request
    return [
        replace(base, hyperparameters=one, launch=new_launch_id())
        for one in grid(sweeps.split(), base.hyperparameters)
    ]


def costs_of(workbench: Workbench, requests: list[LaunchRequest], profile: Profile) -> list[float | None]:
    """Return the most that each may cost, US dollars; None where no price is known."""
    spending = workbench.spending
    return [
        spending.quote(one.training, one.model, profile, one.hyperparameters.n_epochs).high
        for one in requests
    ]


def cost_text(costs: list[float | None]) -> str:
    """Return what all may cost together."""
    if any(one is None for one in costs):
        return "cost unknown: no price is known for this model, so a budget holds it back"
    total = sum(one or 0.0 for one in costs)
    together = " together" if len(costs) > 1 else ""
    return "free: it trains on this machine" if total == 0 else f"at most ${total:,.2f}{together}"
