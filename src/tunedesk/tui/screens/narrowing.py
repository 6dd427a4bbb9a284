"""Narrowing on the Data screen: facets of what is shown, completion in the filter bar, queries kept under names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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

    _values: FieldValues | None = None
    _wanted_match = 0
    """The step by which the next conversation was gone to, for its first (or last) match; 0 otherwise."""

    def warm(self, workspace: Workspace) -> None:
        """Read ahead what searches of a dataset read, so that the first key of a filter is as quick as the others."""
        task = self._ahead(_WARM_S, workspace.dataset.warm)
        self.desk.work(task, name="reading ahead", group="warm", exclusive=True)

    def read_edits(self, workspace: Workspace) -> None:
        """Read ahead what edits have made of rows, of a million half a minute's work, before a filter asks for it."""
        task = self._ahead(_REST_S, partial(workspace.overlay.read_ahead, workspace.dataset))
        self.desk.work(task, name="reading edits", group="edits", exclusive=True)

    async def _ahead(self, rest: float, read: Callable[[Callable[[], bool]], object]) -> None:
        """Read in a thread after a rest, until done or until nobody waits for it any more."""
        stop = threading.Event()
        await asyncio.sleep(rest)
        try:
            await asyncio.to_thread(read, stop.is_set)
        finally:
            stop.set()

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
        fields = workspace.dataset.field_names()
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
