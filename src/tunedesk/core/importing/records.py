"""One record of a file (a JSON object, a table's row, a list of turns) to one training row, format by format.

A format is two functions: does it know this record, and what row does the record make. `NotARow` says why not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns, transcripts
from tunedesk.core.importing.roles import NotADialogue, Turn, merge, role_of, said

Record = Mapping[str, Any]

_TURN_LISTS = (
    "conversations",
    "conversation",
    "messages",
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
    "name",
)
_TEXTS = ("value", "content", "text", "utterance", "message", "body", "plain_body", "msg", "transcript")
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
_SEPARATORS = re.compile(r"\s*(?:\n\n###\n\n|\n\n===\n\n|\s->|\n\n---\n\n)\s*$")
_STOPS = re.compile(r"(?:\s*###|\s+END|\s*<\|endoftext\|>)?\s*$")
"""Ends that the old completions API told people to write after prompts and completions."""


class NotARow(ValueError):
    """A record cannot become a row; the text says why, in words for a user."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user said about a file."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Meaning (user, assistant, system, conversation, speaker, text, order) → column or key."""
    system: str = ""
    """System prompt for rows that have none."""

    def known_roles(self) -> dict[str, str]:
        """Return lower-cased speaker → role, where `user` and `assistant` name speakers because `speaker` is mapped."""
        if "speaker" not in self.mapping:
            return {}
        return {
            name.strip().lower(): role
            for role in ("user", "assistant", "aside")
            for name in self.mapping.get(role, "").split("|")
            if name.strip()
        }


@dataclass(frozen=True, slots=True)
class Format:
    """A format of records."""

    name: str
    meaning: str
    knows: Callable[[Record], bool]
    convert: Callable[[Record, Options], Row]


def with_system(row: Row, system: str) -> Row:
    """Return `row` with `system` as its first message, unless it has a system prompt or is a preference row."""
    messages = row.get("messages")
    if not system or not isinstance(messages, list):
        return row
    if any(isinstance(m, dict) and m.get("role") in ("system", "developer") for m in messages):
        return row
    return {**row, "messages": [{"role": "system", "content": system}, *messages]}


def built(messages: list[dict[str, Any]], record: Record, used: Sequence[str], **more: Any) -> Row:
    """Return the row of `messages`, with what is left of `record` under metadata."""
    row: Row = {"messages": messages}
    kept = columns.metadata(record, used)
    kept.update({key: value for key, value in more.items() if value})
    if kept:
        row["metadata"] = kept
    return row


def _is_openai(record: Record) -> bool:
    messages = record.get("messages")
    if "messages" not in record or "conversations" in record:
        return False
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        return "role" in messages[0] or not turn_list({"turns": messages})
    return True


def _openai(record: Record, options: Options) -> Row:
    if "messages" not in record:
        raise NotARow("it has no messages")
    return dict(record)


def _is_preference(record: Record) -> bool:
    return "preferred_output" in record or ("chosen" in record and "rejected" in record)


def _preference(record: Record, options: Options) -> Row:
    if "preferred_output" in record:
        return dict(record)
    sides: list[Any] = []
    for key in ("chosen", "rejected"):
        side = record.get(key)
        sides.append([{"role": "assistant", "content": side}] if isinstance(side, str) else side)
    prompt = record.get("prompt", record.get("question", record.get("input")))
    asked: Any = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if asked is None and all(isinstance(side, list) and len(side) > 1 for side in sides):
        asked, sides = sides[0][:-1], [side[-1:] for side in sides]
    if not isinstance(asked, list) or not all(isinstance(side, list) and side for side in sides):
        raise NotARow("its prompt, chosen and rejected answers are not texts or lists of messages")
    if record.get("system") and isinstance(record["system"], str):
        asked = [{"role": "system", "content": record["system"]}, *asked]
    return {
        "input": {"messages": asked},
        "preferred_output": sides[0][-1:],
        "non_preferred_output": sides[1][-1:],
    }


def _is_completion(record: Record) -> bool:
    return "prompt" in record and "completion" in record


def _completion(record: Record, options: Options) -> Row:
    prompt, completion = record.get("prompt"), record.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return built([*prompt, *completion], record, ("prompt", "completion"))
    asked = _SEPARATORS.sub("", said(prompt)).strip()
    answer = _STOPS.sub("", said(completion)).strip()
    return built(_pair(asked, answer, ""), record, ("prompt", "completion"))


def _pair(asked: str, answer: str, system: str) -> list[dict[str, Any]]:
    if not asked.strip():
        raise NotARow("the customer's side is empty")
    if not answer.strip():
        raise NotARow("the answer is empty")
    first = [{"role": "system", "content": system}] if system.strip() else []
    return [
        *first,
        {"role": "user", "content": asked.strip()},
        {"role": "assistant", "content": answer.strip()},
    ]


def _is_alpaca(record: Record) -> bool:
    names = {columns.plain(key) for key in record}
    return "instruction" in names and bool(names & {"output", "response", "answer"})


def _alpaca(record: Record, options: Options) -> Row:
    keys = {columns.plain(key): key for key in record}
    answer = next((keys[name] for name in ("output", "response", "answer") if name in keys), "")
    if "instruction" not in keys:
        raise NotARow("it has no instruction")
    extra = "input" if "input" in keys else "context" if "role" not in keys and "context" in keys else ""
    used = ["instruction", extra, answer, "system", "history"]
    asked = said(record[keys["instruction"]])
    if extra and said(record[keys[extra]]).strip():
        asked = f"{asked}\n\n{said(record[keys[extra]])}"
    messages = _pair(asked, said(record.get(answer)), said(record.get(keys.get("system", ""))))
    past: list[dict[str, Any]] = []
    for turn in record.get("history") or ():
        if isinstance(turn, list) and len(turn) == 2:
            past += _pair(said(turn[0]), said(turn[1]), "")
    return built([*messages[:-2], *past, *messages[-2:]], record, [keys.get(name, name) for name in used])


def turn_list(record: Record) -> str:
    """Return the key of `record` that holds its turns (objects with a speaker and a text, or pairs), or nothing."""
    by_name = {columns.plain(key): key for key in record}
    ordered = [by_name[name] for name in _TURN_LISTS if name in by_name]
    for key in (*ordered, *(key for key in record if key not in ordered)):
        value = record[key]
        if (
            isinstance(value, list)
            and value
            and any(_turn(item, guessing=True) is not None for item in value[:5])
        ):
            return key
    return ""


def _turn(item: object, guessing: bool = False) -> tuple[str, str, dict[str, Any]] | None:
    """Return speaker, text and kept keys of one element of a list of turns; None when it is no turn.

    While `guessing` what a list is, a pair of texts is only taken for a turn when its speaker is known.
    """
    if isinstance(item, list | tuple):
        pair = len(item) >= 2 and isinstance(item[0], str) and isinstance(item[1], str)
        return (item[0], item[1], {}) if pair and (role_of(item[0]) or not guessing) else None
    if isinstance(item, str):
        spoken = transcripts.spoken(item)
        return (spoken[0], spoken[1], {}) if spoken and role_of(spoken[0]) else None
    if not isinstance(item, Mapping):
        return None
    keys = {columns.plain(str(key)): key for key in item}
    speaker = next((item[keys[name]] for name in _SPEAKERS if name in keys), None)
    if isinstance(speaker, Mapping):
        speaker = speaker.get("role", speaker.get("type", speaker.get("name")))
    text = next((item[keys[name]] for name in _TEXTS if name in keys), None)
    if not isinstance(speaker, str) or (text is None and "tool_calls" not in item):
        return None
    role = speaker if "role" in keys else ""
    return speaker, said(text), {key: item[key] for key in _KEPT if role and item.get(key) is not None}


def _is_sharegpt(record: Record) -> bool:
    turns = record.get("conversations", record.get("conversation"))
    return isinstance(turns, list) and any(
        isinstance(t, Mapping) and "from" in t and "value" in t for t in turns[:5]
    )


def _dialogue(record: Record, options: Options) -> Row:
    key = turn_list(record)
    if not key:
        raise NotARow("no list of turns with a speaker and a text is in it")
    level = next((v for k, v in record.items() if columns.plain(k) == "completion_level"), "Complete")
    if level != "Complete":
        raise NotARow(f"the dialogue is unfinished ({said(level)})")
    turns = []
    for place, item in enumerate(record[key]):
        turn = _turn(item)
        if turn is None and isinstance(item, Mapping) and _asides(item):
            continue
        if turn is None:
            raise NotARow(f"turn {place + 1} has no speaker or no text")
        if isinstance(item, Mapping) and _asides(item):
            continue
        turns.append(Turn(turn[0], turn[1], extra=turn[2]))
    used = [key, "tools", "system", "delexed"]
    row = spoken_row(turns, record, options, used)
    tools = _tools(record.get("tools"))
    return {**row, "tools": tools} if tools else row


def _asides(item: Mapping[str, Any]) -> bool:
    action = item.get("Action", item.get("action"))
    if isinstance(action, str) and action in _UNSPOKEN:
        return True
    return item.get("private") is True or item.get("internal") is True or item.get("public") is False


def spoken_row(turns: Sequence[Turn], record: Record, options: Options, used: Sequence[str]) -> Row:
    """Return the row of `turns`, merged; raises NotARow when they are no conversation."""
    try:
        made = merge(turns, options.known_roles())
    except NotADialogue as error:
        raise NotARow(str(error)) from None
    row = built(
        made.messages, record, used, merged_turns=made.merged, dropped_tail=made.tail, asides=made.asides
    )
    return with_system(row, system_of(record))


def system_of(record: Record) -> str:
    """Return the system prompt that `record` carries beside its turns, at most one object deep."""
    inner = [value for value in record.values() if isinstance(value, Mapping)]
    for part in (record, *inner):
        key = columns.find("system", [str(name) for name in part])
        if key is not None and isinstance(part.get(key), str):
            return str(part[key])
    return ""


def _tools(value: object) -> list[dict[str, Any]]:
    """Return OpenAI's tools of ShareGPT's: a JSON string or list of functions, wrapped or bare."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise NotARow("its tools are not JSON") from None
    if not isinstance(value, list):
        return []
    tools = [tool for tool in value if isinstance(tool, dict)]
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _pair_columns(record: Record, mapping: Mapping[str, str]) -> tuple[str, str] | None:
    names = [str(name) for name in record]
    answer = mapping.get("assistant") or columns.find("assistant", names)
    asked = mapping.get("user") or columns.find("user", [name for name in names if name != answer])
    return (asked, answer) if asked and answer and asked in record and answer in record else None


