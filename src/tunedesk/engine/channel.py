"""The trainer's side of its pipes: JSON lines out, a request to stop in, and the server's death noticed."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any


class Channel:
    """Standard output as the protocol's own: whatever else writes to it lands in standard error.

    SIGTERM sets `stopping`. When standard input ends the server is gone, and this process ends at once.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.speaks = True
        """Whether what is told goes out: of several processes that train one job, one speaks."""
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        signal.signal(signal.SIGTERM, self._stop)
        threading.Thread(target=self._watch, daemon=True).start()

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _watch(self) -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one line. When nobody reads any more, end the process."""
        if not self.speaks:
            return
        try:
            self._out.write(json.dumps({"type": kind, **fields}, allow_nan=False) + "\n")
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)

    def message(self, text: str, level: str = "info") -> None:
        """Write a message for people."""
        self.emit("message", level=level, message=text)
