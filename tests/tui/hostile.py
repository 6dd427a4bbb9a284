"""Text that attacks a terminal or a markup parser, to be put wherever data is shown."""

from __future__ import annotations

HOSTILE = {
    "clipboard": "\x1b]52;c;cHduZWQ=\x07",
    "clipboard_st": "\x1b]52;c;cHduZWQ=\x1b\\",
    "cursor": "\x1b[2J\x1b[H\x1b[31m",
    "report": "\x1b[6n",
    "link": "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "screen": "\x1b[?1049l",
    "c1": "\x9b31m\x9d52;c;x\x9c",
    "nul": "a\x00b\x7fc",
    "action": "[@click=app.quit]CLICKME[/]",
    "action_unseen": "[ @click=app.quit]CLICKME[/] [N]o [A-Z]",
    "broken_markup": "order [1] and [/nope] [/]",
    "bidi": "\u202eevil\u202c \u2066x\u2069",
    "zero_width": "pay\u200bpal \ufeff\u00ad",
    "surrogate": "\udc80",
}
EVERYTHING = " ".join(value for value in HOSTILE.values() if value != "\udc80")
"""All of it in one text that JSON can carry."""
ACTING = "\x1b\x00\x07\x7f\x9b\x9d\x9c\u202e\u2066\u200b\ufeff"
"""Characters of which none may ever reach the terminal from data."""
