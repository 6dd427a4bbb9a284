"""The Data screen as a user has it: keys pressed, the real workbench on small data behind them."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame, until, until_shown
from tunedesk.core.checking.findings import finding
from tunedesk.errors import DataError
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.messages import ProgressMade
from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.estimate import EstimatePane
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.findings import FindingsPane, by_code
from tunedesk.tui.screens.data import DataScreen
from tunedesk.tui.screens.data_work import RowsMatched
from tunedesk.tui.widgets.status_line import StatusLine
from tunedesk.workbench import Workbench

SIZES = [(80, 24), (120, 30), (200, 50)]


class Desk:
    """An app on screen with what tests ask of it."""

    def __init__(self, app: TunedeskApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> DataScreen:
        screen = self.app.screen
        assert isinstance(screen, DataScreen)
        return screen

    @property
    def listing(self) -> ConversationList:
        return self.screen.query_one(ConversationList)

    @property
    def bench(self) -> Workbench:
        assert self.app.workbench is not None
        return self.app.workbench

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.press(*("space" if character == " " else character for character in text))

    async def said(self, text: str) -> None:
        await self.until(lambda: text in self.screen.query_one(StatusLine).message)

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(self.pilot, condition)

    async def shows(self, text: str) -> None:
        await until_shown(self.pilot, text)

    def messages(self, index: int) -> list[dict[str, str]]:
        assert self.app.workspace is not None
        messages: list[dict[str, str]] = self.app.workspace.row(index)["messages"]
        return messages


@asynccontextmanager
async def opened(
    home: Path, source: Path | str | None = None, size: tuple[int, int] = (120, 30)
) -> AsyncIterator[Desk]:
    app = TunedeskApp(lambda: workbench(home), [str(source)] if source else [])
    async with app.run_test(size=size, notifications=True) as pilot:
        desk = Desk(app, pilot)
        pane = desk.screen.query_one(EstimatePane)
        await desk.until(lambda: app.workspace is not None and pane.counted is not None)
        await desk.until(lambda: desk.listing.count > 0)
        yield desk
    if app.workbench is not None:
        await app.workbench.close()


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Forty conversations, half about cards, half about loans."""
    return write_rows(tmp_path / "cases.jsonl", map(conversation, range(40)))


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Conversations of which one repeats another and one does not end with an answer."""
    rows = [conversation(number) for number in range(20)]
    rows[5]["messages"].append({"role": "user", "content": "Thanks a lot, goodbye then."})
    rows[9] = rows[8]
    return write_rows(tmp_path / "faulty.jsonl", rows)


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_start_shows_the_sample_conversations_whole(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, size=size) as desk:
        for text in (
            "1 Data",
            "4 Compare",
            "banking",
            "SYSTEM",
            "USER",
            "free, on this machine",
            "q Quit",
            "? Keys",
        ):
            await desk.shows(text)
        assert desk.listing.count == desk.app.workspace.total  # type: ignore[union-attr]
        assert "intent" in {column.key for column in desk.listing.columns}


async def test_typing_filters_the_list_and_escape_shows_all_again(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("slash")
        await desk.type("user:loan turns>2")
        await desk.until(lambda: desk.listing.count == 20)
        await desk.shows("20 of 40")
        assert desk.app.workspace is not None
        found = desk.app.workspace.with_query("loan")
        desk.screen.post_message(RowsMatched(replace(found, matches=found.matches.without([1])), False))
        await desk.shows("19… of 40")  # as long as the search goes on
        desk.screen.post_message(RowsMatched(found, True))
        await desk.shows("20 of 40")
        await desk.press("down")
        assert desk.listing.has_focus
        await desk.press("j")
        await desk.shows("Where is my loan?")
        at = desk.listing.index
        assert at is not None
        assert at > desk.listing.cursor
        await desk.press("slash", "escape")
        await desk.until(lambda: desk.listing.count == 40)
        assert desk.listing.index == at


async def test_a_wrong_query_tells_the_column_and_keeps_the_list(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("slash")
        await desk.type("loan (card")
        await desk.shows("✗ column 6")
        await desk.press("enter")
        assert desk.listing.has_focus
        desk.app.change("counted", lambda latest, _: latest.with_known(replace(latest.known)))
        await desk.said("counted")
        await desk.shows("✗ column 6")
        await desk.press("slash", *["backspace"] * 5, "space")
        await desk.until(lambda: desk.listing.count == 20)
        await desk.type("turns>x")
        await desk.said("such as turns>6")
        await desk.press(*["backspace"] * 8)
        await desk.until(lambda: "such as" not in frame(desk.app))  # what is said is about what is typed


async def test_findings_are_counted_by_code_and_narrow_the_list(
    tmp_path: Path, faulty: Path, cases: Path
) -> None:
    async with opened(tmp_path, faulty) as desk:
        await desk.press("c")
        await desk.shows("last_not_assistant")
        await desk.press("enter")
        await desk.until(lambda: desk.screen.query_one(FilterBar).text.startswith("check:"))
        await desk.until(lambda: desk.listing.count == 1)
        assert desk.listing.has_focus
        await desk.shows("✗")
        desk.app.open(desk.bench.import_file(cases).workspace.dataset.id)
        await desk.until(lambda: desk.screen.query_one(FindingsPane).border_title == "Findings")


def test_findings_of_one_code_tell_what_is_met_most_often() -> None:
    kinds = ["name"] * 5 + ["postcode"] * 2 + ["card", "phone", "iban"]
    found = [finding("pii", line, 0, kind) for line, kind in enumerate(kinds)]
    found += [finding("exact_duplicate", line, None, f"line {line}") for line in (1, 2)]
    found += [finding("no_user", 1, None)]
    assert [(one.count, one.text) for one in by_code(found)] == [
        (10, "the text holds personal data: name (5); postcode (2); card (1) …"),
        (2, "the same conversation stands further up: line 1 …"),
        (1, "no message is the user's"),
    ]


async def test_safe_fixes_are_applied_checked_again_and_undone(tmp_path: Path, faulty: Path) -> None:
    async with opened(tmp_path, faulty) as desk:
        assert len(desk.messages(5)) == 4
        await desk.press("c")
        await desk.until(lambda: desk.screen.findings is not None)
        await desk.press("f")
        await desk.shows("Fix all safe fixes")
        await desk.press("enter")
        await desk.until(lambda: len(desk.messages(5)) == 3)
        await desk.until(lambda: not any(one.fix for one in desk.screen.findings or ()))
        await desk.press("escape", "u")
        await desk.said("undid")


async def test_a_disabled_key_says_why(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        for key, reason in (("f", "press c first"), ("u", "nothing to undo"), ("ctrl+r", "nothing to redo")):
            await desk.press(key)
            await desk.said(reason)
        await desk.press("w")
        await desk.said("only assistant messages")


async def test_launching_is_refused_while_errors_are_known(tmp_path: Path) -> None:
    rows = [conversation(number) for number in range(12)]
    rows[3]["messages"][2]["content"] = ""
    async with opened(tmp_path, write_rows(tmp_path / "bad.jsonl", rows)) as desk:
        await desk.press("c")
        await desk.until(lambda: desk.screen.findings is not None)
        assert any(one.severity == "error" for one in desk.screen.findings or ())
        await desk.press("escape", "l")
        await desk.said("errors would be refused")


async def test_a_system_prompt_goes_on_all_conversations_and_one_undo_takes_it_back(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("p")
        await desk.type("Always ask twice. ")
        await desk.press("ctrl+s")
        await desk.shows("tokens an epoch")
        await desk.press("enter")
        await desk.until(lambda: desk.messages(39)[0]["content"].startswith("Always ask twice."))
        assert desk.listing.has_focus
        await desk.press("u")
        await desk.until(lambda: desk.messages(39)[0]["content"] == "You are Mara of Alder Bank.")
        await desk.press("ctrl+r")
        await desk.until(lambda: desk.messages(0)[0]["content"].startswith("Always ask twice."))


async def test_rows_are_excluded_taken_back_and_not_counted(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("x")
        await desk.shows("39 to train on")
        await desk.until(lambda: desk.screen.query_one(EstimatePane).counted.stats.conversations == 39)  # type: ignore[union-attr]
        await desk.press("x")
        await desk.shows("40 to train on")
        await desk.press("down", "u")
        await desk.said("undid: include, line 1")
        await desk.press("ctrl+r")
        await desk.said("redid: include, line 1")
        await desk.press("t", *"a", "enter")
        await desk.said("tagged 1")
        await desk.pilot.press("u", "u", "u")
        await desk.said("undid: exclude, line 1")


async def test_an_edit_of_all_matches_is_one_undo(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("slash")
        await desk.type("loan")
        await desk.until(lambda: desk.listing.count == 20)
        await desk.press("enter", "a", "x")
        await until_shown(desk.pilot, "apply to 20 matches")
        await desk.press("enter")
        await desk.shows("20 to train on")
        assert desk.listing.count == 20
        await desk.press("u")
        await desk.shows("40 to train on")
        await desk.said("undid: exclude, 20 conversations")


async def test_a_tag_is_put_on_found_and_taken_off(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("space", "space", "t")
        await desk.type("keep")
        await desk.press("enter")
        await until_shown(desk.pilot, "Tag keep: apply to 2 conversations")
        await desk.press("enter")
        await desk.said("tagged 2 conversations")
        await desk.press("slash")
        await desk.type("tag:keep")
        await desk.until(lambda: desk.listing.count == 2)
        await desk.press("enter", "t")
        await desk.type("-keep")
        await desk.press("enter")
        await until_shown(desk.pilot, "Untag keep: apply to 2 conversations")
        await desk.press("enter")
        await desk.said("untagged 2 conversations")


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-children")
    monkeypatch.setattr(TunedeskApp, "suspend", lambda self: contextlib.nullcontext())


async def test_a_message_is_edited_in_the_editor_which_sees_no_key(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, f'echo "$OPENAI_API_KEY" > {tmp_path}/seen; printf "Reworded é\\n" > "$1"')
    async with opened(tmp_path, cases) as desk:
        await desk.press("enter", "j", "e")
        await desk.until(lambda: desk.messages(0)[1]["content"] == "Reworded é")
        assert (tmp_path / "seen").read_text() == "\n"
        await desk.shows("edited")


async def test_an_editor_that_fails_or_changes_nothing_changes_nothing(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        before = desk.messages(0)
        editor(tmp_path, monkeypatch, "exit 3")
        await desk.press("e")
        await desk.said("ended with 3")
        editor(tmp_path, monkeypatch, "true")
        await desk.press("e")
        assert desk.messages(0) == before
        assert desk.app.workspace is not None
        assert desk.app.workspace.undoable is None


async def test_a_whole_row_is_edited_as_json(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(tmp_path, monkeypatch, "sed -i s/Mara/Nora/ $1")
    async with opened(tmp_path, cases) as desk:
        await desk.press("enter", "r", "e")
        await desk.until(lambda: "Nora" in desk.messages(0)[0]["content"])
        await desk.shows('"Nora' if '"Nora' in frame(desk.app) else "Nora")
        editor(tmp_path, monkeypatch, "sed -i 's/Nora/Vera/; $d' $1")
        await desk.press("e")
        await desk.said("not JSON")
        assert "Nora" in desk.messages(0)[0]["content"]
        editor(tmp_path, monkeypatch, "echo } >> $1")
        await desk.press("e")
        await desk.until(lambda: "Vera" in desk.messages(0)[0]["content"])
        editor(tmp_path, monkeypatch, "true")
        await desk.press("e")
        await desk.said("nothing was changed")


async def test_a_reply_is_left_out_of_the_loss_and_shown_so(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("enter", "j", "j")
        await desk.shows("ASSISTANT · trained")
        await desk.press("w")
        await desk.shows("weight 0, not trained")
        await desk.press("w")
        await desk.shows("ASSISTANT · trained")


async def test_edits_survive_a_restart_and_so_does_the_view(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("x", "slash")
        await desk.type("card")
        await desk.until(lambda: desk.listing.count == 20)
    async with opened(tmp_path) as desk:
        assert desk.screen.query_one(FilterBar).text == "card"
        await desk.until(lambda: desk.listing.count == 20)
        await desk.shows("39 to train on")
        await desk.press("escape", "u")
        await desk.shows("40 to train on")


async def test_the_list_is_ordered_by_a_column_and_back(tmp_path: Path) -> None:
    rows = [conversation(number, user="long question " * (number % 7 + 1)) for number in range(20)]
    async with opened(tmp_path, write_rows(tmp_path / "rows.jsonl", rows)) as desk:
        await desk.until(lambda: desk.app.workspace.known.tokens is not None)  # type: ignore[union-attr]
        await desk.press("s", "down", "down", "enter")
        await desk.shows("tokens▲")
        assert desk.listing.index == 0
        await desk.press("s", "enter")
        await desk.shows("tokens▼")
        assert desk.listing.index in (6, 13)


async def test_a_split_writes_its_files_and_says_where(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases, size=(200, 50)) as desk:
        await desk.press("x", "S")
        await desk.shows("about 31 to train on, 8 held back")
        await desk.press("enter")
        await desk.said("0 leaks")
        files = desk.screen.split_files
        assert files is not None
        held = files.validation.read_text().splitlines()
        trained = files.train.read_text().splitlines()
        assert len(held) + len(trained) == 39
        assert all(set(json.loads(line)) == {"messages"} for line in trained)


async def test_a_file_is_previewed_then_imported(tmp_path: Path, cases: Path) -> None:
    other = tmp_path / "tickets.csv"
    other.write_text("question,answer,intent\nWhere is it?,It is here.,place\nWhen is it?,It is now.,time\n")
    async with opened(tmp_path, cases) as desk:
        await desk.press("i")
        await desk.type(str(tmp_path) + "/tick")
        await desk.shows("tickets.csv")
        await desk.press("tab")
        await desk.shows("format")
        await desk.shows("Where is it?")
        await desk.press("enter")
        await desk.until(lambda: desk.app.workspace is not None and desk.app.workspace.total == 2)
        await desk.press("o", "down", "enter")
        await desk.until(lambda: desk.app.workspace is not None and desk.app.workspace.total == 40)


async def test_work_may_tell_its_progress_to_a_screen_that_is_not_there_yet(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        for mode in ("jobs", "chat", "compare", "data"):
            switched = desk.app.switch_mode(mode)
            desk.app.on_progress_made(ProgressMade("counting", 5, 10))
            desk.app.say("still there")
            await switched
        await desk.said("still there")


async def test_an_error_in_the_background_is_told_with_its_hint(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DataError("the row [/is] broken", "mend it")

    async with opened(tmp_path, cases) as desk:
        monkeypatch.setattr(Workbench, "check", broken)
        await desk.press("c")
        await desk.said("the row [/is] broken")
        await desk.shows("mend it")
        monkeypatch.setattr(Workbench, "check", lambda *_, **__: 1 / 0)
        await desk.press("c")
        await desk.said("ZeroDivisionError")
        assert "ZeroDivisionError" in (tmp_path / "logs" / "tunedesk.log").read_text()


async def test_help_lists_every_key_of_the_screen(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases, size=(120, 150)) as desk:
        wanted = {
            binding.tooltip
            for node in (desk.screen, desk.listing, desk.screen.query_one(ConversationView), desk.app)
            for bindings in node._bindings.key_to_bindings.values()
            for binding in bindings
            if binding.id
        }
        await desk.press("question_mark")
        shown = frame(desk.app)
        assert {tooltip for tooltip in wanted if tooltip[:40] not in shown} == set()
        await desk.press("escape", "slash")
        await desk.type("?")
        assert desk.screen.query_one(FilterBar).text == "?"


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_findings_and_prompt_open_and_close_at_any_size(
    tmp_path: Path, cases: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, cases, size=size) as desk:
        await desk.press("p")
        await desk.shows("Ctrl+S apply to all")
        await desk.press("escape", "c")
        await desk.shows("Findings:")
        await desk.press("escape")
        assert desk.listing.has_focus
        await desk.shows("USER")
