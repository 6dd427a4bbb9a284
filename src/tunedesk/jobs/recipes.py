"""Recipes of tuned models, written beside the store with the files that trained them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from tunedesk.config import LOCAL
from tunedesk.core.counting.pricing import load_prices, price_for
from tunedesk.core.fine_tuning import FineTuningJob
from tunedesk.core.lineage import Recipe, RecipeFile, read_recipe, recipe_from, recipe_of, to_toml
from tunedesk.errors import DataError, StoreError
from tunedesk.paths import private_folder, replacing, write_whole
from tunedesk.store import KnownJob, Launch, LaunchedFile

_BLOCK = 1 << 20


class RecipeBook:
    """The recipes and kept training files of one store."""

    def __init__(self, data: Path) -> None:
        """Keep them in two folders of the data folder."""
        self._recipes = data / "recipes"
        self.folder = data / "training_files"

    def keep(self, path: Path, sha256: str) -> Path:
        """Copy a training file to where it stays, under its hash; raises DataError, StoreError."""
        kept = self.kept(sha256)
        if not kept.exists():
            private_folder(self.folder)
            try:
                with path.open("rb") as source, replacing(kept) as copy:
                    while block := source.read(_BLOCK):
                        copy.write(block)
            except FileNotFoundError as error:
                raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error
        return kept

    def kept(self, sha256: str) -> Path:
        """Return where a training file of this hash is kept, if it is."""
        return self.folder / f"{sha256}.jsonl"

    def path(self, provider: str, model: str) -> Path:
        """Return where the recipe of a model lies, or would."""
        return self._recipes / _plain(provider) / f"{_plain(model)}.toml"

    def write(self, recipe: Recipe) -> Path:
        """Write a recipe, durably; raises StoreError."""
        path = self.path(recipe.provider, recipe.model)
        private_folder(path.parent)
        write_whole(path, to_toml(recipe))
        return path

    def note(self, profile: str, job: FineTuningJob, launch: Launch | None) -> Path | None:
        """Write the recipe of a job that has succeeded, once; None for any other job."""
        if job.status != "succeeded":
            return None
        path = self.path(profile, job.fine_tuned_model or job.id)
        return path if path.exists() else self.write(self.priced(_of_launch(recipe_of(job, profile), launch)))

    def rewrite(self, path: Path, text: str) -> Recipe:
        """Keep a recipe as the user changed it; raises DataError, and keeps the old one, when it is none any more."""
        try:
            recipe = recipe_from(text)
        except DataError as error:
            raise DataError(
                f"what was written is no recipe: {error.message}", "the one before is kept"
            ) from error
        write_whole(path, text)
        return recipe

    def priced(self, recipe: Recipe) -> Recipe:
        """Put the cost in, unless it is: none on this machine, unknown without a price or a count of tokens."""
        if recipe.cost_usd is not None:
            return recipe
        if recipe.provider == LOCAL:
            return replace(recipe, cost_usd=0.0)
        price = price_for(recipe.base, load_prices())
        if price is None or recipe.trained_tokens is None:
            return recipe
        cost = round(price.training * recipe.trained_tokens / 1e6, 6)
        return replace(recipe, cost_usd=cost, price_as_of=price.as_of)

    def all(self) -> list[tuple[Path, Recipe]]:
        """Return every recipe that can be read, the newest first."""
        found = []
        for path in self._recipes.glob("*/*.toml"):
            try:
                found.append((path, read_recipe(path)))
            except DataError:
                continue  # a file the user changed: launching by it says what is wrong
        return sorted(found, key=lambda one: -one[1].finished_at)

    def file(self, wanted: RecipeFile, beside: Path) -> Path:
        """Return where a recipe's file lies now: as named, beside the recipe, or kept; raises DataError."""
        named = Path(wanted.path)
        for path in (named, beside.parent / named.name, self.kept(wanted.sha256)):
            if path.is_file() and _sha256(path) == wanted.sha256:
                return path
        raise DataError(
            f"the training file of {beside.name} is neither at {wanted.path or 'a known place'} nor kept here",
            "put it beside the recipe, name one with --train, or fetch what its provider still has: "
            "tunedesk jobs --import --provider NAME",
        )


def recipe_for(book: RecipeBook, known: KnownJob, launch: Launch | None) -> tuple[Recipe, Path | None]:
    """Return the recipe of a job as it is written, with its path; else what is known so far, without one."""
    job = known.job
    path = book.path(known.profile, job.fine_tuned_model or job.id)
    if path.exists():
        try:
            return read_recipe(path), path
        except DataError:
            pass  # a file the user changed: what the store knows stands in for it
    return book.priced(_of_launch(recipe_of(job, known.profile), launch)), None


def _of_launch(recipe: Recipe, launch: Launch | None) -> Recipe:
    if launch is None:
        return recipe
    quote, tokens = launch.quote, recipe.trained_tokens
    if quote is not None and quote.usd_per_million is not None and tokens is not None:
        cost = round(quote.usd_per_million * tokens / 1e6, 6)
        recipe = replace(recipe, cost_usd=cost, price_as_of=quote.price_as_of)
    return replace(
        recipe, launch=launch.id, method=launch.method, suffix=launch.suffix or "", seed=launch.seed,
        asked=launch.hyperparameters, training=_file(launch.training),
        validation=_file(launch.validation) if launch.validation else None, lineage=launch.lineage,
    )  # fmt: skip


def _file(local: LaunchedFile) -> RecipeFile:
    return RecipeFile(local.path, local.content_sha256 or local.sha256)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", "check the disk") from error


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:150] or "model"
