"""The way to the terminal, which may go away at any moment: a dropped link, a closed window."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, TextIO

from textual.drivers.linux_driver import LinuxDriver

LOST = 128 + 1
"""What the app returns when its terminal is gone, as a shell does for SIGHUP."""


class Outlet:
    """A text file over a terminal that takes whatever is written once the terminal is gone, and says so once.

    Textual writes in a thread, through a queue of thirty texts: were the thread to end by the first failed write, the
    next thirty would fill the queue and the app would wait for ever. Nor is anything left in Python's own buffers,
    which fail once more when the program ends.
    """

    def __init__(self, file: TextIO, lost: Callable[[], None]) -> None:
        self._descriptor, self._encoding = file.fileno(), file.encoding
        self._lost, self._gone = lost, False
        self._waiting: list[str] = []

    def write(self, text: str) -> int:
        """Keep `text` until the next `flush`, so that what is painted at once goes out at once."""
        self._waiting.append(text)
        return len(text)

    def flush(self) -> None:
        """Write all that waits as soon as the terminal takes it, or drop it when the terminal is gone."""
        data = memoryview("".join(self._waiting).encode(self._encoding, "replace"))
        self._waiting.clear()
        while data and not self._gone:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another program left the terminal so that it does not wait
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                self._gone = True
                self._lost()

    def fileno(self) -> int:
        """Return the descriptor of the terminal."""
        return self._descriptor


class TerminalDriver(LinuxDriver):
    """Textual's driver that ends the app when its terminal is gone, also where no signal says so."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._file: Any = Outlet(sys.__stderr__ or sys.stderr, self._end)
        Thread(target=self._await_the_end, name="tunedesk-terminal", daemon=True).start()

    def run_input_thread(self) -> None:
        """Read keys until the app ends or the terminal is gone."""
        try:
            super().run_input_thread()
        except OSError:
            self._end()

    def _await_the_end(self) -> None:
        terminal = select.poll()
        terminal.register(self.fileno, 0)  # of no event: a hangup is told in any case
        if any(what & (select.POLLHUP | select.POLLERR) for _, what in terminal.poll()):
            self._end()

    def _end(self) -> None:
        self._app.call_later(self._app.exit, return_code=LOST)
