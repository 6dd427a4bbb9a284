"""Comparing models: measures that can be checked by hand, and a report that no text can break out of."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider
from tunedesk.config import LOCAL, Profile
from tunedesk.core.conversations import Conversation, Message
from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import DataError, ProviderError, StoreError, UsageError
from tunedesk.evaluate import Answer, CompareResult, compare, summary, win_rate, write_report
from tunedesk.evaluate.scores import chrf, follows, house_share, interval, learn_rules

NASTY = "<script>alert(1)</script><img src=x onerror=y>&\"'\x1b]52;c;aGk=\x07\u202e</style>"


def reference(number: int) -> str:
    return (
        f"Hello, thank you for writing to Oak. Matter {number} is noted.\n\nNext step: call us.\n\n— Ann, Oak"
    )


def conversation(number: int, *, second: bool = False) -> Conversation:
    messages = [Message(role="system", content="Be Ann."), Message(role="user", content=f"question {number}")]
    if second:
        messages += [
            Message(role="assistant", content="Which?", weight=0),
            Message(role="user", content="that"),
        ]
    answer = reference(number) if not second else f"Thanks, {number}.\n\nNext step: wait.\n\n— Ann, Oak"
    return Conversation(
        messages=(*messages, Message(role="assistant", content=answer)), metadata={"intent": "x"}
    )


ITEMS = [conversation(n) for n in range(6)] + [conversation(9, second=True)]


def reply(text: str) -> list[ChatDelta | ProviderError]:
    return [
        ChatDelta(text, system_fingerprint="fp"),
        ChatDelta(finish_reason="stop"),
        ChatDelta(usage=Usage(5, 20)),
    ]


def endpoint(**texts: str) -> Endpoint:
    return Endpoint(replies={name: lambda _m, t=t: reply(t) for name, t in texts.items()})  # type: ignore[misc]


async def compared(known: list[Answer] | None = None, **texts: str) -> CompareResult:
    provider = ScriptedProvider(endpoint(**texts))
    return await compare([(provider, name) for name in texts], ITEMS, known=known or ())


def test_chrf_agrees_with_values_worked_out_by_hand() -> None:
    assert chrf("the cat", "the cat") == 100.0
    assert chrf("xyz", "abc") == 0.0
    assert chrf("", "abc") == 0.0
    # "ab" against "abc": precision 1 and 1, recall 2/3 and 1/2 over the two orders that both have
    assert chrf("ab", "abc") == pytest.approx(100 * 5 * 1 * (7 / 12) / (4 * 1 + 7 / 12))
    assert chrf("a b", "ab") == 100.0


def test_house_lines_are_learnt_from_what_the_references_share() -> None:
    texts = [reference(n) for n in range(5)]
    rules = {rule.kind: rule for rule in learn_rules(texts, texts)}
    assert rules["opening"].text == "Hello, thank you for writing to Oak. Matter"
    assert rules["closing"].text == "— Ann, Oak"
    assert rules["label"].text == "Next step"
    assert rules["label"].share == 1.0


def test_lines_of_fewer_than_six_in_ten_are_no_house_style() -> None:
    texts = [reference(n) for n in range(5)] + [
        "Something else entirely.",
        "And another one.",
        "No.",
        "Never so.",
    ]
    assert learn_rules(texts, texts) == []
    assert learn_rules(texts[:2], texts[:2]) == []


def test_a_rule_is_asked_only_where_the_reference_follows_it() -> None:
    rules = learn_rules([reference(n) for n in range(5)], [reference(n) for n in range(5)])
    assert house_share(reference(7), reference(8), rules) == 1.0
    assert house_share("hello", reference(8), rules) == 0.0
    assert house_share("ok\n\n— ann,  OAK", "Sure.\n\n— Ann, Oak", rules) == 1.0
    assert house_share("anything", "nothing of it", rules) is None
    assert follows("**Next step:** call", next(rule for rule in rules if rule.kind == "label"))


def test_an_interval_holds_its_mean_and_is_the_same_each_time() -> None:
    values = [float(n % 7) for n in range(40)]
    told = interval(values)
    assert told is not None
    assert told.low < told.mean < told.high
    assert told == interval(values)
    assert interval([]) is None
    single = interval([3.0])
    assert single is not None
    assert (single.low, single.mean, single.high) == (3.0, 3.0, 3.0)


async def test_the_model_nearer_to_the_people_scores_higher_with_a_sure_difference() -> None:
    result = await compared(base="Sorry, I am a language model.", tuned=reference(3))
    base, tuned = result.scores
    assert base.similarity is not None
    assert tuned.similarity is not None
    assert tuned.similarity.mean > 60 > base.similarity.mean
    assert base.house_style is not None
    assert tuned.house_style is not None
    assert (base.house_style.mean, tuned.house_style.mean) == (0.0, 1.0)
    (difference,) = result.differences
    assert difference.similarity is not None
    assert difference.similarity.low > 0
    assert (base.answered, base.failed) == (7, 0)
    assert base.length_ratio is not None
    assert base.length_ratio.mean < 1
    assert result.answer(6, "tuned").system_fingerprint == "fp"


async def test_the_win_rate_counts_whose_answer_is_nearer_and_a_tie_for_half() -> None:
    def answers(nearer: set[int]) -> Any:
        texts = iter(reference(n) if n in nearer else "something else entirely" for n in range(len(ITEMS)))
        return lambda _messages: reply(next(texts))

    there = Endpoint(replies={"base": answers({0}), "tuned": answers(set(range(1, len(ITEMS))))})
    provider = ScriptedProvider(there)
    result = await compare([(provider, "base"), (provider, "tuned")], ITEMS[:4])
    rate = win_rate(result, "tuned")
    assert rate is not None
    assert rate.mean == 0.75
    assert 0.0 <= rate.low <= rate.mean <= rate.high <= 1.0
    tie = win_rate(result, "base")
    assert tie is not None
    assert tie.mean == 0.5


async def test_models_are_asked_without_the_answer_the_weight_or_the_metadata() -> None:
    asked: list[list[dict[str, Any]]] = []
    there = Endpoint(replies={"m": lambda messages: (asked.append(messages), reply("x"))[1]})  # type: ignore[func-returns-value]
    await compare([(ScriptedProvider(there), "m")], [ITEMS[6]])
    assert [m["role"] for m in asked[0]] == ["system", "user", "assistant", "user"]
    assert all(set(m) == {"role", "content"} for m in asked[0])


async def test_a_failed_answer_is_told_and_in_no_mean() -> None:
    busy: list[ChatDelta | ProviderError] = [ProviderError("busy", retryable=True, status=503)]
    answers = iter([busy])
    there = Endpoint(replies={"m": lambda _m: next(answers, reply(reference(1)))})
    result = await compare([(ScriptedProvider(there), "m")], ITEMS)
    (score,) = result.scores
    assert (score.answered, score.failed) == (6, 1)
    assert score.house_style is not None
    assert score.house_style.mean == 1.0
    assert result.answers[0].error == "busy"
    assert "1 without an answer" in "\n".join(summary(result))


async def test_a_wrong_key_ends_it_at_once() -> None:
    there = Endpoint(replies={"m": lambda _m: [ProviderError("no such key", status=401)]})
    with pytest.raises(ProviderError, match="no such key"):
        await compare([(ScriptedProvider(there), "m")], ITEMS)
    assert len(there.calls) < len(ITEMS)


async def test_an_interrupted_comparison_asks_only_for_what_is_missing() -> None:
    kept: list[Answer] = []
    provider = ScriptedProvider(endpoint(m="hello"))
    first = await compare([(provider, "m")], ITEMS, on_answer=kept.append)
    assert len(kept) == 7
    provider.endpoint.calls.clear()
    again = await compare([(provider, "m")], ITEMS, known=kept[:5])
    assert len(provider.endpoint.calls) == 2
    assert [a.text for a in again.answers] == [a.text for a in first.answers]


async def test_the_local_engine_is_asked_one_thing_at_a_time() -> None:
    running, most = 0, 0

    class Watched(ScriptedProvider):
        async def chat(self, *arguments: Any, **options: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            async for delta in super().chat(*arguments, **options):
                yield delta
            running -= 1

    for profile, expected in ((Profile(LOCAL, ""), 1), (None, 4)):
        running = most = 0
        await compare([(Watched(endpoint(m="x"), profile), "m")], ITEMS)
        assert most == expected


async def test_what_cannot_be_compared_is_refused_in_words() -> None:
    provider = ScriptedProvider(endpoint(m="x"))
    with pytest.raises(UsageError):
        await compare([(provider, "m"), (provider, "m")], ITEMS)
    with pytest.raises(DataError):
        await compare([(provider, "m")], [Conversation(messages=(Message(role="user", content="hi"),))])


class Tags(HTMLParser):
    """Collects what a browser would see as elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


