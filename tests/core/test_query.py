"""The query language, and that a search finds exactly the rows that a reading of each row would."""

from __future__ import annotations

import random
import re
import time
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunedesk.core.conversations import Row, SourceRow, content_text
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.datasets.indexing import CHUNK_ROWS, fold, row_facts
from tunedesk.core.editing import edits
from tunedesk.core.searching.piece import Known
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
    marks,
    parse,
    refines,
)
from tunedesk.core.searching.search import search
from tunedesk.core.workspace import Workspace
from tunedesk.errors import UsageError


def imported(folder: Path, rows: list[Row]) -> Dataset:
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    return write_dataset(source, folder / "datasets", name="n", source="s")


def found(folder: Path, rows: list[Row], query: str, known: Known | None = None) -> list[int]:
    return list(Workspace.open(imported(folder, rows), known=known).with_query(query).matches)


def user(text: str, **metadata: object) -> Row:
    return {"messages": [{"role": "user", "content": text}], "metadata": metadata}


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
        ('""', 1, 'nothing between " and "'),
        ("//", 1, "nothing between / and /"),
        ("intent:", 8, "intent: needs a value"),
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


def test_words_are_met_in_any_message_whatever_the_case_and_the_script(tmp_path: Path) -> None:
    rows = [user("Meine STRASSE"), user("привет Мир"), user("CAFE\u0301"), user("ΟΔΟΣ"), user("nothing")]
    workspace = Workspace.open(imported(tmp_path, rows))
    for query, index in [("straße", 0), ("ПРИВЕТ", 1), ("café", 2), ("οδοσ", 3), ("NOTHING", 4)]:
        assert list(workspace.with_query(query).matches) == [index]


def test_a_phrase_is_not_met_across_two_messages(tmp_path: Path) -> None:
    two = [{"role": "user", "content": "credit"}, {"role": "user", "content": "card"}]
    rows: list[Row] = [{"messages": two}, user("credit card")]
    assert found(tmp_path, rows, '"credit card"') == [1]
    assert found(tmp_path, rows, r"/credit\s+card/") == [1]
    assert found(tmp_path, rows, "/credit.card/") == [1]
    assert found(tmp_path, rows, "/^card$/") == [0]


def test_tool_calls_and_content_parts_are_searched(tmp_path: Path) -> None:
    call = {"function": {"name": "get_balance", "arguments": '{"iban": "DE1"}'}}
    rows: list[Row] = [
        {"messages": [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "12 EUR"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "get_balance"}]}]},
    ]
    assert found(tmp_path, rows, "get_balance") == [0, 1]
    assert found(tmp_path, rows, "tool:get_balance") == [0]
    assert found(tmp_path, rows, "tool:eur has:tools") == [0]
    assert found(tmp_path, rows, "user:get_balance -has:tools") == [1]


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


def test_metadata_is_matched_as_a_whole_value_whatever_the_case(tmp_path: Path) -> None:
    rows = [
        user("a", intent="Card_Lost", Rating=4),
        user("b", intent="card_lost_2", Rating=5),
        user("c", lang=["EN", "de"]),
    ]
    assert found(tmp_path, rows, "intent:CARD_lost") == [0]
    assert found(tmp_path, rows, "rating:5") == [1]
    assert found(tmp_path, rows, "rating>=4.5 OR lang:en") == [1, 2]
    assert found(tmp_path, rows, "-rating>0") == [2]


def test_an_unknown_field_is_pointed_at_with_a_likely_one(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="there is no field inten") as caught:
        found(tmp_path, [user("a", intent="x", lang="de")], "a inten:x")
    assert caught.value.column == 3
    assert "intent:" in caught.value.hint
    with pytest.raises(QueryError, match="there is no field http"):
        found(tmp_path, [user("a")], "http://x")


@pytest.mark.parametrize(
    ("query", "notice"),
    [
        ("tokens>5", "tokens are still being counted"),
        ("a OR -loss>1", "no loss is known"),
        ("has:pii", "not been looked for"),
        ("has:error", "checks have not run"),
        ("check:X", "checks have not run"),
        ("dup:no", "not been looked for"),
    ],
)
def test_a_fact_that_is_not_known_yet_is_said_not_guessed(tmp_path: Path, query: str, notice: str) -> None:
    with pytest.raises(QueryError, match=notice):
        found(tmp_path, [user("a")], query)


