"""A text of lines cut into pieces, each of which becomes one chunk of a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunedesk.core.datasets.indexing import CHUNK_ROWS

_MOST_BYTES = 64 << 20
"""One process holds one piece, and a search looks at no more of the text before it heeds a cancel."""
_LEAST_BYTES = 4 << 20
_SHARES = 8
"""Pieces that a file of middling size is cut into at least, so that no process waits long for another."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive lines of a source."""

    number: int
    start: int
    """Offset in bytes."""
    stop: int
    data: bytes | None = None
    """The lines themselves, where they cannot be read at `start` of a file."""


def piece_bytes(head: bytes, size: int) -> int:
    """Return about how long the pieces of a text shall be: 65,536 lines as its `head` has them, if that is not much."""
    lines = max(1, head.count(b"\n"))
    return max(_LEAST_BYTES, min(_MOST_BYTES, CHUNK_ROWS * len(head) // lines, size // _SHARES))


def of_file(source: int, size: int, length: int) -> Iterator[Piece]:
    """Cut an open file, by its descriptor, at the first line end after every `length` bytes; stop at `size`."""
    number = start = 0
    while start < size:
        stop = min(size, start + length)
        while stop < size:
            block = os.pread(source, _BLOCK, stop - 1)
            end = block.find(b"\n")
            if end >= 0 or not block:
                stop = min(size, stop + end)
                break
            stop += len(block)
        stop = min(size, stop)
        yield Piece(number, start, stop)
        number, start = number + 1, stop


def of_blocks(blocks: Iterable[bytes], length: int) -> Iterator[Piece]:
    """Cut a text that arrives in blocks and cannot be read twice, in the same way."""
    number = start = 0
    held: list[bytes] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        end = block.rfind(b"\n") + 1
        if size < length or not end:
            continue
        data = b"".join((*held[:-1], block[:end]))
        yield Piece(number, start, start + len(data), data)
        number, start = number + 1, start + len(data)
        held = [block[end:]] if end < len(block) else []
        size = len(block) - end
    if size:
        yield Piece(number, start, start + size, b"".join(held))
