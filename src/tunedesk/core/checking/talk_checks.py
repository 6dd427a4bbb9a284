"""Faults of what is said, not how it is written: refusals, flipped roles, foreign languages, words that block files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tunedesk.core.checking.languages import differ, is_about_languages
from tunedesk.core.conversations import content_text
from tunedesk.core.personal_data.spans import holds

_SHORT = 400
"""Characters up to which an answer that refuses is nothing but a refusal."""
_REFUSAL = re.compile(
    r"\bI(?:['’]m| am) (?:sorry|afraid),? (?:but )?(?:I|as an) "
    r"(?:can(?:['’]?t|not)|am (?:not able|unable)|won['’]?t)? ?"
    r"(?:to )?(?:help|assist|comply|fulfil+|answer|provide|do) (?:you )?(?:with )?(?:that|this|your request|it)\b"
    r"|\bI (?:can(?:['’]t|not)|am (?:not able|unable) to|must decline to|won['’]t) "
    r"(?:fulfil+|comply|assist with th(?:at|is)|"
    r"answer th(?:at|is) (?:question|request)|engage (?:in|with))"
    r"|\b(?:against|violates?) (?:my|our|OpenAI['’]s) (?:programming|guidelines|content polic\w+|usage polic\w+)"
    r"|\bEs tut mir leid, aber (?:ich kann|dabei kann ich)[^.]{0,30}nicht (?:helfen|weiterhelfen|beantworten)"
    r"|\bLo siento,? (?:pero )?no puedo (?:ayudar|cumplir|responder)"
    r"|\bJe (?:suis désolée?|regrette),? (?:mais )?je ne peux pas (?:vous aider|répondre)"
    r"|\bMi dispiace,? (?:ma )?non posso (?:aiutar|rispondere)|\bDesculpe,? (?:mas )?não posso (?:ajudar|responder)",
    re.I,
)
_REFUSAL_WORDS = (
    "can't", "can’t", "cannot", "unable", "not able", "decline", "won't", "won’t", "against my", "against our",
    "violate", "against openai", "nicht", "no puedo", "ne peux", "non posso", "não posso",
)  # fmt: skip
_AGENT = re.compile(
    r"\bhow (?:can|may) (?:I|we) (?:help|assist|be of)|\b(?:thank you|thanks) for (?:contacting|calling|reaching out)"
    r"|\banything else (?:I|we) can (?:help|assist|do)"
    r"|\bI(?:['’]d| would| will|['’]ll) be (?:happy|glad) to (?:help|assist)"
    r"|\bmy name is [A-Z]\w+ and I(?:['’]ll| will) be (?:helping|assisting)|\bpleasure (?:helping|assisting) you"
    r"|\bwie kann ich (?:Ihnen|dir) (?:weiter)?helfen|\bcomment puis-je vous aider|\ben qué puedo ayudar",
    re.I,
)
_CUSTOMER = re.compile(
    r"\bI (?:want|need|would like|['’]d like) (?:to |a |my |help)"
    r"|\bmy (?:card|account|order|payment|refund|password|phone|"
    r"booking|subscription|invoice|delivery|parcel|loan|money)\b|\bcan you (?:please )?(?:help|tell|check|send)"
    r"|\bI (?:have )?(?:lost|forgot|ordered|bought|paid|never (?:got|received))\b|\bich (?:möchte|brauche|habe mein)",
    re.I,
)
_THREAT = re.compile(
    r"\b(?:I(?:['’]ll| will| am going to|['’]m going to|['’]m gonna)|gonna|going to) "
    r"(?:kill|murder|stab|shoot|rape|behead) "
    r"(?:you|him|her|them|my|your|the|every)\b"
    r"|\b(?:kill|hang|cut) (?:myself|yourself)\b|\bkys\b|\bcommit suicide\b|\bend my (?:own )?life\b|\bself[- ]harm\b"
    r"|\b(?:how to|help me) (?:make|build|cook|synthesi[sz]e) (?:an? |some )?(?:pipe ?bomb|bomb|explosives?|meth|nerve "
    r"(?:gas|agent)|ricin|napalm)\b"
    r"|\bchild porn\w*|\b(?:sex|sexual|nude|naked|erotic)\w*\b[^.?!\n]{0,40}\b(?:minors?|child(?:ren)?|underage|"
    r"(?:[1-9]|1[0-7])[- ]year[- ]old)\b"
    r"|\b(?:gas|exterminate|lynch) (?:the|all) (?:jews|muslims|blacks|gays|immigrants)\b"
    r"|\bn[i1]gg(?:er|a)s?\b|\bf[a4]ggots?\b",
    re.I,
)
_THREAT_WORDS = (
    "kill", "murder", "stab ", "shoot", "rape", "behead", "hang ", "cut my", "cut your", "kys", "suicide", "end my",
    "harm", "bomb", "explosive", "meth", "nerve ", "ricin", "napalm", "porn", "sex", "nude", "naked", "erotic",
    "gas the", "gas all", "extermin", "lynch", "nigg", "n1gg", "fagg", "f4gg",
)  # fmt: skip

_AGENT_WORDS = ("help", "assist", "thank", "aider", "ayudar", "helfen")
_SIDES = ("system", "developer", "user", "assistant")

Fault = tuple[str, int, str]
"""Code, message and detail."""
Said = tuple[int, str, str]
"""Message, role and text."""


def refusal(text: str) -> str:
    """Return the words by which an answer refuses, empty when it does not."""
    found = _REFUSAL.search(text) if len(text) <= _SHORT else None
    return found[0] if found else ""


def talk_faults(messages: Sequence[Any]) -> Iterator[Fault]:
    """Yield the faults of a conversation's messages, each with the message it is in."""
    said = [
        (place, m["role"], content_text(m.get("content")))
        for place, m in enumerate(messages)
        if isinstance(m, dict) and m.get("role") in _SIDES
    ]
    users = "\n".join(text for _, role, text in said if role == "user")
    answers = "\n".join(text for _, role, text in said if role == "assistant")
    low_users, low_answers = users.lower(), answers.lower()
    if holds(low_users, _THREAT_WORDS) or holds(low_answers, _THREAT_WORDS):
        yield from _risky(said)
    if holds(low_answers, _REFUSAL_WORDS):
        for place, role, text in said:
            if role == "assistant" and (words := refusal(text)):
                yield "refusal", place, repr(words[:60])
    if holds(low_users, _AGENT_WORDS) and _AGENT.search(users) and not _AGENT.search(answers):
        yield from _flipped(said, answers)
    if differ(users, answers):
        yield from _foreign(said)


def _risky(said: Sequence[Said]) -> Iterator[Fault]:
    for place, role, text in said:
        if role in ("user", "assistant") and (found := _THREAT.search(text)):
            yield "moderation_risk", place, repr(found[0][:40])


def _flipped(said: Sequence[Said], answers: str) -> Iterator[Fault]:
    """Yield the first message in which the user speaks as an agent, when the assistant speaks as a customer."""
    place, text = next(
        ((place, text) for place, role, text in said if role == "user" and _AGENT.search(text)), (0, "")
    )
    if text and _CUSTOMER.search(answers):
        yield "role_flip", place, repr(text[:40])


def _foreign(said: Sequence[Said]) -> Iterator[Fault]:
    """Yield the first answer in another language than the customer's words before it, unless that is asked for."""
    asked = ""
    for place, role, text in said:
        if role in ("system", "developer") and is_about_languages(text):
            return
        if role == "user":
            asked = f"{asked}\n{text}"[-1_200:]
        elif role == "assistant" and (detail := differ(asked, text)):
            yield "wrong_language", place, detail
            return
