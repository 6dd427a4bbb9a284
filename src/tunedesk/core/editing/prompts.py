"""System prompts over many conversations: which ones they have, and which variables their metadata cannot fill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunedesk.core.conversations import Row, content_text
from tunedesk.core.editing.applying import variables


def prompt_of(row: Row) -> str:
    """Return the first system prompt of a row, training or preference; empty when it has none."""
    given = row.get("input")
    messages = row.get("messages", given.get("messages") if isinstance(given, dict) else None)
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            return content_text(message.get("content"))
    return ""


def in_use(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Return the system prompts of `rows` with how many have each, the most frequent first; empty where none."""
    return Counter(map(prompt_of, rows)).most_common()


def missing(rows: Iterable[Row], prompt: str) -> dict[str, int]:
    """Return the variables of `prompt` with how many of `rows` have no value for them, those with none left out."""
    wanted = variables(prompt)
    counts: Counter[str] = Counter()
    for row in rows if wanted else ():
        metadata = row.get("metadata")
        known = metadata if isinstance(metadata, dict) else {}
        counts.update(key for key in wanted if not isinstance(known.get(key), str | int | float))
    return {key: counts[key] for key in wanted if counts[key]}
