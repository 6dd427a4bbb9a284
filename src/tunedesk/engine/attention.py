"""Causal attention over packed rows, forward and backward, as few large batched products.

Shapes: T tokens of a packed batch, n rows, H query heads over K key heads (G = H / K), D a head's width, P tokens of
the shared prefix, b queries of a block, S keys that a block may see.

Rows stand side by side, shortest first, and their queries are worked off block by block: block j of all rows that
have one is one batched product with the first P + (j + 1) b keys. Only the last block of a row is padded. What is
padded is never seen: keys behind a row's end by causality, queries because their results are left where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

QUERY_BLOCK = 64
"""Queries of a row that are worked off together."""
KEPT_SCORES = 6_000_000
"""Softmax values of one layer up to which they are kept for the way back; of more they are made again."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row lies in a packed batch: the shared prefix first, then every row's own tokens."""

    prefix: int
    """Tokens at the start that all rows share and that are computed once."""
    spans: tuple[tuple[int, int], ...]
    """(start, length) of each row's own tokens among the T, one behind the other."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries of the same place in several rows."""

    queries: slice
    """Among the rows of the query buffer, each G b x D."""
    rows: slice
    """Of the n K key buffers."""
    keys: int
    """How many keys of each are seen."""


class Grid:
    """Rows side by side: from packed tokens to batched blocks and back, for one layout and all layers.

    Buffers: queries (blocks of rows x K) x G b x D; keys and values (n K) x (P + padded length) x D.
    """

    def __init__(
        self, spans: Sequence[tuple[int, int]], prefix: int, heads: int, key_heads: int, device: torch.device
    ) -> None:
        spans = sorted(spans, key=lambda span: span[1])
        self.heads, self.key_heads, self.prefix = heads, key_heads, prefix
        longest = spans[-1][1]
        self.block = size = min(QUERY_BLOCK, longest)
        self.span = slice(min(start for start, _ in spans), max(start + length for start, length in spans))
        self.padded = prefix + -(-longest // size) * size
        starts = torch.tensor([start for start, _ in spans], device=device)
        lengths = torch.tensor([length for _, length in spans], device=device)
        own = torch.arange(self.padded - prefix, device=device)
        token = torch.where(
            own < lengths[:, None], starts[:, None] + own, starts[:, None]
        )  # n x padded length
        self.blocks = self._blocks([length for _, length in spans])
        self.query_index = self._queries(token, heads + 2 * key_heads)
        shared = torch.arange(prefix, device=device).expand(len(spans), -1)
        every = torch.cat([shared, token], 1)[:, None]  # n x 1 x (P + padded length)
        head = torch.arange(key_heads, device=device)[None, :, None]
        self.key_index = (every * (heads + 2 * key_heads) + heads + head).flatten()
        self.value_index = self.key_index + key_heads
        self.query_back = self._places_of_queries(starts, lengths)
        self.key_back = self._places_of_keys(starts, lengths)
        self.mask = torch.full((size, size), -math.inf, device=device).triu_(1)

    def _blocks(self, lengths: Sequence[int]) -> tuple[_Block, ...]:
        found, taken = [], 0
        for low in range(0, lengths[-1], self.block):
            first = next(row for row, length in enumerate(lengths) if length > low) * self.key_heads
            last = len(lengths) * self.key_heads
            queries = slice(taken, taken + last - first)
            found.append(_Block(queries, slice(first, last), self.prefix + low + self.block))
            taken = queries.stop
        return tuple(found)

    def _queries(self, token: Tensor, width: int) -> Tensor:
        """For each row of D numbers of the query buffer its row among the T x `width`."""
        groups = self.heads // self.key_heads
        head = torch.arange(self.heads, device=token.device).view(1, self.key_heads, groups, 1)
        parts = []
        for number, block in enumerate(self.blocks):
            first = block.rows.start // self.key_heads
            here = token[first:, number * self.block : (number + 1) * self.block]
            parts.append((here[:, None, None] * width + head).flatten())
        return torch.cat(parts)

    def _places_of_queries(self, starts: Tensor, lengths: Tensor) -> Tensor:
        """For each own token and head, in the packed order, its row of D numbers in the query buffer."""
        groups, size = self.heads // self.key_heads, self.block
        firsts = torch.tensor(
            [block.rows.start // self.key_heads for block in self.blocks], device=starts.device
        )
        taken = torch.tensor([block.queries.start for block in self.blocks], device=starts.device)
        row, place = self._by_token(starts, lengths)
        number = place // size
        buffer = taken[number] + (row - firsts[number]) * self.key_heads  # of its first key head
        head = torch.arange(self.heads, device=starts.device)
        at = (buffer[:, None] + head // groups) * groups + head % groups
        return (at * size + (place % size)[:, None]).flatten()

    def _places_of_keys(self, starts: Tensor, lengths: Tensor) -> Tensor:
        """For each own token and key head, in the packed order, its row of D numbers in the key buffer."""
        row, place = self._by_token(starts, lengths)
        head = torch.arange(self.key_heads, device=starts.device)
        return ((row[:, None] * self.key_heads + head) * self.padded + self.prefix + place[:, None]).flatten()

    def _by_token(self, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (row, place in it) of each own token, in the packed order."""
        row = torch.repeat_interleave(torch.arange(len(lengths), device=starts.device), lengths)
        place = torch.arange(len(row), device=starts.device) - (lengths.cumsum(0) - lengths)[row]
        order = torch.argsort(starts[row] + place)
        return row[order], place[order]

    def _parts(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Copy queries, keys and values out of the packed, rotated T x (H + 2K) x D into the buffers."""
        flat, width = qkv.view(-1, qkv.shape[-1]), qkv.shape[-1]
        query = flat.index_select(0, self.query_index)
        keys, values = (flat.index_select(0, index) for index in (self.key_index, self.value_index))
        groups = self.heads // self.key_heads
        return (
            query.view(-1, groups * self.block, width),
            keys.view(-1, self.padded, width),
            values.view(-1, self.padded, width),
        )

    def _soft(self, query: Tensor, keys: Tensor) -> Tensor:
        """Softmax of q k^T (.. x G b x S), where query i of the block sees all keys but the last b - 1 - i."""
        scores = torch.bmm(query, keys.transpose(1, 2))
        scores.view(len(keys), -1, self.block, keys.shape[1])[..., -self.block :] += self.mask.to(
            scores.dtype
        )
        return torch.softmax(scores, -1)

    def attend(self, qkv: Tensor, out: Tensor) -> list[Tensor]:
        """Write the mix of values into the own tokens of `out` (T x H x D); return the softmaxes to keep."""
        query, keys, values = self._parts(qkv)
        mixed = torch.empty_like(query)
        kept: list[Tensor] = []
        keeping = self._scores <= KEPT_SCORES
        for block in self.blocks:
            soft = self._soft(query[block.queries], keys[block.rows, : block.keys])
            torch.bmm(soft, values[block.rows, : block.keys], out=mixed[block.queries])
            if keeping:
                kept.append(soft)
        flat = mixed.view(-1, mixed.shape[-1])
        torch.index_select(flat, 0, self.query_back, out=out[self.span].view(-1, flat.shape[-1]))
        return kept

    @property
    def _scores(self) -> int:
        """How many softmax values a layer has."""
        groups = self.heads // self.key_heads
        return sum(
            (block.queries.stop - block.queries.start) * groups * self.block * block.keys
            for block in self.blocks
        )

    def backward(self, grad: Tensor, qkv: Tensor, kept: Sequence[Tensor], result: Tensor) -> None:
        """Write the own tokens' gradients of queries, keys and values into `result` (T x (H + 2K) x D).

        `grad` (T x H x D) is that of what `attend` gave. The prefix's keys and values get theirs added.
        """
        query, keys, values = self._parts(qkv)
        width = qkv.shape[-1]
        grads = torch.zeros_like(query)
        grads.view(-1, width).index_copy_(0, self.query_back, grad[self.span].reshape(-1, width))
        grad_q, grad_k, grad_v = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(values)
        for number, block in enumerate(self.blocks):
            here, seen = block.queries, (block.rows, slice(0, block.keys))
            soft = kept[number] if kept else self._soft(query[here], keys[seen])
            grad_v[seen] += torch.bmm(soft.transpose(1, 2), grads[here])
            grad_soft = torch.bmm(grads[here], values[seen].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_soft, soft, -1, soft.dtype)
            grad_k[seen] += torch.bmm(grad_scores.transpose(1, 2), query[here])
            torch.bmm(grad_scores, keys[seen], out=grad_q[here])
        own, both = result[self.span], self.heads + self.key_heads
        own[:, : self.heads] = grad_q.view(-1, width)[self.query_back].view(-1, self.heads, width)
        for part, found in ((slice(self.heads, both), grad_k), (slice(both, None), grad_v)):
            own[:, part] = found.view(-1, width)[self.key_back].view(-1, self.key_heads, width)
            if self.prefix:
                spread = found.view(-1, self.key_heads, self.padded, width)[:, :, : self.prefix]
                result[: self.prefix, part] += spread.sum(0).transpose(0, 1)


def grids(layout: Layout, heads: int, key_heads: int, device: torch.device) -> Iterator[Grid]:
    """Yield the prefix as a row of its own, then all rows."""
    if layout.prefix:
        yield Grid([(0, layout.prefix)], 0, heads, key_heads, device)
    yield Grid(layout.spans, layout.prefix, heads, key_heads, device)
