"""Intents are counted by metadata, else by words; thin ones are named; refusals and hand-offs are shares."""

from __future__ import annotations

from tests.tui.bench import conversation
from tunedesk.core.grouping.coverage import cover


def test_intents_come_from_metadata_and_few_of_one_are_thin() -> None:
    rows = [conversation(number) for number in range(40)]
    rows += [conversation(0, intent="closing") for _ in range(2)]
    found = cover(rows)
    assert found.by == "intent"
    assert [(one.name, one.conversations) for one in found.intents] == [
        ("card_question", 20), ("loan_question", 20), ("closing", 2),
    ]  # fmt: skip
    assert found.thin == ("closing",)


def test_without_metadata_topics_are_named_by_their_words() -> None:
    rows = []
    for number in range(30):
        about = ("a replacement card", "mortgage interest rates", "a forgotten password")[number % 3]
        rows.append({**conversation(0, user=f"Please tell me about {about}, case {number}"), "metadata": {}})
    found = cover(rows)
    assert found.by == "topics"
    assert sorted(one.conversations for one in found.intents if one.conversations > 5) == [10, 10, 10]
    assert any("mortgage" in one.name for one in found.intents)


def test_values_that_hardly_repeat_name_no_intents() -> None:
    rows = [{**conversation(number), "metadata": {"subject": f"Subject {number}"}} for number in range(9)]
    assert cover(rows).by == "topics"


def test_refusals_and_hand_offs_are_shares_of_conversations() -> None:
    rows = [
        conversation(0, assistant="I'm sorry, but I can't assist with that."),
        conversation(2, assistant="I will transfer you to a colleague in cards."),
        conversation(4),
        conversation(6),
    ]
    found = cover(rows)
    assert (found.refusals, found.hand_offs) == (0.25, 0.25)
    assert cover([]).intents == ()
