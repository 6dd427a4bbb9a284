"""Numbers and codes that name a person: cards, IBANs, phones, accounts, births, e-mail, IP.

Check digits are python-stdnum's, phone plans libphonenumber's; everything without either needs a word beside it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import phonenumbers
from stdnum import iban, luhn

from tunedesk.core.personal_data.national_ids import ORDER, before_number
from tunedesk.core.personal_data.spans import Found, holds, taken

_COUNTED = re.compile(
    r"\b(?:order|purchase|invoice|ticket|ref|reference|case|claim|track\w*|parcel|booking|confirmation|"
    r"transaction|"
    r"shipment|bestell\w*|rechnung\w*|pedido|factura|commande|facture|zam[oó]wieni\w*)\b"
    r"(?:\W{0,3}(?:number|no|num|nr|id|code|is|was))*\W{0,3}$",
    re.I,
)
"""The same right beside a number, for those with a check digit."""
_MONEY_BEFORE = re.compile(r"(?:[£$€₹¥]|\b(?:usd|eur|gbp|inr|rs|pln|chf))\.? ?$", re.I)
_MONEY_AFTER = re.compile(
    r" ?(?:[£$€₹%]|(?:usd|eur|euros?|gbp|inr|rs|pln|z[lł]|dollars?|pounds?|quid|rupe\w*)\b)", re.I
)

_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w@])")
_ROLE_MAILBOX = re.compile(
    r"(?:support|help|helpdesk|info|contact|service|services|customer[._-]?(?:service|care|support)|care|"
    r"sales|"
    r"billing|office|admin|team|hello|no[._-]?reply|do[._-]?not[._-]?reply|press|careers|jobs|privacy|"
    r"security|"
    r"complaints|postmaster|kontakt|kundenservice|contacto|soporte|service[._-]?client)(?:[._-][\w.-]*)?@",
    re.I,
)
"""Mailboxes of a company: a person is not behind them, and an answer that names one is worth training on."""

CARD = re.compile(r"(?<![\w.,+-])\d(?:[ .-]?\d){12,18}(?![\w]|[.,-]\d)")
_CARD_PLAN = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|"
    r"3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|5\d\d|4[4-9]\d)\d{12,15}|62\d{14,17}|"
    r"(?:50|5[6-9]|6[0379])\d{11,17}"
)
"""Issuer prefixes with their lengths (Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay, Maestro)."""
_CARD_WORD = re.compile(
    r"\b(?:card|karte|kartennummer|tarjeta|carte|kart[aęy]|cc|visa|mastercard|amex)\b", re.I
)

IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")

PHONE = re.compile(
    r"(?<![A-Za-zÀ-ɏ\d_.,/#@-])(?:\+ ?)?\(?\d(?:[ ./()-]{0,2}\d){6,14}(?![A-Za-zÀ-ɏ\d_]|[.,/-]\d)"
)
_PHONE_WORD = re.compile(
    r"(?:phone|mobile|\bcell\b|\btel\b|tel[.:]|tel[eé]f|\bcall(?:s|ed|ing|back)?\b|\bring\b|\brang\b|\bfax|"
    r"whatsapp|\bsms\b|\btext (?:me|him|her|us)"
    r"|reach me|contact me|m[oó]vil|handy|rufnummer|anrufen|t[ée]l[ée]phone|portable|appel|kom[oó]rk|"
    r"dzwo[nń]|cellulare"
    r"|फोन|मोबाइल|\b(?:my|new|old|his|her|mera|apna) number\b|\bph\b"
    r"|\b(?:meine|mein|mitt|min|mój|moj|meu|mi|mio|mon|mijn|mit) n(?:u|ú|uu)m(?:mer|er|ero|éro)\b|\bbel me\b|\btlf\b"
    r"|celular|telem[oó]vel|telefon\w*|puhelin\w*|numeroni|телефон\w*|мой номер|моб\w*\b"
    r"|\brufen sie (?:mich|uns)|\bruf mich|erreich\w*"
    r"|電話|携帯|手机|电话|전화|휴대폰|(?<!\w)[제내] 번호|هاتف\w*|جوال\w*|موبايل"
    r")[^.!?\n]{0,40}$",
    re.I,
)
PHONE_PARTS = (
    "numer", "nummer", "númer", "numéro", "bel me", "tlf", "celular", "telem", "telefon", "puhel", "телеф", "номер",
    "моб",
    "電話", "携帯", "手机", "电话", "전화", "휴대폰", "번호", "هاتف", "جوال", "موبايل",
    "rufen sie", "ruf mich", "erreich",
    "phone", "mobile", "cell", "tel", "tél", "call", "ring", "rang", "fax", "whatsapp", "sms", "text ", "reach me",
    "contact me", "movil", "móvil", "handy", "rufnummer", "anrufen", "portable", "appel", "komork", "komórk", "dzwo",
    "फोन", "मोबाइल", " number", "ph",
)  # fmt: skip
"""Parts one of which stands in every word for a phone."""
PHONE_SHAPE = re.compile(
    r"\(\d{3}\) ?\d{3}[ .-]\d{4}|1?[ .-]?\d{3}([.-])\d{3}\1\d{4}|07\d{3} ?\d{3} ?\d{3}|"
    r"0\d{2,4} \d{3,4} \d{3,4}|"
    r"\(0\d{2,4}\) ?\d{3,4} ?\d{3,4}|0[1-9](?:[ .]\d\d){4}|0\d{2,4}[/-] ?\d{3,8}|[6-9]\d{2} \d{3} \d{3}|"
    r"[6-9]\d{2} \d{2} \d{2} \d{2}|[6-9]\d{4} \d{5}|01[567]\d[ /-]\d{3,4} ?\d{3,5}|06[- ]\d{8}|04\d\d \d{3} \d{3}|"
    r"0\d{1,3}-\d{2,4} \d\d \d\d|\(\d\d\) ?9?\d{4}-\d{4}|8 ?\(?9\d\d\)? ?\d{3}-\d\d-\d\d|0[789]0-\d{4}-\d{4}|"
    r"01[016-9]-\d{3,4}-\d{4}|0\d\d \d{3} \d\d \d\d"
)
"""How people write phone numbers where no word says what it is: UK, US, France, Germany, Spain, Poland, India."""
_LOCAL = re.compile(r"\d{3}[-. ]\d{4}")
_PUBLIC_LINES = frozenset(
    {
        phonenumbers.PhoneNumberType.TOLL_FREE,
        phonenumbers.PhoneNumberType.PREMIUM_RATE,
        phonenumbers.PhoneNumberType.SHARED_COST,
        phonenumbers.PhoneNumberType.UAN,
    }
)
"""Lines that companies rent: no person answers to them."""
_RENTED = ("080", "084", "087", "180", "800", "900")
"""How such lines begin in most countries: elsewhere the same digits may be somebody's."""
_DATE_LIKE = re.compile(
    r"\d{1,2}([/.-])\d{1,2}\1\d{2,4}|\d{4}([/.-])\d\d\2\d\d|\d{4} ?- ?\d{4}|\d\d[/-]\d\d \d{4}"
)

