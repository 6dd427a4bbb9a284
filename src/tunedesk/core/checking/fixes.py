"""Safe fixes: changes that no reader of the row would object to, each undoing one kind of finding.

`fix` never guesses: a finding without an obvious cure stays. `fix_rows` also leaves out exact duplicates.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from tunedesk.core.checking import text_checks
from tunedesk.core.checking.file_checks import encoded, read_line
from tunedesk.core.checking.findings import CHECKS
from tunedesk.core.checking.row_checks import (
    INPUT_KEYS,
    PREFERENCE_KEYS,
    can_drop,
    check_row,
    every_message,
    hidden_faults,
    is_known,
    is_weight_like,
)
from tunedesk.core.checking.tool_checks import has_open_arguments
from tunedesk.core.conversations import MESSAGE_KEYS, ROW_KEYS, Row, SourceRow
from tunedesk.core.grouping.sketches import identity
from tunedesk.core.importing.sources import Progress, Source
from tunedesk.paths import replacing

FIXABLE = frozenset(code for code, check in CHECKS.items() if check.fix)
"""Codes that have a safe fix, in a row or (bom, blank_line, exact_duplicate) in writing the file anew."""

_SYSTEM = ("system", "developer")
_ROUNDS = 5
"""Times the fixes are made: one may show another fault (a text that held nothing but NUL is empty after its fix)."""
Fixer = Callable[[Row], None]


def fix(row: Row, codes: Collection[str] = FIXABLE) -> tuple[Row, tuple[str, ...]]:
    """Return `row` with the safe fixes of `codes` applied, and the codes that were found before and are gone now.

    The row given is not changed. Shapes that the checks refuse (no list of messages) are returned as they are.
    """
    found: dict[str, None] = {}
    fixed = row
    for _ in range(_ROUNDS):
        before = _fixable(fixed)
        wanted = [code for code in _FIXERS if code in before and code in codes]
        if not wanted:
            break
        changed = deepcopy(fixed)
        for code in wanted:
            _FIXERS[code](changed)
        if encoded(changed) == encoded(fixed):
            break
        fixed = changed
        found.update(dict.fromkeys(wanted))
    if not found:
        return row, ()
    after = _fixable(fixed)
    return fixed, tuple(code for code in found if code not in after)


def _fixable(row: Row) -> set[str]:
    """Return the codes of the findings on `row` alone that have a safe fix."""
    return {one.code for one in (*check_row(row, 0), *hidden_faults(row, 0)) if one.fix}


class Copies:
    """Tells which rows say exactly what an earlier one said."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def has(self, row: Row) -> bool:
        """Return whether `row` is a copy; a row that says nothing never is."""
        if not (row.get("messages") or "preferred_output" in row):
            return False
        said = identity(row)
        known = said in self._seen
        self._seen.add(said)
        return known


def fix_rows(
    rows: Iterable[SourceRow],
    codes: Collection[str] = FIXABLE,
    on_fixed: Callable[[int, str], None] | None = None,
) -> Iterator[SourceRow]:
    """Yield the fixed rows; `on_fixed(line, code)` hears of each fix, and of each exact duplicate left out."""
    told = on_fixed or (lambda _line, _code: None)
    copies = Copies()
    for source in rows:
        row, fixed = fix(source.row, codes)
        for code in fixed:
            told(source.line, code)
        if "exact_duplicate" in codes and copies.has(row):
            told(source.line, "exact_duplicate")
        else:
            yield SourceRow(source.line, row)


def fix_lines(
    lines: Iterable[tuple[int, bytes]],
    codes: Collection[str] = FIXABLE,
    on_fixed: Callable[[int, str], None] | None = None,
) -> Iterator[bytes]:
    """Yield the lines of a JSONL file with the fixes made; a line that has nothing to fix comes byte by byte as it was.

    Lines that are no row, or that readers disagree on (keys met twice, bytes that are not UTF-8), are left alone.
    """
    told = on_fixed or (lambda _line, _code: None)
    copies = Copies()
    for line, raw in lines:
        if not raw.strip():
            if "blank_line" in codes:
                told(line, "blank_line")
            else:
                yield raw
            continue
        value, faults = read_line(raw, line)
        if faults or not isinstance(value, dict):
            yield raw
            continue
        row, fixed = fix(value, codes)
        for code in fixed:
            told(line, code)
        if "exact_duplicate" in codes and copies.has(row):
            told(line, "exact_duplicate")
        else:
            yield encoded(row) if fixed else raw


