"""The whole query grammar against a reader that knows nothing of the product: it takes each row's messages in turn.

A query is made as a tree, written out as text in one of the ways that the grammar allows, and answered twice: the
text by the product, over columns, threads and edits; the tree here, by rules of one line each.
"""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rows_found import imported
from tunedesk.core.conversations import Row
from tunedesk.core.editing import edits
from tunedesk.core.searching.piece import Known
from tunedesk.core.workspace import Workspace

WORDS = [
    "refund",
    "CARD",
    "Straße",
    "STRASSE",
    "café",
    "cafe\u0301",
    "İstanbul",
    "ΟΔΟΣ",
    "οδος",
    "42",
    "退款",
    "a-b",
    "OR",
]
PATTERNS = [
    "re.und", r"\bcard\b", r"\d{2}", r"^card", r"card$", "(refund|straße)", r"caf.", r"[^a-z\s]{2}", r"\w{6}", r"\s",
    "x*", r"a\s+b", r"\W42", "Refund", r"[退款]+",
]  # fmt: skip
INTENTS = ["card_lost", "Lost Card", "Straße", ""]
CODES = ["E1", "near_duplicate"]
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


@dataclass
class Read:
    """One conversation as a reader sees it."""

    row: dict[str, Any]
    tokens: int
    loss: float
    marks: frozenset[str]
    """Of pii, error, dup, E1, near_duplicate, lost card."""
    edited: bool = False
    excluded: bool = False
    tags: set[str] = field(default_factory=set)

    def said(self, scope: str) -> list[str]:
        """Return what was said by a role, or by all."""
        found = []
        for message in self.row["messages"]:
            role = {"developer": "system"}.get(message["role"], message["role"])
            if scope in ("", role):
                found.append(fold(message.get("content") or ""))
            for call in message.get("tool_calls", []):
                if scope in ("", "tool"):
                    found.append(fold(f"{call['function']['name']} {call['function']['arguments']}"))
        return found


def fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


Rule = Callable[[Read], bool]


@dataclass
class Asked:
    """A query and its meaning."""

    text: str
    holds: Rule
    whole: bool = True
    """Whether it is one term, which needs no parentheses."""


def quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def says(scope: str, word: str, *, quote: bool) -> Asked:
    prefix = f"{scope}:" if scope else ""
    plain = not quote and word != "OR" and " " not in word
    return Asked(
        prefix + (word if plain else quoted(word)),
        lambda one: any(fold(word) in text for text in one.said(scope)),
    )


def matches(scope: str, pattern: str) -> Asked:
    prefix = f"{scope}:" if scope else ""
    expression = re.compile(fold(pattern) if "\\" not in pattern else pattern, re.MULTILINE)
    return Asked(f"{prefix}/{pattern}/", lambda one: any(expression.search(text) for text in one.said(scope)))


def numbers(name: str, sign: str, bound: int) -> Asked:
    def value(one: Read) -> float:
        own = {"tokens": one.tokens, "loss": one.loss, "turns": len(one.row["messages"])}
        if name == "chars":
            return sum(len(message.get("content") or "") for message in one.row["messages"])
        return own[name] if name in own else float(one.row["metadata"].get(name, "nan"))

    return Asked(
        f"{name}{sign}{bound}",
        lambda one: not math.isnan(value(one)) and OPERATORS["=" if sign == ":" else sign](value(one), bound),
    )


STATES: dict[str, Rule] = {
    "is:edited": lambda one: one.edited,
    "is:excluded": lambda one: one.excluded,
    "IS:Tagged": lambda one: bool(one.tags),
    "has:pii": lambda one: "pii" in one.marks,
    "has:error": lambda one: "error" in one.marks,
    "has:tools": lambda one: any(m["role"] == "tool" or m.get("tool_calls") for m in one.row["messages"]),
    "has:system": lambda one: any(m["role"] in ("system", "developer") for m in one.row["messages"]),
    "dup:yes": lambda one: "dup" in one.marks,
    "dup:no": lambda one: "dup" not in one.marks,
    'about:"Lost Card"': lambda one: "lost card" in one.marks,
    "check:e1": lambda one: "E1" in one.marks,
    "check:near_duplicate": lambda one: "near_duplicate" in one.marks,
    "check:NONE": lambda one: False,
    "tag:keep": lambda one: "keep" in one.tags,
    "tag:KEEP": lambda one: "keep" in one.tags,
    "tag:new": lambda one: "new" in one.tags,
    "lang:DE": lambda one: "DE" in one.row["metadata"]["lang"],
}


def is_about(intent: str) -> Asked:
    return Asked(
        f"intent:{quoted(intent)}", lambda one: fold(one.row["metadata"].get("intent", "")) == fold(intent)
    )


SCOPES = st.sampled_from(["", "", "user", "assistant", "system", "tool"])
TERMS = st.one_of(
    st.builds(says, SCOPES, st.sampled_from([*WORDS, "refund card"]), quote=st.booleans()),
    st.builds(matches, SCOPES, st.sampled_from(PATTERNS)),
    st.builds(numbers, st.sampled_from(["tokens", "loss", "turns", "chars", "rating"]),
              st.sampled_from([*OPERATORS, ":"]), st.integers(0, 8)),
    st.sampled_from([Asked(text, rule) for text, rule in STATES.items()]),
    st.builds(is_about, st.sampled_from(INTENTS[:3])),
)  # fmt: skip


