"""The word cache counts what tiktoken counts, whatever the text."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.counting import word_counts
from tunedesk.core.counting.tokens import load
from tunedesk.core.counting.word_counts import WordCounter

NAMES = ("cl100k_base", "o200k_base")
CRUMBS = [
    " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "'s", "'LL", "\u2019s", "a", "Łódź",
    "don't", "1234567", "🙂", "👩\u200d🚀", "漢字", "\u017f", "e\u0301", "<|endoftext|>", "<|im_start|>", "/", "///",
    ".,!?", "HTTPServer", "x" * 70, "\ud800", "",
]  # fmt: skip


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encodings")


@pytest.fixture(scope="session")
def counters(cache: Path) -> dict[str, WordCounter]:
    return {name: WordCounter(load(name, cache)) for name in NAMES}


def equal(name: str, texts: list[str], counters: dict[str, WordCounter], cache: Path) -> None:
    encode = load(name, cache).encode_ordinary
    expected = [len(encode(text)) for text in texts]
    assert counters[name].count(texts).to_list() == expected


@pytest.mark.parametrize("name", NAMES)
def test_crumbs_in_any_order_count_as_tiktoken_counts_them(
    name: str, counters: dict[str, WordCounter], cache: Path
) -> None:
    chosen = random.Random(5)
    texts = ["".join(chosen.choices(CRUMBS, k=chosen.randrange(12))) for _ in range(20_000)]
    equal(name, texts, counters, cache)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(alphabet=st.characters(), max_size=40), max_size=8))
@pytest.mark.parametrize("name", NAMES)
def test_any_texts_count_as_tiktoken_counts_them(
    name: str, texts: list[str], counters: dict[str, WordCounter], cache: Path
) -> None:
    equal(name, texts, counters, cache)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_every_code_point_counts_as_tiktoken_counts_it(
    name: str, counters: dict[str, WordCounter], cache: Path
) -> None:
    points = [chr(code) for code in range(sys.maxunicode + 1)]
    for at in range(0, len(points), 50_000):
        equal(name, [f"a {p} b{p}  {p}'s {p}1\n {p}" for p in points[at : at + 50_000]], counters, cache)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_a_million_random_texts_count_as_tiktoken_counts_them(
    name: str, counters: dict[str, WordCounter], cache: Path
) -> None:
    chosen = random.Random(7)
    for _ in range(20):
        texts = [
            "".join(
                chosen.choice(CRUMBS) if chosen.random() < 0.7 else chr(chosen.randrange(0xD800))
                for _ in range(chosen.randrange(14))
            )
            for _ in range(50_000)
        ]
        equal(name, texts, counters, cache)


@pytest.mark.parametrize("name", NAMES)
def test_a_million_spaces_never_crash(name: str, counters: dict[str, WordCounter]) -> None:
    run = " " * 1_200_000
    texts = [run, run + "x", "x" + run, "\t" * 1_100_000 + "x", "a\u00a0" + "\u00a0" * 1_100_000 + "x"]
    assert all(count > 1_000 for count in counters[name].count(texts).to_list())


def test_a_full_cache_begins_afresh_and_still_counts_right(
    counters: dict[str, WordCounter], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counts, "_MOST_WORDS", 500)
    monkeypatch.setattr(word_counts, "_BATCH", 100)
    texts = [f"card {n} of {n % 7} is lost, {n * 31}!" for n in range(3_000)]
    equal("o200k_base", [*texts, *texts], counters, cache)


def test_an_encoding_whose_tokens_hold_spaces_elsewhere_is_counted_word_by_word(cache: Path) -> None:
    counter = WordCounter(load("o200k_base", cache))
    counter._begins = counter._begins & False
    texts = ["one two three", "two three  four"]
    encode = load("o200k_base", cache).encode_ordinary
    assert counter.count(texts).to_list() == [len(encode(text)) for text in texts]


def test_several_threads_share_a_counter(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_BATCH", 50)
    monkeypatch.setattr(word_counts, "_MOST_WORDS", 100_000)
    encoding = load("o200k_base", cache)
    counter = WordCounter(encoding)
    parts = [[f"card {n % 90} of {n}  is\n lost{part}, {n * 31}!" for n in range(2_000)] for part in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: counter.count(part).to_list(), parts))
    assert found == [[len(encoding.encode_ordinary(text)) for text in part] for part in parts]
