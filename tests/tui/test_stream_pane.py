"""The stream pane: what is seen while text streams in, and how following pauses."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tunedesk.tui.widgets.stream_pane import FLUSHES, StreamPane
from tunedesk.tui.widgets.wrapping import wrap


class PaneApp(App[None]):
    def __init__(self, *, jumps: bool = False, tails: bool = True) -> None:
        super().__init__()
        self.jumps = jumps
        self.tails = tails
        self.told: list[bool] = []

    def compose(self) -> ComposeResult:
        yield StreamPane(jumps=self.jumps, tails=self.tails)

    def on_stream_pane_follow_changed(self, event: StreamPane.FollowChanged) -> None:
        self.told.append(event.following)

    @property
    def pane(self) -> StreamPane:
        return self.query_one(StreamPane)

    def rows(self) -> list[str]:
        return [self.pane.render_line(y).text.rstrip() for y in range(self.pane.size.height)]


async def flushed() -> None:
    await asyncio.sleep(2.5 / FLUSHES)


async def test_pieces_join_and_wrap_at_words() -> None:
    app = PaneApp()
    async with app.run_test(size=(23, 10)):
        app.pane.add("You", "head")
        app.pane.add()
        for piece in ("Your car", "d has been blo", "cked and a new one", " is on its way.\nAnything else?"):
            app.pane.feed(piece)
        await flushed()
        assert app.rows()[:5] == [
            "You",
            "Your card has been",
            "blocked and a new one",
            "is on its way.",
            "Anything else?",
        ]


async def test_a_flood_is_painted_at_most_so_many_times_a_second() -> None:
    app = PaneApp()
    async with app.run_test(size=(60, 10)):
        paints = 0
        flush = app.pane._flush

        def counted() -> None:
            nonlocal paints
            paints += 1
            flush()

        app.pane._flush = counted  # type: ignore[method-assign]
        for number in range(400):
            app.pane.feed(f"word{number} ")
            await asyncio.sleep(0.001)
        await flushed()
        assert 1 <= paints <= 30
        assert "word399" in "".join(app.rows())


async def test_it_follows_the_end_and_pauses_when_scrolled_up() -> None:
    app = PaneApp()
    async with app.run_test(size=(40, 8)) as pilot:
        app.pane.focus()
        for number in range(50):
            app.pane.add(f"line {number}")
        await flushed()
        assert app.rows()[-1] == "line 49"
        await pilot.press("up", "up", "up")
        await pilot.pause()
        assert not app.pane.following
        assert app.told == [False]
        top = app.rows()[0]
        for number in range(50, 60):
            app.pane.add(f"line {number}")
        await flushed()
        assert app.rows()[0] == top
        assert app.rows()[-1] == " paused · 10 new · f follows again"
        await pilot.press("f")
        await flushed()
        assert app.rows()[-1] == "line 59"
        assert app.told == [False, True]


async def test_scrolling_to_the_end_follows_again() -> None:
    app = PaneApp()
    async with app.run_test(size=(40, 8)) as pilot:
        app.pane.focus()
        for number in range(50):
            app.pane.add(f"line {number}")
        await flushed()
        await pilot.press("pageup")
        await pilot.pause(0.4)
        assert not app.pane.following
        await pilot.press("end")
        await pilot.pause(0.4)
        assert app.pane.following
        assert app.rows()[-1] == "line 49"


async def test_half_page_jumps_keep_the_newest_line_in_sight() -> None:
    app = PaneApp(jumps=True)
    async with app.run_test(size=(40, 8)):
        for number in range(60):
            app.pane.add(f"line {number}")
            if number % 7 == 0:
                await flushed()
                assert f"line {number}" in app.rows()
        await flushed()
        assert "line 59" in app.rows()


async def test_a_pane_that_does_not_tail_shows_the_beginning_and_scrolls() -> None:
    app = PaneApp(tails=False)
    async with app.run_test(size=(40, 8)) as pilot:
        app.pane.focus()
        for number in range(30):
            app.pane.add(f"line {number}")
        await flushed()
        assert app.rows()[0] == "line 0"
        assert app.rows()[-1] == "line 7"
        await pilot.press("end")
        await pilot.pause(0.4)
        assert app.rows()[-1] == "line 29"
        await pilot.press("f")
        app.pane.clear()
        app.pane.add("another")
        await flushed()
        assert app.rows()[0] == "another"


async def test_resizing_wraps_again_and_loses_nothing() -> None:
    app = PaneApp()
    async with app.run_test(size=(60, 12)) as pilot:
        app.pane.add("one two three four five six seven eight nine ten eleven twelve")
        await flushed()
        await pilot.resize_terminal(20, 12)
        await flushed()
        assert " ".join(row for row in app.rows() if row) == app.pane.text
        assert all(cell_len(row) <= 20 for row in app.rows())


async def test_data_is_neither_markup_nor_control() -> None:
    app = PaneApp()
    async with app.run_test(size=(60, 6)):
        app.pane.add("[@click=app.quit]press[/] \x1b]52;c;aGk=\x07 \u202eevil [/nope]")
        await flushed()
        text = "".join(app.rows())
        assert "[@click=app.quit]press[/]" in text
        assert "[/nope]" in text
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_the_last_block_can_be_replaced_and_all_be_cleared() -> None:
    app = PaneApp()
    async with app.run_test(size=(40, 6)):
        app.pane.add("first")
        app.pane.add("waiting …", "quiet")
        app.pane.replace_last("an answer")
        await flushed()
        assert app.rows()[:3] == ["first", "an answer", ""]
        app.pane.clear()
        await flushed()
        assert app.rows() == [""] * 6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab  \n字é", max_size=12), max_size=12), st.integers(3, 14))
def test_wrapping_piece_by_piece_equals_wrapping_at_once(pieces: list[str], width: int) -> None:
    lines = [""]
    for piece in pieces:
        lines[-1:] = wrap(lines[-1] + piece, width)
    assert lines == wrap("".join(pieces), width)
    assert all(cell_len(line) <= width for line in lines)
