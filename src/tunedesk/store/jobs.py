"""Launches (our intents), jobs as providers told them, their events and metric points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunedesk import db
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters, JobEvent, MetricPoint
from tunedesk.core.lineage import Lineage
from tunedesk.core.metrics import merge, point_from_event
from tunedesk.store.database import Database, decode, encode

INTENT = "intent"
"""Launch state: written down, nothing sent."""
TRAINING_UPLOADED = "training_uploaded"
"""Launch state: the training file is at the provider, verified."""
VALIDATION_UPLOADED = "validation_uploaded"
"""Launch state: all files are there; the job may be created next."""
CREATE_SENT = "create_sent"
"""Launch state: the request for a job is on its way or was; only the provider knows."""
ADOPTED = "adopted"
"""Launch state: the provider's job is known; the launch is over."""
ABANDONED = "abandoned"
"""Launch state: given up by the user before a job was asked for; the launch is over."""


@dataclass(frozen=True, slots=True)
class LaunchedFile:
    """A local file as a launch sends it."""

    path: str
    sha256: str
    """Of the bytes that are sent (with a byte-order mark where the provider wants one)."""
    bytes: int
    content_sha256: str = ""
    """Of the file itself, where a byte-order mark was put before it."""
    file: str | None = None
    """The provider's id, once it is there and verified."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a launch was expected to bill, before anything was sent."""

    conversations: int
    tokens_per_epoch: int
    """Each conversation cut at the model's limit."""
    n_epochs: int
    billed_tokens: int
    usd: float | None
    """US dollars; None where no price is known, 0 on this machine."""
    low: float | None
    high: float | None
    usd_per_million: float | None
    """The price that it was reckoned with."""
    price_as_of: str = ""
    seconds: float | None = None
    """How long it would take on this machine, where that could be told."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One intent to train: durable before anything is sent, ended by exactly one job."""

    id: str
    """Fresh and unguessable; sent as metadata and Idempotency-Key."""
    profile: str
    model: str
    training: LaunchedFile
    validation: LaunchedFile | None = None
    method: str = "supervised"
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    account: str = ""
    """Fingerprint of the key that it is sent with (never the key)."""
    state: str = INTENT
    at: float = 0.0
    """Unix seconds of the intent."""
    sent_at: float = 0.0
    """Unix seconds of the last request for a job, 0 before it."""
    jobs_before: tuple[str, ...] | None = None
    """Jobs on the same training file when the request was sent, which are not this launch's; None when unknown."""
    job: str | None = None
    error: str = ""
    """Why the last try ended, empty when it did not fail."""
    quote: Quote | None = None
    """None for launches of earlier versions, and where nobody estimated."""


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job that the store holds, with the profile that it lives at."""

    profile: str
    job: FineTuningJob


class JobTables:
    """Tables launches, jobs, events, points and checkpoints."""

    database: Database

    def add_launch(self, launch: Launch) -> None:
        """Write a new launch durably; a second one with the same id is refused (StoreError)."""
        self.database.write("INSERT INTO launches VALUES (?, ?, ?, ?, ?, ?)", *_columns(launch))

    def save_launch(self, launch: Launch) -> None:
        """Replace a launch durably; an adopted one never goes back to another state."""
        self.database.write(
            "UPDATE launches SET profile = ?2, state = ?3, at = ?4, job = ?5, body = ?6"
            " WHERE id = ?1 AND (job IS NULL OR job = ?5)",
            *_columns(launch),
        )

    def launch(self, launch: str) -> Launch | None:
        """Return one launch by its id, or None."""
        row = self.database.read_one("SELECT body FROM launches WHERE id = ?", launch)
        return decode(row["body"], Launch) if row else None

    def launch_of(self, profile: str, job: str) -> Launch | None:
        """Return the launch that made a job, or None when it was made elsewhere."""
        row = self.database.read_one("SELECT body FROM launches WHERE profile = ? AND job = ?", profile, job)
        return decode(row["body"], Launch) if row else None

    def launches(self, profile: str | None = None, *, unfinished: bool = False) -> list[Launch]:
        """Return launches, the newest first: of one profile, or only those that may still get a job."""
        rows = self.database.read(
            "SELECT body FROM launches WHERE (?1 IS NULL OR profile = ?1) AND (NOT ?2 OR state NOT IN (?3, ?4))"
            " ORDER BY at DESC, id",
            profile,
            unfinished,
            ADOPTED,
            ABANDONED,
        )
        return [decode(row["body"], Launch) for row in rows]

    def save_jobs(self, profile: str, jobs: Iterable[FineTuningJob]) -> None:
        """Keep jobs as the provider told them just now."""
        rows = [(profile, job.id, job.status, job.created_at, encode(job)) for job in jobs]
        with self.database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?)", rows)

    def job(self, job: str, profile: str | None = None) -> KnownJob | None:
        """Return a job by its id, at one profile or at any, or None."""
        row = self.database.read_one(
            "SELECT profile, body FROM jobs WHERE id = ?1 AND (?2 IS NULL OR profile = ?2)", job, profile
        )
        return _known(row) if row else None

    def jobs(self, profile: str | None = None) -> list[KnownJob]:
        """Return all known jobs, the newest first, of one profile or of all."""
        rows = self.database.read(
            "SELECT profile, body FROM jobs WHERE ?1 IS NULL OR profile = ?1 ORDER BY created_at DESC, id",
            profile,
        )
        return [_known(row) for row in rows]

    def add_events(
        self, profile: str, job: str, events: Iterable[JobEvent]
    ) -> tuple[list[JobEvent], list[MetricPoint]]:
        """Keep events that are new and the curve they tell, in one transaction; return what is new of both.

        New events come by (created_at, id); points as `save_points` returns them.
        """
        new: list[JobEvent] = []
        with self.database.writing() as connection:
            for event in sorted(events, key=lambda e: (e.created_at, e.id)):
                row = (profile, job, event.id, event.created_at, encode(event))
                if (
                    connection.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", row).rowcount
                    == 1
                ):
                    new.append(event)
            points = [point for event in new if (point := point_from_event(event))]
            return new, _merge_points(connection, (profile, job), points)

    def events(self, profile: str, job: str) -> list[JobEvent]:
        """Return a job's events by (created_at, id)."""
        rows = self.database.read(
            "SELECT body FROM events WHERE profile = ? AND job = ? ORDER BY created_at, id", profile, job
        )
        return [decode(row["body"], JobEvent) for row in rows]

    def save_checkpoints(self, profile: str, job: str, checkpoints: Iterable[Checkpoint]) -> None:
        """Keep a job's checkpoints, also those that the provider will drop."""
        rows = [(profile, job, one.id, one.step, encode(one)) for one in checkpoints]
        with self.database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)", rows)

    def checkpoints(self, profile: str, job: str) -> list[Checkpoint]:
        """Return a job's known checkpoints by step."""
        rows = self.database.read(
            "SELECT body FROM checkpoints WHERE profile = ? AND job = ? ORDER BY step, id", profile, job
        )
        return [decode(row["body"], Checkpoint) for row in rows]

    def save_points(self, profile: str, job: str, points: Iterable[MetricPoint]) -> list[MetricPoint]:
        """Merge points into a job's curve by step; return those that are new or say more than before."""
        with self.database.writing() as connection:
            return _merge_points(connection, (profile, job), points)

    def points(self, profile: str, job: str) -> list[MetricPoint]:
        """Return a job's curve by step."""
        rows = self.database.read(
            "SELECT body FROM points WHERE profile = ? AND job = ? ORDER BY step", profile, job
        )
        return [decode(row["body"], MetricPoint) for row in rows]


def _merge_points(
    connection: db.Connection, job: tuple[str, str], points: Iterable[MetricPoint]
) -> list[MetricPoint]:
    changed: list[MetricPoint] = []
    for point in merge(points):
        key = (*job, point.step)
        row = connection.execute(
            "SELECT body FROM points WHERE profile = ? AND job = ? AND step = ?", key
        ).fetchone()
        known = decode(row["body"], MetricPoint) if row else None
        merged = merge([known, point])[0] if known else point
        if merged != known:
            connection.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?)", (*key, encode(merged)))
            changed.append(merged)
    return changed


def _columns(launch: Launch) -> tuple[str, str, str, float, str | None, bytes]:
    return (launch.id, launch.profile, launch.state, launch.at, launch.job, encode(launch))


def _known(row: db.Row) -> KnownJob:
    return KnownJob(row["profile"], decode(row["body"], FineTuningJob))
