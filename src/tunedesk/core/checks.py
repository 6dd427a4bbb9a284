"""Everything that is wrong with a training file, in one pass, each fault with its physical line and message.

A file is checked as bytes (`check_file`), rows of a dataset as they are (`check_rows`). Findings of single rows
come first in the row; those that need the whole file (duplicates, differing system prompts) are put in by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.duplicates import Finder, digest, normalised, spoken_text, whole_text
from tunedesk.core.file_checks import has_lone, read_line
from tunedesk.core.findings import CHECKS, Check, Finding, finding
from tunedesk.core.privacy import find_in_row
from tunedesk.core.row_checks import check_row
from tunedesk.core.sources import Progress, Source

__all__ = ["CHECKS", "Check", "Checked", "Finding", "Rules", "check_file", "check_rows"]

FEWEST = 10
"""Conversations that a training file must have (OpenAI, Azure)."""
_FEW_PROMPTS = 3
_SURE = 0.7
"""Confidence from which personal data is a finding: below it, a bare first name or a number by context alone."""
_SHORTEST = 12
"""Characters below which a question ("hi") is too short for two answers to it to contradict each other."""


@dataclass(frozen=True, slots=True)
class Rules:
    """For whom a file is checked."""

    provider: str = ""
    """Profile's name: azure wants the byte order mark; the local engine trains on fewer than 10 conversations."""
    count_tokens: Callable[[Row], int] | None = None
    """Tokens of a row for the model, where lengths are to be checked (TokenCounter.row)."""
    limit: int = 0
    """Tokens one conversation may have."""
    personal_data: bool = True
    """Also look for personal data, which takes most of the time."""
    near_duplicates: bool = True
    """Also look for nearly the same conversations: a few seconds for 10,000 rows."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found."""

    conversations: int
    """Rows that could be read as JSON."""
    findings: list[Finding]
    """Ordered by line, then message."""

    @property
    def errors(self) -> int:
        """Findings that the API or a trainer would refuse, or that silently ruin the result."""
        return sum(one.severity == "error" for one in self.findings)

    @property
    def warnings(self) -> int:
        """Findings that cost quality or money."""
        return len(self.findings) - self.errors


def check_file(path: Path | str, rules: Rules | None = None, on_progress: Progress | None = None) -> Checked:
    """Check a JSONL file as it lies on disk (also .gz, or `-`); raises DataError only when it cannot be opened."""
    rules = rules or Rules()
    source = Source.open(path, on_progress)
    found: list[Finding] = []
    try:
        whole = _Whole(rules)
        if source.bom and source.encoding == "utf-8" and rules.provider != "azure":
            found.append(finding("bom", 1, None))
        if source.encoding != "utf-8":
            found.append(finding("not_utf8", 1, None, f"the file is {source.encoding.upper()}"))
        for line, raw in source.raw_lines():
            found.extend(_check_line(raw, line, whole))
        if source.cut:
            found.append(finding("gzip_cut", 0, None))
        found.extend(whole.findings())
    finally:
        source.close()
    if _is_array(source.head):
        found = [one for one in found if one.code not in ("json_invalid", "not_object", "too_few_examples")]
        found.append(finding("json_array", 1, None))
    elif not whole.count and not any(one.severity == "error" and one.line for one in found):
        found = [one for one in found if one.code != "too_few_examples"]
        found.append(finding("empty_file", 0, None))
    return Checked(whole.count, _ordered(found))


def check_rows(rows: Iterable[SourceRow], rules: Rules | None = None) -> Checked:
    """Check decoded rows, as of a dataset: all but what only a file's bytes can show."""
    whole = _Whole(rules or Rules())
    found: list[Finding] = []
    for source in rows:
        found.extend(whole.row(source.row, source.line))
    found.extend(whole.findings())
    return Checked(whole.count, _ordered(found))


def _ordered(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: (one.line, -1 if one.message is None else one.message))


def _is_array(head: bytes) -> bool:
    """Return whether a file is one JSON array: its first line opens one and does not stand alone."""
    start = head.lstrip()[:200]
    first = head.lstrip().partition(b"\n")[0].strip()
    return start.startswith(b"[") and (start[1:].lstrip()[:1] in (b"{", b"") or not first.endswith(b"]"))


def _check_line(raw: bytes, line: int, whole: _Whole) -> Iterator[Finding]:
    if not raw.strip():
        yield finding("blank_line", line, None)
        return
    value, found = read_line(raw, line)
    yield from found
    if value is None and (found or raw.strip() != b"null"):
        return
    yield from whole.row(value, line)


