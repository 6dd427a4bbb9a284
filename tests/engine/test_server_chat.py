from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.engine.rig import KEY, Rig, engine, eventually
from tests.engine.test_server_jobs import launch
from tunedesk import __version__
from tunedesk.engine.chat_wire import parse_chat_request
from tunedesk.engine.routes.chat import _chunks, _order

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


async def tuned(rig: Rig) -> str:
    job = await launch(rig)
    await rig.until(job.id, "succeeded")
    return rig.state.jobs.get(job.id).model_name


async def test_a_chat_answers_with_text_usage_and_the_name_of_the_weights(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        name = await tuned(rig)
        prints = {}
        for model in ("tiny", name, f"{name}:ckpt-step-2", f"{name}:ckpt-step-4"):
            reply = await client.chat.completions.create(
                model=model,
                messages=HELLO,
                max_tokens=9,
                temperature=0,
                top_p=0.5,
                seed=4,
                stop="END",
                tools=[{"type": "function", "function": {"name": "f"}}],
            )
            assert reply.choices[0].message.content == "Good day."
            assert reply.choices[0].finish_reason == "stop"
            assert reply.model == model
            assert reply.usage is not None
            assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (
                7,
                3,
                10,
            )
            prints[model] = reply.system_fingerprint
        assert len(set(prints.values())) == 3
        assert prints[name] == prints[f"{name}:ckpt-step-4"]  # the same weights
        asked = rig.writer.asked
        assert [order.base for order in asked] == [tmp_path / "more" / "tiny"] * 4
        assert asked[0].adapter is None
        adapters = [order.adapter for order in asked[1:]]
        folder = rig.state.adapter_folder(rig.state.jobs.models()[0]).parent
        assert adapters == [folder / "adapter", folder / "checkpoints/step-2", folder / "checkpoints/step-4"]
        order = asked[0]
        assert (order.max_tokens, order.temperature, order.top_p, order.seed, order.stop) == (
            9,
            0.0,
            0.5,
            4,
            ["END"],
        )
        assert order.tools[0]["function"]["name"] == "f"


async def test_a_streamed_chat_sends_its_pieces_and_the_usage_last(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        stream = await client.chat.completions.create(
            model="TINY", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Good day."
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 10
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[0].system_fingerprint
        plain = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert all(chunk.choices for chunk in [chunk async for chunk in plain])


async def test_as_many_replies_are_written_as_asked_for_each_with_a_seed_of_its_own(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        reply = await client.chat.completions.create(model="tiny", messages=HELLO, n=3, seed=4)
        assert [(one.index, one.message.content) for one in reply.choices] == [
            (n, "Good day.") for n in range(3)
        ]
        assert sorted(order.seed or 0 for order in rig.writer.asked) == [4, 5, 6]
        assert reply.usage is not None
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, 9)
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, n=2, stream=True)
        chunks = [chunk async for chunk in stream]
        for index in (0, 1):
            mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
            assert "".join(one.delta.content or "" for one in mine) == "Good day."
            assert mine[-1].finish_reason == "stop"
        wrong: list[Any] = [{"role": "user", "content": "too long"}]
        with pytest.raises(openai.BadRequestError, match="9000 tokens"):
            await client.chat.completions.create(model="tiny", messages=wrong, n=3)


async def test_what_steers_a_reply_reaches_the_writer_and_chances_come_back(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        steering: dict[str, Any] = {
            "presence_penalty": 0.5,
            "frequency_penalty": -1,
            "logit_bias": {"5": -100},
        }
        reply = await client.chat.completions.create(
            model="tiny", messages=HELLO, logprobs=True, top_logprobs=2, **steering
        )
        order = rig.writer.asked[0]
        assert (order.presence_penalty, order.frequency_penalty, order.logit_bias) == (0.5, -1, {5: -100.0})
        assert order.top_logprobs == 2
        chances = reply.choices[0].logprobs
        assert chances is not None
        assert [one.token for one in chances.content or []] == ["Good ", "day", "."]
        stream = await client.chat.completions.create(
            model="tiny", messages=HELLO, logprobs=True, stream=True
        )
        told = [chunk.choices[0].logprobs async for chunk in stream]
        assert [one.token for part in told if part for one in part.content or []] == ["Good ", "day", "."]


TOOLS: list[Any] = [{"type": "function", "function": {"name": "f"}}]


async def test_calls_of_tools_are_taken_out_of_the_text(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        rig.writer.words = [
            "Let me see.\n",
            "<tool",
            '_call>\n{"name": "f", "arguments"',
            ': {"a": "é"}}',
            "\n</tool_call>",
        ]
        reply = (await client.chat.completions.create(model="tiny", messages=HELLO, tools=TOOLS)).choices[0]
        assert (reply.message.content, reply.finish_reason) == ("Let me see.\n", "tool_calls")
        (call,) = reply.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("f", '{"a": "é"}')
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, tools=TOOLS, stream=True)
        choices = [chunk.choices[0] async for chunk in stream]
        assert "".join(one.delta.content or "" for one in choices) == "Let me see.\n"
        (calls,) = [one.delta.tool_calls for one in choices if one.delta.tool_calls]
        assert (calls[0].index, calls[0].function and calls[0].function.name) == (0, "f")
        assert choices[-1].finish_reason == "tool_calls"
        for change in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            plain = await client.chat.completions.create(model="tiny", messages=HELLO, **change)  # type: ignore[call-overload]
            assert plain.choices[0].message.content == "".join(rig.writer.words)
        assert rig.writer.asked[-1].tools == []


async def test_content_parts_become_text_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        client = rig.client()
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        history: list[Any] = [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": parts, "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "user", "content": "go on"},
        ]
        await client.chat.completions.create(model="tiny", messages=history)
        assert rig.writer.asked[0].messages[1] == {"role": "user", "content": "ab", "name": "Ann"}
        image = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
        seen: list[Any] = [{"role": "user", "content": image}]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="tiny", messages=seen)
        assert refused.value.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"n": 129}, "n"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": "much"}, "frequency_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"card": 1}}, "logit_bias"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 0.5}, "seed"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom", "custom": {"name": False}}]}, "tools[0].custom.name"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
            "messages[0].tool_calls[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": {}}}]},
            "messages[0].function_call.arguments",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"model": None}, "model"),
    ],
)
async def test_a_wrong_parameter_of_a_chat_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], param: str
) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            answer = await http.post(
                "/v1/chat/completions", json={"model": "tiny", "messages": HELLO, **change}
            )
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert rig.writer.asked == []


