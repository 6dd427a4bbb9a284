"""What formats share: a record's way to a row, what a user said about a file, and why a record cannot become a row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns
from tunedesk.core.importing.roles import NotADialogue, Turn, merge

Record = Mapping[str, Any]
_LABELLED = re.compile(r"^\s*SYSTEM:\s*")
_NOTHING = frozenset(("null", "nan", "\\n", "#n/a", "n/a", "<na>", "(null)", "nil", "#ref!", "#value!"))


class NotARow(ValueError):
    """A record cannot become a row; the text says why, in words for a user, `strangers` who speaks on no known side."""

    def __init__(self, reason: str, strangers: Sequence[str] = ()) -> None:
        """Say `reason`."""
        super().__init__(reason)
        self.strangers = tuple(strangers)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user said about a file."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Meaning (user, assistant, system, conversation, speaker, text, order) → column or key."""
    system: str = ""
    """System prompt for rows that have none."""
    speakers: bool = False
    """`user` and `assistant` of the mapping name speakers, as they always do where `speaker` is mapped."""

    def known_roles(self) -> dict[str, str]:
        """Return lower-cased speaker → role, where `user` and `assistant` name speakers."""
        if not self.speakers and "speaker" not in self.mapping:
            return {}
        return {
            name.strip().lower(): role
            for role in ("user", "assistant", "aside")
            for name in self.mapping.get(role, "").split("|")
            if name.strip()
        }


def with_system(row: Row, system: str) -> Row:
    """Return `row` with `system` as its first message, unless it has a system prompt or is a preference row."""
    messages = row.get("messages")
    if not system or not isinstance(messages, list):
        return row
    if any(isinstance(m, dict) and m.get("role") in ("system", "developer") for m in messages):
        return row
    return {**row, "messages": [{"role": "system", "content": system}, *messages]}


def built(messages: list[dict[str, Any]], record: Record, used: Sequence[str], **more: Any) -> Row:
    """Return the row of `messages`, with what is left of `record` under metadata."""
    row: Row = {"messages": messages}
    kept = columns.metadata(record, used)
    kept.update({key: value for key, value in more.items() if value})
    if kept:
        row["metadata"] = kept
    return row


def is_nothing(text: str) -> bool:
    """Return whether a text is empty, or what programs write for an empty cell."""
    return not text.strip() or text.strip().lower() in _NOTHING


def pair(asked: str, answer: str, system: str) -> list[dict[str, Any]]:
    """Return the messages of a question and its answer; raises NotARow when one of them is empty."""
    if is_nothing(asked):
        raise NotARow("the customer's side is empty")
    if is_nothing(answer):
        raise NotARow("the answer is empty")
    first = [{"role": "system", "content": system}] if system.strip() else []
    return [
        *first,
        {"role": "user", "content": asked.strip()},
        {"role": "assistant", "content": answer.strip()},
    ]


def spoken_row(turns: Sequence[Turn], record: Record, options: Options, used: Sequence[str]) -> Row:
    """Return the row of `turns`, merged; raises NotARow when they are no conversation."""
    try:
        made = merge(turns, options.known_roles())
    except NotADialogue as error:
        raise NotARow(str(error), error.strangers) from None
    key, told = system_of(record)
    counts = {
        "merged_turns": made.merged,
        "dropped_tail": made.tail,
        "asides": made.asides,
        "guessed": "who speaks" if made.guessed else "",
    }
    row = built(made.messages, record, (*used, key), **counts)
    return with_system(row, told)


def _text_of(value: object) -> str:
    """Return a system prompt given as a text, as parts of texts, or as an object of such parts."""
    parts = value.get("parts", value.get("text")) if isinstance(value, Mapping) else value
    if isinstance(parts, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        return "\n".join(text for text in texts if isinstance(text, str))
    return parts if isinstance(parts, str) else ""


def system_of(record: Record) -> tuple[str, str]:
    """Return key and text of the system prompt that `record` carries beside its turns, at most one object deep."""
    inner = [value for value in record.values() if isinstance(value, Mapping)]
    for part in (record, *inner):
        key = columns.find("system", [str(name) for name in part])
        told = _text_of(part.get(key)) if key is not None else ""
        if key is not None and told:
            return key if part is record else "", _LABELLED.sub("", told)
    return "", ""


def tools_of(value: object) -> list[dict[str, Any]]:
    """Return OpenAI's tools of ShareGPT's: a JSON string or list of functions, wrapped or bare."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise NotARow("its tools are not JSON") from None
    if not isinstance(value, list):
        return []
    tools = [tool for tool in value if isinstance(tool, dict)]
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
