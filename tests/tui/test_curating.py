"""Curating all conversations by keys: what an edit would do is shown first, and one undo takes it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.bench import conversation, write_rows
from tests.tui.test_data_screen import Desk, opened
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.panes.system_prompt import SystemPromptPane
from tunedesk.tui.screens.curating import CoverageDialog
from tunedesk.tui.screens.data import DataScreen
from tunedesk.tui.screens.duplicates import DuplicatesDialog
from tunedesk.tui.screens.edit_preview import EditDialog

MAIL = "I am Joan Pike, write to joan.pike@example.com please."
SIZES = [(80, 24), (200, 50)]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Twenty conversations: one with personal data, one that repeats another, one that ends with the user."""
    rows = [conversation(number) for number in range(20)]
    rows[4] = conversation(4, user=MAIL)
    rows[5]["messages"].append({"role": "user", "content": "Thanks a lot, goodbye then."})
    rows[9] = rows[8]
    rows[11]["messages"][1]["content"] += "\u2028Two lines"
    return write_rows(tmp_path / "messy.jsonl", rows)


def data(desk: Desk) -> DataScreen:
    return next(one for one in desk.app.screen_stack if isinstance(one, DataScreen))


async def checked(desk: Desk) -> None:
    await desk.press("c")
    await desk.until(lambda: desk.screen.findings is not None)


@pytest.mark.parametrize("size", SIZES)
async def test_personal_data_is_shown_before_and_after_masked_and_brought_back(
    tmp_path: Path, messy: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, messy, size) as desk:
        await desk.press("M")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.shows("joan.pike@example.com")
        await desk.shows("[EMAIL_1]")
        await desk.press("enter")
        await desk.until(lambda: "[EMAIL_1]" in desk.messages(4)[1]["content"])
        assert desk.app.workspace is not None
        assert desk.bench.curation.map_of(desk.app.workspace)[5]["[EMAIL_1]"] == "joan.pike@example.com"
        await desk.press("u")
        await desk.until(lambda: desk.messages(4)[1]["content"] == MAIL)


