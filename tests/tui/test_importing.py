"""Importing in the app: what is clear goes in at once, what is a guess is shown, asked about and changed by keys."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame, until, until_shown
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.screens.data import DataScreen
from tunedesk.tui.screens.import_file import ImportRequest
from tunedesk.tui.screens.importing import ImportingDialog
from tunedesk.workbench import Imported, Workbench


class Desk:
    """An app on a small terminal."""

    def __init__(self, app: TunedeskApp, pilot: Pilot[None], folder: Path) -> None:
        self.app, self.pilot, self.folder = app, pilot, folder

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def shows(self, text: str) -> None:
        await until_shown(self.pilot, text)

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(self.pilot, condition)

    async def look(self, name: str, content: str) -> None:
        """Open the dialog on a file of this content."""
        (self.folder / name).write_text(content)
        await self.press("i")
        await self.press(*str(self.folder / name))

    async def imported(self, count: int) -> None:
        await self.until(lambda: self.app.workspace is not None and self.app.workspace.total == count)

    @property
    def first(self) -> list[str]:
        assert self.app.workspace is not None
        return [message["content"] for message in self.app.workspace.row(0)["messages"]]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    rows = write_rows(folder / "cases.jsonl", (conversation(number) for number in range(40)))
    app = TunedeskApp(lambda: workbench(folder / "home"), [str(rows)])
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.workspace is not None and isinstance(app.screen, DataScreen))
        yield Desk(app, pilot, folder)


ASKED = 'Where is it?,It is on its way.\nWhen does it come?,On Monday then.\nWhy so late?,"Snow, sadly."\n'


async def test_a_guess_is_asked_about_and_accepted_or_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.look("plain.csv", ASKED)
        await desk.shows("guessed that 'column_1' asks")
        await desk.shows("assistant Snow, sadly.")
        await desk.press("enter")
        await desk.shows("f format")
        assert desk.app.workspace is not None
        assert desk.app.workspace.total == 40
        await desk.press("s")
        await desk.press(*"Kind.", "enter")
        await desk.shows("system   Kind.")
        await desk.press("m", "enter")
        await desk.shows("the customer's side is")
        await desk.press("down", "enter")
        await desk.shows("user      It is on its way.")
        await desk.press("m", "enter", "up", "enter")
        await desk.shows("user      Where is it?")
        await desk.press("enter")
        await desk.imported(3)
        assert desk.first == ["Kind.", "Where is it?", "It is on its way."]


async def test_speakers_that_only_have_names_are_told_by_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.look(
            "names.csv", "chat,sender,message\n1,Ann,Fee?\n1,Bob,None.\n2,Cy,Card?\n2,Bob,Here.\n"
        )
        await desk.shows("who is the customer?")
        await desk.press("enter", "m", "down", "enter")
        await desk.shows("the agent's side is")
        await desk.press("down", "enter")
        await desk.shows("user      Card?")
        await desk.press("enter")
        await desk.imported(2)


async def test_who_is_who_in_a_chat_log_is_told_by_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.look(
            "chat.txt", "[12.01.24, 10:01:22] Anna: Where is it?\n[12.01.24, 10:02:22] Bert: On its way.\n"
        )
        await desk.shows("a chat between Anna, Bert: who is the customer?")
        await desk.press("enter", "m", "enter", "enter")
        await desk.shows("assistant On its way.")
        await desk.press("m", "down", "enter")
        await desk.shows("Bert")
        await desk.press("down", "enter")
        await desk.shows("assistant On its way.")
        await desk.press("enter")
        await desk.imported(1)
        assert desk.first == ["Where is it?", "On its way."]


async def test_the_result_tells_what_was_skipped_and_where_the_reasons_are(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.look("some.csv", "question,answer\nWhere?,Here.\nWhen?,\nWho?\n")
        await desk.shows("2 of its first records are left out")
        await desk.press("enter")
        await desk.imported(1)
        await desk.shows("1 conversations imported, read as pairs")
        await desk.shows("2 of 3 records skipped")
        shown = frame(desk.app)
        assert "the answer is empty (line 3)" in shown
        assert "imports" in shown
        reasons = list((tmp_path / "home" / "data" / "imports").glob("*-skipped.jsonl"))
        assert '"line":4' in reasons[0].read_text()
        await desk.press("enter")
        await desk.until(lambda: isinstance(desk.app.screen, DataScreen))


async def test_another_format_can_be_chosen_and_what_does_not_fit_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.look("odd.csv", "text,label\nWhere is it?,place\nWhen is it?,time\n")
        await desk.shows("no known format fits")
        await desk.press("down", "m", "enter", "enter")
        await desk.press("m", "down", "enter", "down", "enter")
        await desk.shows("assistant place")
        await desk.press("f", "end", "enter")
        await desk.shows("✗")
        await desk.press("f", "home", "enter")
        await desk.shows("assistant place")
        await desk.press("enter")
        await desk.imported(2)


async def test_an_import_is_stopped_by_escape_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, ended = threading.Event(), threading.Event()

    def slow(self: Workbench, path: Any, *, on_progress: Callable[[int, int], None], **_: Any) -> Imported:
        try:
            for done in range(100_000):
                on_progress(done, 100_000)
                started.wait(0.001)
        finally:
            ended.set()
        raise AssertionError

    async with opened(tmp_path) as desk:
        monkeypatch.setattr(Workbench, "import_file", slow)
        await desk.look("more.csv", "question,answer\nWhere?,Here.\n")
        await desk.shows("user      Where?")
        await desk.press("enter")
        await desk.shows("%")
        await desk.shows(" left")
        await desk.press("escape")
        await desk.shows("import stopped: nothing was kept")
        await asyncio.to_thread(ended.wait, 5)
        assert ended.is_set()


async def test_a_file_named_at_the_start_tells_what_was_left_out(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "some.jsonl", (conversation(number) for number in range(3)))
    with rows.open("a") as file:
        file.write("nonsense\n")
    app = TunedeskApp(lambda: workbench(tmp_path / "home"), [str(rows)])
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "1 of 4 records skipped")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and app.workspace is not None)
        assert app.workspace is not None
        assert app.workspace.total == 3


async def test_a_file_named_at_the_start_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "some.jsonl", (conversation(number) for number in range(3)))
    real = Workbench.import_file

    def endless(self: Workbench, path: Path, **named: Any) -> Imported:
        while path == rows:
            named["on_progress"](1, 2)
            time.sleep(0.01)
        return real(self, path, **named)

    monkeypatch.setattr(Workbench, "import_file", endless)
    app = TunedeskApp(lambda: workbench(tmp_path / "home"), [str(rows)])
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Import some.jsonl")
        await pilot.press("escape")
        await until_shown(pilot, "import stopped: nothing was kept")
        await until(pilot, lambda: app.workspace is not None)  # the sample: something to look at
        assert app.workspace is not None
        assert app.workspace.dataset.name != "some"
        assert [info.name for info in workbench(tmp_path / "home").datasets()] == [app.workspace.dataset.name]


async def test_a_pipe_that_nobody_writes_to_is_waited_for_until_escape(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    async with opened(tmp_path) as desk:
        desk.app.push_screen(ImportingDialog(ImportRequest(tmp_path / "pipe.jsonl"), lambda _: None))
        await desk.shows("waiting for what is written to it")
        await desk.press("escape")
        await until(desk.pilot, lambda: isinstance(desk.app.screen, DataScreen))
        assert desk.app.workspace is not None
        assert desk.app.workspace.total == 40
