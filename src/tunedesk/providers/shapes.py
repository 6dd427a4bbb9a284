"""The API's objects, which may lack any field or hold unknown words, into our dataclasses and back."""

from __future__ import annotations

import hashlib
import json
import math
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
_MOST = 2.0**53
"""No number that the API tells is larger; one that is was garbled."""
_LAST = 253_402_300_799
"""The last second that a date can show (of the year 9999)."""


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
        _moment(shape, "created") or 0,
        _text(shape, "shutdown_date") or None,
    )


def row_losses_of(shape: Shape | None) -> dict[int, float] | None:
    """Read which rows were trained on, by line, with their losses; None when that is not what it is."""
    rows, losses = (shape or {}).get("rows"), (shape or {}).get("losses")
    if not isinstance(rows, list) or not isinstance(losses, list) or len(rows) != len(losses):
        return None
    numbers = all(
        type(row) is int and isinstance(loss, int | float) for row, loss in zip(rows, losses, strict=True)
    )
    return dict(zip(rows, map(float, losses), strict=True)) if numbers else None


def file_of(shape: Shape) -> ProviderFile:
    """Read a file."""
    return ProviderFile(
        id=_text(shape, "id"),
        filename=_text(shape, "filename"),
        bytes=_whole(shape, "bytes") or 0,
        purpose=_text(shape, "purpose"),
        status=_text(shape, "status"),
        created_at=_moment(shape, "created_at") or 0,
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
        created_at=_moment(shape, "created_at") or 0,
        finished_at=_moment(shape, "finished_at"),
        estimated_finish=_moment(shape, "estimated_finish"),
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
        created_at=_moment(shape, "created_at") or 0,
        message=_text(shape, "message"),
        level=_text(shape, "level") or "info",
        type=_text(shape, "type") or "message",
        data=_finite(dict(_object(shape, "data"))),
    )


def checkpoint_of(shape: Shape) -> Checkpoint:
    """Read a checkpoint."""
    told = _object(shape, "metrics")
    metrics = {name: value for name in told if (value := _number(told, name)) is not None}
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
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST:
        return None
    return float(value) if math.isfinite(value) else None


def _whole(shape: Shape, name: str) -> int | None:
    value = _number(shape, name)
    return int(value) if value is not None else None


def _moment(shape: Shape, name: str) -> int | None:
    """Return Unix seconds of this era, also where they were told in milliseconds."""
    value = _number(shape, name)
    if value is not None and value > _LAST:
        value /= 1000
    return int(value) if value is not None and 0 <= value <= _LAST else None


def _finite(value: Any) -> Any:
    """Return data without numbers that JSON does not have, at whatever depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def _object(shape: Shape, name: str) -> Shape:
    value = shape.get(name)
    return value if isinstance(value, dict) else {}
