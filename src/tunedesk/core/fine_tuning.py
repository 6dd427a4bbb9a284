"""Fine-tuning as every provider tells it: models, files, jobs, events, checkpoints, and what we ask for.

Providers answer loosely (missing fields, unknown statuses), so every field but an id has a default, and unknown
words are kept as they came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Auto = Literal["auto"]

FINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})
"""Only these end a job; any other word, known or not, means that it may still change."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What a job is asked to train with; `auto` leaves the choice to the provider."""

    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"
    beta: float | Auto | None = None
    """DPO's beta; None for supervised jobs."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job as it is sent to a provider: ids of uploaded files and what to do with them."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: str = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderFile:
    """A file as a provider lists it."""

    id: str
    filename: str = ""
    bytes: int = 0
    """Size in bytes."""
    purpose: str = ""
    status: str = ""
    created_at: int = 0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that an endpoint lists."""

    id: str
    owned_by: str = ""
    created: int = 0
    shutdown_date: str | None = None
    """YYYY-MM-DD, where the provider tells it."""


@dataclass(frozen=True, slots=True)
class FineTuningJob:
    """A job as the provider last told it."""

    id: str
    status: str
    model: str = ""
    created_at: int = 0
    finished_at: int | None = None
    estimated_finish: int | None = None
    """Unix seconds, while running."""
    fine_tuned_model: str | None = None
    training_file: str = ""
    validation_file: str | None = None
    result_files: tuple[str, ...] = ()
    trained_tokens: int | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int | None = None
    method: str = "supervised"
    error: str = ""
    """The provider's reason, empty unless it failed."""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the provider will not change it any more."""
        return self.status in FINAL_STATUSES


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job."""

    id: str
    created_at: int
    """Unix seconds."""
    message: str
    level: str = "info"
    type: str = "message"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A usable model from the middle of a job."""

    id: str
    model: str
    step: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What was measured after one training step; None where nothing was."""

    step: int
    total_steps: int | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    at: int = 0
    """Unix seconds of the event that told it, 0 when unknown."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one chat reply, as the endpoint reports them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a streamed reply; the last one carries usage and the reason for the end."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    system_fingerprint: str | None = None


def base_model(model: str) -> str:
    """Return the base model of an `ft:` name (`ft:BASE:org:suffix:id`), any other name as it is."""
    return model.split(":")[1] if model.startswith("ft:") and model.count(":") >= 1 else model
