"""Which conversations say the same: exactly (but for case and spacing), or nearly, by MinHash candidates.

Candidates come from rensa's MinHash (Rust, no dependencies) in 25 bands of 5: a pair of Jaccard similarity 0.8 is
missed once in 20,000. Every candidate is then measured exactly, so that what is reported is never an estimate.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import rensa

from tunedesk.core.conversations import Row, content_text

THRESHOLD = 0.8
"""Jaccard similarity of word and word-pair sets from which two conversations count as near-duplicates."""
_BANDS, _ROWS = 25, 5
_PERMUTATIONS = _BANDS * _ROWS
_SEED = 20_261
_BATCH = 4_096
_END = 100_000
"""Characters of each end of a text that are compared: about a model's context, and bounded for a 20 MB line."""
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+"
)
"""A word; single characters in scripts that are written without spaces."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations that say nearly the same."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Conversations that are exact or near duplicates of one another, directly or by a chain."""

    members: tuple[int, ...]
    """Their places in the order they were given, ascending."""
    similarity: float
    """The smallest similarity that holds the group together; 1.0 when all are exact duplicates."""


def spoken_text(row: Row, *, prompt_only: bool = False) -> str:
    """Return what is said in `row` by all but the system, each side marked; only up to the last answer if asked."""
    messages = [m for m in _messages(row) if m.get("role") not in ("system", "developer")]
    if prompt_only:
        last = max(
            (place for place, m in enumerate(messages) if m.get("role") == "assistant"), default=len(messages)
        )
        messages = messages[:last]
    return "\n".join(f"{m.get('role')}: {_said(m)}" for m in messages)


def whole_text(row: Row) -> str:
    """Return all that `row` says, the system prompt included: what must agree in exact duplicates."""
    parts = [f"{m.get('role')}: {_said(m)}" for m in _messages(row)]
    other = row.get("non_preferred_output")
    return "\n".join([*parts, str(other) if other else ""])


def _messages(row: Row) -> list[dict[str, Any]]:
    asked = row.get("input")
    parts: list[object] = [row.get("messages"), asked.get("messages") if isinstance(asked, dict) else None]
    parts.append(row.get("preferred_output"))
    return [m for part in parts if isinstance(part, list) for m in part if isinstance(m, dict)]


def _said(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls")
    return content_text(message.get("content")) + (f" {calls}" if calls else "")


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces: what exact duplicates have in common."""
    return " ".join(text.casefold().split())


def digest(text: str) -> bytes:
    """Return 16 bytes that stand for the normalised `text`, the same on any machine."""
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shingles(text: str) -> frozenset[str]:
    """Return the words and pairs of neighbouring words of `text`, lower case; of giant texts, of both ends."""
    if len(text) > 2 * _END:
        text = f"{text[:_END]} {text[-_END:]}"
    words = _WORD.findall(text.casefold())
    return frozenset(words) | {f"{a} {b}" for a, b in pairwise(words)}


def similarity(first: str, second: str) -> float:
    """Return the Jaccard similarity of two texts' shingles, 1.0 when both are empty."""
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b) if a or b else 1.0


