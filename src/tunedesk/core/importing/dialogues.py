"""Lists of turns under any key: objects with a speaker and a text, pairs of them, lines, or texts in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

from tunedesk.core.checking.talk_checks import is_agent
from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns, elements, helpdesk, moments, trees
from tunedesk.core.importing.roles import Turn, role_of, said
from tunedesk.core.importing.rows import NotARow, Options, Record, spoken_row, tools_of

_TURN_LISTS = (
    "conversations",
    "conversation",
    "messages",
    "contents",
    "turns",
    "events",
    "dialogue",
    "dialog",
    "utterances",
    "original",
    "log",
    "chat",
    "items",
    "comments",
    "conversation_parts",
    "transcript",
    "data",
    "dial",
)
"""Keys under which a conversation's turns are met, in order of trust."""
_EXCHANGE_LISTS = frozenset(
    ("conversation", "conversations", "dialogue", "dialog", "turns", "dial", "log", "chat")
)
"""Keys under which each element may hold what both sides said; under others such a list holds records."""
_SENT = (*elements.TEXTS, "sent", "sentence")
_ASKED = (
    "input", "prompt", "messages", "conversation", "conversations", "history", "context", "chat_history",
)  # fmt: skip
_ANSWERS = ("output", "ideal", "completion", "response", "answer", "target", "reference", "reply")
"""Keys of a list of turns up to the question, and of its answer beside it."""
_PASTS = ("history", "chat_history", "context", "past")
_NEXT = ("message", "query", "question", "prompt", "input", "instruction")
"""Keys of a list of earlier turns, and of the question that follows them."""
_DEPTH = 3
"""Objects around a list of turns."""
_UNSPOKEN = (
    "request_suggestions",
    "query",
    "select_task",
    "select_primary",
    "return_item",
    "instruct",
    "complete",
)
"""Actions of event logs (STAR) that are done, not said."""


def turn_list(record: Record) -> str:
    """Return the key of `record` that holds its turns (objects with a speaker and a text, or pairs), or nothing."""
    ordered = likely_keys(record)
    for key in (*ordered, *(key for key in record if key not in ordered)):
        listed = _rows(record[key])
        if any(elements.turns_of(item, guessing=True) for item in listed[:5]):
            return key
        if columns.plain(str(key)) in _EXCHANGE_LISTS and listed and all(map(_exchange, listed[:5])):
            return key
    return ""


def _rows(value: object) -> list[Any]:
    """Return the elements of a list; of an object of equally long lists, as tables are written by columns, its rows."""
    if isinstance(value, Mapping) and value and all(isinstance(one, list) for one in value.values()):
        lists = list(value.values())
        if len({len(one) for one in lists}) == 1:
            return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    return value if isinstance(value, list) else []


def _exchange(item: object) -> list[Turn]:
    """Return the two turns of an element that holds what both sides said, each under its name; else nothing."""
    if not isinstance(item, Mapping):
        return []
    spoken: dict[str, str] = {}
    for key, value in item.items():
        words = columns.plain(str(key)).split("_")
        names = words[0] not in columns.SAYING and set(words[1:]) <= columns.SAYING
        role = role_of(words[0]) if names else None
        text = (
            next((value[name] for name in _SENT if name in value), None)
            if isinstance(value, Mapping)
            else value
        )
        if role in ("user", "assistant", "system") and isinstance(text, str):
            spoken[role] = text
    if not spoken.keys() & {"user", "assistant"} and (both := _asked_and_answered(item)):
        return both
    # The system that answers a user in each exchange is the assistant.
    answer = spoken.get("assistant", spoken.get("system"))
    return (
        [Turn("user", spoken["user"]), Turn("assistant", answer)]
        if "user" in spoken and answer is not None
        else []
    )


def _asked_and_answered(item: Mapping[str, Any]) -> list[Turn]:
    """Return the turns of an element of just an input and its output, with the system prompt it may begin with."""
    if not {"input", "output"} <= item.keys() <= {"input", "output", "system", "need_eos_token", "sep"}:
        return []
    made = [Turn("user", said(item["input"])), Turn("assistant", said(item["output"]))]
    told = said(item.get("system"))
    return [Turn("system", told), *made] if told.strip() else made


def unnamed_list(record: Record) -> str:
    """Return the key of `record` that holds texts without speakers, as conversations are: one side, then the other."""
    for key in likely_keys(record):
        value = record[key]
        if isinstance(value, list) and len(value) > 1 and all(_bare_text(item) for item in value):
            return key
    return ""


def likely_keys(record: Record) -> list[str]:
    """Return the keys of `record` that are called as lists of turns are, in order of trust."""
    by_name = {columns.plain(str(key)): key for key in record}
    return [by_name[name] for name in _TURN_LISTS if name in by_name]


