"""Texts that come again and again, counted once: a number for each of them, and tables of counts by that number."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import polars as pl

_UNKNOWN = 2**32 - 1
"""In a table of counts: this text was not counted yet."""
_MOST_TEXTS = 2_000_000
_MOST_BYTES = 64 << 20
"""What a cache may hold before it begins afresh: texts, and bytes of them."""
_numbers = itertools.count()

Learn = Callable[[pl.Series], pl.Series]
"""Counts different texts (String) that no table knows: UInt32, in their order."""


class KnownTexts:
    """The texts known so far: a number for each, and tables of counts by that number."""

    def __init__(self, tables: int) -> None:
        self.type = pl.Categorical(pl.Categories(f"texts{next(_numbers)}", "tunedesk", pl.UInt32))
        # Polars forgets a mapping that no column uses, and gives its codes out anew.
        self._kept = pl.Series([""], dtype=pl.String).cast(self.type)
        self._tables = [pl.Series([], dtype=pl.UInt32) for _ in range(tables)]
        self._bytes = 0
        self._changing = threading.Lock()
        """Held while a table grows or learns, never while anything is counted."""

    @property
    def full(self) -> bool:
        """Whether it holds as much as a cache may."""
        return len(self._tables[0]) > _MOST_TEXTS or self._bytes > _MOST_BYTES

    def counts(self, texts: pl.Series, learn: Learn, table: int = 0) -> pl.Series:
        """Return the counts (UInt32) of texts of `type` by one of the tables; `learn` counts those it does not know."""
        codes = texts.to_physical()
        self._cover(codes)
        found = self._tables[table].gather(codes)
        unknown = (found == _UNKNOWN).arg_true()
        if not len(unknown):
            return found
        new = texts.gather(unknown).unique()
        spelled = new.cast(pl.String)
        learnt = learn(spelled)
        with self._changing:
            self._tables[table].scatter(new.to_physical(), learnt)
            self._bytes += int(spelled.str.len_bytes().sum())
        return found.scatter(unknown, self._tables[table].gather(codes.gather(unknown)))

    def _cover(self, codes: pl.Series) -> None:
        """Make all tables long enough for `codes`."""
        highest = codes.max()
        size = (highest if isinstance(highest, int) else 0) + 1
        if size <= len(self._tables[-1]):
            return
        with self._changing:
            for number, table in enumerate(self._tables):
                more = max(size - len(table), len(table) // 2, 1 << 16)
                unknown = pl.repeat(_UNKNOWN, more, dtype=pl.UInt32, eager=True)
                self._tables[number] = pl.concat([table, unknown], rechunk=True)


def strings(texts: Sequence[str]) -> pl.Series:
    """Return texts as a column; lone surrogates, which UTF-8 cannot hold, replaced as tiktoken replaces them."""
    if isinstance(texts, pl.Series):
        return texts
    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:
        whole = (text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts)
        return pl.Series(whole, dtype=pl.String)
