"""What a check can tell of rows one by one, in one process or several: findings, and what is compared across rows.

The work is cut into batches of lines. Processes take batches; results come back in order, so that what one process
finds in a file, several do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from tunedesk.core.checking.file_checks import read_line
from tunedesk.core.checking.findings import Finding, finding
from tunedesk.core.checking.row_checks import check_row, every_message, hidden_faults
from tunedesk.core.checking.talk_checks import talk_faults
from tunedesk.core.conversations import Row, content_text
from tunedesk.core.grouping.duplicates import (
    Finder,
    Group,
    Sketches,
    digest,
    normalised,
    sketch,
    spoken_text,
    whole_text,
)
from tunedesk.core.personal_data.privacy import find_in_row

BATCH = 2_000
"""Lines that one process takes at a time."""
WORTH = 20_000
"""Lines from which starting processes (a second) pays."""
_PROCESSES = 4
_AHEAD = 3
"""Batches for each process that wait or are under way."""
_SHORTEST = 12
"""Characters below which a question ("hi") is too short for two answers to it to contradict each other."""
_ANSWER = 40
"""Characters from which an answer that is given again and again is worth a word."""
_SURE = 0.7
"""Confidence from which personal data is a finding: below it, a bare first name or a number by context alone."""

Line = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked for, as processes are told it."""

    rows: bool = True
    """Check each row; without, only duplicates are looked for."""
    file: bool = True
    """The lines are a user's file, not rows that tunedesk wrote."""
    personal_data: bool = True
    near_duplicates: bool = True
    text_only: bool = False
    """The trainer takes no images, audio or files."""
    long: int = 0
    """Bytes from which a line may be too long for the model; 0 when lengths are not asked for."""


@dataclass(slots=True)
class Mark:
    """What is compared of one row with others."""

    line: int
    identity: bytes = b""
    """Digest of all it says; empty when it is no conversation."""
    asked: bytes = b""
    """Digest of all before the last answer, where that may be contradicted."""
    answer: bytes = b""
    """Digest of what comes after it."""
    prompt: bytes | None = None
    """Digest of the system prompt, empty for none; None when the row has no messages."""
    replies: tuple[bytes, ...] = ()
    """Digests of the longer answers."""


@dataclass(slots=True)
class Examined:
    """What came of one batch."""

    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sketches: Sketches | None = None
    """One for each mark with an identity."""
    long: list[Line] = field(default_factory=list)
    """Lines to be counted."""


def examine(lines: list[Line], wanted: Wanted) -> Examined:
    """Return what is found in a batch of lines; never raises on any bytes."""
    made = Examined()
    texts: list[str] = []
    for line, raw in lines:
        if not raw.strip():
            if wanted.file:
                made.findings.append(finding("blank_line", line, None))
            continue
        value, found = read_line(raw, line)
        made.findings += found if wanted.file else ()
        if value is None and (found or raw.strip() != b"null"):
            continue
        made.rows += 1
        if wanted.rows:
            # A byte that is not UTF-8 stands in the text as U+FFFD by now: one fault is told once.
            lost = any(one.code == "not_utf8" for one in found)
            made.findings += (
                one
                for one in _row_findings(value, line, wanted, escaped=b"\\u" in raw)
                if not (lost and one.code == "replacement_character")
            )
        if isinstance(value, dict) and (mark := _mark(value, line)):
            made.marks.append(mark)
            texts.append(spoken_text(value))
            if wanted.long and len(raw) > wanted.long and mark.prompt is not None:
                made.long.append((line, raw))
    if wanted.near_duplicates:
        made.sketches = sketch(texts)
    return made


def _row_findings(value: object, line: int, wanted: Wanted, *, escaped: bool) -> Iterator[Finding]:
    """Yield what a row shows; `escaped` is whether its line holds \\u, without which no text can hide a fault."""
    yield from check_row(value, line)
    if not isinstance(value, dict):
        return
    if escaped:
        yield from hidden_faults(value, line)
    messages = value.get("messages")
    if isinstance(messages, list):
        for code, message, detail in talk_faults(messages):
            yield finding(code, line, message, detail)
    if wanted.text_only:
        yield from _parts(every_message(value), line)
    if wanted.personal_data:
        yield from _personal(value, line)


