"""Data is never markup and never control: hostile text wherever data is shown, and a crash without keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.hostile import ACTING, EVERYTHING, HOSTILE
from tests.tui.rig import frame
from tests.tui.test_data_screen import Desk, opened
from tunedesk.core.conversations import Row
from tunedesk.errors import DataError
from tunedesk.tui.screens.dialogs import TextDialog
from tunedesk.tui.widgets.status_line import StatusLine


def hostile_row(number: int) -> Row:
    """Return a conversation that carries hostile text in every place that is shown."""
    row = conversation(number, user=EVERYTHING, assistant=EVERYTHING, tags=[EVERYTHING], source=EVERYTHING)
    row["metadata"]["intent"] = HOSTILE["action"] + HOSTILE["clipboard"]
    row["metadata"][EVERYTHING] = EVERYTHING
    row["messages"][0]["content"] = [
        {"type": "text", "text": EVERYTHING},
        {"type": "image_url", "image_url": {"url": EVERYTHING}},
    ]
    call = {"id": EVERYTHING, "type": "function", "function": {"name": EVERYTHING, "arguments": EVERYTHING}}
    row["messages"].insert(2, {"role": "assistant", "content": None, "tool_calls": [call]})
    row["messages"].insert(3, {"role": "tool", "tool_call_id": EVERYTHING, "content": EVERYTHING})
    row["messages"].append({"role": EVERYTHING, "name": EVERYTHING, "content": EVERYTHING})
    row["tools"] = [{"type": "function", "function": {"name": EVERYTHING, "description": EVERYTHING}}]
    return row


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A file whose name and rows attack."""
    return write_rows(tmp_path / "a[@click=app.quit]b[bold].jsonl", map(hostile_row, range(3)))


def nothing_acts(desk: Desk) -> None:
    assert not set(frame(desk.app)) & set(ACTING)
    assert desk.app.is_running


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_hostile_conversations_are_shown_and_obeyed_nowhere(
    tmp_path: Path, hostile: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, hostile, size=size) as desk:
        nothing_acts(desk)
        for keys in ("enter j end", "home r", "escape c", "escape p", "escape question_mark", "escape o", "escape S",
                     "escape t", "escape"):  # fmt: skip
            await desk.press(*keys.split())
            nothing_acts(desk)


async def test_a_click_on_data_runs_no_action(tmp_path: Path, hostile: Path) -> None:
    async with opened(tmp_path, hostile, size=(200, 50)) as desk:
        shown = frame(desk.app).splitlines()
        places = [(line.index("CLICKME"), y) for y, line in enumerate(shown) if "CLICKME" in line]
        assert places
        for x, y in places:
            await desk.pilot.click(offset=(x + 3, y))
            nothing_acts(desk)


async def test_hostile_errors_queries_and_paths_are_only_text(tmp_path: Path, hostile: Path) -> None:
    async with opened(tmp_path, hostile) as desk:
        with desk.app.reporting(EVERYTHING):
            raise DataError(EVERYTHING, EVERYTHING)
        await desk.until(lambda: "nope" in desk.screen.query_one(StatusLine).message)
        nothing_acts(desk)
        await desk.press("slash")
        desk.screen.query_one("#filter-input").value = EVERYTHING
        await desk.pilot.pause(0.1)
        nothing_acts(desk)
        await desk.press("escape", "i")
        await desk.type(str(tmp_path) + "/a")
        await desk.press("tab")
        await desk.shows("format")
        nothing_acts(desk)


CRASH = """
import os, sys
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.messages import ProgressMade

class Broken(TunedeskApp):
    def on_progress_made(self, event):
        key = "sk-in-a-local"
        raise RuntimeError("boom \\x1b]52;c;eA==\\x07 [/nope]")

async def tell(pilot):
    pilot.app.post_message(ProgressMade("", 0, 0))

def load():
    raise SystemExit

app = Broken(lambda: sys.exit(0))
app._begin = lambda: None
app.run(headless=True, auto_pilot=tell)
sys.exit(app.return_code)
"""


def test_a_crash_leaves_with_an_error_and_prints_neither_locals_nor_control() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert "RuntimeError: boom" in told
    assert "sk-in-a-local" not in told
    assert "\x1b]52" not in told


@pytest.mark.parametrize("name", ["action", "action_unseen", "broken_markup"])
async def test_a_title_made_of_what_was_typed_is_only_text(tmp_path: Path, hostile: Path, name: str) -> None:
    typed = HOSTILE[name]
    async with opened(tmp_path, hostile) as desk:
        await desk.app.push_screen(TextDialog(f"Replace {typed}: apply", placeholder=""))
        await desk.shows(f"Replace {typed}: apply")
        title = desk.app.screen.query_one(".dialog")._border_title
        assert title is not None
        assert title.spans == []
