"""Plain-text transcripts: lines such as "Agent: Good morning", told apart into turns and conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tunedesk.core.importing.roles import Turn, role_of

_DATE = r"\d{1,4}[-/.:]\d{1,2}(?:[-/.:]\d{1,4})?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?"
_TIME = rf"[\[(]{{0,2}}{_DATE}(?:[ T,]+{_CLOCK})?(?: ?[AaPp]\.?[Mm]\.?)?Z?[\])]{{0,2}}"
_SPOKEN = re.compile(
    rf"\s*(?:[-*>]\s+)?(?:{_TIME}[\s,|-]*)?\**([^\W\d_][\w .'’-]{{0,38}}?)\**\s*"
    rf"(?:\([^)\n]{{0,40}}\)|{_TIME})?\s*[:：]\**\s*(.*)$",
    re.S,
)
_RULE = re.compile(
    r"\s*(?:[-=*_#~]{3,}|(?:#+\s*)?(?:conversation|dialogue|dialog|chat|ticket|call|transcript|session|case)\b"
    r"[\s#:no.]*[\w-]*\s*[:#=-]*)\s*$",
    re.I,
)
_LONGEST = 4_000


def spoken(line: str) -> tuple[str, str] | None:
    """Return speaker and text of a line such as "[10:02] Agent (Ann): Hello"; None when nobody is named."""
    found = _SPOKEN.match(line) if len(line) < _LONGEST or ":" in line[:80] else None
    return (found[1].strip(), found[2].strip()) if found else None


def is_transcript(text: str) -> bool:
    """Return whether `text` is a conversation written out: both sides named at the start of lines."""
    roles = set()
    for line in text[:20_000].splitlines():
        said = spoken(line)
        role = role_of(said[0]) if said else None
        if role in ("user", "assistant"):
            roles.add(role)
        if len(roles) == 2:
            return True
    return False


def turns(text: str) -> list[Turn]:
    """Return the turns of one conversation; lines that name nobody go on with what was said before."""
    return _turns(enumerate(text.splitlines(), 1))


def _turns(lines: Iterable[tuple[int, str]]) -> list[Turn]:
    found: list[tuple[str, list[str], int]] = []
    for number, line in lines:
        said = spoken(line)
        if said and (role_of(said[0]) or not found or said[0] in {speaker for speaker, _, _ in found}):
            found.append((said[0], [said[1]], number))
        elif found and line.strip():
            found[-1][1].append(line.strip())
    return [Turn(speaker, "\n".join(text).strip(), number) for speaker, text, number in found]


def conversations(lines: Iterable[tuple[int, str]]) -> list[list[Turn]]:
    """Return the conversations of a text: parted by rules, headings, or blank lines where each part has both sides."""
    parts = _parted(lines, lambda line: bool(_RULE.match(line)))
    if len(parts) == 1:
        blocks = _parted(parts[0], lambda line: not line.strip())
        if len(blocks) > 1 and all(is_transcript("\n".join(line for _, line in block)) for block in blocks):
            parts = blocks
    return [made for made in map(_turns, parts) if made]


def _parted(lines: Iterable[tuple[int, str]], parts: Callable[[str], bool]) -> list[list[tuple[int, str]]]:
    made: list[list[tuple[int, str]]] = [[]]
    for number, line in lines:
        if parts(line):
            made.append([])
        else:
            made[-1].append((number, line))
    return [part for part in made if any(line.strip() for _, line in part)]
