"""Faults inside a text: characters, leftovers of templates and models."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunedesk.core.personal_data.spans import holds

_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_SEPARATOR = re.compile("[\u2028\u2029]")
_LONE = re.compile("[\ud800-\udfff]")
_SPECIAL = re.compile(
    r"<\|[A-Za-z]\w{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<</?SYS>>|</s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|mask)>"
    r"|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]|\[(?:CLS|SEP|MASK|PAD|UNK)\]"
)
_PLACEHOLDER = re.compile(
    r"\{\{\s*[^\W\d][^{}\n]{0,60}\}\}|\[(?:insert|your|enter|customer'?s?|agent'?s?|company)[ _][^\]\n]{1,50}\]"
    r"|\[(?:NAME|DATE|COMPANY|ADDRESS|COMPANY NAME|PHONE NUMBER|ORDER NUMBER)\]"
    r"|\[[^\W\d_][^\W\d]{0,20}(?:[ _][^\W\d]{1,20}){0,3}[ _]"
    r"(?:name|number|date|address|e-?mail|phone|link|id|url|amount)\]"
    r"|\[(?:ihr|ihre|dein|deine|votre|su|seu|il tuo|la tua|uw) [^\W\d_][^\]\n]{1,40}\]"
    r"|(?-i:\[[A-Z]{2,}(?:_[A-Z]{2,})+\])"
    r"|<(?:insert|your)[ _][^>\n]{1,50}>|(?-i:<[a-z]{2,20}(?:_[a-z]{2,20}){1,3}>|<[A-Z]{2,20}(?:[_ ][A-Z]{2,20}){1,3}>)"
    r"|(?-i:<(?:NAME|DATE|COMPANY|ADDRESS|EMAIL|PHONE|URL|LINK)>)|(?-i:\{[a-z]{2,20}(?:_[a-z]{2,20}){1,3}\})"
    r"|%%[^\W\d]{2,40}%%|\blorem ipsum\b",
    re.I,
)
_MARKS = ("{", "[", "<", "%%", "orem ipsum")
"""One of them stands in every placeholder."""
_ABOUT_TEMPLATES = re.compile(
    r"\bplaceholders?\b|\bin (?:the|a|your|this) templates?\b"
    r"|\bjinja|\bhandlebars\b|\bmustache\b|\bgithub actions\b|\bvue\b|\bangular\b|\bdjango\b|\bhelm\b"
    r"|\bansible\b|\bliquid\b|\bcurly braces\b|\btemplat(?:e|ing) (?:engine|language|syntax|literal|variable)s?\b",
    re.I,
)
"""Words of a text that speaks about templates instead of being one."""
_CODE_BEFORE = re.compile(r"[$`}/=^_#&]$|\\\w+$|\bf['\"]$")
_CODE = re.compile(
    r"```|\bf['\"]|\.format\(|\bprint\(|\b(?:def|class|const|let|var|import|return) \w|</\w|;\s*\n|\\frac|https?://\S*[<{]"
)
"""Signs of a text that holds code, XML or a pattern of addresses, in which words in braces and brackets are at home."""
_FILLED = re.compile(r"\[[A-Z]+(?:_[A-Z]+)*_\d+\]")
_LABEL = {
    "assistant": re.compile(r"\s*(?:user|human|customer|assistant|ai|bot|gpt|agent)\s*:\s", re.I),
    "user": re.compile(r"\s*(?:user|human|assistant|agent|ai|bot|gpt|system)\s*:\s", re.I),
}
_BOILERPLATE = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large)(?: language)?(?: (?:model|assistant))\b|\bmy knowledge cutoff\b",
    re.I,
)

_SPOKEN = ("as a", "cutoff")
"""One of them stands in every such phrase."""

_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_TAIL = f"[\x80-\xbf{_CP1252}]"
_MOJIBAKE = re.compile(
    f"Ã[\x80-\xbf{_CP1252}]|Â[\xa0-\xbf]|â(?:€|\x80|„|\x84|‚|\x82|†|\x86|ˆ|\x88)(?:{_TAIL})|ðŸ{_TAIL}{{2}}|ð\x9f{_TAIL}{{2}}"
    f"|(?:[ÐÑ]{_TAIL}){{3,}}|(?:à[¤¥¦§¸¹¨©]{_TAIL}){{2,}}|(?:[ã-é]{_TAIL}{{2}}){{3,}}|ï»¿|ï¿½"
)

ODD = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\x{feff}\x{2028}\x{2029}\x{fffd}]"
"""A character that is a fault wherever it stands, as Polars reads it."""
LEFTOVERS = (_SPECIAL, _PLACEHOLDER, *_LABEL.values(), _BOILERPLATE, _MOJIBAKE)
"""All else that `text_faults` looks for."""


def text_faults(text: str, role: str) -> Iterator[tuple[str, str]]:
    """Yield (code, detail) for each kind of fault in `text`, spoken by `role`; each code at most once."""
    yield from _characters(text)
    yield from _leftovers(text, role)


def _characters(text: str) -> Iterator[tuple[str, str]]:
    if text.isascii() and text.isprintable():
        return
    if "\0" in text:
        yield "nul", ""
    found = _CONTROL.search(text)
    if found:
        yield "control_characters", f"U+{ord(found[0]):04X} at character {found.start() + 1}"
    if text.isascii():
        return
    if _SEPARATOR.search(text):
        yield "line_separator", ""
    if _LONE.search(text):
        yield "lone_surrogate", ""
    if "\ufffd" in text:
        yield "replacement_character", f"at character {text.index(chr(0xFFFD)) + 1}"
    repaired = repair(text)
    if repaired != text:
        place = next(i for i, (a, b) in enumerate(zip(text, repaired + " ", strict=False)) if a != b)
        yield "mojibake", f"{text[place : place + 12]!r} for {repaired[place : place + 12]!r}"


def _leftovers(text: str, role: str) -> Iterator[tuple[str, str]]:
    if ("<" in text or "[" in text) and (special := _SPECIAL.search(text)):
        yield "special_token_text", special[0]
    if any(mark in text for mark in _MARKS):
        placeholder = next((m for m in _PLACEHOLDER.finditer(text) if _is_left(m)), None)
        if placeholder and not _ABOUT_TEMPLATES.search(text):
            yield "placeholder_left", placeholder[0]
    label = _LABEL.get(role)
    if label and (found := label.match(text)):
        yield "role_label_in_text", found[0].strip()
    if role == "assistant" and holds(text.lower(), _SPOKEN) and (spoken := _BOILERPLATE.search(text)):
        yield "boilerplate", spoken[0]


def _is_left(found: re.Match[str]) -> bool:
    """Return whether a match is a placeholder of the text, neither filled by a mask nor part of code in it."""
    if _FILLED.fullmatch(found[0]) or _SPECIAL.fullmatch(found[0]):
        return False
    after = found.string[found.end() : found.end() + 1]
    if (found[0][0] in "<{" and found[0][1] != "{" and _CODE.search(found.string)) or (
        found[0][0] == "[" and after in ("(", "[", ":")
    ):
        return False
    before = found.string[: found.start()]
    return before.count("`") % 2 == 0 and not _CODE_BEFORE.search(before[-20:])


def strip_nul(text: str) -> str:
    """Return `text` without NUL characters."""
    return text.replace("\0", "")


def strip_control(text: str) -> str:
    """Return `text` without control characters; tabs and line ends stay."""
    return _CONTROL.sub("", text)


def strip_lone(text: str) -> str:
    """Return `text` without halves of surrogate pairs."""
    return _LONE.sub("", text)


def newline_separators(text: str) -> str:
    """Return `text` with U+2028 and U+2029 as newlines."""
    return _SEPARATOR.sub("\n", text)


def repair(text: str) -> str:
    """Return `text` with wrongly decoded runs decoded again, where the way there and back is exact."""
    return _MOJIBAKE.sub(_decoded, text) if _MOJIBAKE.search(text) else text


def _decoded(found: re.Match[str]) -> str:
    run = found[0]
    if (
        run[0] == "Ã"
        and run[1] in "‘’“”"
        and found.string[max(0, found.start() - 1) : found.start()].isupper()
    ):
        return run
    try:
        raw = b"".join(char.encode("cp1252") if char in _CP1252 else char.encode("latin-1") for char in run)
        return raw.decode("utf-8")
    except UnicodeError:
        return run
