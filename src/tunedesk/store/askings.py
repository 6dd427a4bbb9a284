"""What was asked of models for our own purposes and may have cost something, such as a judge's verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from tunedesk.store.database import Database, decode, encode


@dataclass(frozen=True, slots=True)
class Asking:
    """Many questions to one model, summed up."""

    at: float
    """Unix seconds."""
    purpose: str
    """Such as `judging`."""
    profile: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """US dollars; None where no price is known, 0 on this machine."""


class AskingTables:
    """Table askings."""

    database: Database

    def add_asking(self, asking: Asking) -> None:
        """Keep one, durably."""
        self.database.write("INSERT INTO askings (at, body) VALUES (?, ?)", asking.at, encode(asking))

    def askings(self) -> list[Asking]:
        """Return all, the newest first."""
        return [
            decode(row["body"], Asking)
            for row in self.database.read("SELECT body FROM askings ORDER BY at DESC")
        ]