def _bare_text(item: object) -> str:
    """Return what an element of a list says where it names nobody; nothing when it is no text."""
    if isinstance(item, Mapping):
        keys = {columns.plain(str(key)): key for key in item}
        if keys.keys() & set(elements.SPEAKERS):
            return ""
        item = next((item[keys[name]] for name in elements.TEXTS if name in keys), None)
    return item.strip() if isinstance(item, str) and not (item[:1] == "{" and item[-1:] == "}") else ""


def inside(record: Record, depth: int = _DEPTH) -> Record:
    """Return `record`, or the object in it that holds a list of turns, with what is around it.

    Empty when there is none, or more than one.
    """
    if turn_list(record):
        return record
    held = list(islice(_holders(record, depth), 2))
    return held[0] if len(held) == 1 else {}


def _holders(record: Record, depth: int) -> Iterator[Record]:
    if turn_list(record):
        yield record
        return
    for key, value in record.items() if depth else ():
        around = {name: one for name, one in record.items() if name != key}
        # Two of a list are enough to know that it holds more than one conversation.
        for only in value[:2] if isinstance(value, list) else [value]:
            if isinstance(only, Mapping):
                yield from ({**around, **found} for found in _holders(only, depth - 1))


def dialogue(record: Record, options: Options) -> Row:
    """Return the row of a record's list of turns; raises NotARow."""
    if trees.is_tree(record):
        return spoken_row(trees.turns(record), record, options, ["mapping", "prompt"])
    key = turn_list(record)
    if not key and not (found := inside(record)):
        return _in_turn(record, options)
    if not key:
        record, key = found, turn_list(found)
    level = next((v for k, v in record.items() if columns.plain(str(k)) == "completion_level"), "Complete")
    if level != "Complete":
        raise NotARow(f"the dialogue is unfinished ({said(level)})")
    turns = _turns(record, key)
    turns += _answer(record, key, turns)
    tools_key = next((name for name in ("tools", "functions") if name in record), "")
    row = spoken_row(turns, record, options, [key, tools_key, "system", "delexed", *_ANSWERS])
    tools = tools_of(record.get(tools_key))
    return {**row, "tools": tools} if tools else row


def _turns(record: Record, key: str) -> list[Turn]:
    turns: list[Turn] = []
    crew = elements.crew_of({name: value for name, value in record.items() if name != key})
    for place, item in enumerate(_in_time(_rows(record[key]))):
        if both := _exchange(item):
            turns += both
            continue
        if isinstance(item, Mapping) and item.get("Action", item.get("action")) in _UNSPOKEN:
            continue
        made = elements.turns_of(item, crew)
        if isinstance(item, Mapping) and _is_aside(item):
            turns += [replace(turn, speaker="note") for turn in made]
        elif not made and elements.is_wordless(item):
            turns.append(Turn("note", said(item)))
        elif not made:
            raise NotARow(f"turn {place + 1} has no speaker or no text")
        else:
            turns += made
    return turns


def _in_time(items: list[Any]) -> list[Any]:
    """Return the elements of a list with the first one first, where their times say that the newest stands first."""
    if not items or elements.time_of(items[0]) is None or elements.time_of(items[-1]) is None:
        return items
    at = [None if (time := elements.time_of(item)) is None else moments.moment(str(time)) for item in items]
    known = [one for one in at if one is not None]
    falls = all(one >= two for one, two in pairwise(known)) and known[:1] > known[-1:]
    return items[::-1] if falls and len(known) == len(items) else items


def _answer(record: Record, key: str, turns: list[Turn]) -> list[Turn]:
    """Return what stands beside a list of turns: the answer to its last question, or one more of both."""
    bare = {columns.plain(str(name)): value for name, value in record.items()}
    answers = (bare[name] for name in _ANSWERS if bare.get(name))
    value = next(answers, None)
    value = value.get("content") if isinstance(value, Mapping) else value
    role = role_of(turns[-1].speaker) if turns else None
    if columns.plain(key) in _ASKED and role == "user":
        return [Turn("assistant", value)] if isinstance(value, str) else []
    if columns.plain(key) in _PASTS and role == "assistant":
        asked = next((bare[name] for name in _NEXT if bare.get(name)), None)
        value = value if isinstance(value, str) else bare.get("text")
        both = isinstance(asked, str) and isinstance(value, str)
        return [Turn("user", str(asked)), Turn("assistant", str(value))] if both else []
    return []


def _in_turn(record: Record, options: Options) -> Row:
    key = unnamed_list(record)
    if not key:
        raise NotARow("no list of turns with a speaker and a text is in it")
    sides = ("user", "assistant")
    if is_agent(_bare_text(record[key][0])):
        sides = ("assistant", "user")
    turns = [Turn(sides[place % 2], _bare_text(item)) for place, item in enumerate(record[key])]
    row = spoken_row(turns, record, options, [key])
    return {**row, "metadata": {**row.get("metadata", {}), "guessed": "who speaks"}}


def _is_aside(item: Mapping[str, Any]) -> bool:
    return helpdesk.is_hidden({columns.plain(str(key)): value for key, value in item.items()})
