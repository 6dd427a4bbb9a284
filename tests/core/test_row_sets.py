"""Sets of row numbers, and how a journal keeps them: the same as Python's own sets, in a bit a row."""

from __future__ import annotations

from array import array
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunedesk.core.editing import edits
from tunedesk.core.editing.edits import pack, unpack
from tunedesk.core.editing.overlay import Overlay
from tunedesk.core.row_sets import RowSet
from tunedesk.core.searching.matches import Matches

numbers = st.sets(st.integers(0, 200))


def rows_of(members: set[int]) -> RowSet:
    return RowSet.of([pl.Series(list(members), dtype=pl.UInt32)])


@given(numbers, numbers)
def test_a_set_of_rows_is_the_set_of_their_numbers(one: set[int], two: set[int]) -> None:
    rows, others = rows_of(one), rows_of(two)
    for made, expected in (
        (rows, one), (rows | others, one | two), (rows - others, one - two), (rows ^ others, one ^ two),
        (rows & others, one & two), (rows | frozenset(two), one | two), (frozenset(one) | others, one | two),
    ):  # fmt: skip
        assert isinstance(made, RowSet)
        assert (list(made), len(made)) == (sorted(expected), len(expected))
        assert made.array() == array("I", sorted(expected))
    assert [number in rows for number in range(-1, 205)] == [number in one for number in range(-1, 205)]
    assert (rows == others) == (one == two)
    assert (rows == cast("Any", frozenset(two))) == (one == two)


@given(st.lists(numbers, max_size=4), st.integers(0, 60), st.integers(0, 60))
def test_matches_give_the_set_of_what_stands_between_two_places(
    parts: list[set[int]], start: int, stop: int
) -> None:
    spans: list[range | pl.Series] = [
        pl.Series([number + 300 * at for number in part], dtype=pl.UInt32) for at, part in enumerate(parts)
    ]
    matches = Matches([*spans, range(5_000, 5_010)], ordered=False)
    shown = list(matches)
    assert set(matches.chosen(start, stop)) == set(shown[start:stop])
    assert set(matches.as_set) == set(shown)


@pytest.mark.parametrize("count", [0, 1, 65_536, 65_537, 200_000])
def test_any_number_of_rows_is_packed_and_read_again(count: int) -> None:
    rows = [3 * number + number % 2 for number in range(count)]
    assert list(unpack(pack(rows))) == rows
    assert list(unpack(pack(reversed(rows)))) == rows
    assert pack(rows_of(set(rows))) == pack(rows)


def test_no_number_of_a_selection_becomes_an_object_of_its_own_when_it_is_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RowSet, "__iter__", lambda self: pytest.fail("the rows were walked one by one"))
    chosen = Matches.all(100_000).chosen(10, 90_000)
    assert len(edits.exclude(chosen).indexes() or ()) == 89_990


def test_it_is_told_of_any_rows_whether_all_are_excluded() -> None:
    overlay = Overlay.empty(10).with_edits([(1, edits.exclude([2, 3, 4]))], lambda ids: ())
    for rows, expected in (([2, 3], True), ([2, 5], False), ([], True), ([2, 3, 4], True)):
        assert overlay.all_excluded(rows) is expected
        assert overlay.all_excluded(rows_of(set(rows))) is expected
