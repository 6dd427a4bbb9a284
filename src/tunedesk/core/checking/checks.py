"""Everything that is wrong with a training file, in one pass, each fault with its physical line and message.

A file is checked as bytes (`check_file`), rows of a dataset as they are (`check_rows`, `check_lines`). Rows are
examined one by one, by several processes when there are many (examining.py); what shows only across rows
(duplicates, differing system prompts) is found here.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunedesk.core.checking.across import FEWEST, Across
from tunedesk.core.checking.examining import Examined, Line, Wanted
from tunedesk.core.checking.file_checks import encoded, read_line
from tunedesk.core.checking.findings import CHECKS, Check, Finding, finding
from tunedesk.core.checking.processes import examined
from tunedesk.core.checking.row_checks import PREFERENCE_KEYS
from tunedesk.core.conversations import Row, SourceRow, content_text
from tunedesk.core.importing.sources import Progress, Source

__all__ = [
    "CHECKS",
    "Check",
    "Checked",
    "Finding",
    "Rules",
    "check_file",
    "check_lines",
    "check_rows",
    "is_rows_file",
]

LARGEST = {"openai": 8 << 30, "azure": 8 << 30, "nebius": 5 << 30}
"""Bytes of a training file by provider (facts of their own documentation; OpenAI's and Azure's by the Uploads API)."""
_HABIT = 0.2
"""Share of rows answered in another language from which that is how the data is meant (translations)."""
_CUT_SHOWN = 60
"""Characters shown of what is cut."""


@dataclass(frozen=True, slots=True)
class Rules:
    """For whom a file is checked."""

    provider: str = ""
    """Profile's name: azure wants the byte order mark; the local engine trains on fewer than 10 conversations."""
    count_tokens: Callable[[Row], int] | None = None
    """Tokens of a row for the model, where lengths are to be checked (TokenCounter.row)."""
    limit: int = 0
    """Tokens one conversation may have."""
    unstopped: str = ""
    """The stop token that the model's chat template does not write after an answer; empty where it does."""
    said: bool = True
    """Also read what is said, and compare rows with one another; without, a file is only held against the API."""
    personal_data: bool = True
    """Also look for personal data, which takes a third of the time."""
    near_duplicates: bool = True
    """Also look for nearly the same conversations."""

    def wanted(self, *, file: bool) -> Wanted:
        """Return what the processes have to look for. A token is at least a byte, so only longer lines are counted."""
        return Wanted(
            file=file, said=self.said, personal_data=self.said and self.personal_data,
            near_duplicates=self.said and self.near_duplicates,
            text_only=self.provider == "local", long=self.limit // 2 if self.count_tokens else 0,
        )  # fmt: skip


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
    try:
        whole = _Whole(rules)
        for batch in examined(source.raw_lines(), rules.wanted(file=True)):
            whole.take(batch)
        found = [*_of_source(source, rules), *whole.all()]
    finally:
        source.close()
    if _is_array(source.head):
        found = [one for one in found if one.code not in ("json_invalid", "not_object", "too_few_examples")]
        found.append(finding("json_array", 1, None))
    elif not whole.count and not any(one.severity == "error" and one.line for one in found):
        found = [one for one in found if one.code != "too_few_examples"]
        found.append(finding("empty_file", 0, None))
    return Checked(whole.count, _ordered(found))


def _of_source(source: Source, rules: Rules) -> Iterator[Finding]:
    """Yield what the file as a whole shows; the source has been read to its end."""
    if source.encoding != "utf-8":
        yield finding("not_utf8", 1, None, f"the file is {source.encoding.upper()}", fixable=True)
    elif source.bom and rules.provider != "azure":
        yield finding("bom", 1, None)
    elif not source.bom and rules.provider == "azure" and source.head:
        yield finding("bom_missing", 1, None)
    if source.cut:
        yield finding("gzip_cut", 0, None)
    largest = LARGEST.get(rules.provider)
    if largest and source.size > largest:
        yield finding("file_too_large", 0, None, f"{source.size:,} bytes, {largest:,} are the most")


def is_rows_file(path: Path | str) -> bool:
    """Return whether a file is meant to be JSON lines in the API's shape, and is to be taken as its bytes are.

    Told by its name, as its content may be too broken to tell; under another name, by its first line.
    """
    if Path(path).name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return True
    if Path(path).is_dir():
        return False
    source = Source.open(path)
    try:
        first = next((line for line in source.head.split(b"\n") if line.strip()), b"")
    finally:
        source.close()
    value, _ = read_line(first, 1)
    return isinstance(value, dict) and (
        "preferred_output" in value or isinstance(value.get("messages"), list)
    )


def check_rows(rows: Iterable[SourceRow], rules: Rules | None = None) -> Checked:
    """Check decoded rows, as of an import: all but what only a file's bytes can show."""
    return check_lines(((one.line, encoded(one.row)) for one in rows), rules)


def check_lines(lines: Iterable[Line], rules: Rules | None = None) -> Checked:
    """Check encoded rows with their lines, as of a dataset: all but what only a file's bytes can show."""
    rules = rules or Rules()
    whole = _Whole(rules)
    for batch in examined(lines, rules.wanted(file=False)):
        whole.take(batch)
    return Checked(whole.count, _ordered(list(whole.all())))


