"""The shell under all screens: services, work in the background, errors, signals and what may reach the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from textual.actions import ActionParseResult, parse
from textual.dom import DOMNode
from textual.filter import LineFilter
from textual.reactive import reactive
from textual.screen import Screen
from textual.worker import Worker

from tunedesk.errors import TunedeskError, UsageError
from tunedesk.terminal import visible
from tunedesk.tui.background import Background
from tunedesk.tui.driver import TerminalDriver
from tunedesk.tui.last_view import LastView, ViewKeeper, read_last_view
from tunedesk.tui.messages import FileGiven, ProgressMade, WorkbenchLoaded, WorkFailed, WorkspaceChanged
from tunedesk.tui.reporting import ReportingApp, Stopped
from tunedesk.tui.widgets.plain import VisibleFilter

if TYPE_CHECKING:
    from tunedesk.core.workspace import Workspace
    from tunedesk.workbench import Workbench

Result = TypeVar("Result")
OnProgress = Callable[[int, int], None]
"""Called with units done and units in all (0 when unknown); raises to stop the work."""
Change = Callable[["Workspace", OnProgress], "Workspace"]

_LOOK_EVERY = 0.5
"""Seconds between two looks for edits that another instance made in the same dataset."""
_THREADS = 24
"""Calls that may run beside each other: nothing that somebody waits for comes after work that waits itself."""
_NET = VisibleFilter()
"""One for all lines and paints: Textual keeps what a filter made of a line by the filter's identity."""
_PROGRESS_EVERY = 0.1
"""Seconds between two progress messages, so that a fast producer floods neither the queue nor a slow link."""


