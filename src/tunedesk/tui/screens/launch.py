"""The launch dialog: everything that will be sent, what it costs and until when it lasts, asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static

from tunedesk.config import Profile
from tunedesk.core.counting.pricing import Estimate
from tunedesk.core.fine_tuning import Auto, Hyperparameters
from tunedesk.errors import UsageError
from tunedesk.jobs import LaunchRequest, new_launch_id
from tunedesk.tui.screens.dialogs import Modal
from tunedesk.tui.widgets.plain import plain, plain_line
from tunedesk.tui.widgets.text_fields import TextField

EstimateFor = Callable[[str, int | Auto], Estimate]
"""Cost of a job with this model and number of epochs."""

_SOON = 60
"""Days before a closing date from which it is shown as a warning."""
_LONGEST_SUFFIX = 64


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file that will be sent."""

    path: Path
    conversations: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """What the dialog shows and starts from."""

    profile: Profile
    model: str
    models: tuple[str, ...]
    """The provider's tunable models, as far as they are known."""
    training: FileFacts
    validation: FileFacts | None
    estimate: EstimateFor
    shutdowns: dict[str, str]
    """Model → YYYY-MM-DD from which it and everything tuned from it stops."""
    errors: int
    """Findings left that the provider would refuse the file for."""
    warnings: int
    seed: int
    today: date
    personal: int = 0
    """Messages with personal data that would be sent."""


@dataclass(frozen=True, slots=True)
class TrainHere:
    """The answer that the same conversations shall train on this machine instead."""


@dataclass(frozen=True, slots=True)
class IntoQueue:
    """The answer that the launch shall wait for its turn in the queue."""

    request: LaunchRequest


LaunchAnswer = LaunchRequest | IntoQueue | TrainHere | None
"""The launch as it was confirmed, for now or for the queue; this machine instead; None when it was called off."""


