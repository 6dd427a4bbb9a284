"""Hooks of schemathesis: half of what it makes up names objects that are there, else all would end in 404."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import schemathesis  # type: ignore[import-not-found,unused-ignore]

Hook = TypeVar("Hook", bound=Callable[..., Any])
IDS = {
    "fine_tuning_job_id": "ft-AF1WoRqd3aJAHsqc9NY7iL8F",
    "file_id": "file-abc123",
    "upload_id": "upload_abc123",
    "model": "gpt-6-astra",
}


def hook(function: Hook) -> Hook:
    """Register a hook by its name."""
    schemathesis.hook(function)
    return function


@hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    if path_parameters:
        for name, known in IDS.items():
            if name in path_parameters and len(str(path_parameters[name])) % 2:
                path_parameters[name] = known
    return path_parameters


@hook
def map_body(context: Any, body: Any) -> Any:
    if isinstance(body, dict):
        if isinstance(body.get("training_file"), str):
            body["training_file"] = IDS["file_id"]
            body.pop("validation_file", None)
        if isinstance(body.get("model"), str):
            body["model"] = IDS["model"]
    return body


@hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out null, which counts as absent, and reinforcement: it is not served, its graders are not read."""
    if not isinstance(case.body, dict):
        return True
    return None not in case.body.values() and "reinforcement" not in str(case.body.get("method"))
