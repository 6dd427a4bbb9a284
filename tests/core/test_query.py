"""The query language: what is read, what is refused and where, what a query tells of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunedesk.core.searching.query import (
    And,
    Compare,
    Everything,
    Field,
    Node,
    Not,
    Or,
    Pattern,
    QueryError,
    State,
    Text,
    facts,
    marks,
    parse,
    refines,
)
from tunedesk.errors import UsageError


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", Everything()),
        ("  ", Everything()),
        ("Refund", Text("", "refund")),
        ('"Credit Card"', Text("", "credit card")),
        (r'"say \"hi\""', Text("", 'say "hi"')),
        ("user:Refund", Text("user", "refund")),
        ('USER:"a b"', Text("user", "a b")),
        ("a b", And((Text("", "a"), Text("", "b")))),
        ("a AND b", And((Text("", "a"), Text("", "b")))),
        ("a OR b c", Or((Text("", "a"), And((Text("", "b"), Text("", "c")))))),
        ("-a", Not(Text("", "a"))),
        ("-(a OR b)", Not(Or((Text("", "a"), Text("", "b"))))),
        ("(a)", Text("", "a")),
        ("a-b", Text("", "a-b")),
        ("ORDER order or", And((Text("", "order"), Text("", "order"), Text("", "or")))),
        ('"OR"', Text("", "or")),
        ("/a b/", Pattern("", "a b", 1)),
        (r"user:/\d\/x/", Pattern("user", r"\d/x", 6)),
        ("tokens>500", Compare("tokens", ">", 500.0, 1)),
        ("Turns>=1_000", Compare("turns", ">=", 1000.0, 1)),
        ("turns:6", Compare("turns", "=", 6.0, 1)),
        ("loss!=-.5", Compare("loss", "!=", -0.5, 1)),
        ("Rating<=4.5", Compare("Rating", "<=", 4.5, 1)),
        ("intent:Card_Lost", Field("intent", "card_lost", 1)),
        ('a source:"Web Form"', And((Text("", "a"), Field("source", "web form", 3)))),
        ("deep.key:x", Field("deep.key", "x", 1)),
        ("is:Edited", State("is", "edited", 1)),
        ("check:E12", State("check", "E12", 1)),
        ("dup:yes", State("dup", "yes", 1)),
        ('"Order ID":17', Field("Order ID", "17", 1)),
        ('-"a \\"b\\" c":"X y"', Not(Field('a "b" c', "x y", 2))),
        ('a "days open">=3', And((Text("", "a"), Compare("days open", ">=", 3, 3)))),
        ('"tokens":7', Field("tokens", "7", 1)),
        ('"a b": c', And((Text("", "a b"), Text("", ":"), Text("", "c")))),
        ('("a b"> )', And((Text("", "a b"), Text("", ">")))),
    ],
)
def test_a_query_is_read_as_the_grammar_says(text: str, node: Node) -> None:
    assert parse(text).root == node


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ('refund "credit', 8, 'this " is never closed'),
        ("/abc", 1, "this / is never closed"),
        ("user:/abc", 6, "this / is never closed"),
        ("(a b", 1, "this ( is never closed"),
        ("a (", 3, "this ( is never closed"),
        ("( ", 1, "this ( is never closed"),
        ("-(", 2, "this ( is never closed"),
        ("a) b", 2, "this ) closes nothing"),
        (")", 1, "this ) closes nothing"),
        ("a ()", 4, "nothing between ( and )"),
        ("a OR", 5, "OR needs something after it"),
        ("(a OR)", 6, "OR needs something after it"),
        ("OR a", 1, "OR needs something before it"),
        ("(OR a)", 2, "OR needs something before it"),
        ("a OR OR b", 6, "OR needs something after it"),
        ("a AND", 6, "AND needs something after it"),
        ("AND a", 1, "AND needs something before it"),
        ("a AND OR b", 7, "AND needs something after it"),
        ("tokens>", 8, "tokens> needs a number"),
        ("tokens:many", 8, "tokens: needs a number"),
        ("tokens>5x", 8, "tokens> needs a number"),
        ("is:happy", 4, "is: does not know 'happy'"),
        ("a has:", 7, "has: needs a value"),
        ("user:", 6, "user: needs a word"),
        ("user: a", 6, "user: needs a word"),
        ("user:(a OR b)", 6, "user: takes one value, not a group"),
        ("a intent:(x)", 10, "intent: takes one value, not a group"),
        ('""', 1, 'nothing between " and "'),
        ("//", 1, "nothing between / and /"),
        ("intent:", 8, "intent: needs a value"),
        ('a "b c">x', 9, "b c> needs a number"),
        ("dup:perhaps", 5, "dup: does not know 'perhaps'"),
        ("loss>" + "9" * 400, 1, "the number is too large"),
    ],
)
def test_an_error_says_what_is_wrong_and_points_at_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.column) == (message, column)
    assert isinstance(caught.value, UsageError)
    assert caught.value.hint or column == 1


@given(st.text(alphabet='ab "/\\()-:<>=ORuser1.éß\n', max_size=30))
def test_any_text_is_a_query_or_a_query_error_within_it(text: str) -> None:
    column = 1
    try:
        parse(text)
    except QueryError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


def test_a_refined_query_is_told_from_another() -> None:
    def narrower(new: str, old: str) -> bool:
        return refines(parse(new).root, parse(old).root)

    for new, old in (("refund", "ref"), ("refund card", "ref"), ("user:refund", "ref"), ("a b c", "a c")):
        assert narrower(new, old)
    for new, old in (("ref", "refund"), ("refund", "user:ref"), ("-refund", "-ref"), ("a OR b", "a")):
        assert not narrower(new, old)


def test_what_a_query_needs_to_know_is_told_from_it() -> None:
    asked = parse(
        'a user:b turns>2 (tokens>5 OR -loss>2) has:pii has:tools check:empty -dup:yes about:"lost card"'
    )
    assert facts(asked) == {"tokens", "loss", "pii", "findings", "duplicates", "topics"}
    assert facts(parse("has:error")) == {"findings"}
    assert facts(parse("x is:edited intent:fees has:system")) == facts(parse("")) == set()


def test_literals_to_highlight_leave_out_what_is_negated() -> None:
    found = marks(parse('Refund -card (user:x OR "a b") assistant:/c+/ tokens>5'))
    assert [(mark.scope, mark.source) for mark in found] == [
        ("", "refund"), ("user", "x"), ("", "a\\ b"), ("assistant", "c+"),
    ]  # fmt: skip
