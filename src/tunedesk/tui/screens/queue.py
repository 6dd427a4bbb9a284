"""The queue on screen: places in order at any provider, their results, what stops it, and the best of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.errors import TunedeskError
from tunedesk.jobs import Lineup, best_place
from tunedesk.jobs.lineup import spent
from tunedesk.store import QueuedLaunch, QueueRules
from tunedesk.tui.panes.job_lineage import given_line
from tunedesk.tui.panes.job_view import status_text
from tunedesk.tui.screens.dialogs import ChooseDialog, Dialog, TextDialog
from tunedesk.tui.screens.queue_adding import add_to_queue
from tunedesk.tui.widgets.plain import plain, plain_line
from tunedesk.tui.widgets.virtual_list import Column, ListRow, VirtualList

if TYPE_CHECKING:
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Workbench

_COLUMNS = (
    Column("turn", "", 2, right=True), Column("best", "", 1), Column("state", "state", 13),
    Column("epochs", "epochs", 6, right=True), Column("batch", "batch", 5, right=True),
    Column("rate", "rate", 6, right=True), Column("train", "train", 6, right=True),
    Column("valid", "valid", 6, right=True), Column("cost", "cost", 7, right=True),
    Column("model", "model"), Column("provider", "provider", 8), Column("job", "job or reason", 24),
)  # fmt: skip
_FIRST_TO_GO = ("job", "provider", "batch")
_MODEL_LEAST = 14
_LOOK = 0.5
"""Seconds between two looks at the queue."""


@dataclass(frozen=True, slots=True)
class QueueAnswer:
    """What was chosen in the queue: models to chat with, else a job to follow."""

    profile: str = ""
    models: tuple[str, ...] = ()
    job: str = ""


class QueueDialog(Dialog[QueueAnswer]):
    """Order, progress and results; Esc closes it and the queue goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "run", "Run or pause", id="queue.run", priority=True,
                tooltip="Let the queue begin what waits, or pause it; the running job goes on"),
        Binding("a", "add", "Add", id="queue.add", tooltip="Add a job, or a grid of them"),
        Binding("less_than_sign", "move(-1)", "Earlier", id="queue.earlier", tooltip="One turn earlier"),
        Binding("greater_than_sign", "move(1)", "Later", id="queue.later", tooltip="One turn later"),
        Binding("r", "again", "Again", id="queue.again",
                tooltip="Let what failed, was cancelled or held back wait for another turn"),
        Binding("x", "remove", "Take out", id="queue.remove", tooltip="Take the place out of the queue"),
        Binding("z", "clear", "Clear", id="queue.clear", tooltip="Take out all that is over"),
        Binding("u", "rules", "Rules", id="queue.rules", tooltip="Budget, and failures after which it stops"),
        Binding("C", "chat", "Chat with the best", id="queue.chat",
                tooltip="Chat with the model of the lowest validation loss beside its base"),
    ]  # fmt: skip

    @dataclass
    class Looked(Message):
        """The queue was read."""

        places: list[QueuedLaunch]
        rules: QueueRules

    def __init__(self, lineup: Lineup, workbench: Workbench) -> None:
        """Show `lineup`."""
        super().__init__("Queue", "␣ run · a add · r again · <> turn · x out · z clear · u rules · C best")
        self._lineup = lineup
        self._workbench = workbench
        self._places: list[QueuedLaunch] = []
        self._rules = QueueRules()

    def compose_body(self) -> Iterable[Widget]:
        """Yield how it stands, the places, all of the one under the cursor, and what happens."""
        yield Static("", id="queue-head", markup=False)
        yield VirtualList(
            _COLUMNS, self._rows, empty="nothing waits: a adds a job, or a grid of them", id="queue"
        )
        yield Static("", id="queue-about", markup=False)
        yield Static("", id="queue-line", markup=False)

    @property
    def desk(self) -> Desk:
        """The app, typed."""
        return cast("Desk", self.app)

    def on_mount(self) -> None:
        """Look now and then."""
        self.run_worker(self._watch(), name="reading the queue")

    def on_resize(self) -> None:
        """Show the columns that there is room for."""
        listing = self.query_one(VirtualList)
        shown = {column.key: column for column in _COLUMNS}
        for key in _FIRST_TO_GO:
            if self.size.width - 8 - sum(column.width + 1 for column in shown.values()) >= _MODEL_LEAST:
                break
            del shown[key]
        listing.columns = tuple(shown.values())
        listing.reload()

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK)

    async def _look(self) -> None:
        places, rules = await asyncio.to_thread(lambda: (self._lineup.places(), self._lineup.rules()))
        if (places, rules) != (self._places, self._rules) or not self._places:
            self.post_message(self.Looked(places, rules))

    @on(Looked)
    def _looked(self, event: Looked) -> None:
        same = [one.id for one in event.places] == [one.id for one in self._places]
        self._places, self._rules = event.places, event.rules
        listing = self.query_one(VirtualList)
        if same:
            listing.reload()
        else:
            listing.show(range(len(self._places)), keep_place=True)
        self.query_one("#queue-head", Static).update(plain_line(head_line(self._places, self._rules)))
        self._tell_place()

    @on(VirtualList.CursorMoved)
    def _tell_place(self) -> None:
        """Tell the whole of what the line of the place under the cursor may cut."""
        chosen = self._chosen
        self.query_one("#queue-about", Static).update(plain(about(chosen) if chosen else ""))

    def _rows(self, indexes: Sequence[int]) -> list[ListRow]:
        winner = best_place(self._places)
        columns = [column.key for column in self.query_one(VirtualList).columns]
        rows = []
        for index in indexes:
            one = self._places[index]
            asked = one.hyperparameters
            cells = {
                "turn": str(index + 1), "best": "★" if winner is not None and winner.id == one.id else "",
                "state": status_text(one.state), "epochs": str(asked.n_epochs), "batch": str(asked.batch_size),
                "rate": str(asked.learning_rate_multiplier), "train": _loss(one.train_loss),
                "valid": _loss(one.valid_loss), "cost": _cost(one),
                "model": one.fine_tuned_model or one.model, "provider": one.profile, "job": one.reason or one.job or "",
            }  # fmt: skip
            rows.append(ListRow([cells[key] for key in columns], "bad" if one.state == "failed" else ""))
        return rows

    @property
    def _chosen(self) -> QueuedLaunch | None:
        index = self.query_one(VirtualList).index
        return self._places[index] if index is not None and index < len(self._places) else None

    def tell(self, text: str) -> None:
        """Say what happened."""
        self.query_one("#queue-line", Static).update(plain_line(text))

    def _do(self, act: Callable[[], object], told: str) -> None:
        """Change the queue, and say so or why not."""
        try:
            act()
        except TunedeskError as error:
            self.tell(f"! {error.message}")
            return
        self.tell(told)
        self.run_worker(self._look(), name="reading the queue")

    # --- keys

    def action_run(self) -> None:
        """Let the queue begin what waits, or pause it."""
        running = not self._rules.running
        told = "it begins what waits" if running else "paused: the running job goes on, nothing new begins"
        self._do(lambda: self._lineup.set_rules(replace(self._lineup.rules(), running=running)), told)

    def action_move(self, way: int) -> None:
        """Give the place under the cursor an earlier or a later turn."""
        if (chosen := self._chosen) is not None:
            self._do(lambda: self._lineup.move(chosen.id, way), "earlier" if way < 0 else "later")
            listing = self.query_one(VirtualList)
            listing.cursor += way

    def action_again(self) -> None:
        """Let the place under the cursor wait for another turn."""
        if (chosen := self._chosen) is not None:
            self._do(lambda: self._lineup.again(chosen.id), f"{chosen.model} waits again")

    def action_remove(self) -> None:
        """Take the place under the cursor out."""
        if (chosen := self._chosen) is not None:
            self._do(lambda: self._lineup.remove(chosen.id), f"{chosen.model} is out")

    def action_clear(self) -> None:
        """Take out all that is over."""
        self._do(self._lineup.clear, "what was over is out")

    @work
    async def action_rules(self) -> None:
        """Ask for the budget and the number of failures that stop it."""
        rules = self._lineup.rules()
        choices = [
            ("budget", f"budget: {_dollars(rules.budget)}"),
            ("failures", f"failures: {_count(rules.failures)}"),
        ]
        what = await self.app.push_screen_wait(ChooseDialog("What stops the queue", choices))
        if what is None:
            return
        note = "US dollars for all places together" if what == "budget" else "failed jobs"
        now = getattr(rules, what)
        typed = await self.app.push_screen_wait(
            TextDialog(
                what.capitalize(), value="" if now is None else f"{now:g}", note=f"{note}; empty for no limit"
            )
        )
        if typed is None:
            return
        try:
            value = None if not typed.strip() else float(typed)
            if value is not None and not 0 <= value < 1e9:
                raise ValueError
        except ValueError:
            self.tell(f"! {typed!r} is no number of 0 or more")
            return
        if what == "budget":
            changed = replace(rules, budget=value)
        else:
            changed = replace(rules, failures=None if value is None else max(1, int(value)))
        self._do(lambda: self._lineup.set_rules(changed), f"{what}: {typed or 'no limit'}")

    def action_chat(self) -> None:
        """Chat with the best beside its base."""
        winner = best_place(self._places)
        if winner is None or not winner.fine_tuned_model:
            self.tell("! no job has succeeded yet")
            return
        self.dismiss(QueueAnswer(winner.profile, (winner.model, winner.fine_tuned_model)))

    @on(VirtualList.Opened)
    def _opened(self) -> None:
        if (chosen := self._chosen) is not None and chosen.job:
            self.dismiss(QueueAnswer(chosen.profile, job=chosen.job))
        else:
            self.tell("! it has no job yet")

    @work
    async def action_add(self) -> None:
        """Ask what to train, where and how, and put it at the end."""
        with self.desk.reporting("adding to the queue"):
            self.tell(await add_to_queue(self.desk, self._workbench, self._lineup))
            await self._look()


