"""What a trainer needs to go on as if it had never stopped, in one file that is replaced whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tunedesk.engine.adapters import Adapter
from tunedesk.errors import EngineError
from tunedesk.paths import write_whole

FILE = "state.safetensors"


@dataclass(frozen=True, slots=True)
class Position:
    """Where training stands. Order and starting values follow from the seed, so no generator state is kept."""

    step: int
    """Steps done."""
    dtype: str
    """Type of the base's weights; a resumed run keeps it, whatever is faster now."""
    row_losses_bytes: int
    """Length of row_losses.jsonl at this step; what follows is written again."""
    unmeasured: dict[str, float]
    """Loss and accuracy of the step when it was stopped before its metrics were written, else empty."""
    best_step: int = 0
    """Step of the epoch's end with the lowest validation loss, 0 before the first."""
    best_loss: float = 0.0


def save_state(folder: Path, position: Position, adapter: Adapter, optimizer: torch.optim.Optimizer) -> None:
    """Write the state into the job folder `folder`, durably. Raises StoreError."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in named_parameters(adapter).items():
        tensors[f"weight:{name}"] = parameter.detach().cpu()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}:{name}"] = value.detach().cpu()
    write_whole(folder / FILE, save(tensors, metadata={"position": json.dumps(asdict(position))}))


def saved_position(folder: Path) -> Position | None:
    """Return where the job in `folder` stands, None when it has not begun. Raises EngineError."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return Position(**json.loads(file.metadata()["position"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the training state cannot be read: {error}", "cancel the job and launch it again"
        ) from error


def restore(folder: Path, adapter: Adapter, optimizer: torch.optim.Optimizer) -> None:
    """Put the saved weights and moments into `adapter` and `optimizer`."""
    with safe_open(folder / FILE, framework="pt") as file, torch.no_grad():
        keys = set(file.keys())
        for name, parameter in named_parameters(adapter).items():
            parameter.copy_(file.get_tensor(f"weight:{name}"))
            moments = {
                key: f"{key}:{name}" for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}:{name}" in keys
            }
            for key, stored in moments.items():
                value = file.get_tensor(stored)
                optimizer.state[parameter][key] = (
                    value if key == "step" and not parameter.is_cuda else value.to(parameter.device)
                )


def named_parameters(adapter: Adapter) -> dict[str, Tensor]:
    """Return every trained matrix under a stable name, in a stable order."""
    return {
        f"{name}.{letter}": tensor
        for name in sorted(adapter.pairs)
        for letter, tensor in zip("AB", adapter.pairs[name], strict=True)
    }
