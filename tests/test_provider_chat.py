"""Chat at the SDK's boundary: streams that end well, are cut, garbled, or are no streams."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.fakes import Canned, HttpEndpoint, sse
from tests.http_rig import KEY, PROFILE, client
from tunedesk.core.fine_tuning import ChatDelta, Usage
from tunedesk.errors import ProviderError
from tunedesk.providers.openai_compatible import OpenAICompatible


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, object]:
    delta = {"content": text} if text is not None else {}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "choices": choices, "system_fingerprint": "fp1"}


USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}


async def ask(provider: OpenAICompatible) -> list[ChatDelta]:
    messages = [{"role": "user", "content": "hi"}]
    return [delta async for delta in provider.chat("m", messages, temperature=0.0, max_tokens=5, seed=1)]


async def test_a_chat_is_streamed_with_usage_and_fingerprint_and_store_is_not_sent(
    http: HttpEndpoint,
) -> None:
    body = sse(chunk("Hel"), chunk("lo"), chunk(finish="stop"), USAGE)
    http.answer("POST", "/v1/chat/completions", Canned(body, content_type="text/event-stream"))
    provider = client(http)
    deltas = await ask(provider)
    assert "".join(d.text for d in deltas) == "Hello"
    assert deltas[0].system_fingerprint == "fp1"
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["stop"]
    assert deltas[-1].usage == Usage(9, 2)
    sent = json.loads(http.requests[0].body)
    assert "store" not in sent
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.0, 5, 1)
    await provider.close()


async def test_store_false_is_sent_to_openai_itself(http: HttpEndpoint) -> None:
    http.answer(
        "POST", "/v1/chat/completions", Canned(sse(chunk("x", "stop")), content_type="text/event-stream")
    )
    profile = replace(PROFILE, base_url="https://api.openai.com/v1")
    provider = OpenAICompatible(profile, lambda _: (http.base_url, KEY))
    await ask(provider)
    assert json.loads(http.requests[0].body)["store"] is False
    await provider.close()


async def test_a_cut_stream_gives_what_came_and_then_an_error(http: HttpEndpoint) -> None:
    body = sse(chunk("Hel"), chunk("lo"), done=False)
    http.answer(
        "POST",
        "/v1/chat/completions",
        Canned(body + b"data: {", content_type="text/event-stream", cut=len(body)),
    )
    provider = client(http)
    came: list[str] = []

    async def listen() -> None:
        async for delta in provider.chat("m", [{"role": "user", "content": "hi"}]):
            came.append(delta.text)

    with pytest.raises(ProviderError, match="broke"):
        await listen()
    assert came == ["Hel", "lo"]
    await provider.close()


async def test_an_error_inside_a_stream_is_told_in_its_words(http: HttpEndpoint) -> None:
    body = sse(chunk("a"), {"error": {"message": "out of memory", "code": "oom"}})
    http.answer("POST", "/v1/chat/completions", Canned(body, content_type="text/event-stream"))
    provider = client(http)
    with pytest.raises(ProviderError, match="out of memory"):
        await ask(provider)
    await provider.close()


async def test_a_garbled_stream_is_told(http: HttpEndpoint) -> None:
    http.answer("POST", "/v1/chat/completions", Canned(b"data: {oops\n\n", content_type="text/event-stream"))
    provider = client(http)
    with pytest.raises(ProviderError, match="cannot be read"):
        await ask(provider)
    await provider.close()


async def test_an_endpoint_that_does_not_stream_is_read_whole(http: HttpEndpoint) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    whole = {
        "id": "c", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }  # fmt: skip
    http.answer(
        "POST", "/v1/chat/completions", Canned(whole), Canned(b"<html>", content_type="application/json")
    )
    provider = client(http)
    assert await ask(provider) == [ChatDelta("Hello", "stop", Usage(9, 2))]
    with pytest.raises(ProviderError, match="cannot be read"):
        await ask(provider)
    await provider.close()
