"""Token counts equal tiktoken's, offline, by the chat rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.counting.tokens import TokenCounter, encoding_for, limit_for, load, stats_of
from tunedesk.core.fine_tuning import base_model
from tunedesk.errors import DataError


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "o200k_harmony"])
def test_encodings_load_without_network_from_the_package(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> bytes:
        raise AssertionError(f"tiktoken tried to fetch {path}")

    monkeypatch.setattr("tiktoken.load.read_file", refuse)
    encoding = load(name, cache)
    assert encoding.decode(encoding.encode_ordinary("card lost in Łódź 🙂")) == "card lost in Łódź 🙂"


def test_a_damaged_cache_file_is_rebuilt(tmp_path: Path) -> None:
    load.cache_clear()
    load("cl100k_base", tmp_path)
    (file,) = (tmp_path / "tiktoken").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    load.cache_clear()
    load("cl100k_base", tmp_path)
    assert file.read_bytes() == whole


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no encoding named"):
        load("p99k", tmp_path)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::abc", "o200k_base"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::abc:ckpt-step-8", "o200k_base"),
        ("ft:gpt-3.5-turbo-0125:acme:x:abc", "cl100k_base"),
        ("gpt-oss-20b", "o200k_harmony"),
    ],
)
def test_a_model_counts_with_its_own_encoding(model: str, encoding: str) -> None:
    found = encoding_for(model)
    assert found.name == encoding
    assert not found.note


def test_an_unknown_model_falls_back_with_a_note() -> None:
    assert "no published encoding" in encoding_for("SmolLM2-135M-Instruct").note


def test_the_base_of_a_fine_tuned_name() -> None:
    assert base_model("ft:gpt-4.1:org:suffix:id") == "gpt-4.1"
    assert base_model("gpt-4.1") == "gpt-4.1"


def test_limits_follow_the_model() -> None:
    assert limit_for("gpt-3.5-turbo-0125") == 16_385
    assert limit_for("gpt-4.1") == 65_536
    assert limit_for("SmolLM2-135M-Instruct") == 8_192


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=60))
def test_any_text_counts_as_tiktoken_counts_it(text: str, cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    assert counter.text(text) == len(load("o200k_base", cache).encode_ordinary(text))


def test_special_tokens_in_content_are_ordinary_text(cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    assert (
        counter.text("<|endoftext|>") == len(load("o200k_base", cache).encode_ordinary("<|endoftext|>")) > 1
    )


def test_a_million_spaces_are_counted(cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    assert counter.text(" " * 1_200_000 + "x") > 1_000


def test_the_chat_rule_adds_three_a_message_one_a_name_and_three_a_reply(cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    messages = [
        {"role": "system", "content": "Answer as the bank would."},
        {"role": "user", "name": "gwen", "content": "Where is my card?"},
    ]
    words = ["system", "Answer as the bank would.", "user", "gwen", "Where is my card?"]
    assert counter.row({"messages": messages}) == sum(map(counter.text, words)) + 2 * 3 + 1 + 3


@pytest.mark.parametrize(("model", "per_function"), [("gpt-4", 10), ("gpt-4o", 7)])
def test_the_tool_rule_counts_functions_properties_and_choices(
    model: str, per_function: int, cache: Path
) -> None:
    counter = TokenCounter(model, cache)
    properties = {
        "digits": {"type": "string", "description": "Last four digits."},
        "how": {"type": "string", "description": "Speed", "enum": ["post", "courier"]},
    }
    function = {
        "name": "order_card",
        "description": "Order a card.",
        "parameters": {"type": "object", "properties": properties},
    }
    row = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": function}],
    }
    expected = 12 + per_function + counter.text("order_card:Order a card")
    expected += 3 + 3 + counter.text("digits:string:Last four digits") + 3 + counter.text("how:string:Speed")
    expected += -3 + 3 + counter.text("post") + 3 + counter.text("courier")
    assert counter.row(row) - counter.row({"messages": row["messages"]}) == expected


def test_trained_tokens_follow_the_weights(cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    one = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello there"}]}
    two = {
        "messages": [
            *one["messages"],
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", "weight": 0},
        ]
    }
    assert counter.trained(one) == counter.trained(two) == counter.text("hello there")


def test_statistics_of_counts() -> None:
    stats = stats_of([10, 30, 20, 40], 12, 25)
    assert (stats.total, stats.minimum, stats.median, stats.maximum) == (100, 10, 25, 40)
    assert (stats.over_limit, stats.billed_per_epoch) == (2, 80)
    assert stats_of([], 0, 25).total == 0


def test_odd_rows_count_without_a_traceback(cache: Path) -> None:
    counter = TokenCounter("gpt-4o", cache)
    assert counter.row({"messages": "x"}) == 0
    assert counter.row({"messages": [None, {"role": 3, "content": [{"type": "text", "text": "hi"}, 4]}]}) > 0
