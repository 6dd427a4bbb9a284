"""Regular expressions over folded text, in three forms that give the same rows at very different speed.

Polars' engine runs in time linear in the text, so no pattern hangs; but it gives up its fast automaton for a Unicode
word boundary beside a character beyond ASCII (measured: 17 times slower), and `\\d` over all scripts costs 4 times
`[0-9]`. So text that is all ASCII is searched by the ASCII form; the rest by the exact form, after a form without
word boundaries, which matches at least as much, has sifted it.

What no such form makes fast is sifted by what the pattern needs (necessary.py), where a sample says that it pays.

A text holds all messages of a role, joined by a character that every class of a pattern is rid of, with a line feed on
either side. So no match gets across, and one that is not said in a message begins or ends right beside that character:
what a pattern that may begin or end with a line feed (`\\s`, `\\W`, `[^x]`) matches must have another beside it. Where
a pattern is not understood, what it finds is looked at again, message by message.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

from tunedesk.core.datasets.indexing import MESSAGE_BREAK, fold
from tunedesk.core.searching.necessary import Need, need
from tunedesk.core.searching.query import Pattern, QueryError

FIRST_ROWS = 4_096
"""Rows searched before the first look at whether the search was cancelled."""
_SLICE_S = 0.02
"""Seconds that may pass between two such looks. Every look costs: Polars compiles the pattern at each call."""

_SAMPLE = 256
"""Texts by which the quickest way of looking is chosen."""
_QUICK_S = 1e-4
"""Seconds for these texts that no sieve makes shorter: what is measured is mostly how long the pattern is compiled."""
_WORTH = 0.7
"""The share of the time that a sieve must not exceed, for what it lets through is looked at twice."""

_BOUNDARIES = frozenset("bB")
_FLAGS = re.compile(r"\(\?[a-zA-Z]*[smx-]")
_UNFOLDABLE = re.compile(r"\(\?|\\[pPxuU]")
"""Groups with flags or names, properties and code points: case is left to the engine there."""

_ASCII_CLASSES = {
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\w": "[0-9A-Za-z_]",
    r"\W": "[^0-9A-Za-z_]",
    r"\s": r"[\t-\r ]",
    r"\S": r"[^\t-\r ]",
    r"\b": r"(?-u:\b)",
}
"""What stands for an escape in ASCII text, alone or within another class."""
_ESCAPED_CLASSES = frozenset("dDsSwW")
_NAMED = frozenset("pPxuU0")
"""Escapes of several characters."""
_ENDS = {r"\A": "^", r"\z": "$"}
"""The ends of a text, as those of any line."""
_ZERO_WIDTH = frozenset({"^", "$", r"\b"})
_MARK = MESSAGE_BREAK.strip("\n")
_JOINING = pl.Series(["\n", _MARK])
_WITHOUT_MARK = r"--\x1e"
_AFTER_TEXT, _BEFORE_TEXT = r"(?:\A|[^\x1e])", r"(?:\z|[^\x1e])"
"""What must come before and after a match that may hold one of the line feeds between two messages."""
_REPEATING = (["?"], ["*"], ["+"], ["{"])
_WRITTEN = re.compile(r"\w\w|\\[^\w\s<>]|[^\w\\\[().^$|]")
"""Text that a pattern begins with, seldom enough to be jumped to."""
_OPEN_ENDED = frozenset({*"()?*+{}", r"\<", r"\>"})
"""What has a pattern begin or end with something that is not looked into."""


Form: TypeAlias = "tuple[str, ...]"
"""Expressions of which a text matches one where it matches the pattern."""


class _Tried:
    """What the first texts of a role have taught of a pattern: which way of looking for it is the quickest."""

    def __init__(self) -> None:
        self._chosen: dict[str, str | None] = {}

    def sieve(self, form: Form, sieves: tuple[str, ...], texts: pl.Series, role: str) -> str | None:
        """Return the sieve that saves time, None when there is none."""
        if role not in self._chosen:
            if len(texts) < _SAMPLE:
                return None
            sample = texts[: _SAMPLE if sieves else 0]
            whole, best = _seconds(sample, form)[0], None
            least = whole * _WORTH
            for sieve in sieves if whole > _QUICK_S else ():
                taken, left = _seconds(sample, (sieve,))
                taken += whole * left
                if taken < least:
                    least, best = taken, sieve
            self._chosen[role] = best
        return self._chosen[role]


def _seconds(texts: pl.Series, form: Form) -> tuple[float, float]:
    """Return how long a search takes, what compiles the pattern apart, and the share of texts that match."""
    none, taken = _timed(texts[:0], form)[0], _timed(texts, form)
    return max(0.0, taken[0] - none), int(taken[1].sum()) / max(1, len(texts))


def _timed(texts: pl.Series, form: Form) -> tuple[float, pl.Series]:
    """Return the shorter time of two searches, and which texts match."""
    best, matched = math.inf, texts
    for _ in range(2):
        began = time.perf_counter()
        matched = _met(texts, form)
        best = min(best, time.perf_counter() - began)
    return best, matched


@dataclass(frozen=True, slots=True)
class Expression:
    """One pattern in its three forms."""

    exact: Form
    ascii: Form
    sieve: Form | None
    """Without word boundaries; None when there are none."""
    matches_empty: bool = False
    """Whether a message without text matches."""
    single: str | None = None
    """For one message alone, where the other forms may match because of what joins messages; else None."""
    need: Need = field(default_factory=Need)
    """What ASCII texts must hold."""
    need_anywhere: Need = field(default_factory=Need)
    """What any text must hold."""
    _tried: _Tried = field(default_factory=_Tried, compare=False)
    _tried_wide: _Tried = field(default_factory=_Tried, compare=False)

    def contains(
        self, texts: pl.Series, wide: Callable[[], pl.Series], cancelled: Callable[[], bool], role: str = ""
    ) -> pl.Series:
        """Return a mask of the texts of a role that match; `wide` tells which hold characters beyond ASCII."""
        found = self._joined(texts, wide(), cancelled, role)
        if self.single is None:
            return found
        doubtful = found.arg_true()
        found = found.scatter(doubtful, False) if len(doubtful) else found
        for start in range(0, len(doubtful), FIRST_ROWS):
            if cancelled():
                break
            places = doubtful[start : start + FIRST_ROWS]
            hits = _one_by_one(texts.gather(places), self.single)
            found = found.scatter(places.filter(hits), True) if hits.any() else found
        return found

    def _joined(
        self, texts: pl.Series, wide: pl.Series, cancelled: Callable[[], bool], role: str
    ) -> pl.Series:
        rest = wide.arg_true()
        if len(rest) * 2 < len(texts):
            # What the ASCII form says of the few other texts is said again below.
            found = self._narrow(texts, cancelled, role)
            if not len(rest):
                return found
            found = found & ~wide
        else:
            found = pl.zeros(len(texts), dtype=pl.Boolean, eager=True)
            narrow = (~wide).arg_true()
            found = found.scatter(narrow.filter(self._narrow(texts.gather(narrow), cancelled, role)), True)
        left, need, tried = texts.gather(rest), self.need_anywhere, self._tried_wide
        rest = rest.filter(_sifted(left, self.sieve or self.exact, need, tried, cancelled, role))
        if self.sieve is not None:
            rest = rest.filter(_scan(texts.gather(rest), self.exact, cancelled))
        return found.scatter(rest, True)

    def _narrow(self, texts: pl.Series, cancelled: Callable[[], bool], role: str) -> pl.Series:
        """Return which texts match, told by the ASCII form and what it needs."""
        if self.need.impossible:
            return pl.zeros(len(texts), dtype=pl.Boolean, eager=True)
        return _sifted(texts, self.ascii, self.need, self._tried, cancelled, role)


def compile_pattern(pattern: Pattern) -> Expression:
    """Return the forms of a pattern; raises QueryError at its column when it is not a regular expression."""
    foldable = not _UNFOLDABLE.search(pattern.source)
    flags = "(?m)" if foldable else "(?im)"
    source = _fold(pattern.source) if foldable else pattern.source
    exact = flags + source
    try:
        pl.Series([""]).str.contains(exact)
    except pl.exceptions.PolarsError as error:
        reason = re.search(r"^error: (.+)$", str(error), re.MULTILINE)
        what = reason.group(1) if reason else str(error).splitlines()[0].removeprefix("regex error: ")
        raise QueryError(
            f"not a regular expression: {what}",
            'quote it to search for it as text: "…"',
            column=pattern.column,
        ) from error
    by_lines = "".join(_ENDS.get(token, token) if not inside else token for token, inside in _tokens(source))
    told = _told_apart(by_lines, flags)
    joined = by_lines if told is None else told
    sieve = _without_boundaries(joined)
    return Expression(
        exact=_form(joined, flags),
        ascii=_form(_ascii(joined), flags),
        sieve=None if sieve == joined else _form(sieve, flags),
        matches_empty=pl.Series([""]).str.contains(exact)[0],
        single=exact if told is None or by_lines != source else None,
        need=need(by_lines, flags),
        need_anywhere=need(by_lines, flags, ascii_only=False),
    )


def _form(source: str, flags: str) -> Form:
    """Return a pattern as it is searched for: what begins or ends a line as two, for the engine jumps to line feeds.

    It jumps to what the pattern begins with, too, where that is written out.
    """
    elements = _elements(source)
    if _WRITTEN.match(source.removeprefix("^")):
        return (flags + source,)
    if _begins_line(elements):
        rest = source.removeprefix("^")
        return (rf"{flags}\A{rest}", rf"{flags}\n{rest}")
    if _ends_line(elements) and not _FLAGS.search(source):
        rest = source.removesuffix("$")
        return (rf"{flags}{rest}\z", rf"{flags}{rest}\n")
    return (flags + source,)


def _begins_line(elements: list[str]) -> bool:
    """Whether all that a pattern matches begins a line."""
    return elements[:1] == ["^"] and elements[1:2] not in _REPEATING and not _has_alternatives(elements)


def _ends_line(elements: list[str]) -> bool:
    """Whether all that a pattern matches ends a line."""
    return elements[-1:] == ["$"] and not _has_alternatives(elements)


def _has_alternatives(elements: list[str]) -> bool:
    """Whether a pattern is one thing or another, outside of any group."""
    depth = 0
    for element in elements:
        depth += (element == "(") - (element == ")")
        if element == "|" and not depth:
            return True
    return False


def _one_by_one(texts: pl.Series, source: str) -> pl.Series:
    """Return which texts hold a message that matches."""
    messages = texts.str.split(MESSAGE_BREAK)
    owners = pl.arange(0, len(texts), dtype=pl.UInt32, eager=True)
    owners = owners.repeat_by(messages.list.len()).explode()
    hits = owners.filter(messages.explode().str.contains(source)).unique()
    mask = pl.zeros(len(texts), dtype=pl.Boolean, eager=True)
    return mask.scatter(hits, True) if len(hits) else mask


def _met(texts: pl.Series, form: Form) -> pl.Series:
    """Return which texts match one of the expressions of a form."""
    found = texts.str.contains(form[0])
    for other in form[1:]:
        rest = (~found).arg_true()
        found = found.scatter(rest.filter(texts.gather(rest).str.contains(other)), True)
    return found


def _scan(texts: pl.Series, form: Form, cancelled: Callable[[], bool]) -> pl.Series:
    masks = [pl.Series([], dtype=pl.Boolean)]
    start, size = 0, FIRST_ROWS
    while start < len(texts):
        part = texts[start : start + size]
        if cancelled():
            masks.append(pl.zeros(len(texts) - start, dtype=pl.Boolean, eager=True))
            break
        began = time.perf_counter()
        masks.append(_met(part, form))
        start += len(part)
        taken = time.perf_counter() - began
        size = max(FIRST_ROWS, int(len(part) * _SLICE_S / max(taken, 1e-6)))
    return pl.concat(masks)


def _sifted(
    texts: pl.Series, form: Form, need: Need, tried: _Tried, cancelled: Callable[[], bool], role: str
) -> pl.Series:
    """Return which texts match, those alone looked at that hold what is needed where that saves time."""
    sieve = tried.sieve(form, need.sieves, texts, role)
    if sieve is None:
        return _scan(texts, form, cancelled)
    left = _scan(texts, (sieve,), cancelled).arg_true()
    found = pl.zeros(len(texts), dtype=pl.Boolean, eager=True)
    return found.scatter(left.filter(_scan(texts.gather(left), form, cancelled)), True)


def _tokens(source: str) -> list[tuple[str, bool]]:
    """Split a pattern into escapes and single characters, each with whether it stands in a [class]."""
    tokens: list[tuple[str, bool]] = []
    depth = place = 0
    while place < len(source):
        token = source[place : place + 2] if source[place] == "\\" else source[place]
        tokens.append((token, depth > 0))
        if token == "[":
            depth += 1
        elif token == "]" and depth and tokens[-2][0] not in ("[", "^"):
            # A ] right after [ or [^ is a member of the class.
            depth -= 1
        place += len(token)
    return tokens


def _told_apart(source: str, flags: str) -> str | None:
    """Keep a pattern from matching anything of what parts two messages; None where it is not understood.

    The engine itself is asked what a class holds.
    """
    if _FLAGS.search(source):
        return None
    elements, feeds = _elements(source), []
    for place, element in enumerate(elements):
        escaped = element[1:] if element[0] == "\\" else ""
        if escaped in _NAMED and escaped:
            return None
        feed = element == "\n" or escaped in ("n", "B")
        if element[0] == "[" or element == "." or escaped in _ESCAPED_CLASSES:
            try:
                feed, mark = _JOINING.str.contains(rf"{flags}\A{element}\z")
            except pl.exceptions.PolarsError:
                return None
            held = element if element != "." else r"[^\n]"
            elements[place] = f"[{held}{_WITHOUT_MARK}]" if mark else element
        feeds.append(feed)
    marked = "".join(elements)
    if not any(feeds):
        return marked
    # Nothing before a beginning of a line, or behind the end of one, can be what is between two messages.
    first, last = _begins_line(elements), _ends_line(elements)
    after = "^" if first else "" if _is_solid(elements, feeds) else _AFTER_TEXT
    before = "$" if last else "" if _is_solid(elements[::-1], feeds[::-1]) else _BEFORE_TEXT
    return f"{after}(?:{''.join(elements[first : len(elements) - last])}){before}"


def _is_solid(elements: list[str], feeds: list[bool]) -> bool:
    """Whether a pattern surely begins (or ends, both given backwards) with a character that is no line feed."""
    if "|" in elements:
        return False
    first = next((place for place, one in enumerate(elements) if one not in _ZERO_WIDTH), 0)
    return not feeds[first] and not any(one in _OPEN_ENDED for one in elements[first : first + 2])


def _elements(source: str) -> list[str]:
    """Split a pattern into escapes, whole [classes] and single characters."""
    elements: list[str] = []
    for token, inside in _tokens(source):
        if inside:
            elements[-1] += token
        else:
            elements.append(token)
    return elements


def _fold(source: str) -> str:
    return "".join(token if token[0] == "\\" else fold(token) for token, _ in _tokens(source))


def _ascii(source: str) -> str:
    return "".join(_ASCII_CLASSES.get(token, token) for token, _ in _tokens(source))


def _without_boundaries(source: str) -> str:
    """Drop \\b and \\B, but leave what a repetition sign after one would then repeat: an empty group."""
    return "".join(
        "(?:)" if len(token) == 2 and token[1] in _BOUNDARIES and not inside else token
        for token, inside in _tokens(source)
    )