def enclosed(one: Asked) -> str:
    return one.text if one.whole else f"({one.text})"


def negated(one: Asked) -> Asked:
    return Asked(f"-{enclosed(one)}", lambda row: not one.holds(row))


def both(one: Asked, other: Asked, word: str) -> Asked:
    return Asked(
        f"{enclosed(one)}{word}{enclosed(other)}",
        lambda row: one.holds(row) and other.holds(row),
        whole=False,
    )


def either(one: Asked, other: Asked) -> Asked:
    # OR binds loosest: its sides need no parentheses.
    return Asked(f"{one.text} OR {other.text}", lambda row: one.holds(row) or other.holds(row), whole=False)


QUERIES = st.recursive(
    TERMS,
    lambda part: st.one_of(
        st.builds(negated, part),
        st.builds(both, part, part, st.sampled_from([" ", "  ", " AND "])),
        st.builds(either, part, part),
    ),
    max_leaves=6,
)

SPOKEN = st.lists(st.sampled_from([*WORDS, "re", "fund", "\n", "\r\n", "  ", "x"]), max_size=3).map(" ".join)
MESSAGES = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text},
              st.sampled_from(["user", "user", "assistant", "assistant", "system", "developer", "tool"]), SPOKEN),
    st.builds(lambda text: {"role": "assistant", "content": None,
                            "tool_calls": [{"function": {"name": "pay", "arguments": text}}]}, SPOKEN),
)  # fmt: skip
METADATA = st.fixed_dictionaries(
    {"lang": st.sampled_from([["en"], ["DE", "en"]])},
    optional={
        "intent": st.sampled_from(INTENTS[:3]), "rating": st.integers(0, 8),
        "tags": st.sampled_from([["keep"], ["old", "keep"]]),
    },
)  # fmt: skip
ROWS = st.builds(
    Read,
    st.fixed_dictionaries({"messages": st.lists(MESSAGES, min_size=1, max_size=4), "metadata": METADATA}),
    st.integers(0, 8),
    st.sampled_from([0.5, 3.0, 8.0, math.nan]),
    st.frozensets(st.sampled_from(["pii", "error", "dup", "lost card", *CODES])),
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["reword", "exclude", "include", "tag", "untag"]), st.integers(0, 9)),
    max_size=5,
)


def known(rows: list[Read]) -> Known:
    def having(mark: str) -> array[int]:
        return array("I", [n for n, one in enumerate(rows) if mark in one.marks])

    return Known(
        tokens=array("I", [one.tokens for one in rows]), loss=array("d", [one.loss for one in rows]),
        pii=having("pii"), duplicates=having("dup"), errors=having("error"), topics={"lost card": having("lost card")},
        findings={code: having(code) for code in CODES},
    )  # fmt: skip


def changed(workspace: Workspace, rows: list[Read], change: str, number: int) -> Workspace:
    """Make an edit in the product, and in what was read."""
    row = number % len(rows)
    one = rows[row]
    if change == "reword":
        if one.row["messages"][0].get("tool_calls"):
            return workspace
        messages = [{**one.row["messages"][0], "content": "new Straße"}, *one.row["messages"][1:]]
        one.row, one.edited = {**one.row, "messages": messages}, True
        return workspace.apply(edits.replace_message([row], 0, "new Straße"))
    if change in ("exclude", "include"):
        one.excluded = change == "exclude"
        return workspace.apply(edits.exclude([row]) if one.excluded else edits.include([row]))
    for each in rows if number > 7 else [one]:
        each.tags = each.tags | {"new"} if change == "tag" else each.tags - {"keep"}
    where = None if number > 7 else [row]
    return workspace.apply(edits.tag(where, "new") if change == "tag" else edits.untag(where, "keep"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=8), CHANGES, st.lists(QUERIES, min_size=1, max_size=6), st.booleans()
)
def test_every_query_finds_what_a_reader_of_each_row_finds(
    rows: list[Read], changes: list[tuple[str, int]], queries: list[Asked], warm: bool
) -> None:
    for one in rows:
        one.tags = set(one.row["metadata"].get("tags", []))
        one.row["metadata"].setdefault("rating", 5)
    rows[0].row["metadata"]["intent"] = "card_lost"  # a field that no row has is an error of its own
    source: list[Row] = [one.row for one in rows]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunedesk.core.datasets.shared_texts._WORTH", 2)
        workspace = Workspace.open(imported(Path(folder), source), known=known(rows))
        if warm:
            workspace.dataset.warm()
        for change, number in changes:
            workspace = changed(workspace, rows, change, number)
        for query in queries:
            # Each query follows the one before, so that narrowing takes part.
            workspace = workspace.with_query(query.text)
            expected = [number for number, one in enumerate(rows) if query.holds(one)]
            assert list(workspace.matches) == expected, query.text
