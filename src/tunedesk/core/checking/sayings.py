"""What one text of a role says by itself, worked out once: most texts of a file are said again and again.

A row's findings are put together from this, whichever way the row was read.
"""

from __future__ import annotations

from collections import defaultdict

from tunedesk.core.checking.talk_checks import Spoken, spoken
from tunedesk.core.checking.text_checks import text_faults
from tunedesk.core.grouping.sketches import key_of, shingle_hashes
from tunedesk.core.personal_data import privacy
from tunedesk.core.personal_data.spans import Found

_MOST = 120_000
"""Texts kept; as many older ones stay until these are full."""
_MOST_CHARACTERS = 24 << 20
LONG_ANSWER = 40
"""Characters from which an answer that is given again and again is worth a word."""
_NONE: frozenset[str] = frozenset()
_UNHEARD = Spoken("", "", agent=False, leaning=-1)


class Saying:
    """One text as one role says it."""

    __slots__ = (
        "asks", "blank", "faults", "found", "hashes", "key", "leaning", "long", "marked", "public", "role", "spoken",
        "talks", "text",
    )  # fmt: skip

    def __init__(self, role: str, text: str, *, heard: bool = True) -> None:
        """Work out what every row needs, what it says only if it is `heard`; the rest is asked for by Sayings."""
        self.role = role
        self.text = text
        self.blank = not text or text.isspace()
        self.talks = role in ("user", "assistant")
        self.key = key_of(role, text)
        self.faults = tuple(text_faults(text, role)) if heard else ()
        """Code and detail of each fault of the text."""
        self.spoken: Spoken = spoken(text) if heard else _UNHEARD
        one = self.spoken
        self.leaning = one.leaning if self.talks else -1
        self.long = role == "assistant" and len(text) >= LONG_ANSWER
        self.marked = bool(
            self.faults
            or (one.threat and self.talks)
            or (one.refusal and role == "assistant")
            or (one.agent and role == "user")
        )
        """Whether a row that has it may have a finding on what is said, languages aside."""
        self.asks = privacy.asked_for(text) if heard and role == "assistant" else _NONE
        """Kinds of personal data that an answer asks for."""
        self.hashes: bytes | None = None
        self.found: list[Found] | None = None
        self.public: frozenset[str] | None = None


class Sayings(privacy.Reader):
    """The texts met lately, and what was found in them; memory is bounded, what comes again stays."""

    def __init__(self, *, heard: bool = True) -> None:
        """Start with nothing known; texts that are not `heard` are only compared."""
        self._heard = heard
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
            saying = self._old[role].pop(text, None) or Saying(role, text, heard=self._heard)
            self._characters += len(text)
            self._texts += 1
            if self._texts > _MOST or self._characters > _MOST_CHARACTERS:
                self._old, self.known = self.known, defaultdict(dict)
                self._texts = self._characters = 0
                self._answered = {}
            self.known[role][text] = saying
        return saying

    def hashes(self, saying: Saying) -> bytes:
        """Return the hashes of what is said, the role before it, as they lie in an array of 32-bit numbers."""
        if saying.hashes is None:
            saying.hashes = shingle_hashes(f"{saying.role}: {saying.text}").tobytes()
        return saying.hashes

    def found_in(self, saying: Saying, asked: frozenset[str]) -> list[Found]:
        """Return the personal data of a text that answers a question for `asked`."""
        if asked:
            return self.find(saying.text, asked)
        if saying.found is None:
            saying.found = self.find(saying.text, asked)
        return saying.found

    # --- as privacy reads texts

    def find(self, text: str, asked: frozenset[str]) -> list[Found]:
        """Return the personal data of a text, as privacy.find does."""
        key = (text, asked)
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = privacy.find(text, asked=asked)
        return found

    def asks(self, text: str) -> frozenset[str]:
        """Return what an answer asks for, as privacy.asked_for does."""
        return self.of("assistant", text).asks

    def public(self, text: str, role: str) -> frozenset[str]:
        """Return the words of a text that are no one's name in its row."""
        saying = self.of(role, text)
        if saying.public is None:
            saying.public = super().public(text, role)
        return saying.public
