"""National, tax and health ids: by check digits (python-stdnum), and a word beside those that are digits alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum.be import nn as belgian_id
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as swiss_id
from stdnum.cl import rut
from stdnum.cn import ric as chinese_id
from stdnum.cz import rc as czech_id
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.kr import rrn as korean_id
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.pt import nif
from stdnum.se import personnummer
from stdnum.us import ssn

from tunedesk.core.personal_data.spans import Found, taken, words_of

ORDER = re.compile(
    r"\b(?:order|purchase|invoice|ticket|ref|reference|case|claim|track\w*|parcel|booking|confirmation|bill|"
    r"transaction|product|item|sku|serial|model|policy|complaint|request|bestell\w*|rechnung\w*|pedido|"
    r"compra|"
    r"factura|commande|facture|colis|zam[oó]wieni\w*|paragon\w*|faktur\w*)\b[^.!?\n]{0,24}$",
    re.I,
)
"""Words before a number that say it counts a thing, not a person; within this many characters."""
_BEFORE = 48
"""Characters before a number that are read for words about it."""
_NATIONAL_WORD = re.compile(
    r"\b(?:ni|nino|national insurance|ssn|social security|itin|sin|nhs|tax|steuer\w*|idnr|tin|pesel|"
    r"aadhaa?r|uidai?|bsn|"
    r"burgerservice\w*|nif|nie|dni|nir|s[ée]curit[ée] sociale|personnummer|rijksregister\w*|cpf|identity|"
    r"id(?: card)?)"
    r"\b[^\n]{0,28}$",
    re.I,
)
NINO = re.compile(
    r"(?<![\w-])(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-TW-Z][A-CEGHJ-NPQRSTW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?![\w-])",
    re.I,
)
_LETTERED = re.compile(r"\d[- ]?[A-Za-z](?![\w-])")
_NINO_END = re.compile(r"\d ?[A-Da-d](?![\w-])")
"""How a NINO ends: cheaper to look for than the whole."""
_SSN_TAIL = re.compile(
    r"\b(?:ssn|social security(?: number)?)\W{0,3}(?:is |was )?(\d{4}|\d{9})(?![\w-])", re.I
)
_PASSPORT = re.compile(
    r"\b(?:passport|reisepass\w*|pasaporte|passeport|paszport\w*)\W{0,2}(?:number|no\.?|nr\.?|n[º°])?"
    r"\W{0,3}(?:is |ist |es |est )?((?=[A-Z]{0,3}\d)[A-Z0-9]{6,9})(?!\w)",
    re.I,
)
DRIVER = re.compile(r"(?<!\w)[A-Z]{2,5}9{0,3}\d[0156]\d[0-3]\d{2}[A-Z9]{2}[A-HJ-NP-Z0-9][A-Z]{2}(?!\w)")

_NAMED = re.compile(
    r"(?:\b(?:ssn|social security|national insurance|nino|itin|nhs|pesel|aadhaa?r|bsn|burgerservicenummer|nif|dni|nie|"
    r"cpf|cnpj|cpr|curp|rfc|rut|c[eé]dula|personnummer|personnumret|henkil[oö]tunnus|hetu|f[oø]dselsnummer|kimlik|"
    r"ahv|avs|pps|tfn|tax file|medicare|rodn[eé] [cč][ií]slo|cnp|amka|egn|oib|nric|mykad|nik|ktp|identity card|"
    r"(?:national|identity|tax|government|personal)[ -]?(?:id|identification|number)|id (?:card|number|no)|"
    r"steuer[ -]?(?:id|idnr|nummer|identifikationsnummer)|sozialversicherungsnummer|"
    r"s[ée]cu(?:rit[ée] sociale)?|codice fiscale|инн|снилс|паспорт\w*|egn|егн|рнокпп|هوية|"
    r"driv(?:er'?s?|ing) licen[cs]e)(?![^\W\d_])|身份证|주민등록번호|マイナンバー|個人番号)"
    r"[ -]{0,2}(?:number|num|no\b\.?|nr\b\.?|nummer|n[º°o]\.?|号码?|numero|n[uú]mero|card|kort|seria)?"
    r"[\s:=#\"'-]{0,4}(?:(?:is|was|ist|es|est|to|är|er|è|é|on|hai|=)\b[\s:]{0,2})?"
    r"((?-i:(?:[A-Z]{1,4} ?)?\d(?:[ ./-]?[\dA-Z]){5,19}))(?![\w]|[.,]\d)",
    re.I,
)
"""A number that its own words call an id: taken whatever its check digits say, as people mistype and invent them."""

WORDED = (_SSN_TAIL, _PASSPORT, _NAMED)
"""Ids told by the words before them."""

_Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Id:
    """One kind of national id."""

    shape: re.Pattern[str]
    """What it looks like."""
    check: _Check
    """Its check digits."""
    needs: str = ""
    """A character that its shape holds: texts without it are passed over; "a" stands for a letter beside a digit,
    "z" for a word that ends in a digit and a letter, with a space or hyphen between them or none."""
    least: int = 0
    """The length its longest run of digits has at least."""


NATIONAL = (
    _Id(re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), ssn.is_valid, "-", 9),
    _Id(re.compile(r"(?<![\w-])\d{8}[- ]?[A-Z](?![\w-])", re.I), dni.is_valid, "z", 8),
    _Id(re.compile(r"(?<![\w-])[XYZ][- ]?\d{7}[- ]?[A-Z](?![\w-])", re.I), nie.is_valid, "z", 7),
    _Id(
        re.compile(r"(?<!\w)[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d(?!\w)", re.I),
        nir.is_valid,
        "",
        9,
    ),
    _Id(re.compile(r"(?<![\w.,-])[1-9]\d{3} \d{4} \d{4}(?! ?\d|\w)"), aadhaar.is_valid, " ", 12),
    _Id(re.compile(r"(?<!\w)[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z](?!\w)"), pan.is_valid, "a", 4),
    _Id(
        re.compile(
            r"(?<!\w)[A-Z]{6}[\dLMNP-V]{2}[A-EHLMPRST][\dLMNP-V]{2}[A-Z][\dLMNP-V]{3}[A-Z](?!\w)", re.I
        ),
        codicefiscale.is_valid,
        "a",
    ),
    _Id(re.compile(r"(?<!\w)\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)"), cpf.is_valid, ".", 11),
    _Id(re.compile(r"(?<![\w-])(?:19|20)?\d{6}-\d{4}(?![\w-])"), personnummer.is_valid, "-", 10),
    _Id(re.compile(r"(?<!\w)\d\d\.\d\d\.\d\d-\d{3}\.\d\d(?!\w)"), belgian_id.is_valid, ".", 11),
    _Id(re.compile(r"(?<!\w)756\.\d{4}\.\d{4}\.\d\d(?!\w)"), swiss_id.is_valid, ".", 13),
    _Id(re.compile(r"(?<![\w-])\d{6}[-+A]\d{3}[0-9A-Y](?!\w)"), hetu.is_valid, "", 6),
    _Id(re.compile(r"(?<!\w)[A-Z]{4}\d{6}[HM][A-Z]{5}[\dA-Z]\d(?!\w)"), curp.is_valid, "a", 6),
    _Id(re.compile(r"(?<![\dA-Za-z])\d{17}[\dXx](?![\dA-Za-z])"), chinese_id.is_valid, "", 17),
    _Id(re.compile(r"(?<![\dA-Za-z-])\d{6}-[1-8]\d{6}(?![\dA-Za-z-])"), korean_id.is_valid, "-", 13),
    _Id(re.compile(r"(?<![\w.])\d{1,2}\.\d{3}\.\d{3}-[\dkK](?!\w)"), rut.is_valid, ".", 8),
    _Id(re.compile(r"(?<![\w/])\d{6}/\d{4}(?![\w/])"), czech_id.is_valid, "/", 6),
)
"""Ids that their shape and check digits give away."""
NATIONAL_DIGITS = (
    _Id(re.compile(r"(?<![\w.,-])\d{2} ?\d{3} ?\d{3} ?\d{3}(?![\w-])"), idnr.is_valid, "", 11),
    _Id(re.compile(r"(?<![\w.,-])\d{11}(?![\w-])"), pesel.is_valid, "", 11),
    _Id(re.compile(r"(?<![\w.,-])[2-9]\d{11}(?![\w-])"), aadhaar.is_valid, "", 12),
    _Id(re.compile(r"(?<![\w.,-])\d{3}[ -]?\d{3}[ -]?\d{4}(?![\w-])"), nhs.is_valid, "", 10),
    _Id(re.compile(r"(?<![\w.,-])\d{3}[ -]?\d{3}[ -]?\d{3}(?![\w-])"), sin.is_valid, "", 9),
    _Id(re.compile(r"(?<![\w.,-])\d{9}(?![\w-])"), bsn.is_valid, "", 9),
    _Id(re.compile(r"(?<![\w.,-])\d{9}(?![\w-])"), nif.is_valid, "", 9),
    _Id(re.compile(r"(?<![\w.,-])\d{9}(?![\w-])"), ssn.is_valid, "", 9),
)
"""Ids that are digits alone and pass a check by chance: a word beside them is needed too."""
NATIONAL_WORDS = words_of(
    "ni nino national ssn social itin sin nhs tax steuer steuerid steueridnr steuernummer "
    "identifikationsnummer idnr tin pesel aadhaar aadhar uid uidai bsn burgerservicenummer nif nie "
    "dni nir sécurité securite personnummer rijksregisternummer cpf identity id passport reisepass "
    "pasaporte passeport paszport paszportu ssn insurance cnpj cpr curp rfc rut cédula cedula personnumret "
    "henkilötunnus hetu fødselsnummer fodselsnummer kimlik ahv avs pps tfn medicare rodné rodne cnp amka egn oib nric "
    "mykad nik ktp steueridentifikationsnummer sozialversicherungsnummer sécu secu codice инн снилс паспорт паспорта "
    "егн рнокпп هوية driving driver drivers driver's licence license 身份证 身份证号 身份证号码 我的身份证号 "
    "주민등록번호 "
    "マイナンバー 個人番号"
)
PASSPORT_WORDS = words_of("passport reisepass pasaporte passeport paszport paszportu")
"""Words one of which a text holds when a word beside an id is needed."""


def before_number(text: str, at: int) -> str:
    """Return what stands before `at`, as far as it may say what a number is."""
    return text[max(0, at - _BEFORE) : at]


def national_ids(text: str, words: frozenset[str], longest: int, mixed: bool) -> Iterator[Found]:
    """Yield national, tax and health ids: by check digits, and by a word beside those that are digits alone.

    `words` are those of `text` in small letters, `longest` its longest run of digits, `mixed` whether it holds a
    letter beside a digit.
    """
    for match in NINO.finditer(text) if longest >= 6 and _NINO_END.search(text) else ():
        if not ORDER.search(before_number(text, match.start())):
            yield taken(match, "national_id", 0.93)
    for match in DRIVER.finditer(text) if mixed else ():
        yield taken(match, "national_id", 0.8)
    named = not NATIONAL_WORDS.isdisjoint(words)
    for pattern in (_SSN_TAIL, _PASSPORT) if named else ():
        for match in pattern.finditer(text):
            yield taken(match, "national_id", 0.7, 1)
    for match in _NAMED.finditer(text) if named else ():
        if sum(map(str.isdigit, match.group(1))) >= 6:
            yield taken(match, "national_id", 0.9, 1)
    lettered = bool(_LETTERED.search(text))
    for kind in (*NATIONAL, *(NATIONAL_DIGITS if named else ())):
        if longest >= kind.least and _has(text, kind.needs, mixed=mixed, lettered=lettered):
            yield from _checked(text, kind, needs_word=kind in NATIONAL_DIGITS)


def _has(text: str, needs: str, *, mixed: bool, lettered: bool) -> bool:
    """Return whether a text holds what a kind of id needs."""
    if needs in ("a", "z"):
        return mixed if needs == "a" else lettered
    return needs in text


def _checked(text: str, kind: _Id, *, needs_word: bool) -> Iterator[Found]:
    """Yield the ids of one kind whose check digits are right."""
    for match in kind.shape.finditer(text):
        before = before_number(text, match.start())
        named = bool(_NATIONAL_WORD.search(before))
        if (named or not (needs_word or ORDER.search(before))) and kind.check(match.group()):
            yield taken(match, "national_id", 0.98 if named else 0.9)
