"""Keys that come faster than the app acts on them, as over a slow link: none ends it, none goes astray."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from tests.tui.bench import workbench
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.screens.help import HelpDialog
from tunedesk.tui.screens.message_dialogs import MessageDialog, Written
from tunedesk.tui.screens.palette import Palette

KEYS = [
    "tab", "shift+tab", "enter", "escape", "escape", "up", "down", "left", "right", "pageup", "pagedown", "home", "end",
    "space", "backspace", "shift+up", "shift+down", "delete", "f1", "f2", "f3", "f4",
    *(f"ctrl+{letter}" for letter in "abdefklnoprstuwxy"),
]  # fmt: skip
SIGNS = "abcdefghijklmnoprstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/?:;,.<>[](){}!#$%&*+-=\"'~|\\é"


def press(app: TunedeskApp, *keys: str) -> None:
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else None))


async def opened(pilot: Pilot[None], app: TunedeskApp) -> None:
    while app.workspace is None:
        await pilot.pause(0.02)


async def test_an_answer_that_another_dialog_overtook_is_taken_when_that_one_closes(tmp_path: Path) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        press(app, "s")
        while not isinstance(app.screen, ChooseDialog):
            await pilot.pause(0.02)
        asked = app.screen
        app.push_screen(HelpDialog(app.screen))
        asked.dismiss("turns")
        asked.dismiss("turns")
        await pilot.pause()
        assert isinstance(app.screen, HelpDialog)
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert len(app.screen_stack) == 1


async def test_keys_in_a_text_act_in_the_order_in_which_they_were_typed(tmp_path: Path) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        lines: list[str | None] = []
        texts: list[Written | None] = []
        app.push_screen(TextDialog("Tag", value="ab"), lines.append)
        await pilot.pause()
        press(app, "home", "x", "end", "y", "backspace", "z", "enter", "j", "j")
        while not lines:
            await pilot.pause(0.02)
        app.push_screen(MessageDialog("Message 1", "ab", ["user"]), texts.append)
        await pilot.pause()
        press(app, "home", "x", "end", "enter", "y", "backspace", "z", "ctrl+s", "j", "j")
        while not texts:
            await pilot.pause(0.02)
        assert lines == ["xabz"]
        assert [one and one.text for one in texts] == ["xab\nz"]


async def test_the_palette_opens_on_another_screen_too_where_one_was_left_open(tmp_path: Path) -> None:
    app = TunedeskApp(lambda: workbench(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        for key in ("ctrl+p", "f2", "ctrl+p"):
            await pilot.press(key)
            await pilot.pause(0.1)
        assert isinstance(app.screen, Palette)


async def test_what_fails_when_a_key_acts_is_told_and_logged_and_the_app_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TunedeskApp, "action_redraw", lambda _: 1 / 0)
    app = TunedeskApp(lambda: workbench(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert [one.message.split("\n")[0] for one in app._notifications] == [
            "ZeroDivisionError: division by zero"
        ]
        await pilot.press("ctrl+p")
        await pilot.pause()
        assert isinstance(app.screen, Palette)
    assert "action_redraw" in (tmp_path / "logs" / "tunedesk.log").read_text()


@pytest.mark.parametrize("seed", range(4))
async def test_no_storm_of_keys_ends_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = random.Random(seed)
    app = TunedeskApp(lambda: workbench(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        for _ in range(60):
            press(app, *(chosen.choice(chosen.choice([KEYS, SIGNS])) for _ in range(chosen.randint(1, 5))))
            if chosen.random() < 0.3:
                await pilot.pause(0.01)
        await pilot.pause()
        app.exit()  # with keys on their way, most often
    log = tmp_path / "logs" / "tunedesk.log"
    assert (app.return_code or 0, log.read_text() if log.exists() else "") == (0, "")
