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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import polars as pl

from tunedesk.core.conversations import ROW_KEYS, Row, content_text
from tunedesk.core.datasets.indexing import messages_of
from tunedesk.core.workspace import PREFERENCE_KEYS, Workspace

Kind = Literal["added", "removed", "reworded"]
OnProgress = Callable[[int, int], None]
"""Called with rows compared and rows in all; what it raises stops the work."""
COMMON = 50
"""A message that more of the rows left over hold says nothing about which two belong together."""
SIMILAR = 0.6
"""Share of common words (difflib's ratio) from which two rows without a common message are one row reworded."""
_STEP = 500
"""Rows between two calls of a progress function."""
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
    states: tuple[Workspace, Workspace] | None = field(default=None, repr=False, compare=False)
    """What has the row as it was and as it is; None for whole rows added or removed."""

    @property
    def messages(self) -> tuple[MessageChange, ...]:
        """What happened to its messages, worked out when asked for; empty for whole rows added or removed."""
        return self.told()[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """Other parts of the row that differ, such as tools."""
        return self.told()[1]

    def told(self) -> tuple[tuple[MessageChange, ...], tuple[str, ...]]:
        """Return `messages` and `keys`, for which the row is read once."""
        was, now = self._rows()
        keys = (key for key in ROW_KEYS if key != "messages" and was.get(key) != now.get(key))
        return message_changes(was, now), tuple(keys)

    def _rows(self) -> tuple[Row, Row]:
        if self.states is None or self.before is None or self.after is None:
            return {}, {}
        before, after = self.states
        return _compared(before.row(self.before)), _compared(after.row(self.after))

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


def diff(before: Workspace, after: Workspace, on_progress: OnProgress | None = None) -> Difference:
    """Compare two states of one dataset, or of two; what differs in a row is worked out when it is asked for."""
    by_row = before.dataset.id == after.dataset.id
    changes = _by_row(before, after, on_progress or _unheard) if by_row else _by_content(before, after)
    ordered = sorted(changes, key=_place)
    gone = sum(change.kind != "added" for change in ordered)
    return Difference(tuple(ordered), before.included_count - gone)


def message_changes(before: Row, after: Row) -> tuple[MessageChange, ...]:
    """Return what happened to each message between two states of a row, in order."""
    old, new = messages_of(before), messages_of(after)
    found: list[MessageChange] = []
    for kind, a, b, c, d in _opcodes(old, new):
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


def _opcodes(old: Sequence[Any], new: Sequence[Any]) -> Iterable[tuple[str, int, int, int, int]]:
    """Return difflib's opcodes, at once where all that differs stands together and has nothing in common."""
    least, start, end = min(len(old), len(new)), 0, 0
    while start < least and old[start] == new[start]:
        start += 1
    while end < least - start and old[-1 - end] == new[-1 - end]:
        end += 1
    was, now = (
        [_key(one) for one in old[start : len(old) - end]],
        [_key(one) for one in new[start : len(new) - end]],
    )
    if set(was).isdisjoint(now):
        return [("replace", start, len(old) - end, start, len(new) - end)]
    opcodes = difflib.SequenceMatcher(None, was, now, autojunk=False).get_opcodes()
    return [(kind, a + start, b + start, c + start, d + start) for kind, a, b, c, d in opcodes]


def _unheard(done: int, total: int) -> None:
    """Take word of progress that nobody waits for."""


def _place(change: Change) -> tuple[int, bool]:
    return change.row, change.kind != "removed"


def _by_row(before: Workspace, after: Workspace, on_progress: OnProgress) -> Iterator[Change]:
    """Compare two versions of one dataset: only rows that an edit touches in one of them alone can differ."""
    was, now, states = before.overlay, after.overlay, (before, after)
    touched = sorted({*was.touched(), *now.touched()})
    for place, index in enumerate(touched):
        if place % _STEP == 0:
            on_progress(place, len(touched))
        shown = was.included(index), now.included(index)
        if shown == (True, True):
            if was.follows(index) != now.follows(index):
                yield from _reworded(states, index, index)
        elif shown[0]:
            yield Change("removed", index, None)
        elif shown[1]:
            yield Change("added", None, index)


def _reworded(states: tuple[Workspace, Workspace], before: int, after: int) -> Iterator[Change]:
    if _compared(states[0].row(before)) != _compared(states[1].row(after)):
        yield Change("reworded", before, after, states)


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
        yield from _reworded((before, after), partners[index], index)


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
