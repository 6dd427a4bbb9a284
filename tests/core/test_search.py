"""A search finds exactly the rows that a reading of each row would."""

from __future__ import annotations

import random
import re
from array import array
from pathlib import Path

import pytest

from tests.core.rows_found import found, imported, user
from tunedesk.core.conversations import Row, SourceRow, content_text
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.datasets.indexing import CHUNK_ROWS, fold, row_facts
from tunedesk.core.editing import edits
from tunedesk.core.searching.piece import Known
from tunedesk.core.searching.query import (
    And,
    Compare,
    Field,
    Node,
    Not,
    Or,
    Pattern,
    QueryError,
    State,
    Text,
    parse,
)
from tunedesk.core.searching.search import search
from tunedesk.core.workspace import Workspace


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
    known = Known(
        tokens=array("I", [5, 50]),
        pii=array("I", [1]),
        duplicates=array("I"),
        findings={"E": array("I", [1])},
    )
    workspace = Workspace.open(imported(tmp_path, [user("a"), user("b")]), known=known)
    workspace = workspace.apply(edits.replace_message([1], 0, "new words"))
    for query in ("tokens>9", "has:pii", "check:E", "new tokens:50", "-tokens<9"):
        assert list(workspace.with_query(query).matches) == [1]
    assert workspace.with_query("dup:no").matched == 2


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
    if seed >= 3:
        monkeypatch.setattr("tunedesk.core.datasets.dataset_writer.CHUNK_ROWS", 16)
        monkeypatch.setattr("tunedesk.core.searching.search.SCREENFUL", seed)
        monkeypatch.setattr("tunedesk.core.searching.search._GLIMPSE", 5)
    rng = random.Random(seed)
    workspace = Workspace.open(imported(tmp_path, random_rows(rng, 40)))
    if seed % 2:
        monkeypatch.setattr("tunedesk.core.datasets.shared_texts._WORTH", 2)
        workspace.dataset.warm()
        assert workspace.dataset.shared.keys() == {"user", "assistant", "tool"}
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
            expected = [i for i in range(40) if naive(workspace, root, i)]
            assert list(workspace.matches) == expected, query
            for step in search(workspace.target, workspace.query):
                assert list(step.matches) == [i for i in expected if i < step.scanned], query


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two chunks and a bit; every row says its number."""
    rows = (user(f"row {n} {'even' if n % 2 == 0 else 'odd'}") for n in range(2 * CHUNK_ROWS + 10))
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    return write_dataset(source, tmp_path_factory.mktemp("large"), name="n", source="s")


def test_the_first_screenful_comes_before_the_whole(large: Dataset) -> None:
    steps = list(search(Workspace.open(large).target, parse("even")))
    assert [step.done for step in steps] == [False, True]
    assert steps[0].scanned < CHUNK_ROWS / 8
    assert steps[0].matches[:3] == steps[1].matches[:3] == [0, 2, 4]
    assert len(steps[1].matches) == len(large) // 2
    assert steps[1].matches.position(CHUNK_ROWS + 2) == CHUNK_ROWS // 2 + 1
    assert steps[1].matches.position(1) is None
    assert steps[1].matches[CHUNK_ROWS // 2 - 1 : CHUNK_ROWS // 2 + 1] == [CHUNK_ROWS - 2, CHUNK_ROWS]


def test_a_few_matches_are_shown_before_the_whole_is_searched(
    large: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.core.searching.search.EARLY_S", 0.0)
    target = Workspace.open(large).target
    steps = list(search(target, parse('"row 12 even"')))
    assert [(step.done, list(step.matches)) for step in steps] == [(False, [12]), (True, [12])]
    assert [step.done for step in search(target, parse("nowhere"))] == [True]


def test_texts_that_rows_share_are_found_over_all_chunks_and_looked_at_once(tmp_path: Path) -> None:
    rows = (
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"say {n % 7}"}]}
        for n in range(CHUNK_ROWS + 10)
    )
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    dataset = write_dataset(source, tmp_path, name="n", source="s")
    dataset.warm()
    assert [list(places) for places in dataset.shared["assistant"].fresh] == [[0, 1, 2, 3, 4, 5, 6], []]
    assert "user" not in dataset.shared
    workspace = Workspace.open(dataset)
    fives = [n for n in range(len(dataset)) if n % 7 == 5]
    assert list(workspace.with_query("assistant:5").matches) == fives
    assert list(workspace.with_query(r"assistant:/\b5/").matches) == fives
    assert list(workspace.with_query("65541").matches) == [65541]
    assert list(workspace.with_query("65541 OR assistant:5").matches) == sorted([65541, *fives])
    edited = workspace.apply(edits.replace_message([5], 1, "say nothing"))
    assert list(edited.with_query("assistant:5").matches) == fives[1:]
    more = edited.add_rows([user("a 65541 5"), user("b")], "added")
    assert list(more.with_query("65541").matches) == [65541, len(dataset)]


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