def test_facts_worked_out_later_are_searched(tmp_path: Path) -> None:
    known = Known(
        tokens=array("I", [5, 50, 500]),
        loss=array("d", [0.5, float("nan"), 3.5]),
        pii=array("I", [1]),
        duplicates=array("I", [0, 2]),
        findings={"E1": array("I", [2])},
        errors=array("I", [2]),
        topics={"Lost card": array("I", [0, 1])},
    )
    rows = [user("a"), user("b"), user("c")]
    expected = {
        "tokens>=50": [1, 2], "loss>2": [2], "loss<9": [0, 2], "has:pii": [1], "dup:yes": [0, 2],
        "dup:no": [1], "check:e1": [2], "check:none": [], "has:error": [2], 'about:"lost card"': [0, 1],
    }  # fmt: skip
    workspace = Workspace.open(imported(tmp_path, rows), known=known)
    for query, indexes in expected.items():
        assert list(workspace.with_query(query).matches) == indexes


def test_facts_worked_out_later_are_searched_on_edited_rows_too(tmp_path: Path) -> None:
    one, none = array("I", [1]), array("I")
    known = Known(tokens=array("I", [5, 50]), pii=one, duplicates=none, findings={"E": one})
    workspace = Workspace.open(imported(tmp_path, [user("a"), user("b")]), known=known)
    workspace = workspace.apply(edits.replace_message([1], 0, "new words"))
    for query in ("tokens>9", "has:pii", "check:E", "new tokens:50", "-tokens<9"):
        assert list(workspace.with_query(query).matches) == [1]
    assert workspace.with_query("dup:no").matched == 2


def test_a_refined_query_is_told_from_another(tmp_path: Path) -> None:
    def narrower(new: str, old: str) -> bool:
        return refines(parse(new).root, parse(old).root)

    for new, old in (("refund", "ref"), ("refund card", "ref"), ("user:refund", "ref"), ("a b c", "a c")):
        assert narrower(new, old)
    for new, old in (("ref", "refund"), ("refund", "user:ref"), ("-refund", "-ref"), ("a OR b", "a")):
        assert not narrower(new, old)


def test_literals_to_highlight_leave_out_what_is_negated() -> None:
    found = marks(parse('Refund -card (user:x OR "a b") assistant:/c+/ tokens>5'))
    assert [(mark.scope, mark.source) for mark in found] == [
        ("", "refund"), ("user", "x"), ("", "a\\ b"), ("assistant", "c+"),
    ]  # fmt: skip


def messages(row: Row) -> list[dict[str, object]]:
    return [message for message in row["messages"] if isinstance(message, dict)]


def said(row: Row, scope: str) -> list[str]:
    return [fold(content_text(m["content"])) for m in messages(row) if scope in ("", m["role"])]


def naive_state(workspace: Workspace, value: str, index: int) -> bool:
    view = workspace.view(index)
    return {
        "edited": view.edited,
        "excluded": view.excluded,
        "tagged": bool(view.tags),
        "system": bool(said(workspace.row(index), "system")),
    }[value]


def naive_column(workspace: Workspace, node: Compare | Field, index: int) -> bool:
    row, view = workspace.row(index), workspace.view(index)
    if isinstance(node, Field):
        return node.value in (view.tags if node.field == "tag" else [row["metadata"]["intent"]])
    size = len(messages(row)) if node.field == "turns" else row_facts(row).chars
    return size > node.bound if node.operator == ">" else size <= node.bound


def naive(workspace: Workspace, node: Node, index: int) -> bool:
    """Answer a query for one row by reading the row itself."""
    match node:
        case Text(scope, needle):
            return any(needle in text for text in said(workspace.row(index), scope))
        case Pattern(scope, source, _):
            return any(re.search(source, text) for text in said(workspace.row(index), scope))
        case State(_, value, _):
            return naive_state(workspace, value, index)
        case Compare() | Field():
            return naive_column(workspace, node, index)
        case Not(part):
            return not naive(workspace, part, index)
        case And(parts):
            return all(naive(workspace, part, index) for part in parts)
        case Or(parts):
            return any(naive(workspace, part, index) for part in parts)
        case _:
            return True


WORDS = ["refund", "card", "Straße", "lost", "мир", "fee"]
TERMS = [
    *WORDS, "user:card", "assistant:refund", "system:bank", "system:мир", "/re.und/", r"user:/\bcard\b/", "turns>3",
    "chars<=60", "intent:i1", "tag:keep", "tag:new", "is:edited", "is:excluded", "is:tagged", "has:system",
]  # fmt: skip