def _is_pair(record: Record) -> bool:
    return _pair_columns(record, {}) is not None


def _pairs(record: Record, options: Options) -> Row:
    found = _pair_columns(record, options.mapping)
    if found is None:
        raise NotARow("no columns for the customer's and the agent's side")
    names = {columns.plain(str(name)): str(name) for name in record}
    subject = names.get("subject", "")
    asked = said(record[found[0]])
    if subject and "user" not in options.mapping and said(record[subject]).strip():
        asked = f"{said(record[subject])}\n\n{asked}"
    system = options.mapping.get("system") or columns.find("system", names.values()) or ""
    messages = _pair(asked, said(record[found[1]]), said(record.get(system)))
    return built(messages, record, (*found, system, subject))


def _transcript_key(record: Record, mapping: Mapping[str, str]) -> str:
    named = [mapping.get("text", ""), columns.find("transcript", [str(key) for key in record]) or ""]
    for key in (*named, *record):
        value = record.get(key)
        if isinstance(value, str) and transcripts.is_transcript(value):
            return str(key)
    return ""


def _transcript(record: Record, options: Options) -> Row:
    key = _transcript_key(record, options.mapping)
    if not key:
        raise NotARow('it has no "Agent: …" lines')
    return spoken_row(transcripts.turns(record[key]), record, options, [key])


FORMATS = {
    one.name: one
    for one in (
        Format(
            "preference",
            "two answers, one preferred (OpenAI DPO, or chosen and rejected)",
            _is_preference,
            _preference,
        ),
        Format("openai", "OpenAI chat rows: messages of role and content", _is_openai, _openai),
        Format("sharegpt", "ShareGPT: conversations of from and value", _is_sharegpt, _dialogue),
        Format("completion", "the old prompt and completion", _is_completion, _completion),
        Format("alpaca", "Alpaca: instruction, input, output or response", _is_alpaca, _alpaca),
        Format(
            "dialogue",
            "a list of turns under any key, each a speaker and a text",
            lambda r: bool(turn_list(r)),
            _dialogue,
        ),
        Format(
            "transcript",
            "text with lines of Agent: … and Customer: …",
            lambda r: bool(_transcript_key(r, {})),
            _transcript,
        ),
        Format("pairs", "a column that asks and one that answers", _is_pair, _pairs),
    )
}
"""Formats of single records; the first one that knows a record wins. Tables of one message a row: see tables.py."""


def format_of(record: Record) -> str:
    """Return the name of the first format that knows `record`, or nothing."""
    return next((name for name, one in FORMATS.items() if one.knows(record)), "")
