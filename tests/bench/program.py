"""A program in a pseudo-terminal: what a key costs in milliseconds and bytes, as the other end of the line sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUIET_S = 0.15
"""Silence after which what a key caused is taken as whole."""
PATIENCE_S = 4.0


@dataclass(frozen=True, slots=True)
class Burst:
    """What came back after a key."""

    first_ms: float
    """From the key to the first byte."""
    most_ms: float
    """To nine tenths of the bytes: what was asked for is on the screen."""
    last_ms: float
    size: int
    """Bytes."""
    pieces: tuple[tuple[float, bytes], ...] = ()
    """All that came, each piece with its milliseconds from the key."""

    def written(self, lines: range, *, last: bool = False) -> float | None:
        """Return when something was first written on some lines of the screen (from 1), or last; None for never."""
        found = None
        for at, data in self.pieces:
            if any(int(line) in lines for line in _GOES_TO.findall(data)):
                found = at
                if not last:
                    break
        return found


_GOES_TO = re.compile(rb"\x1b\[(\d+);\d+H(?:\x1b\[[\d;]*m)*[^\x1b]")
"""A line that something is written on; a cursor that is only put somewhere is none."""


def median(bursts: Sequence[Burst]) -> Burst:
    """Return the medians of each figure."""
    first, most, last = (
        statistics.median(getattr(one, name) for one in bursts) for name in ("first_ms", "most_ms", "last_ms")
    )
    return Burst(first, most, last, round(statistics.median(one.size for one in bursts)))


class Program:
    """A running program; use as a context manager, so that it ends."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 120, rows: int = 40
    ) -> None:
        """Start `command` in a terminal of this size."""
        values = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        values.pop("PYTHONDONTWRITEBYTECODE", None)  # what users install is compiled
        self.started = time.perf_counter()
        self.output = b""
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(command[0], list(command), {**values, **environment})
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def read(self, seconds: float, *, quiet: float = 0.0) -> list[tuple[float, bytes]]:
        """Return what the program writes, with the time of each piece, until `seconds` pass or it is `quiet`."""
        pieces: list[tuple[float, bytes]] = []
        end = time.perf_counter() + seconds
        last = time.perf_counter()
        while (now := time.perf_counter()) < (stop := min(end, last + quiet) if quiet else end):
            if not select.select([self._file], [], [], stop - now)[0]:
                continue
            try:
                data = os.read(self._file, 1 << 16)
            except OSError:
                break
            last = time.perf_counter()
            pieces.append((last, data))
            self.output += data
            self._answer(data)
        return pieces

    def _answer(self, data: bytes) -> None:
        if b"\x1b[?2026$p" in data:
            os.write(self._file, b"\x1b[?2026;2$y")
        if b"\x1b[6n" in data:
            os.write(self._file, b"\x1b[1;1R")

    def wait_for(self, text: str, seconds: float, *, since: int = 0) -> float | None:
        """Return the seconds from the start until `text` was written after byte `since`; None when not in time."""
        end = time.perf_counter() + seconds
        while text.encode() not in self.output[since:]:
            pieces = self.read(0.05)
            if time.perf_counter() > end or (not pieces and not self.alive):
                return None
        return time.perf_counter() - self.started

    def settle(self, seconds: float, quiet: float = 1.5) -> None:
        """Wait until nothing has been written for a while, at most `seconds`."""
        self.read(seconds, quiet=quiet)

    def send(self, keys: bytes) -> None:
        """Type without measuring."""
        os.write(self._file, keys)

    def key(self, keys: bytes, *, patience: float = PATIENCE_S, quiet: float = QUIET_S) -> Burst | None:
        """Type `keys` and return what followed until it was `quiet`; None when nothing did."""
        sent = time.perf_counter()
        os.write(self._file, keys)
        pieces: list[tuple[float, bytes]] = []
        while not pieces and time.perf_counter() - sent < patience:
            pieces = self.read(0.02, quiet=0.005)
        if not pieces:
            return None
        pieces += self.read(patience, quiet=quiet)
        size = sum(len(data) for _, data in pieces)
        passed, most = 0, pieces[-1][0]
        for at, data in pieces:
            passed += len(data)
            if passed >= 0.9 * size:
                most = at
                break
        first, most, last = ((at - sent) * 1000 for at in (pieces[0][0], most, pieces[-1][0]))
        return Burst(first, most, last, size, tuple(((at - sent) * 1000, data) for at, data in pieces))

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def megabytes(self) -> int:
        """Return the largest resident size of the program so far, 0 where the system does not tell."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as file:  # noqa: PTH123
                lines = dict(line.split(":", 1) for line in file)
        except OSError:
            return 0
        return int(lines.get("VmHWM", "0 kB").split()[0]) >> 10

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the program and close its terminal."""
        try:
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._file)
