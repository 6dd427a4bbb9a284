"""Making a model again by its recipe, here or elsewhere: what goes along to another provider, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunedesk.config import Profile
from tunedesk.core.fine_tuning import Hyperparameters, base_model
from tunedesk.core.lineage import Recipe
from tunedesk.jobs.asking import LaunchRequest
from tunedesk.jobs.recipes import RecipeBook


@dataclass(frozen=True, slots=True)
class Remake:
    """What a recipe asks for at a provider."""

    request: LaunchRequest
    notes: tuple[str, ...] = ()
    """What could not go along, in words."""


def model_there(recipe: Recipe, profile: Profile) -> str:
    """Return the recipe's own model at its own provider, its base where that can be tuned, else the default."""
    if profile.name == recipe.provider:
        return recipe.trained_from
    return recipe.base if recipe.base in profile.tunable else profile.default_model or recipe.base


def settings_there(recipe: Recipe, profile: Profile, profiles: Mapping[str, Profile]) -> Hyperparameters:
    """Return the hyperparameters that mean the same at `profile`; the rest is left to the provider."""
    home = profiles.get(recipe.provider)
    return recipe.hyperparameters_for(
        same_provider=profile.name == recipe.provider,
        same_rate=home is not None and home.absolute_learning_rate == profile.absolute_learning_rate,
    )


def remake(
    book: RecipeBook, recipe: Recipe, path: Path, profile: Profile, profiles: Mapping[str, Profile]
) -> Remake:
    """Return the launch that makes a model again at `profile`; raises DataError when its files are not here."""
    model = model_there(recipe, profile)
    notes = []
    if profile.name != recipe.provider:
        if recipe.parent:
            notes.append(f"{recipe.model} continued {recipe.parent}, which is not there: {model} begins anew")
        if base_model(model) != base_model(recipe.base):
            notes.append(f"{recipe.base} cannot be tuned there: {model} stands in for it")
    request = LaunchRequest(
        model=model,
        training=book.file(recipe.training, path),
        validation=book.file(recipe.validation, path) if recipe.validation else None,
        method=recipe.method,
        suffix=recipe.suffix[: profile.suffix_limit] or None,
        seed=recipe.seed,
        hyperparameters=settings_there(recipe, profile, profiles),
        lineage=recipe.lineage,
    )
    return Remake(request, tuple(notes))
