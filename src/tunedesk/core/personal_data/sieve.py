"""Which of many texts may hold personal data, asked of all at once: the few that may are then read by `finding.find`.

Polars keeps 32 patterns compiled: with those of checking.clues there are no more, and some take 50 ms to compile.
The patterns here are the finders' own, loosened: without what stands around a match (lookaround, word borders), which
Polars' regular expressions do not know and which can only make a pattern match less. So nothing is passed over that a
finder would find; a test holds both to the same texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import polars as pl

from tunedesk.core.personal_data import (
    addresses,
    credentials,
    identifiers,
    names,
    national_ids,
    other_scripts,
)
from tunedesk.core.personal_data.finding import MAILS, NAMES, NUMBERS, PHONES, SECRETS

_MARK = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|\(\?<?[=!]|\\b", re.S)


def loosened(pattern: re.Pattern[str]) -> str:
    """Return the source of a pattern that Polars reads and that matches wherever `pattern` does, and elsewhere too."""
    source, made, at = pattern.pattern, [], 0
    while at < len(source):
        found = _MARK.match(source, at)
        piece = found[0] if found else source[at]
        if piece.startswith("(?") and len(piece) > 2:
            at = _closing(source, at)
            continue
        at += len(piece)
        if piece not in (r"\b", r"\Z", "$", "^"):
            made.append(".?" if re.fullmatch(r"\\[1-9]", piece) else _widened(piece))
    flags = "".join(letter for letter, flag in (("i", re.I), ("s", re.S)) if pattern.flags & flag)
    return f"(?{flags}:{''.join(made)})" if flags else f"(?:{''.join(made)})"


def _closing(source: str, at: int) -> int:
    """Return the place after the parenthesis that closes the one at `at`."""
    depth = 0
    while True:
        found = _MARK.match(source, at)
        piece = found[0] if found else source[at]
        depth += piece.startswith("(") - (piece == ")")
        at += len(piece)
        if not depth:
            return at


_FAR = r"\x80-\x{10FFFF}"
_WIDER = {r"\w": rf"0-9A-Za-z_{_FAR}", r"\W": rf"\x00-/:-@\[-\^`{{-\x7f{_FAR}"}
_NARROWER = {r"\w": "0-9A-Za-z_", r"\W": r"\x00-/:-@\[-\^`{-\x7f", r"\d": "0-9"}


def _widened(piece: str) -> str:
    """Return a character or class with every character beyond ASCII in it where Unicode would have to tell.

    Of Unicode's letters there are hundreds of ranges, by which a pattern with repeats grows beyond bounds.
    """
    if piece in _WIDER:
        return f"[{_WIDER[piece]}]"
    if not piece.startswith("["):
        return piece
    letters = _NARROWER if piece.startswith("[^") else _WIDER
    return re.sub(r"\\.", lambda found: letters.get(found[0], found[0]), piece)


def either(patterns: Iterable[re.Pattern[str]]) -> str:
    """Return one loosened source for several patterns."""
    made = "|".join(map(loosened, patterns))
    return re.sub(r"\(\?P<\w+>", "(?:", made)


def may_hold(texts: pl.Series) -> pl.Series:
    """Return for each text the groups of finders that `finding.find` must run, as bits (UInt16); 0 for most texts."""
    digits = texts.str.contains(r"\d")
    told = texts.str.contains_any(["pass", "-----"], ascii_case_insensitive=True)
    ringing = _only_in(texts, digits, _holding(_RUN))
    return bits(
        {
            MAILS: texts.str.contains("@", literal=True),
            NAMES: _may_name(texts),
            PHONES: _only_in(texts, ringing, _may_ring),
            NUMBERS: _only_in(texts, digits, _may_number),
            SECRETS: _only_in(texts, digits | told, _may_be_secret),
        }
    )


def bits(columns: Mapping[int, pl.Series]) -> pl.Series:
    """Return Boolean columns as one of bits (UInt16), each column by its own bit."""
    (first, where), *others = columns.items()
    made = where.cast(pl.UInt16) * first
    for bit, where in others:
        made += where.cast(pl.UInt16) * bit
    return made


def _only_in(texts: pl.Series, where: pl.Series, ask: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return what `ask` says of the texts for which `where` holds, false for all others."""
    places = where.arg_true()
    return pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True).scatter(
        places, ask(texts.gather(places))
    )


