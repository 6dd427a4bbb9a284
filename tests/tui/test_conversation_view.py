"""What the conversation view makes of messages, whatever stands in them."""

from __future__ import annotations

import json

from tunedesk.core.conversations import Row
from tunedesk.tui.panes.conversation_view import blocks_of


def calling(arguments: object, content: str | None = None) -> Row:
    call = {"id": "c1", "function": {"name": "mail", "arguments": arguments}}
    return {"messages": [{"role": "assistant", "content": content, "tool_calls": [call]}]}


def test_a_call_shows_its_arguments_whole_a_line_each() -> None:
    text = "Dear Ann,\n" + "so it is, " * 100 + "bye"
    (block,) = blocks_of(calling(json.dumps({"to": "ann", "text": text, "n": [1]})))
    shown = block.body.splitlines()
    assert shown[:3] == ["→ call mail  (c1)", "    to = ann", "    text = Dear Ann,"]
    assert shown[3].endswith(", bye")
    assert shown[4] == "    n = [1]"
    (block,) = blocks_of(calling("no JSON " * 50))
    assert block.body.count("no JSON") == 50


def test_matches_of_calls_are_looked_for_where_the_search_finds_them() -> None:
    assert blocks_of(calling("{}"))[0].scope == "tool"
    (both,) = blocks_of(calling("{}", "Let me mail."))
    assert both.scope == "assistant"
    assert both.tail == (len("Let me mail.\n"), "tool")
    assert blocks_of({"messages": [{"role": "assistant", "content": None}]})[0].scope == "assistant"
