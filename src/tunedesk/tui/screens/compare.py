"""The Compare screen: did it get better? The same held-out prompts through each model, scored and side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from tunedesk import evaluate
from tunedesk.core.conversations import Conversation, from_row
from tunedesk.errors import DataError
from tunedesk.evaluate import Answer, CompareResult
from tunedesk.paths import private_folder
from tunedesk.tui.messages import CompareWanted, ProgressMade, WorkbenchLoaded
from tunedesk.tui.panes.answers import AnswerPanes, ItemList
from tunedesk.tui.panes.compare_view import CompareView, score_lines, taken_lines
from tunedesk.tui.screens.asking_cost import answer_cost
from tunedesk.tui.screens.chat_dialogs import ModelsDialog
from tunedesk.tui.screens.desk_screen import DeskScreen
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.widgets.plain import plain, plain_line
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.workbench import Workbench

_ANOTHER = "?"
"""Key of the choice that asks for a path."""


class CompareScreen(DeskScreen):
    """What is compared, the table of scores, and every prompt with its answers."""

    MODE = "compare"
    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = "ItemList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run", id="compare.run", tooltip="Ask the models, or go on where it was stopped"),
        Binding("escape", "stop", "Stop", id="compare.stop", tooltip="Stop asking; what is answered is kept"),
        Binding("o", "source", "Prompts", id="compare.source", tooltip="Choose the held-out conversations"),
        Binding("m", "models", "Models", id="compare.models", tooltip="Choose the models"),
        Binding("n", "limit", "Limit", id="compare.limit", tooltip="Choose how many prompts are asked"),
    ]

    view: reactive[CompareView] = reactive(CompareView, init=False, bindings=True)
    """The comparison as far as it is."""

    @dataclass
    class SetupFound(Message):
        """What to compare unless the user says otherwise."""

        source: str
        profile: str
        models: tuple[str, ...]

    @dataclass
    class ItemsRead(Message):
        """The held-out conversations were read."""

        items: tuple[Conversation, ...]

    @dataclass
    class AnswerCame(Message):
        """A model has answered a prompt."""

        answer: Answer

    @dataclass
    class ResultMade(Message):
        """The answers were scored, and the report written."""

        result: CompareResult
        report: Path

    @dataclass
    class ModelsListed(Message):
        """The provider told its models."""

        models: list[tuple[str, str]]

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self._asking: Worker[None] | None = None
        self._chosen = False

    def compose_body(self) -> Iterable[Widget]:
        """Yield the set-up, the scores, and prompts beside their answers."""
        yield Static("", id="setup", markup=False)
        yield Static("", id="scores", markup=False)
        yield Container(ItemList().data_bind(view=CompareScreen.view), AnswerPanes(), id="items")

    def on_mount(self) -> None:
        """Find out what to compare, once the services are there."""
        if self.desk.workbench is not None:
            self._find(self.desk.workbench)

    @on(WorkbenchLoaded)
    def _loaded(self, event: WorkbenchLoaded) -> None:
        self._find(event.workbench)

    def on_screen_resume(self) -> None:
        """Take up a newer model, unless something was chosen or asked."""
        if self.desk.workbench is not None and not self._chosen and not self.view.answers:
            self._find(self.desk.workbench)

    # --- what is compared

    def _find(self, workbench: Workbench) -> None:
        self.desk.work(self._setup(workbench), name="looking for held-out prompts", group="compare-setup")

    async def _setup(self, workbench: Workbench) -> None:
        """Take the last tuned model with its base, and prompts that it was not trained on."""
        profile = self.desk.profile
        workspace = self.desk.workspace
        dataset = "" if workspace is None or workspace.dataset.name == "banking" else workspace.dataset.id
        sources = await asyncio.to_thread(held_out_files, workbench, dataset)
        models: tuple[str, ...] = ()
        for known in await asyncio.to_thread(workbench.store.jobs, profile):
            if known.job.status == "succeeded" and known.job.fine_tuned_model:
                models = (known.job.model, known.job.fine_tuned_model)
                break
        else:
            base = workbench.profile(profile).default_model
            models = (base,) if base else ()
        self.post_message(self.SetupFound(str(sources[0]) if sources else "", profile, models))

    @on(SetupFound)
    def _setup_found(self, event: SetupFound) -> None:
        if not self._chosen and not self.view.answers:
            self.view = replace(self.view, source=event.source, profile=event.profile, models=event.models)
        elif not self.view.source:
            self.view = replace(self.view, source=event.source)

    async def watch_view(self, old: CompareView, new: CompareView) -> None:
        """Show set-up and scores; the prompts are bound, their answers follow the cursor."""
        name = Path(new.source).name if new.source else "no file: o chooses one"
        read = f"{len(new.items)}" if new.items else f"up to {new.limit}"
        setup = f"on {name} ({read} prompts) · {' against '.join(new.models) or 'no model: m chooses'}"
        self.query_one("#setup", Static).update(plain_line(setup))
        panes, scores = self.query_one(AnswerPanes), self.query_one("#scores", Static)
        panes.cost_of = partial(answer_cost, self.desk.workbench, new.profile)
        scores.display = new.result is not None
        if new.result is not None:
            lines = score_lines(new.result, max(40, self.size.width - 4))
            lines += taken_lines(new, panes.cost_of)
            scores.update(plain("\n".join([*lines, f"report: {new.report}"])))
        if old.models != new.models:
            await panes.show_models(new.models)
        index = self.query_one(ItemList).index
        here = [(index, model) for model in new.models] if index is not None else []
        if old.items != new.items or any(old.answers.get(key) != new.answers.get(key) for key in here):
            panes.show_item(new, index)

    @on(VirtualList.CursorMoved)
    def _cursor_moved(self, event: VirtualList.CursorMoved) -> None:
        self.query_one(AnswerPanes).show_item(self.view, event.index)

    # --- asking

    def action_run(self) -> None:
        """Ask the models; answers that are there already are not asked for again."""
        workbench = self.desk.workbench
        if workbench is not None:
            self._asking = self.desk.work(self._run(workbench, self.view), name="comparing", group="compare")
            self.refresh_bindings()

    async def _run(self, workbench: Workbench, view: CompareView) -> None:
        """Read the prompts, ask, score, and write the report; a stop keeps what is answered."""
        try:
            items = view.items
            if not items:
                items = await self.desk.in_thread(
                    lambda _: held_out(workbench, view.source, view.limit),
                    name="reading the held-out prompts",
                )
                self.post_message(self.ItemsRead(items))
            provider = await workbench.connect(workbench.profile(view.profile))
            result = await evaluate.compare(
                [(provider, model) for model in view.models],
                items,
                known=view.known,
                on_answer=self._tell_answer,
            )
            await self._report(workbench, result)
        finally:
            self._asking = None
            self.post_message(ProgressMade("", 0, 0))
            self.call_later(self.refresh_bindings)

    def _tell_answer(self, answer: Answer) -> None:
        self.post_message(self.AnswerCame(answer))

    async def _report(self, workbench: Workbench, result: CompareResult) -> None:
        folder = private_folder(workbench.paths.data / "reports")
        report = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.html"
        await asyncio.to_thread(evaluate.write_report, result, report)
        self.post_message(self.ResultMade(result, report))

    @on(ItemsRead)
    def _items_read(self, event: ItemsRead) -> None:
        self.view = replace(self.view, items=event.items)

    @on(AnswerCame)
    def _answer_came(self, event: AnswerCame) -> None:
        self.view = self.view.with_answer(event.answer)
        self.show_progress(ProgressMade("answers", len(self.view.known), self.view.wanted))
        if event.answer.error:
            self.say(f"{event.answer.model}: {event.answer.error}", "warning")

    @on(ResultMade)
    def _result_made(self, event: ResultMade) -> None:
        self.view = replace(self.view, result=event.result, report=event.report)
        whole = len(event.result.items) == len(self.view.items)
        done = (
            "compared"
            if whole
            else f"stopped: scores over the first {len(event.result.items)} prompts, r goes on"
        )
        self.say(f"{done} · report: {event.report}")

    def action_stop(self) -> None:
        """Stop asking, and score what all models have answered."""
        if self._asking is None or self.desk.workbench is None:
            return
        self._asking.cancel()
        self.desk.work(
            self._score_part(self.desk.workbench), name="scoring what is there", group="compare-part"
        )

    async def _score_part(self, workbench: Workbench) -> None:
        """Score the leading prompts that all models have answered: none of them is asked again."""
        view = self.view
        count = view.complete_items
        if not count:
            self.say("stopped before a prompt was answered by all models; r goes on")
            return
        provider = await workbench.connect(workbench.profile(view.profile))
        models = [(provider, model) for model in view.models]
        await self._report(workbench, await evaluate.compare(models, view.items[:count], known=view.known))

    # --- keys

    def why_not(self, action: str) -> str:
        """Return why a key is disabled now."""
        running = self._asking is not None
        if self.desk.workbench is None and action in ("run", "source", "models", "limit"):
            return "the workbench is still loading"
        if running and action in ("run", "source", "models", "limit"):
            return "models are being asked: Esc stops, what is answered is kept"
        if action == "stop" and not running:
            return "nothing is running: r starts"
        if action == "run" and not self.view.models:
            return "no model is chosen: m chooses"
        if action == "run" and not self.view.source:
            return "no held-out conversations: o chooses a file"
        return ""

    @work
    async def action_source(self) -> None:
        """Choose the held-out conversations: the shipped ones, a split's validation file, a dataset, a path."""
        workbench = self.desk.workbench
        if workbench is None:
            return
        files = await asyncio.to_thread(held_out_files, workbench, "")
        choices = [(str(path), f"{path.name}  in {path.parent}") for path in files]
        choices += [
            (entry.id, f"{entry.name}  dataset of {entry.conversations:,}") for entry in workbench.datasets()
        ]
        choices.append((_ANOTHER, "another file …"))
        source = await self.app.push_screen_wait(
            ChooseDialog("Held-out conversations", choices, self.view.source)
        )
        if source == _ANOTHER:
            source = await self.app.push_screen_wait(TextDialog("File of held-out conversations"))
        if source:
            self._chosen = True
            self.view = CompareView(source, self.view.profile, self.view.models, self.view.limit)

    def action_models(self) -> None:
        """Ask the provider for its models, then the user which are compared."""
        if self.desk.workbench is not None:
            task = self._list_models(self.desk.workbench, self.desk.profile)
            self.desk.work(task, name=f"models of {self.desk.profile}", group="models")

    async def _list_models(self, workbench: Workbench, profile: str) -> None:
        models = await workbench.askable_models(workbench.profile(profile), self.view.models)
        self.post_message(self.ModelsListed(models))

    @on(CompareWanted)
    def _wanted(self, event: CompareWanted) -> None:
        """Compare what another screen asks for; answers of the same provider stay."""
        self._chosen = True
        answers = self.view.answers if event.profile == self.view.profile else {}
        self.view = replace(
            self.view, profile=event.profile, models=event.models, answers=answers, result=None, report=None
        )
        self.say("r asks the models for their answers")

    @on(ModelsListed)
    @work
    async def _models_listed(self, event: ModelsListed) -> None:
        models = await self.app.push_screen_wait(ModelsDialog(event.models, self.view.models))
        if models:
            self._chosen = True
            changed = self.view.profile != self.desk.profile
            answers = {} if changed else self.view.answers
            self.view = replace(
                self.view, profile=self.desk.profile, models=models, answers=answers, result=None, report=None
            )

    @work
    async def action_limit(self) -> None:
        """Choose how many prompts are asked."""
        asked = await self.app.push_screen_wait(
            TextDialog(
                "How many prompts", value=str(self.view.limit), note="more prompts, narrower intervals"
            )
        )
        if asked is None:
            return
        if asked.strip().isdecimal() and int(asked) > 0:
            self._chosen = True
            self.view = replace(self.view, limit=int(asked), items=(), result=None, report=None)
        else:
            self.say(f"{asked!r} is not a number of prompts", "warning")


def held_out_files(workbench: Workbench, dataset: str) -> list[Path]:
    """Return files that models were not trained on: validation files of `dataset`'s splits, the shipped one, others."""
    splits = sorted(
        workbench.paths.data.glob("splits/*/validation.jsonl"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    own = [path for path in splits if dataset and path.parent.name.startswith(dataset)]
    return [*own, workbench.sample_file("holdout.jsonl"), *(path for path in splits if path not in own)]


def held_out(workbench: Workbench, source: str, limit: int) -> tuple[Conversation, ...]:
    """Return the first `limit` conversations of a file or dataset that end in an answer; raises DataError."""
    items: list[Conversation] = []
    try:
        for _, row in workbench.open_source(source).included():
            item = from_row(row)
            if item.prompt and item.reference.strip():
                items.append(item)
            if len(items) == limit:
                break
    except msgspec.ValidationError as error:
        raise DataError(f"{Path(source).name}: {error}", "choose a file of chat conversations") from error
    return tuple(items)
