"""A model made again by its recipe: where is asked, then what it asks for and costs is shown, then it is launched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunedesk.core.lineage import Recipe
from tunedesk.jobs import RecipeBook
from tunedesk.jobs.remaking import Remake, remake
from tunedesk.providers.limits import today
from tunedesk.tui.panes.job_lineage import settings_line
from tunedesk.tui.screens.dialogs import ChooseDialog, ConfirmDialog
from tunedesk.tui.screens.launch import dollar_text
from tunedesk.tui.screens.launching import launch

if TYPE_CHECKING:
    from tunedesk.config import Profile
    from tunedesk.store import Quote
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Workbench


async def ask_and_remake(desk: Desk, workbench: Workbench, recipe: Recipe, path: Path) -> None:
    """Ask where to make a model again and whether to; launch it there. Raises TunedeskError."""
    profile = await ask_profile(desk, workbench, f"Make {recipe.model} again at", recipe.provider)
    if profile is None:
        return
    made = remake(RecipeBook(workbench.paths.data), recipe, path, profile, workbench.profiles())
    quote = await desk.in_thread(lambda _: quoted(workbench, made, profile), name="reckoning the cost")
    text = "\n".join([*launch_lines(made, profile, quote), "", "Launch it?"])
    if await desk.push_screen_wait(ConfirmDialog("Make it again", text)):
        await launch(desk, workbench, profile, made.request, again=True)
    else:
        desk.say("nothing was sent")


async def ask_profile(desk: Desk, workbench: Workbench, title: str, current: str) -> Profile | None:
    """Ask for one of the profiles; None when nothing was chosen."""
    profiles = workbench.profiles()
    choices = [(name, profile_line(one)) for name, one in profiles.items() if one.base_url or one.is_local]
    name = await desk.push_screen_wait(ChooseDialog(title, choices, current))
    return profiles[name] if name is not None else None


def profile_line(profile: Profile) -> str:
    """Return a profile's label, with since when it takes no jobs."""
    closed = f"  ! takes no new job since {profile.closes}" if profile.is_closed(today()) else ""
    return (profile.label or profile.name) + closed


def quoted(workbench: Workbench, made: Remake, profile: Profile) -> Quote:
    """Return what a launch may cost; raises DataError when its file cannot be read."""
    request = made.request
    return workbench.spending.quote(
        request.training, request.model, profile, request.hyperparameters.n_epochs
    )


def launch_lines(made: Remake, profile: Profile, quote: Quote) -> Sequence[str]:
    """Return what will be sent, what it may cost, and what matters about the provider."""
    request = made.request
    seed = f" · seed {request.seed}" if request.seed is not None else ""
    return [
        f"{request.model} at {profile.label or profile.name}",
        f"{quote.conversations:,} conversations of {request.training.name}",
        f"{request.method} · {settings_line(request.hyperparameters)}{seed}",
        cost_of(quote),
        *(f"! {note}" for note in made.notes),
        *(f"! {notice}" for notice in profile.notices(today())),
        *([f"! {profile.deployment}"] if profile.deployment else []),
    ]


def cost_of(quote: Quote) -> str:
    """Return a quote in words, with its range."""
    tokens = f"{quote.billed_tokens:,} tokens {'to train on' if quote.usd == 0 else 'billed'}"
    if quote.usd is None:
        return f"cost unknown: no price is known for this model · {tokens}"
    if quote.usd == 0:
        return f"free: it trains on this machine · {tokens}"
    told = [dollar_text(usd) for usd in (quote.low, quote.high) if usd is not None]
    spread = f" ({' to '.join(told)})" if quote.low != quote.high else ""
    return f"about {dollar_text(quote.usd)}{spread} at prices of {quote.price_as_of or 'unknown date'} · {tokens}"
