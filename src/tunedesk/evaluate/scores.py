"""Simple, honest measures of an answer against the one that people wrote, with bootstrap intervals."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

_ORDERS = range(1, 7)
_BETA = 2.0
_MIN_SHARE = 0.6
"""A line is house style when at least this share of the references has it."""
_MIN_REFERENCES = 3
_MAX_WORDS = 14
"""Longest opening or closing that is learnt, words."""
_RESAMPLES = 1000
_LABEL = re.compile(r"[*_#>\s]*([^\W\d_][\w' -]{0,40}?)[*_]*:(?:[*_]*\s|[*_]*$)")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the bounds that hold it in 95 % of resamples of the same prompts."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class HouseRule:
    """A line that the references share."""

    kind: str
    """opening, closing or label."""
    text: str
    share: float
    """Share of the references that have it (for an opening: of those that answer first), 0 to 1."""


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model's answers in numbers; None where nothing could be measured."""

    model: str
    answered: int
    failed: int
    """Prompts without an answer; they are in no mean."""
    similarity: Interval | None
    """chrF against the reference, 0 to 100."""
    house_style: Interval | None
    """Share of house lines followed, of those that the item's own reference has, 0 to 1."""
    length_ratio: Interval | None
    """Words of the answer by words of the reference."""
    first_token_s: Interval | None
    tokens_per_second: Interval | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a model is from the first one, on the prompts that both answered."""

    model: str
    similarity: Interval | None
    house_style: Interval | None


def chrf(answer: str, reference: str) -> float:
    """Return chrF, 0 to 100: the F-score (recall twice as dear) of shared character sequences of 1 to 6.

    Source: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015. Spaces do not
    count; lengths of sequence that either text is too short for are left out.
    """
    said, wanted = "".join(answer.split()), "".join(reference.split())
    precisions, recalls = [], []
    for n in _ORDERS:
        mine = Counter(said[i : i + n] for i in range(len(said) - n + 1))
        theirs = Counter(wanted[i : i + n] for i in range(len(wanted) - n + 1))
        if not mine or not theirs:
            continue
        shared = (mine & theirs).total()
        precisions.append(shared / mine.total())
        recalls.append(shared / theirs.total())
    if not precisions:
        return 0.0
    precision, recall = fmean(precisions), fmean(recalls)
    weighted = _BETA**2 * precision + recall
    return 100 * (1 + _BETA**2) * precision * recall / weighted if weighted else 0.0


def learn_rules(references: Sequence[str], first_replies: Sequence[str]) -> list[HouseRule]:
    """Return the opening, the closing and the label lines that at least 60 % of the references share.

    The opening is learnt from `first_replies` alone, since nobody greets twice in one conversation.
    """
    texts = [text for text in references if text.strip()]
    rules = []
    for kind, among in (("opening", first_replies), ("closing", texts)):
        best = _longest_shared([_edges(text, kind) for text in among])
        if best is not None and len(among) >= _MIN_REFERENCES:
            rules.append(HouseRule(kind, best[0], best[1]))
    if len(texts) < _MIN_REFERENCES:
        return rules
    counted = Counter(label for text in texts for label in _labels(text))
    for label, count in counted.most_common():
        if count / len(texts) >= _MIN_SHARE:
            rules.append(HouseRule("label", label, count / len(texts)))
    return rules


def follows(text: str, rule: HouseRule) -> bool:
    """Whether `text` has the line of `rule` in its place; case and spacing do not matter."""
    candidates = _labels(text) if rule.kind == "label" else _edges(text, rule.kind)
    return rule.text.casefold() in {candidate.casefold() for candidate in candidates}


def house_share(answer: str, reference: str, rules: Sequence[HouseRule]) -> float | None:
    """Return the share of the rules that `reference` follows which `answer` follows too; None when there is none."""
    wanted = [rule for rule in rules if follows(reference, rule)]
    return fmean(follows(answer, rule) for rule in wanted) if wanted else None


def _longest_shared(candidates: Sequence[set[str]]) -> tuple[str, float] | None:
    """Return the candidate with the most words that enough texts share, and their share."""
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for texts in candidates:
        for text in sorted(texts):
            spelled.setdefault(text.casefold(), text)
        counts.update({text.casefold() for text in texts})
    shared = [(text, n / len(candidates)) for text, n in counts.items() if n / len(candidates) >= _MIN_SHARE]
    if not shared:
        return None
    text, share = max(shared, key=lambda pair: (len(pair[0].split()), pair[1], pair[0]))
    return spelled[text], share


def _edges(text: str, kind: str) -> set[str]:
    """Return what may be the house opening (starts of the first line) or closing (starts and ends of the last)."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return set()
    words = (lines[0] if kind == "opening" else lines[-1]).split()
    longest = min(len(words), _MAX_WORDS)
    edges = {" ".join(words[:n]) for n in range(2, longest + 1)}
    if kind == "closing":
        edges |= {" ".join(words[-n:]) for n in range(2, longest + 1)}
        if len(lines) == 1:
            edges = {" ".join(words[-n:]) for n in range(2, longest + 1)}
    return edges


def _labels(text: str) -> set[str]:
    return {match[1] for line in text.splitlines() if (match := _LABEL.match(line))}


def interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Return the mean and its 95 % bootstrap interval over the items; None for no values."""
    if not values:
        return None
    draw = random.Random(seed)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Interval(fmean(values), means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1])


def paired(one: Sequence[float | None], other: Sequence[float | None]) -> Interval | None:
    """Return the interval of `one` minus `other` on the items where both have a value."""
    return interval([a - b for a, b in zip(one, other, strict=True) if a is not None and b is not None])
