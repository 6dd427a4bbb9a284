"""Texts that many conversations have word for word: found once, so that a search looks at each of them once.

Answers repeat: in data drawn from scripts and templates, a million conversations may hold some ten thousand of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

_WORTH = 0.5
"""The share of distinct texts from which it does not pay to tell them apart."""


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
    hashes = pl.concat([pl.Series([], dtype=pl.UInt64), *(one.hash() for one in chunks if not stopped())])
    distinct_count: int = hashes.to_frame("hash").select(pl.col("hash").approx_n_unique()).item()
    if stopped() or distinct_count > _WORTH * len(hashes):
        return None
    rows = pl.DataFrame({"hash": hashes, "row": pl.arange(0, len(hashes), dtype=pl.UInt32, eager=True)})
    first = rows.group_by("hash", maintain_order=True).agg(pl.col("row").min())
    first = first.with_columns(pl.arange(0, first.height, dtype=pl.UInt32, eager=True).alias("number"))
    joined = rows.join(first.select("hash", "number"), on="hash", how="left", maintain_order="left")
    numbers, fresh = [], []
    start = 0
    for texts in chunks:
        stop = start + len(texts)
        numbers.append(joined["number"][start:stop])
        met = first["row"].filter(first["row"].is_between(start, stop, closed="left"))
        fresh.append((met - start).cast(pl.UInt32))
        start = stop
    distinct = pl.concat([texts.gather(places) for texts, places in zip(chunks, fresh, strict=True)])
    # Two texts may have one hash: then nothing is said to be shared.
    same = all((distinct.gather(one) == texts).all() for texts, one in zip(chunks, numbers, strict=True))
    return SharedTexts(numbers, fresh) if same else None
