"""Token counts of many texts, several times as fast as tiktoken and equal to it.

Each text is counted once: system prompts, greetings and closing lines come again and again. Of new texts little is
left to tiktoken itself, much to the quick tokenizer (quick_counts.py), and where that is not installed to the words
that they are made of (word_counts.py).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import polars as pl
import tiktoken

from tunedesk.core.counting.known_texts import KnownTexts, strings
from tunedesk.core.counting.quick_counts import QuickCounter, quick_counter
from tunedesk.core.counting.word_counts import WordCounter

_BATCH = 65_536
"""Texts worked on at once."""
_WORTH = 2 << 20
"""Bytes of new text from which tables of more than tiktoken's own are built (0.1 to 0.3 s)."""
_LONG_RUN = 999_900
"""Characters of white space in a row; on a million tiktoken panics."""
_CUT = 998_400
"""Characters after which such runs are cut: a multiple of the longest tokens of white space, so that none is cut."""


def count_text(encoding: tiktoken.Encoding, text: str) -> int:
    """Return the tokens of one text by tiktoken; runs of white space that it panics on are cut."""
    total = start = 0
    if len(text) >= _LONG_RUN:
        for run in re.finditer(rf"\s{{{_LONG_RUN},}}", text):
            # The last of a run may belong to the word after it: it stays with some more.
            for cut in range(run.start() + _CUT, run.end() - (_LONG_RUN - _CUT) + 1, _CUT):
                total += len(encoding.encode_ordinary(text[start:cut]))
                start = cut
    return total + len(encoding.encode_ordinary(text[start:] if start else text))


class TextCounter:
    """Counts texts in one encoding; several threads share what it knows."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding
        self._known = KnownTexts(1)
        self._seen = 0
        """Bytes of new text so far."""
        self._loading = threading.Lock()
        self._loaded = False
        self._quick: QuickCounter | None = None
        self._words: WordCounter | None = None

    def expect(self, size: int) -> None:
        """Get ready for `size` bytes of text, where that pays."""
        if size > _WORTH:
            self._load()

    def count(self, texts: Sequence[str]) -> pl.Series:
        """Return the tokens of each text (UInt32), special tokens read as ordinary text; never raises on any string."""
        series = strings(texts)
        parts = [self._batch(series.slice(at, _BATCH)) for at in range(0, len(series), _BATCH)]
        return pl.concat(parts) if parts else pl.Series([], dtype=pl.UInt32)

    def _batch(self, texts: pl.Series) -> pl.Series:
        if self._known.full:
            self._known = KnownTexts(1)
        known = self._known
        return known.counts(texts.cast(known.type), self._count_new)

    def _count_new(self, texts: pl.Series) -> pl.Series:
        sizes = texts.str.len_bytes()
        self._seen += int(sizes.sum())
        self.expect(self._seen)
        fits = sizes < _LONG_RUN
        if not fits.all():
            found = pl.repeat(0, len(texts), dtype=pl.UInt32, eager=True)
            for chosen, count in ((fits, self._count_usual), (~fits, self._one_by_one)):
                places = chosen.arg_true()
                found = found.scatter(places, count(texts.gather(places)))
            return found
        return self._count_usual(texts)

    def _count_usual(self, texts: pl.Series) -> pl.Series:
        if self._quick is not None:
            return self._quick.count(texts, self._one_by_one)
        return self._one_by_one(texts) if self._words is None else self._words.count(texts)

    def _one_by_one(self, texts: pl.Series) -> pl.Series:
        return pl.Series([count_text(self._encoding, text) for text in texts.to_list()], dtype=pl.UInt32)

    def _load(self) -> None:
        with self._loading:
            if not self._loaded:
                self._quick = quick_counter(self._encoding)
                self._words = None if self._quick else WordCounter(self._encoding)
                self._loaded = True
