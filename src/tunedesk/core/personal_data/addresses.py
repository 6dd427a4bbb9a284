"""Postal addresses and postcodes as people write them in the UK, the US, Germany, France, Spain and Poland."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunedesk.core.personal_data.other_scripts import other_addresses
from tunedesk.core.personal_data.spans import Found, holds, taken, words_of

_WORD = r"[^\W\d_][\w'’.-]*"
_CAPITAL = r"[A-ZÀ-ÖØ-ÞŁŚŻŹĆŃ][\w'’.-]*"
_STREET = (
    r"(?:Street|St|Road|Rd|Lane|Ln|Avenue|Ave|Close|Drive|Dr|Court|Ct|Way|Crescent|Cres|Place|Pl|Square|Sq|"
    r"Terrace|"
    r"Grove|Hill|Rise|Row|Mews|Gardens|Gdns|Park|Wharf|Yard|Cottages|Boulevard|Blvd|Parkway|Pkwy|Highway|"
    r"Hwy|Circle|"
    r"Cir|Trail|Quay|Green|Walk|Vale|View|Croft|Heights|Parade)"
)
_PLAIN_STREET = r"(?:street|road|rd|lane|avenue|ave|blvd|boulevard|st)"
_UK_CODE = (
    r"(?:GIR ?0AA|(?:[A-PR-UWYZ]\d[\dA-HJKPSTUW]?|"
    r"[A-PR-UWYZ][A-HK-Y]\d[\dABEHMNPRVWXY]?) ?\d[ABD-HJLNP-UW-Z]{2})"
)
_LOOSE_CODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
"""A British postcode without the rules for its letters: enough after a street or the word."""
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|"
    r"V[AT]|"
    r"W[AIVY])"
)
_US_CODE = rf"{_STATE} \d{{5}}(?:-\d{{4}})?"
_TOWN = rf"(?:,? {_CAPITAL}(?: {_CAPITAL}){{0,2}})?"
_TAIL = (
    rf"(?:,? (?:Apt|Apartment|Unit|Suite|Ste|Flat|#)\.? ?\w{{1,5}})?(?:{_TOWN},? (?:{_LOOSE_CODE}|"
    rf"{_US_CODE})(?!\w))?"
)
_HEAD = r"(?:(?:Flat|Apt|Apartment|Unit|Suite) \w{1,4},? )?"

_NO_STREET = r"(?!(?:Min(?:ute)?s?|Hours?|Days?|Weeks?|Miles?|Star|Easy) )"
ADDRESSES = (
    re.compile(
        rf"(?<![\w.,£$€#/-]){_HEAD}\d{{1,5}}[A-Za-z]?,? {_NO_STREET}"
        rf"(?:{_CAPITAL} ){{1,3}}{_STREET}(?![\w'’-])(?:\.(?=,))?{_TAIL}"
    ),
    re.compile(
        rf"(?:\b(?:live|living|lives|am|address|moved?|moving|staying|deliver\w*|"
        rf"send it)\b[^.!?\n\d]{{0,24}})"
        rf"(?P<at>\d{{1,5}}[a-z]? (?:{_WORD} ){{1,3}}?{_PLAIN_STREET}(?!\w))",
        re.I,
    ),
    re.compile(
        r"(?<!\w)[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|weg|platz|gasse|allee|damm|"
        r"ufer) \d{1,4} ?[a-z]?(?!\w)"
        rf"(?:,? \d{{5}} {_CAPITAL})?"
    ),
    re.compile(
        r"(?<![\w.,])\d{1,4}(?: bis| ter)?,? (?:[Rr]ue|[Aa]venue|[Aa]v\.|[Bb]oulevard|[Bb]d|[Pp]lace|"
        r"[Cc]hemin|[Ii]mpasse|"
        rf"[Aa]llée|[Qq]uai|[Rr]oute|[Cc]ours) (?:de la |de |du |des |d['’]|"
        rf"l['’])*{_CAPITAL}(?: {_CAPITAL}){{0,2}}"
        rf"(?:,? \d{{5}} {_CAPITAL})?"
    ),
    re.compile(
        r"(?<!\w)(?:[Cc]alle|C/|[Aa]vda\.?|[Aa]venida|[Pp]laza|[Pp]aseo|[Cc]arrer|[Cc]amino|[Rr]onda|ul\.|"
        r"[Uu]lica) ?"
        rf"(?:de la |de los |de |del )?{_CAPITAL}(?: (?:de |del |"
        rf"la )?{_CAPITAL}){{0,3}},? (?:n[º°o]\.? ?)?\d{{1,4}}"
        rf"(?![\d.])(?:[a-z](?!\w))?(?:,? \d{{5}} {_CAPITAL}|,? \d\d-\d{{3}} {_CAPITAL})?"
    ),
    re.compile(
        r"^\W{0,2}(?:no\.? ?)?(?P<at>\d{1,5}[a-z]? (?:(?!minute|mile|the|down|up|on|in|of|at|to|"
        r"per)[a-z'’]{3,} ){1,2}"
        rf"{_PLAIN_STREET})(?!\w)",
        re.I | re.M,
    ),
    re.compile(r"(?<!\w)P\.? ?O\.? Box \d{1,6}(?!\w)", re.I),
    re.compile(
        rf"(?<!\w)(?:Via|Viale|Piazza|Corso|Vicolo|Largo|Rua|R\.|Avenida|Av\.|Travessa|Pra[çc]a|Alameda|Estrada) "
        rf"(?:(?:d[aeo]s?|di|del|della|dei) )?{_CAPITAL}(?: (?:(?:d[aeo]s?|di|del) )?{_CAPITAL}){{0,3}},? "
        rf"(?:n[º°.]? ?)?"
        rf"\d{{1,5}}(?![\d.])(?:[a-z](?!\w))?"
        rf"(?:,? (?:\d{{5}}(?:-\d{{3}})?|\d{{4}}-\d{{3}}) {_CAPITAL}(?: {_CAPITAL})?)?"
    ),
    re.compile(
        rf"(?<!\w){_CAPITAL}(?:straat|laan|plein|gracht|kade|singel|dijk|gatan|v[äa]gen|gr[äa]nd|torget|gata|gate|"
        rf"veien|vegen|vej|gade|katu|tie|utca|caddesi|sokak) \d{{1,4}} ?[A-Za-z]?(?!\w)"
        rf"(?:,? (?:\d{{4}} ?[A-Z]{{2}}|\d{{3}} ?\d{{2}}|\d{{4,5}}) {_CAPITAL})?"
    ),
    re.compile(
        r"(?:ул\.|улица|улице|улицы|проспект|пр-т|пер\.|переулок|шоссе|бульвар|вул\.) ?"
        r"[А-ЯЁІЇ][\w-]*(?: [А-ЯЁІЇ][\w-]*)?"
        r",? (?:д(?:ом|\.)? ?)?\d{1,4}[а-я]?(?:,? (?:кв(?:артира|\.)? ?)\d{1,4})?(?!\w)"
    ),
)

_UK = re.compile(rf"(?<![\w-]){_UK_CODE}(?![\w-])")
_US = re.compile(rf"(?<=[a-z], ){_US_CODE}(?![\w-])")
_NAMED = re.compile(
    rf"\b(?:post ?code|postal code|zip(?: ?code)?|plz|postleitzahl|code postal|c[oó]digo postal|"
    rf"kod pocztowy|pin ?code)"
    rf"\W{{1,3}}(?:is |ist |es |est |to )?({_LOOSE_CODE}|\d{{5}}(?:-\d{{4}})?|\d\d-\d{{3}}|\d{{6}})(?![\w-])",
    re.I,
)


POSTCODES = (_UK, _US, _NAMED)
"""What postcodes that stand alone are found by."""

STREET_WORDS = words_of(
    "street st road rd lane ln avenue ave close drive dr court ct way crescent cres place pl square "
    "sq terrace grove hill rise row mews gardens gdns park wharf yard cottages boulevard blvd "
    "parkway pkwy highway hwy circle cir trail quay green walk vale view croft heights parade rue av "
    "bd chemin impasse allée quai route cours calle c avda avenida plaza paseo carrer camino ronda "
    "ul ulica box via viale piazza corso vicolo largo rua r travessa praça praca alameda estrada "
    "ул улица улице улицы проспект пр пер переулок шоссе бульвар вул"
)
_HOUSE = re.compile(r"\d(?: bis| ter|[A-Za-z])?,? [^\W\d_]")
_HOUSE_AFTER = re.compile(r" \d|º")
STREET_ENDS = (
    "straat ",
    "laan ",
    "plein ",
    "gracht ",
    "kade ",
    "singel ",
    "dijk ",
    "gatan ",
    "vägen ",
    "vagen ",
    "gränd ",
    "torget ",
    "gata ",
    "gate ",
    "veien ",
    "vegen ",
    "vej ",
    "gade ",
    "katu ",
    "utca ",
    "caddesi ",
    "sokak ",
    "straße",
    "strasse",
    "str.",
    "weg ",
    "platz ",
    "gasse ",
    "allee ",
    "damm ",
    "ufer ",
)


def addresses(text: str, low: str, words: frozenset[str]) -> Iterator[Found]:
    """Yield streets with a house number, with town and postcode where they follow; `words` are those of `low`."""
    if not text.isascii():
        yield from other_addresses(text)
    if STREET_WORDS.isdisjoint(words) and not holds(low, STREET_ENDS):
        return
    if not (_HOUSE.search(text) or _HOUSE_AFTER.search(text)):
        return
    for pattern in ADDRESSES:
        group = "at" if "at" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            yield taken(match, "address", 0.85, group)


_CODE_START = re.compile(r"[A-Z]\d")
_STATE_ZIP = re.compile(r"[A-Z] \d{5}")
_CODE_WORDS = ("post", "zip", "plz", "kod p", "pin")


def postcodes(text: str, low: str) -> Iterator[Found]:
    """Yield postcodes that stand alone: British ones by their shape, others after their state or a word."""
    for match in _UK.finditer(text) if _CODE_START.search(text) else ():
        yield taken(match, "postcode", 0.8)
    for match in _US.finditer(text) if _STATE_ZIP.search(text) else ():
        yield taken(match, "postcode", 0.8)
    for match in _NAMED.finditer(text) if holds(low, _CODE_WORDS) else ():
        yield taken(match, "postcode", 0.82, 1)