class LaunchDialog(Modal[LaunchAnswer]):
    """Shows all that will be sent and what it costs, and asks once."""

    CSS_PATH = "launch.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "call_off", "Cancel", id="launch.cancel", tooltip="Close; nothing is sent"),
        Binding(
            "ctrl+t",
            "into_queue",
            "Put in the queue",
            id="launch.queue",
            tooltip="Let the launch wait for its turn",
        ),
    ]

    def __init__(self, facts: LaunchFacts) -> None:
        """Show `facts`."""
        super().__init__()
        self._facts = facts

    def compose(self) -> ComposeResult:
        """Lay out facts, fields, cost and dates over the two buttons."""
        facts = self._facts
        with Vertical(classes="dialog") as box:
            box.border_title = "Launch a fine-tuning job"
            box.border_subtitle = "Tab next field · Enter launch · ^t into the queue · Esc cancel"
            with VerticalScroll(id="launch-body", can_focus=False):
                yield _fact("Provider", facts.profile.label or facts.profile.name)
                yield from self._model_row()
                yield _fact("Training", file_line(facts.training))
                held = (
                    file_line(facts.validation)
                    if facts.validation
                    else "none: no validation loss will be told"
                )
                yield _fact("Validation", held)
                yield from self._fields()
                yield _fact("Cost", "", "launch-cost")
                yield _fact("Findings", findings_line(facts.errors, facts.warnings), "launch-findings")
                if facts.personal:
                    told = f"! in {facts.personal:,} messages that would be sent: M on 1 Data masks it"
                    yield _fact("Personal", told, "launch-personal")
                yield _fact("Dates", "", "launch-dates")
            yield Static("", id="launch-trouble", markup=False, classes="bad")
            with Horizontal(id="launch-buttons"):
                if not facts.profile.is_local:
                    yield Button("Train on this machine", id="launch-here", compact=True)
                yield Button("Put in the queue", id="launch-queue", compact=True)
                yield Button("Launch", variant="primary", id="launch-go", compact=True)
                yield Button("Cancel", id="launch-no", compact=True)

    def _model_row(self) -> Iterable[Widget]:
        names = list(dict.fromkeys((self._facts.model, *self._facts.models)))
        with Horizontal(classes="row"):
            yield Static("Model", classes="label", markup=False)
            yield Select[str](
                [(plain_line(name), name) for name in names], value=self._facts.model, allow_blank=False,
                compact=True, id="launch-model",
            )  # fmt: skip

    def _fields(self) -> Iterable[Widget]:
        with Horizontal(classes="row"):
            yield from _field("Epochs", "epochs", "auto")
            yield from _field("Batch size", "batch", "auto")
            yield from _field("Learning ×", "rate", "auto")
        with Horizontal(classes="row"):
            yield from _field("Seed", "seed", str(self._facts.seed))
            yield from _field("Suffix", "suffix", "")

    def on_mount(self) -> None:
        """Say what the first values cost, ready to launch, or to train here where the provider takes no new job."""
        self._update()
        closed = self._facts.profile.is_closed(self._facts.today)
        self.query_one("#launch-here" if closed else "#launch-go").focus()

    @on(Input.Changed)
    @on(Select.Changed)
    def _changed(self) -> None:
        self._update()

    def _update(self) -> None:
        """Show cost and dates of the values as they are, and why they cannot be launched if they cannot."""
        facts, trouble = self._facts, ""
        model = self._model
        try:
            epochs = self._request().hyperparameters.n_epochs
            cost = cost_line(facts.estimate(model, epochs), facts.profile, facts.today)
        except UsageError as error:
            trouble, cost = f"✗ {error.message}: {error.hint}", "–"
        if facts.profile.is_closed(facts.today):
            trouble = f"✗ no new job there since {facts.profile.closes}: Enter trains it here instead"
        if not trouble and facts.errors:
            trouble = f"✗ {findings_line(facts.errors, 0)}: they would be refused; mend them on 1 Data"
        self.query_one("#launch-cost", Static).update(plain(cost))
        dates = dates_of(facts.profile, model, facts.shutdowns.get(model, ""), facts.today)
        self.query_one("#launch-dates", Static).update(plain("\n".join(dates)))
        self.query_one("#launch-trouble", Static).update(plain(trouble))
        for button in ("#launch-go", "#launch-queue"):
            self.query_one(button, Button).disabled = bool(trouble)

    @property
    def _model(self) -> str:
        value = self.query_one("#launch-model", Select).value
        return value if isinstance(value, str) else self._facts.model

    def _request(self) -> LaunchRequest:
        """Return what the fields say; raises UsageError with the field's name."""
        suffix = self._text("suffix")
        if len(suffix) > _LONGEST_SUFFIX:
            raise UsageError("Suffix", f"at most {_LONGEST_SUFFIX} characters")
        seed = self._text("seed")
        if seed and not (seed.isascii() and seed.isdigit() and int(seed) < 2**31):
            raise UsageError("Seed", "a whole number from 0 to 2147483647, or empty")
        return LaunchRequest(
            model=self._model,
            training=self._facts.training.path,
            validation=self._facts.validation.path if self._facts.validation else None,
            hyperparameters=Hyperparameters(
                n_epochs=_whole("Epochs", self._text("epochs"), 50),
                batch_size=_whole("Batch size", self._text("batch"), 256),
                learning_rate_multiplier=_positive("Learning rate multiplier", self._text("rate")),
            ),
            suffix=suffix or None,
            seed=int(seed) if seed else None,
            launch=new_launch_id(),
        )

    def _text(self, field: str) -> str:
        return self.query_one(f"#launch-{field}", Input).value.strip()

    @on(Button.Pressed, "#launch-go")
    @on(Input.Submitted)
    def _go(self) -> None:
        if not self.query_one("#launch-go", Button).disabled:
            self.dismiss(self._request())

    @on(Button.Pressed, "#launch-queue")
    def action_into_queue(self) -> None:
        """Let the launch wait for its turn."""
        if not self.query_one("#launch-queue", Button).disabled:
            self.dismiss(IntoQueue(self._request()))

    @on(Button.Pressed, "#launch-here")
    def _here(self) -> None:
        self.dismiss(TrainHere())

    @on(Button.Pressed, "#launch-no")
    def action_call_off(self) -> None:
        """Close; nothing is sent."""
        self.dismiss(None)


