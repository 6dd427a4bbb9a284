"""Money: what a launch may cost, what all of them did, and the budget that refuses more.

Every launch is estimated from its file before anything is sent; the estimate is kept with it (store/jobs.py), so
that the ledger holds both what was expected and what the provider says was trained.
"""

from __future__ import annotations

import fcntl
import os
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from tunedesk.config import LOCAL, Profile
from tunedesk.core.conversations import Row
from tunedesk.core.counting import pricing
from tunedesk.core.counting.pricing import Estimate, Price
from tunedesk.core.counting.tokens import TokenStats, is_hosted
from tunedesk.core.fine_tuning import FineTuningJob, Usage, base_model
from tunedesk.counting import Counting
from tunedesk.errors import UsageError
from tunedesk.jobs import LaunchRequest
from tunedesk.paths import Paths, write_whole
from tunedesk.providers.base import Provider
from tunedesk.store import Asking, Launch, Quote, Store
from tunedesk.store.jobs import ABANDONED, CREATE_SENT

_FEW_ROWS = 20_000
"""Conversations of which a tokenizer of this machine tells the tokens in seconds."""
_MOST_BESIDE = 8


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that launches may cost, US dollars; None where there is no limit."""

    per_launch: float | None = None
    per_month: float | None = None
    """All launches of a calendar month (UTC) together."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One launch in the ledger: what was estimated, and what came of it."""

    launch: str
    at: float
    """Unix seconds."""
    profile: str
    model: str
    job: str | None
    status: str
    """The job's; before there is one `launching`, `not created` (the last try failed) or `given up`; `judging` where
    nothing was launched but a judge asked."""
    estimated_tokens: int | None
    estimated_usd: float | None
    low_usd: float | None
    high_usd: float | None
    actual_tokens: int | None
    """As the provider tells it; None before the job is done."""
    actual_usd: float | None
    """By the price of the estimate; None while tokens or price are unknown."""
    estimated_seconds: float | None
    actual_seconds: float | None
    """From the job's creation to its end."""

    @property
    def committed(self) -> float:
        """What it counts against the month: what it did cost, or may at most while that is not known."""
        if self.actual_usd is not None:
            return self.actual_usd
        over = self.status in ("failed", "cancelled", "not created", "given up")
        return 0.0 if over else self.high_usd or 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How fast this machine trained a model, measured without a job."""

    tokens_per_second: float
    day: str
    """YYYY-MM-DD."""


class Spending:
    """Estimates, ledger and budget of one user."""

    def __init__(
        self,
        paths: Paths,
        store: Callable[[], Store],
        prices: Callable[[], dict[str, Price]],
        counting: Counting,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`store` and `prices` are asked for at use; `now` tells Unix seconds."""
        self._budget_file = paths.config / "budget.toml"
        self._prices_file = paths.config / "prices.toml"
        self._lock_file = paths.data / "budget.lock"
        self._speeds_file = paths.cache / "speeds.json"
        self._store, self._prices, self._counting, self._now = store, prices, counting, now
        self._files: dict[tuple[str, int, int, str], TokenStats] = {}

    # --- before a launch

    def estimate(
        self, stats: TokenStats, model: str, profile: Profile, n_epochs: int | str = "auto"
    ) -> Estimate:
        """Return what training on conversations of these statistics would bill, cost and, on this machine, take.

        A model that has a price, or is known to be hosted, is another endpoint's, also while the engine on this
        machine is chosen; no price is made up for it.
        """
        prices = self._prices()
        local = profile.is_local and pricing.price_for(model, prices) is None and not is_hosted(model)
        found = pricing.estimate(
            stats.billed_per_epoch, stats.conversations, model, prices, n_epochs=n_epochs, local=local
        )
        speed = self.speed(model) if local else None
        source = "the latest job of the model"
        if local and not speed and (measured := self._speeds().get(base_model(model).casefold())):
            speed, source = measured.tokens_per_second, f"a measurement of {measured.day}"
        return replace(found, seconds=found.billed_tokens / speed, measured=source) if speed else found

    def side_by_side(
        self, counted: dict[str, TokenStats], profile: Profile, n_epochs: int | str = "auto"
    ) -> dict[str, Estimate]:
        """Return the estimate of each model, from the statistics of its own count."""
        return {name: self.estimate(stats, name, profile, n_epochs) for name, stats in counted.items()}

    def beside(
        self, model: str, profile: Profile, known: Mapping[str, Profile], rows: int
    ) -> list[tuple[str, Profile]]:
        """Return models worth a look beside `model`, each with the provider that trains it, `model` first.

        They are the provider's own and those whose price is known; of a dataset of many `rows` no model of this
        machine but the chosen one, as their tokenizers take minutes.
        """
        priced = [
            (name, one)
            for one in known.values()
            for name in one.tunable
            if not one.is_local and pricing.price_for(name, self._prices()) is not None
        ]
        here = [known[LOCAL]] if LOCAL in known and rows <= _FEW_ROWS else []
        local = [(one.default_model, one) for one in here if one.default_model]
        own = [(name, profile) for name in profile.tunable if not profile.is_local or rows <= _FEW_ROWS]
        pairs: dict[str, Profile] = {}
        for name, one in [(model, profile), *own, *local, *priced]:
            pairs.setdefault(name, one)
        return list(pairs.items())[:_MOST_BESIDE]

    def price(self, model: str) -> Price | None:
        """Return the price of a model, None when none is known."""
        return pricing.price_for(model, self._prices())

    def per_token(self, model: str) -> float | None:
        """Return US dollars for one token trained once, None where that is unknown or nothing."""
        price = self.price(model)
        return price.training / 1e6 if price is not None else None

    def speed(self, model: str) -> float | None:
        """Return how many tokens a second the latest job of this base model went through on this machine, or None."""
        base = base_model(model).casefold()
        store = self._store()
        for known in store.jobs(LOCAL):
            job = known.job
            if job.status == "succeeded" and job.trained_tokens and base_model(job.model).casefold() == base:
                timed = [point for point in store.points(LOCAL, job.id) if point.at]
                first, last = (timed[0], timed[-1]) if timed else (None, None)
                if first and last and last.at > first.at and last.total_steps:
                    steps = (last.step - first.step) / (last.at - first.at)
                    return steps * job.trained_tokens / last.total_steps
                if job.finished_at and job.finished_at > job.created_at:
                    return job.trained_tokens / (job.finished_at - job.created_at)
        return None

    async def measure(self, provider: Provider, model: str, rows: Sequence[Row]) -> float:
        """Have the engine train `model` on `rows` for some seconds; keep and return its tokens a second.

        Raises ProviderError: the engine is training, the model is not there yet, or it is no engine of ours.
        """
        told = await provider.ask_engine("speed", {"model": model, "rows": list(rows)})
        measured = Measured(float(told["tokens_per_second"]), self.today().isoformat())
        speeds = {**self._speeds(), base_model(model).casefold(): measured}
        write_whole(self._speeds_file, msgspec.json.encode(speeds))
        return measured.tokens_per_second

    def _speeds(self) -> dict[str, Measured]:
        try:
            return msgspec.json.decode(self._speeds_file.read_bytes(), type=dict[str, Measured])
        except (OSError, msgspec.MsgspecError):
            return {}

    def quote(self, path: Path, model: str, profile: Profile, n_epochs: int | str = "auto") -> Quote:
        """Return the estimate for a training file as it lies on disk; raises DataError."""
        status = path.stat()
        key = (str(path.absolute()), status.st_mtime_ns, status.st_size, model)
        if key not in self._files:
            self._files[key] = self._counting.file(path, model)
        stats = self._files[key]
        found = self.estimate(stats, model, profile, n_epochs)
        price = found.price
        per_million = price.training if price else (0.0 if found.usd == 0 else None)
        return Quote(
            conversations=stats.conversations, tokens_per_epoch=stats.billed_per_epoch, n_epochs=found.epochs.n,
            billed_tokens=found.billed_tokens, usd=found.usd, low=found.low, high=found.high,
            usd_per_million=per_million, price_as_of=price.as_of if price else "", seconds=found.seconds,
        )  # fmt: skip

    def guard(self, profile: Profile) -> Guard:
        """Return what a job service at `profile` asks before it writes a launch down."""
        return Guard(self, profile)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process or thread of this user write a launch down meanwhile."""
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def afford(self, quote: Quote | Estimate, model: str, per_launch: float | None = None) -> None:
        """Raise UsageError, with the number, when a launch may cost more than is allowed.

        `per_launch` is a further limit for this launch alone. An unknown price cannot be held against any.
        """
        budget = self.budget()
        limits = [one for one in (per_launch, budget.per_launch) if one is not None]
        if not limits and budget.per_month is None:
            return
        if quote.high is None:
            raise UsageError(
                f"the price of {model} is unknown, so the budget cannot be held",
                f"tunedesk prices --set {model}=USD (per million tokens trained)",
            )
        if quote.high == 0:
            return
        if limits and quote.high > min(limits):
            raise UsageError(
                f"the job may cost {_usd(quote.high)}, above the budget of {_usd(min(limits))} a launch",
                "fewer epochs, fewer conversations or another model cost less; tunedesk budget changes the limit",
            )
        spent = self.spent()
        if budget.per_month is not None and spent + quote.high > budget.per_month:
            raise UsageError(
                f"the job may cost {_usd(quote.high)}; with {_usd(spent)} of this month"
                f" that is above the budget of {_usd(budget.per_month)} a month",
                "tunedesk ledger lists the month; tunedesk budget changes the limit",
            )

    # --- the budget

    def budget(self) -> Budget:
        """Return the budget that the user set; raises UsageError when its file cannot be read."""
        if not self._budget_file.exists():
            return Budget()
        try:
            values = tomllib.loads(self._budget_file.read_text(encoding="utf-8"))
            return Budget(**{name: float(value) for name, value in values.items()})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
            raise UsageError(
                f"{self._budget_file}: {error}", "it may hold per_launch and per_month, in US dollars"
            ) from error

    def set_budget(self, budget: Budget) -> None:
        """Keep another budget, durably; raises UsageError for a negative one."""
        values = {name: value for name, value in asdict(budget).items() if value is not None}
        if any(value < 0 for value in values.values()):
            raise UsageError("a budget cannot be negative", "0 refuses every launch that costs something")
        write_whole(self._budget_file, "".join(f"{name} = {value!r}\n" for name, value in values.items()))

    def set_price(self, model: str, training: float) -> None:
        """Write the user's own price of a model (US dollars a million tokens trained), dated today."""
        pricing.write_price(self._prices_file, model, training, self.today())
        self._prices().update(pricing.load_prices(self._prices_file))

    def today(self) -> date:
        """Return the day (UTC)."""
        return datetime.fromtimestamp(self._now(), tz=UTC).date()

    # --- afterwards

    def ledger(self) -> list[Entry]:
        """Return all launches, and all that was asked of a judge, the newest first."""
        store = self._store()
        jobs = {(one.profile, one.job.id): one.job for one in store.jobs()}
        entries = [
            _entry(launch, jobs.get((launch.profile, launch.job)) if launch.job else None)
            for launch in store.launches()
        ]
        return sorted([*entries, *map(_asked, store.askings())], key=lambda one: -one.at)

    def note_asking(self, purpose: str, profile: Profile, model: str, usage: Usage) -> float | None:
        """Keep what questions to a model cost, and return it: US dollars, None where no price is known."""
        usd = self.asking_usd(profile, model, usage)
        tokens = (usage.prompt_tokens, usage.completion_tokens)
        self._store().add_asking(Asking(self._now(), purpose, profile.name, model, *tokens, usd))
        return usd

    def asking_usd(self, profile: Profile, model: str, usage: Usage) -> float | None:
        """Return what so many tokens of a model cost to ask, None where no price is known, 0 on this machine."""
        if profile.is_local:
            return 0.0
        return pricing.asking_usd(model, usage.prompt_tokens, usage.completion_tokens, self._prices())

    def outcome(self, job: str) -> Entry | None:
        """Return the ledger's entry of a job, None when it was not launched from here."""
        return next((entry for entry in self.ledger() if entry.job == job), None)

    def spent(self) -> float:
        """Return what the launches of this month (UTC) come to, US dollars: actual where known, else the most."""
        month = self.today().replace(day=1)
        start = datetime(month.year, month.month, 1, tzinfo=UTC).timestamp()
        return sum(entry.committed for entry in self.ledger() if entry.at >= start)

    def endings(self, model: str, profile: Profile) -> list[str]:
        """Return what ends when: the model, and jobs at the provider."""
        price = pricing.price_for(model, self._prices())
        return pricing.endings(model, price, profile.closes, profile.label or profile.name, self.today())

    def notes(self, model: str, profile: Profile) -> list[str]:
        """Return what to know before choosing a model: the age of its price, and the dates on which things end."""
        price = pricing.price_for(model, self._prices())
        return pricing.notes(model, price, profile.closes, profile.label or profile.name, self.today())


