"""What questions are about, without any model: groups of questions that share telling words, named by these words.

Each question is a vector of its word stems, weighed by how rare they are. Groups begin with words that together cover
the questions and are refined as k-means on the sphere does, on a sample; then every question joins the nearest.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources

from tunedesk.core.checking.languages import FREQUENT_WORDS
from tunedesk.core.personal_data.names import is_given_name

OTHER = "(other)"
"""The topic of questions that share no telling word with enough others."""
_SAMPLE = 6_000
_MOST_TOPICS = 30
_ROUNDS = 6
_MOST_WORDS = 40
"""Stems that a group is known by."""
_NEAR = 0.12
"""Cosine below which a question is about something else."""
_MOST_SHARE = 0.2
"""Share of the questions from which a word that stands in them tells no topic apart."""
_FEW = 60
"""Questions up to which one word may tell a topic whatever its share."""
_SAME = 0.55
"""Cosine from which two groups are one."""
_LETTER = r"[^\W\d_][\u0900-\u0903\u093a-\u094f\u0981-\u09cd\u0b82-\u0bcd\u0e31-\u0e4e\u064b-\u065f]*"
_WORD = re.compile(rf"(?:{_LETTER})+(?:['’](?:{_LETTER})+)?")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\[[A-Z_]+_\d+\]|https?://\S+|\S+@\S+")
_SPACED = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]{2,}")
_FILLERS = frozenset(
    resources.files("tunedesk.core.grouping").joinpath("fillers.txt").read_text("utf-8").split()
)
Vector = dict[str, float]


def words_of(text: str) -> list[str]:
    """Return the telling words of a question, in small letters: no fillers, no names of people, each once.

    Chinese and Japanese, which part no words, are cut in pairs of letters.
    """
    bare = _PLACEHOLDER.sub(" ", text) if "{{" in text or "[" in text or "@" in text or "//" in text else text
    found: dict[str, None] = {}
    for word in _WORD.findall(bare.lower()):
        if plain := _telling(word):
            found[plain] = None
    for run in _SPACED.findall(bare):
        found.pop(run, None)
        found.update(dict.fromkeys(run[at : at + 2] for at in range(len(run) - 1)))
    return list(found)


@lru_cache(1 << 16)
def _telling(word: str) -> str:
    """Return a word without its possessive when it tells anything, else nothing."""
    plain = word.replace("’", "'").removesuffix("'s").replace("'", "")
    short = len(plain) < 3 and plain.isascii()
    told = short or plain in _FILLERS or plain in FREQUENT_WORDS or is_given_name(plain)
    return "" if told else plain


@lru_cache(1 << 16)
def stem(word: str) -> str:
    """Return an English word without the endings that make no difference to a topic; other words as they are."""
    if not word.isascii() or len(word) < 4:
        return word
    for ending, left in (
        ("ations", ""),
        ("ation", ""),
        ("ings", ""),
        ("ing", ""),
        ("ies", "y"),
        ("ed", ""),
        ("es", ""),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 4 and not word.endswith(("ss", "us")):
            word = word[: len(word) - len(ending)] + left
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "se":
        word = word[:-1]
    return word.rstrip("e") if len(word) > 4 else word


def topics(asked: Sequence[Sequence[str]]) -> list[str]:
    """Return the topic of each question; `asked` are their telling words (`words_of`)."""
    stems = [list(dict.fromkeys(map(stem, words))) for words in asked]
    frequency = Counter(one for found in stems for one in found)
    total = max(1, len(asked))
    fewest = max(2, min(8, total // 400))
    most = _MOST_SHARE if total > _FEW else 0.6
    weight = {
        one: math.log(1 + total / count)
        for one, count in frequency.items()
        if fewest <= count <= max(fewest, most * total)
    }
    step = max(1, -(-total // _SAMPLE))
    sample = [vector for found in stems[::step] if (vector := _vector(found, weight))]
    groups = _grouped(sample, frequency, min(_MOST_TOPICS, max(2, round(math.sqrt(total) / 2) + 2)))
    nearest = _Nearest(groups)
    place = [nearest.of(_vector(found, weight)) for found in stems]
    least = max(2, total // 500)
    sizes = Counter(place)
    names = _names(asked, stems, place, len(groups))
    return [names[at] if at >= 0 and sizes[at] >= least else OTHER for at in place]


def _vector(stems: Iterable[str], weight: dict[str, float]) -> Vector:
    found = {one: weight[one] for one in stems if one in weight}
    length = math.sqrt(sum(value * value for value in found.values())) or 1.0
    return {one: value / length for one, value in found.items()}


def _grouped(sample: list[Vector], frequency: Counter[str], most: int) -> list[Vector]:
    """Return the groups of a sample, each as the mean of its questions."""
    groups = _first_groups(sample, most)
    for _ in range(_ROUNDS):
        nearest = _Nearest(groups)
        sums: list[defaultdict[str, float]] = [defaultdict(float) for _ in groups]
        for vector in sample:
            at = nearest.of(vector)
            if at >= 0:
                for one, value in vector.items():
                    sums[at][one] += value
        groups = _merged([_mean(one) for one in sums if one])
    return groups


def _first_groups(sample: list[Vector], most: int) -> list[Vector]:
    """Return groups of the questions with one stem each, chosen so that together they cover the sample."""
    holding: defaultdict[str, list[int]] = defaultdict(list)
    for number, vector in enumerate(sample):
        for one in vector:
            holding[one].append(number)
    covered = [False] * len(sample)
    gain = {one: sum(sample[number][one] for number in numbers) for one, numbers in holding.items()}
    groups: list[Vector] = []
    while gain and len(groups) < most:
        best = max(gain, key=lambda one: (gain[one], one))
        numbers = [number for number in holding[best] if not covered[number]]
        if len(numbers) < 2:
            break
        sums: defaultdict[str, float] = defaultdict(float)
        for number in numbers:
            covered[number] = True
            for one, value in sample[number].items():
                sums[one] += value
                if one in gain:
                    gain[one] -= value
        gain.pop(best, None)
        groups.append(_mean(sums))
    return groups


def _mean(sums: dict[str, float]) -> Vector:
    kept = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_WORDS]
    length = math.sqrt(sum(value * value for _, value in kept)) or 1.0
    return {one: value / length for one, value in kept}


def _merged(groups: list[Vector]) -> list[Vector]:
    """Return the groups with those joined that are about the same."""
    kept: list[Vector] = []
    for group in groups:
        for at, other in enumerate(kept):
            if sum(value * other.get(one, 0.0) for one, value in group.items()) >= _SAME:
                kept[at] = _mean(
                    {one: other.get(one, 0.0) + group.get(one, 0.0) for one in {**other, **group}}
                )
                break
        else:
            kept.append(group)
    return kept


class _Nearest:
    """Tells which group a question is nearest to, by the groups that know one of its stems."""

    def __init__(self, groups: Sequence[Vector]) -> None:
        self._known: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for at, group in enumerate(groups):
            for one, value in group.items():
                self._known[one].append((at, value))

    def of(self, vector: Vector) -> int:
        """Return the place of the nearest group, -1 where none is near."""
        scores: dict[int, float] = {}
        for one, value in vector.items():
            for at, weight in self._known.get(one, ()):
                scores[at] = scores.get(at, 0.0) + value * weight
        best = max(scores, key=lambda at: (scores[at], -at), default=-1)
        return best if best >= 0 and scores[best] >= _NEAR else -1


def _names(
    asked: Sequence[Sequence[str]], stems: Sequence[Sequence[str]], place: Sequence[int], count: int
) -> list[str]:
    """Return the name of each group: stems that tell it from all questions, as they are mostly written and ordered."""
    overall: Counter[str] = Counter()
    inside: list[Counter[str]] = [Counter() for _ in range(count)]
    order: list[defaultdict[str, list[int]]] = [defaultdict(list) for _ in range(count)]
    written: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, found, at in zip(asked, stems, place, strict=True):
        overall.update(found)
        for word in words:
            written[stem(word)][word] += 1
        if at >= 0:
            inside[at].update(found)
            for number, one in enumerate(found):
                order[at][one].append(number)
    total = max(1, len(asked))
    names: list[str] = []
    for at in range(count):
        size = max(1, max(inside[at].values(), default=1), place.count(at) if total < 20_000 else 1)
        score = {
            one: times * math.log(1 + times * total / (overall[one] * size))
            for one, times in inside[at].most_common(60)
        }
        best = sorted(score, key=lambda one: (-score[one], one))
        best = [one for one in best[:3] if inside[at][one] * 5 >= inside[at][best[0]]]
        best.sort(key=lambda one: sum(order[at][one]) / len(order[at][one]))
        name = " ".join(written[one].most_common(1)[0][0] for one in best) or OTHER
        names.append(name if name not in names else f"{name} ({names.count(name) + 1})")
    return names
