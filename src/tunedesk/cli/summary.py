"""What is said before a launch: files, findings, settings, cost, and the dates that matter."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

from tunedesk.cli.output import dollars, say

if TYPE_CHECKING:
    from pathlib import Path

    from tunedesk.config import Profile
    from tunedesk.jobs import LaunchRequest
    from tunedesk.store import Quote
    from tunedesk.workbench import Workbench

_SOON = 60
"""Days before a closing or a shutdown from which the way out is named."""


def tell(bench: Workbench, places: list[tuple[LaunchRequest, Profile]], quotes: list[Quote]) -> None:
    """Say files with hashes, findings and personal data left, settings, cost with its range, and the dates."""
    request, profile = places[0]
    for path in dict.fromkeys(f for one, _ in places for f in (one.training, one.validation) if f):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        say(f"{path.name}  {path.stat().st_size:,} B  sha256 {digest[:16]}…")
        _tell_findings(bench, path, request.model, profile)
    for one, where in places:
        say(f"{where.label or where.name}: {_settings(one)}")
    say(_cost(quotes, [one.model for one, _ in places]))
    _tell_dates(bench, places)


def _tell_findings(bench: Workbench, path: Path, model: str, profile: Profile) -> None:
    checked = bench.check_source(str(path), model=model, provider=profile)
    errors = sum(one.severity == "error" for one in checked.findings)
    warnings = len(checked.findings) - errors
    see = f": tunedesk check {path}" if errors or warnings else ""
    say(f"  {checked.conversations:,} conversations, {errors:,} errors and {warnings:,} warnings left{see}")
    personal = sum(one.code == "pii" for one in checked.findings)
    if personal:
        sent = "would be trained on" if profile.is_local else "would be sent"
        masks = f"tunedesk privacy {path} -o OUT masks it"
        say(f"  ! personal data in {personal:,} messages {sent}: {masks}")


def _cost(quotes: list[Quote], models: list[str]) -> str:
    tokens = sum(one.billed_tokens for one in quotes)
    usd, low, high = (in_all([getattr(one, name) for one in quotes]) for name in ("usd", "low", "high"))
    if usd is None:
        unpriced = dict.fromkeys(m for m, one in zip(models, quotes, strict=True) if one.usd is None)
        names = ", ".join(unpriced)
        return (
            f"{tokens:,} tokens billed; what that costs is unknown: no price of {names} (see tunedesk prices)"
        )
    if not high:
        return f"{tokens:,} tokens to train on, free: it trains on this machine"
    dated = next((f", prices of {one.price_as_of}" for one in quotes if one.price_as_of), "")
    return f"{tokens:,} tokens billed, {dollars(usd)} ({dollars(low)} to {dollars(high)}{dated})"


def _tell_dates(bench: Workbench, places: list[tuple[LaunchRequest, Profile]]) -> None:
    """Say what ends where and when, and the way out where that is near or past."""
    from tunedesk.providers.limits import TRAIN_HERE, today

    day, near = today(), False
    for place in {where.name: where for _, where in places}.values():
        for notice in place.notices(day):
            say(f"{place.label} {notice}")
        near = near or (bool(place.closes) and _days(place.closes, day) <= _SOON)
    for model in dict.fromkeys(one.model for one, _ in places):
        price = bench.spending.price(model)
        if price and price.shutdown:
            days = _days(price.shutdown, day)
            when = f"in {days:,} days" if days > 0 else "that day has come"
            say(f"{model} and what is tuned from it stop on {price.shutdown}, {when}")
            near = near or days <= _SOON
    if near:
        say(f"to be independent of these dates, {TRAIN_HERE}")


def _days(day: str, today: date) -> int:
    return (date.fromisoformat(day) - today).days


def _settings(request: LaunchRequest) -> str:
    asked = asdict(request.hyperparameters)
    given = [f"{name} {value}" for name, value in asked.items() if value not in ("auto", None)]
    given = given or ["hyperparameters auto"]
    given += [f"suffix {request.suffix}"] * bool(request.suffix)
    given += [f"seed {request.seed}"] * (request.seed is not None)
    return ", ".join([request.model, request.method, *given])


def in_all(values: list[float | None]) -> float | None:
    """Return the sum, None where one of them is unknown."""
    return None if any(value is None for value in values) else sum(value or 0.0 for value in values)
