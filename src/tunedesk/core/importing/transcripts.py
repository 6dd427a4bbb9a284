"""Plain-text transcripts: lines such as "Agent: Good morning", told apart into turns and conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from tunedesk.core.importing.roles import WORD, Turn, role_of
from tunedesk.errors import DataError

_DATE = r"\d{1,4}[-/.:]\d{1,2}(?:[-/.:]\d{1,4})?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?"
_SECONDS = r"\(\s*(?:\d+h\s*)?(?:\d+m\s*)?\d+s\s*\)"
_HALF = r"(?:오전|오후|上午|下午|午前|午後)"
_CLOCKED = rf"(?:{_HALF}\s*)?(?:{_DATE}(?:[ T,]+{_CLOCK})?|{_CLOCK})(?:\s?[AaPp]\.?[Mm]\.?)?Z?"
_TIME = rf"(?:[\[(]{{0,2}}{_CLOCKED}[\])]{{0,2}}|{_SECONDS})"
_NAME = rf"[^\W\d_](?:{WORD}|[ .'’/-]){{0,38}}?"
_SPOKEN = re.compile(
    rf"[\s\u200e\u200f]*(?:[-*>•]\s+)?(?:{_TIME}[\s,|–-]*)?(?:<|\[)?\**({_NAME})\**(?:>|\])?\s*"
    rf"(?:\(([^)\n]{{0,40}})\)|（[^）\n]{{0,40}}）|{_TIME})?\s*(?:(?<!\d)[:：]|(?<=\d)[:：](?!\d\d))(?!//)\**\s*(.*)$",
    re.S,
)
_BRACKETED = re.compile(
    rf"\s*(?:{_TIME}[\s,|–-]*)?[\[<【](?P<who>{_NAME})[\]>】]\s*(?:{_TIME}\s*)?[:：-]?\s+(?P<said>.*)$", re.S
)
"""[Agent] Hello, <customer> Hi."""
_TIMED = re.compile(rf"[\s\u200e\u200f]*{_TIME}[\s,|–-]")
_MOST_SPEAKERS = 40
_HEADING = re.compile(rf"\s*({_NAME})\s*[,|–-]?\s+{_TIME}\s*$")
"""Agent  10:02 AM, on a line of its own above what was said."""
_RULE = re.compile(
    r"\s*(?:[-=*_#~]{3,}|(?:#+\s*)?(?:conversation|dialogue|dialog|chat|ticket|call|transcript|session|case)\b"
    r"[\s#:no.]*[\w-]*\s*[:#=-]*)\s*$",
    re.I,
)
_LETTERS = {"Q": "user", "A": "assistant"}
_HEAD = 160
"""Characters of a line within which its speaker is named."""
_END = re.compile(r"\s*(?:<\|endoftext\|>|</s>)\s*\Z")


class UnknownSpeakers(DataError):
    """A chat log names who speaks, and no name tells who is the customer."""

    def __init__(self, source: str, names: list[str]) -> None:
        """Ask about `names`, who speak in `source`."""
        first, second = names[:2]
        super().__init__(
            f"{source} is a chat between {', '.join(names[:6])}: who is the customer?",
            f"--format transcript --map user={first},assistant={second}; several names are parted by |",
        )
        self.names = tuple(names)


def spoken(line: str) -> tuple[str, str] | None:
    """Return speaker and text of a line such as "[10:02] Agent (Ann): Hello"; None when nobody is named."""
    head = line[:_HEAD]
    found = _SPOKEN.match(line) if ":" in head or "：" in head else None
    if found:
        # Ann (Customer): the role beside a name says more than the name.
        name = found[2] if found[2] and not role_of(found[1]) and role_of(found[2]) else found[1]
        return name.strip(), found[3].strip()
    if headed := _HEADING.match(line):
        return (headed[1].strip(), "") if role_of(headed[1]) else None
    if found is None and ("[" in head or "<" in head or "【" in head):
        found = _BRACKETED.match(line)
        found = found if found and role_of(found[1]) else None
    return (found["who"].strip(), found["said"].strip()) if found else None


def is_transcript(text: str, *, lettered: bool = False) -> bool:
    """Return whether `text` is a conversation written out: both sides named at the start of lines.

    `lettered`: Q and A name sides, too, which in a cell or field are rather a question's own examples.
    """
    roles = set()
    for line in text[:20_000].splitlines():
        said = spoken(line)
        role = role_of(said[0]) or (_LETTERS.get(said[0]) if lettered else None) if said else None
        if role in ("user", "assistant"):
            roles.add(role)
        if len(roles) == 2:
            return True
    return False


def is_timed(line: str) -> bool:
    """Return whether a line begins with a time, as those of a chat log do."""
    return bool(_TIMED.match(line))


def timed_speakers(text: str) -> list[str]:
    """Return who speaks in a chat log whose lines begin with a time and a name; nothing when it is none."""
    lines = [line for line in text.splitlines() if line.strip()][:200]
    named = [said[0] for line in lines if _TIMED.match(line) and (said := spoken(line))]
    names = list(dict.fromkeys(named))
    return names if 2 <= len(names) <= _MOST_SPEAKERS and 2 * len(named) > len(lines) else []


def turns(text: str, known: Collection[str] = ()) -> list[Turn]:
    """Return the turns of one conversation; lines that name nobody go on with what was said before.

    `known` are names in small letters that speak in it, beside those whose role their name tells.
    """
    return _turns(enumerate(text.splitlines(), 1), known)


def _turns(lines: Iterable[tuple[int, str]], known: Collection[str]) -> list[Turn]:
    found: list[tuple[str, list[str], int]] = []
    for number, line in lines:
        said = spoken(line)
        if said and _speaks(said[0], known, {speaker for speaker, _, _ in found}):
            found.append((said[0], [said[1]], number))
        elif found and (line.strip() or (found[-1][1][-1:] != [""] and found[-1][1] != [""])):
            found[-1][1].append(line.strip())
    return [Turn(speaker, _END.sub("", "\n".join(text).strip()), number) for speaker, text, number in found]


def _speaks(name: str, known: Collection[str], before: Collection[str]) -> bool:
    return bool(role_of(name)) or name in _LETTERS or not before or name in before or name.lower() in known


def conversations(lines: Iterable[tuple[int, str]], known: Collection[str] = ()) -> list[list[Turn]]:
    """Return the conversations of a text: parted by rules, headings, or blank lines where each part has both sides.

    `known` are names in small letters that speak in it.
    """
    parts = _parted(lines, lambda line: bool(_RULE.match(line)))
    if len(parts) == 1:
        blocks = _parted(parts[0], lambda line: not line.strip())
        if len(blocks) > 1 and all(
            is_transcript("\n".join(line for _, line in block), lettered=True) for block in blocks
        ):
            parts = blocks
    return [made for made in (_turns(part, known) for part in parts) if made]


def _parted(lines: Iterable[tuple[int, str]], parts: Callable[[str], bool]) -> list[list[tuple[int, str]]]:
    made: list[list[tuple[int, str]]] = [[]]
    for number, line in lines:
        if parts(line):
            made.append([])
        else:
            made[-1].append((number, line))
    return [part for part in made if any(line.strip() for _, line in part)]
