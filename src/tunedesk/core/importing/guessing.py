"""Which of two columns asks and which answers, where no name tells: by what stands in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_QUESTION = re.compile(r"[?？؟;]\s*$|^\s*¿")
_OPENING = re.compile(
    r"^\W*(?:how|what|where|when|why|which|who|can|could|do|does|did|is|are|was|will|would|should|may|i|my|please|help|"
    r"wie|was|wo|wann|warum|kann|ich|mein|comment|quand|pourquoi|puis|je|mon|ma|como|cómo|donde|dónde|qué|quiero|"
    r"puedo|mi|come|dove|quando|posso|vorrei|hoe|waar|kan|ik|mijn|как|где|когда|почему|могу|я|jak|gdzie|czy|kiedy)\b",
    re.I,
)
_NO_TEXT = re.compile(r"[-+]?[\d.,:/\s%€$£TZ+-]+|\S+@\S+|https?://\S+|")
_FEWEST = 3
"""Rows that two columns need before anything is said about them."""


def text_columns(sample: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns whose cells are mostly sentences of their own: no numbers, dates, ids or labels."""
    names = dict.fromkeys(str(name) for record in sample for name in record)
    return [name for name in names if _is_text([record.get(name) for record in sample])]


def _is_text(cells: Sequence[object]) -> bool:
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(texts) * 2 < len(cells) or not texts:
        return False
    sentences = sum(len(text.split()) > 1 or len(text) > 12 for text in texts if not _NO_TEXT.fullmatch(text))
    return sentences * 3 >= len(texts) * 2 and len(set(texts)) * 2 > len(texts)


def worded_columns(sample: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns whose cells are mostly words: what a side may have said."""
    names = dict.fromkeys(str(name) for record in sample for name in record)
    bare = {name: [str(record.get(name) or "").strip() for record in sample] for name in names}
    return [
        name for name in names if 2 * sum(bool(_NO_TEXT.fullmatch(cell)) for cell in bare[name]) < len(sample)
    ]


def sides(sample: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the column that asks and the one that answers where there are just two of texts and one asks clearly more.

    None when that cannot be told.
    """
    found = text_columns(sample)
    if len(found) != 2 or len(sample) < _FEWEST:
        return None
    first, second = (_asking([str(record.get(name) or "") for record in sample]) for name in found)
    if first >= 0.4 and first >= second + 0.25:
        return found[0], found[1]
    if second >= 0.4 and second >= first + 0.25:
        return found[1], found[0]
    return None


def _asking(cells: Sequence[str]) -> float:
    """Return the share of cells that ask: half by how they end, half by how they begin."""
    texts = [cell for cell in cells if cell.strip()]
    ends = sum(bool(_QUESTION.search(text)) for text in texts)
    begins = sum(bool(_OPENING.match(text)) for text in texts)
    return max(ends, (ends + begins) / 2) / max(1, len(texts))
