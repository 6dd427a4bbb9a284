"""A base model with the adapter trained on it: the fast way for Llama-type models on a CPU, else the library's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from tunedesk.engine.adapters import LINEARS, Adapter, fresh_pair
from tunedesk.engine.batches import CHUNK_TOKENS, Example, pack, pad
from tunedesk.engine.fast_llama import FastLlama
from tunedesk.engine.layers import head_loss


class Net(Protocol):
    """What the trainer needs of a model."""

    adapter: Adapter
    """The matrices being trained, f32, changed in place by the optimiser."""
    packs: bool
    """Whether rows are laid end to end, else padded."""

    def losses(self, chunk: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Return (each trained token's loss, differentiable; whether it was the likeliest).

        The trained tokens come example after example, in their order.
        """
        ...


def starting_adapter(widths: Mapping[str, tuple[int, int]], seed: int, parent: Adapter | None) -> Adapter:
    """Return the matrices to start from, the parent's where it has them; `widths` gives each linear's (out, in)."""
    shape = parent or Adapter({})
    pairs = {}
    for name, (rows, columns) in widths.items():
        known = parent.pairs.get(name) if parent else None
        a, b = known or fresh_pair(name, rows, columns, shape.rank, seed)
        pairs[name] = (a.clone().requires_grad_(), b.clone().requires_grad_())
    return Adapter(pairs, shape.rank, shape.alpha, shape.rank_stabilised)


class FastNet:
    """Packed rows, the shared prefix once, the head on trained tokens only."""

    def __init__(
        self, llama: FastLlama, seed: int, parent: Adapter | None, *, share_prefix: bool = True
    ) -> None:
        self.llama = llama
        self.adapter = starting_adapter(llama.widths, seed, parent)
        self.packs = True
        self._share_prefix = share_prefix

    def losses(self, chunk: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """See Net.losses."""
        packed = pack(chunk, share_prefix=self._share_prefix)
        long = torch.is_grad_enabled() and len(packed.ids) > CHUNK_TOKENS
        hidden = self.llama.hidden(packed, self.llama.stack(self.adapter), recompute=long)
        return head_loss(hidden, self.llama.head, packed.labels)


class PeftNet:
    """Any architecture, any device: PEFT's layers, the library's own forward, padded rows."""

    def __init__(self, model: PreTrainedModel, seed: int, parent: Adapter | None) -> None:
        found = {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        targets = [name for name in LINEARS if name in found] or "all-linear"
        shape = parent or Adapter({})
        config = LoraConfig(
            r=shape.rank, lora_alpha=int(shape.alpha), use_rslora=shape.rank_stabilised,
            target_modules=targets, task_type="CAUSAL_LM",
        )  # fmt: skip
        self.device, self.packs = model.device, False
        self.model = get_peft_model(model, config)
        self.model.eval()  # adapters carry no dropout; the base's own must stay off
        self.adapter = self._start(seed, parent)

    def _start(self, seed: int, parent: Adapter | None) -> Adapter:
        """Give PEFT's matrices their starting values and keep hold of them under the plain names."""
        live: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                linear, _, letter = name.removeprefix("base_model.model.").rpartition(".lora_")
                live.setdefault(linear, {})[letter[0]] = parameter
        widths = {name: (pair["B"].shape[0], pair["A"].shape[1]) for name, pair in live.items()}
        start = starting_adapter(widths, seed, parent)
        with torch.no_grad():
            for name, (a, b) in start.pairs.items():
                live[name]["A"].copy_(a)
                live[name]["B"].copy_(b)
        pairs = {name: (pair["A"], pair["B"]) for name, pair in live.items()}
        return Adapter(pairs, start.rank, start.alpha, start.rank_stabilised)

    def losses(self, chunk: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """See Net.losses."""
        padded = pad(chunk)
        labels = padded.labels.to(self.device)
        logits = self.model(
            input_ids=padded.ids.to(self.device), attention_mask=padded.mask.to(self.device), use_cache=False
        ).logits
        chosen = logits.flatten(0, 1)[padded.sources.to(self.device)].float()
        nll = torch.nn.functional.cross_entropy(chosen, labels, reduction="none")
        return nll, chosen.argmax(-1) == labels
