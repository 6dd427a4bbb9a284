"""Chats stream, time themselves, keep what came, and say what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.fakes import Endpoint, ScriptedProvider
from tunedesk.chat import ChatSession, Comparison
from tunedesk.config import Profile
from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import ProviderError, UsageError
from tunedesk.providers.replies import Reply, Sampling
from tunedesk.store import Store

WHOLE: list[ChatDelta | ProviderError] = [
    ChatDelta("Hel", system_fingerprint="fp"),
    ChatDelta("lo"),
    ChatDelta(finish_reason="stop"),
    ChatDelta(usage=Usage(9, 5)),
]
BROKEN = ProviderError("the connection broke", retryable=True, code="broken")


def provider(**answers: list[ChatDelta | ProviderError]) -> ScriptedProvider:
    return ScriptedProvider(Endpoint(replies={name: lambda _m, a=a: a for name, a in answers.items()}))  # type: ignore[misc]


async def said(session: ChatSession, text: str) -> str:
    return "".join([delta.text async for delta in session.say(text)])


async def test_an_answer_streams_is_timed_and_kept(store: Store) -> None:
    session = ChatSession(provider(m=WHOLE), "m", system="Be kind.", store=store)
    assert await said(session, "Hi  there") == "Hello"
    reply = session.reply
    assert reply is not None
    assert (reply.text, reply.usage, reply.system_fingerprint, reply.error) == (
        "Hello",
        Usage(9, 5),
        "fp",
        "",
    )
    assert reply.first_token_s is not None
    assert 0 <= reply.first_token_s <= reply.total_s
    assert session.chat is not None
    turns = store.chat_turns(session.chat)
    assert [(t.role, t.text) for t in turns] == [
        ("system", "Be kind."),
        ("user", "Hi  there"),
        ("assistant", "Hello"),
    ]
    assert (turns[2].model, turns[2].profile, turns[2].completion_tokens, turns[2].system_fingerprint) == (
        "m", "cloud", 5, "fp",
    )  # fmt: skip
    assert store.chats()[0].title == "Hi there"


async def test_the_model_is_given_the_system_prompt_and_all_that_was_said() -> None:
    asked: list[list[dict[str, str]]] = []

    def answer(messages: list[dict[str, str]]) -> list[ChatDelta | ProviderError]:
        asked.append(messages)
        return WHOLE

    session = ChatSession(ScriptedProvider(Endpoint(replies={"m": answer})), "m", system="Be kind.")
    await said(session, "one")
    await said(session, "two")
    assert [(m["role"], m["content"]) for m in asked[1]] == [
        ("system", "Be kind."), ("user", "one"), ("assistant", "Hello"), ("user", "two"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "given", "asked"),
    [("local", None, 0.2), ("local", 0.0, 0.0), ("cloud", None, None), ("cloud", 1.5, 1.5)],
)
async def test_a_model_on_this_machine_is_not_drawn_from_at_the_temperature_of_the_api(
    monkeypatch: pytest.MonkeyPatch, where: str, given: float | None, asked: float | None
) -> None:
    scripted = provider(m=WHOLE)
    temperatures: list[float | None] = []
    scripted.profile = Profile(where, "http://127.0.0.1:1/v1")
    chat = scripted.chat

    def noted(*arguments: Any, temperature: float | None, **named: Any) -> AsyncIterator[ChatDelta]:
        temperatures.append(temperature)
        return chat(*arguments, temperature=temperature, **named)

    monkeypatch.setattr(scripted, "chat", noted)
    await said(ChatSession(scripted, "m", sampling=Sampling(given)), "hi")
    assert temperatures == [asked]


async def test_a_cut_answer_keeps_its_text_and_says_so(store: Store) -> None:
    session = ChatSession(provider(m=[ChatDelta("Hel"), BROKEN]), "m", store=store)
    assert await said(session, "hi") == "Hel"
    assert session.reply is not None
    assert "cut: the connection broke" in session.reply.error
    assert session.chat is not None
    assert "cut" in store.chat_turns(session.chat)[-1].error


async def test_an_answer_without_its_closing_mark_and_one_at_its_limit_say_so() -> None:
    for last, words in ((ChatDelta("x"), "closing mark"), (ChatDelta(finish_reason="length"), "token limit")):
        session = ChatSession(provider(m=[ChatDelta("Hel"), last]), "m")
        await said(session, "hi")
        assert session.reply is not None
        assert words in session.reply.error


async def test_when_nothing_came_the_words_are_taken_back_and_can_be_said_again() -> None:
    endpoint = Endpoint(replies={"m": lambda _m: [BROKEN]})
    session = ChatSession(ScriptedProvider(endpoint), "m")
    with pytest.raises(ProviderError):
        await said(session, "hi")
    assert session.messages == []
    endpoint.replies["m"] = lambda _m: WHOLE
    await said(session, "hi")
    assert len(session.messages) == 2


async def test_an_answer_that_the_user_stops_is_kept_as_far_as_it_came(store: Store) -> None:
    session = ChatSession(provider(m=WHOLE), "m", store=store)
    async with aclosing(session.say("hi")) as deltas:
        async for _ in deltas:
            break
    assert session.messages[-1]["content"] == "Hel"
    assert session.chat is not None
    assert store.chat_turns(session.chat)[-1].error == "the answer was stopped"


async def test_a_comparison_streams_side_by_side_and_one_failure_stops_no_other() -> None:
    slow: asyncio.Event = asyncio.Event()
    shared = provider(base=WHOLE, tuned=[ChatDelta("Good day", finish_reason="stop")], gone=[BROKEN])
    comparison = Comparison([ChatSession(shared, name) for name in ("base", "tuned", "gone")])
    order = []
    async for name, delta in comparison.say("hi"):
        order.append(name)
        if delta.text == "Good day":
            slow.set()
    assert slow.is_set()
    assert order.index("tuned") < len(order) - 1, "the second stream must not wait for the end of the first"
    replies = comparison.replies
    assert {name: reply.text if reply else None for name, reply in replies.items()} == {
        "base": "Hello", "tuned": "Good day", "gone": "",
    }  # fmt: skip
    assert comparison.errors == {"gone": BROKEN}


async def test_a_comparison_that_is_left_stops_its_streams() -> None:
    shared = provider(base=WHOLE, tuned=WHOLE)
    comparison = Comparison([ChatSession(shared, "base"), ChatSession(shared, "tuned")])
    async with aclosing(comparison.say("hi")) as deltas:
        async for _ in deltas:
            break
    assert len(asyncio.all_tasks()) == 1


def test_a_comparison_needs_each_session_under_its_own_name() -> None:
    shared = provider(m=WHOLE)
    with pytest.raises(UsageError, match="twice"):
        Comparison([ChatSession(shared, "m"), ChatSession(shared, "m")])
    Comparison([ChatSession(shared, "m", name="here"), ChatSession(shared, "m", name="there")])


def test_speed_is_told_only_when_it_can_be() -> None:
    assert Reply("m", usage=Usage(1, 11), first_token_s=1.0, total_s=3.0).tokens_per_second == 5.0
    assert Reply("m", usage=None, first_token_s=1.0, total_s=3.0).tokens_per_second is None
    assert Reply("m", usage=Usage(1, 1), first_token_s=1.0, total_s=1.0).tokens_per_second is None
