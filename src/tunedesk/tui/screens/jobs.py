"""The Jobs screen: every known job, and the curves, events, diagnosis, checkpoints and lineage of the followed one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

from tunedesk.tui.panes.checkpoint_list import CheckpointList
from tunedesk.tui.panes.job_diagnosis import JobDiagnosis
from tunedesk.tui.panes.job_events import JobEvents
from tunedesk.tui.panes.job_lineage import JobLineage
from tunedesk.tui.panes.job_list import ORDERS, JobList, headline
from tunedesk.tui.panes.job_view import model_name
from tunedesk.tui.panes.loss_curve import MEASURES, SMOOTHING, LossCurve
from tunedesk.tui.screens.jobs_elsewhere import ElsewhereScreen
from tunedesk.tui.screens.jobs_following import FollowingScreen
from tunedesk.tui.widgets.plain import plain_line
from tunedesk.tui.widgets.tab_line import TabLine
from tunedesk.tui.widgets.text_fields import TextField
from tunedesk.tui.widgets.virtual_list import VirtualList

if TYPE_CHECKING:
    from tunedesk.workbench import Workbench

Side = Literal["events", "diagnosis", "checkpoints", "lineage"]
_TABS = (
    ("events", "e", "Events"), ("diagnosis", "d", "Diagnosis"), ("checkpoints", "v", "Saved"),
    ("lineage", "i", "Lineage"),
)  # fmt: skip
_PANES: dict[str, type[Widget]] = {
    "events": JobEvents, "diagnosis": JobDiagnosis, "checkpoints": CheckpointList, "lineage": JobLineage,
}  # fmt: skip


def _hidden(key: str, action: str, label: str, name: str, tooltip: str) -> Binding:
    return Binding(key, action, label, show=False, id=f"jobs.{name}", tooltip=tooltip)


class JobsScreen(ElsewhereScreen):
    """List, curves and what stands beside them; the followed job is tailed live, whoever launched it."""

    MODE = "jobs"
    CSS_PATH = "jobs.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-tall"), (34, "-taller")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel_job", "Cancel", id="jobs.cancel", tooltip="Cancel the job for good (asks first)"),
        Binding("p", "pause_job", "Pause", id="jobs.pause", tooltip="Pause the job, or let it go on"),
        Binding("C", "chat", "Chat", id="jobs.chat",
                tooltip="Chat with the tuned model, or the chosen checkpoint, beside its base"),
        _hidden("M", "compare", "Compare", "compare", "Compare the model with its base on held-out prompts"),
        Binding("f", "follow", "Follow", id="jobs.follow", tooltip="Follow the events again, or stop following"),
        Binding("a", "measure", "Loss/acc", id="jobs.measure", tooltip="Draw loss and accuracy, or one of them"),
        Binding("g", "log_scale", "Log", id="jobs.log", tooltip="Logarithmic or linear loss axis"),
        Binding("s", "smooth", "Smooth", id="jobs.smooth", tooltip="Smooth the training curves: none, 0.6, 0.9"),
        Binding("slash", "filter", "Filter", id="jobs.filter",
                tooltip="Filter the jobs: status:failed -provider:openai cost>5 words"),
        _hidden("o", "order", "Order", "order", "Order the jobs by the next column"),
        _hidden("O", "turn", "Turn the order", "turn", "Order the jobs the other way round"),
        Binding("r", "refresh", "Refresh", id="jobs.refresh", tooltip="Ask all providers for all their jobs"),
        _hidden("e", "side('events')", "Events", "events", "Show the events"),
        _hidden("d", "side('diagnosis')", "Diagnosis", "diagnosis", "Show what the curve says in plain words"),
        _hidden("v", "side('checkpoints')", "Saved checkpoints", "checkpoints", "Show the checkpoints"),
        _hidden("i", "side('lineage')", "Lineage", "lineage", "Show what the model came from"),
        _hidden("asterisk", "star", "Star", "star", "Star the checkpoint under the cursor as the best"),
        _hidden("b", "base", "Base of the next", "base", "Train the next job on top of this model"),
        _hidden("L", "losses", "Losses", "losses",
                "See all conversations of the job in Data by their latest loss, for loss>2"),
        _hidden("R", "remake", "Make again", "remake", "Make the model again by its recipe, here or elsewhere"),
        _hidden("T", "recipe", "Recipe", "recipe", "Open the model's recipe in your editor"),
        _hidden("E", "export", "Export", "export", "Save the model for other programs: adapter, merged, GGUF"),
        Binding("Q", "queue", "Queue", id="jobs.queue", tooltip="The queue: jobs in order, sweeps, results"),
        _hidden("U", "unfinished", "Unfinished launches", "unfinished",
                "Go on with a launch that was cut off, or give it up"),
        _hidden("F", "files", "Files", "files", "Files at a provider: list, upload, download, delete"),
        _hidden("I", "import_account", "Import account", "import",
                "Bring all jobs and files of an account here before it closes"),
        _hidden("A", "import_adapter", "Take an adapter in", "adapter",
                "Make a model of a LoRA adapter of another trainer"),
        _hidden("D", "dates", "Dates", "dates", "Calendar of what ends when"),
    ]  # fmt: skip

    side: reactive[Side] = reactive("events", init=False)
    """Which pane is shown beside (or under) the curves."""

    def __init__(self) -> None:
        """Begin with nothing to show again."""
        super().__init__()
        self._shown_last: dict[str, Any] = {}

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list over (or beside) curves and what is told of the followed job."""
        screen, following = JobsScreen, FollowingScreen
        yield Container(
            JobList().data_bind(rows=following.rows, view=following.view, pinned=following.pinned),
            TextField(
                id="jobs-filter", placeholder="status:failed -provider:openai cost>5 words · Esc shows all"
            ),
            Container(
                LossCurve().data_bind(view=following.view, pinned=following.pinned, found=following.found),
                Container(
                    TabLine(_TABS).data_bind(active=screen.side),
                    JobEvents().data_bind(view=following.view),
                    CheckpointList().data_bind(view=following.view),
                    JobLineage().data_bind(origin=following.origin),
                    JobDiagnosis().data_bind(found=following.found),
                    id="side",
                ),
                id="followed",
            ),
            id="jobs",
        )

    def begin(self, workbench: Workbench) -> None:
        """Show again what was shown last, and begin to watch the store."""
        self.add_class("-side-events")
        state = self.desk.views.screens.get(self.MODE, {})
        if state:
            self.restore(state)
            self._restore_view(state)
        super().begin(workbench)
        if kind := _FOCUS.get(str(state.get("focus"))):
            self.query_one(kind).focus()

    # --- titles

    def watch_rows(self) -> None:
        """Say how many jobs there are, and who could not be asked."""
        self.query_one(JobList).border_title = plain_line(headline(self.rows))
        self.set_class(bool(self.rows.trouble), "-trouble")

    def watch_view(self) -> None:
        """Say whose curves are shown."""
        self._title()

    def watch_found(self) -> None:
        """Say the gravest finding over the curves too: the pane may be behind another one."""
        self._title()

    def _title(self) -> None:
        job = self.view.job
        self.refresh_bindings()
        title = "Curves" if job is None else f"Curves of {model_name(job)}"
        grave = next((one for one in self.found if one.code != "healthy"), None)
        if grave is not None:
            title += f" · ! {grave.text}"
        self.query_one(LossCurve).border_title = plain_line(title)
        counts = {"diagnosis": str(len(self.found)) if grave else "✓" if self.found else ""}
        counts["checkpoints"] = str(len(self.view.checkpoints) or "")
        self.query_one(TabLine).counts = counts

    # --- filter and order

    def action_filter(self) -> None:
        """Type a filter."""
        self.add_class("-filter")
        self.query_one("#jobs-filter", Input).focus()

    @on(Input.Changed, "#jobs-filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        self.listing = replace(self.listing, query=event.value.strip())
        self.look()

    @on(Input.Submitted, "#jobs-filter")
    def _filter_left(self) -> None:
        self.set_class(bool(self.listing.query), "-filter")
        self.query_one(JobList).focus()

    def key_escape(self) -> None:
        """Leave the filter, and show all jobs again."""
        field = self.query_one("#jobs-filter", Input)
        if field.has_focus or self.listing.query:
            field.value = ""
            self.listing = replace(self.listing, query="")
            self._filter_left()
            self.look()

    @on(FollowingScreen.FilterRefused)
    def _refused(self, event: FollowingScreen.FilterRefused) -> None:
        self.say(event.reason, "warning")

    def action_order(self) -> None:
        """Order the jobs by the next column."""
        self._order(ORDERS[(ORDERS.index(self.listing.order) + 1) % len(ORDERS)])

    def action_turn(self) -> None:
        """Order the jobs the other way round."""
        self._order(self.listing.order)

    @on(VirtualList.HeaderChosen, "JobList")
    def _header_chosen(self, event: VirtualList.HeaderChosen) -> None:
        if event.key in ORDERS:
            self._order(event.key)

    def _order(self, column: str) -> None:
        same = column == self.listing.order
        falling = not self.listing.falling if same else column not in ("status", "model", "provider")
        self.listing = replace(self.listing, order=column, falling=falling)
        self.say(f"jobs by {column}, {'falling' if falling else 'rising'}")
        self.look()

    # --- the panes beside the curves

    def action_side(self, name: Side) -> None:
        """Show a pane and go to it."""
        self.side = name
        self.query_one(_PANES[name]).focus()

    @on(TabLine.Chosen)
    def _tab_chosen(self, event: TabLine.Chosen) -> None:
        if event.name in get_args(Side):
            self.action_side(event.name)  # type: ignore[arg-type]

    def watch_side(self, old: Side, new: Side) -> None:
        """Show one of the panes."""
        self.remove_class(f"-side-{old}")
        self.add_class(f"-side-{new}")

    def action_follow(self) -> None:
        """Follow the events again, or stop following."""
        self.query_one(JobEvents).action_follow()

    # --- the curves

    def action_measure(self) -> None:
        """Draw the next measure."""
        shown = self.query_one(LossCurve).next_measure()
        self.say(f"curves show {'loss and accuracy' if shown == 'both' else shown}")

    def action_log_scale(self) -> None:
        """Switch the loss axis between logarithmic and linear."""
        curve = self.query_one(LossCurve)
        curve.log_scale = not curve.log_scale
        self.say(f"the loss axis is {'logarithmic' if curve.log_scale else 'linear'}")

    def action_smooth(self) -> None:
        """Go to the next smoothing."""
        weight = self.query_one(LossCurve).next_smoothing()
        self.say(f"training curves smoothed by {weight}" if weight else "training curves as measured")

    # --- what the next start shows again

    def view_state(self) -> dict[str, Any]:
        """Return what is followed, pinned and drawn, and how the list is filtered and ordered."""
        if not self.is_mounted or not self.query(LossCurve):
            return {}
        if self._shown_last:  # not shown again yet: a kill now must not lose it
            return self._shown_last
        curve, events = self.query_one(LossCurve), self.query_one(JobEvents)
        focused = next((name for name, kind in _FOCUS.items() if isinstance(self.focused, kind)), "")
        return {
            "job": list(self.view.key), "pinned": [list(view.key) for view in self.pinned], "side": self.side,
            "query": self.listing.query, "order": self.listing.order, "falling": self.listing.falling,
            "measure": curve.measure, "log": curve.log_scale, "smoothing": curve.smoothing,
            "window": list(curve.window) if curve.window else None, "cursor": curve.cursor,
            "events": None if events.following else events.scroll_offset.y, "focus": focused,
        }  # fmt: skip

    def _restore_view(self, state: dict[str, Any]) -> None:
        """Show the list and the curves as they were; a note that was changed by hand is taken as far as it fits."""
        curve = self.query_one(LossCurve)
        order = state.get("order")
        self.listing = replace(
            self.listing, query=str(state.get("query") or ""), falling=bool(state.get("falling", True)),
            order=order if order in ORDERS else "started",
        )  # fmt: skip
        if self.listing.query:
            self.add_class("-filter")
            self.query_one("#jobs-filter", Input).value = self.listing.query
        if state.get("measure") in MEASURES:
            curve.measure = state["measure"]
        if state.get("smoothing") in SMOOTHING:
            curve.smoothing = state["smoothing"]
        curve.log_scale = bool(state.get("log"))
        if state.get("side") in get_args(Side):
            self.side = state["side"]
        self._shown_last = state

    def job_shown(self, *, same: bool) -> None:
        """Put cursor, zoom and scroll where they were when this is the job that was followed last."""
        state, self._shown_last = self._shown_last, {}
        if same or state.get("job") != list(self.view.key):
            return
        curve, events = self.query_one(LossCurve), self.query_one(JobEvents)
        window, cursor = state.get("window"), state.get("cursor")
        if isinstance(window, list) and len(window) == 2 and all(isinstance(x, int | float) for x in window):
            curve.window = (window[0], window[1])
        curve.cursor = cursor if isinstance(cursor, int | float) else None
        if isinstance(top := state.get("events"), int):
            self.call_after_refresh(events.rest_at, top)


_FOCUS: dict[str, type[Widget]] = {"list": JobList, "curve": LossCurve, **_PANES}
