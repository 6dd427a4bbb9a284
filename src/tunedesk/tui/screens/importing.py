"""An import on its way: how far it is, a key that stops it, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from tunedesk.errors import TunedeskError
from tunedesk.tui.messages import ProgressMade
from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.screens.import_file import ImportRequest
from tunedesk.tui.transfer import Transfer
from tunedesk.tui.widgets.plain import plain_line

if TYPE_CHECKING:
    from tunedesk.core.importing.report import Report
    from tunedesk.tui.desk import Desk
    from tunedesk.workbench import Imported

_BAR = 40
_MOST_REASONS = 12


class ImportingDialog(Dialog[bool]):
    """Imports a file and opens it; stays with the counts when anything was left out or changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "close", "Close", id="importing.close", tooltip="Go on to the conversations"),
    ]

    def __init__(self, request: ImportRequest, opened: Callable[[Imported], None]) -> None:
        """Import `request`, and call `opened` with what came of it."""
        super().__init__(f"Import {request.path.name}", "Esc stop")
        self._request, self._opened = request, opened
        self._import: Worker[None] | None = None
        self._under_way = True
        self._done = False
        self._transfer = Transfer("read")

    def compose_body(self) -> Iterable[Widget]:
        """Yield what is told."""
        with VerticalScroll(id="preview-rows"):
            yield Static(plain_line("reading…"), id="importing-told", markup=False)

    def on_mount(self) -> None:
        """Begin."""
        self.query_one(VerticalScroll).focus()
        desk = cast("Desk", self.app)
        self._import = desk.work(self._importing(), name="importing", group="import", exclusive=True)

    async def _importing(self) -> None:
        desk, request = cast("Desk", self.app), self._request
        workbench = desk.workbench
        assert workbench is not None
        try:
            done = await desk.in_thread(
                lambda on_progress: workbench.import_file(
                    request.path, format_name=request.format_name or None, mapping=request.mapping or None,
                    system=request.system or None, on_progress=on_progress,
                ),
                name="importing",
            )  # fmt: skip
        except TunedeskError as error:
            self._finish([plain_line(f"✗ {error.message}", "bold"), plain_line(f"  {error.hint}")])
            return
        self._done = True
        self._opened(done)
        lines = list(told(done))
        if len(lines) > 1:
            self._finish(lines)
        else:
            self._under_way = False
            self.dismiss(True)

    def show_progress(self, event: ProgressMade) -> None:
        """Draw how far it is."""
        if not self._under_way or not event.name:
            return
        full = round(_BAR * event.done / event.total) if event.total else 0
        came = self._transfer.text(event.done, event.total)
        text = came if event.done else "waiting for what is written to it"
        self._tell([plain_line("█" * full + "░" * (_BAR - full)), plain_line(text)])

    def _finish(self, lines: list[Content]) -> None:
        self._under_way = False
        self.query_one(".dialog").border_subtitle = "↑ ↓ scroll · Enter or Esc close"
        self._tell(lines)

    def _tell(self, lines: list[Content]) -> None:
        self.query_one("#importing-told", Static).update(Content("\n").join(lines))

    def action_close(self) -> None:
        """Close once it is done, telling whether anything was imported."""
        if not self._under_way:
            self.dismiss(self._done)

    def action_cancel(self) -> None:
        """Stop the import, of which nothing is kept, or close what came of it."""
        if self._under_way and self._import is not None:
            self._import.cancel()
            self.dismiss(False)
        else:
            self.action_close()


def told(done: Imported) -> Iterator[Content]:
    """Yield what an import did: one line when all went in as it was."""
    report = done.report
    yield plain_line(f"{report.imported:,} conversations imported, read as {report.format}", "bold")
    for count, what in (
        (report.merged_turns, "turns joined to the one before by the same side"),
        (report.dropped_tails, "messages after a last answer dropped"),
        (report.asides, "notes and events between turns left out"),
    ):
        if count:
            yield plain_line(f"{count:,} {what}")
    counted = (
        "joined to the one before", "after a last answer dropped", "notes and events between", "preference rows kept",
    )  # fmt: skip
    for note in report.notes:
        if not any(words in note for words in counted):
            yield plain_line(f"! {note}")
    if done.known:
        yield plain_line(f"! {done.known}")
    if report.skipped:
        yield plain_line(f"{len(report.skipped):,} of {report.rows:,} records skipped:", "bold")
        yield from _reasons(report)
        yield plain_line(f"every line with its reason: {done.reasons}")


def _reasons(report: Report) -> Iterator[Content]:
    counts: Counter[str] = Counter(one.reason for one in report.skipped)
    first = {one.reason: one.line for one in reversed(report.skipped)}
    for reason, count in counts.most_common(_MOST_REASONS):
        yield plain_line(f"{count:7,}  {reason} (line {first[reason]:,}{' …' if count > 1 else ''})")
    if len(counts) > _MOST_REASONS:
        yield plain_line(f"         … and {len(counts) - _MOST_REASONS:,} other reasons")
