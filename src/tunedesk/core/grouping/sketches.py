"""What stands for a text when conversations are compared: a key for what is exactly the same, hashes for what is near.

Everything here comes from crc32 and blake2b, never from a hash that Python salts: the same on any machine.
"""

from __future__ import annotations

import hashlib
import re
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any
from zlib import crc32

import polars as pl
import rensa

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.datasets.arrow_parts import array_of, buffer_series

BANDS, _ROWS = 25, 5
_PERMUTATIONS = BANDS * _ROWS
_SEED = 20_261
_END = 100_000
"""Characters of each end of a text that are compared: about a model's context, and bounded for a 20 MB line."""
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+"
)
"""A word; single characters in scripts that are written without spaces."""
_WORDS = (
    r"\n|[\x{0e00}-\x{0eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{3040}-\x{30ff}\x{3400}-\x{9fff}\x{f900}-\x{faff}]"
    r"|[\p{L}\p{N}]+"
)
"""The same for Polars, and the ends of lines, across which no pair goes."""
_SYSTEM = ("system", "developer")
_KNOWN_WORDS = 200_000
_MASK = 0xFFFFFFFF
_ODD = 2_654_435_761
_FOLD = 0x9E3779B97F4A7C15


class _WordHashes(dict[str, int]):
    """Words and their crc32, each computed once while there is room."""

    def __missing__(self, word: str) -> int:
        made = crc32(word.encode("utf-8", "surrogatepass"))
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        self[word] = made
        return made


_hashes = _WordHashes()


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces: what exact duplicates have in common."""
    low = text.casefold()
    if low.isascii() and low.isprintable() and "  " not in low:
        return low.strip(" ")
    return " ".join(low.split())


def key_of(role: str, text: str) -> int:
    """Return the 64-bit number that stands for a normalised message; a developer's is a system's."""
    said = normalised(f"{'system' if role == 'developer' else role}: {text}")
    return _number(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def joined(keys: Sequence[int]) -> int:
    """Return the 64-bit number that stands for messages with these keys, in their order; never 0 or 1."""
    made = _number(hashlib.blake2b(_packed(len(keys))(*keys), digest_size=8).digest())
    return made if made > 1 else made + 2


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


@lru_cache(maxsize=1_000)
def _packed(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}Q").pack


def said_in(message: dict[str, Any]) -> str:
    """Return what a message says, its tool calls too."""
    calls = message.get("tool_calls")
    return content_text(message.get("content")) + (f" {calls}" if calls else "")


def messages_of(row: Row) -> list[dict[str, Any]]:
    """Return the messages of a row: of a preference row, its prompt and the preferred answer."""
    asked = row.get("input")
    parts: list[object] = [row.get("messages"), asked.get("messages") if isinstance(asked, dict) else None]
    parts.append(row.get("preferred_output"))
    return [m for part in parts if isinstance(part, list) for m in part if isinstance(m, dict)]


def message_keys(row: Row) -> list[int]:
    """Return the key of each message of a row."""
    return [key_of(str(m.get("role")), said_in(m)) for m in messages_of(row)]


def identity(row: Row) -> int:
    """Return the number that stands for all that a row says, its system prompt included."""
    keys = message_keys(row)
    if other := row.get("non_preferred_output"):
        keys.append(key_of("other", str(other)))
    return joined(keys)


def question(row: Row) -> int:
    """Return the number that stands for what is said before the last answer, the system's aside; 0 for nothing."""
    spoken = [m for m in messages_of(row) if m.get("role") not in _SYSTEM]
    last = max((at for at, m in enumerate(spoken) if m.get("role") == "assistant"), default=len(spoken))
    return joined([key_of(str(m.get("role")), said_in(m)) for m in spoken[:last]]) if last else 0


def spoken_text(row: Row) -> str:
    """Return what is said in `row` by all but the system, each side marked."""
    messages = [m for m in messages_of(row) if m.get("role") not in _SYSTEM]
    return "\n".join(f"{m.get('role')}: {said_in(m)}" for m in messages)


def _shortened(text: str) -> str:
    return f"{text[:_END]} {text[-_END:]}" if len(text) > 2 * _END else text


def shingles(text: str) -> frozenset[str]:
    """Return the words of `text` and the pairs of neighbours on its lines, lower case; of giant texts, of both ends."""
    made: set[str] = set()
    for line in _shortened(text).casefold().split("\n"):
        words = _WORD.findall(line)
        made.update(words)
        made.update(f"{a} {b}" for a, b in pairwise(words))
    return frozenset(made)


