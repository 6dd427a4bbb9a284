"""What goes wrong is told and logged; it ends the session only where nothing could go on."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.css.query import NoMatches
from textual.worker import WorkerFailed

from tunedesk.errors import TunedeskError
from tunedesk.terminal import visible
from tunedesk.tui.cell_diff import DiffOutput
from tunedesk.tui.messages import ProgressMade, WorkFailed


class Stopped(TunedeskError):
    """Work in a thread was given up because its worker was cancelled or the app ends."""


class ReportingApp(DiffOutput):
    """An app whose defects become messages (`WorkFailed`) with a line in the log."""

    log_folder: Path | None = None
    """Where tracebacks are kept; None until it is known."""

    @contextlib.contextmanager
    def reporting(self, name: str) -> Any:
        """Turn what goes wrong in the block into a message with a hint; nothing but cancellation leaves it."""
        try:
            yield
        except Stopped:
            self.post_message(ProgressMade("", 0, 0))
        except TunedeskError as error:
            self.post_message(WorkFailed(name, error.message, error.hint))
        except Exception as error:  # noqa: BLE001 - a defect must not end the session: it is shown and logged
            self.log_crash(traceback.format_exc())
            text = f"{type(error).__name__}: {error}"
            self.post_message(WorkFailed(name, text, "this is a defect; the log has the details"))

    def log_crash(self, text: str) -> None:
        """Keep a traceback (never with locals: they hold keys) in the log folder, where there is one."""
        if self.log_folder is not None:
            with contextlib.suppress(OSError), (self.log_folder / "tunedesk.log").open("a") as log:
                log.write(text + "\n")

    def _handle_exception(self, error: Exception) -> None:
        """Show what failed in a worker of Textual's own, and go on; anything else ended what handles messages."""
        cause = error.error if isinstance(error, WorkerFailed) else error
        if isinstance(cause, NoMatches) and (cause is not error or self._exit):
            return  # it was for a dialog that is closed already, or was to be opened when all was closed
        if cause is not error:
            with self.reporting("working"):
                raise cause
        elif self._exit:
            self.log_crash(traceback.format_exc())
        else:
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Leave with a traceback without locals (Textual's own prints them, and with them keys)."""
        text = traceback.format_exc()
        self.log_crash(text)
        self.panic(Text(visible(text)))
