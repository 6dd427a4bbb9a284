"""Conversations kept as trees of messages: an export of ChatGPT, OpenAssistant's; one path through each is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunedesk.core.conversations import content_text
from tunedesk.core.importing.roles import Turn

_MOST_DEEP = 10_000


def is_tree(record: Mapping[str, Any]) -> bool:
    """Return whether `record` holds its messages as a tree."""
    return bool(_nodes(record)) or (_is_node(record.get("prompt")) and "replies" in record["prompt"])


def turns(record: Mapping[str, Any]) -> list[Turn]:
    """Return the turns from the first message to the current one, or along the best replies."""
    nodes = _nodes(record)
    return _path(nodes, record.get("current_node")) if nodes else _first_replies(record["prompt"])


def _nodes(record: Mapping[str, Any]) -> Mapping[str, Any]:
    nodes = record.get("mapping")
    if not isinstance(nodes, Mapping) or not nodes:
        return {}
    some = list(nodes.values())[:5]
    return (
        nodes
        if all(isinstance(one, Mapping) and "parent" in one and "message" in one for one in some)
        else {}
    )


def _path(nodes: Mapping[str, Any], last: object) -> list[Turn]:
    parents = {str(node.get("parent")) for node in nodes.values() if isinstance(node, Mapping)}
    leaves = [name for name in nodes if name not in parents]
    at: object = last if last in nodes else leaves[-1] if leaves else None
    found: list[Turn] = []
    seen: set[object] = set()
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = nodes[at]
        turn = _turn(node.get("message")) if isinstance(node, Mapping) else None
        found += [turn] if turn else []
        at = node.get("parent") if isinstance(node, Mapping) else None
    return found[::-1]


def _turn(message: object) -> Turn | None:
    if not isinstance(message, Mapping):
        return None
    author, content = message.get("author"), message.get("content")
    role = author.get("role") if isinstance(author, Mapping) else None
    parts = content.get("parts") if isinstance(content, Mapping) else None
    text = "\n".join(part for part in parts or () if isinstance(part, str))
    return (
        Turn(role, text)
        if isinstance(role, str) and role in ("user", "assistant", "system") and text.strip()
        else None
    )


def _is_node(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("text"), str)
        and isinstance(value.get("role"), str)
    )


def _first_replies(node: Mapping[str, Any]) -> list[Turn]:
    found: list[Turn] = []
    at: object = node
    while isinstance(at, Mapping) and _is_node(at) and len(found) < _MOST_DEEP:
        found.append(Turn(at["role"], content_text(at["text"])))
        replies = at.get("replies")
        at = min(replies, key=_rank) if isinstance(replies, list) and replies else None
    return found


def _rank(reply: object) -> float:
    """Return the place of a reply among those to one message as people judged them, the first one where nobody did."""
    rank = reply.get("rank") if isinstance(reply, Mapping) else None
    return float(rank) if isinstance(rank, int | float) else float("inf")
