"""Messages that name the message they answer, as conversations: one path through each tree of replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunedesk.core.importing.roles import said
from tunedesk.core.importing.sources import Item

THREAD, DEPTH = "thread", "reply"
"""Names of the columns that `threaded` adds: the first message of a chain of replies, and the place in it."""
_RANKS = ("rank",)
_OTHER = "another answer to the same message was taken"


def threaded(cells: Iterable[Item], own: str, parent: str) -> Iterator[Item]:
    """Yield the rows with the first message of their chain of replies, and how deep in it they stand.

    Where answers to one message have ranks, as sets for training models give them, the best one goes on; the others
    and what was answered to them are faults. Else several answers are one in parts.
    """
    kept = list(cells)
    parents = {_id(c.record.get(own)): _id(c.record.get(parent)) for c in kept if not c.fault}
    left = _left_out(kept, own, parents)
    known: dict[str, tuple[str, int]] = {}
    for start in parents:
        path: dict[str, None] = {}
        at = start
        while at in parents and at not in known and parents[at] and at not in path:
            path[at] = None
            at = parents[at]
        root, depth = known.get(at, (at, 0))
        for back, one in enumerate(reversed(path), 1):
            known[one] = (root, depth + back)
            if parents[one] in left:
                left.add(one)
    for cell in kept:
        name = "" if cell.fault else _id(cell.record.get(own))
        root, depth = known.get(name, (name, 0))
        if cell.fault:
            yield cell
        elif name in left:
            yield replace(cell, fault=_OTHER)
        else:
            yield replace(cell, record={**cell.record, THREAD: root, DEPTH: depth})


def _left_out(cells: list[Item], own: str, parents: Mapping[str, str]) -> set[str]:
    """Return the ids of the messages that stand beside the one that was taken as the answer."""
    answers: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        ranked = not cell.fault and any(name in cell.record for name in _RANKS)
        if ranked and (above := parents[_id(cell.record.get(own))]) in parents:
            answers.setdefault(above, []).append(cell.record)
    left: set[str] = set()
    for beside in answers.values():
        best = min(beside, key=_rank)
        left |= {_id(record.get(own)) for record in beside if record is not best}
    return left


def _rank(record: Mapping[str, Any]) -> float:
    rank = next((record[name] for name in _RANKS if record.get(name) not in (None, "")), None)
    try:
        return float(rank) if isinstance(rank, int | float | str) else float("inf")
    except ValueError:
        return float("inf")


def _id(cell: object) -> str:
    """Return an id as text; a table with empty cells makes 3.0 of 3."""
    text = said(cell).strip()
    return (
        text[:-2]
        if text.endswith(".0") and text[:-2].isdecimal()
        else ""
        if text.lower() in ("nan", "none")
        else text
    )
