"""Narrowing on the Data screen: facets of what is shown, completion in the filter bar, queries kept under names."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.message import Message

from tunedesk.tui.panes.conversation_list import ConversationList
from tunedesk.tui.panes.conversation_view import ConversationView
from tunedesk.tui.panes.facets import FacetsPane
from tunedesk.tui.panes.filter_bar import FilterBar
from tunedesk.tui.screens.prompting import PromptingScreen
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.core.searching.completion import Candidate, FieldValues
    from tunedesk.core.searching.facets import Facet
    from tunedesk.core.workspace import Workspace

_REST_S = 0.15
"""Seconds that a filter rests before its facets are counted: while somebody types, the list comes first."""


_WARM_S = 0.2
"""Seconds after which what a search reads is read ahead: the first rows are painted before."""


@dataclass
class FacetsCounted(Message):
    """One more field was counted over the matches, or all were."""

    facets: tuple[Facet, ...]
    matched: int
    complete: bool


@dataclass
class QueryCompleted(Message):
    """It is known how a query may go on."""

    text: str
    candidates: tuple[Candidate, ...]


class NarrowingScreen(PromptingScreen):
    """A screen whose list is narrowed by values as well as by typing."""

    edits_read: asyncio.Event | None = None
    """Set once what edits made of rows is indexed: what else reads all rows would only hold that up."""
    _values: FieldValues | None = None
    _wanted_match = 0
    """The step by which the next conversation was gone to, for its first (or last) match; 0 otherwise."""

    def warm(self, workspace: Workspace) -> None:
        """Read ahead what searches of a dataset read, so that the first key of a filter is as quick as the others."""
        self.desk.work(self._warming(workspace), name="reading ahead", group="warm", exclusive=True)

    async def _warming(self, workspace: Workspace) -> None:
        stop = threading.Event()
        await asyncio.sleep(_WARM_S)
        try:
            await asyncio.to_thread(workspace.dataset.warm, stop.is_set)
        finally:
            stop.set()

    def read_edits(self, workspace: Workspace) -> None:
        """Read ahead what edits have made of rows, of a million many seconds' work, before a filter asks for it."""
        self.edits_read = asyncio.Event()
        task = self._reading_edits(workspace, self.edits_read)
        self.desk.work(task, name="reading edits", group="edits", exclusive=True)

    async def _reading_edits(self, workspace: Workspace, done: asyncio.Event) -> None:
        bench, stop = self.workbench, threading.Event()
        await asyncio.sleep(_REST_S)
        try:
            await self.desk.in_thread(
                lambda told: bench.read_edits(workspace.overlay, workspace.dataset, stop.is_set, told),
                name="reading edits",
            )
        finally:
            stop.set()
            done.set()

    # --- matches

    @on(ConversationView.MatchesPassed)
    def _matches_passed(self, event: ConversationView.MatchesPassed) -> None:
        listing = self.query_one(ConversationList)
        if self.workspace is None or not self.workspace.marks:
            self.say("nothing to look for: / filters by a text, then n and N go from match to match")
        elif 0 <= listing.cursor + event.step < listing.count:
            self._wanted_match = event.step
            listing.cursor += event.step
        else:
            self.say("no further match" if event.step > 0 else "no match before")

    def go_to_wanted_match(self) -> None:
        """Go to the first match of a conversation that was gone to for it, or the last one when going back."""
        step, self._wanted_match = self._wanted_match, 0
        if step:
            self.query_one(ConversationView).action_match(step)

    # --- completion

    @on(FilterBar.QueryChanged)
    def _complete(self, event: FilterBar.QueryChanged) -> None:
        if self.workspace is not None:
            task = self._completing(self.workspace, event.text)
            self.desk.work(task, name="completing", group="complete", exclusive=True)

    async def _completing(self, workspace: Workspace, text: str) -> None:
        if self._values is None or not self._values.fits(workspace):
            self._values = self.workbench.field_values(workspace)
        fields = workspace.target.field_names()
        found = await asyncio.to_thread(self.workbench.completions, text, fields, self._values)
        self.post_message(QueryCompleted(text, tuple(found)))

    @on(QueryCompleted)
    def _completed(self, event: QueryCompleted) -> None:
        self.query_one(FilterBar).offer(event.text, event.candidates)

    # --- facets

    def action_facets(self) -> None:
        """Open the facets beside the list, or close them."""
        self.toggle_class("-facets")
        if self.has_class("-facets"):
            self.query_one(FacetsPane).query_one(VirtualList).focus()
            self.count_facets()
        else:
            self.query_one(ConversationList).focus()

    def count_facets(self) -> None:
        """Count the facets of what is shown, while they are open; what was being counted before is given up."""
        if self.workspace is not None and self.has_class("-facets"):
            self.desk.work(
                self._counting_facets(self.workspace), name="counting facets", group="facets", exclusive=True
            )

    async def _counting_facets(self, workspace: Workspace) -> None:
        await asyncio.sleep(_REST_S)
        stop = threading.Event()

        def counting() -> None:
            found: list[Facet] = []
            for facet in self.workbench.facets(workspace, stop.is_set):
                found.append(facet)
                if not stop.is_set():
                    self.post_message(FacetsCounted(tuple(found), workspace.matched, False))
            if not stop.is_set():
                self.post_message(FacetsCounted(tuple(found), workspace.matched, True))

        try:
            await asyncio.to_thread(counting)
        finally:
            stop.set()

    @on(FacetsCounted)
    def _facets_counted(self, event: FacetsCounted) -> None:
        pane = self.query_one(FacetsPane)
        if event.complete or not pane.counted_once:
            pane.show(event.facets, event.matched, complete=event.complete)

    @on(FacetsPane.Narrowed)
    def _narrowed(self, event: FacetsPane.Narrowed) -> None:
        bar = self.query_one(FilterBar)
        with self.desk.reporting("narrowing"):
            bar.set_text(self.workbench.narrowed(bar.text, event.term))

    @on(FacetsPane.Left)
    def _facets_left(self) -> None:
        self.remove_class("-facets")
        self.query_one(ConversationList).focus()
