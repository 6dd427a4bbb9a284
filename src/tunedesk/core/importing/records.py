"""One record of a file (a JSON object, a table's row, a list of turns) to one training row, format by format.

A format is two functions: does it know this record, and what row does the record make. `NotARow` says why not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.importing import (
    columns,
    elements,
    helpdesk,
    html_text,
    markup,
    model_calls,
    transcripts,
    trees,
)
from tunedesk.core.importing.dialogues import dialogue, inside, turn_list, unnamed_list
from tunedesk.core.importing.preferences import is_preference, preference
from tunedesk.core.importing.roles import Turn, role_of, said
from tunedesk.core.importing.rows import NotARow, Options, Record, built, pair, spoken_row, with_system

_SEPARATORS = re.compile(r"\s*(?:\n\n###\n\n|\n\n===\n\n|\s->|\n\n---\n\n)\s*$")
_JUDGED = ("messages", "conversations", "prompt", "completion", "tools", "system", "id")
"""Keys beside the label of a judged answer: with any other, a label may mean anything."""
WRITTEN = "transcript lines"
"""Key of the turns of a plain text, as the container tells them apart."""
_ABOUT_HTML = re.compile(r"\b(?:html|css|javascript|markup|web ?page|tag)\b|`", re.I)
"""A question whose answer may be HTML itself."""
_STOPS = re.compile(r"(?:\s*###|\s+END|\s*<\|endoftext\|>)?\s*$")
"""Ends that the old completions API told people to write after prompts and completions."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of records."""

    name: str
    meaning: str
    knows: Callable[[Record], bool]
    convert: Callable[[Record, Options], Row]


def _is_openai(record: Record) -> bool:
    messages = record.get("messages")
    if "messages" not in record or "conversations" in record or model_calls.is_call(record):
        return False
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        if _in_other_words(messages):
            return False
        if not any("role" in one for one in messages if isinstance(one, dict)):
            return False
        return "role" in messages[0] or not turn_list({"turns": messages})
    return not (isinstance(messages, str) and _is_written(messages))


def _in_other_words(messages: list[Any]) -> bool:
    """Return whether messages name both sides, but none as OpenAI does (human, User …), or have bare parts of text."""
    listed = [one for one in messages if isinstance(one, dict)]
    roles = {str(one.get("role")) for one in listed}
    told = {role_of(role) for role in roles}
    if not roles & {"user", "assistant"}:
        return "user" in told and bool(told & {"assistant", "system"}) and None not in told
    contents = [one["content"] for one in listed if isinstance(one.get("content"), list)]
    return any(
        isinstance(part, dict) and part.keys() == {"text"} for content in contents for part in content[:1]
    )


def _openai(record: Record, options: Options) -> Row:
    if "messages" not in record:
        raise NotARow("it has no messages")
    _refuse_unwanted(record)
    row = dict(record)
    if model_calls.has_blocks(record["messages"]):
        row["messages"] = model_calls.openai_messages(record["messages"])
        row["tools"] = model_calls.openai_tools(record.get("tools"))
        row = {key: value for key, value in row.items() if key != "tools" or value}
    told = elements.words(record["system"]) if record.get("system") else ""
    if not told.strip() or not isinstance(record["messages"], list):
        return row
    return with_system({key: value for key, value in row.items() if key != "system"}, told)


def _refuse_unwanted(record: Record) -> None:
    """Raise NotARow for an answer that its label, as sets of single judged answers (KTO) have one, calls unwanted."""
    for label in ("label", "kto_tag"):
        if record.get(label) is False and record.keys() <= {label, *_JUDGED}:
            raise NotARow("its label says that the completion is not wanted")


def _is_completion(record: Record) -> bool:
    return "prompt" in record and "completion" in record


def _completion(record: Record, options: Options) -> Row:
    prompt, completion = record.get("prompt"), record.get("completion")
    _refuse_unwanted(record)
    if isinstance(prompt, list) and isinstance(completion, list):
        return built([*prompt, *completion], record, ("prompt", "completion"))
    if markup.is_marked(whole := f"{said(prompt)}{said(completion)}"):
        return spoken_row(markup.turns(whole), record, options, ("prompt", "completion"))
    if said(prompt).rstrip().endswith(":") and transcripts.is_transcript(whole):
        return spoken_row(transcripts.turns(whole), record, options, ("prompt", "completion"))
    asked = _SEPARATORS.sub("", said(prompt)).strip()
    answer = _STOPS.sub("", said(completion)).strip()
    return built(pair(asked, answer, ""), record, ("prompt", "completion"))


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
    messages = pair(asked, said(record.get(answer)), said(record.get(keys.get("system", ""))))
    return built(_with_past(messages, record.get("history")), record, [keys.get(name, name) for name in used])


def _with_past(messages: list[dict[str, Any]], history: object) -> list[dict[str, Any]]:
    """Return the messages of a question and its answer with the earlier pairs of `history` before them."""
    past: list[dict[str, Any]] = []
    listed = history if isinstance(history, list) else []
    if listed and len(listed) % 2 == 0 and all(isinstance(one, str) and one.strip() for one in listed):
        listed = [list(both) for both in zip(listed[::2], listed[1::2], strict=True)]
    for turn in listed:
        if isinstance(turn, list) and len(turn) == 2:
            past += pair(said(turn[0]), said(turn[1]), "")
    return [*messages[:-2], *past, *messages[-2:]]


def _is_sharegpt(record: Record) -> bool:
    turns = record.get("conversations", record.get("conversation"))
    return isinstance(turns, list) and any(
        isinstance(t, Mapping) and "from" in t and "value" in t for t in turns[:5]
    )


