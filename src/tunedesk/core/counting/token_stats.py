"""What the tokens of a dataset come to: statistics, a histogram against the limit, and where the tokens go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tunedesk.core.conversations import Row
from tunedesk.core.counting.dataset_counts import BulkCounter
from tunedesk.core.counting.message_table import SYSTEM, USER, MessageTable, RowTokens, TableCounter
from tunedesk.core.counting.tokens import TokenStats
from tunedesk.core.datasets.arrow_parts import buffer_series
from tunedesk.core.editing.applying import trimmed
from tunedesk.core.editing.overlay import OUT, Overlay
from tunedesk.core.searching.matches import Matches

BINS = 20
"""Bars of a histogram below the limit."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the histogram: conversations of `low` to `high` tokens, both included."""

    low: int
    high: int
    conversations: int
    over: bool = False
    """Whether it lies beyond the limit."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Tokens of chosen conversations."""

    stats: TokenStats
    histogram: tuple[Bar, ...]
    system: int
    """Tokens of system prompts, in all the conversations together."""
    costliest: tuple[tuple[int, int], ...]
    """(row, tokens) of the longest conversations, the longest first."""

    @property
    def system_share(self) -> float:
        """Share of all tokens that are system prompts, 0 to 1."""
        return self.system / self.stats.total if self.stats.total else 0.0


@dataclass(frozen=True, slots=True)
class Trim:
    """What keeping only the last turns would do."""

    turns: int
    """User messages kept, each with all that follows it."""
    conversations: int
    """Conversations that would get shorter."""
    saved: int
    """Tokens an epoch."""


def spread(
    tokens: RowTokens, overlay: Overlay, limit: int, matches: Matches | None = None, *, top: int = 10
) -> Spread:
    """Return what the rows in force come to: all that are not excluded, or those of them that `matches` holds."""
    rows = buffer_series(overlay.flags, 0, len(overlay.flags)) & OUT
    chosen = (rows == 0).arg_true()
    if matches is not None:
        chosen = chosen.filter(chosen.is_in(matches.series().implode()))
    each = _column(tokens.total).gather(chosen)
    totals = each.sort()
    if not len(totals):
        return Spread(TokenStats(0, 0, 0, 0.0, 0, 0, 0, 0, 0, limit), (), 0, ())
    count = len(totals)
    long = (each >= totals[-min(top, count)]).arg_true()
    longest = pl.DataFrame({"row": chosen.gather(long), "total": each.gather(long)})
    longest = longest.sort("total", "row", descending=[True, False]).head(top)
    stats = TokenStats(
        conversations=count,
        total=_sum(totals),
        minimum=int(totals[0]),
        median=(totals[(count - 1) // 2] + totals[count // 2]) / 2,
        p95=int(totals[min(count - 1, int(0.95 * count))]),
        maximum=int(totals[-1]),
        trained_per_epoch=_sum(_column(tokens.trained).gather(chosen)),
        billed_per_epoch=_sum(totals.clip(upper_bound=limit)),
        over_limit=int((totals > limit).sum()),
        limit=limit,
    )
    pairs = tuple((int(row), int(total)) for row, total in longest.iter_rows())
    return Spread(stats, _histogram(totals, limit), _sum(_column(tokens.system).gather(chosen)), pairs)


def _sum(numbers: pl.Series) -> int:
    """Return the sum, which 32 bits may not hold."""
    return int(numbers.cast(pl.Int64).sum())


def _column(values: object) -> pl.Series:
    return buffer_series(values, 0, len(values))  # type: ignore[arg-type]


def _histogram(totals: pl.Series, limit: int) -> tuple[Bar, ...]:
    """Return bars of equal width up to the longest conversation or the limit, and one for all beyond the limit."""
    highest = min(int(totals[-1]), limit)
    width = max(1, -(-(highest + 1) // BINS))
    within = totals.filter(totals <= limit)
    counts = dict((within // width).value_counts().iter_rows())
    bars = [
        Bar(low, min(low + width - 1, limit), int(counts.get(low // width, 0)))
        for low in range(0, highest + 1, width)
    ]
    beyond = len(totals) - len(within)
    return (*bars, Bar(limit + 1, int(totals[-1]), beyond, True)) if beyond else tuple(bars)


def trim_savings(counter: BulkCounter, rows: Sequence[Row], turns: Sequence[int]) -> list[Trim]:
    """Return for each number of turns what keeping only the last ones of these rows would save."""
    if isinstance(counter, TableCounter):
        table = counter.rows(rows)
        return [_by_table(table, keep) for keep in turns]
    found = []
    for keep in turns:
        pairs = [(row, shorter) for row in rows if (shorter := trimmed(row, keep)) != row]
        before = sum(counter.count_rows([row for row, _ in pairs]).total)
        found.append(
            Trim(keep, len(pairs), before - sum(counter.count_rows([one for _, one in pairs]).total))
        )
    return found


def _by_table(table: MessageTable, keep: int) -> Trim:
    users = (table.kinds == USER).cast(pl.Int64)
    all_users = table.spread(table.per_row(users))
    dropped = (table.kinds != SYSTEM) & (all_users > keep) & (table.within(users) <= all_users - keep)
    saved = table.per_row(table.tokens * dropped.cast(pl.UInt32))
    return Trim(keep, int((saved > 0).sum()), int(saved.sum()))


def turns_within(counter: BulkCounter, row: Row, limit: int) -> int | None:
    """Return how many of its last turns a row may keep to have `limit` tokens at most.

    1 where even the last turn alone is longer, None where nothing has to go or can.
    """
    users = sum(isinstance(one, dict) and one.get("role") == "user" for one in row.get("messages") or ())
    if users < 2 or counter.count_rows([row]).total[0] <= limit:
        return None
    low, high = 1, users - 1
    while low < high:
        middle = (low + high + 1) // 2
        if counter.count_rows([trimmed(row, middle)]).total[0] <= limit:
            low = middle
        else:
            high = middle - 1
    return low
