"""What is asked of many texts at once says no less than reading each of them."""

from __future__ import annotations

import re
from array import array

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.series.string import StringNameSpace

from tests.core.test_plain_rows import TEXTS
from tests.core.test_planted_data import ORDINARY, PLANTED
from tunedesk.core.checking.clues import ALL, PERSONAL, clues
from tunedesk.core.checking.sayings import Saying
from tunedesk.core.grouping.sketches import shingle_hashes, shingle_hashes_of
from tunedesk.core.personal_data.finding import find
from tunedesk.core.personal_data.sieve import loosened

KNOWN = [*TEXTS, *ORDINARY, *(text for texts in PLANTED.values() for text in texts)]
KNOWN += [
    "I will kill you",
    "kys",
    "I\u2019m sorry, but I can\u2019t help with that.",
    "How may I help you today?",
    "As an AI language model I have no card.",
    "{{name}} and [insert date], lorem ipsum",
    "a\x07b and caf\u00c3\u00a9",
    "two\u2028lines",
    "User: hello",
    "<|im_end|>",
    "It\u00df, theb\u00e9 and\u00b2",
    "\u092e\u0947\u0930\u093e \u092b\u094b\u0928 98765 43210 \u0939\u0948",
]
KNOWN = [text for text in KNOWN if not re.search("[\ud800-\udfff]", text)]
FILLING = st.text(alphabet="ab I'mé Der die the 12-.,:/@+\n ßИ你", max_size=12)
texts = st.lists(
    st.builds(lambda a, one, b: f"{a} {one} {b}", FILLING, st.sampled_from(KNOWN), FILLING), max_size=20
)


@given(texts)
@settings(max_examples=150, deadline=None)
def test_a_clue_leads_to_all_that_reading_finds(texts: list[str]) -> None:
    for text, clue in zip(texts, clues(texts, personal=True), strict=True):
        assert find(text, groups=clue >> PERSONAL) == find(text)
        for role in ("user", "assistant"):
            told, read = Saying(role, text, clue), Saying(role, text, ALL)
            for name in ("faults", "asks", "marked", "leaning", "key", "blank"):
                assert getattr(told, name) == getattr(read, name), (name, text)


def test_most_ordinary_texts_are_not_read() -> None:
    said = [f"Your parcel number {number} is on its way, dear customer." for number in range(100)]
    assert not any(clues(said, personal=True)[at] >> PERSONAL for at in range(100))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"])) | st.sampled_from(KNOWN), max_size=12)
)
@settings(max_examples=150, deadline=None)
def test_hashes_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    """Letters aside that are newer than Python's Unicode."""
    for text, raw in zip(texts, shingle_hashes_of(texts), strict=True):
        found = array("I")
        found.frombytes(raw)
        assert set(found) == set(shingle_hashes(text))


@pytest.mark.parametrize(
    ("source", "loose"),
    [
        (r"\bpin\b(?! code)", "(?:pin)"),
        (r"(?<![\w(])a(?=(?:b|\)))c", "(?:ac)"),
        (r"^(?P<x>[^\W\d])\1$", r"(?:(?P<x>[^\x00-/:-@\[-\^`{-\x7f0-9]).?)"),
    ],
)
def test_loosening_takes_away_what_stands_around(source: str, loose: str) -> None:
    assert loosened(re.compile(source)) == loose


def test_polars_keeps_all_patterns_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps 32; with one more, each batch would compile them all again, a quarter of a second."""
    used = set()
    for name in ("contains", "count_matches", "extract_all"):
        call = getattr(StringNameSpace, name)

        def noting(self: StringNameSpace, pattern: str, *, call: object = call, **rest: object) -> pl.Series:
            if not rest.get("literal"):
                used.add(pattern)
            return call(self, pattern, **rest)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(StringNameSpace, name, noting)
    clues(KNOWN, personal=True)
    shingle_hashes_of(KNOWN)
    assert 20 < len(used) <= 32
