"""The plain case, read fast: a row of text messages in an order that nothing can be said against.

Whatever is not wholly plain is left to the exact way (file_checks, row_checks), which finds the same in a plain row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tunedesk.core.checking.file_checks import keys_in

_KEY = re.compile(rb'"\s*:')
_SPACED = re.compile(rb'"[ \t\n\r]+:')
"""A key that is parted from its colon."""
_LONGEST = 1 << 16
"""Bytes up to which a line is taken for plain; giant texts are looked at with more care."""
_SYSTEM = ("system", "developer")


class PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of text alone."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | UnsetType = UNSET


class PlainRow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A conversation of such messages."""

    messages: list[PlainMessage]
    metadata: dict[str, Any] | UnsetType = UNSET


_decode = msgspec.json.Decoder(PlainRow).decode


def plain_row(raw: bytes) -> PlainRow | None:
    """Return the row of a line when it is plain: no key twice, no other field, a good order of roles and weights."""
    if len(raw) > _LONGEST or b"\\u0000" in raw:
        return None
    try:
        row = _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    messages = row.messages
    keys = 1 + 2 * len(messages)
    weighed = [one for one in messages if one.weight is not UNSET]
    if weighed:
        keys += len(weighed)
        if not _weights_are_good(messages, weighed):
            return None
    if row.metadata is not UNSET:
        keys += 1 + keys_in(row.metadata)
    if _keys_of(raw) != keys or not is_good_order(tuple([one.role for one in messages])):
        return None
    return row


def _keys_of(raw: bytes) -> int:
    """Return how many keys a line has at most: a quote before a colon may also stand within a text."""
    if _SPACED.search(raw):
        return len(_KEY.findall(raw))
    return raw.count(b'":')


def _weights_are_good(messages: Sequence[PlainMessage], weighed: Sequence[PlainMessage]) -> bool:
    """Return whether only answers have weights, and one of them counts."""
    trained = any(one.role == "assistant" and one.weight != 0 for one in messages)
    return trained and all(one.role == "assistant" for one in weighed)


@lru_cache(maxsize=20_000)
def is_good_order(roles: tuple[str, ...]) -> bool:
    """Return whether roles follow in an order without findings: at most one prompt, the user first, an answer last."""
    spoken = roles[1:] if roles and roles[0] in _SYSTEM else roles
    if len(spoken) < 2 or spoken[0] != "user" or spoken[-1] != "assistant":
        return False
    return not any(role in _SYSTEM for role in spoken)
