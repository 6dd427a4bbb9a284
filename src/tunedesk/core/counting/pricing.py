"""What a job will cost, and when a model ends. Prices are data: prices.toml, with source and date."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from tunedesk.core.fine_tuning import base_model
from tunedesk.errors import UsageError
from tunedesk.paths import write_whole


@dataclass(frozen=True, slots=True)
class Price:
    """Published prices of one model, US dollars per million tokens."""

    model: str
    training: float
    input: float | None = None
    """Of a model tuned from it."""
    output: float | None = None
    base_input: float | None = None
    """Of the model itself."""
    base_output: float | None = None
    source: str = ""
    as_of: str = ""
    """YYYY-MM-DD on which the price was read."""
    shutdown: str = ""
    """YYYY-MM-DD on which the model and all models tuned from it stop; empty when unknown."""

    def age(self, today: date) -> int | None:
        """Return how many days ago the price was read, None when that is not known."""
        return (today - date.fromisoformat(self.as_of)).days if self.as_of else None


@dataclass(frozen=True, slots=True)
class Epochs:
    """How often the training file will be gone through."""

    n: int
    low: int
    high: int
    rule: str
    """Where the number comes from."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens billed and what they cost, before a job."""

    epochs: Epochs
    billed_tokens: int
    usd: float | None
    """None when no price is known; 0 on this machine."""
    low: float | None
    high: float | None
    price: Price | None
    seconds: float | None = None
    """How long it would take on this machine, where that can be told."""
    measured: str = ""
    """What `seconds` is reckoned from, in words."""


def load_prices(override: Path | None = None) -> dict[str, Price]:
    """Return the prices by model name and alias, the user's file (if it exists) over the shipped one.

    Raises UsageError, with file and line, when the user's file is not of the shipped form.
    """
    shipped = resources.files("tunedesk.core.counting").joinpath("prices.toml").read_text(encoding="utf-8")
    prices = _read(shipped, "prices.toml")
    if override is not None and override.exists():
        try:
            text = override.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{override} is not UTF-8: {error.reason}", _FORM) from error
        prices |= _read(text, str(override))
    return prices


_FORM = "each price is a [[model]] block with prefix and training (US dollars a million tokens)"


def _read(text: str, name: str) -> dict[str, Price]:
    try:
        rows = tomllib.loads(text).get("model", [])
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}", _FORM) from error
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _BLOCK.match(line)]
    prices: dict[str, Price] = {}
    for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
        try:
            prices |= _prices_of(row)
        except (KeyError, TypeError, ValueError) as error:
            line = lines[place] if place < len(lines) else 1
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{name}, line {line}: {what}", _FORM) from error
    return prices


_BLOCK = re.compile(r"\s*\[\[\s*model\s*\]\]")
_MONEY = ("training", "input", "output", "base_input", "base_output")


def _prices_of(row: dict[str, Any]) -> dict[str, Price]:
    """Return the price of a row by its names; raises KeyError, TypeError, ValueError."""
    values = dict(row)
    name, aliases = values.pop("prefix"), values.pop("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(one, str) and one for one in (name, *aliases)):
        raise TypeError("prefix is a model's name, aliases a list of names")
    values["training"]
    for key, value in values.items():
        if key in _MONEY and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6
        ):
            raise ValueError(f"{key} = {value!r} is no price")
        if key in ("as_of", "shutdown"):
            values[key] = str(value) and date.fromisoformat(str(value)).isoformat()
    return {alias: Price(model=name, **values) for alias in (name, *aliases)}


def asking_usd(
    model: str, prompt_tokens: int, completion_tokens: int, prices: dict[str, Price]
) -> float | None:
    """Return US dollars for asking a model once, None where the prices of that are unknown."""
    price = price_for(model, prices)
    tuned = model.startswith("ft:")
    read = (price.input if tuned else price.base_input) if price else None
    write = (price.output if tuned else price.base_output) if price else None
    if read is None or write is None:
        return None
    return round((read * prompt_tokens + write * completion_tokens) / 1e6, 6)


