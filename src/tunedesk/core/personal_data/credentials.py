"""Secrets that people paste into conversations: API keys, tokens, private keys, passwords, PINs and codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunedesk.core.personal_data.spans import Found, holds, taken

_KEY = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{16,}|[srp]k_(?:live|test)_\w{10,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{35}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{20,}|"
    r"SG\.[\w-]{16,}\.[\w-]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|gsk_\w{20,}|"
    r"eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]{8,})(?![\w-])"
)
BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.{0,10000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.S
)
_BEARER = re.compile(r"\bbearer ([\w.~+/-]{16,}=*)", re.I)
_ASSIGNED = re.compile(
    r"\b(?:api[ _-]?key|access[ _-]?key|secret(?:[ _-]?key)?|client[ _-]?secret|auth[ _-]?token|"
    r"access[ _-]?token|token)"
    r"[\"']?(?: is)?\s{0,2}[:=]?\s{0,2}[\"'`]?((?=[\w+/.~-]{0,80}\d)[\w+/.~-]{12,})",
    re.I,
)
_PASSWORD = re.compile(
    r"\b(?:passwords?|passwort|kennwort|passphrase|passcode|pwd|pass|contrase[ñn]a|clave|mot de passe|mdp|"
    r"has[lł]o|senha)"
    r"[\"']?(?:\s{0,2}[:=]|\s+(?:is|was|ist|lautet|es|est|to|jest|hai)\b:?)\s{0,2}"
    r"(?:[\"'`“]([^\"'`”\s]{4,})[\"'`”]|(?=\S{0,40}[\d!@#$%^&*_+=])((?![\[{<(])\S{5,60}[^\s.,;!?]))",
    re.I,
)
_PIN = re.compile(
    r"\b(?:pin|cvv2?|cvc|otp|tan|(?:security|verification|one[- ]time|access|sms|auth\w*) (?:code|password|"
    r"passcode))"
    r"(?: (?:code|number|no\.?))?[\"']?\s{0,2}(?:(?:is|was|ist|es|to|=|:|"
    r"jest)\s{0,2}){0,2}[\"']?(\d{3,8})(?![\w]|[.,:/-]\d)",
    re.I,
)
_CODE = re.compile(r"(?<![\w£$€.,/:#-])\d{4,8}(?![\w%]|[.,:/-]\d)")
_WRITTEN_PASSWORD = re.compile(r"^\W{0,3}(?:it'?s |it is |sure,? )?((?=\S*\d)\S{6,40})\W{0,2}$", re.I)


GIVEN_AWAY = (
    (("sk-", "k_live", "k_test", "xox", "glpat", "hf_", "sg.", "npm_", "pypi-", "gsk_"), _KEY, 0.99),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_", "akia", "asia", "aiza", "eyj"), _KEY, 0.99),
    (("-----",), BLOCK, 0.99),
    (("bearer",), _BEARER, 0.94),
    (("key", "secret", "token"), _ASSIGNED, 0.94),
    (("pass", "pwd", "kennwort", "contrase", "clave", "mdp", "hasł", "haslo", "senha"), _PASSWORD, 0.85),
    (("pin", "cv", "otp", "tan", "code"), _PIN, 0.87),
)
"""Parts one of which must stand in a text (in small letters), the pattern that is then tried, how sure a hit is."""


_PLACEHOLDER = re.compile(
    r"(?:your|my|the|new|old|some|user)?[_-]?(?:pass(?:word|wd|code)?|secret|token|key|pwd)\d{0,3}|[x*•.]+",
    re.I,
)
"""What code and instructions write where a secret would stand."""


def secrets(text: str, low: str) -> Iterator[Found]:
    """Yield keys by their makers' prefixes, and passwords, PINs and codes that a word gives away."""
    for parts, pattern, confidence in GIVEN_AWAY:
        if holds(low, parts):
            for match in pattern.finditer(text):
                if not _PLACEHOLDER.fullmatch(match.group(match.lastindex or 0)):
                    yield taken(match, "secret", confidence, match.lastindex or 0)


def answered_secrets(text: str) -> Iterator[Found]:
    """Yield what answers a question for a PIN, a code or a password."""
    for match in _CODE.finditer(text):
        yield taken(match, "secret", 0.66 if len(match.group()) <= 6 else 0.6)
    written = _WRITTEN_PASSWORD.search(text)
    if written:
        yield taken(written, "secret", 0.62, 1)
