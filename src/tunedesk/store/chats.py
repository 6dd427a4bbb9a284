"""Chats turn by turn, and journeys step by step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tunedesk.store.database import Database, decode, encode


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One message of a chat: what the user said, or what one model answered."""

    role: str
    text: str
    profile: str = ""
    model: str = ""
    """Empty for the user's own messages."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float | None = None
    """Seconds to the first text."""
    total_s: float = 0.0
    """Seconds to the end."""
    system_fingerprint: str | None = None
    """Which weights answered, where the endpoint tells it."""
    error: str = ""
    """Why the answer is not whole, empty when it is."""


@dataclass(frozen=True, slots=True)
class ChatEntry:
    """A kept chat as it is listed."""

    id: int
    at: float
    """Unix seconds of its start."""
    title: str


@dataclass(frozen=True, slots=True)
class Journey:
    """How far one run of the whole journey has come."""

    key: str
    started_at: float
    """Unix seconds."""
    steps: dict[str, dict[str, Any]]
    """What each finished step left, in the order they were finished."""


class ChatTables:
    """Tables chats, chat_turns, journeys and journey_steps."""

    database: Database

    def start_chat(self, title: str) -> int:
        """Begin a chat and return its id."""
        return self.database.write("INSERT INTO chats (at, title) VALUES (?, ?)", time.time(), title)

    def add_turn(self, chat: int, turn: ChatTurn) -> None:
        """Keep one message of a chat, durably."""
        self.database.write(
            "INSERT INTO chat_turns (chat, at, body) VALUES (?, ?, ?)", chat, time.time(), encode(turn)
        )

    def chats(self) -> list[ChatEntry]:
        """Return kept chats, the newest first."""
        rows = self.database.read("SELECT id, at, title FROM chats ORDER BY id DESC")
        return [ChatEntry(*row) for row in rows]

    def chat_turns(self, chat: int) -> list[ChatTurn]:
        """Return a chat's messages in order."""
        rows = self.database.read("SELECT body FROM chat_turns WHERE chat = ? ORDER BY id", chat)
        return [decode(row["body"], ChatTurn) for row in rows]

    def journey(self, key: str) -> Journey | None:
        """Return the journey of this key with its finished steps, or None when it was never begun."""
        row = self.database.read_one("SELECT key, started_at FROM journeys WHERE key = ?", key)
        if row is None:
            return None
        steps = self.database.read(
            "SELECT step, payload FROM journey_steps WHERE journey = ? ORDER BY at, rowid", key
        )
        return Journey(
            row["key"], row["started_at"], {s["step"]: decode(s["payload"], dict[str, Any]) for s in steps}
        )

    def save_journey_step(self, key: str, step: str, payload: dict[str, Any]) -> None:
        """Keep what a step of a journey left (plain JSON data), durably; a step saved again replaces the first."""
        now = time.time()
        with self.database.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO journeys VALUES (?, ?)", (key, now))
            connection.execute(
                "INSERT INTO journey_steps VALUES (?, ?, ?, ?)"
                " ON CONFLICT (journey, step) DO UPDATE SET payload = excluded.payload",
                (key, step, now, encode(payload)),
            )

    def forget_journey(self, key: str) -> None:
        """Drop a journey, so that the next run of it begins afresh; its jobs and datasets stay."""
        self.database.write("DELETE FROM journeys WHERE key = ?", key)
