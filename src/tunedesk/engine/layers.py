"""The parts of a Llama layer with hand-written gradients: fewer passes over memory, and less kept for the way back.

Shapes: T tokens of a packed batch, n rows, L tokens of a row, H query heads over K key heads (G = H / K),
D a head's width, r a LoRA rank, V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

QUERY_BLOCK = 512
"""Queries whose scores exist at a time. Longer rows are worked off block by block, their scores made again backward."""
HEAD_BLOCK = 128
"""Trained positions whose logits over the whole vocabulary exist at a time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row lies in a packed batch: the shared prefix first, then every row's own tokens."""

    prefix: int
    """Tokens at the start that all rows share and that are computed once."""
    spans: tuple[tuple[int, int], ...]
    """(start, length) of each row's own tokens among the T."""

    @property
    def longest(self) -> int:
        """Own tokens of the longest row."""
        return max(length for _, length in self.spans)


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, lora: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return x W^T + bias, plus x A^T B^T where `lora` = (A: r x in, B: out x r, its scale within)."""
    if lora is None:
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        plain: Tensor = F.linear(x, weight, bias)
        return plain.addmm_(x @ lora[0].t(), lora[1].t())
    result: Tensor = _LoraLinear.apply(x, weight, bias, *lora)  # type: ignore[no-untyped-call]
    return result


class _LoraLinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        low = x @ a.t()
        ctx.save_for_backward(x, low, weight, a, b)
        return F.linear(x, weight, bias).addmm_(low, b.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, low, weight, a, b = ctx.saved_tensors
        grad_low = grad @ b
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, a)
        return grad_x, None, None, grad_low.t() @ x, grad.t() @ low


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale each token of `x` to unit root mean square, then by `weight` (frozen)."""
    if not torch.is_grad_enabled():
        return F.rms_norm(x, tuple(weight.shape), weight, eps)
    result: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
        unit: Tensor = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, weight = ctx.saved_tensors
        grad = grads[0] * weight
        along = (grad * unit).mean(-1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1).mul_(inverse), None, None