class Guard:
    """The budget as launches at one provider meet it."""

    def __init__(self, spending: Spending, profile: Profile) -> None:
        self._spending, self._profile = spending, profile

    def quote(self, request: LaunchRequest) -> Quote:
        """Return what a launch may cost; raises UsageError above the budget, DataError."""
        epochs = request.hyperparameters.n_epochs
        quote = self._spending.quote(request.training, request.model, self._profile, epochs)
        self._spending.afford(quote, request.model)
        return quote

    @contextmanager
    def admitted(self, quote: Quote, model: str) -> Iterator[None]:
        """Hold the budget while a launch is written down: two at once cannot pass the month's limit together."""
        with self._spending.alone():
            self._spending.afford(quote, model)
            yield


def _entry(launch: Launch, job: FineTuningJob | None) -> Entry:
    quote = launch.quote
    tokens = job.trained_tokens if job else None
    per_million = quote.usd_per_million if quote else None
    return Entry(
        launch=launch.id, at=launch.at, profile=launch.profile, model=launch.model, job=launch.job,
        status=job.status if job else _unfinished(launch) if launch.job is None else "unknown",
        estimated_tokens=quote.billed_tokens if quote else None, estimated_usd=quote.usd if quote else None,
        low_usd=quote.low if quote else None, high_usd=quote.high if quote else None, actual_tokens=tokens,
        actual_usd=None if tokens is None or per_million is None else round(tokens * per_million / 1e6, 6),
        estimated_seconds=quote.seconds if quote else None,
        actual_seconds=job.finished_at - job.created_at if job and job.finished_at else None,
    )  # fmt: skip


def _asked(asking: Asking) -> Entry:
    tokens = asking.prompt_tokens + asking.completion_tokens
    return Entry(
        launch="", at=asking.at, profile=asking.profile, model=asking.model, job=None, status=asking.purpose,
        estimated_tokens=None, estimated_usd=None, low_usd=None, high_usd=None, actual_tokens=tokens,
        actual_usd=asking.usd, estimated_seconds=None, actual_seconds=None,
    )  # fmt: skip


def _unfinished(launch: Launch) -> str:
    """Return how a launch without a job stands; one that may still get it counts against the month."""
    if launch.state == ABANDONED:
        return "given up"
    return "not created" if launch.error and launch.state != CREATE_SENT else "launching"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.3g}"
