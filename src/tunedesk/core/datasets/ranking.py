"""The order of a column of texts, worked out once: sorting any of its rows is then a matter of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Ranked:
    """The texts of a column in order, and where each row's stands."""

    values: pl.Series
    """The distinct texts, ascending."""
    ranks: Sequence[pl.Series]
    """For each chunk, the place of each row's text in `values`."""

    @classmethod
    def of(cls, chunks: Sequence[pl.Series]) -> Ranked:
        """Rank the texts of all chunks."""
        column = pl.concat(chunks)
        order = column.arg_sort()
        ordered = column.gather(order)
        new = (ordered != ordered.shift(1)).fill_null(True)
        place = new.cast(pl.UInt32).cum_sum() - 1
        ranks = pl.zeros(len(column), dtype=pl.UInt32, eager=True).scatter(order, place)
        parts, start = [], 0
        for texts in chunks:
            parts.append(ranks[start : start + len(texts)])
            start += len(texts)
        return cls(ordered.filter(new), parts)

    def keys(self, texts: pl.Series) -> pl.Series:
        """Return numbers that stand to the ranks as the texts do to `values`, for texts that may not be among them."""
        distinct = texts.unique().sort()
        places = pl.Series(self.values.search_sorted(distinct)).cast(pl.Float64)
        known = distinct.is_in(self.values.implode())
        # What stands between two values gets a number between theirs, in order.
        steps = pl.arange(1, len(distinct) + 1, eager=True) / (len(distinct) + 1)
        numbers = pl.DataFrame({"text": distinct, "key": places + (~known).cast(pl.Float64) * (steps - 1)})
        return pl.DataFrame({"text": texts}).join(numbers, on="text", how="left", maintain_order="left")[
            "key"
        ]
