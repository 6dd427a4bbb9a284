"""The order of previews worked out ahead: the same as a sort of the texts themselves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rows_found import imported, user
from tunedesk.core.datasets.ranking import Ranked
from tunedesk.core.editing import edits
from tunedesk.core.workspace import Workspace

TEXTS = st.text("abß退 ", max_size=3)


@settings(deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=5), min_size=1, max_size=3), st.lists(TEXTS, min_size=1))
def test_ranks_and_keys_of_other_texts_stand_in_the_order_of_the_texts(
    chunks: list[list[str]], others: list[str]
) -> None:
    ranked = Ranked.of([pl.Series(chunk) for chunk in chunks])
    keys = [float(rank) for part in ranked.ranks for rank in part] + ranked.keys(pl.Series(others)).to_list()
    texts = [text for chunk in chunks for text in chunk] + others
    pairs = sorted(zip(keys, [text.encode() for text in texts], strict=True))
    for (key, text), (next_key, next_text) in pairwise(pairs):
        assert text <= next_text
        assert (key == next_key) == (text == next_text)


def test_a_list_sorted_by_its_first_words_is_the_same_once_they_are_ranked(tmp_path: Path) -> None:
    texts = ["banana", "apple", "cherry", "apple", "date", ""]
    cold = Workspace.open(imported(tmp_path / "a", [user(text) for text in texts]))
    warm = Workspace.open(imported(tmp_path / "b", [user(text) for text in texts]))
    warm.dataset.warm()
    assert warm.dataset.previews
    changes: list[Callable[[Workspace], Workspace]] = [
        lambda one: one,
        lambda one: one.apply(edits.replace_message([0], 0, "blue")),
        lambda one: one.apply(edits.replace_message([4], 0, "apple")),
        lambda one: one.add_rows([user("aardvark"), user("cherry")], "added"),
        lambda one: one.with_query("a"),
    ]
    for change in changes:
        cold, warm = change(cold), change(warm)
        for descending in (False, True):
            order = list(cold.with_sort("preview", descending).matches)
            assert list(warm.with_sort("preview", descending).matches) == order