def _ordered(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: (one.line, -1 if one.message is None else one.message))


def _is_array(head: bytes) -> bool:
    """Return whether a file is one JSON array: its first line opens one and does not stand alone."""
    start = head.lstrip()[:200]
    first = head.lstrip().partition(b"\n")[0].strip()
    return start.startswith(b"[") and (start[1:].lstrip()[:1] in (b"{", b"") or not first.endswith(b"]"))


class _Whole:
    """Takes batches in their order and remembers what only shows at the end."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.count = 0
        self.found: list[Finding] = []
        self._foreign: list[Finding] = []
        self._across = Across(said=rules.said, near=rules.said and rules.near_duplicates)

    def take(self, batch: Examined) -> None:
        """Add a batch: its own findings, and what is compared with other rows."""
        self.count += batch.rows
        for one in batch.findings:
            (self._foreign if one.code == "wrong_language" else self.found).append(one)
        self._across.take(batch)
        for line, raw in batch.long:
            self.found += self._length(read_line(raw, line)[0], line)

    def _length(self, row: object, line: int) -> Iterator[Finding]:
        count, limit = self.rules.count_tokens, self.rules.limit
        if count is None:
            return
        for talk in _talks(row):
            if (tokens := count(talk.row)) > limit:
                yield _over_long(talk, line, tokens, count, limit)

    def all(self) -> Iterator[Finding]:
        """Yield all findings, with what shows only at the end of the file."""
        yield from self.found
        if len(self._foreign) <= max(1, _HABIT * self.count):
            yield from self._foreign
        if self.count < FEWEST:
            few = finding("too_few_examples", 0, None, f"it has {self.count}")
            yield replace(few, severity="warning") if self.rules.provider == "local" else few
        if self.rules.unstopped and self.count:
            yield finding("no_stop_token", 0, None, self.rules.unstopped)
        yield from self._across.findings()


@dataclass(frozen=True, slots=True)
class _Talk:
    """What of a row is trained as one text."""

    row: Row
    answers: Sequence[int]
    """Messages that are trained."""
    beyond: int = 0
    """By how much the place of the last message in the row is more than here."""


def _talks(row: object) -> Iterator[_Talk]:
    """Yield what of a row is trained: of a preference row, its prompt with each of the answers, counted on from it."""
    if not isinstance(row, dict):
        return
    messages, asked = row.get("messages"), row.get("input")
    if isinstance(messages, list):
        answers = [at for at, m in enumerate(messages) if _role(m) == "assistant" and m.get("weight") != 0]
        yield _Talk(row, answers)
    elif isinstance(asked, dict) and isinstance(prompt := asked.get("messages"), list):
        for beyond, answer in enumerate(PREFERENCE_KEYS[1:]):
            side = row.get(answer)
            if isinstance(side, list) and side:
                yield _Talk({**asked, "messages": [*prompt, side[0]]}, [len(prompt)], beyond)


def _over_long(talk: _Talk, line: int, tokens: int, count: Callable[[Row], int], limit: int) -> Finding:
    """Return what becomes of a text of too many `tokens`: where it is cut, and if that leaves anything to train."""
    messages = talk.row["messages"]
    place, kept = _cut(talk.row, messages, count, limit)
    last = len(messages) - 1
    told = place + talk.beyond * (place == last)
    text = content_text(messages[place].get("content"))[kept:] if isinstance(messages[place], dict) else ""
    over = f"{tokens:,} tokens, {tokens - limit:,} over {limit:,}"
    where = f"the cut is in message {told}, {_role(messages[place])}, at character {kept + 1:,}"
    where += f": {text[:_CUT_SHOWN]!r}{_more(len(text) - _CUT_SHOWN, last - place)}"
    lost = [at for at in talk.answers if at > place or (at == place and not kept)]
    if talk.answers and len(lost) == len(talk.answers):
        return finding("mask_empty", line, told, f"{over}; {where}")
    if any(at >= place for at in talk.answers):
        where += "; it hits the reply, whose end and stop token are never trained"
    return finding("over_long", line, last + talk.beyond, f"{over}; {where}")


def _role(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def _more(characters: int, messages: int) -> str:
    """Say how much is cut behind what is shown of it."""
    more = [f"{characters:,} characters more"] if characters > 0 else []
    more += [f"{messages:,} more messages"] if messages else []
    return f" and {', '.join(more)}" if more else ""


def _cut(row: Row, messages: list[object], count: Callable[[Row], int], limit: int) -> tuple[int, int]:
    """Return the message that the limit cuts, and how many characters of it are kept."""
    place = bisect(range(1, len(messages)), limit, key=lambda end: count({**row, "messages": messages[:end]}))
    message = messages[place]
    if not isinstance(message, dict):
        return place, 0
    text = content_text(message.get("content"))
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        shorter = [*messages[:place], {**message, "content": text[:middle]}]
        low, high = (middle, high) if count({**row, "messages": shorter}) <= limit else (low, middle - 1)
    return place, low
