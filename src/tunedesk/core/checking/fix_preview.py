"""What the safe fixes would change, finding by finding, before anything is written."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tunedesk.core.checking.file_checks import read_line
from tunedesk.core.checking.fixes import FIXABLE, fix, fix_lines
from tunedesk.core.conversations import Row
from tunedesk.core.importing.sources import Progress, Source

_SHOWN = 120
"""Characters shown of a changed line, from a little before the change on."""
_BEFORE = 40
_LEFT_OUT = {"exact_duplicate": "the whole row", "blank_line": "the empty line"}


@dataclass(frozen=True, slots=True)
class LineFix:
    """One safe fix of one line."""

    line: int
    code: str
    diff: tuple[str, ...]
    """Lines of the row as indented JSON that would go ("- …") and come ("+ …"); empty for changes of mere bytes."""


def preview_file(
    path: Path | str,
    codes: Collection[str] = FIXABLE,
    on_progress: Progress | None = None,
    most: int | None = None,
) -> Iterator[LineFix]:
    """Yield what `fix_file` would do to a JSONL file (or `-`); diffs of the first `most` fixes of each code alone.

    Raises DataError when it cannot be read.
    """
    source = Source.open(path, on_progress)
    try:
        if source.encoding != "utf-8":
            yield LineFix(1, "not_utf8", ())
        elif source.bom:
            yield LineFix(1, "bom", ())
        yield from preview_lines(source.raw_lines(), codes, most)
    finally:
        source.close()


def preview_lines(
    lines: Iterable[tuple[int, bytes]], codes: Collection[str] = FIXABLE, most: int | None = None
) -> Iterator[LineFix]:
    """Yield what `fix_lines` would do to each line."""
    counts: Counter[str] = Counter()
    found: list[LineFix] = []
    current = b""

    def watched() -> Iterator[tuple[int, bytes]]:
        nonlocal current
        for line, raw in lines:
            current = raw
            yield line, raw

    def told(line: int, code: str) -> None:
        counts[code] += 1
        shown = most is None or counts[code] <= most
        found.append(LineFix(line, code, _diff(current, line, code, codes) if shown else ()))

    for _ in fix_lines(watched(), codes, told):
        yield from found
        found.clear()
    yield from found


def _diff(raw: bytes, line: int, code: str, codes: Collection[str]) -> tuple[str, ...]:
    """Return what a fix changes by itself; with all others where it follows from one of them."""
    if code in _LEFT_OUT:
        return (f"- {_LEFT_OUT[code]}",)
    before: Row = read_line(raw, line)[0]
    return _changed(before, fix(before, {code})[0]) or _changed(before, fix(before, codes)[0])


def _changed(before: Row, after: Row) -> tuple[str, ...]:
    old, new = (
        [line.strip().removesuffix(",") for line in json.dumps(row, ensure_ascii=False, indent=1).split("\n")]
        for row in (before, after)
    )
    found: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        gone, come = old[a:b], new[c:d]
        starts = [_start(was, now) for was, now in zip(gone, come, strict=False)]
        for sign, lines in (("-", gone), ("+", come)):
            padded = [*starts, *(0 for _ in lines[len(starts) :])]
            found += [f"{sign} {_cut(line, start)}" for line, start in zip(lines, padded, strict=True)]
    return tuple(found)


def _start(was: str, now: str) -> int:
    """Return where two lines are shown from: a little before they differ."""
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(was, now, strict=False)))
    return max(0, alike - _BEFORE)


def _cut(text: str, start: int) -> str:
    end = start + _SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
