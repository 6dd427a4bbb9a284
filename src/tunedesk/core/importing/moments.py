"""Times as tables write them, as numbers that sort: ISO dates, epochs, days first or months first, names of months."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "")
_DAY_FIRST = ("%d/%m/%Y", "%d/%m/%y")
_MONTH_FIRST = ("%m/%d/%Y", "%m/%d/%y")
_NAMED = (
    "%d %b %Y", "%b %d %Y", "%d %B %Y", "%B %d %Y", "%a %b %d %Y", "%a %d %b %Y", "%Y/%m/%d", "%d %b %y", "",
)  # fmt: skip
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/\d{2,4}\b")
_DOTTED = re.compile(r"\d{1,2}\.\d{1,2}\.\d")
"""Dates parted by points have their day first everywhere."""
_TWITTER = "%a %b %d %H:%M:%S %z %Y"


def day_first(cells: Iterable[str]) -> bool:
    """Return whether dates such as 03/04/2024 have their day first, as far as one of `cells` tells by a day over 12."""
    return any(int(found[1]) > 12 for cell in cells if (found := _SLASHED.match(_parted(cell))))


def moment(cell: str, *, days_first: bool = False) -> float | None:
    """Return a time as a number that sorts (seconds, or the number it is); None when it is none that is known."""
    text = cell.strip()
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError):
        return _seconds(datetime.fromisoformat(text.removesuffix(" UTC").replace(" +", "+")))
    with suppress(ValueError):
        return _seconds(datetime.strptime(text, _TWITTER))
    bare = _parted(text)
    dates = (*(_DAY_FIRST if days_first or _DOTTED.match(text) else _MONTH_FIRST), *_NAMED)
    date, clock = _halves(bare)
    if not bare:
        return None
    day = _read(date, dates)
    time = _read(clock, _CLOCKS)
    if day is None or time is None:
        return None
    return _seconds(datetime.combine(day.date(), time.time()))


def _parted(text: str) -> str:
    """Return a date with its parts joined by slashes, and without commas, zones and ordinal endings."""
    bare = re.sub(r",| at (?=\d)|T(?=\d)|(?<=\d)(?:st|nd|rd|th)\b|\b(?:UTC|GMT|Z)\b|Uhr", " ", text)
    bare = re.sub(r"^(\d{1,4})[.-](\d{1,2})[.-](\d{2,4})", r"\1/\2/\3", bare.strip())
    return " ".join(bare.replace(". ", " ").replace("a.m.", "AM").replace("p.m.", "PM").split())


def _halves(text: str) -> tuple[str, str]:
    clock = re.search(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?", text)
    if not clock:
        return text, ""
    time = re.sub(r"(?<=\d)(?=[ap]m)", " ", clock.group(), flags=re.I)
    return (text[: clock.start()] + text[clock.end() :]).strip(), time.upper()


def _read(text: str, forms: Iterable[str]) -> datetime | None:
    for form in forms:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    return None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
