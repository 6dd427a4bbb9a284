"""Edits in force, laid over an immutable dataset: which rows they touch and what those rows are now.

An edit of a few rows is remembered by row; a bulk edit as one entry with its row numbers. Exclusion and tags are one
byte a row. Each change makes a new overlay that shares what did not change.
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunedesk.core.conversations import Row
from tunedesk.core.datasets.dataset import Chunk, Dataset
from tunedesk.core.datasets.indexing import RowFacts, fold, row_facts
from tunedesk.core.editing.applying import apply
from tunedesk.core.editing.edits import MARKS, Edit, of_row
from tunedesk.core.editing.rewritten import SPAN, Indexed, Rewritten, in_span, never, rewritten
from tunedesk.core.row_sets import RowSet, holds
from tunedesk.errors import DataError

EXCLUDED, EDITED, REWRITTEN, ABSENT = 1, 2, 4, 8
"""Bits of `flags`: left out of exports; its row differs from the imported one (or was added since); its indexed facts
may differ too; it was added by an edit that is not in force."""
OUT = EXCLUDED | ABSENT
"""Rows with one of these bits are in no export, check or count."""
TAGGED, UNTAGGED = 1, 2
"""Bytes of a tag: put on, taken off, 0 where the imported row decides."""
_REWRITTEN_VALUES = bytes(bool(value & REWRITTEN) for value in range(256))
Find = Callable[[Sequence[int]], Sequence[tuple[int, Edit]]]
FEW = 1000
"""An edit of more rows is kept as one entry."""
_FACTS = 20_000
"""Rewritten rows whose facts are kept, some kilobytes each."""
_STATES = 6
"""Overlays that are kept, a megabyte each of a million rows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An edit in force at its place in the order of all."""

    id: int
    """Its number in the journal, which grows."""
    edit: Edit
    rows: array[int] | None
    """Sorted; None for all below `stop`."""
    stop: int
    """Rows that there were when the edit was made: those added since are none of its."""
    rewrites: bool = True
    """Whether the indexed facts of its rows may differ after it, what a layered system prompt changes apart."""
    state: Overlay | None = None
    """Of a revert the edits that it goes back to."""

    def touches(self, index: int) -> bool:
        """Whether the edit is about the row at `index`."""
        if self.rows is None:
            return index < self.stop
        return holds(self.rows, index)

    def unedited(self) -> array[int]:
        """Return the rows that the edit, a revert, makes what they were when they were imported."""
        state, rows = self.state, self.rows or ()
        if state is None:
            return array("I")
        return array("I", (i for i in rows if i < state.count - state.added and not state.has(i, EDITED)))

    def edit_of(self, index: int) -> Edit:
        """Return what the edit does to the row at `index`, which it touches."""
        return of_row(self.edit, bisect_left(self.rows, index) if self.rows is not None else index)


@dataclass(frozen=True, slots=True)
class PromptLayer:
    """A system prompt put on many rows at once, never copied into them."""

    rows: array[int] | None
    """None for all below `stop`."""
    stop: int
    prompt: str
    folded: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """The sum of all edits in force over `count` rows."""

    count: int
    flags: bytearray
    """One byte a row; never changed in place once the overlay is made."""
    added: int = 0
    """Rows behind the imported ones, the absent ones too."""
    reach: int = 0
    """Rows that the next edit of all rows is about: those that there are when it is made."""
    tags: dict[str, bytearray] = field(default_factory=dict)
    by_row: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    bulk: tuple[Entry, ...] = ()
    prompts: tuple[PromptLayer, ...] = ()
    facts: dict[int, tuple[tuple[int, ...], RowFacts]] = field(default_factory=dict)
    """Facts of rewritten rows, by the edits that they follow from; a cache shared by all overlays of a workspace."""
    indexed: Indexed = field(default_factory=Indexed)
    """What edits of many rows made of them, shared in the same way."""
    few: dict[int, Chunk | None] = field(default_factory=dict)
    """What edits of a few rows made of theirs, by span, as far as it was asked for."""
    ids: tuple[int, ...] = ()
    """The edits in force, by their ids in their order."""
    states: dict[tuple[int, ...], Overlay] = field(default_factory=dict)
    """The overlays made last, by `ids`: an undo, a redo or the edit of another instance is few edits from one."""

    def __reduce__(self) -> tuple[Callable[..., Overlay], tuple[object, ...]]:
        """Leave out of what is sent to other processes all that was drawn from the edits."""
        own = self.count, self.flags, self.added, self.reach, self.tags, self.by_row, self.bulk, self.prompts
        return Overlay, own

    @classmethod
    def empty(cls, count: int, added: int = 0) -> Overlay:
        """Return the overlay of no edits over `count` rows, the last `added` of which are not imported ones."""
        return cls(count, bytearray(count - added) + bytes([ABSENT]) * added, added, count - added)

    def of(self, edits: Sequence[tuple[int, Edit]], count: int, added: int, find: Find) -> Overlay:
        """Return the overlay of these edits over so many rows, which still knows what this one drew from them.

        It is made from the one of `states` that is nearest to it; for `find` see `with_edits`.
        """
        ids = tuple(number for number, _ in edits)
        known = (one for one in list(self.states.values()) if (one.count, one.added) == (count, added))
        begun = (one for one in known if one.ids == ids[: len(one.ids)])
        nearest = max(begun, key=lambda one: len(one.ids), default=None)
        if nearest is None:
            blank = Overlay.empty(count, added)
            nearest = replace(blank, facts=self.facts, indexed=self.indexed, states=self.states)
        more = edits[len(nearest.ids) :]
        return nearest.with_edits(more, find) if more else nearest

    def with_edits(self, edits: Iterable[tuple[int, Edit]], find: Find) -> Overlay:
        """Return the overlay after more edits, each with its journal id, in that order.

        `find` gives edits by their ids, the undone ones too.
        """
        flags, tags, by_row = bytearray(self.flags), dict(self.tags), dict(self.by_row)
        copied: set[str] = set()
        bulk, prompts, reach = list(self.bulk), self.prompts, self.reach
        spans, ids = dict(self.few), list(self.ids)
        for number, edit in edits:
            ids.append(number)
            rows = edit.indexes()
            if edit.kind in ("tag", "untag"):
                name = _as_known(tags, edit.arguments["tag"])
                if name not in copied:
                    tags[name] = bytearray(tags.get(name) or self.count)
                    copied.add(name)
                _put(tags[name], rows, TAGGED if edit.kind == "tag" else UNTAGGED, reach)
            elif edit.kind in MARKS:
                _set(flags, rows, EXCLUDED, edit.kind == "exclude", reach)
            elif edit.kind == "add_rows":
                _set(flags, rows, ABSENT, False, reach)
                _set(flags, rows, EDITED, True, reach)
                reach = max(reach, rows[-1] + 1 if rows else 0)
            else:
                _set(flags, array("I", edit.arguments.get("excluded", ())), EXCLUDED, True, reach)
                back = array("I", edit.arguments.get("included", ()))
                _set(flags, back, OUT if edit.kind == "revert" else EXCLUDED, False, reach)
                reach = max([reach, *(index + 1 for index in back)])
                entry = self._entry(number, edit, rows, reach, find)
                _set(flags, rows, EDITED | (REWRITTEN if entry.rewrites else 0), True, reach)
                _set(flags, entry.unedited(), EDITED, False, reach)
                if rows is not None and len(rows) <= FEW:
                    for index in rows:
                        by_row[index] = (*by_row.get(index, ()), entry)
                        spans.pop(index // SPAN, None)
                else:
                    bulk.append(entry)
                    spans.clear()
                    if layered(edit):
                        prompt = edit.arguments["prompt"]
                        layer = PromptLayer(rows, reach, prompt, fold(prompt))
                        prompts = (layer,) if rows is None else (*prompts, layer)
        made = replace(
            self, flags=flags, tags=tags, by_row=by_row, bulk=tuple(bulk), prompts=prompts, reach=reach,
            few=spans, ids=tuple(ids),
        )  # fmt: skip
        self.states.pop(made.ids, None)
        self.states[made.ids] = made
        for old in list(self.states)[:-_STATES]:
            self.states.pop(old, None)
        return made

    def _entry(self, number: int, edit: Edit, rows: array[int] | None, reach: int, find: Find) -> Entry:
        few = rows is not None and len(rows) <= FEW
        rewrites = edit.kind != "set_weight" and (few or not layered(edit))
        state = None
        if edit.kind == "revert":
            state = self.of(find(edit.arguments["edits"]), self.count, self.added, find)
        return Entry(number, edit, rows, reach, rewrites, state)

    def row(self, dataset: Dataset, index: int) -> Row:
        """Return the row at `index` as it is now."""
        return _after(dataset.row(index), index, self.entries(index))

    def entries(self, index: int) -> list[Entry]:
        """Return the edits of a row in their order, exclusion and tags apart."""
        if not self.flags[index] & EDITED:
            return []
        found = [*self.by_row.get(index, ()), *(entry for entry in self.bulk if entry.touches(index))]
        return _in_force(sorted(found, key=_id), index)

    def follows(self, index: int) -> tuple[int, ...]:
        """Return the ids of the edits that made a row what it is: where they are the same, the row is."""
        return tuple(entry.id for entry in self.entries(index)) if index < self.count else ()

    def ids_between(self, start: int, stop: int) -> Callable[[int], tuple[int, ...]]:
        """Return what tells `follows` of any row from `start` to before `stop`, quickly for many.

        Edits that a revert undid may be told too.
        """
        held = ((one.id, in_span(one.rows, one.stop, start, stop)) for one in self.bulk)
        many = [(number, frozenset(rows)) for number, rows in held if rows]
        whole = tuple(number for number, rows in many if len(rows) == stop - start)
        alike = len(whole) == len(many)

        def ids(index: int) -> tuple[int, ...]:
            if index in self.by_row:
                return self.follows(index)
            return whole if alike else tuple(number for number, rows in many if index in rows)

        return ids

    def facts_of(self, dataset: Dataset, index: int) -> RowFacts:
        """Return the facts of a row as it is now, drawn once for each change that rewrites it."""
        if not self.has(index, REWRITTEN):
            return row_facts(self.row(dataset, index))
        key = tuple(entry.id for entry in self.entries(index))
        known = self.facts.get(index)
        if known is None or known[0] != key:
            for old in list(self.facts)[: _FACTS // 2] if len(self.facts) >= _FACTS else ():
                self.facts.pop(old, None)
            known = self.facts[index] = (key, row_facts(self.row(dataset, index)))
        return known[1]

    def has(self, index: int, bit: int) -> bool:
        """Whether a bit of `flags` is set for a row."""
        return bool(self.flags[index] & bit)

    def excluded(self, index: int) -> bool:
        """Whether a row is left out of exports."""
        return self.has(index, EXCLUDED)

    def all_excluded(self, rows: Collection[int]) -> bool:
        """Whether all of some rows are left out of exports."""
        if isinstance(rows, RowSet):
            return rows.all_marked(self.flags, EXCLUDED)
        return all(map(self.excluded, rows))

    def included_of(self, rows: RowSet) -> RowSet:
        """Return those of some rows that go into exports."""
        return rows.unmarked(self.flags, OUT)

    def included(self, index: int) -> bool:
        """Whether there is such a row, and it goes into exports."""
        return index < self.count and not self.flags[index] & OUT

    def fields(self) -> set[str]:
        """Return the metadata keys of rows edited as JSON, which no imported row may have."""
        entries = {entry.id: entry for found in self.by_row.values() for entry in found}
        rows = [one.edit.arguments["row"] for one in entries.values() if one.edit.kind == "replace_row"]
        return {key for row in rows for key in row_facts(row).fields}

    def absent(self) -> list[int]:
        """Return the added rows that are not there: what added them is undone, or not of this state."""
        first = self.count - self.added
        return [index for index in range(first, self.count) if self.flags[index] & ABSENT]

    def touched(self) -> array[int]:
        """Return the rows that are excluded, added or edited in any way, in order."""
        return places(self.flags, EXCLUDED | EDITED)

    @property
    def rewrites(self) -> bool:
        """Whether the indexed facts of any row have to be drawn anew."""
        return self.flags.translate(_REWRITTEN_VALUES).find(1) >= 0

    def rewritten_in(
        self, dataset: Dataset, start: int, stop: int, cancelled: Callable[[], bool] = never
    ) -> Iterator[Rewritten]:
        """Yield the rewritten rows from `start` to before `stop`, indexed as they are now; ends once `cancelled`."""
        if self.by_row or self.bulk:
            yield from rewritten(self, dataset, self.indexed, self.few, start, stop, cancelled)

    def edits_of_many(self, start: int, stop: int) -> tuple[int, ...]:
        """Return the edits of many rows that touch a span, by their ids."""
        return tuple(one.id for one in self.bulk if in_span(one.rows, one.stop, start, stop))

    def rewritten_by_many(self, start: int, stop: int) -> array[int]:
        """Return the rows of a span that edits of many rows rewrite."""
        found = [in_span(one.rows, one.stop, start, stop) for one in self.bulk if one.rewrites]
        return array("I", sorted(set().union(*found)))

    def rewritten_by_few(self, start: int, stop: int) -> array[int]:
        """Return the rows of a span that edits of a few rows touch and that differ from the imported ones."""
        changed = places(self.flags[start:stop], REWRITTEN) if self.by_row else ()
        return array("I", [start + place for place in changed if start + place in self.by_row])

    def facts_by_many(self, dataset: Dataset, index: int) -> RowFacts:
        """Return the facts of a row after the edits of many rows alone."""
        many = _in_force([one for one in self.bulk if one.touches(index)], index)
        return row_facts(_after(dataset.row(index), index, many))

    def tags_of(self, index: int, imported: Sequence[str]) -> tuple[str, ...]:
        """Return the tags of a row: those it was imported with, then the user's."""
        return tags_after(imported, {name: marks[index] for name, marks in self.tags.items()})


