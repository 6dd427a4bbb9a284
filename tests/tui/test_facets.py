"""Facets beside the list: counted over what is shown, and Enter narrows to a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.rig import frame
from tests.tui.test_data_screen import Desk, opened
from tunedesk.core.searching.facets import facet_groups, narrowed, term
from tunedesk.core.searching.query import Field, parse
from tunedesk.tui.panes.facets import FacetsPane, bar
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.widgets.virtual_list import VirtualList


@pytest.fixture
def sourced(tmp_path: Path) -> Path:
    """Forty conversations from two sources, each with an id."""
    rows = [
        conversation(number, source="web form" if number % 4 else 'the "app"', id=f"case-{number}")
        for number in range(40)
    ]
    return write_rows(tmp_path / "sourced.jsonl", rows)


def pane(desk: Desk) -> FacetsPane:
    return desk.screen.query_one(FacetsPane)


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (200, 50)])
async def test_facets_open_at_any_size_count_and_narrow(
    tmp_path: Path, sourced: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, sourced, size=size) as desk:
        await desk.press("g")
        await desk.shows("Facets of 40")
        for text in ("intent", "card_question", "20 ████████", "source", "web form", "30 ██████"):
            await desk.shows(text)
        assert "case-1" not in frame(desk.app).split("Facets of")[1].split("USER")[0]
        listing = pane(desk).query_one(VirtualList)
        assert listing.has_focus
        await desk.press("home", "enter")
        assert (listing.cursor, desk.listing.count) == (1, 40)
        while pane(desk).term != 'source:"web form"':
            await desk.press("down")
        await desk.press("enter")
        await desk.until(lambda: desk.listing.count == 30)
        assert desk.screen.query_one(FilterBar).text == 'source:"web form"'
        await desk.shows("Facets of 30")
        await desk.press("escape")
        assert desk.listing.has_focus
        assert not pane(desk).display


async def test_a_value_is_left_out_and_an_edit_is_counted_at_once(tmp_path: Path, sourced: Path) -> None:
    async with opened(tmp_path, sourced) as desk:
        await desk.press("g")
        await desk.until(lambda: pane(desk).term.startswith("intent:"))
        gone = pane(desk).term
        await desk.press("minus")
        await desk.until(lambda: desk.listing.count == 20)
        assert desk.screen.query_one(FilterBar).text == f"-{gone}"
        await desk.press("g", "t")
        await desk.type("keep")
        await desk.press("enter")
        await desk.said("tagged 1 conversation")
        await desk.press("g")
        await desk.until(lambda: any("keep" in label for label, *_ in pane(desk)._lines))


def test_a_query_is_narrowed_as_a_whole_and_widened_again() -> None:
    assert narrowed("", "tag:a") == "tag:a"
    assert narrowed("tag:a", "tag:a") == ""
    assert narrowed("x y", "tag:a") == "x y tag:a"
    assert narrowed("x OR y", "tag:a") == "(x OR y) tag:a"
    assert narrowed("(x OR y) tag:a", "tag:a") == "x OR y"


@pytest.mark.parametrize("value", ["plain", "two words", 'a "quote"', "back\\slash", "(x)", "-minus", "/a/"])
def test_the_query_of_a_value_asks_for_that_value(value: str) -> None:
    for field in ("source", "Order ID", "2nd", 'a:"b"', "a\\b", "名前", "-"):
        assert parse(term(field, value)).root == Field(field, value, 1)


async def test_each_bucket_finds_as_many_as_it_counts(tmp_path: Path) -> None:
    rows = [conversation(number, user="long " * (number * 3 + 1)) for number in range(60)]
    async with opened(tmp_path, write_rows(tmp_path / "long.jsonl", rows)) as desk:
        await desk.until(lambda: desk.app.workspace.known.tokens is not None)  # type: ignore[union-attr]
        workspace = desk.app.workspace
        assert workspace is not None
        facets = list(facet_groups(workspace.with_query("loan")))
        assert {facet.field for facet in facets} >= {"intent", "turns", "tokens"}
        for bucket in (one for facet in facets for one in facet.buckets):
            assert workspace.with_query(f"loan {bucket.term}").matched == bucket.count
        stopped = facet_groups(workspace, lambda: True)
        assert list(stopped) == []


def test_a_bar_shows_its_share_and_never_vanishes() -> None:
    assert bar(1.0) == "█" * 8
    assert bar(0.5) == "████    "
    assert bar(0.0001) == "▏       "
    assert bar(0) == " " * 8
