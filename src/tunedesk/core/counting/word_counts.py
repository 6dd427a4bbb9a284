"""Token counts of many texts, several times as fast as tiktoken and equal to it: a cache of words over tiktoken.

Both regexes of tiktoken always cut before a U+0020 that follows a character other than white space: no pre-token
holds such a pair, and neither regex looks behind. So a text's tokens are those of its head plus those of every
" word" after it, and each word is encoded once. Texts with other white space before a space go through a regex
that cuts at the same places alone.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Sequence

import polars as pl
import tiktoken

_UNKNOWN = 2**32 - 1
"""In a table of counts: this word was not encoded yet."""
_SLOW = 2**31
"""The bit of a word that ends in white space (or is empty, not being the first): no cut may follow it."""
_WORD = 64
"""Characters up to which words are encoded together."""
_BATCH = 65_536
"""Texts worked on at once."""
_MOST_WORDS = 2_000_000
_MOST_BYTES = 64 << 20
"""What the cache may hold before it begins afresh: words, and bytes of them."""
_LONG_RUN = 500_000
"""tiktoken panics on runs of about a million spaces; texts of at least this length are looked at for such runs."""
_PIECES = r"\s*\S+(?:[^\S ]\s*\S+)*(?:[^\S ]\s*$)?|\s+"
"""Runs between two cuts: nothing but white space holds a space, unless nothing but white space stands before it."""
_numbers = itertools.count()


def count_text(encode: Callable[[str], Sequence[int]], text: str) -> int:
    """Return the tokens of one text by tiktoken; runs of white space that it panics on are cut."""
    if len(text) < _LONG_RUN:
        return len(encode(text))
    pieces = re.split(rf"(\s{{{_LONG_RUN},}})", text)
    return sum(
        len(encode(piece[at : at + _LONG_RUN] if number % 2 else piece))
        for number, piece in enumerate(pieces)
        for at in (range(0, len(piece), _LONG_RUN) if number % 2 else (0,))
    )


class _Words:
    """The words known so far: a number for each, and tables of their counts, replaced and never changed."""

    def __init__(self) -> None:
        self.type = pl.Categorical(pl.Categories(f"words{next(_numbers)}", "tunedesk", pl.UInt32))
        # Polars forgets a mapping that no column uses, and gives its codes out anew.
        self._kept = pl.Series([""], dtype=pl.String).cast(self.type)
        self.first, self.after = pl.Series([], dtype=pl.UInt32), pl.Series([], dtype=pl.UInt32)
        """Counts of words that begin a text (or of pieces), and of words after a space."""
        self.bytes = 0

    def cover(self, codes: pl.Series) -> None:
        """Make both tables long enough for `codes`."""
        highest = codes.max()
        missing = (highest if isinstance(highest, int) else 0) + 1 - len(self.first)
        if missing > 0:
            more = max(missing, len(self.first) // 2, 1 << 16)
            unknown = pl.repeat(_UNKNOWN, more, dtype=pl.UInt32, eager=True)
            self.first = pl.concat([self.first, unknown], rechunk=True)
            self.after = pl.concat([self.after, unknown], rechunk=True)

    def new(self, codes: pl.Series, words: pl.Series, table: pl.Series) -> pl.DataFrame:
        """Return each of the words that `table` does not know, once, with its code."""
        new = pl.DataFrame({"code": codes, "word": words}).unique("code")
        new = new.filter(table.gather(new["code"]) == _UNKNOWN).with_columns(pl.col("word").cast(pl.String))
        self.bytes += int(new["word"].str.len_bytes().sum())
        return new


class WordCounter:
    """Counts texts in one encoding; several threads share what it knows."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encode = encoding.encode_ordinary
        spaced = [encoding.encode_single_token(t) for t in encoding.token_byte_values() if t.startswith(b" ")]
        self._begins = pl.repeat(False, encoding.max_token_value + 1, dtype=pl.Boolean, eager=True)
        self._begins = self._begins.scatter(spaced, True)
        """Of each token, whether it begins with a space."""
        self._words = _Words()
        self._learning = threading.Lock()

    def count(self, texts: Sequence[str]) -> pl.Series:
        """Return the tokens of each text (UInt32), special tokens read as ordinary text; never raises on any string."""
        series = strings(texts)
        parts = [self._unique(series.slice(at, _BATCH)) for at in range(0, len(series), _BATCH)]
        return pl.concat(parts) if parts else pl.Series([], dtype=pl.UInt32)

    def _unique(self, texts: pl.Series) -> pl.Series:
        """Count each of the different texts once."""
        frame = pl.DataFrame({"text": texts})
        different = frame.unique(maintain_order=True)
        if different.height == frame.height:
            return self._split(texts)
        counted = different.with_columns(count=self._split(different["text"]))
        return frame.join(counted, on="text", how="left", maintain_order="left")["count"]

    def _split(self, texts: pl.Series) -> pl.Series:
        """Count texts by their words; those that cannot be cut at every space by their pieces."""
        known = self._words
        if len(known.first) > _MOST_WORDS or known.bytes > _MOST_BYTES:
            known = self._words = _Words()
        lists = texts.str.split(" ")
        lengths = lists.list.len().cast(pl.UInt32)
        ends = lengths.cast(pl.UInt64).cum_sum()
        heads = (ends - lengths).cast(pl.UInt32)
        words = lists.explode().cast(known.type)
        codes = words.to_physical()
        first = self._first(known, codes.gather(heads), words.gather(heads))
        alone = (lengths == 1).arg_true()
        first = first.scatter(alone, first.gather(alone) & (_SLOW - 1))
        counts = self._covering(known, codes).after.gather(codes).scatter(heads, first)
        unknown = (counts == _UNKNOWN).arg_true()
        if len(unknown):
            missing = codes.gather(unknown)
            with self._learning:
                self._learn_after(known, missing, words.gather(unknown))
            counts = counts.scatter(unknown, known.after.gather(missing))
        totals = _sums(counts, ends, lengths)
        slow = (totals >= _SLOW).arg_true()
        if len(slow):
            totals = totals.scatter(slow, self._by_pieces(known, texts.gather(slow)))
        return totals.cast(pl.UInt32)

    def _by_pieces(self, known: _Words, texts: pl.Series) -> pl.Series:
        """Count texts by their pieces, each of them looked up as the first word of a text is."""
        lists = texts.str.extract_all(_PIECES)
        lengths = lists.list.len().cast(pl.UInt32)
        pieces = lists.explode().cast(known.type)
        counts = self._first(known, pieces.to_physical(), pieces) & (_SLOW - 1)
        return _sums(counts, lengths.cast(pl.UInt64).cum_sum(), lengths)

    def _covering(self, known: _Words, codes: pl.Series) -> _Words:
        with self._learning:
            known.cover(codes)
        return known

    def _first(self, known: _Words, codes: pl.Series, words: pl.Series) -> pl.Series:
        """Return the counts of words that begin a text, those that end in white space with the bit of it."""
        counts = self._covering(known, codes).first.gather(codes)
        unknown = (counts == _UNKNOWN).arg_true()
        if not len(unknown):
            return counts
        with self._learning:
            new = known.new(codes.gather(unknown), words.gather(unknown), known.first)
            learnt = [count_text(self._encode, word) for word in new["word"].to_list()]
            found = pl.Series(learnt, dtype=pl.UInt32)
            spaced = new["word"].str.contains(r"\s$").arg_true()
            known.first = known.first.scatter(
                new["code"], found.scatter(spaced, found.gather(spaced) | _SLOW)
            )
        return known.first.gather(codes)

    def _learn_after(self, known: _Words, codes: pl.Series, words: pl.Series) -> None:
        """Encode words that follow a space; all of usual length as one text, cut again where a token begins a word."""
        word = pl.col("word")
        slow = word.str.contains(r"(?:^|\s)$")
        kind = pl.when(slow).then(0).when(word.str.len_chars() > _WORD).then(1).otherwise(2)
        new = known.new(codes, words, known.after).with_columns(kind=kind)
        together = new.filter(pl.col("kind") == 2)
        alone = new.filter(pl.col("kind") == 1)
        counted = [
            new.filter(pl.col("kind") == 0).select("code", count=pl.lit(_SLOW, pl.UInt32)),
            alone.select("code", count=pl.Series(self._alone(alone["word"]), dtype=pl.UInt32)),
            together.select("code", count=self._together(together["word"])),
        ]
        learnt = pl.concat(counted)
        known.after = known.after.scatter(learnt["code"], learnt["count"])

    def _alone(self, words: pl.Series) -> list[int]:
        return [count_text(self._encode, " " + word) for word in words.to_list()]

    def _together(self, words: pl.Series) -> pl.Series:
        """Count words by encoding them as one text: no token but the first of a word begins with a space."""
        text = words.str.join(" ").item() if len(words) else ""
        tokens = pl.Series(self._encode(" " + text if text else ""), dtype=pl.UInt32)
        begins = self._begins.gather(tokens).arg_true()
        if len(begins) != len(words):  # an encoding whose tokens hold spaces elsewhere
            return pl.Series(self._alone(words), dtype=pl.UInt32)
        return (begins.shift(-1, fill_value=len(tokens)) - begins).cast(pl.UInt32)


def _sums(counts: pl.Series, ends: pl.Series, lengths: pl.Series) -> pl.Series:
    """Return the sum of each run of `counts`, runs given by where they end and how long they are."""
    running = pl.concat([pl.Series([0], dtype=pl.UInt64), counts.cast(pl.UInt64).cum_sum()])
    return running.gather(ends) - running.gather(ends - lengths)


def strings(texts: Sequence[str]) -> pl.Series:
    """Return texts as a column; lone surrogates, which UTF-8 cannot hold, replaced as tiktoken replaces them."""
    if isinstance(texts, pl.Series):
        return texts
    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:
        whole = (text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts)
        return pl.Series(whole, dtype=pl.String)
