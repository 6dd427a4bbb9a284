"""What a tuned model came from, and the recipe (TOML) by which it is made again anywhere."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.fine_tuning import Auto, FineTuningJob, Hyperparameters, base_model
from tunedesk.errors import DataError
from tunedesk.terminal import json_text

_MOST_PROMPTS = 50
"""Different system prompts that are counted; more are one kind of thing: not a house prompt."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a training file came from, as far as is known."""

    dataset: str = ""
    """Id of the imported dataset (a hash of its rows), empty when the file was not made by tunedesk."""
    dataset_name: str = ""
    dataset_version: str = ""
    """Name of the version, or a hash of the edits that were in force."""
    system_prompt: str = ""
    """The prompt that most conversations begin with, empty when they begin with none."""
    system_prompts: int = 0
    """How many different ones there are."""
    conversations: int = 0
    validation: int = 0
    """Conversations held back."""
    split_seed: int | None = None
    split_rule: str = ""

    @property
    def system_prompt_sha256(self) -> str:
        """Hash of the system prompt, empty when there is none."""
        return (
            hashlib.sha256(self.system_prompt.encode(errors="replace")).hexdigest()
            if self.system_prompt
            else ""
        )


class _Message(msgspec.Struct):
    role: Any = None
    content: Any = None


class _Line(msgspec.Struct):
    messages: list[_Message] = []


class _Split(msgspec.Struct):
    seed: int | None = None
    rule: str = ""
    sha256: dict[str, str] = {}
    origin: dict[str, str] = {}


def lineage_of(path: Path, sha256: str = "", known: Lineage | None = None) -> Lineage:
    """Read what a training file tells of itself: its system prompt, and the split.json beside it that names its hash.

    What the caller knows (`known`) stays. Raises DataError when the file cannot be read; odd lines count for nothing.
    """
    prompts: dict[str, int] = {}
    count = 0
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    messages = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=_Line).messages
                except msgspec.DecodeError:
                    continue
                count += 1
                first = messages[0] if messages else _Message()
                prompt = first.content if first.role in ("system", "developer") else None
                if isinstance(prompt, str) and (prompt in prompts or len(prompts) < _MOST_PROMPTS):
                    prompts[prompt] = prompts.get(prompt, 0) + 1
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error
    split = _split_of(path, sha256)
    told = asdict(known or Lineage())
    found = {
        "system_prompt": max(prompts, key=lambda text: prompts[text]) if prompts else "",
        "system_prompts": len(prompts), "conversations": count, "split_seed": split.seed, "split_rule": split.rule,
        **{name: split.origin.get(name, "") for name in ("dataset", "dataset_name", "dataset_version")},
    }  # fmt: skip
    return Lineage(**(told | {name: value for name, value in found.items() if not told[name]}))


def count_lines(path: Path) -> int:
    """Return the conversations of a training file: its lines that are not blank; raises DataError."""
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error


def _split_of(path: Path, sha256: str) -> _Split:
    try:
        split = msgspec.json.decode((path.parent / "split.json").read_bytes(), type=_Split)
    except (OSError, msgspec.DecodeError):
        return _Split()
    return split if split.sha256.get(path.name) == sha256 else _Split()


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A training file of a recipe."""

    path: str = ""
    """Where it lay, and where it is looked for first."""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tuned model was made: enough to make it again, here or elsewhere."""

    model: str
    """The tuned model's name; the job's id where the provider gives none."""
    base: str
    parent: str = ""
    """The tuned model that it continues, empty when it began at the base."""
    provider: str = ""
    job: str = ""
    launch: str = ""
    finished_at: int = 0
    """Unix seconds."""
    trained_tokens: int | None = None
    cost_usd: float | None = None
    price_as_of: str = ""
    method: str = "supervised"
    suffix: str = ""
    seed: int | None = None
    asked: Hyperparameters = field(default_factory=Hyperparameters)
    chosen: Hyperparameters = field(default_factory=Hyperparameters)
    """What the provider trained with, as it tells."""
    training: RecipeFile = field(default_factory=RecipeFile)
    validation: RecipeFile | None = None
    lineage: Lineage = field(default_factory=Lineage)

    @property
    def trained_from(self) -> str:
        """The model that the job was asked for."""
        return self.parent or self.base

    def hyperparameters_for(self, *, same_provider: bool, same_rate: bool) -> Hyperparameters:
        """Return what to ask for: what was asked, where the same provider is asked again; elsewhere what was chosen.

        A learning rate goes along only between providers that mean the same by it (`same_rate`), and a batch size
        only where it was asked for: what suits one machine may not fit another.
        """
        if same_provider:
            return self.asked
        epochs: int | Auto = self.asked.n_epochs if self.asked.n_epochs != "auto" else self.chosen.n_epochs
        rate = self.asked.learning_rate_multiplier if same_rate else "auto"
        return Hyperparameters(epochs, self.asked.batch_size, rate, self.asked.beta)


def recipe_of(job: FineTuningJob, provider: str) -> Recipe:
    """Return what the provider's own word tells of a job's model; what we know of its launch is put over it."""
    base = base_model(job.model)
    return Recipe(
        model=job.fine_tuned_model or job.id, base=base, parent=job.model if job.model != base else "",
        provider=provider, job=job.id, finished_at=job.finished_at or 0, trained_tokens=job.trained_tokens,
        method=job.method, seed=job.seed, asked=job.hyperparameters, chosen=job.hyperparameters,
    )  # fmt: skip


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML, in the order in which a person reads it."""
    tables: dict[str, dict[str, Any]] = {"": {}}
    for one in fields(recipe):
        value = getattr(recipe, one.name)
        if value is None:
            continue
        if hasattr(value, "__dataclass_fields__"):
            tables[one.name] = {name: inner for name, inner in asdict(value).items() if inner is not None}
        else:
            tables[""][one.name] = value
    if recipe.lineage.system_prompt:
        tables["lineage"]["system_prompt_sha256"] = recipe.lineage.system_prompt_sha256
    lines = [
        "# How this model was made. Made again, here or elsewhere: tunedesk launch --recipe THIS [--provider P]"
    ]
    for name, values in tables.items():
        lines += ["", f"[{name}]"] if name else []
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, str):
        return json_text(value.encode("utf-8", errors="replace").decode())
    return str(value)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; raises DataError when it is none."""
    try:
        return recipe_from(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{path} is no recipe: {error}", "choose a file of `tunedesk recipes`") from error


def recipe_from(text: str) -> Recipe:
    """Read a recipe's text; raises DataError when it is none."""
    try:
        return msgspec.convert(tomllib.loads(text), type=Recipe)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DataError(str(error), "a recipe is TOML with the keys that `tunedesk recipes` shows") from error
