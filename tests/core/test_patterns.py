"""Regular expressions in queries: the same rows as an expression over each message alone, in any script."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.core.rows_found import found, user
from tunedesk.core.conversations import Row
from tunedesk.core.datasets.indexing import fold
from tunedesk.core.searching.query import QueryError


@pytest.mark.parametrize(
    "pattern", ["/(/", "/[z-a]/", "/a{2,1}/", r"/(?<=a)b/", r"user:/((\w{100}){100}){100}/"]
)
def test_a_bad_pattern_is_a_query_error_at_its_column(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(QueryError, match="not a regular expression") as caught:
        found(tmp_path, [user("x")], f"a {pattern}")
    assert caught.value.column == 3 + pattern.index("/")


def test_a_pattern_that_explodes_elsewhere_takes_linear_time(tmp_path: Path) -> None:
    rows = [user("a" * 5000 + "!") for _ in range(200)]
    started = time.perf_counter()
    assert found(tmp_path, rows, "/(a+)+$/") == []
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bcard\b",
        r"\d{3}",
        r"[\d]+x",
        r"\bкарта\b",
        r"card\B",
        r"straße\b",
        "REFUND",
        r"(?-i)X",
        r"[^]a]b",
        r"\w+é",
        r"\w{9}",
        r"\S{8}",
        r"\s\w\s",
        r"[\w]+\s[\d]+\W",
        r"^\D+$",
    ],
)
def test_a_pattern_finds_the_same_in_ascii_and_other_text(tmp_path: Path, pattern: str) -> None:
    texts = [
        "card",
        "cardé",
        "a card.",
        "карта",
        "моякарта",
        "a 123 b",
        "a ١٢٣ b",
        "12x",
        "Straße",
        "strasses",
    ]
    texts += ["refund", "x", "]b", "cb", "xé", "cards карта"]
    flags = re.IGNORECASE | re.MULTILINE
    source = pattern.removeprefix("(?-i)")
    expected = [
        i
        for i, text in enumerate(texts)
        if re.search(fold(source) if source.isalpha() else source.replace("ß", "ss"), fold(text), flags)
    ]
    if pattern.startswith("(?-i)"):
        expected = []
    assert found(tmp_path, [user(text) for text in texts], f"/{pattern}/") == expected


@pytest.mark.parametrize(
    "pattern",
    [
        r"^.{0,3}$", r"^.$", r".", r"\s{2,}", r"\W$", r"one[^x]*two", r"a\s+b", r"(?s)one.*two", r"\Aone", r"two\z",
        r"e\s+t", r"[^x]\s[^y]", r"\S+\s\S+\s\S+", r".\W.", r"o[\s]t",
        r"^$", r"x*", r"^two", r"one$", r"\S", r"[\s!]+$", r"o?\n", r"\D\D",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["", "user", "assistant", "system"])
def test_a_pattern_is_met_within_one_message(tmp_path: Path, pattern: str, scope: str) -> None:
    dialogues = [
        [("user", "one"), ("user", "two")],
        [("user", "one two")],
        [("user", "one\n"), ("assistant", "\ntwo"), ("user", "é!")],
        [("user", ""), ("assistant", "a\nb")],
        [("system", "one"), ("assistant", "!")],
        [("assistant", "a  b"), ("assistant", "two\n\n"), ("system", "")],
        [("user", "abc"), ("user", "x"), ("assistant", "zero\none")],
    ]
    rows: list[Row] = [
        {"messages": [{"role": role, "content": text} for role, text in one]} for one in dialogues
    ]
    ours = re.compile(pattern.replace(r"\z", r"\Z"), re.IGNORECASE | re.MULTILINE)
    expected = [
        number
        for number, one in enumerate(dialogues)
        if any(ours.search(text) for role, text in one if scope in ("", role))
    ]
    query = f"{scope}:/{pattern}/" if scope else f"/{pattern}/"
    assert found(tmp_path, rows, query) == expected
