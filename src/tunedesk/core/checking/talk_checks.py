"""Faults of what is said, not how it is written: refusals, flipped roles, foreign languages, words that block files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunedesk.core.checking.languages import differ, is_about_languages, leaning
from tunedesk.core.personal_data.spans import holds

_SHORT = 400
"""Characters up to which an answer that refuses is nothing but a refusal."""
REFUSAL = re.compile(
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
AGENT = re.compile(
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
THREAT = re.compile(
    r"\b(?:I(?:['’]ll| will| am going to|['’]m going to|['’]m gonna)|gonna|going to) "
    r"(?:kill|murder|stab|shoot|rape|behead) "
    r"(?:you|him|her|them|my|your|the|every)\b"
    r"|\b(?:kill|hang) (?:myself|yourself)\b|\bcutting myself\b"
    r"|\bcut (?:myself|yourself)\b(?! (?:some|off|short|loose|out|free|on|while|with|shaving)\b)"
    r"|\bkys\b|\bcommit suicide\b|\bend my (?:own )?life\b|\bself[- ]harm\b"
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

_AGENT_WORDS = ("help", "assist", "thank", "be of", "aider", "ayudar", "helfen")
Fault = tuple[str, int, str]
"""Code, message and detail."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one text says, whoever says it and wherever."""

    threat: str
    """Words that a provider's moderation may block a file for, or empty."""
    refusal: str
    """Words by which it refuses, or empty."""
    agent: bool
    """It speaks as a support agent."""
    leaning: int
    """Languages it leans to (languages.leaning)."""


def spoken(text: str) -> Spoken:
    """Return what `text` says."""
    low = text.lower()
    risky = THREAT.search(text) if holds(low, _THREAT_WORDS) else None
    agent = is_agent(text)
    refused = refusal(text) if holds(low, _REFUSAL_WORDS) else ""
    return Spoken(risky[0] if risky else "", refused, agent, leaning(text))


def is_agent(text: str) -> bool:
    """Return whether a text speaks as a support agent."""
    return holds(text.lower(), _AGENT_WORDS) and bool(AGENT.search(text))


def refusal(text: str) -> str:
    """Return the words by which an answer refuses, empty when it does not."""
    found = REFUSAL.search(text) if len(text) <= _SHORT else None
    return found[0] if found else ""


Said = tuple[int, str, str, Spoken]
"""Message, role, text and what it says."""


def talk_faults(said: Sequence[Said]) -> Iterator[Fault]:
    """Yield the faults of what the sides of a conversation say, each with the message it is in."""
    users = [one for one in said if one[1] == "user"]
    answers = [one for one in said if one[1] == "assistant"]
    for place, role, _, one in said:
        if one.threat and role in ("user", "assistant"):
            yield "moderation_risk", place, repr(one.threat[:40])
    for place, _, _, one in answers:
        if one.refusal:
            yield "refusal", place, repr(one.refusal[:60])
    if not any(one.agent for *_, one in answers):
        yield from _flipped(users, answers)
    common = -1
    for *_, one in (*users, *answers):
        common &= one.leaning
    if not common and differ(_joined(users), _joined(answers)):
        yield from _foreign(said)


def _joined(said: Sequence[Said]) -> str:
    return "\n".join(text for _, _, text, _ in said)


def _flipped(users: Sequence[Said], answers: Sequence[Said]) -> Iterator[Fault]:
    """Yield the first message in which the user speaks as an agent, when the assistant speaks as a customer."""
    for place, _, text, one in users:
        if one.agent:
            if _CUSTOMER.search(_joined(answers)):
                yield "role_flip", place, repr(text[:40])
            return


def _foreign(said: Sequence[Said]) -> Iterator[Fault]:
    """Yield the first answer in another language than the customer's words before it, unless that is asked for."""
    asked = ""
    for place, role, text, _ in said:
        if role in ("system", "developer") and is_about_languages(text):
            return
        if role == "user":
            asked = f"{asked}\n{text}"[-1_200:]
        elif role == "assistant" and (detail := differ(asked, text)):
            yield "wrong_language", place, detail
            return
