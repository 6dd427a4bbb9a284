"""What is known of one job, grown update by update, and how its figures are put in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tunedesk.core.counting.pricing import Price, price_for
from tunedesk.core.fine_tuning import FineTuningJob, JobEvent, MetricPoint
from tunedesk.core.metrics import steps_per_second
from tunedesk.jobs import EventSeen, JobChanged, PointSeen, PollFailed, Update

SIGNS = {
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "running": "▶",
    "paused": "‖",
    "queued": "…",
    "validating_files": "…",
}
"""A sign before each status, so that the list can be scanned; other words get a question mark."""


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as the screen shows it; each batch of updates makes a new one."""

    profile: str = ""
    job: FineTuningJob | None = None
    events: dict[str, JobEvent] = field(default_factory=dict)
    """By id, in the order they are shown."""
    points: dict[int, MetricPoint] = field(default_factory=dict)
    """By step."""
    trouble: str = ""
    """Why the provider could not be asked last time; empty when it answered."""

    def take(self, updates: Iterable[Update]) -> JobView:
        """Return the view after `updates`; what was told before is not shown twice."""
        job, events, points, trouble = self.job, dict(self.events), dict(self.points), self.trouble
        for update in updates:
            trouble = ""
            match update:
                case JobChanged(job=changed):
                    job = changed
                case EventSeen(event=event):
                    events[event.id] = event
                case PointSeen(point=point):
                    points[point.step] = point
                case PollFailed(error=error, retry_in=wait):
                    trouble = f"{error.message}; asking again in {wait:.0f} s"
        return replace(self, job=job, events=events, points=points, trouble=trouble)

    @property
    def curve(self) -> list[MetricPoint]:
        """The points by rising step."""
        return [self.points[step] for step in sorted(self.points)]

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
    """Return the seconds from the job's creation to its end, or to `now`."""
    return (job.finished_at or now) - job.created_at if job.created_at else 0.0


def seconds_left(job: FineTuningJob, points: Sequence[MetricPoint], now: float) -> float | None:
    """Return the seconds a running job will still take: its own word, else from the speed of its last steps."""
    if job.status != "running":
        return None
    if job.estimated_finish:
        return max(0.0, job.estimated_finish - now)
    speed = steps_per_second(points)
    last = points[-1] if points else None
    if speed and last is not None and last.total_steps:
        return (last.total_steps - last.step) / speed
    return None


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


def cost(job: FineTuningJob, prices: dict[str, Price], *, local: bool) -> str:
    """Return what the job cost: dollars where the price is known, `free` on this machine, empty when unknown."""
    if local:
        return "free"
    price = price_for(job.model, prices)
    if price is None or job.trained_tokens is None:
        return ""
    return f"${price.training * job.trained_tokens / 1e6:,.2f}"


def clock(at: float) -> str:
    """Return the local time of day of a Unix time, with the date when it was another day."""
    when = datetime.fromtimestamp(at)
    same_day = when.date() == datetime.now().date()
    return when.strftime("%H:%M:%S" if same_day else "%d %b %H:%M")


def model_name(job: FineTuningJob) -> str:
    """Return the name a job is best known by: its fine-tuned model, else its base model."""
    return job.fine_tuned_model or job.model or job.id
