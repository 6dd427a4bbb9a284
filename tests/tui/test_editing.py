"""Editing by key: messages and conversations, one or many, shown before many change, undone as one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from textual.events import Key

from tests.fakes import Endpoint, ScriptedProvider
from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import frame
from tests.tui.test_data_screen import Desk, cases, opened
from tunedesk.core.editing.edits import Edit
from tunedesk.core.fine_tuning import ChatDelta
from tunedesk.core.searching.matches import Matches
from tunedesk.core.workspace import Workspace
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.transcript import Transcript
from tunedesk.tui.screens.chat import ChatScreen, Choice
from tunedesk.tui.screens.data_work import RowsMatched, scan
from tunedesk.tui.screens.edit_preview import EditDialog
from tunedesk.tui.screens.message_dialogs import MessageDialog
from tunedesk.tui.widgets.prompt_box import PromptBox

__all__ = ["cases"]


def roles(desk: Desk, index: int) -> str:
    return "".join(message["role"][0] for message in desk.messages(index))


async def test_messages_are_written_moved_split_merged_and_taken_out_and_the_place_is_kept(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        view = desk.screen.query_one(ConversationView)
        await desk.press("down", "d")
        await desk.said("choose a message first")
        await desk.press("enter", "j")
        await desk.press("E", *"Well. ", "ctrl+s")
        await desk.said("reworded message 2")
        assert desk.messages(1)[1]["content"].endswith("Well. ")
        assert (desk.listing.index, view.cursor) == (1, 1)

        await desk.press("b", "right", "right", "right", "right", "right", "ctrl+t", "ctrl+s")
        await desk.said("split message 2")
        assert roles(desk, 1) == "suaa"
        assert desk.messages(1)[1]["content"] == "Where"
        await desk.press("B")
        await desk.said("merged messages 2 and 3")
        assert roles(desk, 1) == "sua"
        assert desk.messages(1)[1]["content"].startswith("Where\nis my loan?")

        await desk.press("A", *"Of course.", "ctrl+s")
        await desk.said("added message 3")
        assert desk.messages(1)[2] == {"role": "assistant", "content": "Of course."}
        await desk.press("K")
        await desk.said("moved message 2")
        assert (roles(desk, 1), view.cursor) == ("usaa", 0)
        await desk.press("J")
        await desk.until(lambda: roles(desk, 1) == "suaa")
        await desk.press("R", "down", "enter")
        await desk.said("message 2 is assistant now")
        await desk.press("d")
        await desk.said("deleted message 2")
        assert roles(desk, 1) == "saa"
        for _ in range(8):
            await desk.press("u")
        await desk.until(lambda: desk.messages(1) == conversation(1)["messages"])


async def test_a_range_is_selected_and_an_edit_of_it_is_shown_first_and_undone_as_one(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("V", "down", "down", "down")
        await desk.shows("● 4 selected")
        await desk.press("V", "down", "x")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        assert "Exclude: apply to 4 conversations" in frame(desk.app)
        assert "Where is my loan?" in frame(desk.app)
        await desk.press("enter")
        await desk.said("excluded 4 conversations")
        assert desk.app.workspace is not None
        assert desk.app.workspace.included_count == 36
        await desk.press("u")
        await desk.until(lambda: desk.app.workspace is not None and desk.app.workspace.included_count == 40)
        await desk.press("escape")
        assert desk.listing.selected_count == 0


@asynccontextmanager
async def three_of_six_selected(tmp_path: Path) -> AsyncIterator[Desk]:
    """Open six conversations and select those about cards, the second of which has a message more in front."""
    rows = [conversation(number) for number in range(6)]
    rows[2]["messages"].insert(0, {"role": "developer", "content": "First."})
    async with opened(tmp_path, write_rows(tmp_path / "six.jsonl", rows)) as desk:
        await desk.press("slash", *"card")
        await desk.until(lambda: desk.listing.count == 3)
        await desk.press("enter", "a")
        yield desk


async def test_all_matches_are_edited_alike_and_what_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    async with three_of_six_selected(tmp_path) as desk:
        await desk.press("percent_sign", *"assistant:/case \\d+/ => a case", "enter")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        assert "apply to 3 matches" in frame(desk.app)
        await desk.press("enter")
        await desk.said("replaced the text")
        assert desk.messages(0)[2]["content"] == "About your card: a case is open."
        await desk.press("enter", "R", "down", "down", "enter")  # system of message 1 becomes user
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        # The third has another message there.
        assert "apply to 3 matches, 2 of them change" in frame(desk.app)
        assert "user: role system → user" in frame(desk.app)
        await desk.press("enter")
        await desk.said("message 1 is user now")
        assert [roles(desk, index)[0] for index in (0, 2, 4)] == ["u", "d", "u"]
        await desk.press("u", "u")
        await desk.until(lambda: roles(desk, 0) == "sua" and "a case" not in desk.messages(0)[2]["content"])
        await desk.press("u")
        await desk.said("nothing to undo: all edits are undone")


async def test_messages_of_all_matches_are_moved_split_and_added_alike(tmp_path: Path) -> None:
    async with three_of_six_selected(tmp_path) as desk:
        await desk.press("enter", "K")
        await desk.said("it is the first message already")
        await desk.press("J")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.press("enter")
        await desk.said("moved message 1: u undoes")
        assert [roles(desk, index) for index in (0, 2, 4)] == ["usa", "dsua", "usa"]
        await desk.press("u", "j", "j", "b", *"nowhere", "enter")
        await desk.said("this would change none")
        await desk.press("b", *"/[0-9]+/ => user", "enter")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.press("enter")
        await desk.said("split message 3: u undoes")
        assert [roles(desk, index) for index in (0, 2, 4)] == ["suau", "dsua", "suau"]
        assert [one["content"] for one in desk.messages(4)[2:]] == [
            "About your card: case",
            "418916 is open.",
        ]
        await desk.press("u", "escape", "A", *"Bye", "ctrl+s")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        assert "New message at the end (user): apply to 3 matches" in frame(desk.app)
        await desk.press("enter")
        await desk.said("added a message at the end")
        assert [desk.messages(index)[-1]["content"] for index in (0, 2, 4)] == ["Bye"] * 3
        await desk.press(
            "u", "enter", "home", "A", *"Hm", "ctrl+s"
        )  # behind the system message under the cursor
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.press("enter")
        await desk.said("added a message 2")
        assert [roles(desk, index) for index in (0, 2, 4)] == ["suua", "dsua", "suua"]


async def test_conversations_are_copied_added_and_edited_like_others(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("y")
        await desk.said("added a copy of 1 conversation")
        await desk.press("ctrl+n")
        await desk.said("added a conversation")
        assert desk.listing.count == 42
        await desk.press("end")
        await desk.shows("Conversation, line 42")
        await desk.press("enter", "j", "E", *"Hello there", "ctrl+s")
        await desk.said("reworded message 2")
        assert desk.messages(41)[1] == {"role": "user", "content": "Hello there"}
        assert desk.messages(40) == desk.messages(0)
        await desk.press("u", "u", "u")
        await desk.until(lambda: desk.listing.count == 40)
        await desk.press("escape", "a", "y")
        await desk.shows("Add a copy of 40 conversations?")
        await desk.press("n")
        assert desk.listing.count == 40
        await desk.press("y", "y")
        await desk.until(lambda: desk.listing.count == 80)
        monkeypatch.setattr("tunedesk.tui.screens.editing._MOST_COPIES", 79)
        await desk.press("a", "y")
        await desk.said("no more than 79 conversations are copied at once")


@pytest.mark.parametrize(
    ("written", "told"), [("", "the editor left nothing"), (None, "nothing was changed")]
)
async def test_an_editor_that_leaves_nothing_or_the_same_changes_nothing(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch, written: str | None, told: str
) -> None:
    monkeypatch.setattr("tunedesk.tui.screens.message_editing.edit_text", lambda *_: written)
    async with opened(tmp_path, cases) as desk:
        await desk.press("e")
        await desk.said(told)
        assert desk.app.workspace is not None
        assert desk.app.workspace.undoable is None


async def test_a_dialog_takes_what_was_typed_just_before_it_was_accepted(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("A")
        await desk.until(lambda: isinstance(desk.app.screen, MessageDialog))
        await desk.pilot.press(*"pasted at once", "ctrl+s")
        await desk.said("added message 4")
        assert desk.messages(0)[3]["content"] == "pasted at once"


async def test_a_reply_from_chat_becomes_an_example_that_one_undo_takes_back(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        endpoint = Endpoint(
            replies={"tiny": lambda _: [ChatDelta("We will look."), ChatDelta(finish_reason="stop")]}
        )
        profile = replace(desk.bench.profile("local"), tunable=("tiny",))
        desk.bench.use(ScriptedProvider(endpoint, profile))
        await desk.press("f3")
        chat = desk.app.screen
        assert isinstance(chat, ChatScreen)
        await desk.pilot.press("ctrl+s")
        await desk.until(lambda: "no reply to save yet" in chat.status_line.message)
        chat.choice = Choice("local", ("tiny",), by_hand=True)
        await desk.until(lambda: bool(chat.query(Transcript)))
        chat.query_one(PromptBox).focus()
        await desk.pilot.press(*"My card?", "enter")
        await desk.until(lambda: "answered" in chat.status_line.message)
        await desk.pilot.press("ctrl+s")
        await desk.until(lambda: "saved as a new example" in chat.status_line.message)
        assert desk.app.workspace is not None
        assert desk.app.workspace.row(40) == {
            "messages": [
                {"role": "system", "content": "You are Mara of Alder Bank."},
                {"role": "user", "content": "My card?"},
                {"role": "assistant", "content": "We will look."},
            ],
            "metadata": {"source": "chat", "model": "tiny"},
        }
        await desk.press("f1")
        await desk.press("end")
        await desk.shows("Conversation, line 41")
        desk.listing.focus()
        await desk.press("u")
        await desk.until(lambda: desk.listing.count == 40)


async def test_matches_are_gone_through_across_conversations_and_marked_by_their_role(tmp_path: Path) -> None:
    rows = [conversation(number) for number in range(8)]
    rows[4]["messages"][1]["content"] += " My card again, the card."
    async with opened(tmp_path, write_rows(tmp_path / "eight.jsonl", rows)) as desk:
        view = desk.screen.query_one(ConversationView)
        await desk.press("n", "enter", "n")
        await desk.said("nothing to look for")
        await desk.press("slash", *"user:card -system:xyz")
        await desk.until(lambda: desk.listing.count == 4)
        await desk.press("enter", "n")
        await desk.said("for matches: Enter, then n")
        await desk.press("enter", "n")
        assert (desk.listing.index, view.cursor) == (0, 1)
        await desk.press("n")  # the reply has the word too, but was not asked for
        await desk.until(lambda: (desk.listing.index, view.cursor) == (2, 1))
        await desk.press("n", "n", "n")
        await desk.until(lambda: desk.listing.index == 6)
        await desk.press("n")
        await desk.said("no further match")
        await desk.press("N")
        await desk.until(lambda: desk.listing.index == 4)
        assert view.has_focus


async def test_an_edited_row_stays_in_a_filtered_list_until_the_filter_looks_again(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("slash", *"loan")
        await desk.until(lambda: desk.listing.count == 20)
        await desk.press("enter", "down", "percent_sign", *"loan => mortgage", "enter")
        await desk.said("replaced the text")
        assert (desk.listing.count, desk.listing.index) == (20, 3)
        await desk.shows("20 of 40 before the last edits: Enter looks again")
        await desk.press("down", "slash", "enter")
        await desk.until(lambda: desk.listing.count == 19)
        assert "looks again" not in frame(desk.app)
        assert (desk.listing.cursor, desk.listing.index) == (
            1,
            5,
        )  # the row above went, the place is the same


def test_the_first_screenful_is_told_before_the_search_goes_on(tmp_path: Path, cases: Path) -> None:
    bench = workbench(tmp_path)
    workspace = bench.import_file(cases).workspace
    told: list[RowsMatched] = []

    class Slow:
        def searching(self, text: str, stopped: Callable[[], bool]) -> Iterator[Workspace]:
            yield replace(workspace, found=Matches([range(2)]), matches=Matches([range(2)]))
            assert [one.complete for one in told] == [False]
            yield workspace.with_query(text)

    scan(cast(Workspace, Slow()), "card", lambda one: told.append(cast(RowsMatched, one)), lambda: False)
    assert [(one.workspace.matched, one.complete) for one in told] == [(2, False), (20, True)]
    bench.store.close()


async def test_keys_right_behind_enter_go_to_the_list_not_into_the_filter(
    tmp_path: Path, cases: Path
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("slash")
        await desk.type("loan")
        await desk.until(lambda: desk.listing.count == 20)
        for key, character in (("enter", "\r"), ("down", None), ("x", "x")):
            desk.app.post_message(Key(key, character))
        await desk.shows("39 to train on")
        assert (desk.screen.query_one(FilterBar).text, desk.listing.cursor) == ("loan", 1)
        await desk.press("slash")
        await desk.type("s")
        assert desk.screen.query_one(FilterBar).text == "loans"


async def test_keys_right_behind_the_filters_go_into_it(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("down")
        for key, character in (("slash", "/"), *((letter, letter) for letter in "loan")):
            desk.app.post_message(Key(key, character))
        await desk.until(lambda: desk.screen.query_one(FilterBar).text == "loan")
        await desk.until(lambda: desk.listing.count == 20)


async def test_undo_cancels_an_edit_that_is_still_being_made(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("x")
        await desk.shows("39 to train on")
        go_on, edit = threading.Event(), desk.bench.edit

        def slow(workspace: Workspace, made: Edit) -> Workspace:
            assert go_on.wait(20)
            return edit(workspace, made)

        monkeypatch.setattr(desk.bench, "edit", slow)
        await desk.press("down", "x", "u")
        await desk.said("still running: excluded 1 conversation")
        await desk.press("ctrl+r")
        await desk.said("still running")
        await desk.press("u")
        go_on.set()
        await desk.said("cancelled: excluded 1 conversation")
        await desk.until(lambda: not desk.app.editing)
        await desk.shows("39 to train on")
        await desk.press("u")
        await desk.shows("40 to train on")
