"""Tables of one message a row (tickets, chats) as conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.importing import columns, html_text, moments, threads
from tunedesk.core.importing.roles import Turn, are_numbered, role_of, said
from tunedesk.core.importing.rows import NotARow, Options, spoken_row, with_system
from tunedesk.core.importing.sources import Item
from tunedesk.errors import DataError

_TRUE = ("true", "1", "yes", "y", "t", "ja", "oui", "si", "sí", "sim")
_FALSE = ("false", "0", "no", "n", "f", "nein", "non", "não")
_NOTES = ("note", "internal", "private", "intern", "interne", "interno", "privat", "privado", "notiz", "nota")
"""Words in a cell about a message's kind that make it a note among colleagues."""
_EVENTS = (
    "assign", "close", "snooze", "open", "status", "system", "audit", "event", "attribute", "tag", "merge", "join",
    "left", "transfer",
)  # fmt: skip
"""Beginnings and ends of a message's kind that say something happened, and nobody said anything."""
_LONGEST_NAME = 40
_SHARED_SPEAKERS = (
    "author_id",
    "sender_id",
    "user_id",
    "from_id",
    "author",
    "sender",
    "from",
    "author_email",
)
"""Columns of ids, one of which names the customer where another column says who asked for the ticket."""


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """Which columns of a table of messages mean what; an empty name where there is none."""

    conversation: str
    speaker: str
    text: str
    order: str = ""
    asides: tuple[str, ...] = ()
    """Columns that tell notes and events from what was said."""
    own: str = ""
    """The message's own id, where `conversation` names the message it answers instead of a conversation."""
    requester: str = ""
    """The customer's id, where `speaker` holds ids: whoever has another one is an agent."""

    def role(self, record: Mapping[str, Any]) -> str | None:
        """Return the role of who speaks in `record`, None when the cell does not tell."""
        cell = said(record.get(self.speaker))
        if self.requester:
            return "user" if cell.strip() == said(record.get(self.requester)).strip() else "assistant"
        return side(self.speaker, cell)


