"""Completion in the filter bar: fields, then the values that the conversations have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.rig import frame
from tests.tui.test_data_screen import opened
from tunedesk.core.searching.completion import candidates
from tunedesk.tui.panes.filter_bar import FilterBar

VALUES = {
    "source": ["web form", "Web", "app"],
    "is": ["edited", "excluded"],
    "intent": ["fees"],
    "Order ID": ["a 17", "b"],
}


def texts(text: str) -> list[str]:
    return [one.text for one in candidates(text, ["source", "Order ID"], lambda field: VALUES.get(field, []))]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("int", "intent:"),
        ("card (so", "card (source:"),
        ("-ta", "-tag:"),
        ("tok", "tokens>"),
        ("source:", 'source:"web form"'),
        ("source:a", "source:app"),
        ("source:FORM", 'source:"web form"'),
        ('source:"web f', 'source:"web form"'),
        ("-ord", '-"Order ID":'),
        ('x "Order ID":', 'x "Order ID":"a 17"'),
        ('"Order ID":"a 1', '"Order ID":"a 17"'),
        ("card -is:ex", "card -is:excluded"),
    ],
)
def test_a_query_goes_on_with_a_field_or_a_value(typed: str, first: str) -> None:
    assert texts(typed)[0] == first


@pytest.mark.parametrize(
    "typed", ["", "card ", "user:re", "tokens:", "intent:fees", '"int', 'x "y" "in', "nothing:x"]
)
def test_nothing_is_offered_where_nothing_fits(typed: str) -> None:
    assert texts(typed) == []


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_tab_and_right_take_a_field_then_a_value(tmp_path: Path, size: tuple[int, int]) -> None:
    rows = [conversation(number, source="web form" if number % 4 else "app") for number in range(40)]
    async with opened(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), size=size) as desk:
        bar = desk.screen.query_one(FilterBar)
        await desk.press("slash")
        await desk.type("sou")
        await desk.shows("Tab  source")
        await desk.press("tab")
        assert bar.text == "source:"
        await desk.shows("Tab  web form")
        await desk.press("right")
        assert bar.text == 'source:"web form"'
        await desk.until(lambda: desk.listing.count == 30)
        await desk.until(lambda: "Tab  " not in frame(desk.app))
        await desk.press("space")
        await desk.type("int")
        await desk.shows("Tab  intent")
        await desk.press("down")
        await desk.until(lambda: "Tab  intent" not in frame(desk.app))