def write_price(path: Path, model: str, training: float, today: date) -> None:
    """Put the price of one model into the user's file, its other blocks kept; raises UsageError, StoreError."""
    if not model.strip() or not model.isprintable() or '"' in model or "\\" in model:
        raise UsageError(f"{model!r} cannot be a model's name", "give the name that the provider lists")
    if not 0 <= training < 1e6:
        raise UsageError("a price is in US dollars per million tokens", "such as 25 or 0.48")
    load_prices(path)
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    blocks = [block for block in kept.split("[[model]]") if f'prefix = "{model}"' not in block]
    block = f'\nprefix = "{model}"\ntraining = {training!r}\nsource = "set by you"\nas_of = "{today}"\n'
    write_whole(path, "[[model]]".join([*blocks, block] if blocks else ["", block]))


def notes(model: str, price: Price | None, closes: str, endpoint: str, today: date) -> list[str]:
    """Return what to know before a model is chosen: how old its price is, and what ends when."""
    told = []
    if price is not None:
        age = price.age(today)
        told.append(f"price of {price.as_of}, {age} days old" if age is not None else "price without a date")
    return told + endings(model, price, closes, endpoint, today)


def endings(model: str, price: Price | None, closes: str, endpoint: str, today: date) -> list[str]:
    """Return what ends when: the model, and jobs at the endpoint that is asked for it."""
    told = []
    if price is not None and price.shutdown:
        ended = date.fromisoformat(price.shutdown) <= today
        told.append(f"{model} and what is tuned from it {'stopped' if ended else 'stop'} on {price.shutdown}")
    if closes:
        done = date.fromisoformat(closes) <= today
        told.append(
            f"{endpoint} {'has taken' if done else 'takes'} no new jobs {'since' if done else 'from'} {closes}"
        )
    return told


def price_for(model: str, prices: dict[str, Price]) -> Price | None:
    """Return the price of `model` (or of the base of an `ft:` model), None when none is known: never a guess."""
    return prices.get(base_model(model))


def default_epochs(conversations: int, target: int = 3) -> int:
    """Return the epochs that `auto` most likely means (OpenAI cookbook's chat data preparation notebook).

    `target`, raised for few conversations to reach 100 passes (25 at most), lowered for many to stay near 25,000.
    """
    if conversations * target < 100:
        return min(25, 100 // max(1, conversations))
    if conversations * target > 25_000:
        return max(1, 25_000 // conversations)
    return target


def epochs_for(conversations: int, asked: int | str = "auto", *, local: bool = False) -> Epochs:
    """Return the epochs asked for, or those of the published rule with the range in which `auto` may fall.

    The engine's own rule is known, so that it has no range: two epochs where OpenAI's notebook has three.
    """
    if isinstance(asked, int):
        return Epochs(asked, asked, asked, "as asked")
    if local:
        n = default_epochs(conversations, target=2)
        return Epochs(n, n, n, "auto: the engine's rule")
    n = default_epochs(conversations)
    return Epochs(n, max(1, n - 1), n + 1, "auto: OpenAI's published estimate, give or take one")


def estimate(
    billed_per_epoch: int,
    conversations: int,
    model: str,
    prices: dict[str, Price],
    *,
    n_epochs: int | str = "auto",
    local: bool = False,
) -> Estimate:
    """Return billed tokens and cost for one job; on this machine the cost is zero, an unknown price stays unknown."""
    epochs = epochs_for(conversations, n_epochs, local=local)
    price = None if local else price_for(model, prices)
    per_epoch = 0.0 if local else (price.training * billed_per_epoch / 1e6 if price else None)
    return Estimate(
        epochs=epochs,
        billed_tokens=billed_per_epoch * epochs.n,
        usd=_times(per_epoch, epochs.n),
        low=_times(per_epoch, epochs.low),
        high=_times(per_epoch, epochs.high),
        price=price,
    )


def _times(per_epoch: float | None, epochs: int) -> float | None:
    return None if per_epoch is None else round(per_epoch * epochs, 6)
