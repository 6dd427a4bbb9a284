"""Texts counted in bulk have the tokens that tiktoken gives them, whatever they are and by whichever means."""

from __future__ import annotations

import importlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.counting import known_texts, quick_counts, text_counts
from tunedesk.core.counting.text_counts import TextCounter, count_text
from tunedesk.core.counting.tokens import load
from tunedesk.core.counting.word_counts import WordCounter

NAMES = ("cl100k_base", "o200k_base", "o200k_harmony")
MEANS = [(name, means) for name in NAMES for means in ("quick", "words")]
CRUMBS = [
    " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "'s", "'LL", "\u2019s", "a", "Łódź",
    "don't", "1234567", "🙂", "👩\u200d🚀", "漢字", "\u017f", "e\u0301", "<|endoftext|>", "<|im_start|>", "/", "///",
    ".,!?", "HTTPServer", "x" * 70, "\ud800", "", "\u0378", "\U000323b0", "नमस्ते", "'ſ", "ab",
]  # fmt: skip


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture(scope="session")
def counters(cache: Path) -> dict[tuple[str, str], TextCounter]:
    return {pair: counter_of(*pair, cache) for pair in MEANS}


def counter_of(name: str, means: str, cache: Path) -> TextCounter:
    counter = TextCounter(load(name, cache))
    counter.expect(1 << 30)
    assert counter._quick is not None
    if means == "words":
        counter._quick, counter._words = None, WordCounter(load(name, cache))
    return counter


def equal(counter: TextCounter, texts: list[str]) -> None:
    encode = counter._encoding.encode_ordinary
    assert counter.count(texts).to_list() == [len(encode(text)) for text in texts]


@pytest.mark.parametrize("pair", MEANS)
def test_crumbs_in_any_order_count_as_tiktoken_counts_them(
    pair: tuple[str, str], counters: dict[tuple[str, str], TextCounter]
) -> None:
    chosen = random.Random(5)
    equal(counters[pair], ["".join(chosen.choices(CRUMBS, k=chosen.randrange(12))) for _ in range(10_000)])


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(), max_size=40), max_size=8))
@pytest.mark.parametrize("pair", MEANS)
def test_any_texts_count_as_tiktoken_counts_them(
    pair: tuple[str, str], texts: list[str], counters: dict[tuple[str, str], TextCounter]
) -> None:
    equal(counters[pair], texts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pair", MEANS)
def test_every_code_point_counts_as_tiktoken_counts_it(
    pair: tuple[str, str], counters: dict[tuple[str, str], TextCounter]
) -> None:
    points = [chr(code) for code in range(sys.maxunicode + 1)]
    for at in range(0, len(points), 50_000):
        equal(counters[pair], [f"a {p} b{p}  {p}'s {p}1\n {p}" for p in points[at : at + 50_000]])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pair", MEANS)
def test_a_million_random_texts_count_as_tiktoken_counts_them(
    pair: tuple[str, str], counters: dict[tuple[str, str], TextCounter]
) -> None:
    chosen = random.Random(7)
    for _ in range(20):
        texts = [
            "".join(
                chosen.choice(CRUMBS) if chosen.random() < 0.7 else chr(chosen.randrange(sys.maxunicode + 1))
                for _ in range(chosen.randrange(14))
            )
            for _ in range(50_000)
        ]
        equal(counters[pair], texts)


def test_characters_that_the_quick_tokenizer_may_cut_elsewhere_are_kept_from_it(cache: Path) -> None:
    asked: list[str] = []

    def count(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [1] * len(texts)

    quick = quick_counts.QuickCounter(count)
    texts = ["plain", "wa\u017f it", "Łódź 漢字 🙂", "\u0378", "\U0001e6c0"]
    found = quick.count(known_texts.strings(texts), lambda left: left.str.len_chars() + 10)
    assert asked == ["plain", "Łódź 漢字 🙂"]
    assert found.to_list() == [1, 16, 1, 11, 11]


@pytest.mark.parametrize("means", ["missing", "wrong", "unknown"])
def test_without_a_quick_tokenizer_that_agrees_words_are_counted(
    means: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        @staticmethod
        def batch_count(texts: list[str], name: str, threads: int) -> list[int]:
            if means == "unknown":
                raise KeyError(name)
            return [1] * len(texts)

    imported = importlib.import_module

    def found(name: str, package: str | None = None) -> Any:
        if name != "toktok":
            return imported(name, package)
        if means == "missing":
            raise ImportError(name)
        return Odd

    monkeypatch.setattr(importlib, "import_module", found)
    counter = TextCounter(load("o200k_base", cache))
    counter.expect(1 << 30)
    assert counter._quick is None
    equal(counter, ["Where is my card?", "It is  lost.\n", "wa\u017f"])


def test_few_texts_build_no_tables(cache: Path) -> None:
    counter = TextCounter(load("o200k_base", cache))
    equal(counter, ["Where is my card?", "Where is my card?", ""])
    assert not counter._loaded
    equal(counter, [f"{'Where is my card? ' * 100}{n}" for n in range(1_500)])
    assert counter._loaded


@pytest.mark.parametrize("pair", MEANS[:4])
def test_a_million_spaces_never_crash(
    pair: tuple[str, str], counters: dict[tuple[str, str], TextCounter]
) -> None:
    run = " " * 1_200_000
    texts = [run, run + "x", "x" + run, "\t" * 1_100_000 + "x"]
    whole = importlib.import_module("toktok").batch_count(texts, pair[0])
    assert counters[pair].count(texts).to_list() == whole


def test_runs_that_tiktoken_can_count_are_not_cut(cache: Path) -> None:
    encoding = load("o200k_base", cache)
    text = "a" + " " * 999_950 + "x"
    assert count_text(encoding, text) == len(encoding.encode_ordinary(text))


@pytest.mark.parametrize("means", ["quick", "words"])
def test_a_full_cache_begins_afresh_and_still_counts_right(
    means: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_texts, "_MOST_TEXTS", 500)
    monkeypatch.setattr(text_counts, "_BATCH", 100)
    texts = [f"card {n} of {n % 7} is lost, {n * 31}!" for n in range(3_000)]
    equal(counter_of("o200k_base", means, cache), [*texts, *texts])


def test_an_encoding_whose_tokens_hold_spaces_elsewhere_is_counted_word_by_word(cache: Path) -> None:
    counter = counter_of("o200k_base", "words", cache)
    assert counter._words is not None
    counter._words._begins = counter._words._begins & False
    equal(counter, ["one two three", "two three  four"])


@pytest.mark.parametrize("means", ["quick", "words"])
def test_several_threads_share_a_counter(means: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_counts, "_BATCH", 50)
    counter = counter_of("o200k_base", means, cache)
    parts = [[f"card {n % 90} of {n}  is\n lost{part}, {n * 31}!" for n in range(2_000)] for part in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: counter.count(part).to_list(), parts))
    encode = counter._encoding.encode_ordinary
    assert found == [[len(encode(text)) for text in part] for part in parts]