_POSTCODE_LIKE = re.compile(r"\d{5}-\d{3}")
"""Brazil's."""

_ACCOUNT = re.compile(
    r"(?<![^\W_])(?:account|acct|acc|a/c|ac(?= no)|konto|kontonummer|kontonr|compte|cuenta|rachun\w+|konta|conto|"
    r"khata)(?![^\W_])[\s_]*"
    r"(?:(number|num|no\b\.?|nr\b\.?|nummer|num[eé]ro|n[uú]mero|numer|n[º°]|#|bancaire|bancaria|"
    r"bankowe\w*)[\s_]*)*"
    r"(?:\([^)\n]{0,20}\))?[\s:=#\"'-]*(?:(?:is|was|ist|es|est|to|it's|its|jest|hai)\b[\s:]*)?"
    r"(\d(?:[ -]?\d){3,17})(?![\w]|[.,]\d)",
    re.I,
)
_CLIENT = re.compile(
    r"\b(?:loan|folio|customer|client|member(?:ship)?|policy|kunden|policen|p[oó]liza)"
    r"[ -]?(?:number|no\.?|nr\.?|nummer|id)"
    r"[\s:=#\"'-]*(?:(?:is|was|hai|ist)\b[\s:]*)?(\d(?:[ -]?\d){5,17})(?![\w]|[.,]\d)",
    re.I,
)
_CLIENT_WORDS = ("loan", "folio", "customer", "client", "member", "kunden", "polic", "póliza", "poliza")
_BARE = re.compile(r"(?<![\w£$€.,/#-])\d(?:[ -]?\d){3,17}(?![\w%/]|[.,]\d)")
_KONTONUMMER = re.compile(r"kontonummer|kontonr", re.I)
_SORT_WORD = re.compile(r"\bsort(?:ing|[ -]?code)?\b", re.I)
_SORT = re.compile(r"(?<![\w/.-])\d\d([ -])\d\d\1\d\d(?![\w/-])")
_BANK_CODE = re.compile(
    r"\b(?:sort[ _-]?code|routing (?:number|no\.?)|aba(?: number)?|blz|bankleitzahl)\W{0,4}(?:is |"
    r"ist )?(\d{6}|\d{8,9})(?![\w-])",
    re.I,
)
_BANK_CODE_WORDS = ("sort", "routing", "aba", "blz", "bankleitzahl")
_ACCOUNT_WORDS = ("acc", "ac no", "a/c", "kont", "compte", "cuenta", "rachun", "conto", "khata")
ACCOUNTS = (_SORT, _BANK_CODE, _ACCOUNT, _CLIENT)
"""What accounts are found by when no question was asked."""
_EIGHT = re.compile(r"(?<![\w.,-])\d{8}(?![\w-])")

