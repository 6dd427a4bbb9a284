"""Text from data, made safe for a terminal: what could act on it is shown instead of obeyed."""

from __future__ import annotations

import json
import re

_ACTING = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
_ACTING |= dict.fromkeys(range(128, 160), 65533)
_ACTING |= dict.fromkeys((*range(8234, 8239), *range(8294, 8298), 8203, 8206, 8207, 1564, 8232, 8233, 8288, 65279, 173, *range(55296, 57344)), 65533)  # fmt: skip
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