class Finder:
    """Collects texts one by one; then finds exact duplicates, near pairs and groups among them."""

    def __init__(self, threshold: float = THRESHOLD, *, exact_only: bool = False) -> None:
        """Start empty; pairs are near from `threshold` on, or never looked for if `exact_only`."""
        self.threshold = threshold
        self._exact_only = exact_only
        self._first: dict[bytes, int] = {}
        self._places: list[int] = []
        self._hashes = array("Q")
        self._ends = [0]
        self._waiting: list[tuple[str, ...]] = []
        self._count = 0
        self.exact: list[tuple[int, int]] = []
        """(first, later) places of exact duplicates."""

    def add(self, text: str, identity: str | None = None) -> int | None:
        """Take the next text; return the place of its first exact duplicate, or None when it is new.

        `identity` is what must be the same in exact duplicates (but for case and spacing); by itself, the text.
        """
        place = self._count
        self._count += 1
        first = self._first.setdefault(digest(text if identity is None else identity), place)
        if first != place:
            self.exact.append((first, place))
            return first
        if self._exact_only:
            return None
        self._places.append(place)
        self._waiting.append(tuple(shingles(text)))
        if len(self._waiting) >= _BATCH:
            self._hash_waiting()
        return None

    def _hash_waiting(self) -> None:
        for hashes in rensa.RMinHash.hash_token_sets(self._waiting):
            self._hashes.extend(sorted(set(hashes)))
            self._ends.append(len(self._hashes))
        self._waiting.clear()

    def near(self) -> Iterator[Pair]:
        """Yield each pair of distinct texts that are near, but for pairs already joined by a chain of others."""
        self._hash_waiting()
        parents = list(range(len(self._places)))
        for bucket in self._buckets():
            for place, second in enumerate(bucket):
                mine: frozenset[int] | None = None
                for first in bucket[:place]:
                    if _root(parents, first) == _root(parents, second):
                        continue
                    mine = self._set(second) if mine is None else mine
                    measured = self._measure(first, mine)
                    if measured >= self.threshold:
                        parents[_root(parents, second)] = _root(parents, first)
                        yield Pair(self._places[first], self._places[second], measured)

    def _measure(self, first: int, mine: frozenset[int]) -> float:
        size = self._ends[first + 1] - self._ends[first]
        if not size or not mine or min(size, len(mine)) < self.threshold * max(size, len(mine)):
            return 0.0
        shared = len(mine.intersection(self._hashes[self._ends[first] : self._ends[first + 1]]))
        return shared / (size + len(mine) - shared)

    def _set(self, place: int) -> frozenset[int]:
        return frozenset(self._hashes[self._ends[place] : self._ends[place + 1]])

    def _buckets(self) -> Iterator[list[int]]:
        """Yield, band by band, the texts whose sketches agree in that band."""
        sketches = array("I")
        for start in range(0, len(self._places), _BATCH):
            stop = min(start + _BATCH, len(self._places))
            sets = [self._hashes[self._ends[i] : self._ends[i + 1]] for i in range(start, stop)]
            matrix = rensa.RMinHash.digest_matrix_from_token_hash_sets(
                sets, num_perm=_PERMUTATIONS, seed=_SEED
            )
            for sketch in matrix.to_rows():
                sketches.extend(sketch)
        raw, width = sketches.tobytes(), _ROWS * sketches.itemsize
        for band in range(_BANDS):
            met: dict[bytes, int] = {}
            buckets: dict[int, list[int]] = {}
            for place in range(len(self._places)):
                at = (place * _BANDS + band) * width
                first = met.setdefault(raw[at : at + width], place)
                if first != place:
                    buckets.setdefault(first, [first]).append(place)
            yield from buckets.values()

    def groups(self) -> list[Group]:
        """Return all groups of exact and near duplicates, ordered by their first member."""
        pairs = [Pair(first, later, 1.0) for first, later in self.exact]
        return grouped((*pairs, *self.near()), self._count)


def grouped(pairs: Iterable[Pair], count: int) -> list[Group]:
    """Return the groups that `pairs` join among `count` places, ordered by their first member."""
    parents = list(range(count))
    kept = list(pairs)
    for pair in kept:
        low, high = sorted((_root(parents, pair.first), _root(parents, pair.second)))
        parents[high] = low
    members: dict[int, list[int]] = {}
    weakest: dict[int, float] = {}
    for pair in kept:
        root = _root(parents, pair.first)
        weakest[root] = min(weakest.get(root, 1.0), pair.similarity)
    for place in range(count):
        if (root := _root(parents, place)) in weakest:
            members.setdefault(root, []).append(place)
    return [Group(tuple(places), weakest[root]) for root, places in members.items()]


def find(rows: Iterable[Row], threshold: float = THRESHOLD) -> list[Group]:
    """Return the groups of exact and near duplicates among `rows`, by what is said in them."""
    finder = Finder(threshold)
    for row in rows:
        finder.add(spoken_text(row), whole_text(row))
    return finder.groups()


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place
