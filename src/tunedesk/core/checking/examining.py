"""What a check can tell of rows one by one: findings, and the numbers by which rows are compared with one another.

Each line goes one of two ways: plain rows are put together from what is known of their texts (sayings.py), all
others are looked at exactly. A test holds both ways to the same findings.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunedesk.core.checking.file_checks import read_line
from tunedesk.core.checking.findings import SAID, Finding, finding
from tunedesk.core.checking.plain_rows import PlainRow, plain_row
from tunedesk.core.checking.row_checks import check_row, every_message, hidden_faults
from tunedesk.core.checking.sayings import LONG_ANSWER, Saying, Sayings
from tunedesk.core.checking.talk_checks import Said, talk_faults
from tunedesk.core.conversations import Row, content_text
from tunedesk.core.grouping.sketches import (
    Sketches,
    identity,
    joined,
    key_of,
    messages_of,
    said_in,
    shingle_hashes,
    sketch,
    spoken_text,
)
from tunedesk.core.personal_data.privacy import RowFound, find_in_row, found_together, metadata_names
from tunedesk.core.personal_data.spans import Found

_SHORTEST = 12
"""Characters below which a question ("hi") is too short for two answers to it to contradict each other."""
_SURE = 0.7
"""Confidence from which personal data is a finding: below it, a bare first name or a number by context alone."""
_SYSTEM = ("system", "developer")
_SIDES = ("system", "developer", "user", "assistant")
_NONE: frozenset[str] = frozenset()

Line = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked for, as processes are told it."""

    rows: bool = True
    """Check each row; without, only duplicates are looked for."""
    file: bool = True
    """The lines are a user's file, not rows that tunedesk wrote."""
    said: bool = True
    """Read what is said, and compare rows; without, nothing of SAID is found."""
    personal_data: bool = True
    near_duplicates: bool = True
    text_only: bool = False
    """The trainer takes no images, audio or files."""
    long: int = 0
    """Bytes from which a line may be too long for the model; 0 when lengths are not asked for."""


NO_PROMPT, NOT_ASKED = 0, 1
"""Instead of a prompt's number: the row has none; the row is no conversation that could have one."""


def _numbers() -> array[int]:
    return array("Q")


@dataclass(slots=True)
class Marks:
    """What is compared of rows with one another: 64-bit numbers, a place for each row that is a conversation."""

    lines: array[int] = field(default_factory=_numbers)
    identities: array[int] = field(default_factory=_numbers)
    """All that a row says."""
    questions: array[int] = field(default_factory=_numbers)
    """All before the last answer, the system's aside; 0 when there is nothing."""
    asked: array[int] = field(default_factory=_numbers)
    """The same where another answer would contradict it, else 0: a greeting may be answered in many ways."""
    answers: array[int] = field(default_factory=_numbers)
    """What comes after it."""
    prompts: array[int] = field(default_factory=_numbers)
    """The system prompt, NO_PROMPT or NOT_ASKED."""
    repliers: array[int] = field(default_factory=_numbers)
    """Place of the row for each longer answer."""
    replies: array[int] = field(default_factory=_numbers)
    """The longer answers, each once a row."""

    def extend(self, other: Marks) -> None:
        """Add the marks of further rows."""
        before = len(self.lines)
        self.repliers.extend(place + before for place in other.repliers)
        for name in ("lines", "identities", "questions", "asked", "answers", "prompts", "replies"):
            getattr(self, name).extend(getattr(other, name))


@dataclass(slots=True)
class Examined:
    """What came of one batch."""

    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    marks: Marks = field(default_factory=Marks)
    sketches: Sketches | None = None
    """One for each mark."""
    long: list[Line] = field(default_factory=list)
    """Lines to be counted."""


