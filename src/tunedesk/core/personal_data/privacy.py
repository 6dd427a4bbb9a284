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
from tunedesk.core.personal_data import addresses, credentials, identifiers, names, national_ids
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

_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"\d(?:[ ./()-]{0,2}\d)*")
_LETTERS = re.compile(r"[^\W\d_]+")
_MIXED = re.compile(r"[A-Za-z]\d|\d[A-Za-z]")
_QUESTIONS = (
    (
        "account_number",
        ("number", " no", "konto", "cuenta"),
        re.compile(r"\b(?:account|a/c|acct)\b[^.?!]{0,20}\b(?:number|no)\b|kontonummer|n[uú]mero de cuenta"),
    ),
    (
        "card",
        ("card", "karte", "tarjeta"),
        re.compile(r"\bcard\b[^.?!]{0,12}\b(?:number|no|digits)\b|kartennummer|n[uú]mero de (?:la )?tarjeta"),
    ),
    (
        "secret",
        ("pin", "passw", "passcode", "code", "cvv", "otp"),
        re.compile(r"\bpin\b|password|passcode|passwort|(?:security|verification) code|\bcvv\b|\botp\b"),
    ),
    (
        "phone",
        ("number", "telef", "télé", "móvil", "movil"),
        re.compile(
            r"(?:phone|mobile|contact|cell|callback)\b[^.?!]{0,12}\bnumber|telefon|t[ée]l[ée]phone|"
            r"tel[ée]fono|m[oó]vil"
        ),
    ),
    (
        "date_of_birth",
        ("birth", "dob", "geburt", "nacimiento", "naissance"),
        re.compile(
            r"date of birth|\bdob\b|birth ?da(?:te|y)|geburtsdatum|fecha de nacimiento|date de naissance"
        ),
    ),
    (
        "name",
        ("name", "votre nom", "nombre", "who am i"),
        re.compile(
            r"\b(?:your|ur|full|first|last|customer'?s?|"
            r"account ?holder'?s?)\b[^.?!]{0,24}(?<!user )(?<!business )\bname\b|"
            r"\bihr(?:en)? namen?|votre nom|su nombre|who am i speaking|maiden name"
        ),
    ),
)
"""Kinds that a message may ask the other side for: words that must be there, and the question, in small letters."""

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


def find(text: str, *, asked: frozenset[str] = frozenset()) -> list[Found]:
    """Return the personal data in `text`, in order and without overlaps.

    `asked` are the kinds that the message before asked for (`asked_for`): bare answers are taken for them.
    """
    return settle(_finders(text, asked))


def has_personal_data(text: str) -> bool:
    """Return whether `find` would find anything in `text`, stopping at the first."""
    return next(_finders(text, frozenset()), None) is not None


def asked_for(text: str) -> frozenset[str]:
    """Return the kinds of personal data that a message asks the other side for."""
    low = text.lower()
    return frozenset(
        kind for kind, words, question in _QUESTIONS if holds(low, words) and question.search(low)
    )


def _finders(text: str, asked: frozenset[str]) -> Iterator[Found]:
    """Yield what each finder finds, each run only on a text that can hold its kinds."""
    low = text.lower()
    if "@" in text:
        yield from identifiers.emails(text)
    digit = _DIGIT.search(text)
    if digit:
        yield from _numbers(text, low, asked)
    if digit or "pass" in low or "-----" in low:
        yield from credentials.secrets(text, low)
    yield from names.names(text, low)
    if "name" in asked:
        yield from names.answered_names(text)


def _numbers(text: str, low: str, asked: frozenset[str]) -> Iterator[Found]:
    """Yield what the finders of numbers find; the longest run of digits says which of them can find anything."""
    longest = max(sum(map(str.isdigit, run)) for run in _RUN.findall(text))
    words = frozenset(_LETTERS.findall(low))
    mixed = bool(_MIXED.search(text))
    if longest >= 7:
        yield from _long_numbers(text, asked, longest, mixed)
    short = mixed and (longest >= 3 or not national_ids.PASSPORT_WORDS.isdisjoint(words))
    if longest >= 6 or short or "ssn" in words or "social" in words:
        yield from national_ids.national_ids(text, words, longest, mixed)
    if longest >= 4:
        yield from identifiers.accounts(text, low, "account_number" in asked)
        if "secret" in asked:
            yield from credentials.answered_secrets(text)
    yield from identifiers.births(text, low, "date_of_birth" in asked)
    yield from addresses.addresses(text, low, words)
    if mixed or longest >= 5:
        yield from addresses.postcodes(text, low)
    if text.count(".") > 2 or text.count(":") > 1:
        yield from identifiers.ip_addresses(text)


def _long_numbers(text: str, asked: frozenset[str], longest: int, mixed: bool) -> Iterator[Found]:
    """Yield cards, IBANs and phones."""
    if longest >= 13:
        yield from identifiers.cards(text, "card" in asked)
    if mixed:
        yield from identifiers.ibans(text)
    yield from identifiers.phones(text, "phone" in asked)


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
_COMPANY = re.compile(r"\b([A-Z]\w+) (?:Bank|Insurance|Online|Group|Ltd|Limited|Inc|LLC|PLC|plc|GmbH)\b")


def _public_names(text: str, role: str) -> frozenset[str]:
    """Return words that are no one's name in a row that has this text: a persona it sets, companies it mentions."""
    found = set(_COMPANY.findall(text))
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
    if any(item.kind == "name" for items in found for item in items):
        public = frozenset[str]().union(*(reader.public(text, role) for role, text, _ in texts))
        found = [[item for item in items if not _is_public(item, public)] for items in found]
    known = dict.fromkeys(metadata_names(metadata))
    known.update(dict.fromkeys(item.text for items in found for item in items if item.kind == "name"))
    if not known:
        return found
    mentions = names.Mentions(known)
    return [settle([*items, *mentions.find(text)]) for (_, text, _), items in zip(texts, found, strict=True)]


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
