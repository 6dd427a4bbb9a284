"""Launches that wait for their turn, in order, with what may stop them; and the checkpoints that the user starred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tunedesk import db
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.core.lineage import Lineage
from tunedesk.store.database import Database, decode, encode

WAITING = "waiting"
"""State of a place that has not begun; the others are running, a job's final status, and `not started`."""


@dataclass(frozen=True, slots=True)
class QueuedLaunch:
    """One place in the queue: what is asked for, and what came of it."""

    profile: str
    model: str
    training: str
    """Path of the training file."""
    launch: str
    """Id chosen beforehand, so that whoever goes on with the queue finds its job and makes no second one."""
    validation: str = ""
    """Path of the validation file, empty without one."""
    method: str = "supervised"
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    suffix: str | None = None
    seed: int | None = None
    lineage: Lineage = field(default_factory=Lineage)
    usd: float | None = None
    """Most that it may cost; what it cost once that is known; None when unknown."""
    state: str = WAITING
    job: str | None = None
    fine_tuned_model: str | None = None
    train_loss: float | None = None
    valid_loss: float | None = None
    reason: str = ""
    """Why it failed or was not started."""
    id: int = 0
    """Number in the store, 0 before it is kept; not in the body."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """Whether the queue runs, and when it stops by itself."""

    running: bool = False
    budget: float | None = None
    """US dollars for all its places together; what may go above it is not started."""
    failures: int | None = None
    """Failed jobs after which nothing more is started."""


class QueueTables:
    """Tables queue, queue_rules and stars."""

    database: Database

    def enqueue(self, places: Sequence[QueuedLaunch]) -> list[int]:
        """Put launches at the end of the queue, durably, in one transaction; return their numbers."""
        numbers = []
        with self.database.writing() as connection:
            for one in places:
                number = connection.execute(
                    "INSERT INTO queue (place, body) VALUES ((SELECT COALESCE(MAX(place), 0) + 1 FROM queue), ?)",
                    (encode(one),),
                ).lastrowid
                numbers.append(number or 0)
        return numbers

    def queue(self) -> list[QueuedLaunch]:
        """Return all places in order."""
        return [_place(row) for row in self.database.read("SELECT id, body FROM queue ORDER BY place")]

    def save_place(self, place: QueuedLaunch) -> None:
        """Replace a place's body, durably; one that was taken out stays out."""
        self.database.write("UPDATE queue SET body = ? WHERE id = ?", encode(replace(place, id=0)), place.id)

    def forget_places(self, numbers: Sequence[int]) -> None:
        """Take places out of the queue."""
        with self.database.writing() as connection:
            connection.executemany("DELETE FROM queue WHERE id = ?", [(number,) for number in numbers])

    def swap_places(self, one: int, other: int) -> None:
        """Let two places change their turn."""
        with self.database.writing() as connection:
            order = {
                row["id"]: row["place"]
                for row in connection.execute("SELECT id, place FROM queue WHERE id IN (?, ?)", (one, other))
            }
            if len(order) == 2:
                connection.execute("UPDATE queue SET place = ? WHERE id = ?", (order[other], one))
                connection.execute("UPDATE queue SET place = ? WHERE id = ?", (order[one], other))

    def queue_rules(self) -> QueueRules:
        """Return whether the queue runs and what stops it."""
        row = self.database.read_one("SELECT body FROM queue_rules WHERE one = 1")
        return decode(row["body"], QueueRules) if row else QueueRules()

    def save_queue_rules(self, rules: QueueRules) -> None:
        """Keep whether the queue runs and what stops it, durably."""
        self.database.write("INSERT OR REPLACE INTO queue_rules VALUES (1, ?)", encode(rules))

    def star(self, profile: str, job: str, checkpoint: str) -> None:
        """Keep the user's best checkpoint of a job; an empty one takes the star away."""
        if checkpoint:
            self.database.write("INSERT OR REPLACE INTO stars VALUES (?, ?, ?)", profile, job, checkpoint)
        else:
            self.database.write("DELETE FROM stars WHERE profile = ? AND job = ?", profile, job)

    def starred(self, profile: str, job: str) -> str:
        """Return the id of the checkpoint that the user starred, empty when there is none."""
        row = self.database.read_one(
            "SELECT checkpoint FROM stars WHERE profile = ? AND job = ?", profile, job
        )
        return str(row["checkpoint"]) if row else ""


def _place(row: db.Row) -> QueuedLaunch:
    return replace(decode(row["body"], QueuedLaunch), id=row["id"])