def _personal(row: Row, line: int) -> Iterator[Finding]:
    """Yield a finding for each message with personal data, that of the system's aside."""
    kinds: dict[int, list[str]] = {}
    for one in find_in_row(row):
        if one.confidence >= _SURE:
            kinds.setdefault(one.message, []).append(one.kind)
    messages = row.get("messages")
    roles = (
        [m.get("role") if isinstance(m, dict) else "" for m in messages] if isinstance(messages, list) else []
    )
    for place, found in kinds.items():
        role = roles[place] if place < len(roles) else "user"
        told = dict.fromkeys(kind for kind in found if role == "user" or kind != "phone")
        if told and role not in ("system", "developer"):  # the house's own lines stand in many answers
            yield finding("pii", line, place, ", ".join(told).replace("_", " "))


@dataclass(slots=True)
class _Prompts:
    """Which system prompts the rows of a file have."""

    lines: dict[bytes, list[int]] = field(default_factory=dict)
    """Digest of the prompt (empty for none) → lines."""

    def add(self, row: Row, line: int) -> None:
        first = next((m for m in row["messages"] if isinstance(m, dict)), {})
        has_one = first.get("role") in ("system", "developer")
        key = digest(str(first.get("content"))) if has_one else b""
        self.lines.setdefault(key, []).append(line)

    def findings(self) -> Iterator[Finding]:
        total = sum(map(len, self.lines.values()))
        prompts = {key: lines for key, lines in self.lines.items() if key}
        most = max(prompts.values(), key=len, default=[])
        if total < FEWEST or 2 * len(most) <= total:
            return
        for lines in prompts.values():
            if lines is not most and len(prompts) <= max(_FEW_PROMPTS, total // 50):
                rows = f"{len(lines)} of {total} rows, first on line {lines[0]}"
                yield finding("system_prompts_differ", lines[0], 0, rows)
        if 5 * len(most) >= 4 * total:
            for line in self.lines.get(b"", ()):
                yield finding("system_missing", line, None)


class _Whole:
    """Checks rows one after the other and remembers what only shows across them."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.count = 0
        self._lines: list[int] = []
        self._finder = Finder(exact_only=not rules.near_duplicates)
        self._answers: dict[bytes, tuple[int, str]] = {}
        self._prompts = _Prompts()
        self._contradicting: set[tuple[int, int]] = set()

    def row(self, value: object, line: int) -> Iterator[Finding]:
        """Yield the findings of one row, and of it against those before it."""
        self.count += 1
        yield from check_row(value, line)
        if not isinstance(value, dict):
            return
        if has_lone({key: value[key] for key in value if key != "messages"}):
            yield finding("lone_surrogate", line, None)
        messages = value.get("messages")
        if not (isinstance(messages, list) and messages) and "preferred_output" not in value:
            return
        yield from self._against_others(value, line)
        if self.rules.personal_data:
            yield from _personal(value, line)
        if isinstance(messages, list) and messages:
            self._prompts.add(value, line)
            yield from self._length(value, line)

    def _against_others(self, row: Row, line: int) -> Iterator[Finding]:
        first = self._finder.add(spoken_text(row), whole_text(row))
        self._lines.append(line)
        if first is not None:
            yield finding("exact_duplicate", line, None, f"line {self._lines[first]}")
            return
        asked = spoken_text(row, prompt_only=True)
        if "messages" not in row or len(asked) < _SHORTEST or not asked.startswith("user"):
            return
        answer = normalised(spoken_text(row)[len(asked) :])
        earlier = self._answers.setdefault(digest(asked), (line, answer))
        if earlier[0] != line and earlier[1] != answer:
            self._contradicting.add((earlier[0], line))
            yield finding("contradiction", line, None, f"line {earlier[0]}")

    def _length(self, row: Row, line: int) -> Iterator[Finding]:
        if self.rules.count_tokens is None or not self.rules.limit:
            return
        tokens = self.rules.count_tokens(row)
        if tokens > self.rules.limit:
            over = f"{tokens:,} tokens, {tokens - self.rules.limit:,} over {self.rules.limit:,}"
            yield finding("over_long", line, len(row["messages"]) - 1, over)

    def findings(self) -> Iterator[Finding]:
        """Yield what shows only at the end of the file."""
        if self.count < FEWEST:
            few = finding("too_few_examples", 0, None, f"it has {self.count}")
            yield replace(few, severity="warning") if self.rules.provider == "local" else few
        yield from self._prompts.findings()
        for pair in self._finder.near():
            lines = self._lines[pair.first], self._lines[pair.second]
            if lines not in self._contradicting:
                yield finding("near_duplicate", lines[1], None, f"{pair.similarity:.0%} of line {lines[0]}")
