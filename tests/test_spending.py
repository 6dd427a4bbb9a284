"""Counts, estimates, the budget that refuses, and the ledger that remembers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_model
from tests.fakes import Endpoint, ScriptedProvider, no_pause
from tunedesk.config import LOCAL, Profile
from tunedesk.core.counting.pricing import load_prices, notes
from tunedesk.core.counting.tokens import TokenCounter, stats_of
from tunedesk.core.editing import edits
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters, MetricPoint
from tunedesk.errors import DataError, UsageError
from tunedesk.jobs import LaunchRequest
from tunedesk.paths import Paths
from tunedesk.spending import Budget, Guard, Spending
from tunedesk.store import Quote
from tunedesk.workbench import Workbench

MODEL = "gpt-4.1-mini-2025-04-14"
CLOUD = Profile(name="cloud", base_url="https://cloud.test/v1", label="Cloud", closes="2027-01-06")
HERE = Profile(name=LOCAL, base_url="")


def conversation(n: int) -> dict[str, object]:
    messages = [{"role": "system", "content": "You are a bank."}]
    for turn in range(n % 4 + 1):
        messages += [
            {"role": "user", "content": f"Question {turn} of {n}"},
            {"role": "assistant", "content": "Answer. " * (turn + 1)},
        ]
    return {"messages": messages}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(conversation(n)) + "\n" for n in range(40)))
    return path


@pytest.fixture
def bench(paths: Paths) -> Workbench:
    return Workbench(paths)


def quote(usd: float | None) -> Quote:
    return Quote(10, 1_000, 1, 1_000, usd, usd, usd, 5.0)


def job(name: str, model: str = MODEL, **more: object) -> FineTuningJob:
    base = FineTuningJob(id=name, status="succeeded", model=model, created_at=100, finished_at=160)
    return replace(base, **more)  # type: ignore[arg-type]


# --- counting


def test_a_workspace_counts_as_its_rows_do_and_reopened_not_at_all(bench: Workbench, file: Path) -> None:
    workspace = bench.import_file(file, name="cards").workspace
    counts = bench.count(workspace, MODEL)
    counter = bench.counting.counter(MODEL)
    rows = [row for _, row in workspace.included()]
    assert list(counts.per_row) == [counter.row(row) for row in rows]
    assert counts.stats == stats_of(list(counts.per_row), sum(map(counter.trained, rows)), counter.limit)
    told: list[int] = []
    again = Workbench(bench.paths)
    assert again.count(again.open("cards"), MODEL, lambda *one: told.append(1)).per_row == counts.per_row
    assert told == []
    assert "tiktoken" not in vars(again.counting.counter(MODEL))  # 70 MB that nothing is counted with


def test_counts_follow_edits_exclusions_and_the_query(bench: Workbench, file: Path) -> None:
    workspace = bench.import_file(file, name="cards").workspace
    whole = bench.count(workspace, MODEL)
    workspace = workspace.apply(edits.exclude([0, 1])).apply(edits.set_system_prompt(None, ""))
    fewer = bench.count(workspace, MODEL)
    assert fewer.stats.conversations == 38
    assert fewer.spread is not None
    assert fewer.spread.system == 0
    counter = bench.counting.counter(MODEL)
    assert fewer.stats.total == sum(counter.row(row) for _, row in workspace.included()) < whole.stats.total
    shown = bench.counting.shown(workspace.with_query("turns>6"), fewer)
    assert 0 < shown.stats.conversations < 38


def test_a_file_counts_as_the_workspace_of_it(bench: Workbench, file: Path, tmp_path: Path) -> None:
    counts = bench.count(bench.load(file).workspace, MODEL)
    assert bench.counting.file(file, MODEL) == counts.stats
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\n{broken\n[]\n")
    assert bench.counting.file(marked, MODEL) == counts.stats
    with pytest.raises(DataError, match="cannot read"):
        bench.counting.file(tmp_path / "none", MODEL)


def test_a_model_on_this_machine_counts_by_its_own_tokenizer_once_it_is_there(
    bench: Workbench, file: Path
) -> None:
    counting = bench.counting
    assert counting.counter("tiny").encoding.note
    tiny_model.build(bench.paths.engine / "models" / "tiny")
    for name in ("tiny", "ft:tiny:me:x:abc"):
        assert not counting.counter(name).encoding.note
        assert counting.counter(name).limit == 512
    workspace = bench.load(file).workspace.apply(edits.set_system_prompt(None, "Be kind."))
    counts = bench.count(workspace, "tiny")
    assert list(counts.per_row) == [counting.counter("tiny").row(row) for _, row in workspace.included()]
    assert not isinstance(counting.counter("tiny"), TokenCounter)


def test_savings_and_trims_go_together(bench: Workbench, file: Path) -> None:
    workspace = bench.import_file(file, name="cards").workspace
    before = bench.count(workspace, MODEL)
    (one, three) = bench.counting.savings(workspace, MODEL, (1, 3))
    assert one.saved > three.saved > 0
    shorter = bench.trim(workspace, 1)
    assert before.stats.total - bench.count(shorter, MODEL).stats.total == one.saved
    assert bench.undo(shorter).row(3) == workspace.row(3)
    (part,) = bench.counting.savings(workspace, MODEL, (1,), rows=[0, 3])
    assert part.conversations == 1


def test_trimming_to_the_limit_brings_rows_under_it_in_one_edit(bench: Workbench, file: Path) -> None:
    workspace = bench.import_file(file, name="cards").workspace.apply(edits.exclude([3]))
    counts = bench.count(workspace, MODEL)
    longest = counts.stats.maximum
    lower = replace(counts, stats=replace(counts.stats, limit=longest - 1))
    trimmed = bench.trim_to_limit(workspace, lower)
    assert bench.count(trimmed, MODEL).stats.maximum < longest
    assert trimmed.row(3) == workspace.row(3)
    assert len(trimmed.history) == len(workspace.history) + 1
    assert bench.trim_to_limit(workspace, counts) is workspace


# --- the budget


def test_without_a_budget_everything_may_be_launched(bench: Workbench) -> None:
    bench.spending.afford(quote(1e6), MODEL)
    bench.spending.afford(quote(None), MODEL)


def test_a_launch_above_the_budget_is_refused_with_the_number(bench: Workbench) -> None:
    bench.spending.set_budget(Budget(per_launch=5))
    with pytest.raises(UsageError, match=r"\$5\.01, above the budget of \$5\.00 a launch"):
        bench.spending.afford(quote(5.01), MODEL)
    bench.spending.afford(quote(5.0), MODEL)
    bench.spending.afford(quote(0), MODEL)
    with pytest.raises(UsageError, match=r"above the budget of \$3\.00"):
        bench.spending.afford(quote(4), MODEL, per_launch=3)
    with pytest.raises(UsageError, match="price of mystery is unknown"):
        bench.spending.afford(quote(None), "mystery")


def test_a_budget_that_cannot_be_is_refused(bench: Workbench) -> None:
    with pytest.raises(UsageError, match="negative"):
        bench.spending.set_budget(Budget(per_month=-1))
    (bench.paths.config / "budget.toml").write_text("per_year = 1")
    with pytest.raises(UsageError, match=r"budget\.toml"):
        bench.spending.budget()


async def launched(bench: Workbench, endpoint: Endpoint, file: Path, epochs: int = 1) -> str:
    bench.use(ScriptedProvider(endpoint, CLOUD))
    service = await bench.jobs(CLOUD)
    service._pause = no_pause
    request = LaunchRequest(MODEL, file, hyperparameters=Hyperparameters(n_epochs=epochs))
    return (await service.launch(request)).job or ""


async def test_every_launch_is_estimated_and_its_outcome_kept(bench: Workbench, file: Path) -> None:
    endpoint = Endpoint()
    name = await launched(bench, endpoint, file, epochs=2)
    entry = bench.spending.outcome(name)
    tokens = bench.counting.file(file, MODEL).billed_per_epoch
    assert entry is not None
    assert entry.estimated_tokens == 2 * tokens
    assert entry.estimated_usd == pytest.approx(2 * tokens * 5 / 1e6)
    assert (entry.actual_tokens, entry.actual_usd) == (None, None)
    bench.store.save_jobs("cloud", [job(name, trained_tokens=2 * tokens + 100)])
    entry = bench.spending.outcome(name)
    assert entry is not None
    assert entry.actual_tokens == 2 * tokens + 100
    assert entry.actual_usd == pytest.approx((2 * tokens + 100) * 5 / 1e6)
    assert entry.actual_seconds == 60
    assert bench.spending.outcome("none") is None
    await bench.close()


async def test_the_month_is_held_over_all_launches_and_nothing_is_sent_above_it(
    bench: Workbench, file: Path
) -> None:
    endpoint = Endpoint()
    name = await launched(bench, endpoint, file)
    first = bench.spending.outcome(name)
    assert first is not None
    assert first.high_usd is not None
    assert bench.spending.spent() == first.high_usd
    bench.spending.set_budget(Budget(per_month=first.high_usd * 1.5))
    calls = len(endpoint.calls)
    with pytest.raises(UsageError, match="a month"):
        await launched(bench, endpoint, file)
    assert len(endpoint.calls) == calls
    assert len(bench.spending.ledger()) == 1
    bench.store.save_jobs("cloud", [job(name, status="cancelled")])
    assert bench.spending.spent() == 0
    await launched(bench, endpoint, file)
    await bench.close()


async def test_two_launches_at_once_cannot_pass_the_month_together(bench: Workbench, file: Path) -> None:
    bench.use(ScriptedProvider(Endpoint(), CLOUD))
    files = [file.with_name(f"{name}.jsonl") for name in "abc"]
    for number, one in enumerate(files):
        one.write_bytes(file.read_bytes() + b"\n" * number)
    high = bench.spending.quote(file, MODEL, CLOUD, 1).high
    assert high
    bench.spending.set_budget(Budget(per_month=high * 1.5))
    service = await bench.jobs(CLOUD)
    asked = threading.Barrier(3)

    class Slow(Guard):
        def quote(self, request: LaunchRequest) -> Quote:
            quote = super().quote(request)
            asked.wait(10)
            return quote

    service._budget = Slow(bench.spending, CLOUD)
    with ThreadPoolExecutor(3) as pool:
        one_epoch = Hyperparameters(n_epochs=1)
        requests = [LaunchRequest(MODEL, one, hyperparameters=one_epoch) for one in files]
        futures = [pool.submit(service.prepare, request) for request in requests]
        failed = [error for one in futures if (error := one.exception())]
    assert len(failed) == 2
    assert [type(error) for error in failed] == [UsageError, UsageError], failed
    assert all("a month" in str(error) for error in failed)
    assert len(bench.store.launches()) == 1
    await bench.close()


async def test_last_month_does_not_count(bench: Workbench, file: Path) -> None:
    await launched(bench, Endpoint(), file)
    later = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    other = Spending(bench.paths, lambda: bench.store, lambda: bench.prices, bench.counting, lambda: later)
    assert other.spent() == 0 < bench.spending.spent()
    await bench.close()


# --- time and prices


def test_time_on_this_machine_comes_from_its_latest_job(bench: Workbench) -> None:
    spending, store = bench.spending, bench.store
    stats = stats_of([1_000] * 20, 10, 8_192)
    assert spending.estimate(stats, "tiny", HERE, 2).seconds is None
    store.save_jobs(LOCAL, [job("a", "tiny", trained_tokens=6_000)])
    assert spending.speed("tiny") == 100
    points = [MetricPoint(1, total_steps=60, at=110), MetricPoint(31, total_steps=60, at=125)]
    store.save_points(LOCAL, "a", points)
    assert spending.speed("ft:tiny:me:x:abc") == pytest.approx(200)
    found = spending.estimate(stats, "Tiny", HERE, 2)
    assert found.seconds == pytest.approx(200)
    assert found.usd == 0
    assert spending.speed("other") is None
    bench.store.close()


async def test_a_measurement_tells_the_time_until_a_job_has(bench: Workbench) -> None:
    class Engine(ScriptedProvider):
        async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
            assert (what, body) == ("speed", {"model": "tiny", "rows": [{"messages": []}]})
            return {"tokens_per_second": 50.0}

    stats = stats_of([1_000] * 20, 10, 8_192)
    assert await bench.spending.measure(Engine(Endpoint(), HERE), "tiny", [{"messages": []}]) == 50
    found = Workbench(bench.paths).spending.estimate(stats, "ft:Tiny:me:x:abc", HERE, 2)
    assert found.seconds == pytest.approx(800)
    assert found.measured == f"a measurement of {bench.spending.today()}"
    bench.store.save_jobs(LOCAL, [job("a", "tiny", trained_tokens=6_000)])
    found = bench.spending.estimate(stats, "tiny", HERE, 2)
    assert found.seconds == pytest.approx(400)
    assert found.measured == "the latest job of the model"
    bench.store.close()


def test_a_measurement_trains_on_rows_from_all_over_the_dataset(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({**conversation(n), "metadata": {"n": n}}) + "\n" for n in range(400)))
    workspace = bench.load(path).workspace.apply(edits.exclude([0]))
    rows = bench.counting.sample(workspace)
    assert len(rows) == 32
    assert all(list(row) == ["messages"] for row in rows)
    assert "of 12" in rows[0]["messages"][1]["content"]
    assert "of 384" in rows[-1]["messages"][1]["content"]


def test_models_worth_a_look_stand_beside_the_chosen_one(bench: Workbench) -> None:
    known = bench.profiles()
    here = known[LOCAL]
    few = bench.spending.beside(here.default_model, here, known, 100)
    assert few[0] == (here.default_model, here)
    assert (MODEL, known["openai"]) in few
    many = bench.spending.beside(MODEL, known["openai"], known, 1_000_000)
    assert many[0] == (MODEL, known["openai"])
    assert here.default_model not in dict(many)
    assert len(dict(many)) == len(many)


def test_models_stand_side_by_side_with_an_unknown_price_unknown(bench: Workbench) -> None:
    stats = stats_of([1_000] * 200, 10, 8_192)
    found = bench.spending.side_by_side({MODEL: stats, "mystery": stats}, CLOUD, 1)
    assert found[MODEL].usd == pytest.approx(1.0)
    assert found["mystery"].usd is None
    assert bench.spending.estimate(stats, "gpt-3.5-turbo", HERE, 1).usd is None
    bench.spending.set_price("mystery", 0.5)
    assert bench.spending.estimate(stats, "mystery", CLOUD, 1).usd == pytest.approx(0.1)
    bench.spending.set_price("mystery", 2)
    bench.spending.set_price("other", 3)
    prices = load_prices(bench.paths.config / "prices.toml")
    assert (prices["mystery"].training, prices["other"].training) == (2, 3)
    assert prices["mystery"].age(bench.spending.today()) == 0
    for name, price in (('a"b', 1.0), ("", 1.0), ("fine", -1.0)):
        with pytest.raises(UsageError):
            bench.spending.set_price(name, price)


def test_the_age_of_a_price_and_all_ends_are_told(bench: Workbench) -> None:
    price = bench.prices[MODEL]
    told = notes(MODEL, price, CLOUD.closes, "Cloud", date(2026, 11, 22))
    assert told[0] == "price of 2026-10-01, 52 days old"
    assert "stop on 2027-01-14" in told[1]
    assert told[2] == "Cloud takes no new jobs from 2027-01-06"
    assert "has taken no new jobs since" in notes(MODEL, price, CLOUD.closes, "Cloud", date(2027, 2, 1))[2]
    assert bench.spending.notes("mystery", HERE) == []
