"""One element of a list of turns: who speaks in it and what it says, under the names met in the wild."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tunedesk.core.importing import columns, html_text, transcripts
from tunedesk.core.importing.roles import Turn, role_of, said

SPEAKERS = (
    "from", "role", "speaker", "agent", "author", "sender", "author_role", "user", "participant", "speaker_role",
    "sender_type", "sender_role", "sender_class", "author_type", "user_type", "actor_type", "party", "side",
    "participant_id", "participant_role", "participant_purpose", "sent_by", "author_id", "sender_id", "who",
    "sender_name", "author_name", "nick", "name", "type", "event",
)  # fmt: skip
"""Keys that say who speaks, in order of trust."""
_TRUST = {key: place for place, key in enumerate(SPEAKERS)}
_ONLY_ROLES = frozenset(
    ("type", "event", "user_type", "nick", "author_id", "sender_id", "participant_purpose")
)
"""Keys that say it only where their value names a side, or somebody listed beside the turns."""
TEXTS = (
    "value", "content", "text", "utterance", "message", "body", "plain_body", "msg", "transcript", "parts",
    "message_parts",
)  # fmt: skip
"""Keys that hold what is said, in order of trust."""
_INNER = ("data", "kwargs", "message_data", "attributes")
"""Keys of an object inside an element that says it all."""
_KEPT = ("weight", "name", "tool_calls", "tool_call_id")
_PURPOSES = {"external": "user", "internal": "assistant"}
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "thoughts")
"""Kinds of parts that a model thinks and does not say."""
_TIMES = (
    "created_at", "timestamp", "timestamp_ms", "created_date_time", "date", "sent_at", "time", "ts", "created_time",
    "date_unixtime",
)  # fmt: skip
Crew = Mapping[str, str]
"""Id or name of somebody listed beside the turns → role."""


def plainly(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an element with plain keys; what stands in an object inside it beside what it has of its own."""
    bare = {columns.plain(str(key)): value for key, value in item.items()}
    for name in _INNER if not bare.keys().isdisjoint(_INNER) else ():
        inner = bare.get(name)
        if isinstance(inner, Mapping):
            told = {columns.plain(str(key)): value for key, value in inner.items()}
            bare = {**bare, **told} if name == "kwargs" else {**told, **bare}
    return bare


def crew_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the roles of those whom a list of participants, users or agents beside the turns tells apart."""
    found: dict[str, str] = {}
    for value in record.values():
        listed = value if isinstance(value, list) and len(value) <= 1_000 else ()
        for one in listed:
            if not isinstance(one, Mapping):
                continue
            bare = {columns.plain(str(key)): inner for key, inner in one.items()}
            told = [bare[key] for key in bare if key.rpartition("_")[2] in ("role", "type", "kind")]
            role = next((r for word in told if isinstance(word, str) and (r := role_of(word))), None)
            names = [bare[key] for key in bare if key.rpartition("_")[2] in ("id", "name")]
            if role in ("user", "assistant") and not any(key in bare for key in TEXTS):
                found.update(
                    (str(name), role) for name in names if isinstance(name, str | int) and name != ""
                )
    return found


def turns_of(item: object, crew: Crew | None = None, *, guessing: bool = False) -> list[Turn]:
    """Return the turns of one element of a list, mostly one; none when it is no turn.

    While `guessing` what a list is, a pair of texts is only taken for a turn when its speaker is known.
    """
    if isinstance(item, list | tuple):
        pair = len(item) >= 2 and isinstance(item[0], str) and isinstance(item[1], str)
        return [Turn(item[0], item[1])] if pair and (role_of(item[0]) or not guessing) else []
    if isinstance(item, str):
        spoken = transcripts.spoken(item)
        return [Turn(spoken[0], spoken[1])] if spoken and role_of(spoken[0]) else []
    if not isinstance(item, Mapping):
        return []
    bare = plainly(item)
    if _happened(bare):
        return []
    speaker = _speaker(bare, crew or {})
    text = _text(bare)
    if not speaker or text is None:
        speaker, text = _by_columns(bare) or (speaker, text)
    if not speaker or (text is None and "tool_calls" not in item):
        return []
    if isinstance(text, list) and (called := list(_called(text))):
        return called if called[0].speaker else [Turn(speaker, called[0].text), *called[1:]]
    if (
        isinstance(text, str)
        and html_text.is_html(text)
        and text in (bare.get("body"), bare.get("html_body"))
    ):
        text = html_text.to_text(text)
    kept = {key: item[key] for key in _KEPT if "role" in bare and item.get(key) is not None}
    left_out = item.get("train") is False or item.get("loss") is False or item.get("weight") == 0
    if role_of(speaker) == "assistant" and left_out:
        kept["weight"] = 0
    return [Turn(speaker, words(text), extra=kept)]


def is_wordless(item: object) -> bool:
    """Return whether an element is something that happened: no key of a text has one, and nothing in it reads so."""
    if not isinstance(item, Mapping):
        return False
    bare = plainly(item)
    if _happened(bare):
        return True
    if any(bare.get(key) not in (None, "", []) for key in TEXTS):
        return False
    rest = [value for key, value in bare.items() if key not in SPEAKERS and isinstance(value, str)]
    return len(bare) > 1 and not any(" " in value.strip() for value in rest)


def _happened(bare: Mapping[str, Any]) -> bool:
    """Return whether an element of a log of events is none in which a side speaks."""
    event = bare.get("event")
    return isinstance(event, str) and role_of(event) not in ("user", "assistant")


def time_of(item: object) -> object:
    """Return what an element says about its time; None when it says nothing."""
    if not isinstance(item, Mapping):
        return None
    bare = plainly(item)
    return next((bare[name] for name in _TIMES if isinstance(bare.get(name), str | int | float)), None)


def _speaker(bare: Mapping[str, Any], crew: Crew) -> str:
    """Return who speaks in an element: the first name whose side is known, else the first name."""
    first = ""
    for key in sorted(bare.keys() & _TRUST.keys(), key=_TRUST.__getitem__):
        value = bare[key]
        for given in (value,) if isinstance(value, str) else _names(value):
            if not given.strip():
                continue
            name = given if not crew or role_of(given) else crew.get(given, given)
            name = _PURPOSES.get(given.lower(), given) if key == "participant_purpose" else name
            if role_of(name):
                return name
            first = first or ("" if key in _ONLY_ROLES else name)
    turn = bare.get("turn")
    return turn if isinstance(turn, str) and role_of(turn) else first


def _by_columns(bare: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return who speaks and what, by the names of columns in many languages; None where no side is known by them."""
    names = list(bare)
    who, what = columns.find("speaker", names), columns.find("text", names)
    told, text = bare.get(who or ""), bare.get(what or "")
    known = isinstance(told, str) and role_of(told) and isinstance(text, str) and who != what
    return (str(told), str(text)) if known else None


