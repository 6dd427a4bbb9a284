"""Making a model again by its recipe, here or elsewhere: what goes along to another provider, and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    book: RecipeBook,
    recipe: Recipe,
    path: Path,
    profile: Profile,
    profiles: Mapping[str, Profile],
    training: Path | None = None,
) -> Remake:
    """Return the launch that makes a model again at `profile`, on `training` instead of the recipe's files if given.

    Raises DataError when the recipe's files are not here.
    """
    model, settings = model_there(recipe, profile), settings_there(recipe, profile, profiles)
    validation = None if training else recipe.validation
    request = LaunchRequest(
        model=model,
        training=training or book.file(recipe.training, path),
        validation=book.file(validation, path) if validation else None,
        method=recipe.method,
        suffix=recipe.suffix[: profile.suffix_limit] or None,
        seed=recipe.seed,
        hyperparameters=settings,
        lineage=recipe.lineage,
    )
    return Remake(request, () if profile.name == recipe.provider else tuple(_notes(recipe, request)))


def _notes(recipe: Recipe, request: LaunchRequest) -> Iterator[str]:
    """Yield what does not go along to another provider."""
    model, rate = request.model, recipe.asked.learning_rate_multiplier
    if recipe.parent:
        yield f"{recipe.model} continued {recipe.parent}, which is not there: {model} begins anew"
    if base_model(model) != base_model(recipe.base):
        yield f"{recipe.base} cannot be tuned there: {model} stands in for it"
    if rate not in ("auto", request.hyperparameters.learning_rate_multiplier):
        yield f"the learning rate {rate:g} means something else there: it is left to the provider"
    if recipe.suffix and request.suffix != recipe.suffix:
        yield f"the suffix is cut to {request.suffix}, which is as long as it may be there"
