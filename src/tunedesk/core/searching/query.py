"""The query language: one grammar for the filter bar, `list --where` and prompt rules.

    refund "credit card"        in any message, whatever the case; words side by side must all be met
    user:refund  assistant:"credit card"  system:  tool:      in messages of that role
    /cancel.{0,20}card/  user:/\\d{10}/                         regular expressions
    tokens>500  turns>=6  chars<2000  loss>2  rating>=4        numbers, metadata too
    intent:card_lost  tag:keep  source:"web form"              metadata, the whole value, whatever the case
    "Order ID":17  "days open">3                               metadata whose name is no word, quoted
    is:edited  is:excluded  is:tagged
    has:pii  has:tools  has:error  has:system  check:CODE  about:"lost card"  dup:yes
    -word  OR  ( … )                                           not, or, groups

`parse` turns a text into a tree of nodes; search.py finds the rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tunedesk.core.datasets.indexing import fold
from tunedesk.errors import UsageError

SCOPES = ("user", "assistant", "system", "tool")
NUMBERS = ("tokens", "turns", "chars", "loss")
WORDS = {
    "is": ("edited", "excluded", "tagged"),
    "has": ("pii", "tools", "error", "system"),
    "dup": ("yes", "no"),
}
FIELDS = (*SCOPES, "intent", "tag", "is", "has", "check", "about", "dup", *NUMBERS)
"""Every field that needs no metadata, for completion."""


class QueryError(UsageError):
    """A query cannot be understood or answered; `column` is where, from 1."""

    def __init__(self, message: str, hint: str = "", *, column: int) -> None:
        super().__init__(message, hint)
        self.column = column


@dataclass(frozen=True, slots=True)
class Everything:
    """Matches all rows: the empty query."""


@dataclass(frozen=True, slots=True)
class Text:
    """A literal in some message."""

    scope: str
    """A role of SCOPES, or empty for any."""
    needle: str
    """Folded."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression met in the messages of one role, or of any."""

    scope: str
    source: str
    column: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A number beside a bound."""

    field: str
    operator: str
    """One of < <= > >= = !=."""
    bound: float
    column: int


@dataclass(frozen=True, slots=True)
class Field:
    """A metadata value, `intent` and `tag` included."""

    field: str
    value: str
    """Folded."""
    column: int


@dataclass(frozen=True, slots=True)
class State:
    """What tunedesk itself knows of a row: `is:`, `has:`, `check:`, `about:`, `dup:`."""

    field: str
    value: str
    column: int


@dataclass(frozen=True, slots=True)
class Not:
    """Rows that the part does not match."""

    part: Node


@dataclass(frozen=True, slots=True)
class And:
    """Rows that all parts match."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Rows that some part matches."""

    parts: tuple[Node, ...]


Node = Everything | Text | Pattern | Compare | Field | State | Not | And | Or


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query."""

    text: str = ""
    root: Node = Everything()


def parse(text: str) -> Query:
    """Parse `text`; raises QueryError with the column where it stops making sense."""
    return Query(text, _Parser(text).query())


def facts(query: Query) -> frozenset[str]:
    """Return what has to be worked out of the rows before a query can be answered.

    Names of `piece.Known`: tokens, loss, pii, duplicates, findings, topics.
    """
    of = {
        "has:pii": "pii",
        "has:error": "findings",
        "check": "findings",
        "dup": "duplicates",
        "about": "topics",
    }

    def inside(node: Node) -> Iterator[str]:
        if isinstance(node, Compare) and node.field in ("tokens", "loss"):
            yield node.field
        elif isinstance(node, State):
            yield of.get(node.field) or of.get(f"{node.field}:{node.value}", "")
        elif isinstance(node, Not):
            yield from inside(node.part)
        elif isinstance(node, And | Or):
            for part in node.parts:
                yield from inside(part)

    return frozenset(inside(query.root)) - {""}


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be marked in the messages that a query matched."""

    scope: str
    """A role of SCOPES, or empty for any."""
    source: str
    """A regular expression."""


def marks(query: Query) -> list[Mark]:
    """Return what a query asks for in texts, as expressions to mark it with; what it excludes is not among them."""

    def inside(node: Node) -> Iterator[Mark]:
        if isinstance(node, Text):
            yield Mark(node.scope, re.escape(node.needle))
        elif isinstance(node, Pattern):
            yield Mark(node.scope, node.source)
        elif isinstance(node, And | Or):
            for part in node.parts:
                yield from inside(part)

    return list(inside(query.root))


