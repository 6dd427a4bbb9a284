"""Several conversations read by one model at once: who waits for a token joins the next pass over the weights.

Writing a token is reading all weights for one row of numbers; for a few rows it takes hardly longer. So each stream
hands in what it has read next and sleeps; one of the waiting threads takes all that is there and has the pass done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tunedesk.engine.fast_llama import Cache, FastLlama, Stacked, Stretch

PATIENCE_S = 0.003
"""How long a pass waits for the other streams to hand in their next token."""
KEPT_CACHES = 6
"""Conversations whose keys and values are kept, so that their next turn reads only what is new."""
_KEPT_TOKENS = 8192


Picked = tuple[int, dict[str, Any] | None]
"""The token chosen by its logits, and what is told of its chance."""
Pick = Callable[[Tensor], Picked]
"""Chooses the next token by its logits (V)."""
Read = Callable[[Tensor, Pick], Picked]
"""Reads more ids of one conversation and has the next token chosen."""


class _Order:
    """What a stream wants read, and the token that came of it."""

    def __init__(self, stretch: Stretch, pick: Pick) -> None:
        self.stretch = stretch
        self.pick = pick
        self.picked: Picked | None = None
        self.error: RuntimeError | None = None

    @property
    def done(self) -> bool:
        return self.picked is not None or self.error is not None


@dataclass(slots=True)
class _Past:
    ids: list[int]
    cache: Cache
    lora: Stacked


class Streams:
    """The open conversations of one model."""

    def __init__(self, llama: FastLlama, multiplier: ThreadPoolExecutor) -> None:
        """`multiplier` is the one thread in which the passes are done, and tokens chosen."""
        self._llama = llama
        self._multiplier = multiplier
        self._change = threading.Condition()
        self._orders: list[_Order] = []
        self._open = 0
        self._reading = False
        self._pasts: list[_Past] = []

    @contextmanager
    def opened(self, capacity: int, lora: Stacked) -> Iterator[Read]:
        """Open a conversation of up to `capacity` tokens: a function from further ids to the next token.

        The first ids may begin as an earlier conversation did; those are not read again.
        """
        past = _Past([], self._multiplier.submit(self._llama.new_cache, capacity).result(), lora)

        def read(ids: Tensor, pick: Pick) -> Picked:
            known = 0 if past.ids else self._multiplier.submit(self._known, ids.tolist(), past).result()
            picked = self._read(Stretch(ids[known:], past.cache, lora), pick)
            past.ids += ids.tolist()
            return picked

        with self._change:
            self._open += 1
        try:
            yield read
        finally:
            with self._change:
                self._open -= 1
                self._keep(past)
                self._change.notify_all()

    def _known(self, ids: Sequence[int], fresh: _Past) -> int:
        """Copy what an earlier conversation with the same adapter has read of `ids`, all but the last at most."""
        with self._change:
            same = [past for past in self._pasts if past.lora is fresh.lora]
            found = [(_agreement(past.ids, ids[:-1]), past) for past in same]
        known, best = max(found, key=lambda pair: pair[0], default=(0, fresh))
        if known:
            fresh.cache.copy(best.cache, known)
        return known

    def _keep(self, past: _Past) -> None:
        self._pasts = [old for old in self._pasts if old.ids != past.ids or old.lora is not past.lora]
        if 0 < len(past.ids) <= _KEPT_TOKENS // KEPT_CACHES:
            self._pasts = [*self._pasts, past][-KEPT_CACHES:]

    def _read(self, stretch: Stretch, pick: Pick) -> Picked:
        """Read with the others; returns when the token is chosen. Raises RuntimeError as the library does."""
        order = _Order(stretch, pick)
        with self._change:
            self._orders.append(order)
            self._change.notify_all()
            while not order.done:
                if self._reading:
                    self._change.wait()
                    continue
                self._reading = True
                self._change.wait_for(lambda: len(self._orders) >= self._open, PATIENCE_S)
                taken, self._orders = self._orders, []
                self._change.release()
                try:
                    self._multiplier.submit(self._pass, taken).result()
                finally:
                    self._change.acquire()
                    self._reading = False
                    self._change.notify_all()
        if order.picked is None:
            raise order.error or RuntimeError("the pass over the weights was broken off")
        return order.picked

    def _pass(self, orders: Sequence[_Order]) -> None:
        try:
            found = self._llama.read([order.stretch for order in orders])
            for order, logits in zip(orders, found, strict=True):
                order.picked = order.pick(logits)
        except RuntimeError as error:
            for order in orders:
                order.error = error


def _agreement(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the ids at the start that both share."""
    short = min(len(left), len(right))
    if list(left[:short]) == list(right[:short]):
        return short
    return next(n for n in range(short) if left[n] != right[n])