def similarity(first: str, second: str) -> float:
    """Return the Jaccard similarity of two texts' shingles, 1.0 when both are empty."""
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b) if a or b else 1.0


def shingle_hashes(text: str) -> array[int]:
    """Return a 32-bit number (typecode I) for each of the text's shingles; those of a row are those of its messages."""
    made: set[int] = set()
    for line in _shortened(text).casefold().split("\n"):
        numbers = [_hashes[word] for word in _WORD.findall(line)]
        made.update(numbers)
        made.update([(a * _ODD + b) & _MASK for a, b in pairwise(numbers)])
    return array("I", made)


def shingle_hashes_of(texts: Sequence[str]) -> list[bytes]:
    """Return what `shingle_hashes` makes of each text, as bytes and with repetitions, for many at once.

    Raises UnicodeEncodeError when a text has half of a surrogate pair, which Polars cannot hold.
    """
    made = pl.Series([_shortened(text).casefold() for text in texts], dtype=pl.String).str.extract_all(_WORDS)
    words = pl.DataFrame({"text": pl.int_range(len(texts), dtype=pl.UInt32, eager=True), "word": made})
    words = words.explode("word").drop_nulls()
    if not words.height:
        return [b""] * len(texts)
    known = words["word"].unique().to_list()
    number = words["word"].replace_strict(known, [_hashes[word] for word in known], return_dtype=pl.UInt64)
    within = pl.col("word") != "\n"
    follows = within & within.shift(-1) & (pl.col("text") == pl.col("text").shift(-1))
    pair = (pl.col("number") * _ODD + pl.col("number").shift(-1)) % (1 << 32)
    words = words.with_columns(number=number)
    ones, ones_of = _by_text(words.filter(within).select("text", "number"), len(texts))
    pairs, pairs_of = _by_text(
        words.select("text", number=pl.when(follows).then(pair)).drop_nulls(), len(texts)
    )
    found, at, pair_at = [], 0, 0
    for count, pair_count in zip(ones_of, pairs_of, strict=True):
        found.append(ones[at : at + count].tobytes() + pairs[pair_at : pair_at + pair_count].tobytes())
        at, pair_at = at + count, pair_at + pair_count
    return found


def _by_text(numbers: pl.DataFrame, texts: int) -> tuple[memoryview, array[int]]:
    """Return all numbers, and how many of them each text has."""
    counts = numbers.group_by("text").len()
    of_text = pl.repeat(0, texts, dtype=pl.UInt32, eager=True).scatter(counts["text"], counts["len"])
    return memoryview(array_of(numbers["number"].cast(pl.UInt32))), array_of(of_text)


@dataclass(frozen=True, slots=True)
class Sketches:
    """What `sketch` makes of some texts, to be compared without them."""

    sizes: array[int]
    """Numbers of each text (typecode I)."""
    hashes: array[int]
    """The texts' shingles as numbers, one text after the other (typecode I); one may stand twice within a text."""
    bands: pl.DataFrame
    """BANDS columns of numbers, a row for each text: texts that agree in one are worth measuring."""


def sketch(texts: Sequence[array[int]]) -> Sketches:
    """Return the sketches of texts given by their shingles' hashes, the same in any process."""
    sizes = array("I", map(len, texts))
    hashes = array("I", b"".join(text.tobytes() for text in texts))
    ends = array("Q", [0])
    for size in sizes:
        ends.append(ends[-1] + size)
    if not texts:
        return Sketches(sizes, hashes, _bands(array("I")))
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, _PERMUTATIONS, _SEED)
    return Sketches(sizes, hashes, _bands(array("I", chain.from_iterable(matrix.to_rows()))))


def _bands(digests: array[int]) -> pl.DataFrame:
    """Fold each five of a text's 125 minimum hashes into one number."""
    column = buffer_series(digests, 0, len(digests)).cast(pl.UInt64)
    made = []
    for band in range(BANDS):
        number = column.gather_every(_PERMUTATIONS, band * _ROWS)
        for place in range(1, _ROWS):
            number = number * _FOLD + column.gather_every(_PERMUTATIONS, band * _ROWS + place)
        made.append((number // (1 << 32)).cast(pl.UInt32).alias(str(band)))
    return pl.DataFrame(made)