def pair_columns(record: Record, mapping: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the columns of `record` that ask and answer, None where they are not both there."""
    names = [str(name) for name in record]
    answer = mapping.get("assistant") or columns.find("assistant", names)
    asked = mapping.get("user") or columns.find("user", [name for name in names if name != answer])
    if not (asked and answer and asked in record and answer in record):
        return None
    objects = any(isinstance(record[name], Mapping | list) for name in (asked, answer))
    return None if objects and not mapping else (asked, answer)


def sides_of(sample: Sequence[Record], format_name: str) -> dict[str, str]:
    """Return the columns of pairs that ask, answer and instruct in the first records; none of other formats."""
    found = pair_columns(sample[0], {}) if sample and format_name == "pairs" else None
    system = columns.find("system", [str(name) for name in sample[0]]) if found else None
    used = {"user": found[0], "assistant": found[1]} if found else {}
    return {**used, "system": system} if system else used


def _is_pair(record: Record) -> bool:
    return pair_columns(record, {}) is not None or bool(numbered(record))


def _pairs(record: Record, options: Options) -> Row:
    found = pair_columns(record, options.mapping)
    placed = {} if options.mapping else numbered(record)
    if placed:
        turns = [
            Turn(side, said(record[name])) for name, side in placed.items() if said(record[name]).strip()
        ]
        return spoken_row(turns, record, options, list(placed))
    if found is None:
        raise NotARow("no columns for the customer's and the agent's side")
    names = {columns.plain(str(name)): str(name) for name in record}
    subject = names.get("subject", "")
    asked, answer = said(record[found[0]]), said(record[found[1]])
    if not _ABOUT_HTML.search(asked) and ("<" not in asked or html_text.is_html(asked)):
        asked, answer = html_text.read(asked), html_text.read(answer)
    if subject and "user" not in options.mapping and said(record[subject]).strip():
        asked = f"{said(record[subject])}\n\n{asked}"
    system = options.mapping.get("system") or columns.find("system", names.values()) or ""
    messages = pair(asked, answer, said(record.get(system)))
    past = next((names[name] for name in ("history", "chat_history") if name in names), "history")
    messages = _with_past(messages, record.get(past) if past not in found else None)
    return built(messages, record, (*found, system, subject, "history"))


def numbered(record: Record) -> dict[str, str]:
    """Return the columns of a conversation in one row (user_1, assistant_1 …) in order, with their side."""
    found: list[tuple[int, bool, str, str]] = []
    for name in record:
        parts = re.fullmatch(r"(.*?)_?(\d{1,3})(_.*)?", columns.plain(str(name)))
        if parts and (parts[1] or parts[3]):
            words = (parts[1] + (parts[3] or "")).strip("_")
            sides = [side for side in ("user", "assistant") if columns.find(side, [words]) is not None]
            found += [(int(parts[2]), side == "assistant", str(name), side) for side in sides[:1]]
    ordered = {name: side for _, _, name, side in sorted(found)}
    return ordered if {"user", "assistant"} <= set(ordered.values()) and len(ordered) > 2 else {}


def _is_written(text: str) -> bool:
    text = html_text.read(text)
    return markup.is_marked(text) or transcripts.is_transcript(text)


def _transcript_key(record: Record, mapping: Mapping[str, str]) -> str:
    named = [mapping.get("text", ""), columns.find("transcript", [str(key) for key in record]) or ""]
    for key in (*named, *record):
        value = record.get(key)
        if isinstance(value, str) and _is_written(value):
            return str(key)
    return ""


def _transcript(record: Record, options: Options) -> Row:
    if WRITTEN in record:
        return dialogue(record, options)
    key = options.mapping.get("text", "") or _transcript_key(record, options.mapping)
    if not key or not isinstance(record.get(key), str):
        raise NotARow('it has no "Agent: …" lines, and no marks of a model between its turns')
    text = html_text.read(record[key])
    turns = markup.turns(text) if markup.is_marked(text) else transcripts.turns(text)
    return spoken_row(turns, record, options, [key])


def _ticket(record: Record, options: Options) -> Row:
    if not helpdesk.is_ticket(record):
        raise NotARow("no list of a ticket's messages is in it")
    return spoken_row(helpdesk.turns(record), record, options, helpdesk.used_keys(record))


FORMATS = {
    one.name: one
    for one in (
        Format(
            "preference",
            "two answers, one preferred (OpenAI DPO, or chosen and rejected)",
            is_preference,
            preference,
        ),
        Format("ticket", "a help desk's ticket with its messages, in JSON", helpdesk.is_ticket, _ticket),
        Format(
            "call",
            "a call of a model, logged: the messages of a request, and the answer",
            model_calls.is_call,
            model_calls.call,
        ),
        Format("openai", "OpenAI chat rows: messages of role and content", _is_openai, _openai),
        Format("sharegpt", "ShareGPT: conversations of from and value", _is_sharegpt, dialogue),
        Format("completion", "the old prompt and completion", _is_completion, _completion),
        Format("alpaca", "Alpaca: instruction, input, output or response", _is_alpaca, _alpaca),
        Format(
            "dialogue",
            "a list of turns under any key, each a speaker and a text",
            lambda r: WRITTEN not in r and bool(inside(r) or unnamed_list(r) or trees.is_tree(r)),
            dialogue,
        ),
        Format(
            "transcript",
            "text with lines of Agent: … and Customer: …, or with a model's marks (ChatML, [INST] …)",
            lambda r: WRITTEN in r or bool(_transcript_key(r, {})),
            _transcript,
        ),
        Format("pairs", "a column that asks and one that answers", _is_pair, _pairs),
    )
}
"""Formats of single records; the first one that knows a record wins. Tables of one message a row: see tables.py."""


def format_of(record: Record) -> str:
    """Return the name of the first format that knows `record`, or nothing."""
    return next((name for name, one in FORMATS.items() if one.knows(record)), "")
