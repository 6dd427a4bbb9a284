"""Names of people, found by what stands around them: introductions, greetings, titles, sign-offs, labels.

A given name (given_names.txt) with a surname is taken anywhere; a capital alone is never enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import resources

from tunedesk.core.personal_data.other_scripts import other_names
from tunedesk.core.personal_data.spans import Found, holds, taken, words_of

_CAPITAL = (
    r"(?:(?:Ma?c|Fitz|De|Di|Le|La|Du|"
    r"Van)?[A-ZÀ-ÖØ-ÞŁŚŻŹĆŃČŠŽ](?:[’'][A-Z])?[a-zß-öø-ÿāăąćčďęěğıłńňőřśşšťůűźżž]+(?:[-’'][A-ZÀ-ÖØ-Þ]?[a-zß-ÿ]+)*)"
)
_INITIAL = r"(?:[A-Z]\.(?!\w\w))"
_PARTICLE = r"(?:(?:van|von|de|der|den|del|della|di|da|dos|la|le|el|al|bin|ter|zu)\s)"
_SURNAMES = rf"(?:[ ](?:{_PARTICLE}{{0,2}}{_CAPITAL}|{_INITIAL}))"
_NAME = rf"(?P<name>(?:{_CAPITAL}|{_INITIAL}){_SURNAMES}{{0,2}})"
_FULL = rf"(?P<name>(?:{_CAPITAL}|{_INITIAL}){_SURNAMES}{{1,2}})"

_NOT_NAMES = frozenset(
    resources.files("tunedesk.core.personal_data").joinpath("ordinary_words.txt").read_text("utf-8").split()
)
"""Words that follow a greeting or "I am" with a capital, or in small letters, and are nobody's name."""
INTRODUCED = re.compile(
    r"\b(?:my (?:full |first |last |middle |given |maiden |sur|family )?name(?:['’]?s\b| is|:)|"
    r"\bname['’]s\b|ich hei(?:ß|ss)e|"
    r"mein name ist|je m['’]appelle|mon nom est|me llamo|mi nombre es|nazywam si[ęe]|mam na imi[ęe]|"
    r"mi chiamo|"
    r"meu nome [ée]|mijn naam is|jag heter|jeg heter|jeg hedder|nimeni on|benim ad[ıi]m|меня зовут|мене звати|"
    r"numele meu este|jmenuji se|nama saya(?: adalah)?|t[eê]n t[oô]i l[aà]|"
    r"(?:mera )?\bna+m(?: hai)?)[ :]+(?P<words>[^\W\d_][^\n,.;:!?()\d]{1,50})",
    re.I,
)
_STATED = (
    re.compile(
        rf"\b(?:[Ii] am|[Ii]['’]?m|[Tt]his is|[Ss]peaking (?:with|to)|[Uu]nder the name(?: of)?|"
        rf"[Ii]n the name of|[Ii]t['’]?s|"
        rf"[Ii]ch bin|[Jj]e suis|[Ss]oy) {_FULL}"
    ),
    re.compile(
        rf"\b(?:[Ii] am|[Ii]['’]?m|[Tt]his is) (?P<name>{_CAPITAL})(?= (?:here|from|at|with|and I)\b|"
        rf", )"
    ),
    re.compile(rf"(?:^|[.,!?] ){_NAME}(?= here\b(?! (?:is|are)))"),
)
_GREETED = re.compile(
    r"(?:^|[\n.!?,>] ?)(?:[Hh]ello|[Hh]i|[Hh]ey|[Hh]iya|[Dd]ear|[Gg]ood (?:morning|afternoon|evening)|"
    r"[Tt]hanks|[Tt]hank you(?: so much| very much)?|"
    r"[Cc]heers|[Ss]orry|[Nn]o worries|[Nn]o problem|[Ww]elcome|HELLO|HI|[Hh]ola|[Bb]onjour|[Hh]allo|"
    r"[Ll]ieber?|[Ss]alut|[Cc]iao|"
    r"[Nn]amaste|[Dd]zie[nń] dobry|[Cc]ze[sś][cć]|[Ee]stimad[oa]|[Qq]uerid[oa]|[Cc]her|[Ch]ère|[Gg]racias|"
    r"[Mm]erci|[Dd]anke|[Dd]hanyavaad)"
    rf",? {_NAME}(?=\s*(?:[,.!?;:\n)—–-]|$| for\b| I\b| ji\b| and\b| it\b| we\b| the\b| your\b| please\b))"
)
_TITLED = re.compile(
    r"(?<!\w)(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Herrn?|Frau|Monsieur|Madame|Mme|Mlle|Señora?|Sra?|Doña|"
    r"Pani|Shri|Smt|Lord|Lady)\.? " + _NAME
)
_SIGNED = re.compile(
    r"(?:[Rr]egards|[Ww]ishes|[Ss]incerely|[Ff]aithfully|[Tt]ruly|[Mm]any thanks|[Tt]hanks|[Tt]hank you|"
    r"[Cc]heers|[Bb]est|"
    r"Love|[Rr]espectfully|[Gg]r(?:ü|ue)(?:ß|ss)en?|[Cc]ordialement|[Ss]aludos|[Ss]aludo|[Aa]tentamente|"
    r"[Pp]ozdrawiam|"
    rf"[Cc]ordiali saluti|[Aa]bra[cç]os?)(?:,?[ \t]+|"
    rf"[,.!]?[ \t]*(?:\r?\n[> ]*){{1,3}}){_NAME}(?=[ \t]*(?:\r?\n|\.?$))"
)
_LABELLED = (
    re.compile(rf"\b[Cc]all me (?P<name>{_CAPITAL})"),
    re.compile(
        rf"(?:^|\n)[> ]*(?:[Ff]rom|[Nn]ame|[Ff]ull [Nn]ame|[Cc]ustomer(?: [Nn]ame)?|[Aa]gent|"
        rf"[Cc]ontact|[Cc]c|[Tt]o) ?: ?{_NAME}"
    ),
    re.compile(rf"{_FULL}(?= <[^<>\s]+@)"),
    re.compile(
        r"\"(?:customer|full|first|last|user|contact|card ?holder|account ?holder|guest|passenger|patient|"
        r"recipient|sender)"
        r"_?[Nn]ame\"\s*:\s*\"(?P<name>[^\W\d_][^\"\\\d]{1,60})\"",
        re.I,
    ),
)
_LAST = re.compile(rf"(?:[.!?)]\s+|\n[> ]*|^){_NAME}\.?\s*$")
_KNOWN = re.compile(rf"(?<![\w@./#-]){_FULL}(?![\w@])")
_CAPITALS = re.compile(r"[A-ZÀ-ÖØ-ÞŁŚŻŹ][a-zß-ÿ]+")
_INTRODUCTION_WORDS = (
    "heter",
    "hedder",
    "nimeni",
    "benim ad",
    "зовут",
    "звати",
    "numele",
    "jmenuji",
    "nama",
    "tôi",
    "name",
    "hei",
    "appelle",
    "nom",
    "llamo",
    "nazywam",
    "imi",
    "chiamo",
    "naam",
)
_LETTERS = re.compile(r"[^\W\d_]+")
_STATED_WORDS = words_of("am i im this speaking name it its bin suis soy here")
_GREETED_WORDS = words_of(
    "hello hi hey hiya dear good thanks thank cheers sorry worries problem welcome hola bonjour "
    "hallo liebe lieber salut ciao namaste dzien dzień czesc cześć estimado estimada querido querida "
    "cher chère gracias merci danke dhanyavaad"
)
_TITLED_WORDS = words_of(
    "mr mrs ms miss mx dr prof professor herr herrn frau monsieur madame mme mlle señor señora sr "
    "sra doña pani shri smt lord lady"
)
_SIGNED_WORDS = words_of(
    "regards wishes sincerely faithfully truly thanks thank cheers best love respectfully gruß grüße "
    "grüßen gruss gruesse cordialement saludos saludo atentamente pozdrawiam cordiali abraço abraços "
    "abraco abracos"
)
_LABEL_PARTS = (
    "from:",
    "from :",
    "name:",
    "name :",
    "customer:",
    "customer :",
    "agent:",
    "agent :",
    "contact:",
    "cc:",
    "to:",
    "to :",
)
_ANSWER = re.compile(
    r"^\W{0,3}(?:(?:yes|sure|ok|okay|of course|yeah|hi|certainly)[,.!]? )?(?:(?:it['’]?s|it is|that['’]?s|"
    r"this is|i['’]?m|i am|"
    r"my name(?: is|['’]?s)|the name is|name is|name)[ :]+)?(?P<words>[^\W\d_][^\n,;:!?()\d]{1,40})",
    re.I,
)
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_]))*\.?")
_RANK = re.compile(
    r"(?:(?:Sister|Brother|Father|Mother|Major|Captain|Colonel|Uncle|Aunt|Auntie|Maestro|Reverend|Rev|Sir|"
    r"King|Queen|Prince|"
    r"Princess|President|Judge|Officer|Doctor|Professor|Nurse|Coach|Chef|Mr|Mrs|Ms|Miss|Dr|Prof|Lord|"
    r"Lady)\.? )+"
)
_NOBODY = frozenset(
    resources.files("tunedesk.core.personal_data")
    .joinpath("brands_like_people.txt")
    .read_text("utf-8")
    .splitlines()
)
"""Brands and figures in small letters that read like people, also what follows a title in them (Dr. Pepper)."""
_PLACE = re.compile(r"\b(?:San|Santa|St\.?|Saint|Los|Las|Port|New|Fort|Lake|Mount|The|Bank of) $")