# --- what each of the finders needs


def _whole(words: Iterable[str]) -> str:
    """Return the pattern of texts that have one of the words, given in small letters, between other than letters."""
    return r"(?i)(?:^|[\W\d_])(?:" + "|".join(sorted(words)) + r")(?:[\W\d_]|$)"


def _shapes(needs: str) -> list[re.Pattern[str]]:
    """Return the shapes of ids that need one of the characters, for a space also of those that need none."""
    return [one.shape for one in national_ids.NATIONAL if (one.needs or " ") in needs]


def _beyond_ascii(words: Iterable[str]) -> Iterator[str]:
    """Yield the patterns of those words that Polars does not find in letters of any size by itself."""
    return (f"(?i:{re.escape(word)})" for word in words if not word.isascii())


_GIVEN = sorted(names.GIVEN_CAPITALS)
# What needs an "@" is not asked for: those texts are read anyway.
_BESIDE = (one for _, parts, one, _ in names.BESIDE if " <" not in parts)
_NAMED = either((names.INTRODUCED, *_BESIDE, *(one for _, one in other_scripts.OTHER_NAMES)))
_SECRET = either(one for _, one, _ in credentials.GIVEN_AWAY if one is not credentials.BLOCK)
_NUMBERS = (
    either((identifiers.CARD, identifiers.IBAN, identifiers.IP_PART)),
    either(identifiers.ACCOUNTS),
    either(addresses.POSTCODES),
    # In parts: one pattern of them all would take five times as long.
    either((*_shapes("a"), national_ids.NINO, national_ids.DRIVER)),
    either(_shapes("z")),
    either(_shapes("-./")),
    either(_shapes(" ")),
)
_RUN = either((identifiers.PHONE,))
_SHAPED = "|".join((either((identifiers.PHONE_SHAPE,)), r"\+", "00", *_beyond_ascii(identifiers.PHONE_PARTS)))
_CALLED = [part for part in identifiers.PHONE_PARTS if part.isascii()]
_ID_WORD = _whole(national_ids.NATIONAL_WORDS)
_ID = either((*national_ids.WORDED, *(one.shape for one in national_ids.NATIONAL_DIGITS)))
_BIRTH, _DATE = either((identifiers.BIRTH,)), either((identifiers.DATE,))
_STREET_PARTS = (*addresses.STREET_ENDS, *other_scripts.ADDRESS_PARTS)
_STREET = "|".join((_whole(addresses.STREET_WORDS), *map(re.escape, _STREET_PARTS)))
_ADDRESS = either((*addresses.ADDRESSES, *other_scripts.OTHER_ADDRESSES))


def _may_name(texts: pl.Series) -> pl.Series:
    return texts.str.contains_any(_GIVEN) | texts.str.contains(_NAMED)


def _may_be_secret(texts: pl.Series) -> pl.Series:
    return texts.str.contains("-----", literal=True) | texts.str.contains(_SECRET)


def _may_number(texts: pl.Series) -> pl.Series:
    found = texts.str.contains(_NUMBERS[0])
    for pattern in _NUMBERS[1:]:
        found |= texts.str.contains(pattern)
    for cue, pattern in ((_ID_WORD, _ID), (_BIRTH, _DATE), (_STREET, _ADDRESS)):
        found |= _only_in(texts, texts.str.contains(cue), _holding(pattern))
    return found


def _holding(pattern: str) -> Callable[[pl.Series], pl.Series]:
    return lambda texts: texts.str.contains(pattern)


def _may_ring(texts: pl.Series) -> pl.Series:
    return texts.str.contains(_SHAPED) | texts.str.contains_any(_CALLED, ascii_case_insensitive=True)