class Desk(ReportingApp):
    """Holds the services and the one state (`workspace`, `profile`, `model`) that screens show.

    Screens never call services on the event loop: `work` runs a coroutine with errors turned into messages,
    `in_thread` a blocking call, `change` an edit of the workspace, one after the other.
    """

    workspace: reactive[Workspace | None] = reactive(None, repaint=False)
    profile: reactive[str] = reactive("local")
    """Name of the provider's profile."""
    model: reactive[str] = reactive("")
    """Base model that is counted, priced and launched."""

    def __init__(
        self, load: Callable[[], Workbench], datasets: Sequence[str] = (), last: LastView | None = None
    ) -> None:
        """Keep `load`, which builds the services in a thread after the first frame is painted.

        `datasets` are files or names of datasets to open, the first at once; none means what was shown `last`, or
        the sample conversations.
        """
        super().__init__(driver_class=TerminalDriver)
        self._last = last
        self._load = load
        self._datasets = tuple(datasets)
        self._workbench: Workbench | None = None
        self._changes: asyncio.Queue[tuple[str | Callable[[], str], Any, str]] = asyncio.Queue()
        self._one_state = asyncio.Lock()
        """Held while the next state is made, so that what this app writes is not taken for what another one wrote."""
        self._ending = threading.Event()
        self.views = ViewKeeper(self)
        self.background = Background(self)
        self.editing: list[str] = []
        """Edits that are asked for and not made yet, in order."""
        self.latest: Workspace | None = None
        """The state that the next change builds on; `workspace` follows it when its message is handled."""

    def opening_again(self, mode: str) -> dict[str, Any]:
        """Return what a screen showed last, where the same dataset is about to be shown on the same screen."""
        if self._last is None or self._last.mode != mode:
            return {}
        state = self._last.screens.get(mode, {})
        return state if set(self._datasets[:1]) <= {state.get("dataset"), state.get("name")} else {}

    # --- services and state

    @property
    def workbench(self) -> Workbench | None:
        """What every screen calls; None until it is loaded (see `WorkbenchLoaded`)."""
        return self._workbench

    def on_mount(self) -> None:
        """Hear the signals of a lost terminal, and load the services once the first frame is out."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "work"))
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, self._end, 128 + number)
        self.call_after_refresh(self.set_timer, 0.01, self._begin)

    def _begin(self) -> None:
        self.work(self._start(), name="opening the workbench", group="start")
        self.work(self._apply_changes(), name="editing", group="changes")
        self.work(self._look_for_edits(), name="looking for edits", group="look")

    async def _start(self) -> None:
        self._workbench = await asyncio.to_thread(self._load)
        self.log_folder = self._workbench.paths.logs
        self.model = self.model or self._workbench.profile(self.profile).default_model
        gc.freeze()  # what is loaded stays: looking through it again and again would hold up keys for 80 ms
        last = self._last or read_last_view(self._workbench.paths)
        self.views.screens = dict(last.screens) if last else {}
        self.screen.post_message(WorkbenchLoaded(self._workbench))
        self.post_message(WorkbenchLoaded(self._workbench))
        self.work(self.views.keep(), name="noting what is shown", group="view")
        self.background.begin(self._workbench)
        if self._datasets:
            self.open(self._datasets[0])
        elif last is not None and self._workbench.store.dataset(last.dataset) is not None:
            self._reopen(last)
        else:
            self.open_sample()

    def _reopen(self, last: LastView) -> None:
        workbench = self._workbench
        assert workbench is not None
        if last.profile in workbench.profiles():
            self.profile, self.model = last.profile, last.model

        def reopened(_: object, __: object) -> Workspace:
            workspace = workbench.open(last.dataset)
            try:
                return workspace.with_query(last.query)
            except UsageError:  # the filter asks for what is not counted or checked yet
                return workspace

        self.change("opened what was shown last", reopened, doing="opening")
        if last.mode in self.MODES:
            self.switch_mode(last.mode)

    def open(self, name: str) -> None:
        """Open a dataset by name or id in the background, or have the file of that path imported."""
        workbench = self._workbench
        if workbench is None:
            return
        path = Path(name).expanduser()
        if path.exists():
            self.screen.post_message(FileGiven(path))
        else:
            self.change("opened", lambda _, __: workbench.open(name), doing="opening")

    def open_sample(self, label: str = "opened the sample conversations") -> None:
        """Open the shipped sample conversations in the background; `label` says so once it is done."""
        workbench = self._workbench
        if workbench is not None:
            self.change(
                label,
                lambda _, on_progress: workbench.open_sample(on_progress),
                doing="opening",
            )

    def change(self, label: str | Callable[[], str], make: Change, *, doing: str = "working") -> None:
        """Replace the workspace by `make(workspace, on_progress)`, in a thread, in the order asked for.

        `doing` says what goes on meanwhile, and what failed if it fails; `label` what was done, asked for once it is.
        """
        self._changes.put_nowait((label, make, doing))

    def edit(self, label: str, make: Change) -> None:
        """Make an edit that one undo takes back, as `change` does."""
        self.editing.append(label)

        def made(workspace: Workspace, on_progress: OnProgress) -> Workspace:
            try:
                return make(workspace, on_progress)
            finally:
                self.editing.remove(label)

        self.change(f"{label}: u undoes", made, doing="editing")

    async def _apply_changes(self) -> None:
        """Take changes one at a time, so that each builds on the state that the one before it left."""
        while True:
            label, make, doing = await self._changes.get()
            with self.reporting(doing):
                async with self._one_state:
                    workspace = await self._changed(doing, make)
                    self.latest = with_view_of(workspace, self.latest)
                self.post_message(WorkspaceChanged(self.latest, label if isinstance(label, str) else label()))

    async def _look_for_edits(self) -> None:
        """Show what other instances edit, between our own changes, so that no undo or edit builds on what is gone.

        Why that cannot be seen is told once, until it can.
        """
        told = ""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            seen = self.latest
            if seen is None or not self._changes.empty() or self._one_state.locked():
                continue
            async with self._one_state:
                with self.reporting("looking for edits"):
                    try:
                        found = await asyncio.to_thread(seen.reloaded)
                    except TunedeskError as error:
                        again, told = error.message == told, error.message
                        if again:
                            continue
                        raise
                    told = ""
                    if found is not seen and self.latest is seen:
                        self.latest = found
                        self.post_message(
                            WorkspaceChanged(found, f"another window has edited: {found.news(seen)}")
                        )

    async def _changed(self, doing: str, make: Any) -> Workspace:
        return await self.in_thread(lambda on_progress: make(self.latest, on_progress), name=doing)

    def view(self, searched: Workspace) -> None:
        """Show the query, matches and order of `searched`; edits made since it was searched stay."""
        if self.latest is not None and self.latest.dataset.id == searched.dataset.id:
            self.latest = with_view_of(self.latest, searched)
            self.post_message(WorkspaceChanged(self.latest, ""))

    def on_workspace_changed(self, event: WorkspaceChanged) -> None:
        """Let all screens show the new state."""
        self.workspace = event.workspace
        if event.label:
            self.say(event.label)

    # --- work in the background

    def work(
        self, task: Coroutine[Any, Any, None], *, name: str, group: str = "default", exclusive: bool = False
    ) -> Worker[None]:
        """Run `task` in the background; its errors are shown, never raised; `exclusive` cancels its group first."""

        async def guarded() -> None:
            with self.reporting(name):
                await task

        worker: Worker[None] = self.run_worker(
            guarded, name=name, group=group, exclusive=exclusive, exit_on_error=False
        )
        # A worker cancelled before its first step never awaits its task.
        weakref.finalize(worker, task.close).atexit = False
        return worker

    async def in_thread(self, call: Callable[[OnProgress], Result], *, name: str) -> Result:
        """Run the blocking `call(on_progress)` in a thread, its progress shown; cancelling stops it at its next."""
        stop = threading.Event()
        last = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            if stop.is_set() or self._ending.is_set():
                raise Stopped(f"{name}: stopped")
            if monotonic() - last > _PROGRESS_EVERY:
                last = monotonic()
                self.post_message(ProgressMade(name, done, total))

        try:
            return await asyncio.to_thread(call, on_progress)
        finally:
            stop.set()
            self.post_message(ProgressMade("", 0, 0))

    # --- what the user is told

    @property
    def _top(self) -> Screen[Any] | None:
        """The screen on top; None while the app closes, when late messages still arrive."""
        return self.screen if self.screen_stack else None

    def say(self, message: str, severity: str = "information") -> None:
        """Show `message` in the status line of the screen on top."""
        teller = getattr(self._top, "say", None)
        if teller is not None:
            teller(message, severity)

    def on_work_failed(self, event: WorkFailed) -> None:
        """Show an error in the status line, and as a notification that names the hint."""
        self.say(event.message, "error")
        text = event.message + (f"\n→ {event.hint}" if event.hint else "")
        self.notify(visible(text), title=visible(event.name), severity="error", markup=False, timeout=10)

    def on_progress_made(self, event: ProgressMade) -> None:
        """Show how far the work is in the status line."""
        show = getattr(self._top, "show_progress", None)
        if show is not None:
            show(event)

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Any = None,
    ) -> bool:
        """Run an action; when it is disabled, say why instead of doing nothing, and when it fails, what."""
        handled = True
        with self.reporting("acting on a key"):
            handled = await super().run_action(action, default_namespace, namespaces)
        why_not = getattr(default_namespace, "why_not", None)
        if not handled and why_not is not None:
            name = (parse(action) if isinstance(action, str) else action)[1]
            if reason := why_not(name):
                self.say(reason, "warning")
                return True
        return handled

    # --- the terminal

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return Textual's filters and the net that keeps data from acting on the terminal."""
        return [*super().get_line_filters(), _NET]

    def write_signals(self, told: str) -> None:
        """Send what rings or notifies to the terminal; `told` holds no data that could act on it (jobs/notices.py)."""
        if told and self._driver is not None:
            self._driver.write(told)
            self._driver.flush()

    def _end(self, code: int) -> None:
        self.exit(return_code=code)

    def on_unmount(self) -> None:
        """Note what is shown; let threads give up at their next progress call, so that leaving does not wait."""
        self._ending.set()
        self.views.keep_now()


def with_view_of(workspace: Workspace, shown: Workspace | None) -> Workspace:
    """Return `workspace` with the query, matches and order of `shown` when both are of one dataset."""
    if shown is None or shown.dataset.id != workspace.dataset.id:
        return workspace
    return workspace.showing(shown)
