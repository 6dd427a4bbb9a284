"""What may come next in a query that is being typed: a field, or a value of the field before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunedesk.core.datasets.indexing import fold
from tunedesk.core.searching.facets import term
from tunedesk.core.searching.query import FIELDS, NUMBERS, SCOPES, WORDS, named
from tunedesk.core.workspace import Workspace
from tunedesk.errors import UsageError

MOST = 8
"""Candidates that are told."""
_LAST = re.compile(r'(?:^|[\s(])-?(?:(?P<field>[^\W\d][\w.\-]*|"[^"]+"):)?(?P<prefix>"[^"]*|[^\s()":]*)$')
"""The word at the end of a query, whose phrases before it are closed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to go on."""

    label: str
    text: str
    """The whole query with it."""


def candidates(text: str, fields: Sequence[str], values: Callable[[str], Sequence[str]]) -> list[Candidate]:
    """Return how `text` may go on, those that begin with what is typed first.

    `fields` are the metadata keys of the dataset, `values` returns those of a field, the most frequent first.
    """
    last = _LAST.search(text)
    if last is None or (text.count('"') % 2 == 1) != last["prefix"].startswith('"'):
        return []
    field, prefix = last["field"] and last["field"].strip('"'), fold(last["prefix"].lstrip('"'))
    if field is None:
        if not prefix or last["prefix"].startswith('"'):
            return []
        names = [name for name in dict.fromkeys((*FIELDS, *fields)) if fold(name).startswith(prefix)]
        kept = text[: last.start("prefix")]
        return [
            Candidate(name, kept + named(name) + (">" if name in NUMBERS else ":")) for name in names[:MOST]
        ]
    known = () if field.lower() in (*SCOPES, *NUMBERS) else values(field)
    fitting = [one for one in known if prefix in fold(one)]
    if [fold(one) for one in fitting] == [prefix]:
        return []
    fitting.sort(key=lambda one: not fold(one).startswith(prefix))
    kept = text[: last.start("field")]
    return [Candidate(one, kept + term(field, one)) for one in fitting[:MOST]]


class FieldValues:
    """Values of a workspace's fields over all its conversations, each field counted once; for one thread at a time."""

    def __init__(self, workspace: Workspace) -> None:
        """Count over the edits that are in force in `workspace`."""
        self._workspace = workspace
        self._known: dict[str, list[str]] = {}

    def fits(self, workspace: Workspace) -> bool:
        """Whether the values are those of `workspace`, whatever it is narrowed to."""
        mine = self._workspace
        same = mine.overlay is workspace.overlay and mine.known.findings is workspace.known.findings
        return same and mine.known.topics is workspace.known.topics

    def __call__(self, field: str) -> list[str]:
        """Return the values of a field, the most frequent first; none for a field that the dataset has not."""
        if field.lower() in WORDS:
            return list(WORDS[field.lower()])
        if field.lower() == "check":
            return sorted(self._workspace.known.findings or {})
        if field.lower() == "about":
            return list(self._workspace.known.topics or {})
        if field not in self._known:
            try:
                self._known[field] = [value for value, _ in self._workspace.with_query("").facets(field)]
            except UsageError:
                self._known[field] = []
        return self._known[field]
