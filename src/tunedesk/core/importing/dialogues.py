"""Lists of turns under any key: objects with a speaker and a text, pairs of them, lines, or texts in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunedesk.core.checking.talk_checks import is_agent
from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns, helpdesk, transcripts, trees
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
_SPEAKERS = (
    "from",
    "role",
    "speaker",
    "agent",
    "author",
    "sender",
    "author_role",
    "user",
    "participant",
    "speaker_role",
    "sender_type",
    "sender_role",
    "author_type",
    "user_type",
    "party",
    "side",
    "participant_id",
    "who",
    "name",
    "type",
)
_TEXTS = (
    "value",
    "content",
    "text",
    "utterance",
    "message",
    "body",
    "plain_body",
    "msg",
    "transcript",
    "parts",
)
_EXCHANGE_LISTS = frozenset(
    ("conversation", "conversations", "dialogue", "dialog", "turns", "dial", "log", "chat")
)
"""Keys under which each element may hold what both sides said; under others such a list holds records."""
_SENT = (*_TEXTS, "sent", "sentence")
_ASKED = ("input", "prompt", "messages", "conversation", "conversations", "history", "context")
_ANSWERS = ("output", "ideal", "completion", "response", "answer", "target", "reference", "reply")
"""Keys of a list of turns up to the question, and of its answer beside it."""
_KEPT = ("weight", "name", "tool_calls", "tool_call_id")
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
        if any(_turn(item, guessing=True) is not None for item in listed[:5]):
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
    # The system that answers a user in each exchange is the assistant.
    answer = spoken.get("assistant", spoken.get("system"))
    return (
        [Turn("user", spoken["user"]), Turn("assistant", answer)]
        if "user" in spoken and answer is not None
        else []
    )


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
        if keys.keys() & set(_SPEAKERS):
            return ""
        item = next((item[keys[name]] for name in _TEXTS if name in keys), None)
    return item.strip() if isinstance(item, str) and not (item[:1] == "{" and item[-1:] == "}") else ""


def _turn(item: object, guessing: bool = False) -> Turn | None:
    """Return one element of a list of turns as a turn; None when it is none.

    While `guessing` what a list is, a pair of texts is only taken for a turn when its speaker is known.
    """
    if isinstance(item, list | tuple):
        pair = len(item) >= 2 and isinstance(item[0], str) and isinstance(item[1], str)
        return Turn(item[0], item[1]) if pair and (role_of(item[0]) or not guessing) else None
    if isinstance(item, str):
        spoken = transcripts.spoken(item)
        return Turn(spoken[0], spoken[1]) if spoken and role_of(spoken[0]) else None
    if not isinstance(item, Mapping):
        return None
    keys = {columns.plain(str(key)): key for key in item}
    speaker = _speaker(item, keys)
    text = next((item[keys[name]] for name in _TEXTS if name in keys), None)
    inner = item.get("data")
    if text is None and isinstance(inner, Mapping):
        text = next((inner[name] for name in _TEXTS if name in inner), None)
    if not speaker or (text is None and "tool_calls" not in item):
        return None
    kept = {key: item[key] for key in _KEPT if "role" in keys and item.get(key) is not None}
    if role_of(speaker) == "assistant" and (item.get("train") is False or item.get("loss") is False):
        kept["weight"] = 0
    return Turn(speaker, _words(text), extra=kept)


def _speaker(item: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """Return who speaks in an element: the first name whose side is known, else the first name."""
    told = []
    for given in (item[keys[name]] for name in _SPEAKERS if name in keys):
        name = (
            given.get("role", given.get("type", given.get("name"))) if isinstance(given, Mapping) else given
        )
        if isinstance(name, str) and name.strip() and (given is not item.get("type") or role_of(name)):
            told.append(name)
    turn = item.get("turn")
    told += [turn] if isinstance(turn, str) and role_of(turn) else []
    return next((name for name in told if role_of(name)), told[0] if told else "")


def _words(value: object) -> str:
    """Return what a turn says: a text, the texts of its parts, or anything else as JSON."""
    if isinstance(value, Mapping) and isinstance(value.get("parts"), list):
        value = value["parts"]
    if isinstance(value, list) and value:
        if all(isinstance(part, str) for part in value):
            return "\n".join(value)
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts)) if isinstance(value[0], str) else "\n".join(map(str, parts))
    return said(value)


def dialogue(record: Record, options: Options) -> Row:
    """Return the row of a record's list of turns; raises NotARow."""
    if trees.is_tree(record):
        return spoken_row(trees.turns(record), record, options, ["mapping", "prompt"])
    key = turn_list(record)
    if not key:
        return _in_turn(record, options)
    level = next((v for k, v in record.items() if columns.plain(str(k)) == "completion_level"), "Complete")
    if level != "Complete":
        raise NotARow(f"the dialogue is unfinished ({said(level)})")
    turns = []
    for place, item in enumerate(_rows(record[key])):
        if both := _exchange(item):
            turns += both
            continue
        if isinstance(item, Mapping) and item.get("Action", item.get("action")) in _UNSPOKEN:
            continue
        turn = _turn(item)
        if isinstance(item, Mapping) and _is_aside(item):
            turns += [replace(turn, speaker="note")] if turn else []
            continue
        if turn is None:
            raise NotARow(f"turn {place + 1} has no speaker or no text")
        turns.append(turn)
    turns += _answer(record, key, turns)
    tools_key = next((name for name in ("tools", "functions") if name in record), "")
    row = spoken_row(turns, record, options, [key, tools_key, "system", "delexed", *_ANSWERS])
    tools = tools_of(record.get(tools_key))
    return {**row, "tools": tools} if tools else row


def _answer(record: Record, key: str, turns: list[Turn]) -> list[Turn]:
    """Return the answer that stands beside a list of turns which ends with the question, if there is one."""
    if key not in _ASKED or not turns or role_of(turns[-1].speaker) != "user":
        return []
    value = next((record[name] for name in _ANSWERS if record.get(name)), None)
    value = value.get("content") if isinstance(value, Mapping) else value
    return [Turn("assistant", value)] if isinstance(value, str) else []


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
