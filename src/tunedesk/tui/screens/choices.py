"""What is chosen in dialogs on the Data screen: files and datasets, who trains what, the split, the launch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from textual import on
from textual.reactive import reactive

from tunedesk.tui.messages import FileGiven, ProgressMade, RowsWanted
from tunedesk.tui.panes.conversation_list import SORTABLE, ConversationList
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.screens.curation import conversations
from tunedesk.tui.screens.data_work import ModelsListed, SplitWritten
from tunedesk.tui.screens.dialogs import ChooseDialog, TextDialog
from tunedesk.tui.screens.import_file import ImportDialog, ImportRequest
from tunedesk.tui.screens.importing import ImportingDialog
from tunedesk.tui.screens.launching import ask_and_launch
from tunedesk.tui.screens.reopening import ReopeningScreen
from tunedesk.tui.screens.split import SplitDialog, SplitRequest
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from textual.worker import Worker

    from tunedesk.config import Profile
    from tunedesk.core.checking.findings import Finding
    from tunedesk.workbench import Imported, SplitFiles


_SORTING = "sorting"
_STOPPED_BY_ESCAPE = ("ask", "check")
"""Groups of workers that change nothing before they have an answer."""
_SOON_S = 0.3
"""Seconds after which it is told what is waited for."""
_OTHER = "\0other"
"""Key of the choice to type what is not listed."""


class ChoicesScreen(ReopeningScreen):
    """A screen over one dataset, from its import to its launch."""

    findings: reactive[tuple[Finding, ...] | None] = reactive(None)
    """None until the workspace was checked."""

    def __init__(self) -> None:
        """Begin without files to launch with."""
        super().__init__()
        self.split_files: SplitFiles | None = None
        """What the last split of this workspace wrote."""
        self._wanted: RowsWanted | None = None

    def action_import(self) -> None:
        """Ask for a file and import it, told how far it is and what came of it."""

        def chosen(request: ImportRequest | None) -> None:
            if request is not None:
                self._import(request)

        self.app.push_screen(ImportDialog(), chosen)

    @on(FileGiven)
    def _file_given(self, event: FileGiven) -> None:
        self._import(ImportRequest(event.path))

    def _import(self, request: ImportRequest) -> None:
        self.app.push_screen(ImportingDialog(request, self._imported), self._import_ended)

    def _imported(self, done: Imported) -> None:
        count = conversations(done.report.imported)
        self.desk.change(f"imported {count} as {done.report.format}", lambda _, __: done.workspace)

    def _import_ended(self, done: bool | None) -> None:
        if done:
            return
        stopped = "import stopped: nothing was kept"
        self.say(stopped)
        if self.workspace is None:
            self.desk.open_sample(f"{stopped}; these are the sample conversations")

    def action_open(self) -> None:
        """Choose an imported dataset."""
        known = [
            (info.id, f"{info.name}  {info.conversations:,} conversations  from {info.source}")
            for info in self.workbench.datasets()
        ]
        current = self.workspace.dataset.id if self.workspace else ""
        self.app.push_screen(
            ChooseDialog("Open a dataset", known, current),
            lambda name: self.desk.open(name) if name else None,
        )

    def action_provider(self) -> None:
        """Choose who trains, or add an endpoint by its base URL."""
        known = self.workbench.profiles().items()
        choices = [
            *((name, one.label or name) for name, one in known),
            (_OTHER, "another endpoint: type its base URL"),
        ]
        self.app.push_screen(ChooseDialog("Who trains", choices, self.desk.profile), self._provider_chosen)

    def _provider_chosen(self, name: str | None) -> None:
        if name == _OTHER:
            note = "an endpoint that speaks OpenAI's API; its key is read from TUNEDESK_API_KEY"
            dialog = TextDialog("Another endpoint", placeholder="https://host/v1", note=note)
            self.app.push_screen(dialog, self._endpoint_typed)
        elif name is not None:
            self._use(self.workbench.profiles()[name])

    def _endpoint_typed(self, base_url: str | None) -> None:
        if base_url:
            with self.desk.reporting("adding the endpoint"):
                self._use(self.workbench.add_profile(base_url))

    def _use(self, profile: Profile) -> None:
        self.desk.profile = profile.name
        self.desk.model = profile.default_model or self.desk.model
        self.say(f"{profile.label or profile.name}: m chooses the model")

    def action_model(self) -> None:
        """Choose the base model among those that the provider can tune, or type one."""
        profile = self.workbench.profiles()[self.desk.profile]

        async def asking() -> None:
            names = await self.workbench.tunable_models(profile)
            self.post_message(ModelsListed(tuple(names)))

        self.say(f"asking {profile.label or profile.name} for its models…")
        self.desk.work(asking(), name="asking for models", group="models", exclusive=True)

    @on(ModelsListed)
    def _models_listed(self, event: ModelsListed) -> None:
        self.say("")
        if not event.names:
            self._type_model()
            return
        profile, spending = self.workbench.profiles()[self.desk.profile], self.workbench.spending
        choices = [
            *((name, " · ".join([name, *spending.notes(name, profile)])) for name in event.names),
            (_OTHER, "another one: type its name"),
        ]
        self.app.push_screen(ChooseDialog("Base model", choices, self.desk.model), self._model_chosen)

    def _model_chosen(self, model: str | None) -> None:
        if model == _OTHER:
            self._type_model()
        elif model:
            self.desk.model = model

    def _type_model(self) -> None:
        dialog = TextDialog(
            "Base model", value=self.desk.model, note="the name that the provider knows it by"
        )
        self.app.push_screen(dialog, self._model_chosen)

    # --- conversations that another screen asks for

    @on(RowsWanted)
    def _rows_wanted(self, event: RowsWanted) -> None:
        self._wanted = event
        self.show_wanted_rows()

    def show_wanted_rows(self) -> None:
        """Show the conversations that were asked for once their dataset is open and what they are found by is known."""
        wanted, workspace = self._wanted, self.workspace
        if wanted is None or workspace is None or workspace.dataset.id != wanted.dataset:
            return
        if workspace.known.loss is None:
            return
        self._wanted = None

        async def searching() -> None:
            found = await asyncio.to_thread(
                lambda: workspace.with_query(wanted.query).with_sort(wanted.sort, True)
            )
            self.desk.view(found)
            self.query_one(FilterBar).show_text(wanted.query)
            self.query_one(ConversationList).focus()
            self.say(wanted.told)

        self.desk.work(searching(), name="filter", group="filter", exclusive=True)

    # --- split and launch

    def action_split(self) -> None:
        """Ask for the share and write training and validation files."""
        workspace = self.workspace
        assert workspace is not None
        self.app.push_screen(
            SplitDialog(workspace.included_count, workspace.target.field_names()), self._split
        )

    def _split(self, request: SplitRequest | None) -> None:
        workspace, bench = self.workspace, self.workbench
        if request is None or workspace is None:
            return

        async def splitting() -> None:
            files = await self.desk.in_thread(
                lambda _: bench.split(
                    workspace, validation=request.validation, seed=request.seed, by=request.by
                ),
                name="splitting",
            )
            self.post_message(SplitWritten(files))

        self.desk.work(splitting(), name="splitting", group="split", exclusive=True)

    @on(SplitWritten)
    def _split_written(self, event: SplitWritten) -> None:
        files = event.files
        self.split_files = files
        self.say(
            f"{files.train_count:,} to train on, {files.validation_count:,} held back, {files.leaks} leaks;"
            f" in {files.train.parent}: l launches"
        )

    def action_launch(self) -> None:
        """Ask how to train, and launch."""
        assert self.workspace is not None
        task = ask_and_launch(
            self.desk, self.workbench, self.workspace, split=self.split_files, findings=self.findings
        )
        self.desk.work(task, name="launching", group="launch", exclusive=True)

    # --- order and selection

    def action_select_all(self) -> None:
        """Select all rows that the filter matched."""
        listing = self.query_one(ConversationList)
        listing.selected = self.workspace.found.as_set if self.workspace else frozenset()
        many = len(listing.selected)
        told = f"selected {conversations(many)}: x excludes, t tags, Escape forgets"
        self.say(told if many else "nothing to select: clear the filter first")

    def action_sort(self) -> None:
        """Choose the column that orders the list; the same one again turns the order."""
        choices = [(column.key, column.title) for column in SORTABLE]
        sort = self.workspace.sort if self.workspace else None
        self.app.push_screen(
            ChooseDialog("Order by (again: the other way)", choices, sort.column if sort else "line"),
            self._sort_by,
        )

    @on(VirtualList.HeaderChosen)
    def _header_chosen(self, event: VirtualList.HeaderChosen) -> None:
        if event.key in {column.key for column in SORTABLE}:
            self._sort_by(event.key)

    def _sort_by(self, column: str | None) -> None:
        workspace = self.workspace
        if workspace is None or column is None:
            return
        sort = workspace.sort
        falls = sort is not None and sort.column == column and not sort.descending
        title = next((one.title for one in SORTABLE if one.key == column), column)

        async def sorting() -> None:
            told = self.set_timer(_SOON_S, lambda: self.say(f"ordering by {title}… Esc stops"))
            try:
                self.desk.view(await asyncio.to_thread(workspace.with_sort, column, falls))
            finally:
                told.stop()
            if self.status_line.message.startswith("ordering by"):
                self.say(f"ordered by {title}")

        self.desk.work(sorting(), name=_SORTING, group="filter", exclusive=True)

    # --- stopping what takes long

    def _stoppable(self) -> list[Worker[Any]]:
        return [
            one
            for one in self.app.workers
            if not one.is_finished and (one.group in _STOPPED_BY_ESCAPE or one.name == _SORTING)
        ]

    def stop_asking(self) -> bool:
        """Stop what looks at the conversations for an answer, or orders them; False when nothing does."""
        found = self._stoppable()
        for one in found:
            one.cancel()
        if found:
            self.say(f"stopped: {found[0].name}; nothing was changed")
        return bool(found)

    def show_progress(self, event: ProgressMade) -> None:
        """Show how far the work in the background is, and how it is stopped."""
        super().show_progress(event)
        line = self.status_line
        if line.progress and any(one.name == event.name or one.group == "ask" for one in self._stoppable()):
            line.progress += " · Esc stops"
