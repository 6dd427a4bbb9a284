"""A judge that is blind, asked in both orders, counted honestly, paid for in the ledger, and never steered by data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider
from tests.test_evaluate import ITEMS, reply
from tunedesk.cli import main
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import ProviderError
from tunedesk.evaluate import CompareResult, Judgement, compare, judge, judged, questions, write_report
from tunedesk.evaluate.judging import read_verdict
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

Says = Callable[[str, str], str]
"""From answers A and B to the judge's words."""
CLOUD = Profile("cloud", "https://cloud.test/v1")


def court(says: Says) -> Endpoint:
    def verdict(messages: list[dict[str, Any]]) -> list[ChatDelta | ProviderError]:
        asked = messages[-1]["content"]
        a, b = (asked.split(f"<<< {name}\n")[1].split(f"\n{name} >>>")[0] for name in "AB")
        return reply(says(a, b))

    answers = {"base": "I do not know.", "tuned": "Thank you for writing to Oak. — Ann, Oak"}
    replies = {name: lambda _m, t=text: reply(t) for name, text in answers.items()}
    return Endpoint(replies={**replies, "judge": verdict})


async def ruled(says: Says) -> tuple[CompareResult, Judgement, Endpoint]:
    endpoint = court(says)
    provider = ScriptedProvider(endpoint, CLOUD)
    result = await compare([(provider, "base"), (provider, "tuned")], ITEMS)
    return result, await judge(provider, "judge", result), endpoint


def fair(a: str, _b: str) -> str:
    return f"Reasons.\nVERDICT: {'A' if 'Ann' in a else 'B'}"


async def test_the_better_answer_wins_in_whichever_place_it_stands() -> None:
    result, judgement, endpoint = await ruled(fair)
    assert (
        len(judgement.verdicts)
        == 2 * len(ITEMS)
        == len(questions(result))
        == endpoint.calls.count("chat judge")
    )
    rate = judgement.win_rate("tuned")
    assert rate is not None
    assert (rate.mean, rate.low, rate.high) == (1.0, 1.0, 1.0)
    assert judgement.agreement("tuned") == 1.0
    assert judgement.usage == Usage(5 * 2 * len(ITEMS), 20 * 2 * len(ITEMS))


async def test_a_judge_that_only_likes_the_first_place_gives_a_tie_and_is_told_as_unsteady() -> None:
    result, judgement, _ = await ruled(lambda _a, _b: "VERDICT: A")
    rate = judgement.win_rate("tuned")
    assert rate is not None
    assert rate.mean == 0.5
    assert judgement.agreement("tuned") == 0.0
    assert "same verdict in both orders on 0%" in judged(result, judgement)[0]


async def test_ties_count_half_and_what_cannot_be_read_for_nobody() -> None:
    _, judgement, _ = await ruled(lambda a, b: "VERDICT: TIE" if "Ann" in a else "I would rather not say.")
    assert (judgement.ties, judgement.invalid) == (len(ITEMS), len(ITEMS))
    rate = judgement.win_rate("tuned")
    assert rate is not None
    assert rate.mean == 0.5
    assert judgement.agreement("tuned") is None
    result, nothing, _ = await ruled(lambda _a, _b: "")
    assert nothing.win_rate("tuned") is None
    assert "gave no verdict on tuned" in judged(result, nothing)[0]


async def test_the_judge_sees_no_name_and_the_people_s_answer() -> None:
    seen: list[list[dict[str, Any]]] = []
    endpoint = court(fair)
    honest = endpoint.replies["judge"]

    def watched(messages: list[dict[str, Any]]) -> list[ChatDelta | ProviderError]:
        seen.append(messages)
        return honest(messages)

    endpoint.replies["judge"] = watched
    provider = ScriptedProvider(endpoint, CLOUD)
    await judge(provider, "judge", await compare([(provider, "base"), (provider, "tuned")], ITEMS))
    for messages in seen:
        text = json.dumps(messages)
        assert "tuned" not in text
        assert "base" not in text
        assert "Next step" in text


async def test_a_question_that_fails_is_an_invalid_verdict_and_a_wrong_key_ends_it() -> None:
    endpoint = court(fair)
    provider = ScriptedProvider(endpoint, CLOUD)
    result = await compare([(provider, "base"), (provider, "tuned")], ITEMS)
    endpoint.replies["judge"] = lambda _m: [ProviderError("too busy", retryable=True, status=503)]
    judgement = await judge(provider, "judge", result)
    assert judgement.invalid == 2 * len(ITEMS)
    assert judgement.verdicts[0].words == "too busy"
    endpoint.replies["judge"] = lambda _m: [ProviderError("no such key", status=401)]
    with pytest.raises(ProviderError, match="no such key"):
        await judge(provider, "judge", result)


@pytest.mark.parametrize(
    ("words", "verdict"),
    [("VERDICT: A", "a"), ("**Verdict:** B", "b"), ("verdict - tie", "tie"), ("VERDICT: A TIE", "tie"), ("b.", "b"),
     ("VERDICT: A\nno wait\nVERDICT: B", "b"), ("A is better", None), ("", None), ("VERDICT: C", None),
     ("VERDICT: about even", None)],
)  # fmt: skip
def test_a_verdict_is_read_only_where_it_is_one(words: str, verdict: str | None) -> None:
    assert read_verdict(words) == verdict


async def test_the_report_says_how_it_was_judged_and_shows_each_verdict(tmp_path: Path) -> None:
    result, judgement, _ = await ruled(lambda a, b: "<script>x</script> VERDICT: A")
    path = tmp_path / "report.html"
    write_report(result, path, judgement=judgement)
    page = path.read_text()
    assert "twice, once in each order" in page
    assert "VERDICT: TIE" in page
    assert "base as A" in page
    assert "<script>" not in page


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> Endpoint:
    endpoint = court(fair)

    async def connect(_bench: Workbench, profile: Profile) -> ScriptedProvider:
        return ScriptedProvider(endpoint, profile)

    monkeypatch.setattr(Workbench, "connect", connect)
    (paths.config / "prices.toml").write_text(
        '[[model]]\nprefix = "judge"\ntraining = 1.0\nbase_input = 2.0\nbase_output = 10.0\nas_of = "2026-11-01"\n'
    )
    return endpoint


def test_compare_with_a_judge_tells_its_win_rate_and_what_it_cost(
    bench: Endpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = tmp_path / "held_out.jsonl"
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello, it is Ann."}]
    rows.write_text("".join(json.dumps({"messages": said}) + "\n" for _ in range(5)))
    asked = [
        "compare",
        "base",
        "tuned",
        "--on",
        str(rows),
        "-o",
        str(tmp_path / "r.html"),
        "--provider",
        "openai",
    ]
    assert main([*asked, "--judge", "judge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["win_rate"] == {"model": "tuned", "rate": 1.0, "low": 1.0, "high": 1.0}
    assert (told["judging"]["verdicts"], told["judging"]["invalid"]) == (10, 0)
    assert told["judging"]["usd"] == pytest.approx((50 * 2.0 + 200 * 10.0) / 1e6)
    assert main(["ledger", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["status"], entry["model"], entry["actual_tokens"]) == ("judging", "judge", 250)
    assert entry["actual_usd"] == pytest.approx(0.0021)
    assert main([*asked, "--judge", "judge"]) == 0
    assert "judging cost $0.0021" in capsys.readouterr().out
    assert main(["compare", "base", "--on", str(rows), "--judge", "judge"]) == 2
    assert main([*asked, "--judge-provider", "local"]) == 2
    assert bench.calls
