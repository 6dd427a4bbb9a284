"""What a profile's endpoint would refuse or misread, told before anything is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tunedesk.config import Profile
from tunedesk.core.fine_tuning import Hyperparameters
from tunedesk.errors import ProviderError, UsageError

CLOSED = "training_not_available"
"""ProviderError.code when an endpoint trains nothing more for this account (OpenAI's own word)."""
TRAIN_HERE = "train it on this machine instead: --provider local"

_HIGHEST_RATE = 0.1
"""No absolute learning rate is above, no multiplier below it: a number on the wrong side is of the other kind."""


def today() -> date:
    """Return the day by which a provider's dates count, the same in every time zone: that of UTC."""
    return datetime.now(tz=UTC).date()


def check_open(profile: Profile, day: date) -> None:
    """Raise ProviderError when no new job can be created there on that day."""
    if profile.is_closed(day):
        raise ProviderError(
            f"{profile.label or profile.name} takes no new jobs since {profile.closes}",
            f'{TRAIN_HERE} (if it was extended, set closes = "" for [{profile.name}] in profiles.toml)',
            status=403,
            code=CLOSED,
        )


def check_request(profile: Profile, suffix: str | None, hyperparameters: Hyperparameters) -> None:
    """Raise UsageError when a suffix is too long there, or a learning rate is of the other kind."""
    name = profile.label.split(" (")[0] or profile.name
    if suffix is not None and not 1 <= len(suffix) <= profile.suffix_limit:
        raise UsageError(
            f"{name} takes a suffix of 1 to {profile.suffix_limit} characters, not {len(suffix)}",
            "choose a shorter one",
        )
    rate = hyperparameters.learning_rate_multiplier
    if rate == "auto":
        return
    if profile.absolute_learning_rate and rate > _HIGHEST_RATE:
        raise UsageError(
            f"{name} takes the learning rate itself, and {rate:g} is far too high for one",
            "give a number such as 2e-5, or none",
        )
    if not profile.absolute_learning_rate and rate < _HIGHEST_RATE / 100:
        raise UsageError(
            f"{name} multiplies its own learning rate by this number: {rate:g} would train nothing",
            "give a number such as 0.5 or 2, or none",
        )


def check_pause(profile: Profile) -> None:
    """Raise UsageError when jobs cannot be paused there."""
    if not profile.pauses:
        raise UsageError(
            f"{profile.label.split(' (')[0] or profile.name} cannot pause a job", "cancel it, or let it run"
        )
