"""What the tests of the Jobs, Chat and Compare screens stand on: a desk, a workbench with a real store, an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from textual.pilot import Pilot

from tunedesk.config import Profile
from tunedesk.core.counting.pricing import Price
from tunedesk.core.fine_tuning import (
    ChatDelta,
    Checkpoint,
    FineTuningJob,
    JobEvent,
    Model,
    ProviderFile,
    Usage,
)
from tunedesk.errors import ProviderError
from tunedesk.jobs import JobService, job_filter, rows
from tunedesk.paths import Paths
from tunedesk.providers.base import Provider
from tunedesk.store import Store
from tunedesk.tui import desk as desk_module
from tunedesk.tui.desk import Desk
from tunedesk.workbench import Workbench

STYLES = Path(desk_module.__file__).with_name("app.tcss")
"""The app's shared styles."""
LOCAL_PROFILE = Profile("local", "", label="This machine", default_model="base-1", tunable=("base-1",))


def metrics_event(number: int, *, at: int, of: int = 100) -> JobEvent:
    """Return what the engine tells after step `number`."""
    data = {
        "step": number,
        "total_steps": of,
        "train_loss": 3.0 / (1 + number / 10),
        "train_mean_token_accuracy": min(0.99, 0.3 + number / 200),
    }
    if number % 10 == 0:
        data |= {"valid_loss": 3.2 / (1 + number / 10), "valid_mean_token_accuracy": 0.5}
    message = f"Step {number}/{of}: training loss={data['train_loss']:.2f}"
    return JobEvent(f"ev-{number:05}", at, message, type="metrics", data=data)


@dataclass
class Endpoint:
    """A provider whose jobs the test changes, and whose answers it writes."""

    profile: Profile = LOCAL_PROFILE
    account: str = ""
    known: dict[str, FineTuningJob] = field(default_factory=dict)
    told: dict[str, list[JobEvent]] = field(default_factory=dict)
    saved: dict[str, list[Checkpoint]] = field(default_factory=dict)
    """Checkpoints by job."""
    rows: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)
    """By job: line of the training file → (step, loss)."""
    held: list[ProviderFile] = field(default_factory=list)
    """Files."""
    answers: dict[str, str] = field(default_factory=dict)
    """Text that a model streams, by its name."""
    pause_s: float = 0.0
    """Seconds between two words of an answer."""
    asked: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    acts: list[tuple[str, str]] = field(default_factory=list)
    failure: ProviderError | None = None

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def models(self) -> list[Model]:
        self._check()
        tuned = [job.fine_tuned_model for job in self.known.values() if job.fine_tuned_model]
        return [Model("base-1"), Model("base-2"), *(Model(name) for name in tuned)]

    async def job(self, job_id: str) -> FineTuningJob:
        self._check()
        return self.known[job_id]

    async def jobs(self, *, limit: int = 100, metadata: dict[str, str] | None = None) -> list[FineTuningJob]:
        self._check()
        return list(self.known.values())

    async def events(self, job_id: str, *, limit: int = 100, after: str | None = None) -> list[JobEvent]:
        newest_first = list(reversed(self.told.get(job_id, [])))
        ids = [event.id for event in newest_first]
        start = ids.index(after) + 1 if after in ids else 0
        return newest_first[start : start + limit]

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        return self.saved.get(job_id, [])

    async def row_losses(self, job_id: str, step: int | None = None) -> dict[int, float]:
        told = self.rows.get(job_id)
        if told is None:
            raise ProviderError("no such path", status=404)
        return {line: loss for line, (at, loss) in told.items() if step in (None, at)}

    async def files(self, purpose: str | None = None) -> list[ProviderFile]:
        self._check()
        return self.held

    async def delete_file(self, file_id: str) -> None:
        self.held = [one for one in self.held if one.id != file_id]

    async def cancel(self, job_id: str) -> FineTuningJob:
        return self._act("cancel", job_id, "cancelled")

    async def pause(self, job_id: str) -> FineTuningJob:
        return self._act("pause", job_id, "paused")

    async def resume(self, job_id: str) -> FineTuningJob:
        return self._act("resume", job_id, "running")

    def _act(self, what: str, job_id: str, status: str) -> FineTuningJob:
        self._check()
        self.acts.append((what, job_id))
        finished = int(time.time()) if status == "cancelled" else None
        self.known[job_id] = replace(self.known[job_id], status=status, finished_at=finished)
        return self.known[job_id]

    async def chat(
        self,
        model: str,
        messages: list[dict[str, Any]],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> AsyncIterator[ChatDelta]:
        self._check()
        self.asked.append((model, messages))
        words = self.answers.get(model, f"{model} answers").split(" ")
        for number, word in enumerate(words):
            await asyncio.sleep(self.pause_s)
            yield ChatDelta(word if number == 0 else f" {word}")
        yield ChatDelta("", "stop", Usage(12, len(words)), f"fp_{model}")

    async def ask_engine(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        raise ProviderError(f"Invalid URL (GET /v1/engine/{what})", status=404)

    async def close(self) -> None:
        return None


class Bench:
    """The part of the workbench that these screens use."""

    job_filter, training_rows = job_filter, rows
    askable_models: Any = Workbench.askable_models

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.paths = Paths(folder / "data", folder / "config", folder / "cache", folder / "logs")
        for path in (self.paths.data, self.paths.config, self.paths.cache, self.paths.logs):
            path.mkdir(parents=True)
        self.store = Store(self.paths.store)
        self.endpoint = endpoint
        self.prices = {"gpt-4.1": Price("gpt-4.1", 25.0, as_of="2026-11-01")}

    def profiles(self) -> dict[str, Profile]:
        return {"local": LOCAL_PROFILE, "openai": Profile("openai", "https://api.example/v1", label="OpenAI")}

    def profile(self, wanted: str | None) -> Profile:
        return self.profiles()[wanted or "local"]

    async def connect(self, profile: Profile) -> Provider:
        return cast(Provider, self.endpoint)

    async def jobs(self, profile: Profile) -> JobService:
        return JobService(self.store, await self.connect(profile), pause=lambda _: asyncio.sleep(0.02))

    def open_sample(self, on_progress: Any = None) -> Any:
        return None


def running_job(job_id: str = "ftjob-1", **fields: Any) -> FineTuningJob:
    """Return a job that began a minute ago."""
    job = FineTuningJob(job_id, "running", model="base-1", created_at=int(time.time()) - 60)
    return replace(job, **fields)


def finished_job(job_id: str = "ftjob-0", **fields: Any) -> FineTuningJob:
    """Return a job that succeeded half an hour ago after ten minutes."""
    now = int(time.time())
    job = FineTuningJob(
        job_id,
        "succeeded",
        model="base-1",
        created_at=now - 2400,
        finished_at=now - 1800,
        fine_tuned_model=f"ft:base-1:local:bank:{job_id[-4:]}",
        trained_tokens=123_456,
    )
    return replace(job, **fields)


def frame(app: Desk) -> str:
    """Return what the terminal shows, line by line."""
    height = app.size.height
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines[:height])


async def until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` holds; fail with what is on the screen when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"did not happen in {seconds} s; shown:\n{frame(cast(Desk, pilot.app))}")
        await pilot.pause(0.02)


async def until_shown(pilot: Pilot[None], text: str, seconds: float = 20.0) -> None:
    """Wait until the terminal shows `text`."""
    await until(pilot, lambda: text in frame(cast(Desk, pilot.app)), seconds)
