"""What an ASCII text must hold for a pattern to be met in it, found much faster than the pattern itself.

The engine steps through a text byte by byte (2 ns each) unless the pattern begins with a literal that it can jump to
(0.2 ns). So what every match holds is drawn from a pattern: `\\w+ \\w+ly\\b` cannot be met without `ly`, nor `\\s{3,}`
without two of six characters side by side, and `[^\\x00-\\x7f]` not at all. Only the parts in sequence outside of any
group are looked at; where a pattern is not understood, nothing is said of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from tunedesk.core.datasets.indexing import fold

_SMALL = 10
"""Most characters of a class that the engine turns into literals of two."""
_RUNS = 3
"""Most literals that are offered, the longest first: a rare sign can be worth more than a common word."""
_ASCII = [chr(code) for code in range(128) if not chr(code).isupper()]
"""All that a folded text of ASCII may hold."""

_LEADING = re.compile(r"\(\?i\)")
_FLAGS = re.compile(r"\(\?(?!:|P?<)")
_ITEM = re.compile(
    r"""(?P<zero>\^|\$|\\[bBAz](?!\{))
      | (?P<set>\\[pP](?:\{[^}]*\}|.)|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\[xuU]\{[^}]*\}
               |\\[dDsSwW]|\.)
      | (?P<escape>\\[^\w\s<>]|\\[tnrfva])
      | (?P<open>[(\[])
      | (?P<plain>[^\\)\]|?*+{])""",
    re.VERBOSE | re.DOTALL,
)
_REPEATED = re.compile(r"(?:(?P<sign>[?*+])|\{(?P<least>\d+)(?P<most>,\d*)?\})\??")
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


@dataclass(frozen=True, slots=True)
class Need:
    """What an ASCII text must hold."""

    impossible: bool = False
    """Whether no such text can match."""
    sieves: tuple[str, ...] = ()
    """Expressions that each match at least the texts that the pattern does."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A part of a pattern that stands for one character, or for something not looked into (`source` empty)."""

    source: str
    literal: str
    """The character, folded; empty where it may be one of several."""
    least: int
    """The fewest times that it is repeated."""
    exact: bool
    """Whether it is never repeated more often."""


def need(source: str, flags: str) -> Need:
    """Return what the pattern `source` needs of a folded ASCII text when compiled with `flags`."""
    items = _items(_LEADING.sub("", source, count=1) if source.startswith("(?i)") else source)
    if items is None:
        return Need()
    members = {item: _members(item, flags) for item in items if item.source and item.least}
    if not all(members.values()):
        return Need(impossible=True)
    runs = sorted(filter(None, dict.fromkeys(_runs(items))), key=len, reverse=True)
    sieves = [re.escape(run) for run in runs[:_RUNS]]
    for item, characters in members.items():
        if item.least > 1 and 1 < len(characters) <= _SMALL:
            sieves.append("[" + "".join(f"\\x{ord(one):02x}" for one in characters) + "]{2}")
            break
    return Need(sieves=tuple(sieves))


def _items(source: str) -> list[_Item] | None:
    """Return the parts of a pattern in sequence; None where there is no one sequence, or none that is understood."""
    if _FLAGS.search(source):
        return None
    found: list[_Item] = []
    at = 0
    while at < len(source):
        match = _ITEM.match(source, at)
        if not match:
            return None
        at = _closed(source, at) if match["open"] else match.end()
        if at == 0:
            return None
        written = source[match.start() : at]
        repeated = _REPEATED.match(source, at)
        if repeated:
            at = repeated.end()
        elif source[at : at + 1] == "{":
            return None
        if match["zero"]:
            continue
        least, exact = _times(repeated)
        literal = match["plain"] or (_ESCAPED.get(written[1:], written[1:]) if match["escape"] else "")
        found.append(_Item("" if match["open"] == "(" else written, fold(literal), least, exact))
    return found


def _times(repeated: re.Match[str] | None) -> tuple[int, bool]:
    if repeated is None:
        return 1, True
    if repeated["sign"]:
        return int(repeated["sign"] == "+"), False
    return int(repeated["least"]), repeated["most"] is None


def _closed(source: str, at: int) -> int:
    """Return the place after the group or class that opens at `at`; 0 where it is never closed."""
    depth, in_class = 0, 0
    while at < len(source):
        sign = source[at]
        if sign == "\\":
            at += 1
        elif sign == "[":
            in_class += 1
            # A ] right after [ or [^ is a member of the class.
            at += 1 if source[at + 1 : at + 2] == "^" else 0
            at += 1 if source[at + 1 : at + 2] == "]" else 0
        elif in_class:
            in_class -= sign == "]"
        else:
            depth += (sign == "(") - (sign == ")")
        at += 1
        if not depth and not in_class:
            return at
    return 0


def _runs(items: list[_Item]) -> Iterator[str]:
    """Yield the texts that every match holds, as long as they go."""
    run = ""
    for item in items:
        if item.literal and item.least:
            run += item.literal * min(item.least, 8)
        if not (item.literal and item.exact and 0 < item.least <= 8):
            yield run
            run = item.literal * min(item.least, 8)
    yield run


def _members(item: _Item, flags: str) -> list[str]:
    """Return the characters of folded ASCII that an item may be."""
    try:
        alone = pl.Series(_ASCII).str.contains(rf"{flags}\A(?:{item.source})\z")
    except pl.exceptions.PolarsError:
        return _ASCII
    return [one for one, member in zip(_ASCII, alone, strict=True) if member]