def swiglu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up of the two halves of `gate_up` (T x 2f)."""
    if not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, -1)
        inferred: Tensor = F.silu(gate).mul_(up)
        return inferred
    result: Tensor = _SwiGlu.apply(gate_up)  # type: ignore[no-untyped-call]
    return result


class _SwiGlu(Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        result = torch.empty_like(gate_up)
        grad_gate, grad_up = result.chunk(2, -1)
        torch.mul(grads[0], F.silu(gate), out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grads[0] * up, gate))
        return result


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) of x (T x heads x D) by its position's angle; the inverse takes -sin."""
    half = x.shape[-1] // 2
    result = x * cos
    result[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    result[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return result


def packed_attention(
    qkv: Tensor, cos: Tensor, sin: Tensor, layout: Layout, heads: int, key_heads: int
) -> Tensor:
    """Causal attention within each row of a packed batch; no row sees another.

    qkv is T x (H + 2K) D before rotation, cos and sin T x 1 x D; the result T x H D.
    """
    result: Tensor = _PackedAttention.apply(qkv, cos, sin, layout, heads, key_heads)  # type: ignore[no-untyped-call]
    return result


class _PackedAttention(Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, layout: Layout, heads: int, key_heads: int
    ) -> Tensor:
        split = qkv.view(qkv.shape[0], heads + 2 * key_heads, -1)  # T x (H + 2K) x D
        turned = rotate(split[:, : heads + key_heads], cos, sin)
        turned[:, :heads] *= split.shape[-1] ** -0.5
        query, key, value = turned[:, :heads], turned[:, heads:], split[:, heads + key_heads :]
        shared, out = layout.prefix, torch.empty_like(split[:, :heads])
        saved: list[Tensor] = []
        if shared:
            q, k, v = (part[None, :shared].transpose(1, 2).contiguous() for part in (query, key, value))
            mixed, weights = _attend(q, k, v, 0)
            out[:shared] = mixed[0].transpose(0, 1)
            saved += [q, k, v, weights]
        q, k, v = _unpack(query, layout, 0), _unpack(key, layout, shared), _unpack(value, layout, shared)
        mixed, weights = _attend(q, k, v, shared)
        for row, (start, length) in enumerate(layout.spans):
            out[start : start + length] = mixed[row, :, :length].transpose(0, 1)
        ctx.save_for_backward(cos, sin, *saved, q, k, v, weights)
        ctx.layout, ctx.heads, ctx.key_heads = layout, heads, key_heads
        return out.view(qkv.shape[0], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layout, heads, key_heads = ctx.layout, ctx.heads, ctx.key_heads
        cos, sin, *saved = ctx.saved_tensors
        shared = layout.prefix
        grad_out = grads[0].view(grads[0].shape[0], heads, -1)
        result = grad_out.new_empty(grad_out.shape[0], heads + 2 * key_heads, grad_out.shape[-1])
        parts = (slice(0, heads), slice(heads, heads + key_heads), slice(heads + key_heads, None))
        if shared:
            first = grad_out[None, :shared].transpose(1, 2).contiguous()
            for part, grad in zip(parts, _attend_backward(first, saved[:4], 0), strict=True):
                result[:shared, part] = grad[0].transpose(0, 1)
        rows = _attend_backward(_unpack(grad_out, layout, 0), saved[-4:], shared)
        for index, (part, grad) in enumerate(zip(parts, rows, strict=True)):
            skip = shared if index else 0  # queries hold own tokens only; keys and values the prefix too
            for row, (start, length) in enumerate(layout.spans):
                result[start : start + length, part] = grad[row, :, skip : skip + length].transpose(0, 1)
            if skip:
                result[:skip, part] += grad[:, :, :skip].sum(0).transpose(0, 1)
        result[:, :heads] *= result.shape[-1] ** -0.5
        turned = heads + key_heads
        result[:, :turned] = rotate(result[:, :turned], cos, -sin)
        return result.view(grad_out.shape[0], -1), None, None, None, None, None


def _unpack(packed: Tensor, layout: Layout, prefix: int) -> Tensor:
    """Lay the rows of T x heads x D side by side as n x heads x (prefix + longest) x D, zeros after their ends."""
    rows = packed.new_zeros(len(layout.spans), packed.shape[1], prefix + layout.longest, packed.shape[2])
    if prefix:
        rows[:, :, :prefix] = packed[:prefix].transpose(0, 1)
    for row, (start, length) in enumerate(layout.spans):
        rows[row, :, prefix : prefix + length] = packed[start : start + length].transpose(0, 1)
    return rows


def _scores(q: Tensor, k: Tensor, groups: int, offset: int) -> Tensor:
    """Softmax of q k^T (nK x G b x keys) where query i of the block may see keys up to offset + i."""
    block = q.shape[1] // groups
    scores = torch.bmm(q, k.transpose(1, 2)).view(q.shape[0], groups, block, -1)
    scores[..., offset:] += torch.full((block, block), -math.inf, dtype=q.dtype, device=q.device).triu_(1)
    return torch.softmax(scores, -1).view(q.shape[0], groups * block, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """Attention of q (n x H x L x D) over k, v (n x K x (offset + L) x D), as batched products per key head.

    Returns the mix and, when all fits one block, the softmax for the way back (else an empty tensor).
    """
    n, heads, length, width = q.shape
    pairs, groups = n * k.shape[1], heads // k.shape[1]
    queries, keys, values = q.view(pairs, groups, length, width), k.flatten(0, 1), v.flatten(0, 1)
    mixed, weights = torch.empty_like(queries), q.new_empty(0)
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        seen = offset + high
        weights = _scores(queries[:, :, low:high].flatten(1, 2), keys[:, :seen], groups, offset + low)
        mixed[:, :, low:high] = torch.bmm(weights, values[:, :seen]).view(pairs, groups, high - low, width)
    return mixed.view(q.shape), weights if length <= QUERY_BLOCK else q.new_empty(0)


def _attend_backward(grad: Tensor, saved: Sequence[Tensor], offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v; `saved` is (q, k, v, the softmax or an empty tensor)."""
    q, k, v, weights = saved
    n, heads, length, width = q.shape
    pairs, groups = n * k.shape[1], heads // k.shape[1]
    grads, queries = (part.reshape(pairs, groups, length, width) for part in (grad, q))
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    grad_q, grad_k, grad_v = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        seen = offset + high
        query, grad_block = (part[:, :, low:high].flatten(1, 2) for part in (queries, grads))
        soft = weights if weights.numel() else _scores(query, keys[:, :seen], groups, offset + low)
        grad_v[:, :seen] += torch.bmm(soft.transpose(1, 2), grad_block)
        grad_soft = torch.bmm(grad_block, values[:, :seen].transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_soft, soft, -1, soft.dtype)
        grad_k[:, :seen] += torch.bmm(grad_scores.transpose(1, 2), query)
        grad_q[:, :, low:high] = torch.bmm(grad_scores, keys[:, :seen]).view(pairs, groups, -1, width)
    return grad_q.view(q.shape), grad_k.view(k.shape), grad_v.view(v.shape)


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihoods of `labels` (m) under hidden (m x d) times weight^T (V x d, frozen).

    Returns (each label's loss, f32, differentiable; whether it was the likeliest token). Logits exist for
    HEAD_BLOCK positions at a time, forward and backward in one pass: a loss depends on its own position alone, so
    its gradient is known up to the factor that the way back brings.
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
            norm = torch.logsumexp(logits, -1, keepdim=True)
            nll[part] = (norm - logits.gather(1, wanted))[:, 0]
            hit[part] = logits.argmax(-1) == labels[part]
            if grad is not None:
                soft = logits.sub_(norm).exp_()
                soft.scatter_add_(1, wanted, soft.new_full(wanted.shape, -1.0))
                grad[part] = soft.to(hidden.dtype) @ weight
        if grad is not None:
            ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(hit)
        return nll, hit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (unit,) = ctx.saved_tensors
        return unit * grads[0][:, None].to(unit.dtype), None, None, None