class Examiner:
    """Examines batches of lines; what it learns of texts in one serves the next."""

    def __init__(self, wanted: Wanted) -> None:
        """Look for what is `wanted`."""
        self.wanted = wanted
        self._sayings = Sayings(
            heard=wanted.rows, personal=wanted.personal_data, compared=wanted.near_duplicates
        )
        self._texts: list[array[int]] = []

    def examine(self, lines: Iterable[Line]) -> Examined:
        """Return what is found in a batch of lines; never raises on any bytes."""
        made = Examined()
        rows = [(line, raw, plain_row(raw)) for line, raw in lines]
        if self.wanted.said:
            self._learn(row for *_, row in rows if row)
        take = self._plain if self.wanted.said else self._shaped
        for line, raw, row in rows:
            if row is None or not take(row, line, raw, made):
                self._exact(line, raw, made)
        if self.wanted.near_duplicates:
            made.sketches = sketch(self._texts)
        self._texts = []
        return made

    def _learn(self, rows: Iterable[PlainRow]) -> None:
        """Get to know all texts of some rows at once."""
        known = self._sayings.known
        fresh: dict[tuple[str, str], None] = {}
        for row in rows:
            for message in row.messages:
                if message.content not in known[message.role]:
                    fresh[message.role, message.content] = None
        self._sayings.learn(fresh)

    # --- plain rows

    def _plain(self, row: PlainRow, line: int, raw: bytes, made: Examined) -> bool:
        """Take a plain row; return False, and leave it, when a message is blank."""
        known = self._sayings.known
        sayings: list[Saying] = []
        marked, common = False, -1
        for message in row.messages:
            one = known[message.role].get(message.content)
            if one is None:
                one = self._sayings.of(message.role, message.content)
                known = self._sayings.known
            if one.blank:
                return False
            marked = marked or one.marked
            common &= one.leaning
            sayings.append(one)
        made.rows += 1
        if self.wanted.rows:
            if marked or not common:
                said = [(at, one.role, one.text, one.spoken) for at, one in enumerate(sayings)]
                made.findings += (
                    finding(code, line, at, detail)
                    for at, one in enumerate(sayings)
                    for code, detail in one.faults
                )
                made.findings += (finding(code, line, at, detail) for code, at, detail in talk_faults(said))
            if self.wanted.personal_data:
                found = self._found(row, sayings)
                placed = ((at, item) for at, items in enumerate(found) for item in items)
                made.findings += _personal(placed, [one.role for one in sayings], line)
        self._mark_plain(sayings, line, made.marks)
        if 0 < self.wanted.long < len(raw):
            made.long.append((line, raw))
        return True

    def _shaped(self, row: PlainRow, line: int, raw: bytes, made: Examined) -> bool:
        """Take a plain row by its shape alone; return False, and leave it, when a message is blank."""
        for message in row.messages:
            if not message.content or message.content.isspace():
                return False
        made.rows += 1
        made.marks.lines.append(line)
        made.marks.prompts.append(NO_PROMPT)
        if 0 < self.wanted.long < len(raw):
            made.long.append((line, raw))
        return True

    def _found(self, row: PlainRow, sayings: Sequence[Saying]) -> list[list[Found]]:
        """Return what find_in_row would find in each text; mostly nothing, which is seen soon."""
        asked, find = _NONE, self._sayings.found_in
        found: list[list[Found]] = []
        some = False
        for one in sayings:
            asking = asked if one.role == "user" else _NONE
            items = find(one, asking) if asking or one.groups else []
            found.append(items)
            # What a prompt holds is no finding, but a name in it is looked for in what is said.
            some = some or (bool(items) and (one.talks or any(item.kind == "name" for item in items)))
            if one.talks:
                asked = one.asks
        metadata = row.metadata or None
        if not some and not (metadata and metadata_names(metadata)):
            return []
        texts = [(one.role, one.text, "content") for one in sayings]
        return found_together(found, texts, metadata, self._sayings)

    def _mark_plain(self, sayings: Sequence[Saying], line: int, marks: Marks) -> None:
        spoken = sayings[1:] if sayings[0].role in _SYSTEM else sayings
        keys = [one.key for one in spoken]
        prompted = len(spoken) < len(sayings)
        prompt = sayings[0].key if prompted else NO_PROMPT
        last = len(keys) - 1
        short = len(spoken) < 3 and len(spoken[0].text) < _SHORTEST - len("user: ")
        replies = dict.fromkeys([one.key for one in spoken if one.long])
        _put(marks, line, joined([sayings[0].key, *keys] if prompted else keys), prompt, replies)
        question = joined(keys[:last])
        marks.questions.append(question)
        marks.asked.append(0 if short else question)
        marks.answers.append(keys[last])
        if self.wanted.near_duplicates:
            hashes = self._sayings.hashes
            self._texts.append(array("I", b"".join([hashes(one) for one in spoken])))

    # --- all others

    def _exact(self, line: int, raw: bytes, made: Examined) -> None:
        wanted = self.wanted
        if not raw.strip():
            if wanted.file:
                made.findings.append(finding("blank_line", line, None))
            return
        value, found = read_line(raw, line)
        made.findings += found if wanted.file else ()
        if value is None and (found or raw.strip() != b"null"):
            return
        made.rows += 1
        if wanted.rows:
            # A byte that is not UTF-8 stands in the text as U+FFFD by now: one fault is told once.
            lost = any(one.code == "not_utf8" for one in found)
            made.findings += (
                one
                for one in self._row_findings(value, line, escaped=b"\\u" in raw)
                if not (lost and one.code == "replacement_character")
            )
        marked = isinstance(value, dict) and self._mark(value, line, made.marks)
        if marked and 0 < wanted.long < len(raw):
            made.long.append((line, raw))

    def _row_findings(self, value: object, line: int, *, escaped: bool) -> Iterator[Finding]:
        """Yield what a row shows; `escaped` is whether its line holds \\u, without which no text can hide a fault."""
        wanted = self.wanted
        yield from (one for one in check_row(value, line) if wanted.said or one.code not in SAID)
        if not isinstance(value, dict):
            return
        if escaped:
            yield from hidden_faults(value, line)
        if wanted.text_only:
            yield from _parts(every_message(value), line)
        if wanted.said:
            yield from self._said_findings(value, line)

    def _said_findings(self, value: Row, line: int) -> Iterator[Finding]:
        """Yield what the sides of a row say to one another."""
        messages = value.get("messages")
        talks = isinstance(messages, list)
        listed = messages if isinstance(messages, list) else every_message(value)
        for code, message, detail in talk_faults(self._said(listed)):
            # Of two answers the worse one may refuse, or be in another language.
            if talks or code == "moderation_risk":
                yield finding(code, line, message, detail)
        if self.wanted.personal_data:
            roles = [one.get("role") if isinstance(one, dict) else "" for one in listed]
            found = ((one.message, one) for one in find_in_row(value, self._sayings))
            yield from _personal(found, roles, line)

    def _said(self, messages: Sequence[Any]) -> list[Said]:
        said: list[Said] = []
        for place, one in enumerate(messages):
            role = one.get("role") if isinstance(one, dict) else None
            if isinstance(role, str) and role in _SIDES:
                text = content_text(one.get("content"))
                said.append((place, role, text, self._sayings.of(role, text).spoken))
        return said

    def _mark(self, row: Row, line: int, marks: Marks) -> bool:
        """Add the marks of a row; return False for what is no conversation."""
        messages = row.get("messages")
        talks = isinstance(messages, list) and bool(messages)
        if not talks and "preferred_output" not in row:
            return False
        if not self.wanted.said:
            marks.lines.append(line)
            marks.prompts.append(NO_PROMPT if talks else NOT_ASKED)
            return True
        said = messages_of(row)
        spoken = [one for one in said if one.get("role") not in _SYSTEM]
        prompt = NOT_ASKED
        replies: dict[int, None] = {}
        question, good, answer = 0, False, joined(())
        if talks:
            first = next((one for one in said if one.get("role") in _SYSTEM), {})
            content = first.get("content")
            text = content if isinstance(content, str) else str(content)
            prompt = key_of("system", text) if first.get("role") in _SYSTEM else NO_PROMPT
            texts = [content_text(one.get("content")) for one in spoken if one.get("role") == "assistant"]
            replies = {key_of("assistant", text): None for text in texts if len(text) >= LONG_ANSWER}
            question, good, answer = _question(spoken)
        _put(marks, line, identity(row), prompt, replies)
        marks.questions.append(question)
        marks.asked.append(question if good else 0)
        marks.answers.append(answer)
        if self.wanted.near_duplicates:
            self._texts.append(shingle_hashes(spoken_text(row)))
        return True