_GIVEN = frozenset(
    resources.files("tunedesk.core.personal_data").joinpath("given_names.txt").read_text("utf-8").split()
)
"""Given names in small letters; ordinary words and places are not among them."""
GIVEN_CAPITALS = frozenset(name.capitalize() for name in _GIVEN)
_ORDINARY_CAPITALS = frozenset(word.capitalize() for word in _NOT_NAMES)
BESIDE = (
    (_GREETED_WORDS, (), _GREETED, 0.8),
    (_TITLED_WORDS, (), _TITLED, 0.9),
    (_SIGNED_WORDS, (), _SIGNED, 0.85),
    (frozenset[str](), ("call me",), _LABELLED[0], 0.8),
    (frozenset[str](), _LABEL_PARTS, _LABELLED[1], 0.8),
    (frozenset[str](), (" <",), _LABELLED[2], 0.8),
    (frozenset[str](), ('name"',), _LABELLED[3], 0.8),
)
"""Words (or parts) one of which must stand in a text, the pattern that is then tried, and how sure a hit is."""


def is_ordinary(word: str) -> bool:
    """Return whether a word is one that is nobody's name where a name is expected."""
    return word.casefold().rstrip(".'’") in _NOT_NAMES


def _trimmed(name: str, start: int, confidence: float) -> Found | None:
    """Return the name without ordinary words from its first one on, None when nothing is left."""
    rank = _RANK.match(name)
    if rank:
        start, name = start + rank.end(), name[rank.end() :]
    end = 0
    for word in re.finditer(r"\S+", name):
        if is_ordinary(word.group()):
            break
        end = word.end()
    text = name[:end].rstrip(" -")
    if text.endswith(("'s", "’s")):
        text = text[:-2]
    if len(text) < 2 or (len(text) == 2 and text.endswith(".")) or text.casefold() in _NOBODY:
        return None
    return Found("name", start, start + len(text), text, confidence)


