"""Generic widgets: the door for data, the list of any length, blocks of text, the status line, the mode bar."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.color import Color
from textual.widget import Widget

from tests.tui.hostile import ACTING, EVERYTHING, HOSTILE
from tunedesk.tui.widgets.block_view import Block, BlockView, Needle, needle
from tunedesk.tui.widgets.mode_bar import ModeBar
from tunedesk.tui.widgets.plain import VisibleFilter, fit, one_line, plain, plain_line
from tunedesk.tui.widgets.status_line import StatusLine
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList


class Stage(App[None]):
    """Shows one widget."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


def painted(app: App[None]) -> str:
    """Return the text on the screen, line by line."""
    return "\n".join(
        "".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_no_acting_character_passes_the_door(name: str) -> None:
    for made in (plain(HOSTILE[name]).plain, plain_line(HOSTILE[name]).plain, fit(HOSTILE[name], 40)):
        assert not set(made) & set(ACTING)
        assert "\udc80" not in made


def test_markup_stays_text_at_the_door() -> None:
    assert plain(HOSTILE["action"]).plain == HOSTILE["action"]
    assert not plain(HOSTILE["action"]).spans
    assert one_line("a\nb\r\nc\td") == "a⏎b⏎c d"


@pytest.mark.parametrize("text", ["", "abc", "a" * 99, "日本語の会話です", "❤️ and 👨‍👩‍👧", EVERYTHING])
@pytest.mark.parametrize("width", [0, 1, 7, 40])
def test_a_fitted_text_has_exactly_its_width(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
    assert cell_len(fit(text, width, right=True)) == width


def test_the_net_drops_what_slipped_past_the_door_and_keeps_control_segments() -> None:
    control = Segment("\x1b[2J", None, [(1,)])  # type: ignore[list-item]
    out = VisibleFilter().apply([Segment(EVERYTHING), Segment("fine 日本"), control], Color(0, 0, 0))
    assert not set(out[0].text) & set(ACTING)
    assert cell_len(out[0].text) == cell_len(EVERYTHING)
    assert out[1].text == "fine 日本"
    assert out[2] is control


class Rows:
    """Makes rows on demand and remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, indexes: Sequence[int]) -> list[ListRow]:
        self.asked += indexes
        return [ListRow((str(index), f"row {index}")) for index in indexes]


def million(rows: Rows) -> VirtualList:
    return VirtualList((Column("n", "n", 8, right=True), Column("text", "text")), rows)


async def test_a_list_of_a_million_rows_fetches_only_what_it_shows() -> None:
    rows = Rows()
    listing = million(rows)
    app = Stage(listing)
    async with app.run_test(size=(60, 20)) as pilot:
        listing.focus()
        listing.show(range(1_000_000))
        await pilot.pause()
        assert set(rows.asked) <= set(range(19))
        await pilot.press("end")
        assert listing.index == 999_999
        assert "row 999999" in painted(app)
        await pilot.press("home", "pagedown", "down", "k", "j")
        assert listing.index == 20
        assert len(set(rows.asked)) < 90


async def test_the_cursor_stays_on_rows_and_pages_by_what_is_seen() -> None:
    listing = million(Rows())
    async with Stage(listing).run_test(size=(60, 11)) as pilot:
        listing.focus()
        listing.show(range(25))
        await pilot.press("up")
        assert listing.cursor == 0
        await pilot.press("pagedown")
        assert listing.cursor == 10
        await pilot.press("pagedown", "pagedown", "pagedown")
        assert listing.cursor == 24
        listing.show([3, 5], keep_place=True)
        assert listing.index == 5
        listing.show([])
        assert listing.index is None
        await pilot.press("down", "enter", "space", "end")


async def test_rows_are_selected_one_by_one_and_in_runs() -> None:
    listing = million(Rows())
    async with Stage(listing).run_test(size=(60, 11)) as pilot:
        listing.focus()
        listing.show(range(100, 200))
        await pilot.press("space", "down", "shift+down", "shift+down")
        assert listing.selected == {100, 102, 103}
        await pilot.press("escape")
        assert not listing.selected


async def test_the_cursor_row_is_marked_without_colour() -> None:
    listing = million(Rows())
    app = Stage(listing)
    async with app.run_test(size=(60, 11)) as pilot:
        listing.show(range(5))
        await pilot.pause()
        assert [line[0] for line in painted(app).splitlines()[1:4]] == [">", " ", " "]


async def test_hostile_rows_act_neither_on_the_app_nor_on_the_terminal() -> None:
    listing = VirtualList(
        (Column("text", EVERYTHING),), lambda indexes: [ListRow((EVERYTHING,)) for _ in indexes]
    )
    app = Stage(listing)
    async with app.run_test(size=(400, 11)) as pilot:
        listing.show(range(5))
        await pilot.pause()
        assert not set(painted(app)) & set(ACTING)
        x = painted(app).splitlines()[1].index("CLICKME")
        await pilot.click(offset=(x + 2, 1))
        assert app.is_running


async def test_long_blocks_are_folded_until_enter() -> None:
    view = BlockView()
    app = Stage(view)
    async with app.run_test(size=(60, 60)) as pilot:
        view.focus()
        view.show([Block("one", "short"), Block("two", "\n".join(f"line {n}" for n in range(40)))])
        await pilot.press("down")
        assert "line 39" not in painted(app)
        assert "Enter unfolds" in painted(app)
        await pilot.press("enter")
        assert "line 39" in painted(app)
        await pilot.press("enter")
        assert "line 39" not in painted(app)


async def test_matches_are_marked_and_stepped_through_in_folded_blocks() -> None:
    view = BlockView()
    app = Stage(view)
    async with app.run_test(size=(60, 12)) as pilot:
        view.focus()
        refund = Needle(re.compile("refund", re.IGNORECASE))
        view.show([Block("a", "Refund me"), Block("b", "x\n" * 30 + "a REFUND")], needles=[refund])
        await pilot.press("n")
        assert view.cursor == 0
        await pilot.press("n")
        assert view.cursor == 1
        assert "a REFUND" in painted(app)
        await pilot.press("n")
        assert view.cursor == 0
        await pilot.press("N")
        assert view.cursor == 1


async def test_a_needle_of_one_kind_is_met_in_its_part_of_a_block() -> None:
    view = BlockView()
    async with Stage(view).run_test(size=(30, 12)):
        block = Block("a", "I look\n→ call look", scope="assistant", tail=(7, "tool"))
        for scope, spans in (
            ("tool", [(14, 18)]),
            ("assistant", [(2, 6)]),
            ("", [(2, 6), (14, 18)]),
            ("user", []),
        ):
            view.show([block], needles=[one for one in [needle("look", scope)] if one])
            assert view._matches(0) == spans


async def test_a_match_that_goes_on_in_the_next_line_is_marked_on_both_and_gone_to() -> None:
    view = BlockView()
    async with Stage(view).run_test(size=(30, 12)) as pilot:
        view.focus()
        body = "my card  x\n\nI have lost a cafe\u0301 credit card in STRASSE"
        needles = [needle(source) for source in ("credit card", "straße".casefold(), "caf\xe9")]
        view.show(
            [Block("a", body), Block("b", "x\n" * 30 + "credit carD, and a Stra\xdfe")],
            needles=[one for one in needles if one is not None],
        )
        await pilot.pause()
        match = view.line_style("block-view--match")
        marked = [
            segment.text
            for y in range(12)
            for segment in view.render_line(y)
            if segment.style == match and segment.text
        ]
        assert marked == ["cafe\u0301", "credit", "card", "STRASSE"]
        await pilot.press("n", "n", "n")
        assert view.cursor == 1
        shown = [segment for y in range(12) for segment in view.render_line(y)]
        assert [segment.text for segment in shown if segment.style == match] == ["credit carD", "Stra\xdfe"]


async def test_a_message_taller_than_the_view_is_scrolled_before_it_is_left() -> None:
    view = BlockView()
    async with Stage(view).run_test(size=(60, 8)) as pilot:
        view.focus()
        view.show([Block("a", "\n".join(f"line {n}" for n in range(12))), Block("b", "end")])
        await pilot.press("down")
        assert view.cursor == 0
        await pilot.press("down", "down", "down")
        assert view.cursor == 1
        await pilot.press("home")
        assert (view.cursor, view.scroll_offset.y) == (0, 0)


async def test_the_status_line_tells_severity_by_a_sign_and_progress_on_the_right() -> None:
    line = StatusLine()
    app = Stage(line)
    async with app.run_test(size=(40, 5)) as pilot:
        line.say(HOSTILE["broken_markup"], "error")
        line.progress = "importing 40%"
        await pilot.pause()
        shown = painted(app).splitlines()[0]
        assert shown.strip().startswith("✗ order [1]")
        assert shown.rstrip().endswith("importing 40%")
        assert line.has_class("-error")


async def test_the_mode_bar_marks_the_screen_shown_and_cuts_the_caption() -> None:
    bar = ModeBar([("data", "1", "Data"), ("jobs", "2", "Jobs")], "jobs")
    app = Stage(bar)
    async with app.run_test(size=(40, 5)) as pilot:
        bar.caption = "a very long caption that cannot be shown whole"
        await pilot.pause()
        shown = painted(app).splitlines()[0]
        assert "▐2 Jobs▌" in shown
        assert "…" in shown
        assert len(shown) == 40
