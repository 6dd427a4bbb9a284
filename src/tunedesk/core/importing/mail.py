"""E-mail: a message as a file of its own (.eml) or many in one (mbox), as rows of a table of messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from typing import Any

from tunedesk.core.importing import html_text
from tunedesk.core.importing.sources import Item

_POSTMARK = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From \S.*\d{4}.*\r?\n")
"""The line that begins each message of an mbox."""
_HEADERS = re.compile(rb"(?:[\w-]+:[ \t].*(?:\r?\n[ \t].*)*(?:\r?\n|\Z))+")
_TELLING = (rb"subject:", rb"date:", rb"message-id:", rb"mime-version:", rb"received:")
_ID = re.compile(r"<[^<>\s]+>")
_QUOTED = re.compile(
    r"\n\s*(?:-{2,}\s*(?:Original|Urspr|Mensaje|Message|Weitergel|Forwarded)[^\n]*-{2,}"
    r"|_{10,}\s*\n\s*(?:From|Von|De|Da|Van|Fra|Från|От)\s*:"
    r"|(?:On|Am|Le|El|Il|Op|Em|Den|Dnia|W dniu)\b[^\n]{4,120}(?:\n[^\n]{1,120})?[^\n]*:\s*(?=\n\s*>|\Z))",
)
"""Where an answer goes on with the message it answers, as mail programs of several languages mark it."""


def is_mail(head: bytes) -> bool:
    """Return whether a file begins as an mbox or as the headers of a message."""
    start = _POSTMARK.match(head)
    block = _HEADERS.match(head, start.end() if start else 0)
    if block is None:
        return False
    lines = block.group().lower()
    begun = lines.startswith(b"from:") or b"\nfrom:" in lines
    return begun and sum(name in lines for name in _TELLING) >= (1 if start else 2)


def messages(data: bytes) -> Iterator[Item]:
    """Yield each message with the line it begins on: who wrote it, when, what, and the thread it belongs to."""
    starts = [found.start() for found in _POSTMARK.finditer(data)] or [0]
    read: list[tuple[int, EmailMessage]] = []
    line, counted = 1, 0
    for place, start in enumerate(starts):
        line += data.count(b"\n", counted, start)
        counted = start
        stop = starts[place + 1] if place + 1 < len(starts) else len(data)
        piece = _POSTMARK.sub(b"", data[start:stop], count=1)
        read.append((line, message_from_bytes(piece, policy=policy.default)))
    above = {_ids(one, "Message-ID")[-1:][0]: _parent(one) for _, one in read if _ids(one, "Message-ID")}
    for line, one in read:
        yield _item(line, one, above)


def _item(line: int, one: EmailMessage, above: dict[str, str]) -> Item:
    try:
        text = _body(one)
    except (LookupError, ValueError, KeyError, AttributeError) as error:
        return Item(line, {}, f"the message cannot be read: {error}")
    own = next(iter(_ids(one, "Message-ID")), f"line {line}")
    record: dict[str, Any] = {
        "conversation_id": _root(own, _parent(one), above),
        "from": parseaddr(_header(one, "From"))[1] or _header(one, "From"),
        "date": _date(one),
        "text": _unquoted(text),
        "subject": _header(one, "Subject"),
    }
    return Item(line, record)


def _root(own: str, parent: str, above: dict[str, str]) -> str:
    seen = {own}
    at = parent or own
    while at in above and above[at] and at not in seen:
        seen.add(at)
        at = above[at]
    return at


def _parent(one: EmailMessage) -> str:
    """Return the first message of the thread as the headers tell it, else the one that is answered."""
    return next(iter(_ids(one, "References") or _ids(one, "In-Reply-To")), "")


def _ids(one: EmailMessage, name: str) -> list[str]:
    return _ID.findall(_header(one, name))


def _header(one: EmailMessage, name: str) -> str:
    try:
        return str(one.get(name, "") or "")
    except (ValueError, IndexError, AttributeError, TypeError):
        return ""  # the standard library's parser fails on some damaged headers


def _date(one: EmailMessage) -> str:
    try:
        return parsedate_to_datetime(_header(one, "Date")).isoformat()
    except (ValueError, TypeError):
        return ""


def _body(one: EmailMessage) -> str:
    part = one.get_body(("plain", "html"))
    if part is None:
        return ""
    text = str(part.get_content())
    return html_text.to_text(text) if part.get_content_type() == "text/html" else text


def _unquoted(text: str) -> str:
    """Return what a message says itself, without the message it answers below it and without a signature."""
    text = text.replace("\r\n", "\n")
    cut = _QUOTED.search(text)
    lines = (text[: cut.start()] if cut else text).split("\n")
    kept = [line for line in lines if not line.startswith(">")]
    if "-- " in kept:
        kept = kept[: kept.index("-- ")]
    return "\n".join(kept).strip()