def _words_of_name(match: re.Match[str], confidence: float, most: int = 3) -> Found | None:
    """Return the name that begins a stretch of words in any case: up to its first ordinary word."""
    offset, words = match.start("words"), match.group("words")
    end, count, capital = 0, 0, words[:1].isupper()
    for word in _WORD.finditer(words):
        small = word.group()[:1].islower()
        if is_ordinary(word.group()) or count == most or words[end : word.start()].strip():
            break
        if capital and small and word.group() not in ("van", "von", "de", "der", "del", "da", "la", "bin"):
            break
        end, count = word.end(), count + 1
        if word.group().endswith(".") and len(word.group()) > 2:
            break
    text = words[:end].rstrip(".")
    if len(text) < 2:
        return None
    return Found("name", offset, offset + len(text), text, confidence)


def names(text: str, low: str) -> Iterator[Found]:
    """Yield names of people that something in `text` itself gives away; `low` is the text in small letters."""
    if holds(low, _INTRODUCTION_WORDS):
        yield from _introductions(text)
    if not text.isascii():
        yield from other_names(text)
    capitals = set(_CAPITALS.findall(text))
    if capitals.issubset(_ORDINARY_CAPITALS):
        return
    words = frozenset(_LETTERS.findall(low))
    for cues, parts, pattern, confidence in BESIDE:
        if not cues.isdisjoint(words) or holds(low, parts):
            for match in pattern.finditer(text):
                found = _trimmed(match.group("name"), match.start("name"), confidence)
                if found:
                    yield found
    if not GIVEN_CAPITALS.isdisjoint(capitals):
        yield from _given(text, words)