def fix_file(
    path: Path | str,
    output: Path,
    codes: Collection[str] = FIXABLE,
    on_progress: Progress | None = None,
) -> list[tuple[int, str]]:
    """Write a JSONL file (or `-`) with the fixes made, whole or not at all; return the line and code of each.

    Lines end in a newline, the text is UTF-8 without a mark. Raises DataError, StoreError.
    """
    done: list[tuple[int, str]] = []
    source = Source.open(path, on_progress)
    try:
        if source.encoding != "utf-8":
            done.append((1, "not_utf8"))
        elif source.bom:
            done.append((1, "bom"))
        lines = fix_lines(source.raw_lines(), codes, lambda *one: done.append(one))
        with replacing(output) as file:
            if output.suffix == ".gz":
                # No name and no time in the header: the same rows give the same bytes.
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                    packed.writelines(raw + b"\n" for raw in lines)
            else:
                file.writelines(raw + b"\n" for raw in lines)
    finally:
        source.close()
    return done


def _messages(row: Row) -> list[dict[str, Any]]:
    """Return every message of the row, of a preference row's three parts, too."""
    return [message for message in every_message(row) if isinstance(message, dict)]


def _texts(change: Callable[[str], str]) -> Fixer:
    def fixer(row: Row) -> None:
        for message in _messages(row):
            content = message.get("content")
            if isinstance(content, str):
                message["content"] = change(content)
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    part["text"] = change(part["text"])

    return fixer


def _everywhere(change: Callable[[str], str]) -> Fixer:
    """Return the fixer that changes every text of a row, keys too."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        return {clean(key): clean(item) for key, item in value.items()} if isinstance(value, dict) else value

    def fixer(row: Row) -> None:
        cleaned = clean(dict(row))
        row.clear()
        row.update(cleaned)

    return fixer


def _unknown_keys(row: Row) -> None:
    preference = "preferred_output" in row
    if preference or row.get("messages"):
        known = (*(PREFERENCE_KEYS if preference else ROW_KEYS), "metadata")
        for key in [key for key in row if key not in known]:
            del row[key]
        asked = row.get("input")
        if isinstance(asked, dict):
            for key in [key for key in asked if key not in INPUT_KEYS]:
                del asked[key]
    for message in filter(is_known, _messages(row)):
        for key in [key for key in message if key not in (*MESSAGE_KEYS, "audio")]:
            del message[key]


def _no_tools(row: Row) -> None:
    for part in (row, row.get("input")):
        if isinstance(part, dict) and part.get("tools") == []:
            del part["tools"]


def _no_calls(row: Row) -> None:
    for message in _messages(row):
        if "tool_calls" in message and message["tool_calls"] in ([], None):
            del message["tool_calls"]


def _weights(row: Row) -> None:
    for message in _messages(row):
        if is_weight_like(message.get("weight")):
            message["weight"] = int(message["weight"])


def _foreign_weights(row: Row) -> None:
    for message in _messages(row):
        if message.get("role") != "assistant":
            message.pop("weight", None)


def _tail(row: Row) -> None:
    messages = row["messages"]
    while messages and not (isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant"):
        messages.pop()


def _empty(row: Row) -> None:
    messages = row.get("messages")
    if not isinstance(messages, list):
        return
    for place in range(len(messages) - 1, -1, -1):
        content = messages[place].get("content") if isinstance(messages[place], dict) else None
        if isinstance(content, str) and not content.strip() and can_drop(messages, place):
            del messages[place]


def _system_first(row: Row) -> None:
    messages = row["messages"]
    places = [i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") in _SYSTEM]
    if len(places) == 1:
        messages.insert(0, messages.pop(places[0]))


def _one_system(row: Row) -> None:
    messages = row["messages"]
    count = 0
    while (
        count < len(messages) and isinstance(messages[count], dict) and messages[count].get("role") in _SYSTEM
    ):
        count += 1
    texts = [m.get("content") for m in messages[:count]]
    if count > 1 and all(isinstance(text, str) for text in texts):
        joined = "\n\n".join(dict.fromkeys(text for text in texts if text.strip()))
        messages[:count] = [{**messages[0], "content": joined}]


def _arguments(row: Row) -> None:
    for message in _messages(row):
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if has_open_arguments(call):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)


_FIXERS: dict[str, Fixer] = {
    "nul": _everywhere(text_checks.strip_nul),
    "lone_surrogate": _everywhere(text_checks.strip_lone),
    "control_characters": _texts(text_checks.strip_control),
    "line_separator": _texts(text_checks.newline_separators),
    "mojibake": _texts(text_checks.repair),
    "unknown_key": _unknown_keys,
    "weight_not_assistant": _foreign_weights,
    "weight_invalid": _weights,
    "tool_call_invalid": _arguments,
    "tool_calls_empty": _no_calls,
    "tools_empty": _no_tools,
    "system_in_middle": _system_first,
    "system_repeated": _one_system,
    "content_empty": _empty,
    "content_blank": _empty,
    "last_not_assistant": _tail,
}
"""Code → its cure, in the order they are applied: texts first, then messages, then the tail."""