def head_line(places: Sequence[QueuedLaunch], rules: QueueRules) -> str:
    """Return how the queue stands, what it has cost, and what stops it."""
    waiting = sum(one.state == "waiting" for one in places)
    over = [one for one in places if one.state not in ("waiting", "running", "not started")]
    state = "▶ runs" if rules.running else "‖ paused: space lets it run"
    told = f"{state} · {waiting} waiting, {len(over)} over · ${spent(places):,.2f} spent"
    told += f" of {_dollars(rules.budget)}" if rules.budget is not None else ""
    return told + (f" · {_count(rules.failures)}" if rules.failures is not None else "")


def about(place: QueuedLaunch) -> str:
    """Return what one place asks for, and what came of it or why nothing did."""
    what = [f"! {place.reason}"] if place.reason else []
    what += [f"{place.model} at {place.profile}", given_line(place.hyperparameters)]
    what += [f"job {place.job}: Enter follows it"] if place.job else []
    return " · ".join(what)


def _dollars(usd: float | None) -> str:
    return "no limit" if usd is None else f"${usd:,.2f}"


def _count(failures: int | None) -> str:
    return "goes on after failures" if failures is None else f"stops after {failures} failed"


def _cost(place: QueuedLaunch) -> str:
    """Return what a place cost, or may cost while it is to come."""
    sent_nothing = place.job is None and place.state not in ("waiting", "running")
    return "" if place.usd is None or sent_nothing else f"${place.usd:,.2f}"


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
