"""The next start: the rows that were on the screen in its first frame, the same place once the dataset is open."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame, until
from tunedesk.core.first_page import first_page
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.last_view import LastView, read_last_view, view_of_start
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.workbench import Workbench

SIZE = (100, 30)


def opened(pilot: Pilot[None]) -> Callable[[], bool]:
    app = pilot.app
    return lambda: isinstance(app, TunedeskApp) and app.workspace is not None and "to train on" in frame(app)


@pytest.fixture
async def left(tmp_path: Path) -> str:
    """What was on the screen when an app ended, far down in a filtered list."""
    write_rows(tmp_path / "rows.jsonl", [conversation(number) for number in range(300)])
    workbench(tmp_path).import_file(tmp_path / "rows.jsonl", name="cards")
    app = TunedeskApp(lambda: workbench(tmp_path), ("cards",))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, opened(pilot))
        await pilot.press("slash", *"card", "enter")
        await until(pilot, lambda: app.workspace is not None and app.workspace.matched == 150)
        await pilot.press("pagedown", "pagedown", "pagedown", "up", "up")
        await pilot.pause()
        shown = frame(app)
        app.views.keep_now()
    return shown


class Held:
    """Services that are loaded when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.go, self._folder = threading.Event(), folder

    def load(self) -> Workbench:
        assert self.go.wait(30)
        return workbench(self._folder)


def listed(shown: str) -> list[str]:
    """Return the lines of the list and of the conversation, without the scrollbar."""
    return [line[:-1].rstrip() for line in shown.splitlines() if "ase " in line]


async def test_the_first_frame_shows_what_was_left_and_the_dataset_takes_its_place(
    tmp_path: Path, left: str
) -> None:
    held, last = Held(tmp_path), read_last_view(workbench(tmp_path).paths)
    app = TunedeskApp(held.load, (), last)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "shown as it was" in frame(app))
        assert app.workspace is None
        assert listed(frame(app)) == listed(left)
        assert app.screen.query_one(FilterBar).text == "card"
        await pilot.press("x")  # nothing is edited that is not open
        assert "opening the conversations" in frame(app)
        await pilot.press("down")
        held.go.set()
        await until(pilot, opened(pilot))
        assert app.workspace is not None
        assert app.workspace.matched == 150
        listing = app.screen.query_one(ConversationList)
        assert last is not None
        row = last.screens["data"]["row"] + 2  # every other row holds a card
        await until(pilot, lambda: listing.index == row)
        await pilot.press("up")
        await until(pilot, lambda: listed(frame(app)) == listed(left))


async def test_the_first_rows_of_a_dataset_are_shown_before_it_is_opened(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [conversation(number) for number in range(300)])
    dataset = workbench(tmp_path).import_file(tmp_path / "rows.jsonl", name="cards").workspace.dataset
    held, begin = Held(tmp_path), view_of_start(None, dataset.id, "cards", first_page(dataset.folder))
    app = TunedeskApp(held.load, ("cards",), begin)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "shown as it was" in frame(app))
        early = listed(frame(app))
        assert "Where is my card? Case 0." in early[0]
        held.go.set()
        await until(pilot, opened(pilot))
        now = listed(frame(app))
        assert [line.split()[-5:] for line in now] == [line.split()[-5:] for line in early]


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": [1, 2]},
        {"rows": {"a": 1}},
        {"rows": [{"line": 7, "preview": None}], "top": "x", "conversation": [], "row": "y"},
        {"rows": [], "top": -4, "conversation": {"messages": 3}, "title": ["\x1b[31m"]},
    ],
)
async def test_a_note_that_makes_no_sense_hinders_nothing(
    tmp_path: Path, left: str, changed: dict[str, Any]
) -> None:
    note = workbench(tmp_path).paths.last_view
    view = json.loads(note.read_text())
    view["screens"]["data"] |= changed
    note.write_text(json.dumps(view))
    app = TunedeskApp(lambda: workbench(tmp_path), (), read_last_view(workbench(tmp_path).paths))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, opened(pilot))
        assert "\x1b" not in frame(app)
        assert app.workspace is not None
        assert app.workspace.total == 300


@pytest.mark.parametrize(("datasets", "shown"), [((), True), (("cards",), True), (("others",), False)])
def test_what_was_left_is_shown_where_the_same_dataset_comes(
    tmp_path: Path, left: str, datasets: tuple[str, ...], shown: bool
) -> None:
    last = read_last_view(workbench(tmp_path).paths)
    assert isinstance(last, LastView)
    app = TunedeskApp(lambda: workbench(tmp_path), datasets, last)
    assert bool(app.opening_again("data")) == shown
    assert not app.opening_again("jobs")


def test_what_was_left_goes_with_its_dataset(tmp_path: Path, left: str) -> None:
    bench = workbench(tmp_path)
    assert "Where is my card" in bench.paths.last_view.read_text()
    write_rows(tmp_path / "others.jsonl", [conversation(1, user="Other")])
    bench.import_file(tmp_path / "others.jsonl", name="others")
    bench.forget("others")
    assert bench.paths.last_view.exists()
    bench.forget("cards")
    assert not bench.paths.last_view.exists()
