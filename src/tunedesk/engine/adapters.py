"""LoRA adapters in the PEFT layout: adapter_config.json beside adapter_model.safetensors."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tunedesk.errors import EngineError
from tunedesk.paths import private_folder, sync_folder, write_whole

RANK = 16
ALPHA = 32
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linears of a Llama layer, all adapted."""
_PREFIX = "base_model.model."
_PLAIN = {
    "use_dora": False,
    "lora_bias": False,
    "bias": "none",
    "modules_to_save": None,
    "trainable_token_indices": None,
}
"""Settings of PEFT whose other values change the arithmetic in ways that this engine does not know."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """The low-rank matrices of one adapter, by the name of the linear they belong to."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Module name (`model.layers.0.self_attn.q_proj`) → (A: rank x in, B: out x rank), f32."""
    rank: int = RANK
    alpha: float = ALPHA
    rank_stabilised: bool = field(default=False)
    """True when the scale is alpha / sqrt(rank)."""

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


def fresh_pair(
    linear: str, out_features: int, in_features: int, rank: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return an untrained (A, B): A uniform in ±1/sqrt(in) as in PEFT, B zero; it follows from seed and name."""
    digest = hashlib.sha256(f"{seed}:{linear}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    bound = 1 / math.sqrt(in_features)
    a = torch.rand(rank, in_features, generator=generator) * (2 * bound) - bound
    return a, torch.zeros(out_features, rank)


def save_adapter(folder: Path, adapter: Adapter, base: str) -> None:
    """Write `adapter` as the folder `folder`, whole or not at all; `base` is the base model's name.

    Raises StoreError when the disk refuses.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    private_folder(part)
    tensors = {
        f"{_PREFIX}{name}.lora_{letter}.weight": tensor.detach().contiguous()
        for name, pair in adapter.pairs.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }
    write_whole(part / "adapter_model.safetensors", save(tensors, metadata={"format": "pt"}))
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": adapter.rank_stabilised,
        "target_modules": sorted({name.rpartition(".")[2] for name in adapter.pairs}),
    }  # fmt: skip
    write_whole(part / "adapter_config.json", json.dumps(config, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    sync_folder(folder.parent)


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter folder. Raises EngineError when it is no plain LoRA in safetensors."""
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        tensors = load_file(folder / "adapter_model.safetensors")
        odd = [key for key, plain in _PLAIN.items() if (config.get(key) or plain) != plain]
        if odd or config["peft_type"] != "LORA" or config.get("rank_pattern") or config.get("alpha_pattern"):
            raise EngineError(
                f"the adapter {folder.name} is no plain LoRA ({', '.join(odd) or config['peft_type']})"
            )
        names = {key.removeprefix(_PREFIX).rpartition(".lora_")[0] for key in tensors}
        pairs = {
            name: (
                tensors[f"{_PREFIX}{name}.lora_A.weight"].float(),
                tensors[f"{_PREFIX}{name}.lora_B.weight"].float(),
            )
            for name in sorted(names)
        }
        return Adapter(pairs, int(config["r"]), float(config["lora_alpha"]), bool(config.get("use_rslora")))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise EngineError(
            f"the adapter {folder.name} cannot be read: {error}", "train it again, or restore its folder"
        ) from error
