"""What a set of conversations covers: intents by metadata, else topics of what their users say first (topics.py)."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tunedesk.core.checking.talk_checks import refusal
from tunedesk.core.conversations import Row, content_text
from tunedesk.core.grouping.topics import topics, words_of
from tunedesk.core.personal_data.spans import holds

NONE = "(none)"
"""Instead of an intent, where a conversation has none."""
_KEYS = ("intent", "category", "topic", "label", "reason", "type", "subject", "queue")
_THIN_SHARE = 0.2
"""An intent with less than this share of the mean is thin; so is one with fewer than _THIN_ROWS."""
_THIN_ROWS = 5
_ASKED = 3
"""Messages of the user that say what a conversation is about."""
_MOST_TEXT = 600
_HAND_OFF = re.compile(
    r"\b(?:transfer(?:ring)?|connect(?:ing)?|pass(?:ing)?|hand(?:ing)?|escalat\w+|forward(?:ing)?|put(?:ting)?) "
    r"(?:you|this|your|it|the (?:call|case|chat|matter|ticket))\b[^.?!]{0,60}\b(?:to|with|over|through)\b"
    r"|\b(?:specialist|supervisor|human agent|colleague|manager|representative|member of (?:our|the) team|agent) "
    r"(?:will|can|is going to) (?:contact|call|take|get back|reach out|be in touch|follow up|assist|help)"
    r"|\b(?:ich verbinde sie|verbinde dich|leite (?:sie|dich|ihre|das|es) |je vous (?:transf[eè]re|mets en relation)|"
    r"le (?:transfiero|paso con|comunico con)|la (?:trasferisco|metto in contatto)|vou (?:transferir|encaminhar)|"
    r"ik verbind u|prze[lł][aą]cz[eę] pan)",
    re.I,
)
_HANDING = (
    "transfer", "connect", "pass", "hand", "escalat", "forward", "through", "specialist", "supervisor", "human agent",
    "colleague", "manager", "representative", "member of", "agent ", "verbind", "leite ", "vous mets", "vous transf",
    "transfiero", "paso con", "comunico con", "trasferisco", "metto in", "transferir", "encaminhar", "prze",
)  # fmt: skip
"""Parts one of which stands in every answer that the pattern matches."""


def _hands_off(text: str) -> bool:
    return holds(text.lower(), _HANDING) and bool(_HAND_OFF.search(text))


@dataclass(frozen=True, slots=True)
class Intent:
    """One intent, or topic, with how well it is covered."""

    name: str
    conversations: int
    share: float
    thin: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a set of conversations covers."""

    conversations: int
    by: str
    """The metadata key that names intents, or `topics` when words do."""
    intents: tuple[Intent, ...]
    """The most frequent first."""
    refusals: float
    """Share of conversations with an answer that only refuses."""
    hand_offs: float
    """Share of conversations that are handed to someone else."""
    topics: Mapping[str, array[int]] = field(default_factory=dict)
    """Conversations by topic, counted from 0 as they were given (typecode I); empty where metadata names intents."""

    @property
    def thin(self) -> tuple[str, ...]:
        """Names of the intents that are thin."""
        return tuple(one.name for one in self.intents if one.thin)


def cover(rows: Iterable[Row]) -> Coverage:
    """Return the coverage of `rows`."""
    keys: Counter[str] = Counter()
    labels: list[dict[str, str]] = []
    asked: list[list[str]] = []
    refused = handed = 0
    for row in rows:
        metadata = row.get("metadata")
        named = {
            key: str(metadata[key])
            for key in _KEYS
            if isinstance(metadata, dict) and metadata.get(key) not in (None, "")
        }
        keys.update(list(named))
        labels.append(named)
        question, answers = _sides(row)
        asked.append(question)
        refused += any(refusal(text) for text in answers)
        handed += any(_hands_off(text) for text in answers)
    total = len(labels)
    by = next((key for key in _KEYS if 2 * keys[key] >= total > 0 and _names_groups(key, labels)), "")
    told = [one.get(by, NONE) for one in labels] if by else topics(asked)
    counts = Counter(told)
    mean = total / max(1, len(counts))
    intents = tuple(
        Intent(name, count, count / total, count < max(_THIN_ROWS, _THIN_SHARE * mean))
        for name, count in counts.most_common()
    )
    share = 1 / max(1, total)
    places: dict[str, array[int]] = {}
    for place, name in enumerate(told if not by else ()):
        places.setdefault(name, array("I")).append(place)
    return Coverage(total, by or "topics", intents, refused * share, handed * share, places)


def _names_groups(key: str, labels: list[dict[str, str]]) -> bool:
    """Return whether the values under a key repeat, as intents do and subject lines do not."""
    values = [one[key] for one in labels if key in one]
    return 3 * len(set(values)) <= len(values) or len(set(values)) <= 2


def _sides(row: Row) -> tuple[list[str], list[str]]:
    """Return the telling words of what the user says first, and the answers."""
    messages = row.get("messages")
    listed = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    said = [content_text(m.get("content")) for m in listed if m.get("role") == "user"][:_ASKED]
    answers = [content_text(m.get("content")) for m in listed if m.get("role") == "assistant"]
    return words_of("\n".join(said)[:_MOST_TEXT]), answers