def turn_columns(sample: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> TurnColumns | None:
    """Return the columns when `sample` looks like one message a row (an id, a speaker, a text); None when it does not.

    Raises DataError when ids repeat and texts are there, but no column says who speaks.
    """
    if not sample or not all(isinstance(record, Mapping) for record in sample):
        return None
    names = [str(name) for name in sample[0]]
    conversation = mapping.get("conversation") or columns.find("conversation", names)
    own = ""
    if conversation is None:
        conversation, own = columns.find("parent", names), columns.find("own", names) or ""
        conversation = conversation if own else None
    if conversation is None:
        return _undivided(sample, names, mapping)
    rest = [name for name in names if name != conversation]
    speaker, requester = _speaker(sample, rest, mapping)
    text = mapping.get("text") or columns.find("text", [name for name in rest if name != speaker])
    ids = [said(record.get(conversation)) for record in sample]
    repeated = len(set(ids)) < len(ids) and all(len(one) < 200 for one in ids)
    if text is None or not (own or repeated or {"conversation", "speaker"} <= set(mapping)):
        return None
    if not speaker:
        if columns.find("assistant", [name for name in rest if name != text]) is not None:
            return None
        raise DataError(
            f"the table has one message a row (by {conversation!r}), but no column says who speaks",
            f"Columns: {', '.join(names)}. Name it with --map speaker=COLUMN, or it has the customers' side only.",
        )
    return TurnColumns(
        conversation, speaker, text, mapping.get("order") or columns.find("order", rest) or "",
        _asides(rest, (speaker, text)), own, requester,
    )  # fmt: skip


def _undivided(
    sample: Sequence[Mapping[str, Any]], names: list[str], mapping: Mapping[str, str]
) -> TurnColumns | None:
    """Return the columns of a table with who speaks and what is said, but nothing that tells conversations apart."""
    speaker, _ = _speaker(sample, names, mapping)
    text = mapping.get("text") or columns.find("text", [name for name in names if name != speaker])
    if not speaker or text is None or len(sample) < 2:
        return None
    roles = {side(speaker, said(record.get(speaker))) for record in sample}
    if not ("speaker" in mapping or ({"user", "assistant"} <= roles and None not in roles)):
        return None
    return TurnColumns("", speaker, text, asides=_asides(names, (speaker, text)))


def _asides(names: Iterable[str], used: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in used and columns.trust("aside", name) is not None)


def _speaker(
    sample: Sequence[Mapping[str, Any]], names: Sequence[str], mapping: Mapping[str, str]
) -> tuple[str, str]:
    """Return the most trusted speaker column that names sides; where it holds ids, also that of the customer's."""
    if "speaker" in mapping:
        return mapping["speaker"], ""
    candidates = [name for name in names if columns.trust("speaker", name) is not None]
    candidates.sort(key=lambda name: columns.trust("speaker", name) or 0)
    for name in candidates:
        if {side(name, said(record.get(name))) for record in sample} >= {"user", "assistant"}:
            return name, ""
    for name in (one for one in names if columns.plain(one) in _SHARED_SPEAKERS):
        for requester in (
            one for one in names if columns.trust("requester", one) is not None and one != name
        ):
            same = [said(record.get(name)) == said(record.get(requester)) for record in sample]
            if any(same) and not all(same):
                return name, requester
    for name in names:
        cells = [said(record.get(name)).strip() for record in sample]
        told = [role_of(cell) for cell in cells if cell]
        if {"user", "assistant"} <= set(told) and None not in told and max(map(len, cells)) <= _LONGEST_NAME:
            return name, ""
    several = candidates and len({said(record.get(candidates[0])) for record in sample}) > 1
    return (candidates[0], "") if several else ("", "")


def know_someone(sample: Sequence[Mapping[str, Any]], names: TurnColumns, mapping: Mapping[str, str]) -> None:
    """Raise DataError when the speaker column names nobody whose side is known."""
    known = Options(mapping).known_roles()
    cells = list(dict.fromkeys(said(record.get(names.speaker)).strip() for record in sample))
    if known or names.requester or any(side(names.speaker, cell) for cell in cells):
        return
    told = [cell for cell in cells if cell]
    if len(told) > 1 and names.conversation and all(are_numbered(told[0], cell) for cell in told[1:]):
        return
    first, second = (*told, "NAME", "NAME")[:2]
    raise DataError(
        f"{names.speaker!r} names {', '.join(told[:6])}{' …' if len(told) > 6 else ''}: who is the customer?",
        f"--map speaker={names.speaker},user={first},assistant={second}; several names are parted by |",
    )


_CUSTOMERS = frozenset(
    ["inbound", "incoming", "is_customer", "is_inbound", "is_incoming", "from_customer", "is_from_customer"]
)
"""Columns whose "true" says that the customer speaks."""
_AGENTS = frozenset(
    ["is_agent", "from_agent", "waiter_send", "is_from_agent", "outbound", "outgoing", "is_outbound"]
)


def side(column: str, cell: str) -> str | None:
    """Return the role that a cell of a speaker column names; true and false are read by the column's name."""
    word = cell.strip().lower()
    name = columns.plain(column)
    if name in _CUSTOMERS | _AGENTS and word in (*_TRUE, *_FALSE):
        return "user" if (word in _TRUE) != (name in _AGENTS) else "assistant"
    if "direction" in name and word in ("in", "out", "received", "sent", "i", "o"):
        return "user" if word in ("in", "received", "i") else "assistant"
    return role_of(cell)


@dataclass(slots=True)
class _Talk:
    first: int
    record: dict[str, Any]
    turns: list[tuple[str, Turn]] = field(default_factory=list)


def conversations(
    cells: Iterable[Item], names: TurnColumns, options: Options, skip: Callable[[int, str], None]
) -> Iterator[SourceRow]:
    """Yield the conversations of a table of messages, regrouped by id, in the order of their first message.

    `skip(line, reason)` is called for every message that goes into none, and once, on the line of its first
    message, for every conversation that cannot be used.
    """
    if names.own:
        cells = threads.threaded(cells, names.own, names.conversation)
        names = replace(names, conversation=threads.THREAD, order=threads.DEPTH)
    talks = _talks(cells, names, options, skip)
    days_first = moments.day_first(key for talk in talks for key, _ in talk.turns[:1])
    used = (names.speaker, names.text, names.order, *names.asides)
    for talk in talks:
        try:
            turns = _ordered(talk.turns, days_first, columns.plain(names.speaker) in ("role", "from"))
            row: Row = spoken_row(turns, talk.record, options, used)
        except NotARow as error:
            several = f" ({len(talk.turns)} messages)" if len(talk.turns) > 1 else ""
            skip(talk.first, f"{error}{several}")
            continue
        yield SourceRow(talk.first, with_system(row, options.system))


def _talks(
    cells: Iterable[Item], names: TurnColumns, options: Options, skip: Callable[[int, str], None]
) -> list[_Talk]:
    talks: dict[str, _Talk] = {}
    known = options.known_roles()
    count = 0
    for cell in cells:
        reason = cell.fault or _unfit(cell.record, names)
        if reason:
            skip(cell.line, reason)
            continue
        record = cell.record
        speaker = said(record[names.speaker])
        role = known.get(speaker.strip().lower()) or names.role(record) or speaker
        count += not names.conversation and role == "system"
        key = said(record[names.conversation]).strip() if names.conversation else str(count)
        talk = talks.setdefault(key, _Talk(cell.line, record))
        text = said(record[names.text])
        turn = Turn(role, html_text.read(text), cell.line)
        talk.turns.append((said(record.get(names.order)).strip(), turn))
    return list(talks.values())


def _unfit(record: Mapping[str, Any], names: TurnColumns) -> str:
    if names.conversation and not said(record.get(names.conversation)).strip():
        return f"{names.conversation} is empty"
    for column in names.asides:
        if reason := aside(column, record.get(column)):
            return reason
    if role_of(said(record.get(names.speaker))) == "aside":
        return "not said by customer or agent"
    if not said(record.get(names.text)).strip():
        return "the message is empty"
    if not said(record.get(names.speaker)).strip():
        return f"{names.speaker} is empty"
    return ""


def aside(column: str, cell: object) -> str:
    """Return why a message is none between customer and agent, by a cell about its kind; nothing when it is one."""
    word, name = columns.plain(said(cell)), columns.plain(column)
    if word in (*_TRUE, *_FALSE):
        public = "public" in name
        return "an internal note" if (word in _FALSE) == public else ""
    parts = set(word.split("_"))
    if parts & set(_NOTES):
        return "an internal note"
    happened = any(part.startswith(_EVENTS) for part in parts) and not parts & {"comment", "reply", "message"}
    return "an event, not a message" if happened else ""


def _ordered(turns: list[tuple[str, Turn]], days_first: bool, prompted: bool) -> list[Turn]:
    """Return the turns sorted by the order column where all its cells are numbers or times that are known.

    Where an agent speaks, what the "system" says is an automatic event of the ticket; but its first word is a system
    prompt where the conversation may be `prompted`, as one with a model.
    """
    at = [moments.moment(key, days_first=days_first) for key, _ in turns]
    pairs = list(enumerate(turns))
    if all(one is not None for one in at):
        pairs.sort(key=lambda pair: at[pair[0]] or 0.0)
    ordered = [turn for _, (_, turn) in pairs]
    if all(role_of(turn.speaker) != "assistant" for turn in ordered):
        return ordered
    return [
        replace(turn, speaker="event")
        if role_of(turn.speaker) == "system" and (place or not prompted)
        else turn
        for place, turn in enumerate(ordered)
    ]