def tags_after(imported: Sequence[str], marks: Mapping[str, int]) -> tuple[str, ...]:
    """Return the tags of a row after those put on and taken off it; names that differ in case are one tag."""
    by_fold = {fold(name): mark for name, mark in marks.items() if mark}
    kept = [name for name in imported if by_fold.get(fold(name)) != UNTAGGED]
    known = {fold(name) for name in kept}
    return (*kept, *(name for name, mark in marks.items() if mark == TAGGED and fold(name) not in known))


def _as_known(tags: Mapping[str, bytearray], name: str) -> str:
    """Return a tag as it was written first, whatever the case."""
    folded = fold(name)
    return next((known for known in tags if fold(known) == folded), name)


def _after(row: Row, index: int, entries: Iterable[Entry]) -> Row:
    """Return a row after some edits of it."""
    for entry in entries:
        # A bulk edit passes over the rows that have no such message.
        with contextlib.suppress(DataError):
            row = apply(entry.edit_of(index), row)
    return row


def layered(edit: Edit) -> bool:
    """Whether an edit of many rows is a system prompt that is the same in all."""
    return edit.kind == "set_system_prompt" and not edit.arguments.get("fill")


def _in_force(entries: list[Entry], index: int) -> list[Entry]:
    """Return the edits of a row with those that the last revert among them goes back to instead of what it undoes."""
    for place in reversed(range(len(entries))):
        state = entries[place].state
        if state is not None:
            return [*state.entries(index), *entries[place:]]
    return entries