def refines(new: Node, old: Node) -> bool:
    """Whether every row that `new` matches is surely matched by `old`, told from the texts alone."""
    if new == old or isinstance(old, Everything):
        return True
    if isinstance(old, And):
        return all(refines(new, part) for part in old.parts)
    if isinstance(new, And):
        return any(refines(part, old) for part in new.parts)
    if isinstance(old, Text) and isinstance(new, Text):
        return old.scope in ("", new.scope) and old.needle in new.needle
    return False


def reads_rows(node: Node) -> bool:
    """Whether a query looks at what a row holds, and not only at what is known of it by its number."""
    match node:
        case And() | Or():
            return any(reads_rows(part) for part in node.parts)
        case Not():
            return reads_rows(node.part)
        case State():
            return f"{node.field}:{node.value}" in ("is:tagged", "has:tools", "has:system")
        case Compare():
            return node.field not in ("tokens", "loss")
    return not isinstance(node, Everything)


def named(field: str) -> str:
    """Return a field's name as a query has it, quoted where it has to be."""
    return field if _NAME.fullmatch(field) else quoted(field)


def quoted(text: str) -> str:
    """Return a text as a phrase of a query."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_NAME = re.compile(r"[^\W\d][\w.\-]*")
"""A field's name that needs no quotes."""
_FIELD = re.compile(rf"({_NAME.pattern})(:|<=|>=|!=|<|>|=)")
_OPERATOR = re.compile(r"(:|<=|>=|!=|<|>|=)(?=[^\s()])")
"""What makes a field of the quoted name before it: nobody goes on with a colon right behind a phrase."""
_NUMBERS_SUCH_AS = {"tokens": 500, "chars": 2000, "turns": 6, "loss": 2}
_VALUES_SUCH_AS = {"intent": "card_lost", "tag": "keep", "check": "CODE", "about": '"lost card"'}
_NUMBER = re.compile(r"-?\d[\d_]*(\.\d+)?|-?\.\d+")