async def test_what_the_writer_cannot_do_is_an_error_and_not_a_cut_stream(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        chat = rig.client().chat.completions
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match="9000 tokens"):
                await chat.create(
                    model="tiny", messages=[{"role": "user", "content": "too long"}], stream=stream
                )
            with pytest.raises(openai.InternalServerError, match="cannot be loaded"):
                await chat.create(
                    model="tiny", messages=[{"role": "user", "content": "broken"}], stream=stream
                )
        later = await chat.create(
            model="tiny", messages=[{"role": "user", "content": "breaks later"}], stream=True
        )
        with pytest.raises(openai.APIError, match="fell over"):
            _ = [chunk async for chunk in later]
        with pytest.raises(openai.InternalServerError, match="fell over"):
            await chat.create(model="tiny", messages=[{"role": "user", "content": "breaks later"}])


async def test_models_list_the_default_one_before_it_is_fetched(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        assert {model.id async for model in client.models.list()} == {"tiny", "SmolLM2-135M-Instruct"}
        assert (await client.models.retrieve("smollm2-135m-INSTRUCT")).id == "SmolLM2-135M-Instruct"
        fetch = rig.state.models / ".fetch"
        fetch.mkdir()
        progress = {"state": "fetching", "percent": 40, "source": "hub", "message": "40 of 100 MB"}
        (fetch / "SmolLM2-135M-Instruct.json").write_text(json.dumps(progress))
        async with rig.http() as http:
            health = (await http.get("/healthz")).json()
        assert health == {
            "status": "ok",
            "version": __version__,
            "state": "idle",
            "running_job": None,
            "queued_jobs": 0,
            "fetch": progress,
        }


async def test_a_tuned_model_can_be_deleted_and_a_base_model_cannot(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        client = rig.client()
        name = await tuned(rig)
        assert {model.id async for model in client.models.list()} >= {name, f"{name}:ckpt-step-2"}
        assert (await client.models.retrieve(name)).owned_by == "local"
        adapter = rig.state.adapter_folder(rig.state.jobs.models()[0])
        assert adapter.is_dir()
        assert (await client.models.delete(name)).deleted
        assert not adapter.exists()
        for call in (client.models.retrieve, client.models.delete):
            with pytest.raises(openai.NotFoundError) as missing:
                await call(name)
            assert missing.value.code == "model_not_found"
        with pytest.raises(openai.PermissionDeniedError):
            await client.models.delete("tiny")
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=name, messages=HELLO)
        await client.chat.completions.create(model=f"{name}:ckpt-step-2", messages=HELLO)


async def test_a_model_that_a_job_needs_is_not_deleted(tmp_path: Path) -> None:
    with engine(tmp_path) as rig:
        name = await tuned(rig)
        rig.context.worker.stop()
        await launch(rig, model=name)
        with pytest.raises(openai.ConflictError, match="needs this model"):
            await rig.client().models.delete(name)


@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], KEY + "x", "\u00e9"])
async def test_nothing_but_the_bare_health_is_answered_without_the_key(tmp_path: Path, key: str) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http(key=None) as http:
            for method, path in (
                ("GET", "/v1/models"),
                ("POST", "/v1/files"),
                ("GET", "/v1/nowhere"),
                ("GET", "/"),
            ):
                bare = await http.request(method, path)
                given = await http.request(method, path, headers={b"Authorization": f"Bearer {key}".encode()})
                for answer in (bare, given):
                    assert answer.status_code == 401
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
                assert given.json()["error"]["code"] == "invalid_api_key"
                assert not key or key not in given.text
            health = await http.get("/healthz")
            assert health.json() == {"status": "ok", "version": __version__}
        with pytest.raises(openai.AuthenticationError):
            await rig.client(key="wrong").models.list()


