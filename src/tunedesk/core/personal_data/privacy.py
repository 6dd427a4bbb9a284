"""Personal data in texts and conversations: found offline, replaced by stable typed placeholders.

The mapping from placeholder to what it stands for is returned apart and never put into a row.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.personal_data import names
from tunedesk.core.personal_data.finding import asked_for, find, has_personal_data
from tunedesk.core.personal_data.placeholders import Placeholders
from tunedesk.core.personal_data.spans import KINDS, Found, holds, settle

__all__ = [
    "KINDS",
    "Found",
    "RowFound",
    "find",
    "find_in_row",
    "has_personal_data",
    "mask_row",
    "row_has_personal_data",
]

_CONTENT = "content"


@dataclass(frozen=True, slots=True)
class RowFound:
    """One stretch of personal data in a conversation."""

    message: int
    """Index of the message; a preference row counts on from its input through both outputs."""
    kind: str
    """One of KINDS."""
    start: int
    """Offset in the text of `field` (a list of content parts: their texts joined by newlines)."""
    end: int
    """Offset after the last character."""
    text: str
    """The characters found."""
    confidence: float
    """0 to 1, as Found has it."""
    field: str = _CONTENT
    """`content`, `name`, `refusal`, or the path of a tool call's arguments."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """One text of a row and where it sits."""

    message: int
    path: tuple[str | int, ...]
    text: str
    offset: int
    role: str

    @property
    def field(self) -> str:
        """The path as people write it."""
        return _CONTENT if self.path[0] == _CONTENT else ".".join(str(step) for step in self.path)


def _messages(row: Row) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Yield the path and dictionary of each message of a row, training or preference."""
    lists: list[tuple[tuple[str | int, ...], Any]] = [(("messages",), row.get("messages"))]
    given = row.get("input")
    if isinstance(given, dict):
        lists.append((("input", "messages"), given.get("messages")))
    lists += [((key,), row.get(key)) for key in ("preferred_output", "non_preferred_output")]
    for path, messages in lists:
        if isinstance(messages, list):
            for index, message in enumerate(messages):
                yield (*path, index), message if isinstance(message, dict) else {}


def _slots(row: Row) -> list[tuple[tuple[str | int, ...], _Slot]]:
    """Return the texts of a row in order, each with its message's path."""
    slots: list[tuple[tuple[str | int, ...], _Slot]] = []
    for index, (where, message) in enumerate(_messages(row)):
        role = str(message.get("role"))
        for path, text, offset in _texts(message):
            slots.append((where, _Slot(index, path, text, offset, role)))
    return slots


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, int]]:
    """Yield path, text and offset of the texts of one message."""
    content = message.get("content")
    if isinstance(content, str):
        yield (_CONTENT,), content, 0
    elif isinstance(content, list):
        offset = 0
        for index, part in enumerate(content):
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield (_CONTENT, index, "text"), text, offset
                offset += len(text) + 1
    for key in ("name", "refusal"):
        if isinstance(message.get(key), str):
            yield (key,), message[key], 0
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield ("tool_calls", index, "function", "arguments"), function["arguments"], 0
    function = message.get("function_call")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        yield ("function_call", "arguments"), function["arguments"], 0


_NAME_KEY = re.compile(
    r"(?:^|_)(?:customer|client|user|author|agent|person|contact|requester|assignee|full|first|last)?_?name$",
    re.I,
)
_NAME_VALUE = re.compile(r"[^\W\d_][^\W\d_.'’ -]*(?: [^\W\d_]?[^\W\d_.'’-]*\.?){0,3}")


def metadata_names(metadata: object) -> list[str]:
    """Return the names of people that a row's metadata gives."""
    found: list[str] = []
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        values = value if isinstance(value, list) else [value]
        if isinstance(key, str) and _NAME_KEY.search(key):
            found += [
                one
                for one in values
                if isinstance(one, str)
                and 2 < len(one) < 60
                and not one.lower().endswith("bot")
                and _NAME_VALUE.fullmatch(one)
            ]
    return [name for name in found if not all(names.is_ordinary(part) for part in name.split())]


_PERSONA = re.compile(r"\b(?:[Yy]ou are|[Yy]our name is) ([A-Z]\w+(?: [A-Z]\w+)*)")
_MACHINE = re.compile(
    r"\b(?:language model|(?:AI|virtual|digital) (?:model|assistant|agent)|chat ?bot)\b", re.I
)
_OWN_NAME = re.compile(r"\b(?:[Mm]y name is|I am|I['’]m|[Cc]all me) ([A-Z]\w+(?: [A-Z]\w+)*)")
"""How a model that says it is one gives the name it was made with, which is nobody's."""
_COMPANIES = ("Bank", "Insurance", "Online", "Group", "Ltd", "Limited", "Inc", "LLC", "PLC", "plc", "GmbH")
_COMPANY = re.compile(rf"\b([A-Z]\w+) (?:{'|'.join(_COMPANIES)})\b")


def _public_names(text: str, role: str) -> frozenset[str]:
    """Return words that are no one's name in a row that has this text: a persona it sets, companies it mentions."""
    found = set(_COMPANY.findall(text)) if holds(text, _COMPANIES) else set()
    if role in ("system", "developer"):
        found.update(word for name in _PERSONA.findall(text) for word in name.split())
    elif role == "assistant" and "I" in text and _MACHINE.search(text):
        found.update(word for name in _OWN_NAME.findall(text) for word in name.split())
    return frozenset(found)