class _Parser:
    """Recursive descent over the text; `at` is the place of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def query(self) -> Node:
        self._skip()
        if self.at == len(self.text):
            return Everything()
        node = self._alternatives()
        if self.at < len(self.text):
            raise QueryError("this ) closes nothing", "remove it, or quote it", column=self.at + 1)
        return node

    def _alternatives(self, opened: int = 0) -> Node:
        """Read what OR joins; `opened` is the column of the ( before it, 0 when there is none."""
        parts = [self._conjunction(opened)]
        while self._keyword("OR"):
            parts.append(self._conjunction(opened, after="OR"))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self, opened: int, after: str = "") -> Node:
        parts: list[Node] = []
        while self._skip() and self.text[self.at] != ")" and not self._sees("OR"):
            if self._sees("AND"):
                if not parts or after == "AND":
                    raise self._nothing(opened, after)
                after = self.text[self.at : self.at + 3]
                self.at += 3
                continue
            parts.append(self._term())
            after = ""
        if not parts or after:
            raise self._nothing(opened, after)
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _nothing(self, opened: int, after: str) -> QueryError:
        """Return the error of a place where a term is missing; `after` is the word that it should follow."""
        hint, column = "add a word, or quote the one that is meant", self.at + 1
        ends = self.at == len(self.text)
        for word in ("OR", "AND"):
            if not ends and self._sees(word) and not after:
                return QueryError(f"{word} needs something before it", hint, column=column)
        if after:
            return QueryError(f"{after} needs something after it", hint, column=column)
        if not opened:
            return QueryError("this ) closes nothing", "remove it, or quote it", column=column)
        if ends:
            return QueryError("this ( is never closed", "add a ), or quote it", column=opened)
        return QueryError("nothing between ( and )", "write what to look for, or quote them", column=column)

    def _term(self) -> Node:
        start = self.at
        if self.text[start] == "-" and self.at + 1 < len(self.text) and not self.text[start + 1].isspace():
            self.at += 1
            return Not(self._term())
        if self.text[start] == "(":
            self.at += 1
            node = self._alternatives(opened=start + 1)
            if not self._skip():
                raise QueryError("this ( is never closed", "add a ), or quote it", column=start + 1)
            self.at += 1
            return node
        if self.text[start] == '"':
            return self._quoted()
        match = _FIELD.match(self.text, start)
        if match:
            self.at = match.end()
            return self._field(match.group(1).lower(), match.group(1), match.group(2), start)
        return self._text("", start)

    def _quoted(self) -> Node:
        """Read a phrase, or a metadata key in quotes with what it shall be."""
        column = self.at + 1
        words = self._enclosed('"')
        match = _OPERATOR.match(self.text, self.at)
        if match is None:
            return Text("", fold(words))
        self.at = match.end()
        if match.group() != ":":
            return self._compare(words, match.group(), column)
        return Field(words, fold(self._value(column - 1)), column)

    def _field(self, name: str, written: str, operator: str, start: int) -> Node:
        column = start + 1
        if operator != ":":
            return self._compare(written if name not in NUMBERS else name, operator, column)
        if name in SCOPES:
            return self._text(name, start)
        if name in NUMBERS:
            return self._compare(name, ":", column)
        place = self.at + 1
        self._refuse_group(name)
        value = self._value(start)
        if not value:
            raise QueryError(f"{name}: needs a value", _hint(name), column=place)
        if name in WORDS and value.lower() not in WORDS[name]:
            raise QueryError(f"{name}: does not know {value!r}", _hint(name), column=place)
        if name in WORDS or name in ("check", "about"):
            return State(name, value.lower() if name in WORDS else value, column)
        return Field(name if name in ("intent", "tag") else written, fold(value), column)

    def _compare(self, name: str, operator: str, column: int) -> Compare:
        match = _NUMBER.match(self.text, self.at)
        ends = match and (match.end() == len(self.text) or self.text[match.end()] in " \t\n)")
        if not match or not ends:
            such = f"such as {name}{operator}{_NUMBERS_SUCH_AS.get(name, 4)}"
            raise QueryError(f"{name}{operator} needs a number", such, column=self.at + 1)
        self.at = match.end()
        bound = float(match.group().replace("_", ""))
        if not math.isfinite(bound):
            raise QueryError("the number is too large", column=column)
        return Compare(name, "=" if operator == ":" else operator, bound, column)

    def _text(self, scope: str, start: int) -> Node:
        place = self.at
        self._refuse_group(scope)
        if place < len(self.text) and self.text[place] == "/":
            return Pattern(scope, self._enclosed("/"), place + 1)
        value = self._value(start)
        if not value:
            such = f'such as {scope}:refund or {scope}:"credit card", without a space after the colon'
            raise QueryError(f"{scope}: needs a word", such, column=place + 1)
        return Text(scope, fold(value))

    def _refuse_group(self, name: str) -> None:
        """Raise QueryError where a ( stands right after a field's colon."""
        if name and self.text.startswith("(", self.at):
            hint = f"write ({name}:a OR {name}:b), or quote it"
            raise QueryError(f"{name}: takes one value, not a group", hint, column=self.at + 1)

    def _value(self, start: int) -> str:
        """Read a word or a quoted phrase at `at`; empty when there is neither."""
        if self.at < len(self.text) and self.text[self.at] == '"':
            return self._enclosed('"')
        begin = self.at
        while (
            self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in "()"
        ):
            self.at += 1
        if self.at == begin == start:
            raise QueryError("this does not begin a word", "quote it", column=start + 1)
        return self.text[begin : self.at]

    def _enclosed(self, mark: str) -> str:
        """Read up to the closing `mark`; a backslash keeps the mark as a character."""
        start = self.at
        pieces: list[str] = []
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != mark:
            follower = self.text[self.at + 1 : self.at + 2]
            if self.text[self.at] == "\\" and follower:
                keep = "" if follower == mark or (mark == '"' and follower == "\\") else "\\"
                pieces.append(keep + follower)
                self.at += 2
            else:
                pieces.append(self.text[self.at])
                self.at += 1
        if self.at == len(self.text):
            raise QueryError(f"this {mark} is never closed", f"add a {mark} at its end", column=start + 1)
        self.at += 1
        if not pieces:
            raise QueryError(f"nothing between {mark} and {mark}", "write what to look for", column=start + 1)
        return "".join(pieces)

    def _skip(self) -> bool:
        """Pass white space; return whether anything is left."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    def _sees(self, word: str) -> bool:
        end = self.at + len(word)
        after = self.text[end : end + 1]
        return self.text.startswith(word, self.at) and (not after or after.isspace() or after in "()")

    def _keyword(self, word: str) -> bool:
        if self._skip() and self._sees(word):
            self.at += len(word)
            return True
        return False


def _hint(name: str) -> str:
    if name in WORDS:
        return f"one of {', '.join(WORDS[name])}"
    return f"such as {name}:{_VALUES_SUCH_AS.get(name, 'value')}, without a space after the colon"
