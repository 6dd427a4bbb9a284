"""The order of a column of texts, worked out once: sorting any of its rows is then a matter of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Ranked:
    """Where the text of each row of a column stands among the distinct ones, ascending; 8 bytes a row."""

    ranks: Sequence[pl.Series]
    """For each chunk, the place of each row's text."""
    firsts: pl.Series
    """A row of each distinct text, in their order."""
    chunks: Sequence[pl.Series]
    """The column itself, which is no copy."""

    @classmethod
    def of(cls, chunks: Sequence[pl.Series]) -> Ranked:
        """Rank the texts of all chunks."""
        column = pl.concat(chunks)
        order = column.arg_sort()
        ordered = column.gather(order)
        new = (ordered != ordered.shift(1)).fill_null(True)
        del ordered
        place = new.cast(pl.UInt32).cum_sum() - 1
        ranks = pl.zeros(len(column), dtype=pl.UInt32, eager=True).scatter(order, place)
        parts, start = [], 0
        for texts in chunks:
            parts.append(ranks[start : start + len(texts)])
            start += len(texts)
        return cls(parts, order.filter(new), chunks)

    def keys(self, texts: pl.Series) -> pl.Series:
        """Return numbers that stand to the ranks as these texts to those of the column, which may lack them."""
        values = pl.concat(self.chunks).gather(self.firsts)
        distinct = texts.unique().sort()
        places = pl.Series(values.search_sorted(distinct)).cast(pl.Float64)
        known = distinct.is_in(values.implode())
        # What stands between two values gets a number between theirs, in order.
        steps = pl.arange(1, len(distinct) + 1, eager=True) / (len(distinct) + 1)
        numbers = pl.DataFrame({"text": distinct, "key": places + (~known).cast(pl.Float64) * (steps - 1)})
        return pl.DataFrame({"text": texts}).join(numbers, on="text", how="left", maintain_order="left")[
            "key"
        ]
