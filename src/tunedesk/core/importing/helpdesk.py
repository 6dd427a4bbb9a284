"""Tickets and conversations as help desks export them in JSON: Zendesk, Intercom, Freshdesk, Help Scout, HubSpot …

They differ in names, not in kind: a list of messages, each with an author told by role, by a flag, or by an id that is
the requester's or not; with HTML or plain bodies; with notes among colleagues and events between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunedesk.core.importing import columns, elements, html_text, moments
from tunedesk.core.importing.roles import Turn, role_of, said

_LISTS = (
    "comments", "conversation_parts", "threads", "conversations", "messages", "replies", "events", "parts", "emails",
    "email_messages", "interactions", "posts", "entries", "items", "results", "records", "case_comments",
)  # fmt: skip
_TEXTS = (
    "stripped_text", "plain_body", "body_text", "text_body", "text", "body", "content", "message", "html_body",
    "body_html", "comment_body", "description_text", "description",
)  # fmt: skip
_OPENING = ("description_text", "description", "initial_message", "body")
_AUTHORS = ("author", "sender", "created_by", "from", "user", "participant", "actor", "poster")
_AUTHOR_IDS = ("author_id", "user_id", "sender_id", "from_id", "created_by_id", "authorid")
_REQUESTERS = (
    "requester_id",
    "requester",
    "customer_id",
    "customer",
    "contact_id",
    "contact",
    "user_id",
    "reporter",
    "creator",
)
_AUTHOR_KINDS = ("author_role", "author_type", "sender_type", "user_type", "sender_role", "type")
_INCOMING = {"incoming": True, "is_inbound": True, "inbound": True, "from_agent": False, "is_agent": False,
             "is_customer": True, "from_customer": True, "is_incoming": True, "outbound": False}  # fmt: skip
"""Flags that say who speaks: whether "true" means the customer."""
_PUBLIC = {"private": False, "internal": False, "is_private": False, "is_internal": False, "is_note": False,
           "public": True, "is_public": True, "jsd_public": True}  # fmt: skip
"""Flags that say whether the customer saw it: whether "true" means yes."""
_KINDS = ("part_type", "subtype", "type", "kind", "event_type", "message_type", "state")
_EVENTS = (
    "lineitem",
    "event",
    "audit",
    "status",
    "service",
    "notification",
    "join",
    "leave",
    "channel_join",
)
_TIMES = ("created_at", "created", "timestamp", "date", "sent_at", "time", "ts", "created_time")
_MARKS = frozenset((*_AUTHOR_IDS, *_INCOMING, *_PUBLIC, "part_type", "direction", "created_by"))
"""Keys of a message that only help desks write."""

Record = Mapping[str, Any]


def is_ticket(record: Record) -> bool:
    """Return whether `record` is a ticket with its messages."""
    return bool(_messages(record))


def turns(record: Record) -> list[Turn]:
    """Return what was said in a ticket in the order of its times; notes and events have the speaker `note`."""
    messages = _messages(record)
    asked = _requester(record)
    if not asked:
        spoken = [one for one in messages if _body(one) and not is_hidden(one)]
        ids = [author for one in spoken if (author := _author_id(one)) and not _told_role(one)]
        asked = ids[0] if ids else ""
    agents = _agents(record)
    noted = any(_word(one, "type") == "message" and "direction" in one for one in messages)
    found = [(_time(one), _turn(one, asked, agents, noted)) for one in messages]
    if all(at is not None for at, _ in found):
        found.sort(key=lambda pair: pair[0] or 0.0)
    said_there = [turn for _, turn in found if turn.text]
    opening = _opening(record)
    known = {" ".join(turn.text.split()) for turn in said_there}
    return [turn for turn in opening if " ".join(turn.text.split()) not in known] + said_there


def used_keys(record: Record) -> list[str]:
    """Return the keys of a ticket that become its messages."""
    return [
        key for key in record if columns.plain(key) in (*_LISTS, *_OPENING, "source", "embedded", "users")
    ]


def _plain(record: Record) -> dict[str, Any]:
    return {columns.plain(str(key)): value for key, value in record.items()}


def _messages(record: Record, depth: int = 2) -> list[dict[str, Any]]:
    """Return the messages of a ticket with plain keys; empty when `record` is none."""
    bare = _plain(record)
    for key in (*_LISTS, "ticket", "case", "conversation", "embedded", "data", "fields", "comment"):
        value = bare.get(key)
        if isinstance(value, Mapping) and depth:
            if inner := _messages(value, depth - 1):
                return inner
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            plain = [_plain(one) for one in value]
            if (
                any(_MARKS & one.keys() and _body(one) is not None for one in plain)
                and "role" not in plain[0]
            ):
                return plain
    return []


def _body(message: Record) -> str | None:
    for name in _TEXTS:
        value = message.get(name)
        value = elements.words(value) if isinstance(value, list) and value else value
        if isinstance(value, str) and value.strip():
            return html_text.to_text(value) if html_text.is_html(value) or "html" in name else value.strip()
    return "" if any(name in message for name in _TEXTS) else None


def _turn(message: Record, asked: str, agents: frozenset[str], noted: bool) -> Turn:
    text = _body(message) or ""
    if is_hidden(message, noted=noted):
        return Turn("note", text)
    role = _told_role(message)
    if not role:
        author = _author_id(message)
        role = (
            "assistant" if author in agents or (author and author != asked) else "user" if author else "note"
        )
    return Turn(role, text)


def is_hidden(message: Record, *, noted: bool = False) -> bool:
    """Return whether a message with plain keys is a note or an event; `noted` where comments are notes."""
    for flag, means_seen in _PUBLIC.items():
        value = message.get(flag)
        if isinstance(value, bool) and value != means_seen:
            return True
    kinds = [word for key in _KINDS if (word := _word(message, key))]
    if noted and "comment" in kinds:
        return True
    return any("note" in word or word in _EVENTS for word in kinds)


def _told_role(message: Record) -> str | None:
    """Return the role that a message tells by a flag, a direction, or its author's kind."""
    for flag, means_customer in _INCOMING.items():
        if isinstance(message.get(flag), bool):
            return "user" if message[flag] == means_customer else "assistant"
    direction = said(message.get("direction")).lower()
    if direction:
        return "user" if direction.startswith("in") else "assistant"
    if said(_kinds_of(message.get("created_by"))[1]).lower() == "user":
        return "assistant"  # Help Scout calls its agents users, and its users customers
    words = [word for key in _AUTHORS for word in _kinds_of(message.get(key))]
    words += [message.get(key) for key in _AUTHOR_KINDS]
    roles = (role_of(word) for word in words if isinstance(word, str))
    return next((role for role in roles if role in ("user", "assistant")), None)


