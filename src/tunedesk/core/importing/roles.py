"""Who speaks: roles from the names met in the wild, turns of one side merged, tails after the last answer dropped."""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from typing import Any

from tunedesk.core.checking.talk_checks import is_agent

_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0981-\u0983\u09bc-\u09cd"
)
_MARKS += "\u0b82\u0bbe-\u0bcd\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
"""Vowel signs and accents that stand within words, though they are no letters to a regular expression."""
WORD = rf"[\w{_MARKS}]"
"""What a word of any script is made of, as a class of a regular expression."""
_BETWEEN = re.compile(rf"[^\w{_MARKS}]+|[\d_]+")


def _folded(name: str) -> str:
    """Return a name without case and accents, as names are compared."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("ł", "l").replace("ı", "i"))
    return "".join(letter for letter in letters if not "\u0300" <= letter <= "\u036f")


_NAMES = tomllib.loads(
    resources.files("tunedesk.core.importing").joinpath("speakers.toml").read_text("utf-8")
)
_ROLES = {
    "".join(_BETWEEN.split(_folded(name))): role for role, names in _NAMES.items() for name in names.split()
}
_FIRST_UNSPACED = "\u3040"
_CUSTOMERS_OF_A_TEAM = frozenset(
    ("contact", "customer", "visitor", "lead", "enduser", "end_user", "end-user")
)
_ONE_LETTER = {"s": "assistant", "a": "assistant", "c": "user", "q": "user"}
"""Met in call transcripts and benchmark sets; only trusted where the other side is one letter, too."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Something one side said, before roles are known."""

    speaker: str
    text: str
    line: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys a message keeps as they are: name, weight, tool_calls, tool_call_id."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Messages made of turns, with what was changed on the way."""

    messages: list[dict[str, Any]]
    merged: int
    """Turns that were joined to the one before them."""
    tail: int
    """Messages after the last answer, which were dropped."""
    guessed: bool
    """Nothing but their order tells the sides of the two who speak."""
    asides: list[str]
    """What was done or noted, not said between the two sides (actions, internal notes), in order."""


class NotADialogue(ValueError):
    """The turns cannot become a conversation; the text says why, `strangers` who speaks in them on no known side."""

    def __init__(self, reason: str, strangers: Sequence[str] = ()) -> None:
        """Say `reason`."""
        super().__init__(reason)
        self.strangers = tuple(strangers)


@lru_cache(8_192)
def role_of(name: str) -> str | None:
    """Return user, assistant, system, developer, tool, call or aside for a speaker's name; None when unknown."""
    lowered = _folded(name.strip())
    words = [word for word in _BETWEEN.split(lowered) if word]
    whole = "".join(words)
    if whole in _ROLES:
        return _ROLES[whole]
    if lowered in ("true", "false"):
        return None
    for word in (*words[:1], *words[-1:]):
        if len(word) > 1 and word in _ROLES and len(words) > 1:
            return _ROLES[word]
    if whole[:1] >= _FIRST_UNSPACED:
        # Scripts without blanks: the side, then a name.
        return next(
            (_ROLES[whole[:n]] for n in (6, 5, 4, 3, 2) if len(whole) > n and whole[:n] in _ROLES), None
        )
    return None


def roles_of(speakers: Sequence[str], known: dict[str, str] | None = None) -> dict[str, str | None]:
    """Return the role of each distinct speaker of one conversation.

    `known` (lower-cased name → role) wins. Where one side is known and one single other name is not, it is the
    other side. A "system" that answers users, in a conversation that has no assistant, is the assistant.
    """
    names = list(dict.fromkeys(speakers))
    roles = {name: (known or {}).get(name.strip().lower()) or role_of(name) for name in names}
    letters = [name for name in names if len(name.strip()) == 1]
    if len(letters) == len(names):
        roles = {name: roles[name] or _ONE_LETTER.get(name.strip().lower()) for name in names}
    found = set(roles.values())
    systems = [name for name in names if roles[name] == "system"]
    if "assistant" not in found and "user" in found and any(name in systems for name in speakers[1:]):
        roles.update(dict.fromkeys(systems, "assistant"))
        found = set(roles.values())
    bare = {_folded(name.strip()) for name in names}
    if "assistant" not in found and "user" in bare and bare & _CUSTOMERS_OF_A_TEAM:
        # Where those who ask are contacts or leads, the users of the program are the team that answers.
        roles.update({name: "assistant" for name in names if _folded(name.strip()) == "user"})
        found = set(roles.values())
    unknown = [name for name in names if roles[name] is None]
    if len(unknown) == 1 and len(found & {"user", "assistant"}) == 1:
        roles[unknown[0]] = "user" if "assistant" in found else "assistant"
    return roles


def merge(turns: Sequence[Turn], known: dict[str, str] | None = None) -> Merged:
    """Return the messages of `turns`; raises NotADialogue when a speaker is unknown or a side is missing."""
    guess = {} if known else _by_order(turns)
    roles = guess or roles_of([turn.speaker for turn in turns], known)
    messages: list[dict[str, Any]] = []
    merged = 0
    asides: list[str] = []
    calls = _Calls()
    for turn in turns:
        role = roles[turn.speaker]
        if role is None:
            strangers = [name for name, side in roles.items() if side is None]
            raise NotADialogue(f"speaker {turn.speaker[:40]!r} is neither customer nor agent", strangers)
        if role == "aside":
            asides.append(turn.text)
            continue
        if not turn.text.strip() and not turn.extra:
            continue
        message = _message(turn, role, calls)
        if messages and _joins(messages[-1], message):
            _join(messages[-1], message)
            merged += 1
        else:
            messages.append(message)
    return replace(_complete(messages, merged, asides), guessed=bool(guess))


