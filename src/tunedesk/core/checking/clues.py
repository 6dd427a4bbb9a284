"""What many texts may hold, asked of all of them at once, so that only the few that may are read one by one.

The patterns are those of the checks themselves, loosened (personal_data.sieve): a text without a clue has nothing
that a check would find.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tunedesk.core.checking import languages, talk_checks, text_checks
from tunedesk.core.personal_data import finding, sieve

FAULT, HEARD, ASKS, ENGLISH, NEUTRAL = 1, 2, 4, 8, 16
"""Bits of a clue: a fault of the text, words that weigh in a conversation, a question for personal data; and that it
is in English or in no language, which are no clues but answers."""
PERSONAL = 5
"""Place of the bits that say which groups of finders may find personal data."""
ALL = FAULT | HEARD | ASKS | finding.ALL_GROUPS << PERSONAL

_FAULTY = text_checks.ODD, sieve.either(text_checks.LEFTOVERS)
_HEARD = tuple(sieve.either((one,)) for one in (talk_checks.THREAT, talk_checks.REFUSAL, talk_checks.AGENT))
_QUESTIONS = finding.QUESTION_PATTERNS
_ASKS = tuple(f"(?i){sieve.either(part)}" for part in (_QUESTIONS[:4], _QUESTIONS[4:]))


def clues(texts: Sequence[str], *, personal: bool) -> list[int]:
    """Return the clues of each text, to `personal` data or not.

    Raises UnicodeEncodeError when a text has half of a surrogate pair, which Polars cannot hold.
    """
    column = pl.Series(texts, dtype=pl.String)
    english, neutral = languages.sure_leanings(column)
    found = sieve.bits(
        {
            FAULT: _any(column, _FAULTY),
            HEARD: _any(column, _HEARD),
            ASKS: _any(column, _ASKS),
            ENGLISH: english,
            NEUTRAL: neutral,
        }
    )
    if personal:
        found += sieve.may_hold(column) * (1 << PERSONAL)
    return found.to_list()


def _any(column: pl.Series, patterns: Sequence[str]) -> pl.Series:
    found = column.str.contains(patterns[0])
    for pattern in patterns[1:]:
        found |= column.str.contains(pattern)
    return found
