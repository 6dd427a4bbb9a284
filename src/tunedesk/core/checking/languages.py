"""Which language a text is in, told offline and only when sure: by its script, in Latin script by frequent words.

Common libraries weigh 30 MB or guess on ten words of small talk; here a wrong guess costs a false alarm, silence
costs little, so that a text without clear evidence has no language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

_WORD = re.compile(r"\b[^\W\d_]+(?:['’][^\W\d_]+)?\b")
_READ = 700
"""Characters of a text that are looked at."""
_FEWEST_WORDS = 6
_FEWEST_LETTERS = 8
_FEWEST_KNOWN = 3
"""Different frequent words that a text must have."""
_SHARE = 0.18
"""Share of frequent words from which a text is in that language; ordinary prose has 0.3 to 0.5."""

_FREQUENT = {
    "en": "the and to of is that it for you was with on are this have not be your we can will from they what how do "
    "please my has would there if but when which i'm don't it's",
    "de": "der die und das ist nicht ich sie ein eine zu den mit für auf dem sich von wir ihre ihr haben kann wie "
    "bitte auch wird mir es im sind bei oder werden können aber noch nur",
    "fr": "le la les et des est vous je une du pour pas que dans votre sur avec mon nous ce qui ne il au mais ou "
    "êtes avez merci être cette vos ma j'ai c'est bonjour",
    "es": "el los las y es por una que en su para con del se mi no lo al como más pero le usted puede está gracias "
    "ha sus este si he tiene qué hola cuenta nuestra",
    "it": "il che di è per una sono non con del della mi si lo gli ho più nel anche ma come alla questo può dei "
    "grazie le suo nostra vi essere",
    "pt": "o os as e é um uma que para com não do da em meu se por mais no na está você seu sua obrigado eu ao foi "
    "pode minha dos das como",
    "nl": "het een en van dat niet ik je op te voor met zijn u aan wij kunt mijn er maar heeft ook naar bij "
    "nog wat hebben uw om deze",
    "pl": "nie się jest że jak mam czy proszę dla moje tym przez mnie są będzie może jestem mogę dzień dobry nasz "
    "dziękuję pani pan konto już",
    "sv": "och att det som på är jag av för inte med har den till kan om ett vi din mitt från hur så "
    "skulle eller hej tack",
    "tr": "ve bir bu için ile çok var mı daha ama gibi olarak benim nasıl lütfen değil ben en kadar size "
    "olan hesap teşekkür",
    "id": "yang dan di untuk dengan tidak ini itu saya anda dari bisa akan pada ke apa ada kami atau sudah adalah "
    "karena bagaimana mohon terima kasih",
    "hi": "hai mera meri mujhe nahi kya aap ke ka ki ko se main hain kar raha rahi bhi tha apna kaise karna gaya "
    "liye aur ho toh kripya",
}
"""Language → frequent words in Latin letters (hi: Hindi as it is typed in chats)."""

_SCRIPTS = (
    ("Greek", "Ͱ-Ͽἀ-῿"),
    ("Cyrillic", "Ѐ-ԯ"),
    ("Hebrew", "֐-׿"),
    ("Arabic", "؀-ۿݐ-ݿ"),
    ("Devanagari", "ऀ-ॿ"),
    ("Bengali", "ঀ-৿"),
    ("Tamil", "஀-௿"),
    ("Telugu", "ఀ-౿"),
    ("Thai", "฀-๿"),
    ("Georgian", "Ⴀ-ჿ"),
    ("Armenian", "԰-֏"),
    ("Korean", "ᄀ-ᇿ가-힯"),
    ("Japanese", "぀-ヿ"),
    ("Chinese", "㐀-䶿一-鿿"),
)
_PATTERNS = tuple((name, re.compile(f"[{letters}]")) for name, letters in _SCRIPTS)
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_BY_WORD: dict[str, list[str]] = {}
for _language, _words in _FREQUENT.items():
    for _one in _words.split():
        _BY_WORD.setdefault(_one, []).append(_language)

FREQUENT_WORDS = frozenset(_BY_WORD)
"""Words that say nothing about a topic, in all these languages."""
NAMES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "sv": "Swedish", "tr": "Turkish", "id": "Indonesian", "hi": "Hindi",
}  # fmt: skip
"""Code → name, for languages told by words; scripts are named as they are."""
_RELATED = ({"Devanagari", "hi"}, {"Japanese", "Chinese"}, {"hi", "en"}, {"Devanagari", "en"})
"""Pairs that one speaker mixes: a change between them is no fault (Hinglish, kanji)."""
_ABOUT_LANGUAGES = re.compile(
    r"translat|übersetz|tradu[cz]|traduire|переве|翻译|翻譯|翻訳|\b(?:english|german|french|spanish|italian|portuguese|"
    r"dutch|polish|swedish|turkish|indonesian|hindi|chinese|mandarin|japanese|korean|arabic|russian|greek|hebrew|thai|"
    r"deutsch|englisch|französisch|spanisch|anglais|français|espagnol|inglés|español|francés|language|sprache|"
    r"langue|idioma|lingua|bilingual|multilingual)",
    re.I,
)


def language_of(text: str) -> str:
    """Return a key of NAMES, the name of a script, or an empty string when the text does not say it clearly."""
    text = text[:_READ]
    if not text.isascii():
        script = _script_of(text)
        if script != "Latin":
            return script
    words = _WORD.findall(text.lower().replace("’", "'"))
    if len(words) < _FEWEST_WORDS:
        return ""
    hits: dict[str, int] = {}
    met: dict[str, set[str]] = {}
    for word in words:
        for language in _BY_WORD.get(word, ()):
            hits[language] = hits.get(language, 0) + 1
            met.setdefault(language, set()).add(word)
    ranked = sorted(hits.items(), key=lambda one: -one[1])[:2]
    if not ranked or ranked[0][1] < _SHARE * len(words) or len(met[ranked[0][0]]) < _FEWEST_KNOWN:
        return ""
    second = ranked[1][1] if len(ranked) > 1 else 0
    return ranked[0][0] if ranked[0][1] >= 1.6 * second else ""


def _script_of(text: str) -> str:
    """Return the script of at least 8 letters and most of all of them, Latin by default, empty when mixed."""
    latin = len(_LATIN.findall(text))
    for name, pattern in _PATTERNS:
        count = len(pattern.findall(text))
        if count >= _FEWEST_LETTERS and count > 2 * latin:
            return name
        if count > latin // 4:
            return ""
    return "Latin"


EVERY = (1 << (len(NAMES) + len(_SCRIPTS))) - 1
"""What `leaning` says of a text that leans to no language."""
_BITS = {name: 1 << place for place, name in enumerate((*NAMES, *(name for name, _ in _SCRIPTS)))}
_ENGLISH = frozenset(_FREQUENT["en"].split())
_OTHERS = frozenset(word for word, languages in _BY_WORD.items() if languages != ["en"])


ENGLISH = _BITS["en"]
"""What `leaning` says of a text in English."""


def leaning(text: str) -> int:
    """Return a bit for each language that `text` leans to, all of them when it leans to none.

    Texts that have a bit in common need no closer look: none of them is clearly in another language.
    """
    text = text[:_READ]
    if not text.isascii() and (scripts := _scripts_of(text)):
        return scripts
    words = _WORD.findall(text.lower().replace("’", "'"))
    english, others = sum(map(_ENGLISH.__contains__, words)), sum(map(_OTHERS.__contains__, words))
    if not english and not others:
        return EVERY
    if english >= others:
        return ENGLISH
    hits: dict[str, int] = {}
    for word in words:
        for language in _BY_WORD.get(word, ()):
            hits[language] = hits.get(language, 0) + 1
    most = max(hits.values())
    return sum(_BITS[language] for language, count in hits.items() if count == most)


def _counted(words: Iterable[str]) -> str:
    """Return the pattern that counts words as Polars does: at least those that `leaning` counts."""
    return "(?i)" + "|".join(
        (r"(?-u:\b)" if word[0].isascii() else "")
        + word.replace("'", "['’]")
        + (r"(?-u:\b)" if word[-1].isascii() else "")
        for word in sorted(words, key=lambda word: (-len(word), word))
    )


_COUNT_ENGLISH, _COUNT_OTHERS = _counted(_ENGLISH), _counted(_OTHERS)
_BEYOND = r"[\p{L}\p{N}--[A-Za-z0-9]]"
_DOUBTFUL = f"[{''.join(letters for _, letters in _SCRIPTS)}]|[A-Za-z0-9]{_BEYOND}|{_BEYOND}[A-Za-z0-9]"
"""A letter of another script, or a place where Polars sees the end of a word and Python does not."""


def sure_leanings(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return which texts lean to English for sure, and which to no language (Boolean); `leaning` tells the others."""
    texts = texts.str.slice(0, _READ)
    english, others = texts.str.count_matches(_COUNT_ENGLISH), texts.str.count_matches(_COUNT_OTHERS)
    sure = ~texts.str.contains(_DOUBTFUL)
    return sure & (english > others), sure & (english + others == 0)


def _scripts_of(text: str) -> int:
    """Return the bits of the scripts of a text that is not in Latin letters, those that one language mixes together."""
    counts = {name: len(pattern.findall(text)) for name, pattern in _PATTERNS}
    most = max(counts, key=lambda name: counts[name])
    if counts[most] <= len(_LATIN.findall(text)):
        return 0
    mixed = {"Japanese", "Chinese"} if most in ("Japanese", "Chinese") and counts["Japanese"] else {most}
    return sum(_BITS[name] for name in mixed)


def differ(asked: str, answered: str) -> str:
    """Return what is said of an answer in another language than its question, empty when that is not sure or meant."""
    theirs, ours = language_of(asked), language_of(answered)
    if not theirs or not ours or theirs == ours or {theirs, ours} in _RELATED:
        return ""
    if _ABOUT_LANGUAGES.search(asked):
        return ""
    return f"{NAMES.get(ours, ours)} in answer to {NAMES.get(theirs, theirs)}"


def is_about_languages(text: str) -> bool:
    """Return whether a text (a system prompt) speaks of languages, so that a change of language may be meant."""
    return bool(_ABOUT_LANGUAGES.search(text))
