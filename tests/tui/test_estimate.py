"""The estimate follows what is done on the Data screen, is told in full by a key, and trims."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tui.bench import write_rows
from tests.tui.rig import frame, until_shown
from tests.tui.test_data_screen import opened
from tunedesk.core.counting.pricing import Epochs, Estimate, Price
from tunedesk.core.counting.token_stats import Bar, Spread
from tunedesk.core.counting.tokens import stats_of
from tunedesk.spending import Entry
from tunedesk.tui.messages import TokensCounted
from tunedesk.tui.panes.estimate import EstimatePane, cost_text, estimate_lines, sparkline, time_text
from tunedesk.tui.screens.estimate_dialog import run_lines
from tunedesk.workbench import Workbench


def talk(number: int) -> dict[str, Any]:
    messages = [{"role": "system", "content": "You are Mara of Alder Bank."}]
    for turn in range(number % 4 + 1):
        messages += [
            {"role": "user", "content": f"Question {turn} of {number} about {'cards' if number % 2 else 'loans'}"},
            {"role": "assistant", "content": "Answer. " * (turn + 1)},
        ]  # fmt: skip
    return {"messages": messages}


def counted(usd: float | None, price: Price | None = None, **more: Any) -> TokensCounted:
    stats = stats_of([10, 20, 30, 40], 60, 30)
    bars = (Bar(0, 15, 1), Bar(16, 30, 2), Bar(31, 40, 1, True))
    estimate = Estimate(Epochs(3, 2, 4, "rule"), 240, usd, usd, usd and usd * 2, price, **more)
    return TokensCounted(stats, estimate, "", Spread(stats, bars, 25, ()), age=52)


def test_the_lines_say_price_age_range_limit_and_time() -> None:
    price = Price("m", 5.0, as_of="2026-10-01")
    lines = dict(estimate_lines(counted(1.5, price)))
    assert lines["cost"] == "$1.50 ($1.50 to $3.00), price of 2026-10-01, 52 days old"
    assert lines["tokens"] == "100 in 4 conversations, 60% trained"
    assert lines["lengths"] == "0 ▅█ 30 · 1 over 30"
    assert lines["billed"] == "240 tokens in 3 epochs (2 to 4)"
    assert "time" not in lines
    assert dict(estimate_lines(counted(None)))["cost"] == "no known price: $ then p sets it"
    here = dict(estimate_lines(counted(0, seconds=600.0, measured="the latest job of the model")))
    assert here["time"] == "about 10 min here, by the latest job of the model"
    assert "unknown" in dict(estimate_lines(counted(0)))["time"]
    assert cost_text(counted(0).estimate) == "free, on this machine"
    assert [time_text(one) for one in (0.2, 120, 9_000)] == ["about 1 s", "about 2 min", "about 2.5 h"]
    assert sparkline([Bar(0, 1, 0), Bar(2, 3, 8), Bar(4, 5, 1)]) == " █▂"


def test_a_run_tells_what_was_estimated_and_what_came_of_it() -> None:
    entry = Entry("l", 0.0, "cloud", "m", "j", "succeeded", 1_000, 1.0, 0.5, 2.0, 1_200, 1.25, None, 60.0)
    assert run_lines([entry]) == [
        "m on cloud, succeeded",
        "  tokens 1,000 → 1,200 · cost $1.00 → $1.25 · time unknown → 60 s",
    ]


async def test_the_estimate_follows_the_filter_is_told_in_full_and_trims(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "talks.jsonl", map(talk, range(40)))
    async with opened(tmp_path, file, size=(80, 24)) as desk:
        pane = desk.screen.query_one(EstimatePane)
        assert pane.counted is not None
        before = pane.counted.stats.total
        await desk.press("slash")
        await desk.type("cards")
        await desk.until(lambda: bool(pane.counted and pane.counted.shown))
        assert pane.counted.shown is not None
        assert pane.counted.shown[0].stats.conversations == 20
        await desk.press("enter", "dollar_sign")
        await until_shown(desk.pilot, "Lengths")
        await desk.press("end")
        await until_shown(desk.pilot, "Where the tokens go")
        assert "system prompts:" in frame(desk.app)
        await desk.press("e")
        await until_shown(desk.pilot, "auto, or a whole number")
        await desk.press("ctrl+u")
        await desk.type("7")
        await desk.press("enter")
        await desk.until(lambda: bool(pane.counted and pane.counted.estimate.epochs.n == 7))
        await desk.press("T")
        await until_shown(desk.pilot, "last  1 turns: saves")
        await desk.press("enter")
        await until_shown(desk.pilot, "20 conversations · saves")
        await desk.press("enter")
        await desk.until(lambda: bool(pane.counted and pane.counted.stats.total < before))
        assert len(desk.messages(3)) == 3
        assert len(desk.messages(2)) == 7
        await desk.press("u")
        await desk.until(lambda: bool(pane.counted and pane.counted.stats.total == before))


async def test_another_dataset_is_not_told_the_tokens_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_rows(tmp_path / "talks.jsonl", map(talk, range(40)))
    more = write_rows(tmp_path / "more.jsonl", map(talk, range(1, 41)))
    counting = threading.Event()
    async with opened(tmp_path, file) as desk:
        pane = desk.screen.query_one(EstimatePane)
        await desk.until(lambda: pane.counted is not None)
        count = Workbench.count

        def slow(*arguments: Any, **more: Any) -> Any:
            counting.wait(10)
            return count(*arguments, **more)

        monkeypatch.setattr(Workbench, "count", slow)
        desk.app.open(desk.bench.import_file(more).workspace.dataset.id)
        await desk.said("opened")
        await desk.press("slash")
        await desk.type("cards")
        await desk.until(lambda: desk.listing.count == 20)
        assert pane.counted is None
        counting.set()
        await desk.until(lambda: pane.counted is not None)