def _introductions(text: str) -> Iterator[Found]:
    """Yield the names that people say are theirs."""
    for match in INTRODUCED.finditer(text):
        found = _words_of_name(match, 0.88)
        if found:
            yield found


def _given(text: str, words: frozenset[str]) -> Iterator[Found]:
    """Yield what a known given name gives away: with a surname, after "I am", or alone at the end."""
    for pattern in () if _STATED_WORDS.isdisjoint(words) else _STATED:
        for match in pattern.finditer(text):
            found = _trimmed(match.group("name"), match.start("name"), 0.8)
            if found and _is_given(found.text):
                yield found
    for match in _KNOWN.finditer(text):
        found = _known(text, match)
        if found:
            yield found
    last = _LAST.search(text)
    if last and _is_given(last.group("name")):
        found = _trimmed(last.group("name"), last.start("name"), 0.7)
        if found:
            yield found


def is_given_name(word: str) -> bool:
    """Return whether a word in small letters is a given name we know."""
    return word in _GIVEN


def _is_given(name: str) -> bool:
    """Return whether a name begins with a given name we know."""
    return re.split(r"[ -]", name, maxsplit=1)[0].casefold() in _GIVEN


def _known(text: str, match: re.Match[str]) -> Found | None:
    """Return the given name with its surname within a run of capitals, None when there is none."""
    start, words = match.start("name"), match.group("name")
    while words and not _is_given(words):
        cut = words.find(" ") + 1
        if not cut:
            return None
        start, words = start + cut, words[cut:]
    found = _trimmed(words, start, 0.72)
    if not found or " " not in found.text or _PLACE.search(text[max(0, start - 9) : start]):
        return None
    return found


def answered_names(text: str) -> Iterator[Found]:
    """Yield the name that answers a question for it: capitals, or one to three words in small letters and no more."""
    match = _ANSWER.search(text)
    if not match:
        return
    found = _words_of_name(match, 0.75)
    if not found:
        return
    rest = text[found.end :].partition("\n")[0].strip(" .,!")
    full = found.text[:1].isupper() and " " in found.text
    if full or not rest or _is_given(found.text):
        yield found


@lru_cache(maxsize=4_096)
def _mention(part: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w@./-]){re.escape(part)}(?![\w@-]|\.\w)", re.I)


class Mentions:
    """Finds names known from elsewhere (another message, metadata), whole or a part of them with a capital."""

    def __init__(self, known: Iterable[str]) -> None:
        self._parts: dict[str, str] = {}
        for given in known:
            name = _RANK.sub("", given)
            parts = [part for part in name.split() if len(part) > 2 and not is_ordinary(part)]
            for part in dict.fromkeys([name, *parts]):
                self._parts.setdefault(part.lower(), part)

    def find(self, text: str) -> Iterator[Found]:
        """Yield every mention in `text`."""
        low = text.lower()
        for low_part, part in self._parts.items():
            if low_part in low:
                whole = " " in part
                for match in _mention(part).finditer(text):
                    if whole or match.group()[:1].isupper():
                        yield taken(match, "name", 0.7 if whole else 0.65)