class Reader:
    """Reads single texts for `find_in_row`; one that remembers what it read may stand in its place."""

    def find(self, text: str, asked: frozenset[str]) -> list[Found]:
        """Return what `find` does."""
        return find(text, asked=asked)

    def asks(self, text: str) -> frozenset[str]:
        """Return what `asked_for` does."""
        return asked_for(text)

    def public(self, text: str, role: str) -> frozenset[str]:
        """Return the words of `text` that are no one's name in its row."""
        return _public_names(text, role)


_READER = Reader()


def _is_public(item: Found, public: frozenset[str]) -> bool:
    """Return whether a find is a name made of nothing but public words."""
    return item.kind == "name" and public.issuperset(item.text.split())


def find_in_texts(
    texts: Sequence[tuple[str, str, str]], metadata: object, reader: Reader = _READER
) -> list[list[Found]]:
    """Return what each of a conversation's texts holds, given with its role and its field (`content`, `name` …).

    By itself, by the question before it, by names known elsewhere: from another text or from the metadata.
    """
    found: list[list[Found]] = []
    asked: frozenset[str] = frozenset()
    for role, text, field in texts:
        asking = asked if role == "user" else frozenset[str]()
        found.append(reader.find(text, asking) if field != "name" else [])
        if field == _CONTENT and role in ("user", "assistant"):
            asked = reader.asks(text) if role == "assistant" else frozenset()
    return found_together(found, texts, metadata, reader)


def found_together(
    found: list[list[Found]],
    texts: Sequence[tuple[str, str, str]],
    metadata: object,
    reader: Reader = _READER,
) -> list[list[Found]]:
    """Return what a conversation's texts hold, given what each holds by itself and by the question before it.

    What is nobody's name in this row is left out; names known by now are found wherever they are mentioned.
    """
    if any(item.kind == "name" for items in found for item in items):
        public = frozenset[str]().union(*(reader.public(text, role) for role, text, _ in texts))
        found = [[item for item in items if not _is_public(item, public)] for items in found]
    known = dict.fromkeys(metadata_names(metadata))
    known.update(dict.fromkeys(item.text for items in found for item in items if item.kind == "name"))
    if not known:
        return found
    mentions = names.Mentions(known)
    for place, (_, text, _) in enumerate(texts):
        if again := list(mentions.find(text)):
            found[place] = settle([*found[place], *again])
    return found


def _find_slots(row: Row, reader: Reader = _READER) -> list[tuple[tuple[str | int, ...], _Slot, list[Found]]]:
    """Return each text of a row with what it holds."""
    slots = _slots(row)
    texts = [(slot.role, slot.text, str(slot.path[0])) for _, slot in slots]
    found = find_in_texts(texts, row.get("metadata"), reader)
    return [(where, slot, items) for (where, slot), items in zip(slots, found, strict=True)]


def find_in_row(row: Row, reader: Reader = _READER) -> list[RowFound]:
    """Return the personal data of a conversation, in order.

    A message is read with the question before it, and a name once known is found in all messages. Metadata is not
    searched (uploads leave it out), but the names it gives are looked for.
    """
    return [
        RowFound(
            slot.message,
            item.kind,
            item.start + slot.offset,
            item.end + slot.offset,
            item.text,
            item.confidence,
            slot.field,
        )
        for _, slot, items in _find_slots(row, reader)
        for item in items
    ]


def row_has_personal_data(row: Row) -> bool:
    """Return whether `find_in_row` would find anything."""
    return any(items for _, _, items in _find_slots(row))


def mask_row(row: Row, mapping: Mapping[str, str] | None = None) -> tuple[Row, dict[str, str]]:
    """Return `row` with its personal data replaced by placeholders, and placeholder → value to be kept locally.

    One person or value has one placeholder through the whole conversation. `mapping` carries on from an earlier
    call, so that further rows of the same conversation agree with it. Metadata stays as it is: export leaves it out.
    """
    slots = _find_slots(row)
    placeholders = Placeholders(mapping or {}, "\n".join(slot.text for _, slot, _ in slots))
    placeholders.name_people([item.text for _, _, items in slots for item in items if item.kind == "name"])
    masked = copy.deepcopy(row)
    for where, slot, items in slots:
        if items:
            _put(masked, (*where, *slot.path), _replaced(slot, items, placeholders))
    return masked, placeholders.mapping


def _replaced(slot: _Slot, items: list[Found], placeholders: Placeholders) -> str:
    """Return a text with each stretch replaced; a bare number in JSON arguments becomes a string, to stay JSON."""
    pieces, at = [], 0
    for item in items:
        placeholder = placeholders.of(item.kind, item.text)
        if slot.path == ("name",):
            placeholder = placeholder.strip("[]")
        if slot.path[-1] == "arguments" and _is_bare(slot.text, item):
            placeholder = f'"{placeholder}"'
        pieces += [slot.text[at : item.start], placeholder]
        at = item.end
    return "".join([*pieces, slot.text[at:]])


def _is_bare(text: str, item: Found) -> bool:
    """Return whether a stretch of JSON is a number value, not part of a string."""
    return text[: item.start].rstrip()[-1:] in (":", ",", "[") and text[item.end :].lstrip()[:1] in (
        ",",
        "}",
        "]",
    )


def _put(row: Row, path: tuple[str | int, ...], text: str) -> None:
    """Set the text at a path of a row."""
    place: Any = row
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = text
