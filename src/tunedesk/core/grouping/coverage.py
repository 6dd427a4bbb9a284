"""What a set of conversations covers: intents by metadata, else topics grouped by rare words they share.

Topics are found without any model: each first question belongs to the most telling of its words, the one that is
frequent enough to be a topic and says most (rows that have it, weighed by how few other topics do). A topic's name
is that word and the two that most often stand beside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tunedesk.core.checking.languages import FREQUENT_WORDS
from tunedesk.core.checking.talk_checks import refusal
from tunedesk.core.conversations import Row, content_text

_KEYS = ("intent", "category", "topic", "label", "reason", "type", "subject", "queue")
_THIN_SHARE = 0.2
"""An intent with less than this share of the mean is thin; so is one with fewer than _THIN_ROWS."""
_THIN_ROWS = 5
_MOST_TOPICS = 40
_WORD = re.compile(r"[^\W\d_]{3,}")
_HAND_OFF = re.compile(
    r"\b(?:transfer(?:ring)?|connect(?:ing)?|pass(?:ing)?|hand(?:ing)?|escalat\w+|forward(?:ing)?) "
    r"(?:you|this|your|it)\b"
    r"[^.?!]{0,60}\b(?:to|with|over)\b"
    r"|\b(?:specialist|supervisor|human agent|colleague|manager) will (?:contact|call|take)"
    r"|\b(?:ich verbinde sie|leite sie weiter|je vous transf[eè]re|le transfiero|le paso con)",
    re.I,
)


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

    @property
    def thin(self) -> tuple[str, ...]:
        """Names of the intents that are thin."""
        return tuple(one.name for one in self.intents if one.thin)


def cover(rows: Iterable[Row]) -> Coverage:
    """Return the coverage of `rows`."""
    keys: Counter[str] = Counter()
    labels: list[dict[str, str]] = []
    asked: list[tuple[str, ...]] = []
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
        handed += any(_HAND_OFF.search(text) for text in answers)
    total = len(labels)
    by = next((key for key in _KEYS if 2 * keys[key] >= total > 0 and _names_groups(key, labels)), "")
    counts = Counter(one.get(by, "(none)") for one in labels) if by else topics(asked)
    mean = total / max(1, len(counts))
    intents = tuple(
        Intent(name, count, count / total, count < max(_THIN_ROWS, _THIN_SHARE * mean))
        for name, count in counts.most_common()
    )
    share = 1 / max(1, total)
    return Coverage(total, by or "topics", intents, refused * share, handed * share)


def _names_groups(key: str, labels: list[dict[str, str]]) -> bool:
    """Return whether the values under a key repeat, as intents do and subject lines do not."""
    values = [one[key] for one in labels if key in one]
    return 3 * len(set(values)) <= len(values) or len(set(values)) <= 2


def _sides(row: Row) -> tuple[tuple[str, ...], list[str]]:
    """Return the telling words of the first question, and the answers."""
    messages = row.get("messages")
    listed = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    question = next((content_text(m.get("content")) for m in listed if m.get("role") == "user"), "")
    words = dict.fromkeys(_WORD.findall(question[:1_000].lower()))
    answers = [content_text(m.get("content")) for m in listed if m.get("role") == "assistant"]
    return tuple(word for word in words if word not in FREQUENT_WORDS), answers


def topics(asked: list[tuple[str, ...]]) -> Counter[str]:
    """Return names of topics with how many questions are about each; `asked` are the telling words of each question."""
    total = len(asked)
    frequency = Counter(word for words in asked for word in words)
    fewest = max(3, total // 200)
    weights = {
        word: count * math.log(1 + total / count)
        for word, count in frequency.items()
        if fewest <= count <= max(fewest, 0.5 * total)
    }
    heads = set(sorted(weights, key=lambda word: (-weights[word], word))[:_MOST_TOPICS])
    members: dict[str, list[tuple[str, ...]]] = {}
    for words in asked:
        known = [word for word in words if word in heads]
        head = min(known, key=lambda word: (frequency[word], word)) if known else ""
        members.setdefault(head, []).append(words)
    named: Counter[str] = Counter()
    for head, questions in members.items():
        beside = Counter(word for words in questions for word in words if word != head and word in weights)
        name = " ".join([head, *(word for word, _ in beside.most_common(2))]) if head else "(other)"
        named[name] += len(questions)
    return named
