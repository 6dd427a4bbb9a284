"""What a column or key means by its name: who asks, who answers, which conversation, which label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

MEANINGS = {
    "user": """question query prompt instruction user customer human input customer_message user_message message_in
        user_query customer_query customer_question user_question client request inquiry enquiry frage pregunta
        complaint issue problem description ticket_description ticket_text ticket_body body email_body
        customer_text user_text user_input input_text source_text q ask utterance message text pergunta""",
    "assistant": """answer response output reply completion assistant agent bot chosen_response agent_reply
        agent_response agent_message bot_response assistant_message ai_response model_response support_response
        company_response resolution solution first_response agent_answer answer_text response_text agent_text
        output_text target_text antwort respuesta reponse réponse resposta a public_reply""",
    "system": "system system_prompt systemprompt system_message wizard_task",
    "conversation": """conversation_id conversationid conv_id convo_id dialogue_id dialogueid dialog_id dialogid
        chat_id chatid ticket_id ticketid ticket ticket_number thread_id threadid session_id sessionid
        case_id case_number call_id conversation dialogue
        chat thread session case conversation_no conv ticket_no group_id""",
    "speaker": """speaker role author sender from author_role author_type sender_type sender_role user_type participant
        participant_role party agent_or_customer speaker_role from_role actor who channel_role author_name sender_name
        message_from direction inbound incoming is_customer is_agent name persona
        sprecher rolle autor hablante locuteur absender""",
    "text": """text message utterance body content comment plain_body msg transcript_text value body_text message_text
        message_body reply html_body line turn_text sentence nachricht mensaje texto texte""",
    "order": """turn turn_number turnnumber turn_id turn_no turn_index turnid seq sequence position message_index index
        message_number message_no utterance_number timestamp created_at created sent_at time date datetime unixtime
        event_time""",
    "own": "tweet_id message_id comment_id post_id email_id id",
    "parent": """in_response_to_tweet_id in_response_to in_reply_to in_reply_to_id reply_to reply_to_id parent_id
        parent parent_message_id parent_comment_id""",
    "aside": "note is_note private is_private internal is_internal public is_public message_type event_type visibility",
    "transcript": "conversation transcript chat dialogue dialog chat_history chat_log chatlog history log",
}
"""Meaning → names in order of trust, each spelt with underscores; compared without case or spaces."""

LABELS = (
    "intent",
    "subflow",
    "intent_name",
    "category",
    "label",
    "topic",
    "queue",
    "task",
    "issue_type",
    "type",
)
"""Names that say what a conversation is about, in order of trust: the first one met becomes metadata.intent."""

_NAMES = {meaning: names.split() for meaning, names in MEANINGS.items()}
_MOST_TEXT = 2_000


@lru_cache(4_096)
def plain(name: str) -> str:
    """Return a column's name as it is compared: lower case, words joined by underscores, camel case split."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-./]+", "_", spaced).lower().strip("_")


def find(meaning: str, names: Iterable[str]) -> str | None:
    """Return the column among `names` that has `meaning` by its name, the most trusted one; None when there is none."""
    return _find(meaning, tuple(names))


@lru_cache(1_024)
def _find(meaning: str, names: tuple[str, ...]) -> str | None:
    known = {plain(name): name for name in reversed(names)}
    for wanted in _NAMES[meaning]:
        if wanted in known:
            return known[wanted]
        if wanted.replace("_", "") in known:
            return known[wanted.replace("_", "")]
    return None


def metadata(record: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """Return what a row keeps of `record` beside its messages: its `metadata`, all small values, and the intent.

    Objects are flattened with dotted names; long texts and lists stay out. `used` keys became messages.
    """
    kept: dict[str, Any] = {}
    own = record.get("metadata")
    taken = set(used) | {"metadata"}
    for name, value in record.items():
        if name not in taken:
            _keep(kept, name, value, 2)
    if isinstance(own, Mapping):
        kept.update({key: value for key, value in own.items() if isinstance(key, str)})
    if "intent" not in kept:
        intent = _intent(kept)
        if intent is not None:
            kept["intent"] = intent
    return kept


def _keep(kept: dict[str, Any], name: str, value: object, depth: int) -> None:
    if isinstance(value, str):
        if 0 < len(value) <= _MOST_TEXT:
            kept[name] = value
    elif isinstance(value, bool | int | float):
        kept[name] = value
    elif isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            _keep(kept, f"{name}.{key}", inner, depth - 1)
    elif isinstance(value, list) and 0 < len(value) <= 20:
        if all(isinstance(item, str | int | float) and len(str(item)) < 200 for item in value):
            kept[name] = value
        elif depth and isinstance(value[0], Mapping):
            _keep(kept, name, value[0], depth)


def _intent(kept: Mapping[str, Any]) -> str | None:
    leaves = {plain(name.rpartition(".")[2]): value for name, value in reversed(list(kept.items()))}
    for label in LABELS:
        value = leaves.get(label)
        if isinstance(value, str) and 0 < len(value) <= 80:
            return value
    return None
