"""Safe fixes: changes that no reader of the row would object to, each undoing one kind of finding.

`fix` never guesses: a finding without an obvious cure stays. `fix_rows` also leaves out exact duplicates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from typing import Any

from tunedesk.core.checking import text_checks
from tunedesk.core.checking.file_checks import has_lone
from tunedesk.core.checking.findings import CHECKS
from tunedesk.core.checking.row_checks import can_drop, check_row, has_open_arguments, is_weight_like
from tunedesk.core.conversations import MESSAGE_KEYS, ROW_KEYS, Row, SourceRow
from tunedesk.core.grouping.duplicates import digest, whole_text

FIXABLE = frozenset(code for code, check in CHECKS.items() if check.fix)
"""Codes that have a safe fix, in a row or (bom, blank_line, exact_duplicate) in writing the file anew."""

_SYSTEM = ("system", "developer")
Fixer = Callable[[Row], None]


def fix(row: Row, codes: Collection[str] = FIXABLE) -> tuple[Row, tuple[str, ...]]:
    """Return `row` with the safe fixes of `codes` applied, and the codes that were found before and are gone now.

    The row given is not changed. Shapes that the checks refuse (no list of messages) are returned as they are.
    """
    before = {one.code for one in check_row(row, 0) if one.fix and one.code in codes}
    if "lone_surrogate" in codes and has_lone(row):
        before.add("lone_surrogate")
    wanted = [code for code in _FIXERS if code in before]
    if not wanted:
        return row, ()
    fixed = deepcopy(row)
    for code in wanted:
        _FIXERS[code](fixed)
    after = {one.code for one in check_row(fixed, 0) if one.fix}
    return fixed, tuple(code for code in wanted if code not in after)


def fix_rows(
    rows: Iterable[SourceRow],
    codes: Collection[str] = FIXABLE,
    on_fixed: Callable[[int, str], None] | None = None,
) -> Iterator[SourceRow]:
    """Yield the fixed rows; `on_fixed(line, code)` hears of each fix, and of each exact duplicate left out."""
    seen: set[bytes] = set()
    for source in rows:
        row, fixed = fix(source.row, codes)
        for code in fixed if on_fixed else ():
            on_fixed(source.line, code)  # type: ignore[misc]
        if "exact_duplicate" in codes and ("messages" in row or "preferred_output" in row):
            said = digest(whole_text(row))
            if said in seen:
                if on_fixed:
                    on_fixed(source.line, "exact_duplicate")
                continue
            seen.add(said)
        yield SourceRow(source.line, row)


def _messages(row: Row) -> list[dict[str, Any]]:
    """Return every message of the row, of a preference row's three parts, too."""
    asked = row.get("input")
    parts: list[object] = [row.get("messages"), asked.get("messages") if isinstance(asked, dict) else None]
    parts += [row.get("preferred_output"), row.get("non_preferred_output")]
    return [m for part in parts if isinstance(part, list) for m in part if isinstance(m, dict)]


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


def _lone(row: Row) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return text_checks.strip_lone(value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        return {clean(key): clean(item) for key, item in value.items()} if isinstance(value, dict) else value

    cleaned = clean(dict(row))
    row.clear()
    row.update(cleaned)


def _unknown_keys(row: Row) -> None:
    if "preferred_output" not in row:
        for key in [key for key in row if key not in (*ROW_KEYS, "metadata")]:
            del row[key]
    for message in _messages(row):
        for key in [key for key in message if key not in (*MESSAGE_KEYS, "audio")]:
            del message[key]


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
    "nul": _texts(text_checks.strip_nul),
    "lone_surrogate": _lone,
    "control_characters": _texts(text_checks.strip_control),
    "line_separator": _texts(text_checks.newline_separators),
    "mojibake": _texts(text_checks.repair),
    "unknown_key": _unknown_keys,
    "weight_not_assistant": _foreign_weights,
    "weight_invalid": _weights,
    "tool_call_invalid": _arguments,
    "system_in_middle": _system_first,
    "system_repeated": _one_system,
    "content_empty": _empty,
    "content_blank": _empty,
    "last_not_assistant": _tail,
}
"""Code → its cure, in the order they are applied: texts first, then messages, then the tail."""
