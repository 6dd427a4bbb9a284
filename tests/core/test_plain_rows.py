"""The fast way through plain rows and the exact way find the same, row by row and across rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.check_examples import ROWS, A, S, U, clean
from tunedesk.core.checking import examining
from tunedesk.core.checking.checks import Checked, Rules, check_lines
from tunedesk.core.checking.examining import Line
from tunedesk.core.checking.findings import SAID
from tunedesk.core.checking.plain_rows import plain_row
from tunedesk.core.checking.sayings import Sayings
from tunedesk.core.personal_data import privacy

TEXTS = [
    str(message["content"])
    for case in ROWS.values()
    for one in (case[0], case[2])
    for message in one.get("messages", [])
    if isinstance(message, dict) and isinstance(message.get("content"), str)
] + [
    "My name is Anna Kowalska, please call me on +44 7700 900123.",
    "Thanks Anna. What is your account number?",
    "12345678",
    "May I have your full name, please?",
    "john smith",
    "It is Bob at Ferncastle Bank, card 4111 1111 1111 1111.",
    "Wo ist meine Karte? Ich habe sie nicht mehr und brauche eine neue.",
    "We have sent the new card to your address and you will have it on Monday.",
    "Мы отправили вашу новую карту по почте.",
    "你好,我的银行卡丢了,请帮忙",
    'He said "content": yes, and left.',
    "",
    "  ",
    "ok",
]
ROLES = ["user", "assistant", "system", "developer", "tool"]

message = st.fixed_dictionaries(
    {"role": st.sampled_from(ROLES[:2] * 6 + ROLES), "content": st.sampled_from(TEXTS)},
    optional={"weight": st.sampled_from([0, 1, 1, 1.0, True, 2]), "name": st.sampled_from(["ann", ""])},
)
talk = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS)), min_size=1, max_size=4).map(
    lambda pairs: [one for a, b in pairs for one in ({**U, "content": a}, {**A, "content": b})]
)
prompted = st.tuples(
    st.sampled_from([[], [S], [{**S, "role": "developer"}], [{**S, "content": "You are Anna."}]]), talk
)
row = st.one_of(
    talk.map(lambda said: {"messages": said}),
    prompted.map(lambda both: {"messages": [*both[0], *both[1]]}),
    st.tuples(
        talk, st.dictionaries(st.sampled_from(["customer_name", "id", "n"]), st.sampled_from(TEXTS))
    ).map(lambda both: {"messages": both[0], "metadata": both[1]}),
    st.lists(message, max_size=5).map(lambda said: {"messages": said}),
)


def written(one: dict[str, Any], ascii_only: bool, spaced: bool) -> bytes:
    return json.dumps(one, ensure_ascii=ascii_only, separators=(", ", " : ") if spaced else None).encode(
        errors="backslashreplace"
    )


def both_ways(lines: list[Line], rules: Rules) -> tuple[Checked, Checked]:
    fast = check_lines(lines, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examining, "plain_row", lambda _: None)
        return fast, check_lines(lines, rules)


@given(st.lists(st.tuples(row, st.booleans(), st.booleans()), max_size=14))
@settings(max_examples=60, deadline=None)
def test_both_ways_find_the_same(rows: list[tuple[dict[str, Any], bool, bool]]) -> None:
    lines = [(line, written(*one)) for line, one in enumerate(rows, 1)]
    fast, exact = both_ways(lines, Rules())
    assert fast == exact


def test_both_ways_find_the_same_in_every_known_fault() -> None:
    rows = [
        *clean(),
        *(case[0] for case in ROWS.values()),
        *(case[2] for case in ROWS.values()),
        *clean()[:3],
    ]
    lines = [(line, json.dumps(one).encode()) for line, one in enumerate(rows, 1)]
    for rules in (Rules(), Rules("local"), Rules(count_tokens=lambda one: len(str(one)), limit=120)):
        fast, exact = both_ways(lines, rules)
        assert fast == exact
        assert len({one.code for one in fast.findings}) > 25


@given(st.lists(st.tuples(row, st.booleans(), st.booleans()), max_size=14))
@settings(max_examples=40, deadline=None)
def test_what_is_found_without_reading_is_what_is_found_with_it(
    rows: list[tuple[dict[str, Any], bool, bool]],
) -> None:
    lines = [(line, written(*one)) for line, one in enumerate(rows, 1)]
    assert_quick_is_part_of_whole(lines, Rules("local", count_tokens=lambda one: len(str(one)), limit=120))


def test_all_errors_are_found_without_reading() -> None:
    rows = [*clean(), *(case[0] for case in ROWS.values()), {"preferred_output": []}]
    lines = [(line, json.dumps(one).encode()) for line, one in enumerate(rows, 1)]
    for rules in (Rules(), Rules("local"), Rules(count_tokens=lambda one: len(str(one)), limit=120)):
        quick = assert_quick_is_part_of_whole(lines, rules)
        assert "kinds_mixed" in {one.code for one in quick.findings}
    assert quick.errors > 25


def assert_quick_is_part_of_whole(lines: list[Line], rules: Rules) -> Checked:
    quick, whole = check_lines(lines, replace(rules, said=False)), check_lines(lines, rules)
    assert quick.findings == [one for one in whole.findings if one.code not in SAID]
    assert quick.errors == whole.errors
    assert quick.conversations == whole.conversations
    return quick


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}', True),
        (b'{"messages":[{"content":"a","role":"user"},{"role":"assistant","content":"b","weight":1}]}', True),
        (b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"metadata":{"a":{"b":1}}}',
         True),
        (b'{"messages" : [{"role" : "user","content":"a"},{"role":"assistant","content":"b"}]}', True),
        (b'{"messages":[{"role":"user","content":"a","content":"c"},{"role":"assistant","content":"b"}]}', False),
        (b'{"messages":[{"role":"user","content" :"a","content":"c"},{"role":"assistant","content":"b"}]}', False),
        (b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":true}]}', False),
        (b'{"messages":[{"role":"user","content":"a","weight":0},{"role":"assistant","content":"b"}]}', False),
        (b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0}]}', False),
        (b'{"messages":[{"role":"user","content":null},{"role":"assistant","content":"b"}]}', False),
        (b'{"messages":[{"role":"user","content":"a"}]}', False),
        (b'{"messages":[],"messages":[]}', False),
        (b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[]}', False),
        (b"{", False),
        (b"", False),
    ],
)  # fmt: skip
def test_only_what_is_wholly_plain_is_taken_for_plain(raw: bytes, plain: bool) -> None:
    assert (plain_row(raw) is not None) is plain


def test_what_is_remembered_of_texts_is_bounded_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunedesk.core.checking.sayings._MOST", 5)
    sayings = Sayings()
    again = sayings.of("user", "stays")
    for text in [*TEXTS, *TEXTS]:
        assert sayings.found_in(sayings.of("user", text), frozenset()) == privacy.find(text)
        assert sayings.of("user", "stays") is again
    assert len(sayings) <= 10