def _names(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        bare = {columns.plain(str(key)): inner for key, inner in value.items()}
        if bare.get("is_bot") is True:
            yield "bot"
        for key in ("role", "type", "kind", "name", "display_name", "user", "id"):
            yield from _names(bare.get(key))
    elif isinstance(value, str):
        yield from [value] if value.strip() else []
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _text(bare: Mapping[str, Any]) -> object:
    """Return what an element says; a plain text rather than parts some of which are no text."""
    found = [bare[name] for name in TEXTS if name in bare]
    if not found:
        return None
    first = found[0]
    if isinstance(first, Mapping) and (first.get("contentType"), first.get("content")) != (None, None):
        text = first.get("content")
        return html_text.to_text(text) if isinstance(text, str) and html_text.is_html(text) else first
    if isinstance(first, list) and not all(
        isinstance(part, str) or _part(part) is not None for part in first
    ):
        written = next((one for one in found if isinstance(one, str) and one.strip()), None)
        return first if written is None else written
    return first


def _part(part: object) -> str | None:
    """Return the text of a part of a message; None when it has none."""
    text = part.get("text", part.get("content")) if isinstance(part, Mapping) else part
    if isinstance(text, Mapping):
        text = text.get("content", text.get("text", text.get("value")))
    return text if isinstance(text, str) else None


def words(value: object) -> str:
    """Return what a turn says: a text, the texts of its parts, or anything else as JSON."""
    if isinstance(value, Mapping):
        bare = plainly(value)
        inner = next((bare[name] for name in ("parts", "text", "content", "body") if name in bare), None)
        if isinstance(inner, str | list | Mapping):
            return words(inner)
    if isinstance(value, list) and value:
        spoken = [one for one in value if not (isinstance(one, Mapping) and one.get("type") in _THOUGHTS)]
        if all(isinstance(part, str) for part in spoken):
            return "\n".join(spoken)
        parts = [_part(part) for part in spoken]
        if all(part is not None for part in parts):
            return ("" if isinstance(spoken[0], str) else "\n").join(part or "" for part in parts)
    return said(value)


def _called(parts: list[Any]) -> Iterator[Turn]:
    """Yield the turns of parts some of which call functions or answer for them, as Gemini writes them."""
    if not any(isinstance(p, Mapping) and p.keys() & {"functionCall", "functionResponse"} for p in parts):
        return
    calls: list[Any] = []
    answers: list[Turn] = []
    for part in parts:
        call = part.get("functionCall") if isinstance(part, Mapping) else None
        back = part.get("functionResponse") if isinstance(part, Mapping) else None
        if isinstance(call, Mapping):
            calls.append({"name": call.get("name"), "arguments": call.get("args", {})})
        elif isinstance(back, Mapping):
            answers.append(Turn("observation", said(back.get("response"))))
        elif (spoken := _part(part)) is not None and spoken.strip():
            yield Turn("", spoken)
    if calls:
        yield Turn("function_call", json.dumps(calls, ensure_ascii=False))
    yield from answers
