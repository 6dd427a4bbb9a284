"""What the model of the followed job came from: base, data, prompt, split, settings, job, price, and its recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from textual.reactive import reactive

from tunedesk.config import LOCAL
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.core.lineage import Recipe
from tunedesk.tui.widgets.stream_pane import StreamPane

_PROMPT = 300
"""Characters of a system prompt that are shown; the recipe has all of it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A job's recipe, and where it lies once it is written."""

    recipe: Recipe | None = None
    path: str = ""
    """Empty while there is none: it is written when the job has succeeded."""


class JobLineage(StreamPane):
    """Label and value, one below the other."""

    BORDER_TITLE = "Lineage"

    origin: reactive[Origin] = reactive(Origin, init=False)

    def __init__(self) -> None:
        """Show a text from its beginning."""
        super().__init__(tails=False)

    def watch_origin(self, old: Origin, new: Origin) -> None:
        """Show another origin."""
        if old == new:
            return
        self.clear()
        if new.recipe is None:
            self.add("no job is chosen", "quiet")
            return
        for label, value in lineage_lines(new.recipe):
            self.add(f"{label:<11} {value}")
        if new.path:
            self.add(f"{'recipe':<11} {new.path}")
            self.add("R makes it again here or elsewhere · T opens the recipe", "quiet")
        else:
            self.add(f"{'recipe':<11} is written when the job has succeeded", "quiet")


def lineage_lines(recipe: Recipe) -> Iterable[tuple[str, str]]:
    """Yield label and value of all that is known."""
    known = recipe.lineage
    yield "model", recipe.model
    yield "base", recipe.base
    if recipe.parent:
        yield "parent", f"{recipe.parent} (it continues this model)"
    if known.dataset_name or known.dataset:
        yield (
            "dataset",
            f"{known.dataset_name or known.dataset} · version {known.dataset_version or 'unknown'}",
        )
    files = [("training", recipe.training)] + (
        [("validation", recipe.validation)] if recipe.validation else []
    )
    counts = {"training": known.conversations, "validation": known.validation}
    for name, file in files:
        count = f"{counts[name]:,} conversations · " if counts[name] else ""
        yield name, f"{count}sha256 {file.sha256[:16]}… {file.path}" if file.sha256 else "not known here"
    if known.system_prompt:
        more = (
            f" ({known.system_prompts} different ones; this is the commonest)"
            if known.system_prompts > 1
            else ""
        )
        cut = "…" if len(known.system_prompt) > _PROMPT else ""
        yield (
            "prompt",
            f"{known.system_prompt[:_PROMPT]}{cut}{more} · sha256 {known.system_prompt_sha256[:12]}…",
        )
    else:
        yield "prompt", "none"
    if known.split_seed is not None:
        yield "split", f"seed {known.split_seed}" + (f" · {known.split_rule}" if known.split_rule else "")
    yield "asked", settings_line(recipe.asked)
    if recipe.chosen != recipe.asked:
        yield "trained with", settings_line(recipe.chosen)
    yield "method", recipe.method + (f" · seed {recipe.seed}" if recipe.seed is not None else "")
    yield "job", f"{recipe.job} at {recipe.provider}" + (f" · {recipe.launch}" if recipe.launch else "")
    yield "cost", _cost(recipe)


def given_line(asked: Hyperparameters) -> str:
    """Return the hyperparameters that are given, in words; the rest is the provider's choice."""
    given = {name: value for name, value in asdict(asked).items() if value not in ("auto", None)}
    return " · ".join(f"{name} {value}" for name, value in given.items()) or "all settings auto"


def settings_line(asked: Hyperparameters) -> str:
    """Return hyperparameters in words, `auto` where the provider chooses."""
    given = {name: value for name, value in asdict(asked).items() if value is not None}
    return " · ".join(f"{name} {value}" for name, value in given.items())


def _cost(recipe: Recipe) -> str:
    tokens = f"{recipe.trained_tokens:,} tokens trained" if recipe.trained_tokens is not None else ""
    if recipe.provider == LOCAL:
        usd = "free: it was trained on this machine"
    elif recipe.cost_usd is None:
        usd = "unknown"
    else:
        usd = f"${recipe.cost_usd:,.2f}" + (
            f" at prices of {recipe.price_as_of}" if recipe.price_as_of else ""
        )
    return " · ".join(part for part in (usd, tokens) if part)
