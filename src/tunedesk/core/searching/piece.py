"""One chunk under a query: which of its rows match, as the edits laid over them left them."""

from __future__ import annotations

import math
import operator
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.datasets.chunk_builder import Table
from tunedesk.core.datasets.dataset import Chunk, Dataset
from tunedesk.core.datasets.indexing import FIELD_PREFIX, HAS_TOOLS, ITEM_BREAK, TEXT_ROLES, fold
from tunedesk.core.editing.overlay import EDITED, EXCLUDED, TAGGED, UNTAGGED, Overlay
from tunedesk.core.row_sets import holds
from tunedesk.core.searching.matchers import Matcher, SharedMasks
from tunedesk.core.searching.query import And, Compare, Everything, Field, Node, Not, Or, Pattern, State, Text

_OPERATORS: dict[str, Callable[[pl.Series, float], pl.Series]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


_WORTH_PASSING = 0.25
"""The share of rows found already from which it pays to look at the others alone."""


@dataclass(frozen=True, slots=True)
class Known:
    """Facts that are worked out after the import; None where they are not known yet."""

    tokens: array[int] | None = None
    """Tokens of each row, typecode I."""
    counted: Overlay | None = field(default=None, compare=False, repr=False)
    """The edits over which they were counted; None where that is no matter."""
    loss: array[float] | None = None
    """Loss of each row, typecode d, NaN where it was not measured."""
    pii: array[int] | None = None
    """Rows with personal data, sorted, typecode I, as all row lists here."""
    duplicates: array[int] | None = None
    """Rows that repeat another."""
    findings: Mapping[str, array[int]] | None = None
    """Rows with a finding, by the finding's code."""
    errors: array[int] | None = None
    """Rows with a finding of severity error."""
    topics: Mapping[str, array[int]] | None = None
    """Rows by what their questions are about, by the topic's name."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is searched."""

    dataset: Dataset
    overlay: Overlay
    known: Known = field(default_factory=Known)

    def field_names(self) -> list[str]:
        """Return the metadata keys that rows can be filtered and counted by, sorted."""
        return sorted({*self.dataset.field_names(), *self.overlay.fields()})


class Piece:
    """One chunk under evaluation: masks of its rows, or of the given places in it (`rows`)."""

    def __init__(
        self,
        target: Target,
        chunk: Chunk,
        matchers: Mapping[Text | Pattern, Matcher],
        cancelled: Callable[[], bool],
        shared: SharedMasks | None = None,
    ) -> None:
        self.target, self.chunk = target, chunk
        self.matchers, self.cancelled = matchers, cancelled
        self._shared = shared
        self.layers = self._prompt_layers()
        """The places in the chunk that each system prompt put on many rows covers."""

    def find(self, root: Node, rows: pl.Series | None) -> pl.Series:
        """Return the places in the chunk that match, ascending."""
        mask = self.mask(root, rows)
        return mask.arg_true() if rows is None else rows.filter(mask)

    def mask(self, node: Node, rows: pl.Series | None) -> pl.Series:
        """Return whether each row matches."""
        if self.cancelled() or isinstance(node, Everything):
            return pl.repeat(isinstance(node, Everything), self._size(rows), dtype=pl.Boolean, eager=True)
        match node:
            case Text() | Pattern():
                return self._text(node.scope, rows, self.matchers[node])
            case Not():
                return ~self.mask(node.part, rows)
            case And():
                return self._all(node.parts, rows)
            case Or():
                return ~self._all([Not(part) for part in node.parts], rows)
            case _:
                return self._taken(self._column(node), rows)

    def _column(self, node: Compare | Field | State) -> pl.Series:
        """Return whether each row of the whole chunk matches a node that looks at columns."""
        if isinstance(node, Compare):
            return self._compare(node)
        return self._field(node) if isinstance(node, Field) else self._state(node)

    def _all(self, parts: Sequence[Node], rows: pl.Series | None) -> pl.Series:
        """Return where all parts match, each part looking only at what the earlier ones left."""
        mask = self.mask(parts[0], rows)
        for part in parts[1:]:
            left = mask.arg_true()
            if len(left) > 0.8 * len(mask):
                mask = mask & self.mask(part, rows)
            elif len(left):
                places = left if rows is None else rows.gather(left)
                mask = mask.scatter(left.filter(~self.mask(part, places)), False)
        return mask

    def _text(self, scope: str, rows: pl.Series | None, matcher: Matcher) -> pl.Series:
        mask: pl.Series | None = None
        # Prompts first: few texts stand for many rows, and rows found by them need no look at longer ones.
        for role in (scope,) if scope else ("system", "tool", "assistant", "user"):
            if role == "system":
                found = self._system(matcher, rows)
            elif role == "tool" and not matcher.matches_empty:
                found = self._tools(matcher, rows)
            else:
                found = self._role(role, rows, matcher, mask)
            if found is not None:
                mask = found if mask is None else mask | found
        return self._none(rows) if mask is None else mask

    def _role(self, role: str, rows: pl.Series | None, matcher: Matcher, done: pl.Series | None) -> pl.Series:
        """Return where a role's text matches; rows that are `done` may be passed over where that saves time."""
        if matcher.matches_empty:
            said = (self.chunk.texts[role] != "") | self._speaks(role)
            return self._met(role, rows, matcher) & self._taken(said, rows)
        if done is None or done.sum() <= _WORTH_PASSING * len(done):
            return self._met(role, rows, matcher)
        open_rows = (~done).arg_true()
        places = open_rows if rows is None else rows.gather(open_rows)
        found = self._met(role, places, matcher)
        return self._none(rows).scatter(open_rows.filter(found), True)

    def _met(self, role: str, rows: pl.Series | None, matcher: Matcher) -> pl.Series:
        """Return which texts of a role match; those that rows share are looked at once where that saves time."""
        if self._shared is not None:
            mask = self._shared.mask(self.chunk, role, matcher, self._size(rows), self.cancelled)
            if mask is not None:
                return self._taken(mask, rows)
        texts = self._taken(self.chunk.texts[role], rows)
        return matcher.contains(texts, self._wide(role, rows), self.cancelled, role)

    def _tools(self, matcher: Matcher, rows: pl.Series | None) -> pl.Series | None:
        """Return where the texts of tools match; None for nowhere, as in most rows."""
        users, texts = self._tool_texts
        found = users.filter(matcher.contains(texts, self._wide("tool", users), self.cancelled, "tool"))
        if not len(found):
            return None
        return self._taken(self._none(None).scatter(found, True), rows)

    @cached_property
    def _tool_texts(self) -> tuple[pl.Series, pl.Series]:
        """The rows of the chunk that use tools, and what their tools say."""
        users = self._bits("flags", HAS_TOOLS, None).arg_true()
        return users, self.chunk.texts["tool"].gather(users)

    def _wide(self, role: str, rows: pl.Series | None) -> Callable[[], pl.Series]:
        """Return what tells which texts of a role hold characters beyond ASCII, for who needs to know."""
        return lambda: self._bits("flags", TEXT_ROLES[role], rows)

    def _none(self, rows: pl.Series | None) -> pl.Series:
        return pl.zeros(self._size(rows), dtype=pl.Boolean, eager=True)

    def _speaks(self, role: str) -> pl.Series:
        """Return which rows of the chunk have a message of a role, even if it says nothing."""
        if role == "tool":
            return self._bits("flags", HAS_TOOLS, None)
        return self.decode(self.chunk.tables["roles"].value.str.contains(role[0], literal=True), "roles")

    def _system(self, matcher: Matcher, rows: pl.Series | None) -> pl.Series | None:
        """Return where the system prompt matches; None for nowhere."""
        prompts = self.chunk.tables["system"].folded
        if len(prompts) > self._size(rows) and not self.layers:
            prompts = prompts.gather(self._taken(self.chunk.columns["system"], rows))
            hits = matcher.contains(prompts, _not_ascii(prompts), self.cancelled, "system")
            return hits & self._taken(self._has_system(), rows) if matcher.matches_empty else hits
        hits = matcher.contains(prompts, _not_ascii(prompts), self.cancelled, "system")
        if not self.layers and not hits.any():
            return None
        mask = self.decode(hits, "system")
        for layer, (_, prompt) in zip(self.layers, self.layer_prompts(), strict=True):
            one = pl.Series([prompt])
            hit = bool(matcher.contains(one, _not_ascii(one), self.cancelled)[0])
            mask = mask.scatter(layer, hit) if len(layer) else mask
        if matcher.matches_empty:
            mask = mask & self._has_system()
        return self._taken(mask, rows)

    def _compare(self, node: Compare) -> pl.Series:
        compare = _OPERATORS[node.operator]
        if node.field in ("tokens", "turns", "chars", "loss"):
            numbers = self.number(node.field)
            mask = compare(numbers, node.bound)
            # Polars orders NaN above all numbers; here it is a loss that nobody measured.
            return mask & numbers.is_not_nan() if node.field == "loss" else mask
        mask = pl.zeros(len(self.chunk), dtype=pl.Boolean, eager=True)
        for name, table in self._metadata(node.field):
            numbers = table.value.cast(pl.Float64, strict=False).fill_nan(None)
            mask = mask | self.decode(compare(numbers, node.bound).fill_null(False), name)
        return mask

    def number(self, name: str) -> pl.Series:
        """Return tokens, turns, chars or loss of every row of the chunk, as edits left them."""
        known = self.target.known.tokens if name == "tokens" else self.target.known.loss
        if name in ("tokens", "loss"):
            return self.per_row(known if known is not None else array("I"))
        numbers = self.chunk.columns[name].cast(pl.Int64)
        systems = self.chunk.columns["systems"].cast(pl.Int64)
        share = self.decode(self.chunk.tables["system"].chars, "system") if name == "chars" else systems
        for layer, (prompt, _) in zip(self.layers, self.layer_prompts(), strict=True):
            new = len(prompt) if name == "chars" else int(bool(prompt))
            numbers = numbers.scatter(layer, numbers.gather(layer) - share.gather(layer) + new)
            share = share.cast(pl.Int64).scatter(layer, new)
        return numbers

    def _field(self, node: Field) -> pl.Series:
        if node.field == "tag":
            return self.tagged(node.value)
        wanted = ITEM_BREAK + node.value + ITEM_BREAK
        columns = (
            [("intent", self.chunk.tables["intent"])]
            if node.field == "intent"
            else self._metadata(node.field)
        )
        mask = pl.zeros(len(self.chunk), dtype=pl.Boolean, eager=True)
        for name, table in columns:
            mask = mask | self.decode(table.folded.str.contains(wanted, literal=True), name)
        return mask

    def tagged(self, folded: str) -> pl.Series:
        """Return which rows of the chunk bear a tag, imported or put on since."""
        wanted = ITEM_BREAK + folded + ITEM_BREAK
        imported = self.chunk.tables["tags"].folded.str.contains(wanted, literal=True)
        mask = self.decode(imported, "tags")
        for name, marks in self.target.overlay.tags.items():
            if fold(name) == folded:
                column = self.per_row(marks)
                mask = (mask & (column != UNTAGGED)) | (column == TAGGED)
        return mask

    def _state(self, node: State) -> pl.Series:
        known = self.target.known
        match node.field, node.value:
            case "is", "tagged":
                return self._is_tagged()
            case "is", word:
                bit = EDITED if word == "edited" else EXCLUDED
                return (self.per_row(self.target.overlay.flags) & bit) > 0
            case "has", "tools":
                return self._bits("flags", HAS_TOOLS, None)
            case "has", "system":
                return self._has_system()
            case "has", word:
                return self._listed((known.pii if word == "pii" else known.errors) or array("I"))
            case "check" | "about", name:
                listed = (known.findings if node.field == "check" else known.topics) or {}
                rows = {fold(one): rows for one, rows in listed.items()}.get(fold(name))
                return self._listed(rows or array("I"))
            case _:
                repeated = self._listed(known.duplicates or array("I"))
                return repeated if node.value == "yes" else ~repeated

    def _is_tagged(self) -> pl.Series:
        names = {fold(name) for name in self.target.overlay.tags}
        imported = self.chunk.tables["tags"].folded
        if any(UNTAGGED in marks for marks in self.target.overlay.tags.values()):
            names |= {item for value in imported for item in value.split(ITEM_BREAK) if item}
            mask = pl.zeros(len(self.chunk), dtype=pl.Boolean, eager=True)
        else:
            mask = self.decode(imported != "", "tags")
        for name in names:
            mask = mask | self.tagged(name)
        return mask

    def _has_system(self) -> pl.Series:
        mask = self.chunk.columns["systems"] > 0
        for layer, (prompt, _) in zip(self.layers, self.layer_prompts(), strict=True):
            mask = mask.scatter(layer, bool(prompt))
        return mask

    def _metadata(self, name: str) -> list[tuple[str, Table]]:
        """Return the coded columns of a metadata key, whatever the case it is written in."""
        wanted = fold(FIELD_PREFIX + name)
        return [(column, table) for column, table in self.chunk.tables.items() if fold(column) == wanted]

    def decode(self, values: pl.Series, column: str) -> pl.Series:
        """Spread something known of each value of a coded column over the rows."""
        return values.gather(self.chunk.columns[column])

    def _bits(self, column: str, bits: int, rows: pl.Series | None) -> pl.Series:
        return (self._taken(self.chunk.columns[column], rows) & bits) > 0

    def _taken(self, values: pl.Series, rows: pl.Series | None) -> pl.Series:
        return values if rows is None else values.gather(rows)

    def _size(self, rows: pl.Series | None) -> int:
        return len(self.chunk) if rows is None else len(rows)

    def per_row(self, values: array[int] | array[float] | bytearray) -> pl.Series:
        """Return this chunk's share of something that holds one value a row of the dataset."""
        unknown = math.nan if isinstance(values, array) and values.typecode == "d" else 0
        if self.chunk.indexes is not None:
            return pl.Series(
                [values[index] if index < len(values) else unknown for index in self.chunk.indexes]
            )
        start, stop = self.chunk.start, self.chunk.start + len(self.chunk)
        if stop <= len(values):
            return buffer_series(values, start, stop)
        # Rows were added since the values were told: nothing is known of them yet.
        known = buffer_series(values, min(start, len(values)), len(values))
        return known.extend_constant(unknown, stop - start - len(known))

    def _listed(self, rows: array[int]) -> pl.Series:
        """Return which rows of the chunk are in a sorted list of row numbers."""
        if self.chunk.indexes is not None:
            return pl.Series([holds(rows, index) for index in self.chunk.indexes], dtype=pl.Boolean)
        mask = pl.zeros(len(self.chunk), dtype=pl.Boolean, eager=True)
        places = self._local(rows)
        return mask.scatter(places, True) if len(places) else mask

    def _local(self, rows: array[int]) -> pl.Series:
        """Return the places in this chunk of a sorted list of row numbers."""
        start = self.chunk.start
        low, high = bisect_left(rows, start), bisect_left(rows, start + len(self.chunk))
        return (pl.Series(rows[low:high], dtype=pl.UInt32) - start).cast(pl.UInt32)

    def _prompt_layers(self) -> list[pl.Series]:
        """Return the places in this chunk that each system prompt edit covers; rewritten rows hold theirs already."""
        if self.chunk.indexes is not None:
            return []
        whole = pl.arange(0, len(self.chunk), dtype=pl.UInt32, eager=True)
        return [
            whole.head(max(0, layer.stop - self.chunk.start))
            if layer.rows is None
            else self._local(layer.rows)
            for layer in self.target.overlay.prompts
        ]

    def layer_prompts(self) -> list[tuple[str, str]]:
        """Return the prompt of each of `layers`, and the same folded."""
        layers = self.target.overlay.prompts if self.layers else ()
        return [(layer.prompt, layer.folded) for layer in layers]


def _not_ascii(texts: pl.Series) -> Callable[[], pl.Series]:
    return lambda: texts.str.len_bytes() != texts.str.len_chars()
