"""The launch dialog and what follows it: shown as a user sees it, confirmed by keys, launched exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from textual.app import App
from textual.screen import ModalScreen
from textual.widgets import Button, Input

from tests import fakes
from tests.tui.rig import STYLES, frame, until, until_shown
from tunedesk.config import Profile
from tunedesk.core.counting import pricing
from tunedesk.core.counting.pricing import Price
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.errors import ProviderError
from tunedesk.jobs import LaunchRequest
from tunedesk.paths import Paths
from tunedesk.providers.base import Provider
from tunedesk.providers.limits import CLOSED
from tunedesk.tui.desk import Desk
from tunedesk.tui.screens.jobs import JobsScreen
from tunedesk.tui.screens.launch import (
    FileFacts,
    IntoQueue,
    LaunchAnswer,
    LaunchDialog,
    LaunchFacts,
    TrainHere,
    cost_line,
    dates_of,
    file_line,
    findings_line,
)
from tunedesk.tui.screens.launching import ask_and_launch
from tunedesk.workbench import Workbench

CLOUD = Profile("openai", "https://x/v1", label="OpenAI", tunable=("gpt-4.1-mini",), closes="2027-01-06")
LOCAL = Profile("local", "", label="This machine", tunable=("base-1",))
PRICES = {"gpt-4.1": Price("gpt-4.1", 25.0, as_of="2026-11-01", shutdown="2027-03-01")}


def facts(**fields: Any) -> LaunchFacts:
    return replace(
        LaunchFacts(
            profile=CLOUD,
            model="gpt-4.1",
            models=("gpt-4.1-mini", "gpt-4.1"),
            training=FileFacts(Path("/data/train.jsonl"), 240, 312_000, "a" * 64),
            validation=FileFacts(Path("/data/validation.jsonl"), 60, 80_000, "b" * 64),
            estimate=lambda model, epochs: pricing.estimate(100_000, 240, model, PRICES, n_epochs=epochs),
            shutdowns={"gpt-4.1": "2027-03-01"},
            errors=0,
            warnings=2,
            seed=42,
            today=date(2026, 11, 22),
        ),
        **fields,
    )


class DialogApp(App[None]):
    CSS_PATH = STYLES

    def __init__(self, shown: LaunchFacts) -> None:
        super().__init__()
        self.shown = shown
        self.answers: list[LaunchAnswer] = []

    def on_mount(self) -> None:
        self.push_screen(LaunchDialog(self.shown), self.answers.append)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_everything_that_matters_is_on_one_screen(size: tuple[int, int]) -> None:
    app = DialogApp(facts())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        shown = " ".join(frame(cast(Any, app)).replace("│", " ").split())
        for text in (
            "OpenAI",
            "gpt-4.1",
            "train.jsonl · 240 conversations · 312.0 kB · sha256 aaaaaaaa…",
            "validation.jsonl · 60 conversations",
            "about $7.50 ($5.00 to $10.00) · price of 2026-11-01, 21 days old",
            "Put in the queue",
            "300,000 tokens in 3 epochs",
            "OpenAI takes no new job from 2027-01-06, in 45 days",
            "stop on 2027-03-01, in 99 days",
            "2 warnings left",
            "Train on this machine",
            "Launch",
            "Cancel",
        ):
            assert text in shown, shown


async def test_however_much_there_is_to_say_the_buttons_stay_in_sight() -> None:
    name = Path("/data") / ("a-name-of-somebody-who-likes-them-long" * 3 + ".jsonl")
    much = facts(
        training=FileFacts(name, 240_123, 312_000_000, "a" * 64), errors=2, warnings=310, personal=1_234
    )
    app = DialogApp(much)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(cast(Any, pilot), "they would be refused")
        for text in ("Put in the queue", "Cancel", "2 errors and 310 warnings left", "in 1,234 messages"):
            assert text in frame(cast(Any, app))


async def test_enter_launches_with_the_values_as_shown() -> None:
    app = DialogApp(facts())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.answers))
        request = app.answers[0]
        assert isinstance(request, LaunchRequest)
        assert request.model == "gpt-4.1"
        assert request.training == Path("/data/train.jsonl")
        assert request.validation == Path("/data/validation.jsonl")
        assert request.hyperparameters == Hyperparameters()
        assert request.seed == 42
        assert request.suffix is None
        assert request.launch.startswith("launch-")


async def test_typed_hyperparameters_change_the_cost_and_are_sent() -> None:
    app = DialogApp(facts())
    async with app.run_test(size=(80, 24)) as pilot:
        app.screen.query_one("#launch-epochs", Input).focus()
        await pilot.press(*"5", "tab", *"8", "tab", *"0.5")
        await until_shown(cast(Any, pilot), "about $12.50 · price of")
        app.screen.query_one("#launch-suffix", Input).focus()
        await pilot.press(*"bank", "enter")
        await until(pilot, lambda: bool(app.answers))
        request = app.answers[0]
        assert isinstance(request, LaunchRequest)
        assert request.hyperparameters == Hyperparameters(5, 8, 0.5)
        assert request.suffix == "bank"


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("epochs", "0", "Epochs: auto, or a whole number from 1 to 50"),
        ("batch", "x", "Batch size: auto, or a whole number"),
        ("rate", "-1", "Learning rate multiplier: auto, or a number above 0"),
        ("seed", "1.5", "Seed: a whole number"),
        ("suffix", "a" * 65, "Suffix: at most 64 characters"),
    ],
)
async def test_a_wrong_value_is_told_and_cannot_be_launched(field: str, typed: str, told: str) -> None:
    app = DialogApp(facts())
    async with app.run_test(size=(80, 24)) as pilot:
        app.screen.query_one(f"#launch-{field}", Input).value = typed
        await until_shown(cast(Any, pilot), told)
        app.screen.query_one(f"#launch-{field}", Input).focus()
        await pilot.press("enter")
        assert app.answers == []
        assert app.screen.query_one("#launch-go", Button).disabled


async def test_the_launch_waits_in_the_queue_by_one_key_unless_it_cannot_be() -> None:
    for left in (0, 2):
        app = DialogApp(facts(errors=left))
        async with app.run_test(size=(80, 24)) as pilot:
            app.screen.query_one("#launch-epochs", Input).focus()
            await pilot.press("3", "ctrl+t")
            await pilot.pause()
            queued = [
                one.request.hyperparameters.n_epochs for one in app.answers if isinstance(one, IntoQueue)
            ]
            assert queued == ([] if left else [3])


async def test_escape_sends_nothing() -> None:
    app = DialogApp(facts())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("escape")
        await until(pilot, lambda: bool(app.answers))
        assert app.answers == [None]


async def test_errors_left_block_the_launch_and_say_so() -> None:
    app = DialogApp(facts(errors=3))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(cast(Any, pilot), "3 errors left: they would be refused")
        assert app.screen.query_one("#launch-go", Button).disabled


async def test_personal_data_that_would_be_sent_is_told() -> None:
    app = DialogApp(facts(personal=7))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(cast(Any, pilot), "in 7 messages that would be sent: M on 1 Data masks it")
        assert not app.screen.query_one("#launch-go", Button).disabled


async def test_another_model_is_chosen_and_its_price_shown() -> None:
    app = DialogApp(facts())
    async with app.run_test(size=(80, 24)) as pilot:
        app.screen.query_one("#launch-model").focus()
        await pilot.press("enter", "down", "enter")
        await until_shown(cast(Any, pilot), "unknown: no price is known for this model")
        app.screen.query_one("#launch-go").focus()
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.answers))
        request = app.answers[0]
        assert isinstance(request, LaunchRequest)
        assert request.model == "gpt-4.1-mini"


async def test_names_in_the_dialog_are_not_markup() -> None:
    app = DialogApp(facts(profile=replace(CLOUD, label="[@click=app.quit]x[/] [/nope]"), model="[/m]"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(cast(Any, pilot), "[@click=app.quit]x[/] [/nope]")
        await until_shown(cast(Any, pilot), "[/m]")


def test_lines_of_the_dialog_read_well() -> None:
    local = pricing.estimate(100_000, 240, "base-1", {}, local=True)
    assert cost_line(local, LOCAL, date(2026, 11, 22)).startswith(
        f"free: it trains on this machine · {local.billed_tokens:,} tokens in"
    )
    assert file_line(FileFacts(Path("x.jsonl"), 1, 2_500_000, "c" * 64)).startswith(
        "x.jsonl · 1 conversation · 2.5 MB"
    )
    assert findings_line(1, 0) == "1 error left"
    assert findings_line(0, 0) == "none left"
    past = dates_of(CLOUD, "m", "", date(2027, 1, 7))
    assert past == ["! OpenAI takes no new job from 2027-01-06: that day is past, this one may be refused"]
    assert dates_of(LOCAL, "m", "", date(2027, 1, 7)) == ["none known that touch this job"]


class ScriptedBench(Workbench):
    """The real workbench, whose every endpoint is scripted."""

    def __init__(self, paths: Paths, endpoint: fakes.Endpoint) -> None:
        super().__init__(paths)
        self.endpoint = endpoint
        self.provider = cast(Provider, fakes.ScriptedProvider(endpoint, LOCAL))

    async def connect(self, profile: Profile) -> Provider:
        return (
            self.provider
            if profile.is_local
            else cast(Provider, fakes.ScriptedProvider(self.endpoint, profile))
        )


class LaunchDesk(Desk):
    MODES: ClassVar[dict[str, Any]] = {"jobs": JobsScreen}
    DEFAULT_MODE = "jobs"
    CSS_PATH = STYLES


@pytest.fixture
def bench(paths: Paths) -> Iterator[ScriptedBench]:
    bench = ScriptedBench(paths, fakes.Endpoint())
    yield bench
    asyncio.run(bench.close())


def banking(folder: Path, rows: int = 12) -> Path:
    path = folder / "small.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n} about my card number {n * 37}"},
                {"role": "assistant", "content": f"Answer {n}: it is on its way, {n * 91}."},
            ]
        }
        for n in range(rows)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


async def test_one_key_splits_asks_uploads_and_follows_the_one_job(
    bench: ScriptedBench, tmp_path: Path
) -> None:
    workspace = bench.import_file(banking(tmp_path)).workspace
    app = LaunchDesk(lambda: bench, ["small"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workbench is not None)
        app.model = "base-1"
        app.work(ask_and_launch(app, bench, workspace), name="launching")
        await until_shown(pilot, "Launch a fine-tuning job")
        await until_shown(pilot, "free: it trains on this machine")
        await pilot.press("enter")
        await until_shown(pilot, "launched: job ftjob-1")
        await until_shown(pilot, "… queued")
        screen = cast(JobsScreen, app.screen)
        await until(pilot, lambda: screen.view.job is not None and screen.view.job.id == "ftjob-1")
        calls = bench.provider.endpoint.calls  # type: ignore[attr-defined]
        assert calls.count("create_job") == 1
        assert calls.count("upload") == 2


async def test_what_is_put_in_the_queue_waits_there_with_its_cost_and_sends_nothing(
    bench: ScriptedBench, tmp_path: Path
) -> None:
    workspace = bench.import_file(banking(tmp_path)).workspace
    app = LaunchDesk(lambda: bench, ["small"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workbench is not None)
        app.profile, app.model = "openai", "gpt-4.1-2025-04-14"
        app.work(ask_and_launch(app, bench, workspace), name="launching")
        await until_shown(pilot, "Put in the queue")
        await pilot.press("ctrl+t")
        await until_shown(pilot, "in the queue, 1 waiting · Q on 2 Jobs shows it: space there")
        (place,) = bench.store.queue()
        assert (place.profile, place.model, place.state) == ("openai", "gpt-4.1-2025-04-14", "waiting")
        assert place.validation.endswith("validation.jsonl")
        assert (place.usd or 0) > 0
        assert bench.endpoint.calls == []


async def test_a_closed_provider_is_left_for_this_machine_by_one_key() -> None:
    app = DialogApp(facts(today=date(2027, 1, 7)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "no new job there since 2027-01-06: Enter trains it here instead")
        await pilot.press("enter")
        assert app.answers == [TrainHere()]


async def test_a_refusal_for_good_offers_this_machine_and_the_same_again_is_no_second_job(
    bench: ScriptedBench, tmp_path: Path
) -> None:
    workspace = bench.import_file(banking(tmp_path)).workspace
    app = LaunchDesk(lambda: bench, ["small"])
    endpoint = bench.endpoint
    (bench.paths.config / "profiles.toml").write_text('[openai]\ncloses = ""\n')
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workbench is not None)
        app.profile, app.model = "openai", ""
        endpoint.lose("create_job", ProviderError("no training", status=403, code=CLOSED), carried_out=False)
        app.work(ask_and_launch(app, bench, workspace), name="launching")
        await until_shown(pilot, "OpenAI")
        await pilot.press("enter")
        await until_shown(pilot, "Train it on this machine instead?")
        await pilot.press("enter")
        await until_shown(pilot, "free: it trains on this machine")
        await pilot.press("enter")
        await until_shown(pilot, "launched: job ftjob-1")
        app.profile, app.model = "local", ""
        app.work(ask_and_launch(app, bench, workspace), name="launching")
        await until_shown(pilot, "free: it trains on this machine")
        await pilot.press("enter")
        await until_shown(pilot, "are job ftjob-1. Launch another")
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, ModalScreen))
        assert list(endpoint.jobs) == ["ftjob-1"]


async def test_a_launch_called_off_sends_nothing(bench: ScriptedBench, tmp_path: Path) -> None:
    workspace = bench.import_file(banking(tmp_path)).workspace
    app = LaunchDesk(lambda: bench, ["small"])
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.workbench is not None)
        app.work(ask_and_launch(app, bench, workspace), name="launching")
        await until_shown(pilot, "Launch a fine-tuning job")
        await pilot.press("escape")
        await until_shown(pilot, "nothing was sent")
        assert bench.provider.endpoint.calls == []  # type: ignore[attr-defined]