def _kinds_of(author: object) -> list[object]:
    bare = _plain(author) if isinstance(author, Mapping) else {"type": author}
    return [bare.get(kind) for kind in ("role", "type", "kind")]


def _author_id(message: Record) -> str:
    for key in (*_AUTHOR_IDS, *_AUTHORS):
        value = message.get(key)
        value = _id_in(value)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return ""


def _id_in(value: object) -> object:
    return value.get("id", value.get("accountId")) if isinstance(value, Mapping) else value


def _requester(record: Record) -> str:
    """Return the id of who asked for the ticket, at most one object deep."""
    for part in _parts(record):
        for key in _REQUESTERS:
            value = part.get(key)
            value = _id_in(value)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return str(value)
    return ""


def _agents(record: Record) -> frozenset[str]:
    """Return the ids of those whom a list of users beside the messages names agents."""
    users = _plain(record).get("users")
    listed: Sequence[Any] = users if isinstance(users, list) else ()
    return frozenset(
        str(user["id"])
        for user in listed
        if isinstance(user, Mapping) and "id" in user and said(user.get("role")).lower() in ("agent", "admin")
    )


def _opening(record: Record) -> Iterator[Turn]:
    """Yield what the customer wrote to open the ticket, where it stands apart from the messages."""
    for part in _parts(record):
        source = part.get("source")
        if isinstance(source, Mapping):
            bare = _plain(source)
            text = _body(bare)
            if text:
                yield Turn(_told_role(bare) or "user", text)
                return
    for part in _parts(record):
        for key in _OPENING:
            text = _body({key: part[key]}) if isinstance(part.get(key), str) else ""
            if text:
                yield Turn("user", text)
                return


def _parts(record: Record) -> list[dict[str, Any]]:
    bare = _plain(record)
    return [
        bare,
        *(
            _plain(bare[key])
            for key in ("ticket", "case", "conversation", "fields")
            if isinstance(bare.get(key), Mapping)
        ),
    ]


def _word(message: Record, key: str) -> str:
    value = message.get(key)
    return columns.plain(value) if isinstance(value, str) else ""


def _time(message: Record) -> float | None:
    for key in _TIMES:
        value = message.get(key)
        if isinstance(value, str | int | float):
            return moments.moment(str(value))
    return None
