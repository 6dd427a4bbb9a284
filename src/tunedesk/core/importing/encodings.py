"""The old encoding of a text that is not UTF-8, told by which letters its bytes would be."""

from __future__ import annotations

import re
from collections.abc import Callable

_HIGH = re.compile(rb"[\x80-\xff]+")
_ENOUGH = 1 << 16
"""Bytes above ASCII that are looked at."""
_CYRILLIC = frozenset("оеаинтсрвлОЕАИНТСРВЛ")
"""Letters that make up six of ten in Russian; about half in its neighbours."""
_CENTRAL = frozenset(b"\xb9\xb3\x9c\x9f\xec\x9a\x9e")
"""Letters of Polish and Czech in Windows-1250 that are signs, or rare, in Windows-1252."""
_TOGETHER = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]{2,}")
_IN_WORDS = re.compile(rb"[a-z][\xb9\xb3\x9c\x9f\xec\x9a\x9e]")


def legacy_encoding(data: bytes) -> str:
    """Return the codec of the lines in `data`, which are not UTF-8: Windows-1252 when nothing speaks against it."""
    lines = b"\n".join(line for line in data.split(b"\n") if _HIGH.search(line))[:_ENOUGH]
    for name, fits in _WIDE:
        try:
            text = lines.decode(name)
        except UnicodeDecodeError:
            continue
        letters = [letter for letter in text if letter > "\x7f" and letter.isalpha()]
        if letters and sum(map(fits, letters)) > 0.9 * len(letters) and _has_words(text, name, len(letters)):
            return "gb18030" if name == "gb2312" else name
    return _narrow(lines)


def _narrow(lines: bytes) -> str:
    high = _HIGH.findall(lines)
    count = sum(map(len, high)) or 1
    if sum(len(run) for run in high if len(run) > 2) > 0.6 * count:
        for name in ("cp1251", "koi8-r", "cp866"):
            text = b"".join(high).decode(name, "replace")
            common = sum(letter in _CYRILLIC for letter in text)
            small = sum(letter.islower() for letter in text)
            if common > 0.45 * count and small > 0.5 * count:
                return name
    central = sum(byte in _CENTRAL for run in high for byte in run)
    return "cp1250" if central > 0.25 * count and _IN_WORDS.search(lines) else "cp1252"


def _kana_or_han(letter: str) -> bool:
    return "\u3040" <= letter <= "\u30ff" or "\u4e00" <= letter <= "\u9fff"


def _hangul(letter: str) -> bool:
    return "\uac00" <= letter <= "\ud7a3"


def _han(letter: str) -> bool:
    return "\u4e00" <= letter <= "\u9fff"


def _has_words(text: str, name: str, letters: int) -> bool:
    """Return whether letters stand beside each other, and kana among Japanese, which without it is Chinese."""
    if sum(map(len, _TOGETHER.findall(text))) < 0.6 * letters:
        return False
    if name not in ("cp932", "euc_jp"):
        return True
    kana = sum("\u3040" <= letter <= "\u30ff" for letter in text)
    return kana > 0.2 * sum(map(_kana_or_han, text))


_WIDE: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("cp932", _kana_or_han),
    ("euc_jp", _kana_or_han),
    ("cp949", _hangul),
    ("gb2312", _han),
    ("big5", _han),
    ("gb18030", _han),
)
"""Codecs of two bytes a letter in the order tried, and what their letters must be."""
