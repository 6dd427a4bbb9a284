"""Faults of a line before it is a row: bytes that are not UTF-8, JSON that readers disagree on, keys met twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tunedesk.core.checking.findings import Finding, finding

_KEY = re.compile(rb'"\s*:')


def read_line(raw: bytes, line: int) -> tuple[Any, list[Finding]]:
    """Return the value of a JSONL line and what is wrong with its bytes; the value is None when it is not JSON.

    Never raises: deep nesting, huge numbers, NUL and cut text end in findings.
    """
    found: list[Finding] = []
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _read_slowly(raw, line)
    if _keys_differ(raw, value):
        found.extend(_duplicates(raw, line))
    return value, found


def _read_slowly(raw: bytes, line: int) -> tuple[Any, list[Finding]]:
    """Decode what the fast reader refuses, to say why, and to keep the row where its meaning is clear."""
    found: list[Finding] = []
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found.append(finding("not_utf8", line, None, f"at byte {error.start + 1}", fixable=False))
        text = raw.decode("utf-8", "replace")
    seen = _Seen()
    try:
        value = json.loads(
            text, object_pairs_hook=seen.object, parse_constant=seen.constant, parse_int=_integer
        )
    except RecursionError:
        return None, [*found, finding("too_deep", line, None)]
    except json.JSONDecodeError as error:
        return None, [
            *found,
            finding("json_invalid", line, None, f"{error.msg} at character {error.pos + 1}"),
        ]
    found.extend(finding("nan", line, None, name) for name in sorted(seen.constants))
    found.extend(finding("duplicate_key", line, None, name[:60]) for name in sorted(seen.twice))
    return value, found


def _integer(digits: str) -> int | float:
    """Read an integer; those longer than Python reads become infinite, as in a browser."""
    return float(digits) if len(digits) > 300 else int(digits)


class _Seen:
    """Collects what json's reader passes over in silence."""

    def __init__(self) -> None:
        self.twice: set[str] = set()
        self.constants: set[str] = set()

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            self.twice.update(name for name in made if names.count(name) > 1)
        return made

    def constant(self, name: str) -> float:
        self.constants.add(name)
        return float(name)


def _keys_differ(raw: bytes, value: object) -> bool:
    """Return whether a line may hold a key twice: more key marks in its bytes than keys in its value.

    A mark inside a text (an escaped quote before a colon) only costs the slow way; a key that ends in an escaped
    backslash hides no mark, as any escaped backslash before a quote goes the slow way, too.
    """
    return b'\\\\"' in raw or len(_KEY.findall(raw)) > keys_in(value)


def keys_in(value: object) -> int:
    """Return how many keys the objects of a JSON value hold in all."""
    count, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            count += len(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return count


def _duplicates(raw: bytes, line: int) -> Iterator[Finding]:
    seen = _Seen()
    try:
        json.loads(raw, object_pairs_hook=seen.object, parse_int=_integer)
    except RecursionError:
        yield finding("too_deep", line, None)
    for name in sorted(seen.twice):
        yield finding("duplicate_key", line, None, name[:60])


def texts_of(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, its keys too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str):
            yield one


def has_lone(value: object) -> bool:
    """Return whether any text in `value` holds half of a surrogate pair."""
    return any(is_lone(text) for text in texts_of(value))


def is_lone(text: str) -> bool:
    """Return whether a text holds half of a surrogate pair."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def encoded(row: object) -> bytes:
    """Return a row as JSON, also one that UTF-8 cannot hold (half of a surrogate pair) or with huge numbers."""
    try:
        return msgspec.json.encode(row)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(row).encode()
