"""Regular expressions in queries: the same rows as an expression over each message alone, in any script."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.core.rows_found import found, user
from tunedesk.core.conversations import Row
from tunedesk.core.datasets.indexing import MESSAGE_BREAK, fold
from tunedesk.core.searching import patterns
from tunedesk.core.searching.necessary import need
from tunedesk.core.searching.patterns import compile_pattern
from tunedesk.core.searching.query import Pattern, QueryError


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


ATOMS = [
    "a", "b", "card", "1", " ", r"\.", "ß", "é", "İ", "k", "退", r"\t", r"\n", ".", r"\d", r"\w", r"\s", r"\S", r"\W",
    r"\D", r"\b", r"\B", "^", "$", r"\A", r"\z", "[ab]", "[^a]", "[^\\x00-\\x7f]", r"[\w-]", r"[\s1]", r"[^\d\s]",
    "[]a]", "[^]b]", "[a-zß]", r"\p{L}", r"\x{61}", r"\u0031", "K", "ſ",
]  # fmt: skip
TIMES = ["", "", "", "?", "*", "+", "{2}", "{2,}", "{0,2}", "{1,3}", "+?", "{0}"]


def joined(parts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=most).map("".join)


SIMPLE = joined(st.builds(str.__add__, st.sampled_from(ATOMS), st.sampled_from(TIMES)), 4)
GROUPS = st.builds(
    "{}{}){}".format, st.sampled_from(["(", "(?:"]), st.lists(SIMPLE, min_size=1, max_size=2).map("|".join),
    st.sampled_from(TIMES),
)  # fmt: skip
PATTERNS = st.builds(
    str.__add__,
    st.sampled_from(["", "", "", "(?i)", "(?s)", "(?-i)"]),
    st.one_of(joined(SIMPLE | GROUPS, 3), st.lists(SIMPLE, min_size=1, max_size=2).map("|".join)),
)
MESSAGES = st.text("aabk1 .\t\n\rKAßéİıſ退e\u0301\u212a", max_size=8) | st.sampled_from(
    ["card", "a card\r\n", ""]
)


def compiles(source: str) -> bool:
    try:
        pl.Series([""]).str.contains(source)
    except pl.exceptions.PolarsError:
        return False
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATTERNS, st.lists(st.lists(MESSAGES, min_size=1, max_size=3), min_size=1, max_size=6))
@example(r"\s{2,}", [["a  b"], ["a ", " b"]])
@example(r"(?i)\x{212a}", [["k"], ["K"]])
@example("a+b{2}", [["aabb"], ["ab"]])
@example(r"\B", [["a", "b"], ["ab"]])
@example(r"(a|\s)$", [["b", "b"], ["b\n", "b"], ["", ""]])
@example(r"\<\W|b\n", [["b", "b"], ["b\n"]])
def test_all_forms_of_a_pattern_find_what_it_finds_in_each_message_alone(
    monkeypatch: pytest.MonkeyPatch, source: str, rows: list[list[str]]
) -> None:
    chance = random.Random(source)
    monkeypatch.setattr(patterns, "_SAMPLE", 1)
    monkeypatch.setattr(patterns, "_WORTH", 1e9)  # some sieve is always taken
    monkeypatch.setattr(patterns, "_seconds", lambda *_: (chance.uniform(1, 2), 0.0))
    if not compiles(source):
        return
    expression = compile_pattern(Pattern("", source, 1))
    plain = "(?im)" + source if "(?" in source or re.search(r"\\[pPxuU]", source) else "(?m)" + folded(source)
    alone = [any(pl.Series([fold(text)]).str.contains(plain)[0] for text in row) for row in rows]
    texts = pl.Series([MESSAGE_BREAK.join(map(fold, row)) for row in rows])
    wide = texts.str.len_bytes() != texts.str.len_chars()
    assert expression.contains(texts, lambda: wide, lambda: False).to_list() == alone


def folded(source: str) -> str:
    """Fold all of a pattern but its escapes."""
    return "".join(
        part if part[0] == "\\" else fold(part) for part in re.findall(r"\\.|.", source, re.DOTALL)
    )


@pytest.mark.parametrize(
    ("pattern", "sieves"),
    [
        (r"(\w+) \w+ly\b", ["ly", r"\ "]), (r"\S+@\S+\.de", [r"\.de", "@"]), ("ba+b", ["ab", "ba"]),
        (r"colou?r\w", ["color|colour"]), ("x*(ab|cd)e", ["abe|cde"]), (".(ab|c.d)", ["ab|c", "ab|d"]), (".(a|b*)", []),
        (r"(?x)a b", []), ("a.b.c.d", ["a", "b", "c"]), ("[a-z]{4}", []), ("a{2}b+", ["aab", "b"]), ("a{3,}", ["aaa"]),
        (r"(\d?[.;]){3}\d*", [r"\.|;"]), (r"\b(i|we)\b.*(can|may)not", ["cannot|maynot", "i|we"]),
        (r"\bab\b{start}c+", []), ("(ab){2}.", ["abab"]),
        ("[xy]{2,}", ["xx|xy|yx|yy"]), ("(é|ab).", ["ab"]), ("x+(a|[^z])", ["x"]), ("(a|b|ab)c.", ["ac|bc"]),
        ("ab|cd", []), ("a(b", []), ("(foo|ba[rz])+ (qux)?.", [r"bar\ |baz\ |foo\ ", "bar|baz|foo"]),
    ],
)  # fmt: skip
def test_what_a_pattern_needs_is_drawn_from_its_parts_in_sequence(pattern: str, sieves: list[str]) -> None:
    assert need(pattern, "(?m)").sieves == tuple(sieves)


def test_of_text_in_any_script_only_what_is_written_is_needed() -> None:
    assert need(r"\w+\d{3}\.?[ab]", "(?m)", ascii_only=False) == need("(?x)", "(?m)")
    assert need(r"\w+(é|ÀB)\.?-\d", "(?m)", ascii_only=False).sieves == (r"àb\-|àb\.\-|é\-|é\.\-",)


def test_a_run_of_digits_is_looked_for_as_such() -> None:
    digits = "[" + "".join(rf"\x3{number}" for number in range(10)) + "]"
    assert need(r"\w+\d{3,}", "(?m)").sieves[0] == digits * 3
    pair = need(r"\w+\d{2}", "(?m)").sieves[0]
    texts = pl.Series(["a12", "a1b", "12", "1"])
    assert pair.startswith(digits)
    assert texts.str.contains(pair).to_list() == [True, False, True, False]


def test_what_needs_a_character_beyond_ascii_is_not_looked_for_in_ascii() -> None:
    assert need(r"[^\x00-\x7f]+", "(?im)").impossible
    assert need(r"a\p{Han}", "(?im)").impossible
    assert not need("é?a", "(?m)").impossible
    assert not need("\u212a", "(?im)").impossible  # the Kelvin sign is a k whatever the case


def test_whether_a_sieve_pays_is_told_for_each_role(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def seconds(texts: pl.Series, form: patterns.Form) -> tuple[float, float]:
        asked.append(texts[0])
        return (1.0 if form[0].startswith("(?m)") else 0.1), 0.0 if texts[0].startswith("said") else 1.0

    monkeypatch.setattr(patterns, "_SAMPLE", 2)
    monkeypatch.setattr(patterns, "_seconds", seconds)
    expression = compile_pattern(Pattern("", r"\w+@\w", 1))
    for role in ("user", "assistant", "user"):
        texts = pl.Series([f"{'said' if role == 'user' else 'told'} {part}" for part in ("a", "b@c", "d@")])
        found = expression.contains(texts, lambda: pl.Series([False] * 3), lambda: False, role)
        assert found.to_list() == [False, True, False]
    assert {text[:4] for text in asked} == {"said", "told"}
    assert len(asked) == 4, "once for each role, the pattern and its one sieve"


def test_a_pattern_that_is_quick_has_no_sieve_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[patterns.Form] = []

    def seconds(_: pl.Series, form: patterns.Form) -> tuple[float, float]:
        tried.append(form)
        return 1e-6, 0.0

    monkeypatch.setattr(patterns, "_SAMPLE", 2)
    monkeypatch.setattr(patterns, "_seconds", seconds)
    expression = compile_pattern(Pattern("", r"\w+@\w", 1))
    assert expression.contains(pl.Series(["a@b", "c"]), lambda: pl.Series([False] * 2), lambda: False)[0]
    assert len(tried) == 1
