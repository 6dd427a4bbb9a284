"""The Data screen over many conversations: nothing is walked on the event loop, what takes long is told and stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.test_data_screen import cases, opened
from tunedesk.core.row_sets import RowSet
from tunedesk.core.workspace import Workspace
from tunedesk.tui import desk as desk_module
from tunedesk.tui.desk import OnProgress
from tunedesk.tui.screens import choices
from tunedesk.tui.screens.edit_preview import EditDialog
from tunedesk.tui.widgets.status_line import StatusLine

__all__ = ["cases"]


async def test_lines_of_six_digits_are_told_whole(tmp_path: Path, cases: Path) -> None:
    file = write_rows(tmp_path / "late.jsonl", [conversation(0), conversation(1)])
    first, second = file.read_bytes().splitlines()
    file.write_bytes(first + b"\n" * 123_455 + second)
    async with opened(tmp_path, cases, (80, 24)) as desk:
        desk.app.open(desk.bench.import_file(file).workspace.dataset.id)
        await desk.shows(" 123,456 ")


async def test_a_range_or_all_rows_are_selected_without_a_number_for_each(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(RowSet, "__iter__", lambda self: pytest.fail("the rows were walked one by one"))
            await desk.press("V", "end")
            await desk.shows("● 40 selected")
            await desk.press("V", "space")
            await desk.shows("● 39 selected")
            await desk.press("a", "x")
            await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
            await desk.shows("Exclude: apply to 40 matches")
            await desk.press("enter")
            await desk.shows("0 to train on")
            await desk.press("x")
            await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
            await desk.shows("Include: apply to 40 matches")


async def test_escape_stops_what_is_looked_for_and_keeps_the_selection(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        ended = threading.Event()

        def endless(workspace: Workspace, edit: Any, on_progress: OnProgress) -> Any:
            try:
                while not ended.wait(0.01):
                    on_progress(1, 4)
            finally:
                ended.set()

        monkeypatch.setattr(desk.bench.curation, "changing", endless, raising=False)
        await desk.press("a", "x")
        await desk.until(lambda: "looking ahead 25%" in desk.screen.query_one(StatusLine).progress)
        assert desk.screen.query_one(StatusLine).progress.endswith("Esc stops")
        await desk.press("escape")
        await desk.said("stopped: Exclude; nothing was changed")
        await desk.until(ended.is_set)
        assert desk.listing.selected_count == 40
        await desk.press("escape")
        assert desk.listing.selected_count == 0


async def test_an_order_that_takes_long_is_told_and_stopped(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "_SOON_S", 0.01)
    async with opened(tmp_path, cases) as desk:
        go_on = threading.Event()
        order = Workspace.with_sort

        def slow(self: Workspace, column: str | None, descending: bool = False) -> Workspace:
            assert go_on.wait(20)
            return order(self, column, descending)

        monkeypatch.setattr(Workspace, "with_sort", slow)
        await desk.press("s", "down", "enter")
        await desk.said("ordering by turns… Esc stops")
        await desk.press("escape")
        await desk.said("stopped: sorting")
        await desk.press("s", "down", "enter")
        await desk.said("ordering by turns")
        go_on.set()
        await desk.said("ordered by turns")
        await desk.shows("turn▲")  # as wide as the column is


async def test_an_edit_of_this_window_is_never_taken_for_one_of_another(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "_LOOK_EVERY", 0.01)
    async with opened(tmp_path, cases) as desk:
        edit = desk.bench.edit
        written, go_on = threading.Event(), threading.Event()

        def slow(workspace: Workspace, made: Any) -> Workspace:
            changed = edit(workspace, made)
            written.set()
            assert go_on.wait(20)
            return changed

        monkeypatch.setattr(desk.bench, "edit", slow)
        before = desk.app.latest
        await desk.press("x")
        await desk.until(written.is_set)
        await desk.pilot.pause(0.1)
        assert desk.app.latest is before
        go_on.set()
        await desk.said("excluded 1 conversation")
        assert desk.app.latest is not None
        assert not desk.app.latest.foreign
