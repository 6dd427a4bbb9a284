"""The Data screen over many or very long conversations: it stays live, tells what takes long, and can be stopped."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.rig import frame
from tests.tui.test_data_screen import cases, opened
from tunedesk.core.row_sets import RowSet
from tunedesk.core.workspace import Workspace
from tunedesk.tui import desk as desk_module
from tunedesk.tui.desk import OnProgress
from tunedesk.tui.panes import conversation_view
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.screens import choices, curating, message_editing
from tunedesk.tui.screens.edit_preview import EditDialog
from tunedesk.tui.widgets.status_line import StatusLine

__all__ = ["cases"]


async def test_lines_of_six_digits_are_told_whole(tmp_path: Path, cases: Path) -> None:
    file = write_rows(tmp_path / "late.jsonl", [conversation(0), conversation(1)])
    first, second = file.read_bytes().splitlines()
    file.write_bytes(first + b"\n" * 123_455 + second)
    async with opened(tmp_path, cases, (80, 24)) as desk:
        desk.app.open(desk.bench.import_file(file, name="a\x1b[2Jb").workspace.dataset.id)
        await desk.shows("Conversations of a␛[2Jb")
        await desk.shows(" 123,456 ")


async def test_a_very_small_terminal_shows_rows_too(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases, (40, 12)) as desk:
        assert desk.listing.page_rows == 3
        await desk.press("pagedown", "pagedown")
        await desk.shows(">      7")
        assert "SYSTEM" in frame(desk.app)


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


async def test_a_very_long_message_is_cut_told_of_and_left_to_the_editor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_view, "MOST_CHARACTERS", 2_000)
    monkeypatch.setattr(message_editing, "_MOST_IN_A_DIALOG", 2_000)
    rows = [conversation(0, user="word " * 1_000), conversation(1)]
    async with opened(tmp_path, write_rows(tmp_path / "long.jsonl", rows), (100, 40)) as desk:
        view = desk.screen.query_one(ConversationView)
        assert len(view.blocks[1].body) == 2_000
        await desk.press("enter", "down")
        folded = frame(desk.app)
        shown = sum(len(line) for line in re.findall(r"(?:word ?)+", folded))
        told = re.search(r"… ([\d,]+) more characters: Enter unfolds", folded)
        assert told is not None
        assert int(told[1].replace(",", "")) > 4_000 - shown
        await desk.press("E")
        await desk.said("this message has 5,000 characters: e edits it in $EDITOR")
        await desk.press("enter", "G")
        await desk.shows("… 3,000 more characters are not shown: e opens all")
        await desk.press("r", "end")
        await desk.shows("more characters are not shown: e opens all")


async def test_the_row_in_sight_is_read_and_laid_out_once_however_many_keys_look_at_it(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        view, row = desk.screen.query_one(ConversationView), Workspace.row
        read: list[int] = []

        def noted(self: Workspace, index: int) -> Any:
            read.append(index)
            return row(self, index)

        monkeypatch.setattr(Workspace, "row", noted)
        await desk.press("down", "enter", "down", "up", "escape")
        assert read.count(1) <= 2  # the other time by who looks for personal data
        await desk.press("home")
        blocks = view.blocks
        await desk.press("slash", *"card")
        await desk.until(lambda: desk.listing.count == 20)
        assert desk.listing.index == 0
        assert view.blocks is blocks
        assert view._matches(1)


async def test_the_end_of_a_long_last_message_is_gone_to(tmp_path: Path) -> None:
    text = "\n".join(f"line {number}" for number in range(300))
    rows = [conversation(0, assistant=text), conversation(1)]
    del rows[0]["metadata"]
    async with opened(tmp_path, write_rows(tmp_path / "tall.jsonl", rows)) as desk:
        await desk.press("enter", "end", "enter", "end")
        await desk.shows("line 299")


async def test_a_large_file_is_not_looked_through_for_personal_data_unasked(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curating, "_QUIETLY_BYTES", 100)
    async with opened(tmp_path, cases) as desk:
        assert "personal data" not in {one.name for one in desk.app.workers}
