"""The line chart: read off the painted rows, driven by keys."""

from __future__ import annotations

import math

from textual.app import App, ComposeResult

from tunedesk.tui.widgets.braille import DASH_DOT, DASHED, DOTTED, SOLID, Canvas
from tunedesk.tui.widgets.chart import Mark, Series
from tunedesk.tui.widgets.line_chart import LineChart
from tunedesk.tui.widgets.scales import Scale, number, ticks

TRAIN = tuple((float(step), 3 * math.exp(-step / 30) + 0.5) for step in range(1, 101))
VALID = tuple((float(step), 3 * math.exp(-step / 30) + 0.8) for step in range(10, 101, 10))


class ChartApp(App[None]):
    def compose(self) -> ComposeResult:
        chart = LineChart()
        chart.x_name, chart.y_name = "step", "loss"
        yield chart

    @property
    def chart(self) -> LineChart:
        return self.query_one(LineChart)

    def rows(self) -> list[str]:
        return [self.chart.render_line(y).text for y in range(self.chart.size.height)]


def two_curves() -> tuple[Series, ...]:
    return (Series("train loss", "T", TRAIN), Series("valid loss", "V", VALID, "dashed"))


async def test_axes_legend_and_letters_fill_exactly_80_by_24() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)):
        app.chart.series = two_curves()
        rows = app.rows()
        assert {len(row) for row in rows} == {80}
        assert "T train loss 0.607" in rows[0]
        assert "V valid loss 0.907" in rows[0]
        assert rows[-1].endswith(" step")
        assert "80" in rows[-1]
        assert any(row.startswith("3 ┤") for row in rows)
        assert any(row.rstrip().endswith("T") for row in rows[1:-2])
        assert any(row.rstrip().endswith("V") for row in rows[1:-2])


async def test_a_narrow_chart_drops_names_and_keeps_letters() -> None:
    app = ChartApp()
    async with app.run_test(size=(40, 8)):
        app.chart.series = two_curves()
        assert "train" not in app.rows()[0]
        assert "T 0.607" in app.rows()[0].replace("──", "")


async def test_the_falling_curve_starts_high_on_the_left_and_ends_low_on_the_right() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 20)):
        app.chart.series = (Series("loss", "L", TRAIN),)
        body = [row.split("│")[-1].split("┤")[-1] for row in app.rows()[1:-2]]
        drawn = [(y, x) for y, row in enumerate(body) for x, c in enumerate(row) if c not in " │"]
        assert min(drawn)[1] < 5
        assert max(drawn)[1] > 60


async def test_an_x_end_ahead_leaves_room_for_what_is_still_to_come() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 20)):
        app.chart.series = (Series("loss", "L", TRAIN),)
        app.chart.x_end = 200
        assert all(row[60:].strip("│ ") == "" for row in app.rows()[1:-2])
        assert "150" in app.rows()[-1]


async def test_arrow_keys_read_values_out_and_home_and_end_jump() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = two_curves()
        app.chart.focus()
        await pilot.press("left")
        assert app.chart.cursor == 100
        assert app.rows()[0].startswith("step 100  ")
        await pilot.press("left", "left")
        assert app.chart.cursor is not None
        assert 90 < app.chart.cursor < 100
        assert "(at 90)" in app.rows()[0]
        await pilot.press("home")
        assert app.chart.cursor == 1
        assert "V valid loss –" in app.rows()[0]
        await pilot.press("right", "end")
        assert app.chart.cursor == 100


async def test_the_cursor_moves_a_cell_at_a_time_when_points_are_dense() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = (Series("loss", "L", tuple((float(n), 1.0 + n % 7) for n in range(10_000))),)
        app.chart.focus()
        await pilot.press("home", "right")
        assert app.chart.cursor is not None
        assert 100 < app.chart.cursor < 200


async def test_a_click_reads_the_nearest_point() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = (Series("loss", "L", TRAIN),)
        await pilot.pause()
        await pilot.click(LineChart, offset=(42, 8))
        assert app.chart.cursor is not None
        assert 40 < app.chart.cursor < 60


async def test_the_log_scale_is_told_and_leaves_values_without_logarithm_out() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)):
        app.chart.series = (Series("loss", "L", ((1, 100.0), (2, 1.0), (3, 0.0), (4, 0.01))),)
        app.chart.log_scale = True
        rows = app.rows()
        assert "loss (log)" in rows[0]
        assert any(row.lstrip().startswith("0.01 ┤") for row in rows)
        assert any(row.lstrip().startswith("100 ┤") for row in rows)


