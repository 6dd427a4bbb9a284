"""Personal data in one text: every finder is run on the texts that can hold its kinds, and what overlaps is settled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tunedesk.core.personal_data import addresses, credentials, identifiers, names, national_ids
from tunedesk.core.personal_data.spans import Found, holds, settle

MAILS, NAMES, PHONES, NUMBERS, SECRETS = 1, 2, 4, 8, 16
"""Groups of finders, as bits: NUMBERS are all that need a digit but phones."""
ALL_GROUPS = MAILS | NAMES | PHONES | NUMBERS | SECRETS

_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"\d(?:[ ./()-]{0,2}\d)*")
_LETTERS = re.compile(r"[^\W\d_]+")
_MIXED = re.compile(r"[A-Za-z]\d|\d[A-Za-z]")
_QUESTIONS = (
    (
        "account_number",
        ("account", "a/c", "acct", "konto", "cuenta"),
        re.compile(r"\b(?:account|a/c|acct)\b[^.?!]{0,20}\b(?:number|no)\b|kontonummer|n[uú]mero de cuenta"),
    ),
    (
        "card",
        ("card", "karte", "tarjeta"),
        re.compile(r"\bcard\b[^.?!]{0,12}\b(?:number|no|digits)\b|kartennummer|n[uú]mero de (?:la )?tarjeta"),
    ),
    (
        "secret",
        ("pin", "passw", "passcode", "y code", "n code", "cvv", "otp"),
        re.compile(r"\bpin\b|password|passcode|passwort|(?:security|verification) code|\bcvv\b|\botp\b"),
    ),
    (
        "phone",
        ("number", "telef", "télé", "móvil", "movil"),
        re.compile(
            r"(?:phone|mobile|contact|cell|callback)\b[^.?!]{0,12}\bnumber|telefon|t[ée]l[ée]phone|"
            r"tel[ée]fono|m[oó]vil"
        ),
    ),
    (
        "date_of_birth",
        ("birth", "dob", "geburt", "nacimiento", "naissance"),
        re.compile(
            r"date of birth|\bdob\b|birth ?da(?:te|y)|geburtsdatum|fecha de nacimiento|date de naissance"
        ),
    ),
    (
        "name",
        ("name", "votre nom", "nombre", "who am i"),
        re.compile(
            r"\b(?:your|ur|full|first|last|customer'?s?|"
            r"account ?holder'?s?)\b[^.?!]{0,24}(?<!user )(?<!business )\bname\b|"
            r"\bihr(?:en)? namen?|votre nom|su nombre|who am i speaking|maiden name"
        ),
    ),
)
"""Kinds that a message may ask the other side for: words that must be there, and the question, in small letters."""
QUESTION_PATTERNS = tuple(question for _, _, question in _QUESTIONS)
"""The questions, for texts in small letters."""


def find(text: str, *, asked: frozenset[str] = frozenset(), groups: int = ALL_GROUPS) -> list[Found]:
    """Return the personal data in `text`, in order and without overlaps.

    `asked` are the kinds that the message before asked for (`asked_for`): bare answers are taken for them. `groups` are
    the finders that may find something, all or those that a sieve told.
    """
    found = _finders(text, groups)
    return settle([*found, *_answers(text, asked)] if asked else found)


def find_answer(text: str, asked: frozenset[str], found: Sequence[Found]) -> list[Found]:
    """Return what `find` does for a text that answers a question, given what it finds without the question."""
    return settle([*found, *_answers(text, asked)])


def has_personal_data(text: str) -> bool:
    """Return whether `find` would find anything in `text`, stopping at the first."""
    return next(_finders(text, ALL_GROUPS), None) is not None


def asked_for(text: str) -> frozenset[str]:
    """Return the kinds of personal data that a message asks the other side for."""
    low = text.lower()
    return frozenset(
        kind for kind, words, question in _QUESTIONS if holds(low, words) and question.search(low)
    )


def _finders(text: str, groups: int) -> Iterator[Found]:
    """Yield what each finder finds, each run only on a text that can hold its kinds."""
    if not groups:
        return
    low = text.lower()
    if "@" in text:
        yield from identifiers.emails(text)
    digit = _DIGIT.search(text)
    if digit and groups & (PHONES | NUMBERS):
        yield from _numbers(text, low, groups)
    if groups & SECRETS and (digit or "pass" in low or "-----" in low):
        yield from credentials.secrets(text, low)
    if groups & NAMES:
        yield from names.names(text, low)


def _answers(text: str, asked: frozenset[str]) -> Iterator[Found]:
    """Yield what answers a question for the kinds `asked`; some of it may be found without the question too."""
    if "name" in asked:
        yield from names.answered_names(text)
    if not _DIGIT.search(text):
        return
    longest = _longest(text)
    if longest >= 13 and "card" in asked:
        yield from identifiers.cards(text, True)
    if longest >= 7 and "phone" in asked:
        yield from identifiers.phones(text, True)
    if longest >= 4 and "account_number" in asked:
        yield from identifiers.accounts(text, text.lower(), True)
    if longest >= 4 and "secret" in asked:
        yield from credentials.answered_secrets(text)
    if "date_of_birth" in asked:
        yield from identifiers.births(text, text.lower(), True)


def _longest(text: str) -> int:
    """Return how many digits the longest run of them has."""
    return max(sum(map(str.isdigit, run)) for run in _RUN.findall(text))


def _numbers(text: str, low: str, groups: int) -> Iterator[Found]:
    """Yield what the finders of numbers find; the longest run of digits says which of them can find anything."""
    longest = _longest(text)
    if longest >= 7 and groups & PHONES:
        yield from identifiers.phones(text)
    if not groups & NUMBERS:
        return
    words = frozenset(_LETTERS.findall(low))
    mixed = bool(_MIXED.search(text))
    if longest >= 13:
        yield from identifiers.cards(text)
    if longest >= 7 and mixed:
        yield from identifiers.ibans(text)
    short = mixed and (longest >= 3 or not national_ids.PASSPORT_WORDS.isdisjoint(words))
    if longest >= 6 or short or "ssn" in words or "social" in words:
        yield from national_ids.national_ids(text, words, longest, mixed)
    if longest >= 4:
        yield from identifiers.accounts(text, low)
    yield from identifiers.births(text, low)
    yield from addresses.addresses(text, low, words)
    if mixed or longest >= 5:
        yield from addresses.postcodes(text, low)
    if text.count(".") > 2 or text.count(":") > 1:
        yield from identifiers.ip_addresses(text)
