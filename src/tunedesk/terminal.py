"""Text from data, made safe for a terminal: what could act on it is shown instead of obeyed."""

from __future__ import annotations

import json
import re

_ACTING = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
_C1, _BIDI, _SURROGATES = (
    range(0x80, 0xA0),
    (*range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    range(0xD800, 0xE000),
)
_INVISIBLE = (0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0x2060, 0xFEFF)
_ACTING |= dict.fromkeys((*_C1, *_BIDI, *_SURROGATES, *_INVISIBLE), 0xFFFD)
_UNSAFE_IN_JSON = re.compile(
    "[\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str, *, keep: str = "\n") -> str:
    """Return `text` with control, bidi and zero-width characters replaced by visible marks, but for those in `keep`.

    C0 becomes its picture (ESC is shown as ␛), C1, bidi, zero-width and lone surrogates become U+FFFD. Zero-width
    joiners stay: scripts and emoji need them.
    """
    if text.isprintable():
        return text
    table = _ACTING if not keep else {code: sign for code, sign in _ACTING.items() if chr(code) not in keep}
    return text.translate(table)


def json_text(value: object) -> str:
    """Return one JSON document of `value` whose strings hold no character that acts on a terminal."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
