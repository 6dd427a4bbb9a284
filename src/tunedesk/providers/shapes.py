"""The API's objects, which may lack any field or hold unknown words, into our dataclasses and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tunedesk.config import Profile
from tunedesk.core.fine_tuning import (
    Checkpoint,
    FineTuningJob,
    Hyperparameters,
    JobEvent,
    JobRequest,
    Model,
    ProviderFile,
)

Shape = Mapping[str, Any]


def job_body(request: JobRequest, profile: Profile) -> dict[str, Any]:
    """Return the arguments of a job's creation as `profile` wants them; what is `auto` is left out."""
    asked = {
        name: value
        for name in ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
        if (value := getattr(request.hyperparameters, name)) not in ("auto", None)
    }
    body: dict[str, Any] = {"model": request.model, "training_file": request.training_file}
    if profile.hyperparameters_in_method:
        inner = {"hyperparameters": asked} if asked else {}
        body["method"] = {"type": request.method, **({request.method: inner} if inner else {})}
    elif asked:
        body["hyperparameters"] = asked
    for name in ("validation_file", "suffix", "seed"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if profile.takes_metadata and request.metadata:
        body["metadata"] = dict(request.metadata)
    if profile.extra_body:
        body["extra_body"] = dict(profile.extra_body)
    return body


def model_of(shape: Shape) -> Model:
    """Read a model."""
    return Model(
        _text(shape, "id"),
        _text(shape, "owned_by"),
        _whole(shape, "created") or 0,
        _text(shape, "shutdown_date") or None,
    )


def file_of(shape: Shape) -> ProviderFile:
    """Read a file."""
    return ProviderFile(
        id=_text(shape, "id"),
        filename=_text(shape, "filename"),
        bytes=_whole(shape, "bytes") or 0,
        purpose=_text(shape, "purpose"),
        status=_text(shape, "status"),
        created_at=_whole(shape, "created_at") or 0,
    )


def job_of(shape: Shape) -> FineTuningJob:
    """Read a job; statuses are kept as they came."""
    method = _object(shape, "method")
    kind = _text(method, "type") or "supervised"
    error = _object(shape, "error")
    said, code = _text(error, "message"), _text(error, "code")
    results = shape.get("result_files")
    return FineTuningJob(
        id=_text(shape, "id"),
        status=_text(shape, "status"),
        model=_text(shape, "model"),
        created_at=_whole(shape, "created_at") or 0,
        finished_at=_whole(shape, "finished_at"),
        estimated_finish=_whole(shape, "estimated_finish"),
        fine_tuned_model=_text(shape, "fine_tuned_model") or None,
        training_file=_text(shape, "training_file"),
        validation_file=_text(shape, "validation_file") or None,
        result_files=tuple(r for r in results if isinstance(r, str)) if isinstance(results, list) else (),
        trained_tokens=_whole(shape, "trained_tokens"),
        hyperparameters=_hyperparameters(
            {**_object(shape, "hyperparameters"), **_object(_object(method, kind), "hyperparameters")}
        ),
        seed=_whole(shape, "seed"),
        method=kind,
        error=said or code,
        metadata={str(k): str(v) for k, v in _object(shape, "metadata").items()},
    )


def event_of(shape: Shape) -> JobEvent:
    """Read an event; one without an id gets a stable one from what it says, so that it is told once."""
    known = _text(shape, "id")
    if not known:
        told = json.dumps(dict(shape), sort_keys=True, default=str)
        known = "event-" + hashlib.sha256(told.encode()).hexdigest()[:24]
    return JobEvent(
        id=known,
        created_at=_whole(shape, "created_at") or 0,
        message=_text(shape, "message"),
        level=_text(shape, "level") or "info",
        type=_text(shape, "type") or "message",
        data=dict(_object(shape, "data")),
    )


def checkpoint_of(shape: Shape) -> Checkpoint:
    """Read a checkpoint."""
    metrics = {k: float(v) for k, v in _object(shape, "metrics").items() if isinstance(v, int | float)}
    return Checkpoint(
        id=_text(shape, "id"),
        model=_text(shape, "fine_tuned_model_checkpoint"),
        step=_whole(shape, "step_number") or 0,
        metrics=metrics,
    )


def _hyperparameters(shape: Shape) -> Hyperparameters:
    beta = _number(shape, "beta")
    rate = _number(shape, "learning_rate_multiplier")
    return Hyperparameters(
        n_epochs=_whole(shape, "n_epochs") or "auto",
        batch_size=_whole(shape, "batch_size") or "auto",
        learning_rate_multiplier=rate if rate is not None else "auto",
        beta=beta if beta is not None else ("auto" if shape.get("beta") == "auto" else None),
    )


def _text(shape: Shape, name: str) -> str:
    value = shape.get(name)
    return value if isinstance(value, str) else ""


def _number(shape: Shape, name: str) -> float | None:
    value = shape.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(shape: Shape, name: str) -> int | None:
    value = _number(shape, name)
    return int(value) if value is not None else None


def _object(shape: Shape, name: str) -> Shape:
    value = shape.get(name)
    return value if isinstance(value, dict) else {}
