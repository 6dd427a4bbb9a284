"""The conversation under the cursor, message by message, with what is trained marked along its side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from tunedesk.core.conversations import Row, content_text
from tunedesk.terminal import visible
from tunedesk.tui.widgets.block_view import MOST_CHARACTERS, Block, BlockView, Needle
from tunedesk.tui.widgets.plain import one_line, plain_line

_SIGNS = {
    "system": "■ SYSTEM", "developer": "■ DEVELOPER", "user": "▷ USER", "assistant": "◀ ASSISTANT",
    "tool": "⚙ TOOL", "function": "⚙ FUNCTION",
}  # fmt: skip
_KINDS = {"user": "first", "assistant": "second"}
_TRAINED_GUTTER = " ┃"
_LONGEST_VALUE = 200
_DEPTH = 6
"""Levels of a row in which texts are cut: the parts of a message's content lie in the fifth."""


class ConversationView(BlockView):
    """Roles told apart by sign, word and colour; trained messages with a bar and the word; raw JSON by one key."""

    BORDER_TITLE = "Conversation"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "raw", "Raw", show=False, id="conversation.raw", tooltip="Show the row as JSON, or not"),
    ]

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__(empty="no conversation")
        self.raw = False
        """Whether the row is shown as JSON."""
        self._row: Row | None = None
        self._title = ""
        self._needles_of_query: Sequence[Needle] = ()

    def show_row(
        self, row: Row | None, title: str, *, needles: Sequence[Needle] = (), keep_place: bool = False
    ) -> None:
        """Show `row` under `title`, matches of the filter marked."""
        same = keep_place and row == self._row
        self._row, self._title, self._needles_of_query = row, title, needles
        self.border_title = plain_line(title)
        if same:
            self.show(self.blocks, needles=needles, keep_place=True)
        else:
            self._draw(keep_place=keep_place)

    def shown_row(self) -> tuple[Row | None, str]:
        """Return what `show_row` was given: the row and the title."""
        return self._row, self._title

    @dataclass
    class MatchesPassed(Message):
        """The user wants the next match, or the one before, and this conversation has no more."""

        step: int

    def passed(self, step: int) -> bool:
        """Ask for the next conversation that matched, or the one before."""
        self.post_message(self.MatchesPassed(step))
        return True

    @property
    def message(self) -> int | None:
        """Index of the message under the cursor; None when it is on something else."""
        count = len(messages_of(self._row or {}))
        return self.cursor if not self.raw and self.cursor < count else None

    def go_to_message(self, number: int) -> None:
        """Put the cursor on a message, unless the row is shown as JSON."""
        if not self.raw and number < len(messages_of(self._row or {})):
            self._go(number)

    def _draw(self, *, keep_place: bool) -> None:
        blocks = [] if self._row is None else [raw_block(self._row)] if self.raw else blocks_of(self._row)
        self.show(blocks, needles=self._needles_of_query, keep_place=keep_place)
        if self.raw and blocks:
            self.action_fold()

    def action_raw(self) -> None:
        """Show the row as JSON, or as messages again."""
        self.raw = not self.raw
        self._draw(keep_place=False)


def messages_of(row: Row) -> list[Any]:
    """Return the row's messages as they are, an empty list when it has none (a preference row's input counts)."""
    messages = row.get("messages")
    if isinstance(messages, list):
        return messages
    given = row.get("input")
    messages = given.get("messages") if isinstance(given, Mapping) else None
    return messages if isinstance(messages, list) else []


def raw_block(row: Row) -> Block:
    """Return the row as indented JSON."""
    text = json.dumps(_cut(row), ensure_ascii=False, indent=2)
    return Block("{} JSON", visible(text[:MOST_CHARACTERS]), "quiet", left_out=_over(text) + _cut_off(row))


def blocks_of(row: Row) -> list[Block]:
    """Return a block for every message, then for outputs, tools and metadata."""
    blocks = [_message_block(number, message) for number, message in enumerate(messages_of(row), 1)]
    for key, name in (("preferred_output", "✔ PREFERRED"), ("non_preferred_output", "✘ NOT PREFERRED")):
        outputs = row.get(key)
        if isinstance(outputs, list):
            trained = key == "preferred_output"
            blocks += [_message_block(0, message, head=name, trained=trained) for message in outputs]
    tools = row.get("tools")
    if isinstance(tools, list) and tools:
        blocks.append(Block("tools offered", "\n".join(map(_tool_line, tools)), "quiet"))
    metadata = row.get("metadata")
    if isinstance(metadata, Mapping) and metadata:
        text = "\n".join(f"{one_line(str(key))}: {_short(value)}" for key, value in metadata.items())
        blocks.append(Block("metadata (stays here)", text, "quiet"))
    return blocks