_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|ene|abr|ago|dic|m[äa]rz|mai|okt|dez|janv|f[ée]vr?|"
    r"avr|juin|"
    r"juil|ao[uû]t|d[ée]c|stycz|lut|kwie|maj|czerw|lip|sierp|wrze|pa[zź]dz|listop|grud)[^\W\d_]{0,8}\.?"
)
DATE = re.compile(
    rf"(?<![\w/.-])(?:\d{{1,2}}[/.-]\d{{1,2}}[/.-](?:\d{{4}}|\d\d)|\d{{4}}[/.-]\d{{1,2}}[/.-]\d{{1,2}}|"
    rf"\d{{1,2}}(?:st|nd|rd|th|\.|º)?(?: of| de)? {_MONTH},?(?: de| of)? (?:\d{{4}}|\d\d)|"
    rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? ?(?:\d{{4}}|\d\d))(?![\w/-])",
    re.I,
)
"""A whole date with its year, in digits or with the month's name in English, German, French, Spanish or Polish."""
BIRTH = re.compile(
    r"\b(?:dates? of birth|d\.?o\.?b\b|birth[ -]?(?:date|day)|born|geburts(?:datum|tag)|geb(?:\.|oren)|"
    r"n[ée]e? le|"
    r"date de naissance|fecha de nacimiento|nacid[oa]|nac[ií]|data urodzenia|urodz\w+|data di nascita|nato|"
    r"nata|data de nascimento|nascid[oa]|geboorte\w*|f[öo]dd|f[øo]dt|do[gğ]um\w*|syntym\w*|дата рождения|родил\w*|"
    r"narozen\w*|sz[uü]let\w*|data na[sș]terii)"
    r"|出生|生年月日|생년월일|تاريخ الميلاد|date_of_birth|birthdate|जन्म",
    re.I,
)
_BIRTH_WORDS = (
    "birth",
    "dob",
    "d.o.b",
    "born",
    "geb",
    "né",
    "ne le",
    "naissance",
    "naci",
    "urodz",
    "nascita",
    "nato",
    "nata",
    "nasc",
    "född",
    "fodd",
    "født",
    "doğum",
    "dogum",
    "syntym",
    "рожд",
    "родил",
    "naroz",
    "szület",
    "naște",
    "出生",
    "生年月日",
    "생년월일",
    "الميلاد",
    "जन्म",
)
_BIRTH_REACH = 80
"""Characters after a word of birth in which dates are taken for it."""
_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9a-f:]*\d)(?:[0-9a-f]{1,4}:){2,7}(?:[0-9a-f]{1,4}|:[0-9a-f:]*)(?![\w:])", re.I
)
IP_PART = re.compile(r"\d\.\d+\.\d|[0-9a-fA-F]:[0-9a-fA-F:]")
_VERSION = re.compile(r"(?:version|firmware|release|build|\bv)\.? ?$", re.I)