def random_rows(rng: random.Random, count: int) -> list[Row]:
    rows: list[Row] = []
    for _ in range(count):
        spoken = [{"role": "system", "content": rng.choice(["bank", "shop"])}] if rng.random() < 0.6 else []
        for _ in range(rng.randint(1, 3)):
            spoken.append({"role": "user", "content": " ".join(rng.choices(WORDS, k=3))})
            spoken.append({"role": "assistant", "content": " ".join(rng.choices(WORDS, k=2))})
        tags = rng.sample(["keep", "old"], rng.randint(0, 2))
        rows.append({"messages": spoken, "metadata": {"intent": rng.choice(["i1", "i2"]), "tags": tags}})
    return rows


def random_edit(rng: random.Random, count: int) -> edits.Edit:
    some = rng.sample(range(count), rng.choice([1, 2, count // 2]))
    return rng.choice(
        [
            edits.replace_message(some, 1, " ".join(rng.choices(WORDS, k=2))),
            edits.delete_message(some, 0),
            edits.set_role(some, 0, "user"),
            edits.set_system_prompt(None, rng.choice(["мир bank", "", "ein Haus"])),
            edits.set_system_prompt(some, "bank fee"),
            edits.exclude(some),
            edits.include(None),
            edits.tag(some, "new"),
            edits.tag(None, "keep"),
            edits.untag(some, "keep"),
        ]
    )


def random_query(rng: random.Random, depth: int = 2) -> str:
    shape = rng.random()
    if depth == 0 or shape < 0.4:
        return rng.choice(TERMS)
    left, right = random_query(rng, depth - 1), random_query(rng, depth - 1)
    return f"-({left})" if shape < 0.55 else f"({left} OR {right})" if shape < 0.75 else f"({left} {right})"


@pytest.mark.parametrize("seed", range(6))
def test_a_search_over_edited_rows_agrees_with_reading_every_row(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four rows and more count as a bulk edit here, so that prompt layers and bulk entries take part.
    monkeypatch.setattr("tunedesk.core.editing.overlay.FEW", 3)
    rng = random.Random(seed)
    workspace = Workspace.open(imported(tmp_path, random_rows(rng, 40)))
    for _ in range(12):
        edit = random_edit(rng, 40)
        if edit.rows is None or len(edit.indexes() or ()) > 1:
            workspace = workspace.apply(edit)
        if rng.random() < 0.2:
            workspace = workspace.undo()
        for _ in range(6):
            query = random_query(rng)
            workspace = workspace.with_query(query)
            root = workspace.query.root
            assert list(workspace.matches) == [i for i in range(40) if naive(workspace, root, i)], query


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two chunks and a bit; every row says its number."""
    rows = (user(f"row {n} {'even' if n % 2 == 0 else 'odd'}") for n in range(2 * CHUNK_ROWS + 10))
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    return write_dataset(source, tmp_path_factory.mktemp("large"), name="n", source="s")


def test_the_first_screenful_comes_before_the_whole(large: Dataset) -> None:
    steps = list(search(Workspace.open(large).target, parse("even")))
    assert [step.done for step in steps] == [False, True]
    assert steps[0].scanned == CHUNK_ROWS
    assert steps[0].matches[:3] == steps[1].matches[:3] == [0, 2, 4]
    assert len(steps[1].matches) == len(large) // 2
    assert steps[1].matches.position(CHUNK_ROWS + 2) == CHUNK_ROWS // 2 + 1
    assert steps[1].matches.position(1) is None
    assert steps[1].matches[CHUNK_ROWS // 2 - 1 : CHUNK_ROWS // 2 + 1] == [CHUNK_ROWS - 2, CHUNK_ROWS]


def test_a_cancelled_search_ends_without_a_result(large: Dataset) -> None:
    target = Workspace.open(large).target
    assert list(search(target, parse("even"), cancelled=lambda: True)) == []
    stop: list[bool] = []
    steps = search(target, parse("even"), cancelled=lambda: bool(stop))
    assert not next(steps).done
    stop.append(True)
    assert list(steps) == []


def test_a_narrowed_search_finds_what_a_fresh_one_does(large: Dataset) -> None:
    start = Workspace.open(large)
    typed = start
    for end in range(5, len("row 6553") + 1):
        query = f'"{"row 6553"[:end]}"'
        typed = typed.with_query(query)
        assert list(typed.matches) == list(start.with_query(query).matches)
    edited = typed.apply(edits.replace_message([3], 0, "now row 6553 too"))
    assert 3 in list(edited.with_query('"row 6553"').matches)
    assert 3 in list(edited.refreshed().matches)
