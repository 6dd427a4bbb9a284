"""Which conversations say the same: exactly (but for case and spacing), or nearly, by MinHash candidates.

Candidates come from rensa's MinHash (Rust, no dependencies) in 25 bands of 5: a pair of Jaccard similarity 0.8 is
missed once in 20,000. Every candidate is then measured exactly, so that what is reported is never an estimate.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

import polars as pl
import rensa

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.datasets.arrow_parts import buffer_series

THRESHOLD = 0.8
"""Jaccard similarity of word and word-pair sets from which two conversations count as near-duplicates."""
_BANDS, _ROWS = 25, 5
_PERMUTATIONS = _BANDS * _ROWS
_SEED = 20_261
_BATCH = 4_096
_BAND_BYTES = _ROWS * 4
_IN_MEMORY = 64 << 20
_KNOWN_SETS = 4_096
"""Sets of hashes kept read: neighbours in a bucket are measured against one another."""
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


@dataclass(frozen=True, slots=True)
class Sketches:
    """What `sketch` makes of some texts, to be compared without them."""

    sizes: array[int]
    """Shingles of each text (typecode I)."""
    hashes: array[int]
    """Their 64-bit hashes, sorted within each text (typecode Q)."""
    bands: array[int]
    """_BANDS numbers a text (typecode I): texts that agree in one are worth measuring."""


def sketch(texts: Iterable[str]) -> Sketches:
    """Return the sketches of `texts`, the same in any process."""
    sizes, hashes, bands = array("I"), array("Q"), array("I")
    sets = []
    for found in rensa.RMinHash.hash_token_sets([tuple(shingles(text)) for text in texts]):
        one = array("Q", sorted(set(found)))
        sets.append(one)
        sizes.append(len(one))
        hashes.extend(one)
    if sets:
        matrix = rensa.RMinHash.digest_matrix_from_token_hash_sets(sets, num_perm=_PERMUTATIONS, seed=_SEED)
        for row in matrix.to_rows():
            raw = array("I", row).tobytes()
            bands.extend(map(crc32, (raw[at : at + _BAND_BYTES] for at in range(0, len(raw), _BAND_BYTES))))
    return Sketches(sizes, hashes, bands)


class Finder:
    """Collects texts one by one; then finds exact duplicates, near pairs and groups among them.

    Of each text 100 bytes stay in memory, its shingles' hashes in memory up to 64 MiB in all and then on disk.
    """

    def __init__(self, threshold: float = THRESHOLD, *, exact_only: bool = False) -> None:
        """Start empty; pairs are near from `threshold` on, or never looked for if `exact_only`."""
        self.threshold = threshold
        self._exact_only = exact_only
        self._first: dict[bytes, int] = {}
        self._places = array("I")
        self._ends = array("Q", [0])
        self._bands = array("I")
        self._hashes = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as long as this
        self._waiting: list[str] = []
        self._count = 0
        weakref.finalize(self, self._hashes.close)
        self._known: dict[int, frozenset[int]] = {}
        self.exact: list[tuple[int, int]] = []
        """(first, later) places of exact duplicates."""

    def add(self, text: str, identity: str | None = None) -> int | None:
        """Take the next text; return the place of its first exact duplicate, or None when it is new.

        `identity` is what must be the same in exact duplicates (but for case and spacing); by itself, the text.
        """
        first = self.add_digest(digest(text if identity is None else identity))
        if first is None and not self._exact_only:
            self._waiting.append(text)
            if len(self._waiting) >= _BATCH:
                self._sketch_waiting()
        return first

    def add_digest(self, identity: bytes) -> int | None:
        """Take the next text by its digest; its sketch, when it is new, has to follow (`add_sketches`)."""
        place = self._count
        self._count += 1
        first = self._first.setdefault(identity, place)
        if first != place:
            self.exact.append((first, place))
            return first
        if not self._exact_only:
            self._places.append(place)
        return None

    def add_sketches(self, made: Sketches, wanted: Sequence[bool]) -> None:
        """Take the sketches of texts whose digests were added: of those that were new (`wanted`)."""
        at = 0
        self._hashes.seek(0, os.SEEK_END)
        for place, (size, new) in enumerate(zip(made.sizes, wanted, strict=True)):
            if new:
                self._hashes.write(made.hashes[at : at + size].tobytes())
                self._ends.append(self._ends[-1] + size)
                self._bands.extend(made.bands[place * _BANDS : (place + 1) * _BANDS])
            at += size

    def _sketch_waiting(self) -> None:
        self.add_sketches(sketch(self._waiting), [True] * len(self._waiting))
        self._waiting.clear()

    def near(self) -> Iterator[Pair]:
        """Yield each pair of distinct texts that are near, but for pairs already joined by a chain of others."""
        self._sketch_waiting()
        parents = list(range(len(self._places)))
        for bucket in self._buckets():
            by_root: dict[int, list[int]] = {}
            for second in bucket:
                mine = _root(parents, second)
                joined = by_root.pop(mine, [])
                for root in list(by_root):
                    pair = self._near_one(by_root[root], second)
                    if pair is not None:
                        low, high = sorted((root, mine))
                        parents[high] = mine = low
                        joined += by_root.pop(root)
                        yield pair
                by_root[mine] = [*joined, second]

    def _near_one(self, members: list[int], second: int) -> Pair | None:
        """Return the pair that joins a text to one of `members`."""
        size = self._ends[second + 1] - self._ends[second]
        for first in members:
            other = self._ends[first + 1] - self._ends[first]
            if size and other and min(size, other) >= self.threshold * max(size, other):
                one, two = self._set(first), self._set(second)
                shared = len(one & two)
                measured = shared / (len(one) + len(two) - shared)
                if measured >= self.threshold:
                    return Pair(self._places[first], self._places[second], measured)
        return None

    def _set(self, place: int) -> frozenset[int]:
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= _KNOWN_SETS:
                self._known.clear()
            self._hashes.seek(self._ends[place] * 8)
            found = array("Q")
            found.frombytes(self._hashes.read((self._ends[place + 1] - self._ends[place]) * 8))
            known = self._known[place] = frozenset(found)
        return known

    def _buckets(self) -> Iterator[list[int]]:
        """Yield, band by band, the texts whose sketches agree in that band, ascending."""
        for band in range(_BANDS):
            column = self._bands[band::_BANDS]
            texts = pl.DataFrame({"band": buffer_series(column, 0, len(column))}).with_row_index("text")
            alike = texts.filter(pl.col("band").is_duplicated())
            found = alike.group_by("band", maintain_order=True).agg("text").get_column("text").to_list()
            yield from found

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
