"""Intents are counted by metadata, else by words; thin ones are named; refusals and hand-offs are shares."""

from __future__ import annotations

from tests.tui.bench import conversation
from tunedesk.core.grouping.coverage import cover
from tunedesk.core.grouping.topics import OTHER, stem, topics, words_of


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


ASKED = {
    "refund invoice": "Hello, I need a refund for the invoice of {month}, please help",
    "reset password": "hi my name is Anna, how can I reset the password of my {month} login?",
    "cancel subscription": "Good morning, I would like to cancel the subscription since {month}",
    "parcel arrived": "Where is the parcel? It has not arrived since {month}",
}
MONTHS = ("January", "March", "April", "June", "July", "August")


def test_topics_are_named_by_what_tells_them_apart_without_fillers_or_peoples_names() -> None:
    asked = [words_of(text.format(month=month)) for month in MONTHS for text in ASKED.values()]
    found = topics(asked)
    assert len(set(found)) == 4
    for place, wanted in enumerate(ASKED):
        mine = {name for at, name in enumerate(found) if at % 4 == place}
        assert len(mine) == 1
        assert set(wanted.split()) & set(mine.pop().split())
    assert not {"hello", "need", "help", "anna", "name"} & {word for name in found for word in name.split()}


def test_endings_make_no_other_topic_and_scripts_without_blanks_have_words() -> None:
    assert len({stem(word) for word in ("cancel", "cancels", "cancelled", "cancelling", "cancellation")}) == 1
    assert len({stem(word) for word in ("delivery", "deliveries")}) == 1
    assert "信用" in words_of("我的信用卡在哪里")
    assert words_of("मेरा कार्ड खो गया")[0] == "कार्ड"


def test_what_is_about_nothing_common_is_other() -> None:
    asked = [["parcel", "late"]] * 20 + [["zebra"], []]
    assert topics(asked)[-2:] == [OTHER, OTHER]


def test_topics_tell_their_conversations_and_intents_do_not() -> None:
    asked = [f"My card was stolen in {place}, block the card" for place in ("Rome", "Bonn", "Lyon", "York")]
    asked += [
        f"The mortgage rate at {place} rose, why the mortgage rate"
        for place in ("Rome", "Bonn", "Lyon", "York")
    ]
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Well."}]}
        for text in asked
    ]
    found = cover(rows)
    assert {name: len(places) for name, places in found.topics.items()} == {
        one.name: one.conversations for one in found.intents
    }
    assert sorted(at for places in found.topics.values() for at in places) == list(range(8))
    assert any(list(places) == [0, 1, 2, 3] for places in found.topics.values())
    assert not cover([{**one, "metadata": {"intent": "a"}} for one in rows]).topics
