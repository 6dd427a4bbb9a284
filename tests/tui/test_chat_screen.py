"""The Chat screen, driven by keys over a real store and a scripted endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from tests.tui.rig import (
    STYLES,
    Bench,
    Endpoint,
    finished_job,
    frame,
    until,
    until_shown,
)
from tunedesk.core.counting.pricing import Price
from tunedesk.errors import ProviderError
from tunedesk.tui.desk import Desk
from tunedesk.tui.messages import ChatWanted
from tunedesk.tui.screens.chat import ChatScreen, dataset_system_prompt, side_name
from tunedesk.tui.widgets.prompt_box import PromptBox

TUNED = "ft:base-1:local:bank:ob-0"


class ChatDesk(Desk):
    MODES: ClassVar[dict[str, Any]] = {"chat": ChatScreen}
    DEFAULT_MODE = "chat"
    CSS_PATH = STYLES


class Rows:
    """A workspace as far as the Chat screen looks at it."""

    def __init__(self, system_prompt: str, first: dict[str, Any]) -> None:
        self.system_prompt = system_prompt
        self.total = 1
        self._first = first

    def row(self, index: int) -> dict[str, Any]:
        return self._first


@pytest.fixture
def endpoint() -> Endpoint:
    job = finished_job("job-0", fine_tuned_model=TUNED)
    return Endpoint(
        known={job.id: job},
        answers={
            "base-1": "I am a helpful assistant.",
            TUNED: "Good day, this is Harbour Bank. How may I help?",
        },
    )


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Iterator[Bench]:
    bench = Bench(tmp_path, endpoint)
    bench.store.save_jobs("local", endpoint.known.values())
    yield bench
    bench.store.close()


def desk(bench: Bench) -> ChatDesk:
    return ChatDesk(lambda: cast(Any, bench))


def chat(app: Desk) -> ChatScreen:
    return cast(ChatScreen, app.screen)


async def test_base_and_the_newest_tuned_model_answer_side_by_side(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, f"tuned · {TUNED}")
        await until_shown(pilot, "base · base-1")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "I am a helpful assistant.")
        await until_shown(pilot, "Good day, this is Harbour Bank.")
        await until_shown(pilot, "12→5 tokens")
        await until_shown(pilot, "weights fp_base-1")
        await until_shown(pilot, "answered")
        assert [model for model, _ in endpoint.asked] == ["base-1", TUNED]
        assert chat(app).query_one(PromptBox).text == ""


async def test_a_second_message_carries_the_first_turn(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hello", "enter")
        await until(pilot, lambda: len(endpoint.asked) == 2 and not chat(app).answering)
        await pilot.press(*"Again", "enter")
        await until(pilot, lambda: len(endpoint.asked) == 4 and not chat(app).answering)
        base = [messages for model, messages in endpoint.asked if model == "base-1"]
        assert [m["role"] for m in base[1]] == ["user", "assistant", "user"]
        assert base[1][1]["content"] == "I am a helpful assistant."


async def test_turns_are_kept_in_the_store(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "answered")
        kept = [turn for entry in bench.store.chats() for turn in bench.store.chat_turns(entry.id)]
        assert {turn.model for turn in kept if turn.role == "assistant"} == {"base-1", TUNED}
        assert all(turn.system_fingerprint for turn in kept if turn.role == "assistant")


async def test_escape_stops_the_answers_and_keeps_their_text(bench: Bench, endpoint: Endpoint) -> None:
    endpoint.answers["base-1"] = " ".join(f"word{n}" for n in range(500))
    endpoint.pause_s = 0.02
    app = desk(bench)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hi", "enter")
        await until_shown(pilot, "word10")
        await pilot.press("escape")
        await until(pilot, lambda: not chat(app).answering)
        await until_shown(pilot, "stopped; the text so far is kept")
        await until_shown(pilot, "the answer was stopped")
        assert "word10" in frame(app)
        assert "word499" not in frame(app)
        endpoint.answers["base-1"] = "ok"
        await pilot.press(*"More", "enter")
        await until_shown(pilot, "answered")
        last = [messages for model, messages in endpoint.asked if model == "base-1"][-1]
        assert "word10" in last[1]["content"]


async def test_stopping_before_the_first_word_takes_the_question_back(
    bench: Bench, endpoint: Endpoint
) -> None:
    endpoint.pause_s = 30
    app = desk(bench)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hi", "enter")
        await until_shown(pilot, "waiting for the first word")
        await until(pilot, lambda: len(endpoint.asked) == 2)
        await pilot.press("escape")
        await until_shown(pilot, "no answer")
        endpoint.pause_s = 0
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "Harbour Bank")
        assert [m["content"] for m in endpoint.asked[-1][1]] == ["Hello"]


async def test_one_model_that_fails_does_not_stop_the_other(bench: Bench, endpoint: Endpoint) -> None:
    inner = endpoint.chat

    async def chat_(model: str, messages: list[dict[str, Any]], **more: Any) -> Any:
        if model == TUNED:
            raise ProviderError("the model was deleted", "choose another", status=404)
        async for delta in inner(model, messages, **more):
            yield delta

    endpoint.chat = chat_  # type: ignore[method-assign]
    async with desk(bench).run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "I am a helpful assistant.")
        await until_shown(pilot, "✗ the model was deleted")


async def test_an_unreachable_provider_gives_the_words_back(bench: Bench, endpoint: Endpoint) -> None:
    async def refused(profile: Any) -> Any:
        raise ProviderError("no key for OpenAI", "set OPENAI_API_KEY")

    bench.connect = refused  # type: ignore[method-assign]
    app = desk(bench)
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "no key for OpenAI")
        await until_shown(pilot, "set OPENAI_API_KEY")
        assert chat(app).query_one(PromptBox).text == "Hello"


async def test_models_are_picked_from_the_providers_list(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press("escape", "m")
        await until_shown(pilot, "Models side by side")
        await until_shown(pilot, f"[✓] {TUNED}  tuned from base-1")
        await until_shown(pilot, "[ ] base-2")
        await pilot.press("space", "down", "down", "space", "enter")
        await until(pilot, lambda: chat(app).choice.by_hand)
        assert chat(app).choice.models == (TUNED, "base-2")


async def test_no_ticked_model_is_refused_with_a_reason_and_each_tells_when_it_stops(bench: Bench) -> None:
    bench.prices["base-2"] = Price("base-2", 1.0, as_of="2026-11-01", shutdown="2027-01-14")
    async with desk(bench).run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press("ctrl+t")
        await until_shown(pilot, "Models side by side")
        await until_shown(pilot, "base-2  stops on 2027-01-14")
        await until_shown(pilot, f"{TUNED}  tuned from base-1")
        await pilot.press("space", "down", "space", "enter")
        await until_shown(pilot, "tick one to 4 models")


async def test_the_datasets_system_prompt_is_sent_and_can_be_changed(
    bench: Bench, endpoint: Endpoint
) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        app.workspace = cast(Any, Rows("You are Harbour Bank.", {}))
        await until_shown(pilot, "system You are Harbour Bank.")
        await pilot.press("ctrl+g")
        await until_shown(pilot, "System prompt of this chat")
        await pilot.press(*" Be brief.", "ctrl+s")
        await until_shown(pilot, "system You are Harbour Bank. Be brief.")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "answered")
        assert endpoint.asked[0][1][0] == {"role": "system", "content": "You are Harbour Bank. Be brief."}


async def test_ctrl_n_begins_a_new_chat(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "answered")
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "Harbour" not in frame(app))
        await pilot.press(*"Hello", "enter")
        await until_shown(pilot, "answered")
        assert len(endpoint.asked[-1][1]) == 1


async def test_the_jobs_screens_wish_chooses_the_models(bench: Bench) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        app.screen.post_message(ChatWanted("local", ("base-2", "ft:other")))
        await until_shown(pilot, "tuned · ft:other")
        await until_shown(pilot, "base · base-2")


async def test_sending_while_answers_stream_says_why_not(bench: Bench, endpoint: Endpoint) -> None:
    endpoint.pause_s = 0.2
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hi", "enter")
        await until(pilot, lambda: chat(app).answering)
        await pilot.press(*"More", "enter")
        await until_shown(pilot, "answers are still on their way: Esc stops them")
        assert chat(app).query_one(PromptBox).text == "More"
        await pilot.press("escape")
        await until(pilot, lambda: not chat(app).answering)


async def test_answers_are_neither_markup_nor_control(bench: Bench, endpoint: Endpoint) -> None:
    endpoint.answers["base-1"] = "[@click=app.quit]x[/] [/nope] \x1b]52;c;aGk=\x07 \u202eevil"
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press(*"Hi", "enter")
        await until_shown(pilot, "[@click=app.quit]x[/] [/nope] ␛]52")
        assert "\x1b" not in frame(app)
        assert "\u202e" not in frame(app)


async def test_shift_enter_breaks_the_line_and_up_recalls(bench: Bench, endpoint: Endpoint) -> None:
    app = desk(bench)
    async with app.run_test(size=(100, 24)) as pilot:
        await until_shown(pilot, "tuned ·")
        await pilot.press("a", "ctrl+j", "b", "enter")
        await until_shown(pilot, "answered")
        assert endpoint.asked[0][1][-1]["content"] == "a\nb"
        await pilot.press("up")
        assert chat(app).query_one(PromptBox).text == "a\nb"


def test_a_model_is_told_base_or_tuned_by_its_name() -> None:
    assert side_name("ft:base-1:x") == "tuned"
    assert side_name("base-1") == "base"


def test_without_a_prompt_of_its_own_a_dataset_lends_its_first_conversations() -> None:
    row = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]}
    assert dataset_system_prompt(cast(Any, Rows("", row))) == "S"
    assert dataset_system_prompt(cast(Any, Rows("P", row))) == "P"
    assert dataset_system_prompt(cast(Any, Rows("", {"messages": [3]}))) == ""
