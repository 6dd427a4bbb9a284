"""Conversations written out with a model's own marks: ChatML, Llama, Gemma, Mistral, Vicuna, Alpaca headings."""

from __future__ import annotations

import re

from tunedesk.core.importing.roles import Turn, role_of

_MARKS = (
    re.compile(r"<\|im_start\|>[ ]*(?P<who>[\w ]{1,30}?)(?:\s+name=\S+)?[ ]*\n"),
    re.compile(r"<\|start_header_id\|>\s*(?P<who>\w{1,30})\s*<\|end_header_id\|>\s*"),
    re.compile(r"<start_of_turn>\s*(?P<who>\w{1,30})\s*\n"),
    re.compile(r"<\|(?P<who>system|user|assistant|human|bot|model|prompter|observation|tool)\|>[ ]*\n?", re.I),
    re.compile(r"[ ]*###\s*(?P<who>System|Human|User|Assistant|Customer|Agent|Bot|GPT)\s*:[ ]*\n?", re.I),
    re.compile(
        r"(?:^|\n)[ ]*#{2,3}\s*(?P<who>System|Instruction|Input|Question|Response|Answer|Output)\s*:[ ]*\n?", re.I
    ),
)  # fmt: skip
"""What begins a turn and names who speaks."""
_ENDS = re.compile(
    r"(?:<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<end_of_turn>|<\|end\|>|<\|endoftext\|>|</s>|<eos>)\s*\Z"
)
_BEGINS = re.compile(r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>)\s*")
_INST = re.compile(r"\[INST\](?P<asked>.*?)\[/INST\](?P<said>.*?)(?=\[INST\]|\Z)", re.S)
_SYS = re.compile(r"\s*<<SYS>>(?P<told>.*?)<</SYS>>\s*", re.S)
_HEADINGS = {
    "instruction": "user", "input": "input", "question": "user", "response": "assistant", "output": "assistant",
    "answer": "assistant",
}  # fmt: skip
_PREAMBLE = re.compile(r"Below is an instruction that describes a task.{0,200}\Z", re.S)


def is_marked(text: str) -> bool:
    """Return whether `text` is a conversation with a model's marks, both sides in it."""
    head = text[:20_000]
    if not ("<" in head or "[INST]" in head or "##" in head):
        return False
    return {"user", "assistant"} <= {turn.speaker for turn in turns(head)}


def turns(text: str) -> list[Turn]:
    """Return the turns of a text with marks, each speaker a role; empty when it has none."""
    if "[INST]" in text:
        return _mistral(text)
    for mark in _MARKS:
        found = list(mark.finditer(text))
        if found:
            return _marked(text, found)
    return []


def _marked(text: str, found: list[re.Match[str]]) -> list[Turn]:
    made: list[Turn] = []
    before = _BEGINS.sub("", text[: found[0].start()]).strip()
    if before and not _PREAMBLE.search(before):
        made.append(Turn("system", before))
    for place, mark in enumerate(found):
        stop = found[place + 1].start() if place + 1 < len(found) else len(text)
        said = text[mark.end() : stop].strip()
        while _ENDS.search(said):
            said = _ENDS.sub("", said).strip()
        name = mark["who"].strip().lower()
        who = _HEADINGS.get(name) or role_of(name) or name
        if who == "input":
            if said and made:
                made[-1] = Turn(made[-1].speaker, f"{made[-1].text}\n\n{said}")
        else:
            made.append(Turn(who, said))
    if made and made[-1].speaker == "assistant" and not made[-1].text:
        made.pop()
    return made


def _mistral(text: str) -> list[Turn]:
    made: list[Turn] = []
    for part in _INST.finditer(text):
        asked = part["asked"]
        system = _SYS.search(asked)
        if system:
            made.append(Turn("system", system["told"].strip()))
            asked = asked[: system.start()] + asked[system.end() :]
        made.append(Turn("user", asked.strip()))
        answer = re.sub(r"</?s>", "", part["said"]).strip()
        if answer:
            made.append(Turn("assistant", answer))
    return made