def _parts(messages: list[Any], line: int) -> Iterator[Finding]:
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


def _personal(row: Row, line: int) -> Iterator[Finding]:
    """Yield a finding for each message with personal data, that of the system's aside."""
    kinds: dict[int, list[str]] = {}
    for one in find_in_row(row):
        if one.confidence >= _SURE:
            kinds.setdefault(one.message, []).append(one.kind)
    messages = row.get("messages")
    listed = messages if isinstance(messages, list) else []
    roles = [message.get("role") if isinstance(message, dict) else "" for message in listed]
    for place, found in kinds.items():
        role = roles[place] if place < len(roles) else "user"
        # The house's own phone line stands in many answers.
        told = dict.fromkeys(kind for kind in found if role == "user" or kind != "phone")
        if told and role not in ("system", "developer"):
            yield finding("pii", line, place, ", ".join(told).replace("_", " "))


def _mark(row: Row, line: int) -> Mark | None:
    messages = row.get("messages")
    talks = isinstance(messages, list) and bool(messages)
    if not talks and "preferred_output" not in row:
        return None
    mark = Mark(line, digest(whole_text(row)))
    if not isinstance(messages, list) or not messages:
        return mark
    asked = spoken_text(row, prompt_only=True)
    if len(asked) >= _SHORTEST and asked.startswith("user"):
        mark.asked = digest(asked)
        mark.answer = digest(normalised(spoken_text(row)[len(asked) :]))
    first = next((m for m in messages if isinstance(m, dict)), {})
    has_one = first.get("role") in ("system", "developer")
    mark.prompt = digest(str(first.get("content"))) if has_one else b""
    answers = [
        content_text(m.get("content"))
        for m in messages
        if isinstance(m, dict) and m.get("role") == "assistant"
    ]
    mark.replies = tuple(digest(text) for text in dict.fromkeys(answers) if len(text) >= _ANSWER)
    return mark


def examined(lines: Iterable[Line], wanted: Wanted) -> Iterator[Examined]:
    """Yield the batches of `lines` as they are examined, in order; by several processes when there are many."""
    rest = iter(lines)
    first = list(islice(rest, WORTH))
    if len(first) < WORTH:
        yield from (examine(batch, wanted) for batch in _batches(iter(first)))
        return
    yield from _by_processes(_batches(chain(first, rest)), wanted)


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


def _by_processes(batches: Iterator[list[Line]], wanted: Wanted) -> Iterator[Examined]:
    count = min(_PROCESSES, os.cpu_count() or 1)
    waiting: deque[tuple[list[Line], Future[Examined]]] = deque()
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(examine, batch, wanted)))
            if len(waiting) >= count * _AHEAD:
                yield _result(*waiting.popleft(), wanted)
        while waiting:
            yield _result(*waiting.popleft(), wanted)
    except BrokenProcessPool:
        # A process was killed (memory, a signal): what is left is done here.
        left = [batch for batch, _ in waiting]
        yield from (examine(batch, wanted) for batch in chain(left, batches))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(batch: list[Line], future: Future[Examined], wanted: Wanted) -> Examined:
    try:
        return future.result()
    except BrokenProcessPool:
        return examine(batch, wanted)


def _begin() -> None:
    """Leave the terminal's interrupt to the parent, which ends its processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def find_in_lines(lines: Iterable[Line]) -> list[Group]:
    """Return the groups of exact and near duplicates among encoded rows; members are the numbers they came with."""
    finder = Finder()
    numbers: list[int] = []
    for batch in examined(lines, Wanted(rows=False, file=False)):
        assert batch.sketches is not None
        numbers += [mark.line for mark in batch.marks]
        finder.add_sketches(
            batch.sketches, [finder.add_digest(mark.identity) is None for mark in batch.marks]
        )
    return [
        replace(group, members=tuple(numbers[place] for place in group.members)) for group in finder.groups()
    ]


def warned(one: Finding) -> Finding:
    """Return an error as a warning, where a provider is less strict."""
    return replace(one, severity="warning")