def _id(entry: Entry) -> int:
    return entry.id


def places(flags: bytearray, bit: int) -> array[int]:
    """Return the rows that have a bit set, in order."""
    found: array[int] = array("I")
    mask = bytes(bool(value & bit) for value in range(256))
    marked = flags.translate(mask)
    place = marked.find(1)
    while place >= 0:
        found.append(place)
        place = marked.find(1, place + 1)
    return found


def _put(marks: bytearray, rows: array[int] | None, value: int, reach: int) -> None:
    span = _span(rows, reach)
    if span is not None:
        marks[span] = bytes([value]) * (span.stop - span.start)
        return
    for index in rows or ():
        marks[index] = value


def _set(flags: bytearray, rows: array[int] | None, bits: int, on: bool, reach: int) -> None:
    span = _span(rows, reach)
    if span is not None:
        table = bytes(value | bits if on else value & ~bits & 255 for value in range(256))
        flags[span] = flags[span].translate(table)
        return
    for index in rows or ():
        flags[index] = flags[index] | bits if on else flags[index] & ~bits & 255


def _span(rows: array[int] | None, reach: int) -> slice | None:
    """Return where sorted rows (None: all below `reach`) lie when none is missing between them, else None."""
    if rows is None:
        return slice(0, reach)
    whole = len(rows) > 1 and rows[-1] - rows[0] == len(rows) - 1
    return slice(rows[0], rows[-1] + 1) if whole else None