async def test_nothing_to_draw_says_so_and_odd_sizes_do_not_fail() -> None:
    for size in ((80, 24), (5, 2), (20, 3), (200, 50)):
        app = ChartApp()
        async with app.run_test(size=size):
            app.chart.empty = "no points yet"
            assert app.rows()[0].startswith("no points yet"[: size[0] - 1])
            app.chart.series = (Series("flat", "F", ((1, 0.0),)), Series("none", "N", ()))
            assert app.rows()[0].startswith("no ") is (size[1] < 5)
            app.chart.log_scale = True
            assert app.rows()


async def test_letters_on_one_spot_move_apart() -> None:
    app = ChartApp()
    async with app.run_test(size=(60, 12)):
        same = ((1.0, 1.0), (2.0, 2.0), (3.0, 1.5))
        app.chart.series = (Series("a", "A", same), Series("b", "B", same, "dotted"))
        body = "".join(app.rows()[1:])
        assert "A" in body
        assert "B" in body


async def test_zoom_and_pan_show_a_part_and_the_cursor_stays_in_sight() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = two_curves()
        app.chart.focus()
        await pilot.press("home", "plus", "plus")
        window = app.chart.window
        assert window is not None
        assert window[0] == 1
        assert 20 < window[1] < 30
        assert " 100 " not in app.rows()[-1]
        await pilot.press("greater_than_sign")
        panned = app.chart.window
        assert panned is not None
        assert panned[0] > window[0]
        assert panned[1] - panned[0] == window[1] - window[0]
        await pilot.press("end")
        assert app.chart.window is not None
        assert app.chart.window[1] == 100
        for _ in range(20):
            await pilot.press("plus")
        low, high = app.chart.window
        assert high - low >= 4
        await pilot.press("0")
        assert app.chart.window is None
        assert app.chart.cursor is None
        await pilot.press("minus")
        assert app.chart.window is None


async def test_a_deep_zoom_draws_the_line_between_points_that_lie_outside() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)):
        app.chart.series = (Series("loss", "L", ((0.0, 1.0), (1e6, 3.0))),)
        app.chart.window = (499_999.0, 500_001.0)
        body = [row[8:] for row in app.rows()[1:-2]]
        assert any(row.strip("│ ") for row in body)


async def test_marks_stand_on_the_axis_and_are_named_where_they_are_read_out() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = two_curves()
        app.chart.marks = (Mark(50, "◆", "◆ checkpoint"), Mark(100, "★", "★ best checkpoint"))
        axis = app.rows()[-2]
        assert axis.count("◆") == 1
        assert axis.count("★") == 1
        assert "◆ checkpoint" not in app.rows()[0]
        app.chart.focus()
        await pilot.press("end")
        assert "★ best checkpoint" in app.rows()[0]


async def test_a_right_axis_reads_its_own_series_and_gives_way_when_narrow() -> None:
    accuracy = Series("accuracy", "a", tuple((x, 1 - y / 4) for x, y in TRAIN), "dotted", right=True)
    app = ChartApp()
    async with app.run_test(size=(80, 20)) as pilot:
        app.chart.series = (*two_curves(), accuracy)
        rows = app.rows()
        assert {len(row) for row in rows} == {80}
        assert any("├ 1" in row for row in rows)
        assert "a accuracy→ 0.848" in rows[0] + rows[1]
        await pilot.resize_terminal(40, 20)
        assert not any("├" in row for row in app.rows())


async def test_a_legend_too_long_for_its_rows_counts_what_it_leaves_out() -> None:
    app = ChartApp()
    async with app.run_test(size=(60, 20)):
        app.chart.series = tuple(Series(f"job number {n}", str(n % 10), TRAIN) for n in range(20))
        rows = app.rows()
        assert "more" in rows[1]
        assert {len(row) for row in rows} == {60}


def test_line_styles_differ_without_colour() -> None:
    drawn = []
    for pattern in (SOLID, DASHED, DOTTED, DASH_DOT):
        canvas = Canvas(8, 1)
        canvas.path([(0, 0), (15, 0)], 0, pattern)
        drawn.append("".join(character for character, _ in canvas.cells(0)))
    assert drawn[0] == "⠉" * 8
    assert len(set(drawn)) == 4


def test_ticks_are_round_and_cover_the_range() -> None:
    assert ticks(0.48, 3.1, 7) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert ticks(0, 240, 8) == [0, 50, 100, 150, 200]
    assert ticks(0.4, 6, 6, log=True) == [0.5, 1, 2, 5]
    assert len(ticks(0.91, 0.97, 6, log=True)) >= 2


def test_numbers_are_short() -> None:
    assert [number(v) for v in (12, 0.0001234, 1.23456, 1_500_000)] == ["12", "0.0001234", "1.235", "1.5e+06"]


def test_a_scale_maps_its_ends_to_zero_and_one() -> None:
    for scale in (Scale(2, 4), Scale(0.01, 100, log=True)):
        assert scale.at(scale.low) == 0
        assert scale.at(scale.high) == 1
    assert Scale(0.01, 100, log=True).at(1) == 0.5
