"""Which system prompts conversations have, and which variables their metadata cannot fill."""

from __future__ import annotations

from tunedesk.core.conversations import Row
from tunedesk.core.editing.prompts import in_use, missing


def row(prompt: str, **metadata: object) -> Row:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    return {
        "messages": [{"role": "system", "content": prompt}, *said] if prompt else said,
        "metadata": metadata,
    }


def test_prompts_are_counted_the_most_frequent_first_rows_without_one_too() -> None:
    preference = {"input": {"messages": [{"role": "developer", "content": "B"}]}}
    assert in_use([row("A"), row("B"), preference, row("B"), row("")]) == [("B", 3), ("A", 1), ("", 1)]


def test_variables_without_a_value_are_counted() -> None:
    rows = [row("", bank="Alder", plan=1), row("", bank=None), row("", bank=["x"]), {"messages": []}]
    assert missing(rows, "At {{bank}} on {{ plan }} of {{bank}}") == {"bank": 3, "plan": 3}
    assert missing(rows[:1], "At {{bank}}") == {}
    assert missing(rows, "no variables") == {}
