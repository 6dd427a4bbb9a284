"""What a column or key means by its name: who asks, who answers, which conversation, which label."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

_FOLDED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "’": " ", "'": " "})


@lru_cache(4_096)
def plain(name: str) -> str:
    """Return a column's name as it is compared: small letters without accents, words joined by underscores."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    letters = unicodedata.normalize("NFKD", spaced.casefold().translate(_FOLDED))
    bare = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
    # A CRM marks fields of its customer's own with __c.
    return re.sub(r"[\s\-./:?*#()\[\]]+", "_", bare.removesuffix("__c")).strip("_")


_FILE = resources.files("tunedesk.core.importing").joinpath("column_names.toml")
_NAMES = {
    meaning: [plain(name) for name in names.split()]
    for meaning, names in tomllib.loads(_FILE.read_text("utf-8")).items()
}
"""Meaning → names in order of trust."""

LABELS = (
    "intent",
    "subflow",
    "intent_name",
    "category",
    "label",
    "topic",
    "queue",
    "task",
    "issue_type",
    "type",
)
"""Names that say what a conversation is about, in order of trust: the first one met becomes metadata.intent."""

_MOST_TEXT = 2_000
_KNOWN = {name for names in _NAMES.values() for name in names} | set(LABELS)
_SIDES = {
    "user": "user customer client human visitor guest caller requester enduser usr kunde kunden cliente client klant",
    "assistant": "assistant agent bot chatbot support advisor adviser operator gpt llm staff rep berater",
}
SAYING = frozenset(
    [
        "message",
        "messages",
        "msg",
        "text",
        "texts",
        "utterance",
        "question",
        "query",
        "request",
        "reply",
        "response",
        "answer",
        "content",
        "body",
        "turn",
        "input",
        "output",
        "prompt",
        "said",
        "comment",
        "nachricht",
        "frage",
        "antwort",
        "mensaje",
    ]
)
"""Words that, beside one that names a side, say that a column holds what this side says."""
_COMPOUNDS = {"user": ("frage", "anliegen", "vraag"), "assistant": ("antwort", "antwoord")}
"""Ends of compound words that name what a side says: Patientenfrage, Arztantwort."""
_SIDE_WORDS = {meaning: frozenset(words.split()) for meaning, words in _SIDES.items()}


def is_known(name: str) -> bool:
    """Return whether a column of this name has any meaning known here, as most headers of conversations have one."""
    return bool(name.strip()) and (
        plain(name) in _KNOWN or any(_speaks_for(side, plain(name)) for side in _SIDES)
    )


def trust(meaning: str, name: str) -> int | None:
    """Return the place of a column's name in the order of trust for `meaning`; None when it does not have it."""
    bare = plain(name)
    for place, wanted in enumerate(_NAMES[meaning]):
        if bare in (wanted, wanted.replace("_", "")):
            return place
    return None


def find(meaning: str, names: Iterable[str]) -> str | None:
    """Return the column among `names` that has `meaning` by its name, the most trusted one; None when there is none."""
    return _find(meaning, tuple(names))


@lru_cache(1_024)
def _find(meaning: str, names: tuple[str, ...]) -> str | None:
    known = {plain(name): name for name in reversed(names)}
    for wanted in _NAMES[meaning]:
        if wanted in known:
            return known[wanted]
        if wanted.replace("_", "") in known:
            return known[wanted.replace("_", "")]
    if meaning in _SIDES:
        return next((name for bare, name in reversed(known.items()) if _speaks_for(meaning, bare)), None)
    return None


def _speaks_for(side: str, bare: str) -> bool:
    """Return whether a name such as `message_of_customer` says that a column holds what one side says."""
    words = {word for word in bare.split("_") if word and not word.isdecimal()}
    other = _SIDE_WORDS["assistant" if side == "user" else "user"]
    if len(words) == 1 and bare.endswith(_COMPOUNDS[side]):
        return True
    mine = words & _SIDE_WORDS[side]
    return bool(mine) and not words & other and words - mine - {"of", "from", "by", "the", "s"} <= SAYING


def metadata(record: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """Return what a row keeps of `record` beside its messages: its `metadata`, all small values, and the intent.

    Objects are flattened with dotted names; long texts and lists stay out. `used` keys became messages.
    """
    kept: dict[str, Any] = {}
    own = record.get("metadata")
    taken = set(used) | {"metadata"}
    for name, value in record.items():
        if name not in taken:
            _keep(kept, name, value, 2)
    if isinstance(own, Mapping):
        kept.update({key: value for key, value in own.items() if isinstance(key, str)})
    if "intent" not in kept:
        intent = _intent(kept)
        if intent is not None:
            kept["intent"] = intent
    return kept


def _keep(kept: dict[str, Any], name: str, value: object, depth: int) -> None:
    if isinstance(value, str):
        if 0 < len(value) <= _MOST_TEXT:
            kept[name] = value
    elif isinstance(value, bool | int | float):
        kept[name] = value
    elif isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            _keep(kept, f"{name}.{key}", inner, depth - 1)
    elif isinstance(value, list) and 0 < len(value) <= 20:
        if all(isinstance(item, str | int | float) and len(str(item)) < 200 for item in value):
            kept[name] = value
        elif depth and isinstance(value[0], Mapping):
            _keep(kept, name, value[0], depth)


def _intent(kept: Mapping[str, Any]) -> str | None:
    leaves = {plain(name.rpartition(".")[2]): value for name, value in reversed(list(kept.items()))}
    for label in LABELS:
        value = leaves.get(label)
        if (
            isinstance(value, str)
            and 0 < len(value) <= 80
            and value not in ("conversation", "ticket", "chat")
        ):
            return value
    return None
