"""What one text of a role says by itself, worked out once: most texts of a file are said again and again.

A row's findings are put together from this, whichever way the row was read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from tunedesk.core.checking import languages
from tunedesk.core.checking.clues import ALL, ASKS, ENGLISH, FAULT, HEARD, NEUTRAL, PERSONAL, clues
from tunedesk.core.checking.talk_checks import Spoken, spoken
from tunedesk.core.checking.text_checks import text_faults
from tunedesk.core.grouping.sketches import key_of, shingle_hashes, shingle_hashes_of
from tunedesk.core.personal_data import finding, privacy
from tunedesk.core.personal_data.spans import Found

_MOST = 120_000
"""Texts kept; as many older ones stay until these are full."""
_MOST_CHARACTERS = 24 << 20
LONG_ANSWER = 40
"""Characters from which an answer that is given again and again is worth a word."""
_NONE: frozenset[str] = frozenset()
_DIGIT = re.compile(r"\d")
"""Without one nothing but a name can answer a question."""
_IN_ENGLISH = Spoken("", "", agent=False, leaning=languages.ENGLISH)
_IN_NONE = Spoken("", "", agent=False, leaning=languages.EVERY)
_UNHEARD = NEUTRAL
"""Clue of a text that is only compared with others."""


class Saying:
    """One text as one role says it; what most texts have in common is told once, for all of them."""

    blank = False
    talks = True
    """The user or the assistant says it."""
    long = False
    faults: tuple[tuple[str, str], ...] = ()
    """Code and detail of each fault of the text."""
    spoken = _IN_ENGLISH
    leaning = languages.ENGLISH
    marked = False
    """Whether a row that has it may have a finding on what is said, languages aside."""
    asks = _NONE
    """Kinds of personal data that an answer asks for."""
    groups = 0
    """Finders that may find personal data in it."""
    found: list[Found] | None = None
    public: frozenset[str] | None = None

    def __init__(self, role: str, text: str, clue: int = ALL, hashes: bytes | None = None) -> None:
        """Work out what every row needs of a text with a `clue`; the rest is asked for by Sayings."""
        self.role = role
        self.text = text
        self.key = key_of(role, text)
        self.hashes = hashes
        if not text or text.isspace():
            self.blank = True
        if role == "assistant":
            self.long = len(text) >= LONG_ANSWER
            if clue & ASKS:
                self.asks = finding.asked_for(text)
        if clue != ENGLISH:
            self._look(clue)
        if role not in ("user", "assistant"):
            self.talks, self.leaning = False, -1

    def _look(self, clue: int) -> None:
        """Read the text for what there is a clue to."""
        text, role = self.text, self.role
        if clue & FAULT:
            self.faults = tuple(text_faults(text, role))
        self.spoken = one = _spoken(text, clue)
        self.leaning = one.leaning
        self.marked = bool(
            self.faults
            or (one.threat and role in ("user", "assistant"))
            or (one.refusal and role == "assistant")
            or (one.agent and role == "user")
        )
        self.groups = clue >> PERSONAL


def _spoken(text: str, clue: int) -> Spoken:
    if clue & HEARD:
        return spoken(text)
    if clue & ENGLISH:
        return _IN_ENGLISH
    return _IN_NONE if clue & NEUTRAL else Spoken("", "", agent=False, leaning=languages.leaning(text))


class Sayings(privacy.Reader):
    """The texts met lately, and what was found in them; memory is bounded, what comes again stays."""

    def __init__(self, *, heard: bool = True, personal: bool = True, compared: bool = True) -> None:
        """Start with nothing known; what texts say is found when they are `heard`, near ones when `compared`."""
        self._heard, self._personal, self._compared = heard, personal, compared
        self.known: dict[str, dict[str, Saying]] = defaultdict(dict)
        """Role → text → what it says, of the texts met last; replaced as a whole when it is full."""
        self._old: dict[str, dict[str, Saying]] = defaultdict(dict)
        self._answered: dict[tuple[str, frozenset[str]], list[Found]] = {}
        self._texts = self._characters = 0

    def __len__(self) -> int:
        """Return how many texts are kept."""
        return sum(map(len, (*self.known.values(), *self._old.values())))

    def of(self, role: str, text: str) -> Saying:
        """Return what `role` says with `text`."""
        saying = self.known[role].get(text)
        if saying is None:
            saying = self._old[role].pop(text, None) or Saying(role, text, ALL if self._heard else _UNHEARD)
            self._keep(saying)
        return saying

    def learn(self, said: Iterable[tuple[str, str]]) -> None:
        """Get to know texts and their roles that `known` does not hold, all at once: faster than one by one."""
        fresh = []
        for role, text in said:
            saying = self._old[role].pop(text, None)
            if saying:
                self._keep(saying)
            else:
                fresh.append((role, text))
        try:
            found = self._clues([text for _, text in fresh])
            named = [f"{role}: {text}" for role, text in fresh] if self._compared else []
            hashes = shingle_hashes_of(named)
        except UnicodeEncodeError:
            return
        for at, (role, text) in enumerate(fresh):
            self._keep(Saying(role, text, found[at], hashes[at] if hashes else None))

    def _clues(self, texts: list[str]) -> list[int]:
        return clues(texts, personal=self._personal) if self._heard else [_UNHEARD] * len(texts)

    def _keep(self, saying: Saying) -> None:
        self._characters += len(saying.text)
        self._texts += 1
        if self._texts > _MOST or self._characters > _MOST_CHARACTERS:
            self._old, self.known = self.known, defaultdict(dict)
            self._texts = self._characters = 0
            self._answered = {}
        self.known[saying.role][saying.text] = saying

    def hashes(self, saying: Saying) -> bytes:
        """Return the hashes of what is said, the role before it, as they lie in an array of 32-bit numbers."""
        if saying.hashes is None:
            saying.hashes = shingle_hashes(f"{saying.role}: {saying.text}").tobytes()
        return saying.hashes

    def found_in(self, saying: Saying, asked: frozenset[str]) -> list[Found]:
        """Return the personal data of a text that answers a question for `asked`."""
        if saying.found is None:
            saying.found = finding.find(saying.text, groups=saying.groups)
        if not asked or not ("name" in asked or _DIGIT.search(saying.text)):
            return saying.found
        key = (saying.text, asked)
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = finding.find_answer(saying.text, asked, saying.found)
        return found

    # --- as privacy reads texts

    def find(self, text: str, asked: frozenset[str]) -> list[Found]:
        """Return the personal data of a text, as finding.find does."""
        for said in self.known.values():
            if text in said:
                return self.found_in(said[text], asked)
        return finding.find(text, asked=asked)

    def asks(self, text: str) -> frozenset[str]:
        """Return what an answer asks for, as finding.asked_for does."""
        return self.of("assistant", text).asks

    def public(self, text: str, role: str) -> frozenset[str]:
        """Return the words of a text that are no one's name in its row."""
        saying = self.of(role, text)
        if saying.public is None:
            saying.public = super().public(text, role)
        return saying.public
