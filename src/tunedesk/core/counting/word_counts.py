"""Token counts of texts by their words: twice as fast as tiktoken and equal to it, by tiktoken alone.

Both regexes of tiktoken always cut before a U+0020 that follows a character other than white space: no pre-token
holds such a pair, and neither regex looks behind. So a text's tokens are those of its head plus those of every
" word" after it, and each word is encoded once. Texts with other white space before a space go through a regex
that cuts at the same places alone.
"""

from __future__ import annotations

import polars as pl
import tiktoken

from tunedesk.core.counting.known_texts import KnownTexts

_SLOW = 2**31
"""The bit of a word that ends in white space (or is empty, not being the first): no cut may follow it."""
_WORD = 64
"""Characters up to which words are encoded together."""
_PIECES = r"\s*\S+(?:[^\S ]\s*\S+)*(?:[^\S ]\s*$)?|\s+"
"""Runs between two cuts: nothing but white space holds a space, unless nothing but white space stands before it."""
_FIRST, _AFTER = range(2)
"""The tables of words: those that begin a text (or pieces of one), and those that follow a space."""


class WordCounter:
    """Counts texts in one encoding; several threads share what it knows."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encode = encoding.encode_ordinary
        spaced = [encoding.encode_single_token(t) for t in encoding.token_byte_values() if t.startswith(b" ")]
        self._begins = pl.repeat(False, encoding.max_token_value + 1, dtype=pl.Boolean, eager=True)
        self._begins = self._begins.scatter(spaced, True)
        """Of each token, whether it begins with a space."""
        self._words = KnownTexts(2)

    def count(self, texts: pl.Series) -> pl.Series:
        """Return the tokens of each text (UInt32), those that cannot be cut at every space by their pieces."""
        if self._words.full:
            self._words = KnownTexts(2)
        known = self._words
        lists = texts.str.split(" ")
        lengths = lists.list.len().cast(pl.UInt32)
        ends = lengths.cast(pl.UInt64).cum_sum()
        words = lists.explode().cast(known.type)
        heads = (ends - lengths).cast(pl.UInt32)
        first = known.counts(words.gather(heads), self._first, _FIRST)
        alone = (lengths == 1).arg_true()
        first = first.scatter(alone, first.gather(alone) & (_SLOW - 1))
        counts = known.counts(words, self._after, _AFTER).scatter(heads, first)
        totals = _sums(counts, ends, lengths)
        slow = (totals >= _SLOW).arg_true()
        if len(slow):
            totals = totals.scatter(slow, self._by_pieces(known, texts.gather(slow)))
        return totals.cast(pl.UInt32)

    def _by_pieces(self, known: KnownTexts, texts: pl.Series) -> pl.Series:
        """Count texts by their pieces, each of them looked up as the first word of a text is."""
        lists = texts.str.extract_all(_PIECES)
        lengths = lists.list.len().cast(pl.UInt32)
        counts = known.counts(lists.explode().cast(known.type), self._first, _FIRST) & (_SLOW - 1)
        return _sums(counts, lengths.cast(pl.UInt64).cum_sum(), lengths)

    def _first(self, words: pl.Series) -> pl.Series:
        """Count words that begin a text; those that end in white space get the bit of it."""
        found = pl.Series([len(self._encode(word)) for word in words.to_list()], dtype=pl.UInt32)
        spaced = words.str.contains(r"\s$").arg_true()
        return found.scatter(spaced, found.gather(spaced) | _SLOW)

    def _after(self, words: pl.Series) -> pl.Series:
        """Count words that follow a space; all of usual length as one text, cut again where a token begins a word."""
        found = pl.repeat(_SLOW, len(words), dtype=pl.UInt32, eager=True)
        fast = ~words.str.contains(r"(?:^|\s)$")
        short = words.str.len_chars() <= _WORD
        for chosen, count in ((fast & short, self._together), (fast & ~short, self._alone)):
            places = chosen.arg_true()
            found = found.scatter(places, count(words.gather(places)))
        return found

    def _alone(self, words: pl.Series) -> pl.Series:
        return pl.Series([len(self._encode(" " + word)) for word in words.to_list()], dtype=pl.UInt32)

    def _together(self, words: pl.Series) -> pl.Series:
        """Count words by encoding them as one text: no token but the first of a word begins with a space."""
        text = words.str.join(" ").item() if len(words) else ""
        tokens = pl.Series(self._encode(" " + text if text else ""), dtype=pl.UInt32)
        begins = self._begins.gather(tokens).arg_true()
        if len(begins) != len(words):  # an encoding whose tokens hold spaces elsewhere
            return self._alone(words)
        return (begins.shift(-1, fill_value=len(tokens)) - begins).cast(pl.UInt32)


def _sums(counts: pl.Series, ends: pl.Series, lengths: pl.Series) -> pl.Series:
    """Return the sum of each run of `counts`, runs given by where they end and how long they are."""
    running = pl.concat([pl.Series([0], dtype=pl.UInt64), counts.cast(pl.UInt64).cum_sum()])
    return running.gather(ends) - running.gather(ends - lengths)