def _by_order(turns: Sequence[Turn]) -> dict[str, str | None]:
    """Return the roles of two who are only numbered (speaker_1, B, 0): the customer begins, unless an agent greets."""
    spoken = [turn for turn in turns if role_of(turn.speaker) != "aside"]
    names = list(dict.fromkeys(turn.speaker for turn in spoken))
    if len(names) != 2 or not are_numbered(*names):
        return {}
    first = "assistant" if is_agent(spoken[0].text) else "user"
    return {
        **{turn.speaker: "aside" for turn in turns},
        names[0]: first,
        names[1]: "user" if first == "assistant" else "assistant",
    }


def are_numbered(one: str, other: str) -> bool:
    """Return whether two names only differ by a number, or by one of two letters that follow each other."""
    first, second = (_NUMBERED.fullmatch(name.strip()) for name in (one, other))
    if not first or not second or first[1].lower() != second[1].lower():
        return False
    if first[2].isdecimal() and second[2].isdecimal():
        return first[2] != second[2]
    return abs(ord(first[2][0]) - ord(second[2][0])) == 1 and not (first[2] + second[2]).isdecimal()


_NUMBERED = re.compile(r"([^\W\d_]*[\s_#-]*)(\d+|[A-Z])")


def _complete(messages: list[dict[str, Any]], merged: int, asides: list[str]) -> Merged:
    if not messages:
        raise NotADialogue("nothing is said in it")
    last = max((place for place, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
    if last < 0:
        raise NotADialogue("the agent says nothing in it")
    if not any(m["role"] == "user" for m in messages[:last]):
        raise NotADialogue("the customer says nothing before the last answer")
    return Merged(messages[: last + 1], merged, len(messages) - last - 1, False, asides)


@dataclass(slots=True)
class _Calls:
    """The tool calls of one conversation, so that each answer names the call it belongs to."""

    made: int = 0
    open: list[str] = field(default_factory=list)


def _message(turn: Turn, role: str, calls: _Calls) -> dict[str, Any]:
    if role == "call":
        return {"role": "assistant", "tool_calls": _tool_calls(turn.text, calls)}
    if role == "tool":
        if "tool_call_id" not in turn.extra and not calls.open:
            raise NotADialogue("a tool answers in it that was not called")
        answered = turn.extra.get("tool_call_id") or calls.open.pop(0)
        said_back = _TAGGED_ANSWER.sub("", turn.text).strip()
        return {"role": "tool", "tool_call_id": answered, "content": said_back}
    if role == "assistant" and "tool_calls" not in turn.extra and (called := _TAGGED_CALL.findall(turn.text)):
        made = [one for text in called for one in _tool_calls(text, calls, more=text is not called[0])]
        words = _TAGGED_CALL.sub("", turn.text).strip()
        return {"role": role, **({"content": words} if words else {}), "tool_calls": made}
    return {"role": role, "content": turn.text.strip(), **turn.extra}


_TAGGED_CALL = re.compile(
    r"<(?:tool_call|functioncall|function_call)>\s*(\{.*?\})\s*(?:</(?:tool_call|functioncall|function_call)>|\Z)",
    re.S,
)
_TAGGED_ANSWER = re.compile(r"</?tool_response>\s*", re.S)
"""Tags that Hermes and Glaive put around calls and their answers in plain text."""


def _tool_calls(text: str, calls: _Calls, *, more: bool = False) -> list[dict[str, Any]]:
    """Read ShareGPT's function_call text, one object of name and arguments or a list; ids count up in the dialogue.

    `more` calls join those that are open, others forget them.
    """
    try:
        value = json.loads(_QUOTED_ARGUMENTS.sub(r"\1\2", text))
    except (ValueError, RecursionError):
        raise NotADialogue("a function call in it is not JSON") from None
    made = []
    if not more:
        calls.open.clear()
    for call in value if isinstance(value, list) else [value]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise NotADialogue("a function call in it has no name")
        arguments = call.get("arguments", call.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.made += 1
        name = f"call_{calls.made}"
        made.append(
            {"id": name, "type": "function", "function": {"name": call["name"], "arguments": arguments}}
        )
        calls.open.append(name)
    return made


_QUOTED_ARGUMENTS = re.compile(r"""("arguments":\s*)'(\{.*\})'""", re.S)
"""Arguments in single quotes, as Glaive wrote them."""


def _joins(before: dict[str, Any], message: dict[str, Any]) -> bool:
    if before["role"] != message["role"] or message["role"] == "tool" or "tool_calls" in before:
        return False
    return before.keys() <= {"role", "content"} and message.keys() <= {"role", "content", "tool_calls"}


def _join(before: dict[str, Any], message: dict[str, Any]) -> None:
    if "tool_calls" in message:
        before["tool_calls"] = message["tool_calls"]
    else:
        before["content"] = f"{before['content']}\n{message['content']}"


def said(value: object) -> str:
    """Return what a cell or a turn says as text: strings as they are, numbers spelt, other values as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
