"""Queries and states under names, and what changed between two states."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.test_data_screen import opened
from tunedesk.core.editing import edits
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.screens.saved import DiffDialog


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "cases.jsonl", map(conversation, range(20)))


async def test_a_query_is_kept_under_a_name_and_chosen_again(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("v")
        await desk.said("no views yet")
        await desk.press("slash")
        await desk.type("user:loan")
        await desk.until(lambda: desk.listing.count == 10)
        await desk.type(" (")
        await desk.shows("column 11")
        await desk.press("enter", "v")
        await desk.said("no views yet")
        await desk.press("slash", "end", "backspace", "backspace")
        await desk.until(lambda: desk.listing.count == 10)
        await desk.press("enter", "v", "enter")
        await desk.type("loans")
        await desk.press("enter")
        await desk.said("kept as loans")
        await desk.press("slash", "escape")
        await desk.until(lambda: desk.listing.count == 20)
        await desk.press("v", "enter")
        await desk.until(lambda: desk.listing.count == 10)
        assert desk.screen.query_one(FilterBar).text == "user:loan"
        await desk.press("slash", *"x", "enter", "v", "down", "enter")
        await desk.type("loans")
        await desk.press("enter")
        await desk.shows("Replace the view loans?")
        await desk.press("n")
        assert [view.query for view in desk.bench.views.all()] == ["user:loan"]
        await desk.press("v", "r")
        await desk.type(" of all")
        await desk.press("enter")
        await desk.said("loans is called loans of all now")
        assert [(view.name, view.query) for view in desk.bench.views.all()] == [("loans of all", "user:loan")]
        desk.bench.views.rename("loans of all", "loans")
        await desk.press("v", "j", "k", "d", "n")
        assert len(desk.bench.views.all()) == 1
        await desk.press("v", "d")
        await desk.shows("Forget the view loans?")
        await desk.press("y")
        await desk.said("the view is forgotten")
        assert desk.bench.views.all() == []


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_a_version_is_named_compared_with_reverted_to_and_restored(
    tmp_path: Path, cases: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, cases, size=size) as desk:
        await desk.press("H", "enter")
        await desk.type("first")
        await desk.press("enter")
        await desk.said("this state is first")
        desk.screen.edit_rows(edits.replace_message([3], 1, "Another question?"), "reworded")
        await desk.until(lambda: desk.messages(3)[1]["content"] == "Another question?")
        await desk.press("x")
        await desk.said("excluded 1")
        await desk.press("H", "down")
        await desk.shows("first   20")
        await desk.press("enter", "enter")
        await desk.shows("Since first: 0 added, 1 removed, 1 reworded")
        assert isinstance(desk.app.screen, DiffDialog)
        await desk.press("down")
        await desk.shows("USER · message 2 reworded")
        await desk.shows("+  Another question?")
        await desk.shows("-  Where is my loan?")
        await desk.press("r")
        await desk.until(lambda: desk.messages(3)[1]["content"].startswith("Where is my loan?"))
        await desk.press("u")
        await desk.until(lambda: desk.messages(3)[1]["content"] == "Another question?")
        await desk.press("H", "down", "enter", "enter")
        await desk.shows("Since first: 0 added, 1 removed, 1 reworded")
        await desk.press("a", "r")
        await desk.shows("20 to train on")
        assert desk.messages(3)[1]["content"].startswith("Where is my loan?")
        await desk.press("u")
        await desk.shows("19 to train on")
        await desk.press("H", "down", "enter", "down", "enter")
        await desk.said("restored first")
        await desk.shows("20 to train on")
        await desk.press("u")
        await desk.shows("19 to train on")
        await desk.press("H", "down", "d", "n")
        assert [one.name for one in desk.bench.versions.all(desk.app.workspace)] == ["first"]  # type: ignore[arg-type]
        await desk.press("H", "down", "d", "y")
        await desk.said("the name is forgotten")
        assert desk.bench.versions.all(desk.app.workspace) == []  # type: ignore[arg-type]


async def test_a_conversation_that_came_or_went_is_shown_whole_with_what_became_of_it(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases, size=(120, 40)) as desk:
        await desk.press("x", "y")
        await desk.shows("20 to train on")
        await desk.press("H", "down", "enter", "enter")
        await desk.shows("Since imported: 1 added, 1 removed, 0 reworded")
        await desk.shows("- excluded since")
        await desk.press("end")
        await desk.shows("+ added since")
        await desk.shows("+ USER · message 2")