def _put(marks: Marks, line: int, said: int, prompt: int, replies: Iterable[int]) -> None:
    place = len(marks.lines)
    marks.lines.append(line)
    marks.identities.append(said)
    marks.prompts.append(prompt)
    for reply in replies:
        marks.repliers.append(place)
        marks.replies.append(reply)


def _question(spoken: Sequence[dict[str, Any]]) -> tuple[int, bool, int]:
    """Return the number of all before the last answer, whether it may be contradicted, and the number of the rest."""
    places = [place for place, one in enumerate(spoken) if one.get("role") == "assistant"]
    last = places[-1] if places else len(spoken)
    keys = [key_of(str(one.get("role")), said_in(one)) for one in spoken]
    length = sum(len(str(one.get("role"))) + 3 + len(said_in(one)) for one in spoken[:last]) - 1
    good = last > 0 and spoken[0].get("role") == "user" and length >= _SHORTEST
    rest = keys[last:]
    answer = rest[0] if len(rest) == 1 else joined(rest)
    return (joined(keys[:last]) if last else 0), good, answer


def _parts(messages: Sequence[Any], line: int) -> Iterator[Finding]:
    for place, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        kinds = (
            [part.get("type") for part in content if isinstance(part, dict)]
            if isinstance(content, list)
            else []
        )
        others = [str(kind)[:40] for kind in kinds if kind not in ("text", "refusal")]
        if others:
            yield finding("part_not_text", line, place, others[0])


def _personal(
    found: Iterable[tuple[int, Found | RowFound]], roles: Sequence[object], line: int
) -> Iterator[Finding]:
    """Yield a finding for each message with personal data, that of the system's aside."""
    kinds: dict[int, list[str]] = {}
    for place, one in found:
        if one.confidence >= _SURE:
            kinds.setdefault(place, []).append(one.kind)
    for place, here in kinds.items():
        role = roles[place] if place < len(roles) else "user"
        # The house's own phone line stands in many answers.
        told = dict.fromkeys(kind for kind in here if role == "user" or kind != "phone")
        if told and role not in _SYSTEM:
            yield finding("pii", line, place, ", ".join(told).replace("_", " "))