def _fact(label: str, text: str, name: str | None = None) -> Widget:
    return Horizontal(
        Static(label, classes="label", markup=False), Static(plain(text), id=name, markup=False, classes="value"),
        classes="row",
    )  # fmt: skip


def _field(label: str, name: str, value: str) -> Iterable[Widget]:
    yield Static(label, classes="label", markup=False)
    yield TextField(value, compact=True, id=f"launch-{name}", select_on_focus=True)


def _whole(name: str, text: str, most: int) -> int | Auto:
    if text in ("", "auto"):
        return "auto"
    if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
        return int(text)
    raise UsageError(name, f"auto, or a whole number from 1 to {most}")


def _positive(name: str, text: str) -> float | Auto:
    if text in ("", "auto"):
        return "auto"
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1000:
        raise UsageError(name, "auto, or a number above 0")
    return number


def file_line(file: FileFacts) -> str:
    """Return a file's name, count, size and the head of its hash."""
    size = f"{file.bytes / 1e6:,.1f} MB" if file.bytes >= 1e6 else f"{file.bytes / 1e3:,.1f} kB"
    count = f"{file.conversations:,} conversation{'' if file.conversations == 1 else 's'}"
    return f"{file.path.name} · {count} · {size} · sha256 {file.sha256[:8]}…"


def findings_line(errors: int, warnings: int) -> str:
    """Return how many findings are left."""
    found = ((errors, "error"), (warnings, "warning"))
    parts = [f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in found if count]
    return " and ".join(parts) + " left" if parts else "none left"


def cost_line(estimate: Estimate, profile: Profile, today: date) -> str:
    """Return the cost with its range, the date of the price and its age, and how it comes about."""
    how = f"{estimate.billed_tokens:,} tokens in {estimate.epochs.n} epochs ({estimate.epochs.rule})"
    if profile.is_local:
        return f"free: it trains on this machine · {how}"
    if estimate.usd is None or estimate.low is None or estimate.high is None:
        return f"unknown: no price is known for this model · {how}"
    spread = (
        ""
        if estimate.low == estimate.high
        else f" ({dollar_text(estimate.low)} to {dollar_text(estimate.high)})"
    )
    age = estimate.price.age(today) if estimate.price else None
    as_of = (
        f" · price of {estimate.price.as_of}, {age:,} days old" if estimate.price and age is not None else ""
    )
    return f"about {dollar_text(estimate.usd)}{spread}{as_of}\n{how}"


def dollar_text(usd: float) -> str:
    """Return an amount of money, never a nothing that costs something."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else "under $0.01"


def dates_of(profile: Profile, model: str, shutdown: str, today: date) -> list[str]:
    """Return the dates that matter for this job, those near or past marked."""
    lines = []
    if profile.closes:
        name = profile.label or profile.name
        lines.append(
            _dated(profile.closes, today, f"{name} takes no new job from", "this one may be refused")
        )
    if shutdown:
        lines.append(
            _dated(shutdown, today, f"{model} and what is tuned from it stop on", "it may not answer")
        )
    return lines or ["none known that touch this job"]


def _dated(day: str, today: date, what: str, when_past: str) -> str:
    days = (date.fromisoformat(day) - today).days
    if days < 0:
        return f"! {what} {day}: that day is past, {when_past}"
    return f"{'! ' if days <= _SOON else ''}{what} {day}, in {days} day{'' if days == 1 else 's'}"