def emails(text: str) -> Iterator[Found]:
    """Yield e-mail addresses, but not a company's own mailboxes (support@, info@, no-reply@ …)."""
    for match in _EMAIL.finditer(text):
        if not _ROLE_MAILBOX.match(match.group()):
            yield taken(match, "email", 0.99)


def _digits(text: str) -> str:
    """Return the digits of `text`."""
    return "".join(filter(str.isdigit, text))


def _is_money(text: str, start: int, end: int) -> bool:
    """Return whether a currency stands beside the number at start:end."""
    return bool(_MONEY_BEFORE.search(text[max(0, start - 5) : start]) or _MONEY_AFTER.match(text, end))


def cards(text: str, asked: bool = False) -> Iterator[Found]:
    """Yield payment cards: an issuer's prefix and length with the check digit, or without it by a word or question."""
    for match in CARD.finditer(text):
        number, before = _digits(match.group()), before_number(text, match.start())
        named = asked or bool(_CARD_WORD.search(before))
        if _COUNTED.search(before) and not named:
            continue
        if luhn.is_valid(number) and _CARD_PLAN.fullmatch(number) and len(set(number)) > 1:
            yield taken(match, "card", 0.97)
        elif named and len(number) in (15, 16):
            yield taken(match, "card", 0.6)


def ibans(text: str) -> Iterator[Found]:
    """Yield IBANs of their country's length whose check digits (mod 97) are right."""
    for match in IBAN.finditer(text):
        end = match.end()
        while end - match.start() >= 15:
            if (
                text[end - 1].isalnum()
                and not text[end : end + 1].isalnum()
                and iban.is_valid(text[match.start() : end], check_country=False)
            ):
                yield Found("iban", match.start(), end, text[match.start() : end], 0.99)
                break
            end -= 1


def _regions(number: str) -> tuple[str | None, ...]:
    """Return the regions whose plan a number may follow, by how it begins and its length."""
    digits = _digits(number)
    if number.startswith("+"):
        return (None,)
    if digits.startswith("0"):
        return ("GB", "DE", "FR", "IT", "NL", "IN")
    if len(digits) == 9:
        return ("ES", "PL")
    return ("US", "IN") if len(digits) in (10, 11) else ()


def _is_public_line(number: str) -> bool | None:
    """Return whether the number is a freephone or shared-cost line, None when no plan it may follow holds it."""
    public: bool | None = None
    for region in _regions(number):
        try:
            parsed = phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            return None
        if phonenumbers.is_valid_number(parsed):
            public = phonenumbers.number_type(parsed) in _PUBLIC_LINES
            if not public or _digits(number).startswith(_RENTED):
                return public
    return public


