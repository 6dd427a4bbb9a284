"""Nothing in validation has a twin in training, and the same seed gives the same bytes everywhere."""

from __future__ import annotations

import collections
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_duplicates import sentence, talk
from tunedesk.core.conversations import Row
from tunedesk.core.grouping import split as splits
from tunedesk.core.grouping import split_files
from tunedesk.errors import DataError


def rows_of(count: int, **metadata: Any) -> list[Row]:
    made = []
    for seed in range(count):
        kept = {key: value(seed) for key, value in metadata.items()}
        made.append({**talk(sentence(seed), sentence(10_000 + seed)), **({"metadata": kept} if kept else {})})
    return made


def test_about_the_share_is_held_out_and_every_row_is_on_one_side() -> None:
    made = splits.split(rows_of(100))
    assert (len(made.train), len(made.validation), made.leaks, made.groups) == (80, 20, 0, 0)
    assert sorted([*made.train, *made.validation]) == list(range(100))
    assert made.warnings == ("20 conversations in validation: below 30 its loss says little",)
    assert splits.split(rows_of(200)).warnings == ()


def test_twins_stay_on_one_side() -> None:
    rows = rows_of(60)
    twins = [talk(sentence(seed) + " more", sentence(10_000 + seed)) for seed in range(40)]
    made = splits.split([*rows, *twins])
    assert made.groups == 40
    for seed in range(40):
        assert (seed in made.train) == (60 + seed in made.train)
    assert len(made.validation) == 20


def test_the_same_question_stays_on_one_side_whatever_the_answer() -> None:
    rows = [*rows_of(20), *(talk(sentence(seed), sentence(500 + seed)) for seed in range(20))]
    made = splits.split(rows, validation=0.5)
    assert all((seed in made.train) == (20 + seed in made.train) for seed in range(20))


def test_a_group_key_keeps_a_customer_on_one_side() -> None:
    rows = rows_of(60, customer=lambda seed: seed % 12)
    made = splits.split(rows, group="customer")
    sides = [
        {rows[place]["metadata"]["customer"] for place in side} for side in (made.train, made.validation)
    ]
    assert not sides[0] & sides[1]
    assert len(made.validation) == 10
    assert "customer" in made.rule


def test_strata_are_held_out_in_like_shares() -> None:
    rows = rows_of(200, intent=lambda seed: "rare" if seed < 20 else "often")
    made = splits.split(rows, by="intent")
    held = collections.Counter(rows[place]["metadata"]["intent"] for place in made.validation)
    assert held == {"rare": 4, "often": 36}


def test_the_seed_decides_and_the_file_order_does_not() -> None:
    rows = rows_of(100)
    shuffled = rows.copy()
    random.Random(3).shuffle(shuffled)

    def held(given: list[Row], seed: int) -> set[str]:
        return {given[place]["messages"][0]["content"] for place in splits.split(given, seed=seed).validation}

    assert held(rows, 1) == held(shuffled, 1)
    assert held(rows, 1) != held(rows, 2)


def test_the_written_bytes_are_the_same_on_any_machine(tmp_path: Path) -> None:
    rows = rows_of(50, intent=lambda seed: "a")
    written = split_files.write_split(rows, splits.split(rows, seed=7), tmp_path / "out")
    assert written.sha256["train.jsonl"] == "3ad8d1437fc261919ac2005f7cec9187a12b4b8c647c33eb4564127b822e3e79"
    assert (
        written.sha256["validation.jsonl"]
        == "10127caba061005ee6b02c8d5d21af8e6abbcf8bb369a5e0cc7cc2c1ff1920e9"
    )
    for name, sha256 in written.sha256.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha256


def test_the_record_tells_how_the_split_was_made(tmp_path: Path) -> None:
    rows = rows_of(50, intent=lambda seed: "a")
    made = splits.split(rows, seed=7)
    written = split_files.write_split(rows, made, tmp_path)
    record = json.loads(written.record.read_text())
    assert record["train"] == 40
    assert record["validation"] == 10
    assert (record["leaks"], record["seed"], record["groups"]) == (0, 7, 0)
    assert record["rule"] == made.rule
    assert record["sha256"] == written.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "split.json",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_only_the_apis_keys_are_written_unless_metadata_is_asked_for(tmp_path: Path) -> None:
    rows = rows_of(20, intent=lambda seed: "a")
    made = splits.split(rows)
    assert b"intent" not in split_files.write_split(rows, made, tmp_path).train.read_bytes()
    assert b"intent" in split_files.write_split(rows, made, tmp_path, keep_metadata=True).train.read_bytes()


def test_a_leak_in_the_written_files_is_refused(tmp_path: Path) -> None:
    rows = [*rows_of(20), talk(sentence(0) + " more", sentence(10_000))]
    wrong = splits.Split(tuple(range(20)), (20,), 0, 0, 0, "by hand")
    assert splits.count_leaks(rows[:20], rows[20:]) == 1
    with pytest.raises(DataError, match="1 written validation rows have a twin"):
        split_files.write_split(rows, wrong, tmp_path)


def test_twins_that_only_the_written_files_show_go_to_training_with_their_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of very many texts, of which not every pair is measured."""
    rows = [*rows_of(60), *(talk(sentence(7), sentence(number)) for number in range(3))]
    first = splits.split(rows)
    told = [[(0, 0)], []]
    monkeypatch.setattr(split_files, "twins_across", lambda train, held: told.pop(0))
    made, written = split_files.split_files(rows, tmp_path)
    assert (set(made.validation), written.leaks) == (set(first.validation) - {first.validation[0]}, 0)
    assert sorted([*made.train, *made.validation]) == list(range(63))
    assert len({place in set(made.train) for place in (60, 61, 62)}) == 1
    with pytest.raises(DataError, match="all that was held out has a twin"):
        splits.with_twins_in_training(first, splits.look(rows), first.validation, share=0.2)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_tiny_sets_have_at_least_one_row_on_each_side(count: int) -> None:
    for share in (0.01, 0.2, 0.99):
        made = splits.split(rows_of(count), validation=share)
        assert made.train
        assert made.validation
    made = splits.split(rows_of(count, intent=str), by="intent")
    assert made.train
    assert made.validation


def test_what_cannot_be_split_is_refused_in_words() -> None:
    with pytest.raises(DataError, match="all conversations are twins"):
        splits.split([talk(sentence(1)), talk(sentence(1) + " more")])
    with pytest.raises(DataError, match="only one conversation"):
        splits.split(rows_of(1))
    with pytest.raises(DataError, match="no conversation has the key 'intent'"):
        splits.split(rows_of(10), by="intent")
    with pytest.raises(DataError, match="not between 0 and 1"):
        splits.split(rows_of(10), validation=1.0)


def test_a_large_group_that_skews_the_share_is_told() -> None:
    rows = [*rows_of(10), *(talk(sentence(99), f"{sentence(98)} {n}") for n in range(90))]
    made = splits.split(rows)
    assert len(made.validation) == 9
    assert any("large groups" in warning for warning in made.warnings)
