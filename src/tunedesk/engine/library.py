"""The models of one engine: base models in folders, and what was tuned from them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunedesk.engine import hub
from tunedesk.engine.catalogue import DEFAULT_MODEL, base_models, named, origin
from tunedesk.engine.fetch import Offer, is_repository, offer_of
from tunedesk.engine.state import EngineState
from tunedesk.engine.wire import ApiError


@dataclass(frozen=True, slots=True)
class Start:
    """What a job trains from."""

    base: str
    """The base model's id."""
    parent_adapter: Path | None
    """The adapter of the tuned model that it continues, None for a base model."""


class ModelLibrary:
    """The models of this engine: base models in folders, and what was tuned from them."""

    def __init__(self, state: EngineState, folders: Sequence[Path]) -> None:
        self._state = state
        self.folders = (state.models, *folders)

    def bases(self) -> dict[str, Path]:
        """Return id → folder of the base models; the default one is there before it was fetched."""
        found = base_models(self.folders)
        return (
            found if DEFAULT_MODEL in found else {DEFAULT_MODEL: self._state.models / DEFAULT_MODEL, **found}
        )

    def base(self, name: str) -> tuple[str, Path] | None:
        """Return id and folder of the base model meant by `name` (an id, or ORG/NAME), None when there is none."""
        bases = self.bases()
        found = named(name, bases)
        return None if found is None else (found, bases[found])

    def to_fetch(self, name: str) -> Offer | None:
        """Return what the model hub is asked for where a job names `name`: ORG/NAME that is not here.

        None for every other name. Raises ApiError 400 when that model cannot be fetched: this engine is offline, or
        has a model of another origin in its place.
        """
        if not is_repository(name) or self._state.jobs.model(name) is not None or self.base(name) is not None:
            return None
        offer = offer_of(name)
        if reason := hub.offline():
            message = (
                f"The model '{name}' is not on this engine, and {reason}."
                f" Where it is on, bring it with: tunedesk serve --fetch {name}"
            )
            raise ApiError(400, message, param="model", code="model_not_found")
        if (taken := self.base(offer.name)) is not None:
            whose = origin(taken[1])
            message = (
                f"The model '{name}' is not on this engine, which has {whose} as '{taken[0]}'. Put a folder of"
                " another name under a folder that the engine is given with: tunedesk serve --models DIR"
            )
            raise ApiError(400, message, param="model", code="model_name_taken")
        return offer

    def start(self, name: str) -> Start:
        """Return what a job on the model `name` trains from; raises ApiError 400 when there is no such model."""
        tuned = self._state.jobs.model(name)
        if tuned is not None:
            return Start(tuned.base, self._state.adapter_folder(tuned))
        base = self.base(name)
        if base is None:
            raise ApiError(400, _not_here(name), param="model", code="model_not_found")
        return Start(base[0], None)

    def delete(self, name: str) -> None:
        """Delete a tuned model; raises ApiError 404 when there is none, 403 for a base model, 409 while in use."""
        tuned = self._state.jobs.model(name)
        if tuned is None:
            if self.base(name) is not None:
                message = "A base model is not deleted over the API; remove its folder."
                raise ApiError(403, message, param="model", code="base_model")
            raise no_model(name)
        self._state.jobs.delete_model(tuned)
        shutil.rmtree(self._state.adapter_folder(tuned), ignore_errors=True)


def no_model(name: str) -> ApiError:
    """Return the answer for a model that is not there."""
    return ApiError(404, _not_here(name), param="model", code="model_not_found")


def _not_here(name: str) -> str:
    message = f"The model '{name[:80]}' does not exist on this engine."
    return f"{message} Fetch it with: tunedesk serve --fetch {name}" if is_repository(name) else message
