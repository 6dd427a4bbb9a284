"""What is known of one job, grown update by update, and how its figures are put in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tunedesk.core.counting.pricing import Price, price_for
from tunedesk.core.diagnosis import Diagnosis, diagnose
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, JobEvent, MetricPoint
from tunedesk.core.metrics import best_checkpoint, steps_per_second
from tunedesk.jobs import CheckpointSeen, EventSeen, JobChanged, PointSeen, PollFailed, Update
from tunedesk.store import Launch, Quote

SIGNS = {
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "running": "▶",
    "paused": "‖",
    "queued": "…",
    "validating_files": "…",
    "waiting": "…",
    "not started": "–",
}
"""A sign before each status, so that the list can be scanned; other words get a question mark."""

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as the screen shows it; each batch of updates makes a new one."""

    profile: str = ""
    job: FineTuningJob | None = None
    events: dict[str, JobEvent] = field(default_factory=dict)
    """By id, in the order they are shown."""
    points: dict[int, MetricPoint] = field(default_factory=dict)
    """By step."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """By step."""
    starred: str = ""
    """Id of the checkpoint that the user holds for the best, empty when none."""
    launch: Launch | None = None
    """The launch that made it, None when it was made elsewhere."""
    trouble: str = ""
    """Why the provider could not be asked last time; empty when it answered."""

    def take(self, updates: Iterable[Update]) -> JobView:
        """Return the view after `updates`; what was told before is not shown twice."""
        job, events, points, trouble = self.job, dict(self.events), dict(self.points), self.trouble
        checkpoints = {one.id: one for one in self.checkpoints}
        for update in updates:
            trouble = ""
            match update:
                case JobChanged(job=changed):
                    job = changed
                case EventSeen(event=event):
                    events[event.id] = event
                case PointSeen(point=point):
                    points[point.step] = point
                case CheckpointSeen(checkpoint=checkpoint):
                    checkpoints[checkpoint.id] = checkpoint
                case PollFailed(error=error, retry_in=wait):
                    trouble = f"{error.message}; asking again in {wait:.0f} s"
        by_step = tuple(sorted(checkpoints.values(), key=lambda one: one.step))
        return replace(self, job=job, events=events, points=points, trouble=trouble, checkpoints=by_step)

    @property
    def curve(self) -> list[MetricPoint]:
        """The points by rising step."""
        return [self.points[step] for step in sorted(self.points)]

    @property
    def key(self) -> tuple[str, str]:
        """The profile and the job's id, empty while there is none."""
        return (self.profile, self.job.id if self.job else "")

    @property
    def best(self) -> Checkpoint | None:
        """The checkpoint that the user starred, else the one with the lowest validation loss, else None."""
        starred = next((one for one in self.checkpoints if one.id == self.starred), None)
        return starred or best_checkpoint(self.checkpoints, self.points)

    def diagnosis(self) -> list[Diagnosis]:
        """Return what the curve says, in plain words."""
        epochs = self.job.hyperparameters.n_epochs if self.job else None
        held_back = self.launch.lineage.validation or None if self.launch else None
        return diagnose(
            self.curve, n_epochs=epochs if isinstance(epochs, int) else None, validation=held_back
        )

    @property
    def is_complete(self) -> bool:
        """Whether the job is over and all it had to tell is here, so that nobody needs to be asked."""
        if self.job is None or not self.job.is_final or not self.events or self.job.finished_at is None:
            return False
        return max(event.created_at for event in self.events.values()) >= self.job.finished_at


def status_text(status: str) -> str:
    """Return a status with its sign."""
    return f"{SIGNS.get(status, '?')} {status}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 45 s, 3 m 05 s, 2 h 10 m, 3 d 4 h."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} m {total % 60:02} s"
    if total < 86_400:
        return f"{total // 3600} h {total % 3600 // 60:02} m"
    return f"{total // 86_400} d {total % 86_400 // 3600} h"


def elapsed(job: FineTuningJob, now: float) -> float:
    """Return the seconds from the job's creation to its end, or to `now`; 0 where the clocks say that it is to come."""
    return max(0.0, (job.finished_at or now) - job.created_at) if job.created_at else 0.0


def seconds_left(job: FineTuningJob, points: Sequence[MetricPoint], now: float) -> float | None:
    """Return the seconds a running job will still take: its own word, else from the speed of its last steps.

    Its own word is a time of the provider's clock: one that the steps belie by hours says that the clocks differ.
    """
    if job.status != "running":
        return None
    speed = steps_per_second(points)
    last = points[-1] if points else None
    measured = (last.total_steps - last.step) / speed if speed and last and last.total_steps else None
    if not job.estimated_finish:
        return measured
    told = max(0.0, job.estimated_finish - now)
    return measured if measured is not None and abs(told - measured) > max(_HOUR, 4 * measured) else told


def step_text(points: Sequence[MetricPoint]) -> str:
    """Return the last step told, of how many; empty before the first."""
    if not points:
        return ""
    total = points[-1].total_steps
    return f"{points[-1].step}/{total}" if total else str(points[-1].step)


def tokens(count: int) -> str:
    """Return a number of tokens in at most six characters."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e6:.2f}M" if count >= 1e6 else f"{count / 1e3:.0f}k"


def dollars(job: FineTuningJob, prices: dict[str, Price], quote: Quote | None = None) -> float | None:
    """Return what the job cost, US dollars, by the price that it was launched with or today's; None when unknown."""
    price = price_for(job.model, prices)
    per_million = quote.usd_per_million if quote else None
    if per_million is None and price is not None:
        per_million = price.training
    if per_million is None or job.trained_tokens is None:
        return None
    return per_million * job.trained_tokens / 1e6


def cost(job: FineTuningJob, prices: dict[str, Price], *, local: bool, quote: Quote | None = None) -> str:
    """Return what the job cost, `~` before what it was estimated at until then, `free` on this machine."""
    if local:
        return "free"
    actual = dollars(job, prices, quote)
    if actual is not None:
        return f"${actual:,.2f}"
    if quote is None or quote.usd is None or job.status in ("failed", "cancelled"):
        return ""
    return f"~${quote.usd:,.2f}"


def clock(at: float) -> str:
    """Return the local time of day of a Unix time, with the date when it was another day."""
    when = datetime.fromtimestamp(at)
    same_day = when.date() == datetime.now().date()
    return when.strftime("%H:%M:%S" if same_day else "%d %b %H:%M")


def model_name(job: FineTuningJob) -> str:
    """Return the name a job is best known by: its fine-tuned model, else its base model."""
    return job.fine_tuned_model or job.model or job.id