def _message_block(number: int, message: Any, *, head: str = "", trained: bool | None = None) -> Block:
    if not isinstance(message, Mapping):
        return Block(f"{number} not a message", visible(json.dumps(message, ensure_ascii=False)), "quiet")
    role = str(message.get("role", ""))
    if trained is None:
        trained = role == "assistant" and message.get("weight") != 0
    words = [head or f"{number} {_SIGNS.get(role, '? ' + one_line(role))}"]
    if isinstance(message.get("name"), str):
        words.append(one_line(message["name"]))
    if isinstance(message.get("tool_call_id"), str):
        words.append("answers " + one_line(message["tool_call_id"]))
    if trained:
        words.append("· trained")
    elif role == "assistant" and not head:
        words.append("· weight 0, not trained")
    gutter = _TRAINED_GUTTER if trained else "  "
    scope = "system" if role == "developer" else role if role in ("system", "user", "assistant") else "tool"
    said, calls = "\n".join(_said(message)), "\n".join(_calls(message))
    # What is searched as a tool's is marked as such: a call stands in the assistant's block.
    tail = (len(said) + 1, "tool") if calls and said.strip() else None
    if calls and tail is None:
        scope = "tool"
    body = "\n".join(filter(None, (said, calls)))
    left_out = _cut_off(message.get("content"))
    return Block(" ".join(words), body, _KINDS.get(role, "quiet"), gutter, scope, tail, left_out)


def _said(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            yield from _part_lines(part)
    elif content is not None:
        yield _text(content_text(content) if isinstance(content, str) else json.dumps(content))
    if message.get("refusal"):
        yield "refusal: " + _text(str(message["refusal"]))


def _calls(message: Mapping[str, Any]) -> Iterator[str]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield from _call_lines(call.get("function") if isinstance(call, Mapping) else call, call)
    if message.get("function_call"):
        yield from _call_lines(message["function_call"], {})


def _text(text: str) -> str:
    return visible(text[:MOST_CHARACTERS].replace("\r\n", "\n").expandtabs(4))


def _over(text: str) -> int:
    return max(0, len(text) - MOST_CHARACTERS)


def _cut(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value whose texts are no longer than is shown of one."""
    if isinstance(value, str):
        return value[:MOST_CHARACTERS]
    if isinstance(value, list) and depth:
        return [_cut(one, depth - 1) for one in value]
    if isinstance(value, Mapping) and depth:
        return {key: _cut(one, depth - 1) for key, one in value.items()}
    return value


def _cut_off(value: Any, depth: int = _DEPTH) -> int:
    """Return how many characters `_cut` leaves out of a value."""
    if isinstance(value, str):
        return _over(value)
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return sum(_cut_off(one, depth - 1) for one in held) if depth else 0


def _part_lines(part: Any) -> Iterator[str]:
    if not isinstance(part, Mapping):
        yield _short(part)
    elif isinstance(part.get("text"), str):
        yield _text(part["text"])
    else:
        kind = str(part.get("type", "part"))
        inner = part.get(kind)
        where = inner.get("url") if isinstance(inner, Mapping) else inner
        yield f"[{one_line(kind)}: {_short(where)}]"


def _call_lines(function: Any, call: Any) -> Iterator[str]:
    if not isinstance(function, Mapping):
        yield "→ call " + _short(function)
        return
    given = function.get("arguments")
    try:
        arguments = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        arguments = given
    known = f"  ({one_line(str(call.get('id')))})" if isinstance(call, Mapping) and call.get("id") else ""
    yield f"→ call {one_line(str(function.get('name', '?')))}{known}"
    if isinstance(arguments, Mapping):
        for key, value in arguments.items():
            yield f"    {one_line(str(key))} = {_whole(value)}"
    elif arguments:
        yield "    " + _whole(arguments)


def _tool_line(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        return _short(tool)
    return f"{one_line(str(function.get('name', '?')))}: {_short(function.get('description') or '')}"


def _whole(value: Any) -> str:
    """Return all of an argument, its further lines indented: it is trained on, and a long message is folded."""
    return _text(_as_text(value)).replace("\n", "\n      ")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _short(value: Any) -> str:
    text = _as_text(value)
    cut = one_line(text[:_LONGEST_VALUE])
    return cut + f"… ({len(text):,} characters)" if len(text) > _LONGEST_VALUE else cut
