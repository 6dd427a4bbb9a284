"""A Llama-type model as plain tensors: a packed forward for training, a cached one for generating.

Exact for what transformers calls LlamaForCausalLM, MistralForCausalLM and Qwen2ForCausalLM (without sliding
windows). Linears that read the same input are one product: q, k, v together, gate and up together; so are their
low-rank additions (A stacked, B block-diagonal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tunedesk.engine.adapters import Adapter
from tunedesk.engine.attention import grids
from tunedesk.engine.batches import Packed
from tunedesk.engine.layers import (
    Layer,
    Linear,
    Norm,
    Packing,
    attention,
    feed_forward,
    final_norm,
    rotate,
    swiglu,
)
from tunedesk.errors import EngineError

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
GROUPS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The linears of a layer that are computed as one, by what they read."""

Stacked = Mapping[tuple[int, str], tuple[Tensor, Tensor]]
"""(layer, group) → (A of the whole group, B of the whole group times the scale), in the model's type."""


def fits(model: PreTrainedModel) -> bool:
    """Say whether `model` is one whose arithmetic this module has exactly."""
    config = model.config
    windowed = any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
    return (
        type(model).__name__ in ARCHITECTURES
        and config.hidden_act == "silu"
        and not windowed
        and not (type(model).__name__ == "MistralForCausalLM" and config.sliding_window)
    )


def _bias(linear: nn.Linear) -> Tensor:
    """Return a linear's bias, zeros when it has none."""
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach()


