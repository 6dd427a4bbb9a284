"""What shows only across rows: duplicates, contradictions, repeated answers, system prompts that differ.

Rows are compared by 64-bit numbers in columns, so that a million of them take 60 MB and a second.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from tunedesk.core.checking.examining import NO_PROMPT, NOT_ASKED, Examined, Marks
from tunedesk.core.checking.findings import Finding, finding
from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.grouping.duplicates import Finder

FEWEST = 10
"""Conversations that a training file must have (OpenAI, Azure)."""
_FEW_PROMPTS = 3
_EDITED = 0.9
"""Similarity from which rows that contradict each other are told as near-duplicates, too."""
_OFTEN = 10
"""Rows with the same answer from which it is told; at least a twentieth of all."""


class Across:
    """Takes the marks of batches in their order; then tells what rows show together."""

    def __init__(self, *, said: bool, near: bool) -> None:
        """Start empty; what rows say is compared if `said`, and near-duplicates are looked for if `near`, too."""
        self._said = said
        self._marks = Marks()
        self._finder = Finder(exact_only=not near)

    def take(self, batch: Examined) -> None:
        """Add a batch."""
        self._marks.extend(batch.marks)
        self._finder.add_batch(batch.marks.identities, batch.sketches)

    def findings(self) -> Iterator[Finding]:
        """Yield all findings across rows."""
        marks = self._marks
        yield from _kinds(marks)
        if not self._said:
            return
        columns = {
            name: buffer_series(getattr(marks, name), 0, len(marks.lines))
            for name in ("lines", "asked", "answers", "prompts")
        }
        rows = pl.DataFrame(columns).with_columns(first=self._finder.firsts()).with_row_index("place")
        first_line = columns["lines"].gather(rows["first"])
        copies = rows.with_columns(first_line=first_line).filter(pl.col("place") != pl.col("first"))
        for line, first in copies.select("lines", "first_line").iter_rows():
            yield finding("exact_duplicate", line, None, f"line {first}")
        distinct = rows.filter(pl.col("place") == pl.col("first"))
        contradicting = set(_contradictions(distinct))
        for first, line in sorted(contradicting):
            yield finding("contradiction", line, None, f"line {first}")
        yield from _prompts(rows)
        yield from self._replies(distinct)
        lines = marks.lines
        for pair in self._finder.near():
            at = lines[pair.first], lines[pair.second]
            # The same question and nearly the same answer is a copy that was edited, whatever else it is.
            if at not in contradicting or pair.similarity >= _EDITED:
                yield finding("near_duplicate", at[1], None, f"{pair.similarity:.0%} of line {at[0]}")

    def _replies(self, distinct: pl.DataFrame) -> Iterator[Finding]:
        """Yield the answers that are given again and again, where they are given first."""
        marks = self._marks
        total = len(marks.lines)
        given = pl.DataFrame(
            {
                "place": buffer_series(marks.repliers, 0, len(marks.repliers)).cast(pl.UInt32),
                "reply": buffer_series(marks.replies, 0, len(marks.replies)),
            }
        )
        own = given.join(distinct.select("place", "lines"), on="place", maintain_order="left")
        often = (
            own.group_by("reply", maintain_order=True)
            .agg(pl.len().alias("count"), pl.col("lines").min())
            .filter(pl.col("count") >= max(_OFTEN, total / 20))
        )
        for count, line in often.select("count", "lines").iter_rows():
            yield finding("repeated_answer", line, None, f"in {count:,} of {total:,} rows, first here")


def _contradictions(distinct: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Yield (first line, line) of rows that ask the same and are answered otherwise."""
    asked = distinct.filter(pl.col("asked") != 0)
    same = asked.with_columns(
        pl.col("answers").first().over("asked").alias("given"),
        pl.col("lines").first().over("asked").alias("at"),
    )
    yield from same.filter(pl.col("given") != pl.col("answers")).select("at", "lines").iter_rows()


def _kinds(marks: Marks) -> Iterator[Finding]:
    """Yield one finding for a file that holds both conversations and preference rows."""
    count = len(marks.lines)
    rows = pl.DataFrame(
        {name: buffer_series(getattr(marks, name), 0, count) for name in ("lines", "prompts")}
    )
    kinds = rows.group_by(pl.col("prompts") == NOT_ASKED).agg(pl.len(), pl.col("lines").min()).rows()
    if len(kinds) == 2:
        (_, count, line), (_, others, at) = sorted(kinds)
        talks = f"{count:,} conversations, first on line {line}"
        yield finding("kinds_mixed", 0, None, f"{talks}; {others:,} preference rows, first on line {at}")


def _prompts(rows: pl.DataFrame) -> Iterator[Finding]:
    """Yield the few rows that have another system prompt than most, or none."""
    asked = rows.filter(pl.col("prompts") != NOT_ASKED)
    counts = asked.group_by("prompts").agg(pl.len().alias("count"), pl.col("lines").min().alias("line"))
    counts = counts.sort("line")
    prompts = counts.filter(pl.col("prompts") != NO_PROMPT)
    total, most = asked.height, prompts["count"].max()
    if total < FEWEST or not isinstance(most, int) or 2 * most <= total:
        return
    if prompts.height <= max(_FEW_PROMPTS, total // 50):
        for count, line in prompts.filter(pl.col("count") != most).select("count", "line").iter_rows():
            text = f"{count} of {total} rows, first on line {line}"
            yield finding("system_prompts_differ", line, 0, text)
    if 5 * most >= 4 * total:
        for line in asked.filter(pl.col("prompts") == NO_PROMPT)["lines"]:
            yield finding("system_missing", line, None)