async def test_no_text_breaks_out_of_the_report_and_nothing_is_fetched(tmp_path: Path) -> None:
    texts = (
        Message(role="user", content=NASTY),
        Message(role="assistant", content=f"{NASTY}\nNext step: {NASTY}"),
    )
    nasty = Conversation(messages=texts)
    provider = ScriptedProvider(endpoint(**{NASTY: NASTY + "\nNext step: " + NASTY, "other": "x"}))
    result = await compare([(provider, NASTY), (provider, "other")], [nasty] * 3)
    path = tmp_path / "report.html"
    write_report(result, path, title=NASTY)
    page = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "link", "iframe"} & set(tags.tags)
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("src", "href")}
    assert page.count("</style>") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|url\(|@import", page)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", "".join(summary(result)))


async def test_the_report_shows_each_prompt_answer_and_reference_side_by_side(tmp_path: Path) -> None:
    result = await compared(base="Base words here.", tuned="Tuned words here.\n\n— Ann, Oak")
    path = tmp_path / "report.html"
    write_report(result, path)
    page = path.read_text(encoding="utf-8")
    assert page.count("Base words here.") == page.count("Tuned words here.") == 7
    assert "question 5" in page
    assert "Matter 5 is noted." in page
    assert "✓ closing: — Ann, Oak" in page
    assert "✗ label: Next step" in page
    lines = summary(result)
    assert lines[0].startswith("7 held-out prompts, 2 models")
    assert lines[-1].startswith("tuned against base:")


async def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    result = await compared(m="x")
    with pytest.raises(StoreError):
        write_report(result, tmp_path / "no such folder" / "report.html")
