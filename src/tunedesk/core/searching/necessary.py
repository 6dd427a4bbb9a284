"""What a text must hold for a pattern to be met in it, found much faster than the pattern itself.

The engine steps through a text byte by byte (2 ns each) unless the pattern begins with one of a few literals that it
can jump to (0.2 ns). So the literals of which every match holds one are drawn from a pattern: `\\w+(can|may)not`
is not met without `cannot` or `maynot`, `\\s{3,}` not without two of six characters side by side, and
`[^\\x00-\\x7f]` in ASCII not at all. Where a pattern is not understood, nothing is said of it.

This is what Russ Cox draws from a pattern for an index of trigrams (https://swtch.com/~rsc/regexp/regexp4.html): of
each part all that it may be, where that is little, else with what it begins and ends, and what it holds between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import polars as pl

from tunedesk.core.datasets.indexing import fold

_SMALL = 10
"""Most characters of a class, or alone, that the engine still jumps to."""
_MOST = 64
"""Most literals that the engine looks for at once."""
_LENGTH = 32
"""Characters after which a literal is long enough."""
_OFFERED = 3
"""Most sieves that are offered, the longest first: a rare sign can be worth more than a common word."""
_ASCII = [chr(code) for code in range(128) if not chr(code).isupper()]
"""All that a folded text of ASCII may hold."""

_LEADING = re.compile(r"\(\?i\)")
_ITEM = re.compile(
    r"""(?P<zero>\^|\$|\\[bBAz](?!\{))
      | (?P<set>\\[pP](?:\{[^}]*\}|.)|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\[xuU]\{[^}]*\}
               |\\[dDsSwW]|\\[tnrfva]|\.)
      | \\(?P<escaped>[^\w\s<>])
      | (?P<plain>[^\\\[()\]|?*+{])
      | (?P<class>\[)
      | (?P<group>\((?!\?)|\(\?:|\(\?P?<\w+>)""",
    re.VERBOSE | re.DOTALL,
)
_REPEATED = re.compile(r"(?:(?P<sign>[?*+])|\{(?P<least>\d+)(?P<more>,(?P<most>\d*))?\})\??")

_Literals = frozenset[str]
_EMPTY: _Literals = frozenset({""})


@dataclass(frozen=True, slots=True)
class Need:
    """What a text must hold."""

    impossible: bool = False
    """Whether no such text can match."""
    sieves: tuple[str, ...] = ()
    """Expressions that each match at least the texts that the pattern does."""


@dataclass(frozen=True, slots=True, order=True)
class _Sieve:
    """An expression that is met wherever the pattern is; the best one is the least."""

    shortness: int
    """Characters that its literals lack of `_LENGTH`."""
    count: int
    """How many literals it stands for."""
    source: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known of all that a part of a pattern matches."""

    exact: _Literals | None = None
    """All of it, nothing when it can match nowhere; None when that is too much."""
    starts: _Literals = _EMPTY
    """With which of these it begins."""
    ends: _Literals = _EMPTY
    """With which of these it ends."""
    inside: tuple[_Sieve, ...] = ()

    @property
    def impossible(self) -> bool:
        """Whether it can match nowhere."""
        return self.exact is not None and not self.exact

    def sieves(self) -> tuple[_Sieve, ...]:
        """Return all that it needs."""
        return (*self.inside, *_sieves(self.starts), *_sieves(self.ends))

    def then(self, other: _Part) -> _Part:
        """Return what is known of this part with another one behind it."""
        if self.impossible or other.impossible:
            return _IMPOSSIBLE
        known = self.exact is not None and other.exact is not None
        exact = _product(self.exact or _EMPTY, other.exact or _EMPTY) if known else None
        if exact is not None:
            return _whole(exact)
        starts = _product(self.exact, other.starts) if self.exact is not None else None
        ends = _product(self.ends, other.exact) if other.exact is not None else None
        inside = (*self.inside, *other.inside)
        if ends is None:
            across = _product(self.ends, other.starts)
            inside += _sieves(self.ends) + _sieves(other.starts) if across is None else _sieves(across)
        return _Part(None, starts or self.starts, ends or other.ends, inside)

    def repeated(self, least: int, most: int | None) -> _Part:
        """Return what is known of this part `least` to `most` times in sequence, any number without `most`."""
        if most == 0 or (least == 0 and self.impossible):
            return _whole(_EMPTY)
        if least == 0:
            once = self.exact | _EMPTY if most == 1 and self.exact is not None else None
            return _whole(once) if once and len(once) <= _MOST else _Part()
        parts = [self] * min(least, _LENGTH)
        whole = reduce(_Part.then, parts)
        if whole.exact and (most != least or len(parts) < least):
            whole = _Part(None, whole.exact, whole.exact)
        return replace(whole, inside=(*whole.inside, *self._run(least)))

    def _run(self, least: int) -> tuple[_Sieve, ...]:
        """Return what tells a run of one of a few characters where it is too many literals, as with digits."""
        one = self.exact or frozenset()
        if least < 2 or not _MOST < len(one) ** 2 <= _SMALL**2 or max(map(len, one)) > 1:
            return ()
        # Behind more than `_SMALL` characters the engine looks no further, and so jumps to the first one.
        wide = one | {next(other for other in reversed(_ASCII) if other not in one)}
        second = one if least > 2 else wide | {next(other for other in _ASCII if other not in wide)}
        source = _class(one) + _class(second) + (_class(one) if least > 2 else "")
        return (_Sieve(_LENGTH - 2, len(one) ** 2, source),)


_IMPOSSIBLE = _Part(frozenset(), frozenset(), frozenset())


def _whole(exact: _Literals) -> _Part:
    return _Part(exact, exact, exact)


def need(source: str, flags: str, *, ascii_only: bool = True) -> Need:
    """Return what the pattern `source`, compiled with `flags`, needs of a folded text, of ASCII or of any script."""
    reader = _Reader(
        _LEADING.sub("", source, count=1) if source.startswith("(?i)") else source, flags, ascii_only
    )
    try:
        part = reader.alternatives()
    except ValueError:
        return Need()
    if reader.at < len(reader.source):
        return Need()
    if part.exact is not None:
        return Need(impossible=part.impossible)
    sieves = sorted(set(part.sieves()))
    return Need(sieves=tuple(one.source for one in sieves[:_OFFERED]))


class _Reader:
    """Reads a pattern; raises ValueError at what it does not understand."""

    def __init__(self, source: str, flags: str, ascii_only: bool) -> None:
        self.source, self.flags, self.ascii_only = source, flags, ascii_only
        self.at = 0

    def alternatives(self) -> _Part:
        """Read up to the end of a group."""
        parts = [self._sequence()]
        while self.source[self.at : self.at + 1] == "|":
            self.at += 1
            parts.append(self._sequence())
        return _any_of([part for part in parts if not part.impossible])

    def _sequence(self) -> _Part:
        part = _whole(_EMPTY)
        while self.at < len(self.source) and self.source[self.at] not in "|)":
            part = part.then(self._repeated(self._item()))
        return part

    def _item(self) -> _Part:
        match = _ITEM.match(self.source, self.at)
        if not match:
            raise ValueError(f"not understood at {self.at}")
        begun, self.at = self.at, match.end()
        if match["zero"]:
            return _whole(_EMPTY)
        if match["group"]:
            part = self.alternatives()
            if self.source[self.at : self.at + 1] != ")":
                raise ValueError("a group that is never closed")
            self.at += 1
            return part
        if match["class"]:
            self.at = _closed(self.source, begun)
        if not self.ascii_only:
            literal = match["plain"] or match["escaped"]
            return _whole(frozenset({fold(literal)})) if literal else _Part()
        members = _members(self.source[begun : self.at], self.flags)
        return _whole(members) if len(members) <= _SMALL else _Part()

    def _repeated(self, part: _Part) -> _Part:
        while match := _REPEATED.match(self.source, self.at):
            self.at = match.end()
            if match["sign"]:
                part = part.repeated(int(match["sign"] == "+"), 1 if match["sign"] == "?" else None)
            else:
                least = int(match["least"])
                most = match["most"] if match["more"] else least
                part = part.repeated(least, int(most) if most else None if match["more"] else least)
        if self.source[self.at : self.at + 1] == "{":
            raise ValueError(f"not understood at {self.at}")
        return part


def _any_of(parts: list[_Part]) -> _Part:
    """Return what is known of what matches one of several parts."""
    if len(parts) < 2:
        return parts[0] if parts else _IMPOSSIBLE
    exact: _Literals | None = frozenset[str]().union(*(part.exact or () for part in parts))
    if all(part.exact is not None for part in parts) and exact and len(exact) <= _MOST:
        return _whole(exact)
    starts = frozenset[str]().union(*(part.starts for part in parts))
    ends = frozenset[str]().union(*(part.ends for part in parts))
    best = [min(part.sieves(), default=None) for part in parts]
    each = [one for one in best if one is not None]
    inside: tuple[_Sieve, ...] = ()
    if len(each) == len(parts) and sum(one.count for one in each) <= _MOST:
        source = "|".join(one.source for one in each)
        inside = (_Sieve(max(one.shortness for one in each), sum(one.count for one in each), source),)
    return _Part(
        None, starts if len(starts) <= _MOST else _EMPTY, ends if len(ends) <= _MOST else _EMPTY, inside
    )


def _product(firsts: _Literals, seconds: _Literals) -> _Literals | None:
    """Return every one of the first with every one of the second behind it; None when those are too many or long."""
    if len(firsts) * len(seconds) > _MOST or max(map(len, firsts)) + max(map(len, seconds)) > _LENGTH:
        return None
    return frozenset(one + other for one in firsts for other in seconds)


def _sieves(literals: _Literals) -> tuple[_Sieve, ...]:
    """Return what tells that one of some literals is there, as far as the engine finds that quickly."""
    told = sorted(one for one in literals if not any(other in one for other in literals if other != one))
    shortest = min(map(len, told), default=0)
    if not shortest or len(told) > (_MOST if shortest > 1 else _SMALL):
        return ()
    return (_Sieve(_LENGTH - shortest, len(told), "|".join(map(re.escape, told))),)


def _class(characters: Iterable[str]) -> str:
    return "[" + "".join(f"\\x{ord(one):02x}" for one in sorted(characters)) + "]"


def _closed(source: str, at: int) -> int:
    """Return the place after the class that opens at `at`; raises ValueError where it is never closed."""
    depth = 0
    while at < len(source):
        sign = source[at]
        if sign == "\\":
            at += 1
        elif sign == "[":
            depth += 1
            # A ] right after [ or [^ is a member of the class.
            at += 1 if source[at + 1 : at + 2] == "^" else 0
            at += 1 if source[at + 1 : at + 2] == "]" else 0
        elif sign == "]":
            depth -= 1
        at += 1
        if not depth:
            return at
    raise ValueError("a class that is never closed")


@lru_cache(maxsize=1024)
def _members(source: str, flags: str) -> _Literals:
    """Return the characters of folded ASCII that an item may be."""
    try:
        alone = pl.Series(_ASCII).str.contains(rf"{flags}\A(?:{source})\z")
    except pl.exceptions.PolarsError:
        return frozenset(_ASCII)
    return frozenset(one for one, member in zip(_ASCII, alone, strict=True) if member)
