"""The parts of a Llama layer with hand-written gradients: fewer passes over memory, and less kept for the way back.

Shapes: T tokens of a packed batch, d the model's width, f the inner width, H query heads over K key heads, D a head's
width, r a LoRA rank, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from tunedesk.engine.attention import Grid

HEAD_BLOCK = 128
"""Trained positions whose logits over the whole vocabulary exist at a time."""

Pair = tuple[Tensor, Tensor]
"""A (r x in) and B (out x r, the scale within) that are added to a linear, in the model's type."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A frozen linear: the weight out x in, and a bias."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, lora: Pair | None) -> Tensor:
        """Return x W^T + bias + x A^T B^T, without gradients."""
        return self.run(x, lora)[0]

    def run(self, x: Tensor, lora: Pair | None, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (x W^T + bias + x A^T B^T, added to `onto`; x A^T, which `back` needs)."""
        if onto is None:
            y = F.linear(x, self.weight, self.bias)
        else:
            y = torch.addmm(onto, x, self.weight.t())
            if self.bias is not None:
                y += self.bias
        if lora is None:
            return y, x.new_empty(0)
        low = x @ lora[0].t()
        return y.addmm_(low, lora[1].t()), low

    def back(
        self, grad: Tensor, x: Tensor, low: Tensor, lora: Pair | None, *, into_x: bool = True
    ) -> Gradients:
        """Return the gradients of x (if wanted), A and B, given that of the result."""
        if lora is None:
            return (grad @ self.weight if into_x else None), None, None
        grad_low = grad @ lora[1]
        grad_x = (grad @ self.weight).addmm_(grad_low, lora[0]) if into_x else None
        return grad_x, grad_low.t() @ x, grad.t() @ low


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class Norm:
    """Scale each token to unit root mean square, then by a frozen weight (d)."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return the scaled tokens, without gradients."""
        return F.rms_norm(x, tuple(self.weight.shape), self.weight, self.eps)

    def unit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of unit root mean square, and what each was multiplied by (T x 1)."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        inverse = square.div_(x.shape[-1]).add_(self.eps).rsqrt_().to(x.dtype)
        return x * inverse, inverse

    def back(self, grad: Tensor, unit: Tensor, inverse: Tensor, onto: Tensor) -> Tensor:
        """Return `onto` plus the gradient of x, given that of the scaled tokens, which is overwritten."""
        grad.mul_(self.weight)
        along = (grad * unit).mean(-1, keepdim=True)
        return grad.addcmul_(unit, along, value=-1).mul_(inverse).add_(onto)


@dataclass(frozen=True, slots=True)
class Layer:
    """The frozen weights of one layer; linears that read the same are one."""

    norm_in: Norm
    qkv: Linear
    out: Linear
    norm_mid: Norm
    gate_up: Linear
    down: Linear


Turn = tuple[Tensor, Tensor]
"""cos and sin of each token's position, T x 1 x D/2."""


def rotate(x: Tensor, turn: Turn, scale: float = 1.0, *, back: bool = False) -> None:
    """Turn each pair (x[i], x[i + D/2]) of x (T x heads x D) by its position's angle, in place, and scale it."""
    cos, sin = (part * scale for part in turn) if scale != 1.0 else turn
    low, high = x.chunk(2, -1)
    before = low.clone()
    sign = 1 if back else -1
    low.mul_(cos).addcmul_(high, sin, value=sign)
    high.mul_(cos).addcmul_(before, sin, value=-sign)


@dataclass(frozen=True, slots=True)
class Packing:
    """What the attention of all layers needs to know of a packed batch."""

    turn: Turn
    grids: Sequence[Grid]
    heads: int
    key_heads: int

    def turned(self, x: Tensor, *, back: bool = False) -> None:
        """Rotate the queries (and scale them by D^-1/2) and the keys of x (T x (H + 2K) x D), in place."""
        rotate(x[:, : self.heads], self.turn, x.shape[-1] ** -0.5, back=back)
        rotate(x[:, self.heads : self.heads + self.key_heads], self.turn, back=back)


def attention(x: Tensor, layer: Layer, packing: Packing, qkv: Pair | None, out: Pair | None) -> Tensor:
    """Return x (T x d) plus its attention; `qkv` and `out` are the low-rank matrices of those linears."""
    result: Tensor = _Attention.apply(x, *_split(qkv), *_split(out), layer, packing)  # type: ignore[no-untyped-call]
    return result


def feed_forward(x: Tensor, layer: Layer, gate_up: Pair | None, down: Pair | None) -> Tensor:
    """Return x (T x d) plus down(silu(gate) * up) of it."""
    result: Tensor = _FeedForward.apply(x, *_split(gate_up), *_split(down), layer)  # type: ignore[no-untyped-call]
    return result


def _split(pair: Pair | None) -> tuple[Tensor | None, Tensor | None]:
    return pair if pair is not None else (None, None)


def _joined(a: Tensor | None, b: Tensor | None) -> Pair | None:
    return None if a is None or b is None else (a, b)


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        *matrices, layer, packing = rest
        first, second = _joined(*matrices[:2]), _joined(*matrices[2:])
        unit, inverse = layer.norm_in.unit(x)
        qkv, low = layer.qkv.run(unit * layer.norm_in.weight, first)
        result: Tensor
        split = qkv.view(len(x), packing.heads + 2 * packing.key_heads, -1)
        packing.turned(split)
        mixed = split.new_empty(len(x), packing.heads, split.shape[-1])
        kept = [grid.attend(split, mixed) for grid in packing.grids]
        result, low_out = layer.out.run(mixed.view(len(x), -1), second, onto=x)
        softs = [soft for each in kept for soft in each]
        ctx.save_for_backward(unit, inverse, low, qkv, mixed, low_out, *matrices, *softs)
        ctx.layer, ctx.packing, ctx.counts = layer, packing, [len(each) for each in kept]
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, low, qkv, mixed, low_out, *rest = ctx.saved_tensors
        first, second, softs = _joined(*rest[:2]), _joined(*rest[2:4]), rest[4:]
        layer, packing, (grad,) = ctx.layer, ctx.packing, grads
        grad_mixed, *of_out = layer.out.back(grad, mixed.view(len(grad), -1), low_out, second)
        split = qkv.view(len(grad), packing.heads + 2 * packing.key_heads, -1)
        grad_split = torch.empty_like(split)
        for grid, count in zip(packing.grids, ctx.counts, strict=True):
            grid.backward(grad_mixed.view(mixed.shape), split, softs[:count], grad_split)
            softs = softs[count:]
        packing.turned(grad_split, back=True)
        normed, wanted = unit * layer.norm_in.weight, ctx.needs_input_grad[0]
        grad_normed, *of_qkv = layer.qkv.back(grad_split.view(qkv.shape), normed, low, first, into_x=wanted)
        grad_x = layer.norm_in.back(grad_normed, unit, inverse, grad) if wanted else None
        return grad_x, *of_qkv, *of_out, None, None


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        *matrices, layer = rest
        first, second = _joined(*matrices[:2]), _joined(*matrices[2:])
        result: Tensor
        unit, inverse = layer.norm_mid.unit(x)
        gate_up, low = layer.gate_up.run(unit * layer.norm_mid.weight, first)
        result, low_down = layer.down.run(swiglu(gate_up), second, onto=x)
        ctx.save_for_backward(unit, inverse, low, gate_up, low_down, *matrices)
        ctx.layer = layer
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, low, gate_up, low_down, *rest = ctx.saved_tensors
        first, second = _joined(*rest[:2]), _joined(*rest[2:])
        layer, (grad,) = ctx.layer, grads
        gate, up = gate_up.chunk(2, -1)
        active = F.silu(gate)
        grad_inner, *of_down = layer.down.back(grad, active * up, low_down, second)
        both = torch.empty_like(gate_up)
        grad_gate, grad_up = both.chunk(2, -1)
        torch.mul(grad_inner, active, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad_inner.mul_(up), gate, grad_input=grad_gate)
        normed = unit * layer.norm_mid.weight
        grad_normed, *of_gate_up = layer.gate_up.back(both, normed, low, first)
        return layer.norm_mid.back(grad_normed, unit, inverse, grad), *of_gate_up, *of_down, None


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up of the two halves of `gate_up` (T x 2f), without gradients."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate).mul_(up)


def final_norm(x: Tensor, norm: Norm) -> Tensor:
    """Return the scaled tokens of x (m x d), with gradients."""
    result: Tensor = _FinalNorm.apply(x, norm)  # type: ignore[no-untyped-call]
    return result


class _FinalNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Norm) -> Tensor:
        unit, inverse = norm.unit(x)
        ctx.save_for_backward(unit, inverse)
        ctx.norm = norm
        return unit * norm.weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse = ctx.saved_tensors
        return ctx.norm.back(grads[0].clone(), unit, inverse, torch.zeros_like(unit)), None


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihoods of `labels` (m) under hidden (m x d) times weight^T (V x d, frozen).

    Returns (each label's loss, f32, differentiable; whether no token was likelier). Logits exist for HEAD_BLOCK
    positions at a time, forward and backward in one pass: a loss depends on its own position alone, so its gradient
    is known up to the factor that the way back brings.
    """
    nll, hit = _HeadLoss.apply(hidden, weight, labels, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return nll, hit


class _HeadLoss(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, backward: bool
    ) -> tuple[Tensor, Tensor]:
        nll = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        hit = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
        grad = torch.empty_like(hidden) if backward else None
        for low in range(0, len(labels), HEAD_BLOCK):
            part = slice(low, low + HEAD_BLOCK)
            wanted = labels[part, None]
            logits = (hidden[part] @ weight.t()).float()
            top = logits.amax(-1, keepdim=True)
            below = logits.gather(1, wanted).sub_(top)
            hit[part] = below[:, 0] == 0
            shares = logits.sub_(top).exp_()
            total = shares.sum(-1, keepdim=True)
            nll[part] = (total.log() - below)[:, 0]
            if (
                grad is not None
            ):  # d nll / d hidden = sum of the rows of W, each by its share, less the label's
                mean = (shares.to(hidden.dtype) @ weight).div_(total)
                grad[part] = mean.sub_(weight[labels[part]])
        if grad is not None:
            ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(hit)
        return nll, hit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (unit,) = ctx.saved_tensors
        return unit * grads[0][:, None].to(unit.dtype), None, None, None
