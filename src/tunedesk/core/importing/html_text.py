"""HTML bodies of tickets and mails as the text that a reader saw."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BODY = re.compile(
    r"\s*<(?:!doctype html|html|body|div|p|span|table|ul|ol|blockquote|h[1-6]|a|b|strong|em)\b[^>]*>", re.I
)
_BREAK = re.compile(r"<br\s*/?>|</(?:p|div|li|tr|ul|ol|table|h[1-6]|html|body)\s*>", re.I)
_NEW_LINE = re.compile(r"<br\s*/?>", re.I)
_LINES = frozenset(
    [
        "p",
        "div",
        "br",
        "li",
        "tr",
        "ul",
        "ol",
        "table",
        "blockquote",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "section",
        "article",
        "header",
        "footer",
        "pre",
    ]
)
_UNSEEN = frozenset(("script", "style", "head", "title", "template"))
_MOST_TAGS = 200_000
"""Tags read: a body with more is no message."""


def is_html(text: str) -> bool:
    """Return whether a whole text is written in HTML: it begins with a tag and closes them, or breaks lines by <br>."""
    if "<" not in text or ">" not in text:
        return False
    if _BODY.match(text):
        return bool(_BREAK.search(text)) or text.rstrip().endswith(">")
    return "`" not in text and bool(_NEW_LINE.search(text))


def read(text: str) -> str:
    """Return a text as it is read: HTML as text, anything else as it is."""
    return to_text(text) if is_html(text) else text


def to_text(html: str) -> str:
    """Return what is read in `html`: entities as characters, paragraphs, list items and table rows on lines."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = [" ".join(line.split()) for line in "".join(reader.parts).replace("\xa0", " ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0
        self._tags = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags += 1
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "br":
            self.parts.append("\n")
        elif tag in _LINES:
            self._break()
            self.parts += ["- "] if tag == "li" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _LINES and tag != "br":
            self._break()
            self.parts += ["\n"] if tag == "p" else []
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        bare = re.sub(r"\s+", " ", data)
        if not self._unseen and self._tags < _MOST_TAGS and (bare.strip() or not self._at_line_start()):
            self.parts.append(bare)

    def _at_line_start(self) -> bool:
        return not self.parts or self.parts[-1].endswith("\n")

    def _break(self) -> None:
        if not self._at_line_start():
            self.parts.append("\n")
