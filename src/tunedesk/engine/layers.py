"""The parts of a Llama layer with hand-written gradients: fewer passes over memory, and less kept for the way back.

Shapes: T tokens of a packed batch, n rows, L tokens of a row, H query heads over K key heads (G = H / K),
D a head's width, r a LoRA rank, V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

QUERY_BLOCK = 128
"""Queries that are worked off together; each block meets only the keys that come before its end."""
KEPT_QUERIES = 512
"""Own tokens up to which a row's softmax is kept for the way back; of longer rows it is made again."""
HEAD_BLOCK = 128
"""Trained positions whose logits over the whole vocabulary exist at a time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row lies in a packed batch: the shared prefix first, then every row's own tokens."""

    prefix: int
    """Tokens at the start that all rows share and that are computed once."""
    spans: tuple[tuple[int, int], ...]
    """(start, length) of each row's own tokens among the T."""

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Yield (start, own tokens, tokens of the prefix before them): first the prefix itself, then every row."""
        if self.prefix:
            yield 0, self.prefix, 0
        for start, length in self.spans:
            yield start, length, self.prefix


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
        value = split[:, heads + key_heads :].contiguous()
        out = torch.empty_like(split[:, :heads])
        softs: list[Tensor] = []
        for start, length, shared in layout.rows():
            q, k, v = _row(turned, value, start, length, shared, heads)
            mixed, kept = _attend(q, k, v, shared)
            out[start : start + length] = mixed
            softs += kept
        ctx.save_for_backward(cos, sin, turned, value, *softs)
        ctx.layout, ctx.heads = layout, heads
        return out.view(qkv.shape[0], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, turned, value, *softs = ctx.saved_tensors
        heads, key_heads = ctx.heads, value.shape[1]
        grad_out = grads[0].view(grads[0].shape[0], heads, -1)
        result = grad_out.new_zeros(grad_out.shape[0], heads + 2 * key_heads, grad_out.shape[-1])
        parts = (slice(0, heads), slice(heads, heads + key_heads), slice(heads + key_heads, None))
        taken = 0
        for start, length, shared in ctx.layout.rows():
            q, k, v = _row(turned, value, start, length, shared, heads)
            blocks = softs[taken : taken + _kept_blocks(length)]
            taken += len(blocks)
            found = _attend_backward(grad_out[start : start + length], q, k, v, blocks, shared)
            for part, grad in zip(parts, found, strict=True):
                result[start : start + length, part] += grad[-length:]
                if shared and len(grad) > length:
                    result[:shared, part] += grad[:shared]
        result[:, :heads] *= result.shape[-1] ** -0.5
        both = heads + key_heads
        result[:, :both] = rotate(result[:, :both], cos, -sin)
        return result.view(grad_out.shape[0], -1), None, None, None, None, None


def _row(
    turned: Tensor, value: Tensor, start: int, length: int, shared: int, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return one row's queries (K x G x L x D), and its keys and values (K x (prefix + L) x D)."""
    key_heads = value.shape[1]
    own = slice(start, start + length)
    query = turned[own, :heads].transpose(0, 1).reshape(key_heads, heads // key_heads, length, -1)
    key, values = turned[own, heads:], value[own]
    if shared:
        key, values = torch.cat([turned[:shared, heads:], key]), torch.cat([value[:shared], values])
    return query, key.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous()


def _kept_blocks(length: int) -> int:
    """Return how many blocks of softmax are kept for the way back: none of a row so long that they are made again."""
    return -(-length // QUERY_BLOCK) if length <= KEPT_QUERIES else 0


def _scores(query: Tensor, keys: Tensor, block: int) -> Tensor:
    """Softmax of q k^T (K x G b x keys), where query i of the block sees all keys but the last block - 1 - i."""
    scores = torch.bmm(query, keys.transpose(1, 2))
    mask = torch.full((block, block), -math.inf, dtype=query.dtype, device=query.device).triu_(1)
    scores.view(keys.shape[0], -1, block, keys.shape[1])[..., -block:] += mask
    return torch.softmax(scores, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, offset: int) -> tuple[Tensor, list[Tensor]]:
    """Attention of q (K x G x L x D) over k, v (K x (offset + L) x D): the mix (L x H x D), and the softmax kept.

    Queries go block by block, so that no block is multiplied with keys that all of it may not see.
    """
    key_heads, groups, length, width = q.shape
    mixed = torch.empty_like(q)
    kept: list[Tensor] = []
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        seen = offset + high
        soft = _scores(q[:, :, low:high].flatten(1, 2), k[:, :seen], high - low)
        mixed[:, :, low:high] = torch.bmm(soft, v[:, :seen]).view(key_heads, groups, high - low, width)
        if length <= KEPT_QUERIES:
            kept.append(soft)
    return mixed.flatten(0, 1).transpose(0, 1), kept


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], offset: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries (L x H x D), keys and values ((offset + L) x K x D) of one row."""
    key_heads, groups, length, width = q.shape
    grads = grad.transpose(0, 1).reshape(q.shape)
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for number, low in enumerate(range(0, length, QUERY_BLOCK)):
        high = min(low + QUERY_BLOCK, length)
        seen = offset + high
        query, grad_block = (part[:, :, low:high].flatten(1, 2) for part in (q, grads))
        soft = kept[number] if kept else _scores(query, k[:, :seen], high - low)
        grad_v[:, :seen] += torch.bmm(soft.transpose(1, 2), grad_block)
        grad_soft = torch.bmm(grad_block, v[:, :seen].transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_soft, soft, -1, soft.dtype)
        grad_k[:, :seen] += torch.bmm(grad_scores.transpose(1, 2), query)
        grad_q[:, :, low:high] = torch.bmm(grad_scores, k[:, :seen]).view(key_heads, groups, -1, width)
    return grad_q.flatten(0, 1).transpose(0, 1), grad_k.transpose(0, 1), grad_v.transpose(0, 1)


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
