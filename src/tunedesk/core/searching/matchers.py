"""What a text is held against, and the answers for texts that many rows share."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

import polars as pl

from tunedesk.core.datasets.dataset import Chunk, Dataset
from tunedesk.core.datasets.indexing import TEXT_ROLES


class Matcher(Protocol):
    """A literal or a pattern."""

    @property
    def matches_empty(self) -> bool:
        """Whether a message without text matches."""

    def contains(
        self, texts: pl.Series, wide: Callable[[], pl.Series], cancelled: Callable[[], bool], role: str = ""
    ) -> pl.Series:
        """Return a mask of the texts of a role that match; `wide` tells which hold characters beyond ASCII."""


class Literal:
    """A folded text met anywhere."""

    matches_empty = False

    def __init__(self, needle: str) -> None:
        self.needle = needle

    def contains(
        self, texts: pl.Series, wide: Callable[[], pl.Series], cancelled: Callable[[], bool], role: str = ""
    ) -> pl.Series:
        """Return a mask of the texts that hold the needle; a needle beyond ASCII passes over ASCII texts."""
        if not self.needle.isascii() and not wide().any():
            return pl.zeros(len(texts), dtype=pl.Boolean, eager=True)
        return texts.str.contains(self.needle, literal=True)


class SharedMasks:
    """The answers of one search for the texts that rows share (shared_texts.py): each is looked at once.

    Two threads take the chunks in order: who needs the answer of an earlier chunk waits for it, or gives it himself.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._places = {chunk.start: number for number, chunk in enumerate(dataset.chunks)}
        self._known: dict[tuple[str, Matcher], list[pl.Series]] = {}
        self._shared = dict(dataset.shared)
        self._locks = {role: Lock() for role in self._shared}

    def mask(
        self, chunk: Chunk, role: str, matcher: Matcher, wanted: int, cancelled: Callable[[], bool]
    ) -> pl.Series | None:
        """Return which rows of the chunk match by their text of a role; None where another way is as good.

        That is where nothing is shared, or where fewer rows are `wanted` than there are texts to look at.
        """
        shared = self._shared.get(role)
        if shared is None or chunk.indexes is not None or self._places[chunk.start] >= len(shared.fresh):
            return None
        number = self._places[chunk.start]
        with self._locks[role]:
            known = self._known.setdefault((role, matcher), [])
            if sum(map(len, shared.fresh[len(known) : number + 1])) > wanted:
                return None
            while len(known) <= number:
                known.append(self._fresh(len(known), role, matcher, cancelled))
            return pl.concat(known).gather(shared.numbers[number])

    def _fresh(self, number: int, role: str, matcher: Matcher, cancelled: Callable[[], bool]) -> pl.Series:
        """Return which of the texts that are met first in a chunk match."""
        chunk, places = self._dataset.chunks[number], self._shared[role].fresh[number]
        flags = chunk.columns["flags"]
        return matcher.contains(
            chunk.texts[role].gather(places),
            lambda: (flags.gather(places) & TEXT_ROLES[role]) > 0,
            cancelled,
            role,
        )
