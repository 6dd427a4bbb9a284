"""Killed while editing, out of disk space, two windows at once: what was shown as saved is there afterwards."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

import pytest
from textual.widgets import TextArea

from tests.bench.program import Program
from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import until
from tests.tui.test_data_screen import cases, opened
from tunedesk.core.editing import edits
from tunedesk.errors import StoreError
from tunedesk.tui.screens.message_dialogs import MessageDialog

__all__ = ["cases"]

WORDS = ("quince", "walrus", "bobbin", "pluto", "xylem", "jigsaw", "mango", "fjord", "kiosk", "zebra", "hymn")


def started(home: Path, source: str) -> Program:
    app = Program(
        [sys.executable, "-m", "tunedesk", source], {"TUNEDESK_HOME": str(home)}, columns=120, rows=70
    )
    assert app.wait_for("to train on", 60) is not None
    app.settle(60)  # all is painted
    return app


@pytest.mark.slow  # it reads what a terminal is sent, in which a busy machine can split a word
def test_what_was_shown_as_saved_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "cases.jsonl", map(conversation, range(20)))
    chance = random.Random()
    shown: list[str] = []
    for round_number, source in enumerate((str(file), "cases", "cases")):
        app = started(tmp_path / "home", source)
        app.send(b"\x1b[H" + b"\x1b[B" * 5 * round_number)  # from the top: rows whose titles have room
        words = WORDS[3 * round_number :][: 3 + round_number]
        for word in words:
            tag = f"{word}{round_number}"
            app.send(b"\x1b[Bt")  # down, tag
            assert app.wait_for("Tag 1 conversation", 30, since=len(app.output)) is not None
            app.send(tag.encode() + b"\r")
            if word is words[-1]:
                app.read(chance.uniform(0, 0.4))  # killed before, while or after it is written
            else:
                assert app.wait_for(f"#{tag}", 30) is not None
            if f"#{tag}".encode() in app.output:
                shown.append(tag)
        app.end(signal.SIGKILL)
        bench = workbench(tmp_path / "home")
        workspace = bench.open("cases")
        kept = [tag for index in range(workspace.total) for tag in workspace.view(index).tags]
        assert [tag for tag in shown if tag not in kept] == []
        bench.store.close()
    assert len(shown) >= 2 + 3 + 4


async def test_an_edit_for_which_there_is_no_space_is_not_shown_as_made(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("t", *"first", "enter")
        await desk.said("tagged 1 conversation")
        store = desk.bench.store

        def full(*_: object) -> int:
            raise StoreError("the store could not be written: disk full", "free some space")

        with desk.pilot.app.batch_update():
            store.append_edit = full  # type: ignore[method-assign, assignment]
        await desk.press("t", *"second", "enter")
        await desk.said("disk full")
        assert desk.app.workspace is not None
        assert desk.app.workspace.view(0).tags == ("first",)
        del store.append_edit
        await desk.press("t", *"third", "enter")
        await desk.until(lambda: desk.app.workspace.view(0).tags == ("first", "third"))  # type: ignore[union-attr]


async def test_two_windows_see_each_others_edits_and_undo_their_own(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as one:
        other = workbench(tmp_path)
        theirs = other.open("cases")
        theirs = theirs.add_rows([conversation(99)], "added elsewhere")
        await until(one.pilot, lambda: one.listing.count == 41)
        await one.said("another window has edited: added elsewhere")
        await one.press("x")
        await one.shows("40 to train on")
        theirs = theirs.undo()
        assert (theirs.total, theirs.included_count) == (40, 39)
        await one.shows("39 to train on")
        await one.said("another window has edited: undid added elsewhere")
        theirs = theirs.redo()
        await one.shows("40 to train on")
        await one.press("u")
        await one.shows("41 to train on")
        await one.press("u")
        await one.said("made in another window")
        assert theirs.reloaded().total == 41
        await one.press("ctrl+r")
        await one.shows("40 to train on")
        other.store.close()


async def test_what_is_written_while_another_window_edits_goes_over_nothing_and_is_kept(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as one:
        other = workbench(tmp_path)
        await one.press("enter", "j", "E")
        await one.type(" And this.")
        theirs = other.open("cases").apply(edits.delete_message([0], 1))
        await one.until(lambda: len(one.messages(0)) == 2)
        answer = one.messages(0)[1]
        await one.press("ctrl+s")
        await one.said("another window has changed this conversation meanwhile")
        assert one.messages(0)[1] == answer
        assert theirs.reloaded().history == theirs.history
        await one.press("A")
        await one.until(lambda: isinstance(one.app.screen, MessageDialog))
        await one.shows("And this.")
        await one.press("ctrl+s")
        await one.until(lambda: len(one.messages(0)) == 3)
        assert one.messages(0)[2]["content"].endswith("Case 0. And this.")
        await one.press("E")
        await one.until(lambda: isinstance(one.app.screen, MessageDialog))
        assert "And this." not in one.app.screen.query_one(TextArea).text
        await one.press("escape")
        other.store.close()
