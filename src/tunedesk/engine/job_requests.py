"""What a request may say about a new fine-tuning job, and how a job is shown."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tunedesk.engine.wire import ApiError, Fields

ORGANIZATION = "local"
FINAL = ("succeeded", "failed", "cancelled")
"""The statuses that a job never leaves."""
_KNOWN = (
    "model", "training_file", "validation_file", "hyperparameters", "suffix", "integrations", "seed", "method",
    "metadata",
)  # fmt: skip
_COMMON = ("n_epochs", "batch_size", "learning_rate_multiplier")
_METHODS = {"supervised": _COMMON, "dpo": (*_COMMON, "beta")}
"""The methods that the trainer knows, and the hyperparameters of each."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A well-formed request for a job; whether its model and files exist is not yet known."""

    model: str
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Any]
    """n_epochs, batch_size, learning_rate_multiplier, for dpo beta: a number or "auto"."""
    suffix: str
    """Cleaned for a model's name; may be empty."""
    seed: int | None
    metadata: dict[str, str] | None
    integrations: list[dict[str, Any]] | None
    method: str = "supervised"
    """supervised or dpo."""

    @property
    def fingerprint(self) -> str:
        """A hash that tells two different requests under one Idempotency-Key apart."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def parse_job_request(body: Mapping[str, Any]) -> JobRequest:
    """Read the body of a job's creation; raises ApiError 400 naming the parameter at fault."""
    fields = Fields(body)
    fields.only(_KNOWN)
    method, kind = fields.nested("method"), "supervised"
    hyperparameters = fields.nested("hyperparameters")
    if method.body:
        kind = method.choice("type", ("supervised", "dpo", "reinforcement"))
        if kind not in _METHODS:
            message = f"The method '{kind}' is not available on this engine; use {', '.join(_METHODS)}."
            raise ApiError(400, message, param="method.type", code="unsupported_method")
        given = method.nested(kind).nested("hyperparameters")
        hyperparameters = given if given.body else hyperparameters
    suffix = fields.text("suffix", least=1, most=64) or ""
    integrations = fields.array("integrations", most=5)
    return JobRequest(
        model=fields.needed_text("model", most=256),
        training_file=fields.needed_text("training_file", most=256),
        validation_file=fields.text("validation_file", least=1, most=256),
        hyperparameters=_hyperparameters(hyperparameters, _METHODS[kind]),
        suffix=re.sub(r"[^A-Za-z0-9._-]+", "-", suffix).strip("-"),
        seed=fields.integer("seed", 0, 2147483647),
        metadata=fields.metadata(),
        integrations=[_integration(item, number) for number, item in enumerate(integrations)] or None,
        method=kind,
    )


def _hyperparameters(fields: Fields, known: Sequence[str]) -> dict[str, Any]:
    """Return the `known` hyperparameters, "auto" where nothing is asked (ranges: OpenAI's specification)."""
    fields.only(known)
    asked = {name: value for name, value in fields.body.items() if value not in ("auto", None)}
    numbers = Fields(asked, fields.path)
    chosen = {
        "n_epochs": numbers.integer("n_epochs", 1, 50),
        "batch_size": numbers.integer("batch_size", 1, 256),
        "learning_rate_multiplier": numbers.number("learning_rate_multiplier", 0, 1000, above=True),
        "beta": numbers.number("beta", 0, 2, above=True),
    }
    return {name: "auto" if chosen[name] is None else chosen[name] for name in known}


def _integration(item: Any, number: int) -> dict[str, Any]:
    path = f"integrations[{number}]."
    if not isinstance(item, dict):
        raise ApiError(
            400, f"Invalid '{path[:-1]}': expected an object.", param="integrations", code="invalid_type"
        )
    fields = Fields(item, path)
    fields.choice("type", ("wandb",))
    fields.required("wandb")
    wandb = fields.nested("wandb")
    wanted = {"project": wandb.needed_text("project", most=256)}
    for name in ("name", "entity"):
        if (value := wandb.text(name, most=256)) is not None:
            wanted[name] = value
    tags = wandb.array("tags", most=100)
    if not all(isinstance(tag, str) for tag in tags):
        raise ApiError(
            400,
            f"Invalid '{path}wandb.tags': expected strings.",
            param=f"{path}wandb.tags",
            code="invalid_type",
        )
    return {"type": "wandb", "wandb": {**wanted, "tags": tags} if tags else wanted}


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning job, as stored."""

    number: int
    id: str
    created_at: int
    finished_at: int | None
    status: str
    model: str
    """The model asked for: a base model's id or a tuned model's name."""
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Any]
    seed: int
    metadata: dict[str, str] | None
    integrations: list[dict[str, Any]] | None
    model_name: str
    """What the tuned model is called once there is one."""
    trained_tokens: int | None
    result_file: str | None
    error: dict[str, Any] | None
    method: str
    """supervised or dpo."""
    validated: int
    """1 once its files are known to be good and its model to be here."""

    def shape(self, estimated_finish: int | None = None) -> dict[str, Any]:
        """Return OpenAI's job object; `estimated_finish` (Unix seconds) is told while it runs."""
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": self.created_at,
            "finished_at": self.finished_at,
            "status": self.status,
            "model": self.model,
            "fine_tuned_model": self.model_name if self.status == "succeeded" else None,
            "organization_id": ORGANIZATION,
            "training_file": self.training_file,
            "validation_file": self.validation_file,
            "result_files": [self.result_file] if self.result_file else [],
            "hyperparameters": {name: self.hyperparameters[name] for name in _COMMON},
            "method": {"type": self.method, self.method: {"hyperparameters": self.hyperparameters}},
            "seed": self.seed,
            "metadata": self.metadata,
            "integrations": self.integrations,
            "trained_tokens": self.trained_tokens,
            "estimated_finish": estimated_finish if self.status == "running" else None,
            "error": self.error,
        }


def fresh_seed() -> int:
    """Return a seed for a job that asked for none."""
    return secrets.randbelow(2147483648)
