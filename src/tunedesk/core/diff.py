"""What changed between two states of conversations: added, removed, reworded, message by message.

Compared is what an upload would hold: included rows, with the API's keys alone. Two versions of one dataset are
compared row by row. Two datasets (or files) are compared by content first: equal rows are the same wherever they
stand; of what is left, rows that share messages, or at least most of their words, are one row reworded.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import polars as pl

from tunedesk.core.conversations import ROW_KEYS, Row, content_text
from tunedesk.core.datasets.indexing import messages_of
from tunedesk.core.workspace import PREFERENCE_KEYS, Workspace

Kind = Literal["added", "removed", "reworded"]
COMMON = 50
"""A message that more of the rows left over hold says nothing about which two belong together."""
SIMILAR = 0.6
"""Share of common words (difflib's ratio) from which two rows without a common message are one row reworded."""
_NEAR = 5
"""Rows looked at for a similar one."""
_COMPARED = (*ROW_KEYS, *PREFERENCE_KEYS)


@dataclass(frozen=True, slots=True)
class MessageChange:
    """What happened to one message."""

    kind: Literal["added", "removed", "reworded", "changed"]
    """`changed`: the text is the same, its role, weight, name or tool calls are not."""
    before: int | None
    """Its place, from 0."""
    after: int | None
    role: str
    was: str
    now: str
    keys: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """What differs beside the text, by key: before and after, None where it was not there."""

    def sides(self) -> tuple[str, str]:
        """Return what is shown of it before and after: the text where it differs, and a line for each other key."""
        texts = ("", "") if self.kind == "changed" else (self.was, self.now)
        told: list[str] = []
        for side, text in enumerate(texts):
            pairs = [(key, values[side]) for key, values in self.keys.items() if values[side] is not None]
            lines = [f"{key}: {msgspec.json.encode(value).decode()}" for key, value in pairs]
            told.append("\n".join([text, *lines] if text else lines))
        return told[0], told[1]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one conversation."""

    kind: Kind
    before: int | None
    """Its row in the first state; None when it was added."""
    after: int | None
    messages: tuple[MessageChange, ...] = ()
    """Empty for whole rows added or removed."""
    keys: tuple[str, ...] = ()
    """Other parts of the row that differ, such as tools."""

    @property
    def row(self) -> int:
        """Its row in the second state, or in the first one when it is gone."""
        return (self.after if self.after is not None else self.before) or 0


@dataclass(frozen=True, slots=True)
class Difference:
    """All that changed between two states."""

    changes: tuple[Change, ...]
    """By the row in the second state, removed ones where they stood."""
    unchanged: int

    def count(self, kind: Kind) -> int:
        """Return how many conversations changed in this way."""
        return sum(change.kind == kind for change in self.changes)


def diff(before: Workspace, after: Workspace) -> Difference:
    """Compare two states of one dataset, or of two."""
    changes = _by_row(before, after) if before.dataset.id == after.dataset.id else _by_content(before, after)
    ordered = sorted(changes, key=_place)
    gone = sum(change.kind != "added" for change in ordered)
    return Difference(tuple(ordered), before.included_count - gone)


def message_changes(before: Row, after: Row) -> tuple[MessageChange, ...]:
    """Return what happened to each message between two states of a row, in order."""
    old, new = messages_of(before), messages_of(after)
    matcher = difflib.SequenceMatcher(None, [*map(_key, old)], [*map(_key, new)], autojunk=False)
    found: list[MessageChange] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        paired = 0
        while a + paired < b and c + paired < d and _related(old[a + paired], new[c + paired]):
            was, now = old[a + paired], new[c + paired]
            same = _text(was) == _text(now)
            found.append(_message("changed" if same else "reworded", was, now, a + paired, c + paired))
            paired += 1
        found += [_message("removed", old[at], None, at, None) for at in range(a + paired, b)]
        found += [_message("added", None, new[at], None, at) for at in range(c + paired, d)]
    return tuple(found)


def _place(change: Change) -> tuple[int, bool]:
    return change.row, change.kind != "removed"


def _by_row(before: Workspace, after: Workspace) -> Iterator[Change]:
    """Compare two versions of one dataset: only rows that an edit touches can differ."""
    was, now = before.overlay, after.overlay
    for index in sorted({*was.touched(), *now.touched()}):
        shown = was.included(index), now.included(index)
        if shown == (True, True):
            change = _reworded(before.row(index), after.row(index), index, index)
            if change is not None:
                yield change
        elif shown[0]:
            yield Change("removed", index, None)
        elif shown[1]:
            yield Change("added", None, index)


def _reworded(was: Row, now: Row, before: int, after: int) -> Change | None:
    old, new = _compared(was), _compared(now)
    if old == new:
        return None
    keys = tuple(key for key in ROW_KEYS if key != "messages" and old.get(key) != new.get(key))
    return Change("reworded", before, after, message_changes(old, new), keys)


def _by_content(before: Workspace, after: Workspace) -> Iterator[Change]:
    left, right = _digests(before), _digests(after)
    lost = left.join(right, on=["digest", "nth"], how="anti")["index"].sort().to_list()
    new = right.join(left, on=["digest", "nth"], how="anti")["index"].sort().to_list()
    pairs = _pairs(before, after, lost, new)
    for index in lost:
        if index not in pairs:
            yield Change("removed", index, None)
    partners = {there: here for here, there in pairs.items()}
    for index in new:
        if index not in partners:
            yield Change("added", None, index)
            continue
        change = _reworded(before.row(partners[index]), after.row(index), partners[index], index)
        if change is not None:
            yield change


def _digests(workspace: Workspace) -> pl.DataFrame:
    """Return digest and number of each included row; `nth` counts rows of the same digest."""
    indexes, digests = [], []
    for index, row in workspace.included():
        content = msgspec.json.encode(_compared(row), order="sorted")
        indexes.append(index)
        digests.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))
    frame = pl.DataFrame(
        {"index": pl.Series(indexes, dtype=pl.UInt32), "digest": pl.Series(digests, dtype=pl.UInt64)}
    )
    return frame.with_columns(nth=pl.int_range(pl.len()).over("digest"))


def _pairs(before: Workspace, after: Workspace, lost: Sequence[int], new: Sequence[int]) -> dict[int, int]:
    """Return which of the rows left over on both sides belong together (before → after), each used once."""
    pairs: dict[int, int] = {}
    if not lost or not new:
        return pairs
    holders: dict[tuple[str, str], list[int]] = {}
    for index in lost:
        for said in _said(before.row(index)):
            holders.setdefault(said, []).append(index)
    rest = []
    for index in new:
        shared: Counter[int] = Counter()
        for said in _said(after.row(index)):
            known = holders.get(said, ())
            shared.update(one for one in known if len(known) <= COMMON and one not in pairs)
        if shared:
            *_, best = max((count, -abs(one - index), one) for one, count in shared.items())
            pairs[best] = index
        else:
            rest.append(index)
    free = [index for index in lost if index not in pairs]
    for index in rest:
        words = _words(after.row(index))
        near = heapq.nsmallest(_NEAR, ((abs(one - index), one) for one in free))
        scored = [(_ratio(_words(before.row(one)), words), -far, one) for far, one in near]
        score, _, one = max(scored, default=(0.0, 0, 0))
        if score >= SIMILAR:
            pairs[one] = index
            free.remove(one)
    return pairs


def _said(row: Row) -> set[tuple[str, str]]:
    """Return role and text of the messages that tell a row from others: all but system prompts."""
    pairs = {(str(m.get("role")), _text(m)) for m in messages_of(row) if isinstance(m, dict)}
    return {(role, text) for role, text in pairs if text and role not in ("system", "developer")}


def _words(row: Row) -> list[str]:
    return " ".join(text for _, text in sorted(_said(row))).split()


def _ratio(first: list[str], second: list[str]) -> float:
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= SIMILAR else 0.0


def _compared(row: Row) -> Row:
    return {key: row[key] for key in _COMPARED if key in row}


def _key(message: Any) -> bytes:
    return msgspec.json.encode(message, order="sorted")


def _text(message: Any) -> str:
    return content_text(message.get("content")) if isinstance(message, dict) else ""


def _role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def _related(was: Any, now: Any) -> bool:
    return _role(was) == _role(now) or _text(was) == _text(now)


def _message(
    kind: Literal["added", "removed", "reworded", "changed"],
    was: Any,
    now: Any,
    before: int | None,
    after: int | None,
) -> MessageChange:
    role = _role(now if now is not None else was)
    return MessageChange(kind, before, after, role, _text(was), _text(now), _keys(was, now))


def _keys(was: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two states of a message beside its text."""
    if not isinstance(was, dict) or not isinstance(now, dict):
        return {}
    keys = [key for key in dict.fromkeys((*was, *now)) if was.get(key) != now.get(key)]
    if _text(was) != _text(now):
        keys = [key for key in keys if key != "content"]
    return {key: (was.get(key), now.get(key)) for key in keys}
