"""Exact and near duplicates are found in any order, measured exactly, and fast."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.grouping import duplicates, near_pairs

WORDS = [
    a + b for a in ("ka", "lo", "mi", "ne", "pu", "ra", "si", "to", "wu", "ze") for b in "bcdfghjklmnpqrst"
]


def talk(question: str, answer: str = "Yes, of course.") -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def sentence(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_case_and_spacing_do_not_hide_an_exact_duplicate() -> None:
    rows = [talk("Where is my card?"), talk("Lost my pin"), talk(" where  IS my\ncard? ")]
    assert duplicates.find(rows) == [duplicates.Group((0, 2), 1.0)]


def test_a_changed_word_makes_a_near_duplicate_measured_exactly() -> None:
    text = sentence(1)
    other = text.replace(text.split()[20], "changed", 1)
    rows = [talk(sentence(9)), talk(text), talk(sentence(8)), talk(other)]
    group = duplicates.find(rows)[0]
    assert group.members == (1, 3)
    said = [duplicates.spoken_text(rows[place]) for place in group.members]
    assert group.similarity == duplicates.similarity(*said)
    assert 0.8 <= group.similarity < 1


def test_chains_of_near_duplicates_are_one_group() -> None:
    words = sentence(2, 60).split()
    rows = [talk(" ".join(words[start : start + 55])) for start in (0, 2, 4)]
    assert [group.members for group in duplicates.find(rows)] == [(0, 1, 2)]


def test_different_texts_and_different_sides_are_no_duplicates() -> None:
    assert duplicates.find([talk(sentence(seed)) for seed in range(300)]) == []
    assert duplicates.find([talk("one two"), talk("three four")]) == []


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "我的银行卡昨天在自动取款机里被吞掉了,请问现在应该怎么办才好呢"
    assert duplicates.similarity(text, text.replace("昨天", "今天")) > 0.8
    assert duplicates.similarity(text, "您好,请提供您的账号") < 0.3


def test_empty_rows_are_exact_duplicates_and_break_nothing() -> None:
    assert duplicates.find([{}, {"messages": None}, {"messages": [3]}])[0].members == (0, 1, 2)


def test_pairs_at_the_threshold_are_hardly_ever_missed() -> None:
    rows, near = [], 0
    for seed in range(200):
        words = sentence(seed, 50).split()
        other = [*words[:47], "x", "y", "z"]
        rows += [talk(" ".join(words)), talk(" ".join(other))]
        near += (
            duplicates.similarity(*(duplicates.spoken_text(one) for one in rows[-2:])) >= duplicates.THRESHOLD
        )
    assert near > 150
    assert len(duplicates.find(rows)) == near


def test_groups_are_the_same_in_every_process() -> None:
    code = (
        "from tests.core.test_duplicates import talk, sentence\n"
        "from tunedesk.core.grouping import duplicates\n"
        "rows = [talk(sentence(s // 2) + ' more' * (s % 2)) for s in range(400)]\n"
        "print(duplicates.find(rows))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert seen.pop().count(b"Group") == 200


def test_ten_thousand_rows_take_seconds() -> None:
    rows = [talk(sentence(seed), sentence(10_000 + seed)) for seed in range(9_000)]
    rows += [talk(sentence(seed), sentence(10_000 + seed) + " more") for seed in range(1_000)]
    start = time.process_time()
    assert len(duplicates.find(rows)) == 1_000
    assert time.process_time() - start < 20


def test_the_same_greeting_and_sign_off_glue_nothing_together() -> None:
    hello, bye = (
        "Hello and welcome, how may I help you today?",
        "Thank you for choosing us, have a lovely day.",
    )
    rows = [talk(f"{hello} {sentence(seed, 12)}", f"{sentence(500 + seed, 12)} {bye}") for seed in range(300)]
    assert duplicates.find(rows) == []


def test_many_twins_among_many_texts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_pairs, "FEW", 0)
    rows = [
        talk(sentence(seed), sentence(900 + seed) + " more" * (copy % 2))
        for seed in range(60)
        for copy in range(3)
    ]
    assert [len(group.members) for group in duplicates.find(rows)] == [3] * 60