async def test_unknown_routes_are_404_and_wrong_methods_405(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        async with rig.http() as http:
            for path in ("/v1/nowhere", "/", "/v1/files/", "/v1/files/a/b", "/v1/fine_tuning", "/v1//models"):
                answer = await http.get(path)
                assert answer.status_code == 404
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            answer = await http.patch("/v1/files")
            assert answer.status_code == 405
            assert {"GET", "POST"} <= {name.strip() for name in answer.headers["allow"].split(",")}
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert (await http.get("/v1/chat/completions")).status_code == 405
            assert (await http.head("/v1/models")).status_code == 200


async def test_the_log_holds_no_key_no_content_and_no_query(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "tunedesk"), engine(tmp_path) as rig:
        await tuned(rig)
        messages: list[Any] = [{"role": "user", "content": "my secret is 4711"}]
        await rig.client().chat.completions.create(model="tiny", messages=messages)
        async with rig.http(key="sk-guess") as http:
            await http.get("/v1/sk-guess/4711", params={"metadata[secret]": "4711"})
        async with rig.http() as http:
            await http.get("/v1/fine_tuning/jobs", params={"metadata[secret]": "4711"})
        told = [getattr(record, "told", {}) for record in caplog.records]
        seen = {(one["method"], one["path"], one["status"]) for one in told if one}
        assert {("POST", "/v1/chat/completions", 200), ("GET", "-", 401)} <= seen
        for secret in (KEY, "sk-guess", "4711", "Where is my card"):
            assert secret not in caplog.text + repr(told)


async def test_a_long_reply_is_ended_when_its_reader_leaves(tmp_path: Path) -> None:
    with engine(tmp_path, started=False) as rig:
        rig.writer.words = ["word "] * 100_000
        rig.writer.pause = 0.001

        order = _order(parse_chat_request({"model": "tiny", "messages": HELLO}), rig.context)
        chunks = _chunks([order], rig.context)
        assert (await anext(chunks))[1].text == "word "
        await chunks.aclose()
        await eventually(lambda: rig.writer.closed == 1, seconds=5)