def phones(text: str, asked: bool = False) -> Iterator[Found]:
    """Yield phone numbers people can be reached at: international, by a familiar shape, or by a word or question.

    Numbers set aside for fiction are taken too. Freephone lines are not: they are a company's.
    """
    worded = not asked and holds(text.lower(), PHONE_PARTS)
    for match in PHONE.finditer(text):
        number = match.group()
        abroad = number.startswith("+") or (number.startswith("00") and len(_digits(number)) > 11)
        shaped = bool(PHONE_SHAPE.fullmatch(number))
        if not (asked or worded or abroad or shaped):
            continue
        before = before_number(text, match.start())
        if _DATE_LIKE.fullmatch(number) or _is_money(text, match.start(), match.end()):
            continue
        if number[0] != "+" and (not set(_digits(number)) - set("01") or _POSTCODE_LIKE.fullmatch(number)):
            continue
        named = asked or (worded and bool(_PHONE_WORD.search(before)))
        if (ORDER.search(before) and not named) or not (named or abroad or shaped):
            continue
        shaped = shaped or (named and bool(_LOCAL.fullmatch(number)))
        public = _is_public_line("+" + number.lstrip("0") if abroad and number[0] == "0" else number)
        if public or (public is None and not (shaped or abroad or len(_digits(number)) >= 8 or asked)):
            continue
        yield taken(match, "phone", 0.9 if public is False else 0.75)


def accounts(text: str, low: str, asked: bool = False) -> Iterator[Found]:
    """Yield sort codes and account numbers, each by the word before it (or the other of the pair)."""
    for match in _SORT.finditer(text) if "sort" in low else ():
        if _SORT_WORD.search(text, max(0, match.start() - 90), match.start()):
            yield taken(match, "sort_code", 0.92)
            following = _EIGHT.search(text, match.end(), match.end() + 30)
            if following:
                yield taken(following, "account_number", 0.85)
    for match in _BANK_CODE.finditer(text) if holds(low, _BANK_CODE_WORDS) else ():
        yield taken(match, "sort_code", 0.9, 1)
    for match in _ACCOUNT.finditer(text) if holds(low, _ACCOUNT_WORDS) else ():
        size = len(_digits(match.group(2)))
        named = bool(match.group(1)) or bool(_KONTONUMMER.match(match.group()))
        amount = not named and match.group(2).endswith("000")
        if size >= (4 if named else 6) and not amount and not _is_money(text, match.start(2), match.end(2)):
            yield taken(match, "account_number", 0.93 if named else 0.8, 2)
    for match in _CLIENT.finditer(text) if holds(low, _CLIENT_WORDS) else ():
        yield taken(match, "account_number", 0.8, 1)
    for match in _BARE.finditer(text) if asked else ():
        whole = match.group() == text.strip(" .!#")
        if (whole or len(_digits(match.group())) >= 6) and not _is_money(text, match.start(), match.end()):
            yield taken(match, "account_number", 0.67 if len(match.group()) > 6 else 0.64)


def births(text: str, low: str, asked: bool = False) -> Iterator[Found]:
    """Yield dates of birth: whole dates near a word of birth, or in the answer to a question for one."""
    starts = [match.end() for match in BIRTH.finditer(text)] if holds(low, _BIRTH_WORDS) else []
    reaches = [(0, len(text))] if asked else [(start, start + _BIRTH_REACH) for start in starts]
    for start, stop in reaches:
        for match in DATE.finditer(text, start, stop):
            yield taken(match, "date_of_birth", 0.92)


def ip_addresses(text: str) -> Iterator[Found]:
    """Yield IP addresses, but not those of every home network (10., 192.168., loopback) or version numbers."""
    for pattern in (_IPV4, _IPV6) if IP_PART.search(text) else ():
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            shared = (
                address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local
            )
            local = isinstance(address, ipaddress.IPv4Address) and match.group().startswith(
                ("10.", "192.168.", "255.")
            )
            if not (shared or local or _VERSION.search(text[max(0, match.start() - 10) : match.start()])):
                yield taken(match, "ip_address", 0.9)
