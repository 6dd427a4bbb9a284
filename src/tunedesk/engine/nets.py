"""A base model with the adapter trained on it: the fast way for Llama-type models on a CPU, else the library's."""

from __future__ import annotations

import inspect
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

_KEPT = 2 << 30
"""Bytes of activations that are kept rather than computed again."""


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
        self._width = _width(model)
        self._picks = "logits_to_keep" in inspect.signature(model.forward).parameters
        _without_dropout(model)
        if model.supports_gradient_checkpointing:
            old = model.gradient_checkpointing_enable  # its name before transformers 5.23
            getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})
        self.model = get_peft_model(model, config).eval()
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
        """See Net.losses; layers are computed again on the way back when keeping them would take too much memory."""
        padded = pad(chunk)
        # Libraries compute again only in training mode, which without dropout changes nothing else.
        self.model.train(torch.is_grad_enabled() and padded.ids.numel() * self._width > _KEPT)
        width = padded.ids.shape[1]
        columns, column_of = torch.unique(padded.sources % width, return_inverse=True)
        picked = {"logits_to_keep": columns.to(self.device)} if self._picks else {}
        logits = self.model(
            input_ids=padded.ids.to(self.device),
            attention_mask=padded.mask.to(self.device),
            use_cache=False,
            **picked,
        ).logits
        places = column_of if self._picks else padded.sources % width
        chosen = logits[(padded.sources // width).to(self.device), places.to(self.device)].float()
        labels = padded.labels.to(self.device)
        nll = torch.nn.functional.cross_entropy(chosen, labels, reduction="none")
        return nll, chosen.argmax(-1) == labels


def _width(model: PreTrainedModel) -> int:
    """Return about how many bytes of a token its layers keep for the way back."""
    config = model.config.get_text_config()
    return 18 * int(config.hidden_size) * int(config.num_hidden_layers) * int(model.dtype.itemsize)


def _without_dropout(model: PreTrainedModel) -> None:
    """Turn off every dropout of a base model, whichever mode it is in."""
    for module in model.modules():
        for name in [
            name for name in vars(module) if name.endswith(("dropout", "dropout_prob", "layerdrop"))
        ]:
            if isinstance(getattr(module, name), float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
