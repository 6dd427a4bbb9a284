"""Texts that many conversations have word for word: found once, so that a search looks at each of them once.

Answers repeat: in data drawn from scripts and templates, a million conversations may hold some ten thousand of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

_WORTH = 0.5
"""The share of distinct texts from which it does not pay to tell them apart."""
_AT_ONCE = 16
"""Chunks whose texts are looked up together."""


@dataclass(frozen=True, slots=True)
class SharedTexts:
    """The distinct texts of one role over all chunks, numbered in the order they are met."""

    numbers: Sequence[pl.Series]
    """For each chunk, the number of each row's text."""
    fresh: Sequence[pl.Series]
    """For each chunk, the places in it of the texts that no row before has, in the order of their numbers."""


def shared_texts(
    chunks: Sequence[pl.Series], stopped: Callable[[], bool] = lambda: False
) -> SharedTexts | None:
    """Return what the rows of these chunks share, None where most texts are met once, or once `stopped` says so.

    Costs a reading of all texts, and 4 bytes a row to keep.
    """
    hashes = [one.hash() for one in chunks if not stopped()]
    if stopped() or _distinct(hashes) > _WORTH * sum(map(len, hashes)):
        return None
    first = _first_rows(hashes)
    numbers, fresh = list(_numbered(hashes, first)), []
    del hashes
    start = 0
    for texts in chunks:
        stop = start + len(texts)
        met = first["row"].filter(first["row"].is_between(start, stop, closed="left"))
        fresh.append((met - start).cast(pl.UInt32))
        start = stop
    del first
    distinct = pl.concat([texts.gather(places) for texts, places in zip(chunks, fresh, strict=True)])
    # Two texts may have one hash: then nothing is said to be shared.
    same = all((distinct.gather(one) == texts).all() for texts, one in zip(chunks, numbers, strict=True))
    return SharedTexts(numbers, fresh) if same else None


def _distinct(hashes: Sequence[pl.Series]) -> int:
    """Return about how many different ones there are."""
    column = pl.concat([pl.Series("", [], dtype=pl.UInt64), *hashes])
    count: int = column.to_frame("hash").select(pl.col("hash").approx_n_unique()).item()
    return count


def _first_rows(hashes: Sequence[pl.Series]) -> pl.DataFrame:
    """Return each hash once, numbered in the order they are met, with the row that has it first.

    What repeats within a chunk is put aside chunk by chunk: all rows at once would take ten times the memory.
    """
    met, start = [], 0
    for one in hashes:
        rows = pl.arange(start, start + len(one), dtype=pl.UInt32, eager=True)
        met.append(_once(pl.DataFrame({"hash": one, "row": rows})))
        start += len(one)
    first = _once(pl.concat(met))
    return first.with_columns(pl.arange(0, first.height, dtype=pl.UInt32, eager=True).alias("number"))


def _once(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.unique("hash", keep="first", maintain_order=True)


def _numbered(hashes: Sequence[pl.Series], first: pl.DataFrame) -> Iterator[pl.Series]:
    """Yield the number of each row's hash for each chunk, several chunks looked up at once."""
    known = first.select("hash", "number")
    for at in range(0, len(hashes), _AT_ONCE):
        some = hashes[at : at + _AT_ONCE]
        rows = pl.concat(some).to_frame("hash")
        numbers = rows.join(known, on="hash", how="left", maintain_order="left")["number"]
        start = 0
        for one in some:
            yield numbers[start : start + len(one)]
            start += len(one)
