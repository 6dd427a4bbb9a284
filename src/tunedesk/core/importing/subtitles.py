"""Subtitles (WebVTT, SubRip) as lines of a transcript: what is said, after the name of who says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_HEAD = re.compile(r"\s*WEBVTT\b|\s*\d+\s*\n\s*\d{1,2}:\d{2}:\d{2}[,.]\d{1,3}\s*-->")
_TIMED = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[,.]\d{1,3}\s*-->")
_VOICE = re.compile(r"<v(?:\.[\w.-]+)?\s+([^>]+)>")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>|<\d[\d:.]*>")


def are_subtitles(text: str) -> bool:
    """Return whether a text begins as subtitles do."""
    return bool(_HEAD.match(text))


def spoken_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the lines of what is said, those with a voice as `Name: …`; numbers, times and notes are left out."""
    within = False
    for number, line in lines:
        if _TIMED.match(line):
            within = True
        elif not line.strip():
            within = False
        elif within:
            yield number, _TAG.sub("", _VOICE.sub(r"\1: ", line)).strip()