@dataclass(slots=True)
class Cache:
    """Keys and values of what a model has read, for one conversation."""

    keys: Tensor
    """layers x K x capacity x D."""
    values: Tensor
    """layers x K x capacity x D."""
    length: int = 0
    """Tokens read."""

    def copy(self, other: Cache, length: int) -> None:
        """Take over the first `length` tokens of another conversation."""
        self.keys[:, :, :length] = other.keys[:, :, :length]
        self.values[:, :, :length] = other.values[:, :, :length]
        self.length = length


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one conversation reads next."""

    ids: Tensor
    """t token ids."""
    cache: Cache
    lora: Stacked
    """The adapter it is read with; none is an empty one."""

    def mask(self) -> Tensor | None:
        """Return which of the tokens so far each new one sees (t x tokens), None when it is one and sees all."""
        known, new = self.cache.length, len(self.ids)
        return torch.ones(new, known + new, dtype=torch.bool).tril_(known) if new > 1 else None


class FastLlama:
    """Frozen weights of a model that `fits`; takes them out of `model`, which is unusable afterwards."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self.heads: int = config.num_attention_heads
        self.key_heads: int = config.num_key_value_heads
        self.rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = model.model.rotary_emb
        self.embedding: Tensor = model.model.embed_tokens.weight.detach()
        self.norm = Norm(model.model.norm.weight.detach(), config.rms_norm_eps)
        self.head: Tensor = model.lm_head.weight.detach()
        self.layers: list[Layer] = []
        self.widths: dict[str, tuple[int, int]] = {}
        for number in range(config.num_hidden_layers):
            self.layers.append(self._take(model.model.layers[number], f"model.layers.{number}"))
            model.model.layers[number] = nn.Identity()

    def _take(self, layer: nn.Module, name: str) -> Layer:
        linears: dict[str, Linear] = {}
        for group, members in GROUPS.items():
            parts = [cast(nn.Linear, layer.get_submodule(member)) for member in members]
            for member, linear in zip(members, parts, strict=True):
                self.widths[f"{name}.{member}"] = (linear.out_features, linear.in_features)
            weight = torch.cat([linear.weight.detach() for linear in parts])
            biased = any(linear.bias is not None for linear in parts)
            linears[group] = Linear(
                weight, torch.cat([_bias(linear) for linear in parts]) if biased else None
            )
        norms = {
            at: Norm(layer.get_parameter(f"{at}_layernorm.weight").detach(), self.norm.eps)
            for at in ("input", "post_attention")
        }
        return Layer(norm_in=norms["input"], norm_mid=norms["post_attention"], **linears)

    @property
    def head_width(self) -> int:
        """Numbers of one head's key."""
        return self.widths["model.layers.0.self_attn.k_proj"][0] // self.key_heads

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.embedding.dtype

    def stack(self, adapter: Adapter) -> Stacked:
        """Bring an adapter into the form of the grouped products; gradients flow back to its matrices.

        Raises EngineError when it belongs to another model.
        """
        unknown = [name for name in adapter.pairs if name not in self.widths]
        wrong = [
            name for name, (a, b) in adapter.pairs.items()
            if not unknown and (b.shape[0], a.shape[1]) != self.widths[name]
        ]  # fmt: skip
        if unknown or wrong:
            raise EngineError(f"the adapter does not fit this base model: {(unknown or wrong)[0]}")
        stacked: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        for number in range(len(self.layers)):
            for group, members in GROUPS.items():
                names = [f"model.layers.{number}.{member}" for member in members]
                here = [adapter.pairs.get(name) for name in names]
                if any(here):
                    a = torch.cat([pair[0] for pair in here if pair])
                    blocks = [
                        pair[1] if pair else torch.zeros(self.widths[name][0], 0)
                        for name, pair in zip(names, here, strict=True)
                    ]
                    b = torch.block_diag(*blocks) * adapter.scale  # type: ignore[no-untyped-call]
                    stacked[number, group] = (a.to(self.dtype), b.to(self.dtype))
        return stacked

    def hidden(self, packed: Packed, lora: Stacked, *, recompute: bool = False) -> Tensor:
        """Return the last hidden states (m x d) of the positions that predict a trained token.

        `recompute` keeps only each layer's input for the way back and makes the rest again.
        """
        x = F.embedding(packed.ids, self.embedding)
        half = self.head_width // 2
        cos, sin = (part[0, :, None, :half].contiguous() for part in self.rotary(x, packed.positions[None]))
        found = tuple(grids(packed.layout, self.heads, self.key_heads, x.device))
        packing = Packing((cos, sin), found, self.heads, self.key_heads)
        for number in range(len(self.layers)):
            sources = packed.sources if number + 1 == len(self.layers) else None
            if recompute:
                x = checkpoint(self._trained_layer, number, x, packing, lora, sources, use_reentrant=False)
            else:
                x = self._trained_layer(number, x, packing, lora, sources)
        return final_norm(x, self.norm)

    def _trained_layer(
        self, number: int, x: Tensor, packing: Packing, lora: Stacked, sources: Tensor | None
    ) -> Tensor:
        """One layer with gradients; the last one goes on from `sources` alone once the tokens have met."""
        layer = self.layers[number]
        x = attention(x, layer, packing, lora.get((number, "qkv")), lora.get((number, "out")))
        if sources is not None:
            x = x.index_select(0, sources)  # its way back adds in a fixed order, that of x[sources] does not
        return feed_forward(x, layer, lora.get((number, "gate_up")), lora.get((number, "down")))

    def new_cache(self, capacity: int) -> Cache:
        """Return an empty cache for up to `capacity` tokens."""
        shape = (len(self.layers), self.key_heads, capacity, self.head_width)
        return Cache(torch.zeros(shape, dtype=self.dtype), torch.zeros(shape, dtype=self.dtype))

    @torch.inference_mode()
    def read(self, stretches: Sequence[Stretch]) -> list[Tensor]:
        """Read more tokens of each conversation into its cache; return each one's next token's logits (V, f32)."""
        ids = torch.cat([stretch.ids for stretch in stretches])
        ends = list(accumulate(len(stretch.ids) for stretch in stretches))
        spans = [slice(end - len(one.ids), end) for one, end in zip(stretches, ends, strict=True)]
        positions = [torch.arange(one.cache.length, one.cache.length + len(one.ids)) for one in stretches]
        x = F.embedding(ids, self.embedding)
        half = self.head_width // 2
        cos, sin = (part[0, :, None, :half] for part in self.rotary(x, torch.cat(positions)[None]))
        masks = [one.mask() for one in stretches]
        for number, layer in enumerate(self.layers):

            def linear(group: str, value: Tensor, number: int = number, layer: Layer = layer) -> Tensor:
                y = getattr(layer, group)(value, None)
                for span, one in zip(spans, stretches, strict=True):
                    if pair := one.lora.get((number, group)):
                        y[span].addmm_(value[span] @ pair[0].t(), pair[1].t())
                return cast(Tensor, y)

            qkv = linear("qkv", layer.norm_in(x)).view(len(ids), self.heads + 2 * self.key_heads, -1)
            rotate(qkv[:, : self.heads + self.key_heads], (cos, sin))
            mixed = [
                self._mix(number, qkv[span], one.cache, mask)
                for span, one, mask in zip(spans, stretches, masks, strict=True)
            ]
            x = x + linear("out", torch.cat(mixed))
            x = x + linear("down", swiglu(linear("gate_up", layer.norm_mid(x))))
        for one in stretches:
            one.cache.length += len(one.ids)
        last = x[torch.tensor(ends) - 1]
        return list((self.norm(last) @ self.head.t()).float())

    def _mix(self, number: int, qkv: Tensor, cache: Cache, mask: Tensor | None) -> Tensor:
        """Put one conversation's new keys and values (of t x (H + 2K) x D) into its cache; return the mix t x H D."""
        low, high, both = cache.length, cache.length + len(qkv), self.heads + self.key_heads
        split = qkv.transpose(0, 1)
        keys, values = cache.keys[number, :, :high], cache.values[number, :, :high]
        keys[:, low:] = split[self.heads : both]
        values[:, low:] = split[both:]
        mixed = F.scaled_dot_product_attention(
            split[None, : self.heads],
            keys[None],
            values[None],
            mask,
            enable_gqa=self.heads != self.key_heads,
        )
        return mixed[0].transpose(0, 1).reshape(len(qkv), -1)