async def test_rows_with_personal_data_are_known_without_asking(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        await desk.until(lambda: desk.app.workspace.known.pii is not None)  # type: ignore[union-attr]
        await desk.press("slash")
        await desk.type("has:pii")
        await desk.until(lambda: desk.listing.count == 1)


async def test_all_fixes_are_one_edit_and_a_code_is_fixed_alone(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        await checked(desk)
        await desk.press("f")
        await desk.shows("1 more are left out")
        await desk.press("enter")
        await desk.until(lambda: len(desk.messages(5)) == 3)
        workspace = desk.app.workspace
        assert workspace is not None
        assert (workspace.included_count, len(workspace.history)) == (19, 1)
        await desk.press("escape", "u")
        await desk.until(lambda: desk.app.workspace.included_count == 20)  # type: ignore[union-attr]
        assert len(desk.messages(5)) == 4


async def test_the_code_under_the_cursor_is_fixed_alone(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        await checked(desk)
        await desk.press("F")
        await desk.shows("Fix last_not_assistant")
        await desk.press("enter")
        await desk.until(lambda: len(desk.messages(5)) == 3)
        assert "\u2028" in desk.messages(11)[1]["content"]


async def test_findings_are_walked_message_by_message(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        await checked(desk)
        await desk.press("escape")
        wanted = desk.screen.findings or ()
        view = desk.screen.query_one(ConversationView)
        for key, place in (("n", 0), ("n", 1), ("n", 2), ("N", 1), ("N", 0)):
            await desk.press(key)
            await desk.said(f"{place + 1} of {len(wanted)}: {wanted[place].code}")
            await desk.pilot.pause()
            assert desk.listing.index == wanted[place].line - 1
            if wanted[place].message is not None:
                assert view.message == wanted[place].message


async def test_a_code_is_walked_alone_where_the_filter_asks_for_it_and_one_finding_is_fixed(
    tmp_path: Path, messy: Path
) -> None:
    async with opened(tmp_path, messy) as desk:
        await checked(desk)
        fixable = [
            one for one in desk.screen.findings or () if one.fix is not None and one.message is not None
        ]
        code = fixable[0].code
        mine = [one for one in desk.screen.findings or () if one.code == code]
        await desk.press("escape", "slash")
        await desk.type(f"check:{code}")
        await desk.until(lambda: desk.listing.count == len({one.line for one in mine}))
        await desk.press("down", "n")
        await desk.said(f"1 of {len(mine)}: {code}")
        others = len(desk.screen.findings or ()) - 1
        await desk.press("full_stop")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.press("enter")
        await desk.until(lambda: len(data(desk).findings or ()) <= others)
        await desk.press("u")
        await desk.until(lambda: desk.app.workspace is not None and desk.app.workspace.undoable is None)


@pytest.mark.parametrize("size", SIZES)
async def test_one_of_each_group_of_duplicates_is_kept(
    tmp_path: Path, messy: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, messy, size) as desk:
        await desk.press("D")
        await desk.until(lambda: isinstance(desk.app.screen, DuplicatesDialog))
        await desk.shows("keep")
        await desk.press("n", "x")
        await desk.until(lambda: desk.app.workspace.included_count == 19)  # type: ignore[union-attr]
        assert desk.app.workspace is not None
        assert desk.app.workspace.view(8).excluded
        await desk.press("slash")
        await desk.type("dup:yes")
        await desk.until(lambda: desk.listing.count == 2)
        assert desk.screen.query_one(FilterBar).text == "dup:yes"


@pytest.mark.parametrize("size", SIZES)
async def test_intents_are_shown_with_the_thin_ones(
    tmp_path: Path, messy: Path, size: tuple[int, int]
) -> None:
    async with opened(tmp_path, messy, size) as desk:
        await desk.press("C")
        await desk.until(lambda: isinstance(desk.app.screen, CoverageDialog))
        await desk.shows("card_question")
        await desk.press("escape")
        assert desk.app.screen is data(desk)
        await desk.press("C")
        await desk.until(lambda: isinstance(desk.app.screen, CoverageDialog))
        await desk.press("enter")
        await desk.until(lambda: data(desk).query_one(FilterBar).text.startswith("intent:"))
        await desk.until(lambda: 0 < desk.listing.count < 20)


async def test_a_prompt_with_metadata_goes_on_the_rows_shown(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        await desk.press("slash")
        await desk.type("user:loan")
        await desk.until(lambda: desk.listing.count == 9)
        await desk.press("enter", "p")
        desk.screen.query_one(SystemPromptPane).set_text("About {{intent}}")
        await desk.press("ctrl+g")
        await desk.until(lambda: isinstance(desk.app.screen, EditDialog))
        await desk.shows("+ system: About loan_question")
        await desk.shows("tokens an epoch")
        await desk.press("enter")
        await desk.until(lambda: desk.messages(1)[0]["content"] == "About loan_question")
        assert desk.messages(0)[0]["content"] == "You are Mara of Alder Bank."


async def test_prompts_are_kept_by_name_with_their_versions(tmp_path: Path, messy: Path) -> None:
    async with opened(tmp_path, messy) as desk:
        for text in ("A ", "B "):
            await desk.press("p")
            await desk.type(text)
            await desk.press("ctrl+n")
            await desk.shows("Keep the prompt as")
            await desk.type("voice")
            await desk.press("enter")
            await desk.said("kept as voice")
            await desk.press("escape")
        texts = [one.text for one in desk.bench.store.prompt_versions("voice")]
        assert len(texts) == 2
        await desk.press("p", "ctrl+l")
        await desk.shows("voice v1")
        await desk.press("down", "enter")
        await desk.until(lambda: desk.screen.query_one(SystemPromptPane).text == texts[0])


async def test_differing_prompts_their_cost_and_missing_values_are_told_in_the_pane(tmp_path: Path) -> None:
    rows = [conversation(number, **({"bank": "Alder"} if number else {})) for number in range(4)]
    rows[3]["messages"][0]["content"] = "You are someone else."
    async with opened(tmp_path, write_rows(tmp_path / "two.jsonl", rows)) as desk:
        await desk.press("p")
        await desk.shows("2 different system prompts: 3 ×")
        await desk.press("ctrl+l")
        await desk.shows("on 1 conversation  “You are someone else.”")
        await desk.press("escape")
        await desk.type("{{bank}} ")
        await desk.shows("missing in 1 of 4")
        await desk.shows("tokens an epoch")
