"""What a training job is asked to do, and what follows from that alone: its rate, its schedule, its order of rows."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunedesk.errors import EngineError

LEARNING_RATE = 1e-3
"""For a model of the default's size; see learning_rate."""
_SMALL = 135e6
WARM_UP = 0.05
PATIENCE = "tunedesk_patience"
"""Key of a job's metadata that asks for early stopping; OpenAI's API has no field for it."""
FOUR_BIT = "tunedesk_4bit"
"""Key of a job's metadata that, as "true", asks for the base in 4 bits; done unasked where it would not fit else."""


@dataclass(frozen=True, slots=True)
class Job:
    """job.json, as the worker writes it."""

    folder: Path
    model: str
    models: list[Path]
    parent: Path | None
    training_file: Path
    validation_file: Path | None
    epochs: int
    batch_size: int
    multiplier: float
    seed: int
    method: str
    """supervised or dpo."""
    beta: float
    """Of dpo alone."""
    patience: int
    """Epochs without a lower validation loss after which training ends; 0 for never."""
    four_bit: bool
    """Hold the base model in 4 bits."""

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read the job in `folder`. Raises EngineError when it is not one that this recipe can do."""
        try:
            raw = json.loads((folder / "job.json").read_bytes())
            method = raw.get("method", "supervised")
            if method not in ("supervised", "dpo"):
                raise EngineError(f"the method {method!r} cannot be trained here", "use supervised or dpo")
            tuning = raw["hyperparameters"]
            return cls(
                folder, raw["model"], [Path(name) for name in raw["models"]],
                Path(raw["parent_adapter"]) if raw.get("parent_adapter") else None, Path(raw["training_file"]),
                Path(raw["validation_file"]) if raw.get("validation_file") else None, int(tuning["n_epochs"]),
                int(tuning["batch_size"]), float(tuning["learning_rate_multiplier"]), int(raw["seed"]), method,
                float(tuning.get("beta", 0.1)), _patience(raw), (raw.get("metadata") or {}).get(FOUR_BIT) == "true",
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(f"job.json cannot be used: {error!r}") from error


def _patience(raw: dict[str, Any]) -> int:
    """Return what the metadata ask for as early stopping. Raises EngineError."""
    asked = (raw.get("metadata") or {}).get(PATIENCE, "0")
    if not (asked.isascii() and asked.isdigit()):
        raise EngineError(f"metadata.{PATIENCE} is {asked!r}", "give a whole number of epochs, 1 or more")
    if int(asked) and not raw.get("validation_file"):
        raise EngineError(f"metadata.{PATIENCE} needs a validation file", "add one, or leave it out")
    return int(asked)


def learning_rate(parameters: int, multiplier: float) -> float:
    """Return the peak rate: 1e-3 up to 135 M parameters, falling to about 2e-4 at 7 B, times the multiplier."""
    return LEARNING_RATE * max(0.1, min(1.0, math.pow(_SMALL / parameters, 0.4))) * multiplier


def schedule(step: int, steps: int) -> float:
    """Return the share of the peak rate at step `step` (from 0) of `steps`."""
    warm = max(1, round(WARM_UP * steps))
    return min(1.0, (step + 1) / warm) * (1 - step / steps)


def order(seed: int, epoch: int, count: int) -> list[int]:
    """Return the order of `count` examples in an epoch; it follows from the seed alone, so resuming keeps it."""
    return random.Random(f"{seed}:{epoch}").sample(range(count), count)
