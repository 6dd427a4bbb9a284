"""The Compare screen, driven by keys over a real workbench and a scripted endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from tests.tui.rig import LOCAL_PROFILE, STYLES, Endpoint, finished_job, frame, until, until_shown
from tunedesk.config import Profile
from tunedesk.errors import DataError, ProviderError
from tunedesk.evaluate import Answer
from tunedesk.paths import Paths
from tunedesk.providers.base import Provider
from tunedesk.tui.desk import Desk
from tunedesk.tui.panes.compare_view import CompareView
from tunedesk.tui.screens.compare import CompareScreen, held_out, held_out_files
from tunedesk.workbench import Workbench

TUNED = "ft:base-1:local:bank:ob-0"
REFERENCES = [f"Good day from Harbour Bank. Card {n} is on its way. Yours, Harbour Bank" for n in range(8)]


class ScriptedBench(Workbench):
    """The real workbench over a scripted endpoint, opened on a small dataset."""

    def __init__(self, paths: Paths, endpoint: Endpoint, sample: Path) -> None:
        super().__init__(paths)
        self.endpoint = endpoint
        self.sample = sample

    async def connect(self, profile: Profile) -> Provider:
        return cast(Provider, self.endpoint)

    def profile(self, wanted: str | None) -> Profile:
        return LOCAL_PROFILE

    def open_sample(self, on_progress: Any = None) -> Any:
        return self.import_file(self.sample, name="banking").workspace


class CompareDesk(Desk):
    MODES: ClassVar[dict[str, Any]] = {"compare": CompareScreen}
    DEFAULT_MODE = "compare"
    CSS_PATH = STYLES


@pytest.fixture
def endpoint() -> Endpoint:
    job = finished_job("job-0", fine_tuned_model=TUNED)
    return Endpoint(
        known={job.id: job},
        answers={
            "base-1": "I do not know.",
            TUNED: "Good day from Harbour Bank. Card is on its way. Yours, Harbour Bank",
        },
    )


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is card {n}?"},
                {"role": "assistant", "content": reference},
            ]
        }
        for n, reference in enumerate(REFERENCES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def bench(paths: Paths, endpoint: Endpoint, prompts: Path) -> Iterator[ScriptedBench]:
    bench = ScriptedBench(paths, endpoint, prompts)
    bench.store.save_jobs("local", endpoint.known.values())
    yield bench
    asyncio.run(bench.close())


def screen(app: Desk) -> CompareScreen:
    return cast(CompareScreen, app.screen)


async def on_prompts(app: Desk, pilot: Any, prompts: Path) -> None:
    """Choose the small file by keys."""
    await until_shown(pilot, "on holdout.jsonl")
    await pilot.press("o")
    await until_shown(pilot, "another file …")
    await pilot.press("end", "enter")
    await until_shown(pilot, "File of held-out conversations")
    await pilot.press(*prompts.name, "enter")
    await until_shown(pilot, "on mine.jsonl")


async def test_the_shipped_holdout_and_the_last_tuned_model_are_offered(bench: ScriptedBench) -> None:
    async with CompareDesk(lambda: bench).run_test(size=(120, 30)) as pilot:
        await until_shown(pilot, f"on holdout.jsonl (up to 20 prompts) · base-1 against {TUNED}")
        await until_shown(pilot, "r runs the comparison")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_r_asks_scores_and_writes_a_report(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path, size: tuple[int, int]
) -> None:
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=size) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until_shown(pilot, "compared · report:")
        await until_shown(pilot, "8 prompts (95 %)")
        await until_shown(pilot, "similarity")
        await until_shown(pilot, "Where is card 0?")
        await until_shown(pilot, "I do not know.")
        result = screen(app).view.result
        assert result is not None
        scores = {score.model: score.similarity for score in result.scores}
        base, tuned = scores["base-1"], scores[TUNED]
        assert base is not None
        assert tuned is not None
        assert tuned.mean > base.mean
        report = screen(app).view.report
        assert report is not None
        assert "Where is card 0?" in report.read_text()
        assert len(endpoint.asked) == 16


async def test_the_cursor_shows_each_prompts_answers(bench: ScriptedBench, prompts: Path) -> None:
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(160, 40)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until_shown(pilot, "compared · report:")
        await until_shown(pilot, "Good day from Harbour Bank. Card 0")
        await pilot.press("down", "down")
        await until_shown(pilot, "Good day from Harbour Bank. Card 2")
        assert "Good day from Harbour Bank. Card 0" not in frame(app)


async def test_a_stop_keeps_what_is_answered_and_r_goes_on(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    endpoint.pause_s = 0.01
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(160, 40)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until(pilot, lambda: len(screen(app).view.answers) >= 5)
        await pilot.press("escape")
        await until_shown(pilot, "stopped: scores over the first")
        kept = len(screen(app).view.answers)
        assert kept < 16
        partial = screen(app).view.result
        assert partial is not None
        assert 1 <= len(partial.items) < 8
        endpoint.pause_s = 0
        asked = len(endpoint.asked)
        await pilot.press("r")
        await until_shown(pilot, "compared · report:")
        assert len(endpoint.asked) - asked <= 16 - kept
        assert len(screen(app).view.answers) == 16


async def test_keys_that_cannot_be_used_say_why(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    endpoint.pause_s = 0.05
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(120, 30)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("escape")
        await until_shown(pilot, "nothing is running: r starts")
        await pilot.press("r")
        await until(pilot, lambda: bool(endpoint.asked))
        await pilot.press("m")
        await until_shown(pilot, "models are being asked: Esc stops")
        await pilot.press("escape")
        await until(pilot, lambda: screen(app)._asking is None)


async def test_the_limit_is_asked_for_and_holds(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(120, 30)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("n")
        await until_shown(pilot, "How many prompts")
        await pilot.press("ctrl+u", *"3", "enter")
        await until_shown(pilot, "up to 3 prompts")
        await pilot.press("r")
        await until_shown(pilot, "compared · report:")
        assert len(endpoint.asked) == 6


async def test_models_are_picked_and_answers_of_kept_models_stay(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(120, 30)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until_shown(pilot, "compared · report:")
        await pilot.press("m")
        await until_shown(pilot, "[ ] base-2")
        await pilot.press("down", "down", "space", "enter")
        await until(pilot, lambda: len(screen(app).view.models) == 3)
        await pilot.press("r")
        await until(pilot, lambda: screen(app).view.result is not None)
        assert len(endpoint.asked) == 24


async def test_a_provider_that_fails_is_told_in_words(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    endpoint.failure = ProviderError("the key was refused", "look at OPENAI_API_KEY", status=401)
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until_shown(pilot, "the key was refused")
        await until_shown(pilot, "look at OPENAI_API_KEY")
        assert screen(app)._asking is None


async def test_answers_are_neither_markup_nor_control(
    bench: ScriptedBench, endpoint: Endpoint, prompts: Path
) -> None:
    endpoint.answers["base-1"] = "[@click=app.quit]x[/] [/nope] \x1b[2J"
    app = CompareDesk(lambda: bench)
    async with app.run_test(size=(160, 40)) as pilot:
        await on_prompts(app, pilot, prompts)
        await pilot.press("r")
        await until_shown(pilot, "[@click=app.quit]x[/] [/nope] ␛[2J")
        assert "\x1b" not in frame(app)


def test_held_out_takes_only_what_ends_in_an_answer(bench: ScriptedBench, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "only a question"}]},
        {"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [item.reference for item in held_out(bench, str(path), 10)] == ["b", "d"]
    assert len(held_out(bench, str(path), 1)) == 1
    with pytest.raises(DataError):
        held_out(bench, "no-such-dataset", 5)


def test_a_datasets_own_validation_file_comes_first(bench: ScriptedBench, paths: Paths) -> None:
    for name in ("abc-0", "xyz-0"):
        folder = paths.data / "splits" / name
        folder.mkdir(parents=True)
        (folder / "validation.jsonl").write_text("")
    assert held_out_files(bench, "abc")[0].parent.name == "abc-0"
    assert held_out_files(bench, "")[0].name == "holdout.jsonl"


def test_complete_items_end_at_the_first_missing_or_broken_answer() -> None:
    view = CompareView(models=("a", "b"), items=cast(Any, (1, 2, 3)))
    for item, model, error in (
        (0, "a", ""),
        (0, "b", ""),
        (1, "a", ""),
        (1, "b", "cut"),
        (2, "a", ""),
        (2, "b", ""),
    ):
        view = view.with_answer(Answer(item, model, "text", error=error))
    assert view.complete_items == 1
