"""Preference pairs as they are met: two answers to one prompt, as texts, as messages, or as whole transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.core.importing import columns, markup, transcripts
from tunedesk.core.importing.roles import role_of, said
from tunedesk.core.importing.rows import NotARow, Options, Record

_CHOSEN = (
    "chosen", "chosen_response", "response_chosen", "chosen_answer", "preferred", "preferred_response", "accepted",
    "positive", "winner_response", "better",
)  # fmt: skip
_REJECTED = (
    "rejected", "rejected_response", "response_rejected", "rejected_answer", "reject", "dispreferred",
    "non_preferred", "nonpreferred_response", "negative", "loser_response", "worse",
)  # fmt: skip
_PROMPTS = (
    "prompt",
    "question",
    "instruction",
    "input",
    "query",
    "context",
    "messages",
    "conversations",
    "history",
)
_COMPARED = ("response", "answer", "completion", "output", "conversation", "reply", "generation")
"""What keys of two answers begin with: response_a and response_b."""
_VERDICTS = (
    "winner",
    "better_response_id",
    "better",
    "preference",
    "preferred",
    "choice",
    "chosen_id",
    "verdict",
)
Messages = list[dict[str, Any]]


def is_preference(record: Record) -> bool:
    """Return whether `record` holds two answers, one of which is preferred."""
    return "preferred_output" in record or all(_keys(record)[:2]) or bool(_compared(record))


def preference(record: Record, options: Options) -> Row:
    """Return OpenAI's preference row; raises NotARow when the prompt or an answer is missing."""
    if "preferred_output" in record:
        return dict(record)
    chosen, rejected, prompt = _keys(record)
    if not (chosen and rejected) and (compared := _compared(record)):
        chosen, rejected = _winner(record, compared)
    if not chosen or not rejected:
        raise NotARow("it has no chosen and rejected answer")
    sides = [_side(record[key]) for key in (chosen, rejected)]
    if not all(sides):
        raise NotARow("its chosen or its rejected answer is no text and no list of messages, or empty")
    asked = _prompt(record, prompt) if prompt else []
    if not asked and all(len(side) > 1 for side in sides):
        asked = sides[0][:-1]
    if not asked:
        raise NotARow("it has no prompt")
    if any(side[-1].get("role") != "assistant" for side in sides):
        raise NotARow("its chosen or its rejected answer does not end with the assistant")
    system = options.mapping.get("system") or columns.find("system", [str(key) for key in record]) or ""
    told = record.get(system) or options.system
    if isinstance(told, str) and told.strip() and asked[0].get("role") not in ("system", "developer"):
        asked = [{"role": "system", "content": told}, *asked]
    row: Row = {
        "input": {"messages": asked},
        "preferred_output": sides[0][-1:],
        "non_preferred_output": sides[1][-1:],
    }
    kept = columns.metadata(record, (chosen, rejected, prompt, system, "input"))
    return {**row, "metadata": kept} if kept else row


def _keys(record: Record) -> tuple[str, str, str]:
    known = {columns.plain(str(key)): str(key) for key in record}
    found = [
        next((known[one] for one in names if one in known), "") for names in (_CHOSEN, _REJECTED, _PROMPTS)
    ]
    return found[0], found[1], found[2]


def _compared(record: Record) -> tuple[str, str, str] | tuple[()]:
    """Return the keys of two answers told apart by their ends, and of the verdict on them; nothing where they are not.

    The verdict is empty where each answer has a key of its own for it (winner_model_a, winner_model_b).
    """
    known = {columns.plain(str(key)): str(key) for key in record}
    for name, key in known.items():
        for first, second in (("_a", "_b"), ("_0", "_1"), ("_1", "_2")):
            other = name.removesuffix(first) + second
            if name.endswith(first) and name.removesuffix(first) in _COMPARED and other in known:
                verdict = next((known[one] for one in _VERDICTS if one in known), "")
                if verdict or (f"winner_model{first}" in known and f"winner_model{second}" in known):
                    return key, known[other], verdict
    return ()


def _winner(record: Record, compared: tuple[str, str, str]) -> tuple[str, str]:
    """Return the key of the better answer and that of the other; raises NotARow where neither is better."""
    first, second, verdict = compared
    ends = [columns.plain(key)[-1] for key in (first, second)]
    if verdict:
        told = columns.plain(said(record[verdict])).removesuffix("_0")[-2:]
        won = [told in (end, f"_{end}") for end in ends]
    else:
        known = {columns.plain(str(key)): key for key in record}
        won = [said(record[known[f"winner_model_{end}"]]).lower() in ("1", "1.0", "true") for end in ends]
    if won[0] == won[1]:
        raise NotARow("neither of its two answers was preferred")
    return (first, second) if won[0] else (second, first)


def _prompt(record: Record, key: str) -> Messages:
    value = _alone(record[key])
    if isinstance(value, str):
        written = _written(value)
        if written:
            return written
        more = said(record.get("input")) if key == "instruction" else ""
        text = f"{value}\n\n{more}" if more.strip() else value
        return [{"role": "user", "content": text}] if text.strip() else []
    return _messages(value)


def _alone(value: object) -> object:
    """Return the only text of a list of one, as comparisons of single turns hold it."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _side(value: object) -> Messages:
    value = _alone(value)
    if isinstance(value, str):
        return _written(value) or ([{"role": "assistant", "content": value.strip()}] if value.strip() else [])
    return _messages([value] if isinstance(value, Mapping) else value)


def _messages(value: object) -> Messages:
    """Return a list of messages, those of from and value with roles and contents."""
    made: Messages = []
    for one in value if isinstance(value, list) else ():
        if not isinstance(one, Mapping):
            return []
        if "role" in one:
            made.append(dict(one))
            continue
        role = role_of(said(one.get("from")))
        if role not in ("user", "assistant", "system") or not isinstance(one.get("value"), str):
            return []
        made.append({"role": role, "content": one["value"]})
    return made


def _written(text: str) -> Messages:
    """Return the messages of a transcript or of a text with a model's marks; empty when it is neither."""
    turns = []
    if markup.is_marked(text):
        turns = markup.turns(text)
    elif transcripts.is_transcript(text):
        turns = transcripts.turns(text)
    made = [(role_of(turn.speaker), turn.text) for turn in turns]
    return [{"role": role, "content": words} for role, words in made if role and words.strip()]
