"""The app starts before it is loaded, and ends well whoever ends it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tunedesk.cli import main
from tunedesk.core.editing import edits
from tunedesk.paths import Paths
from tunedesk.tui.driver import Outlet
from tunedesk.workbench import Workbench

LAZY = """
import json, sys, time
from tunedesk.tui.app import TunedeskApp
HEAVY = ("polars", "openai", "torch", "httpx2")
seen = {"import": [name for name in HEAVY if name in sys.modules]}

def load():
    ends = time.monotonic() + 20
    while "q Quit" not in seen.get("frame", "") and time.monotonic() < ends:  # the footer comes a moment later
        time.sleep(0.05)
        strips = app.screen._compositor.render_strips()
        seen["frame"] = "\\n".join(strip.text for strip in strips)
    seen["load"] = [name for name in HEAVY if name in sys.modules]
    print(json.dumps(seen))
    app.call_from_thread(app.exit)
    raise SystemExit

app = TunedeskApp(load)
app.run(headless=True, size=(80, 24))
"""


def test_the_first_frame_is_painted_before_polars_and_openai_are_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=60, check=False
    )
    seen = json.loads(done.stdout.splitlines()[0])
    assert seen["import"] == []
    assert seen["load"] == []
    assert "1 Data" in seen["frame"]
    assert "q Quit" in seen["frame"]


OPEN = """
import json, sys
from tunedesk.cli.engine import _to_show
view = _to_show(["known"])
print(json.dumps([view.screens["data"]["rows"], view.screens["data"]["conversation"], "polars" in sys.modules]))
"""


def test_the_first_rows_of_a_dataset_are_known_before_the_services_are_loaded(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "hello"}], "metadata": {"intent": "greeting"}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    environment = {**os.environ, "TUNEDESK_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tunedesk", "import", str(tmp_path / "rows.jsonl"), "--name", "known"]
    subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)

    def told() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", OPEN]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    rows, conversation, loaded = json.loads(told().stdout)
    assert [(one["line"], one["intent"], one["preview"]) for one in rows] == [("1", "greeting", "hello")]
    assert conversation["messages"] == row["messages"]
    assert not loaded
    bench = Workbench(Paths(tmp_path / "data", tmp_path / "config", tmp_path / "cache", tmp_path / "logs"))
    bench.open("known").apply(edits.exclude([0]))
    assert "AttributeError" in told().stderr  # nothing is known of edited rows before they are read


def test_what_is_no_dataset_is_told_before_the_app_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert "no file and no dataset named 'nosuch'" in capsys.readouterr().err


RUN = """
import fcntl, sys, termios
if sys.argv[2:]:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that a closed terminal hangs up, as over SSH
from pathlib import Path
from tests.tui.bench import workbench
from tunedesk.tui.app import TunedeskApp
app = TunedeskApp(lambda: workbench(Path(sys.argv[1])))
app.run()
sys.exit(app.return_code or 0)
"""


class Terminal:
    """The app in a pseudo-terminal, with all it wrote."""

    def __init__(self, home: Path, *, signals: bool = True) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(home), *["signals"] * signals],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(slave)
        self.output = b""

    def read(self, seconds: float, until: bytes = b"\0never") -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and until not in self.output:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.master, 65536)
                except OSError:
                    return
            elif self.process.poll() is not None:
                return

    def unread(self) -> int:
        """Return how much the app has written that waits to be read."""
        return int.from_bytes(fcntl.ioctl(self.master, termios.FIONREAD, b"\0" * 4), sys.byteorder)

    def ended(self) -> int:
        """Return how the app ended; it is killed, and the test fails, where it does not."""
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal_and_keeps_the_view(tmp_path: Path, number: signal.Signals) -> None:
    terminal = Terminal(tmp_path)
    terminal.read(30, until=b"to train on")
    terminal.process.send_signal(number)
    terminal.read(20)
    assert terminal.ended() == 128 + number
    assert b"\x1b[?1049l" in terminal.output
    assert json.loads((tmp_path / "data" / "view.json").read_text())["mode"] == "data"
    os.close(terminal.master)


def test_ctrl_z_leaves_for_the_shell_and_what_was_shown_is_drawn_again_afterwards(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read(30, until=b"to train on")
    terminal.read(1)
    os.write(terminal.master, b"\x1a")
    assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
    terminal.read(0.5)
    assert terminal.output.endswith(b"\x1b[?1004l")  # all that it asked of the terminal is taken back
    terminal.output = b""
    terminal.process.send_signal(signal.SIGCONT)
    terminal.read(20, until=b"to train on")
    os.write(terminal.master, b"q")
    terminal.read(20)
    assert (terminal.ended(), b"to train on" in terminal.output) == (0, True)
    os.close(terminal.master)


def test_keys_after_the_one_that_leaves_are_dropped(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read(30, until=b"to train on")
    os.write(terminal.master, b"qs?")  # to choose a column and to list the keys, were it not too late
    terminal.read(20)
    assert (terminal.ended(), b"Traceback" in terminal.output) == (0, False)
    os.close(terminal.master)


@pytest.mark.parametrize("signals", [True, False], ids=["with SIGHUP", "in silence"])
def test_a_lost_terminal_ends_the_app_and_keeps_the_view(tmp_path: Path, *, signals: bool) -> None:
    terminal = Terminal(tmp_path, signals=signals)
    terminal.read(30, until=b"to train on")
    os.close(terminal.master)
    assert terminal.ended() == 128 + signal.SIGHUP
    assert (tmp_path / "data" / "view.json").exists()


def test_a_link_that_is_lost_after_it_stalled_ends_the_app(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.read(30, until=b"to train on")
    sent, waiting, since, ends = 0, -1, time.monotonic(), time.monotonic() + 60
    while time.monotonic() < min(since + 2, ends):  # until the app waits for a terminal that nobody reads
        os.write(terminal.master, b"j" if sent % 2 else b"k")
        time.sleep(0.02)
        sent += 1
        if waiting != terminal.unread():
            waiting, since = terminal.unread(), time.monotonic()
    os.close(terminal.master)
    assert terminal.ended() == 128 + signal.SIGHUP
    assert (tmp_path / "data" / "view.json").exists()


def test_what_is_written_to_a_lost_terminal_is_dropped_and_its_loss_told_once() -> None:
    told: list[bool] = []
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(write, "w", encoding="utf-8") as file:
        outlet = Outlet(file, lambda: told.append(True))
        reader = threading.Thread(target=lambda: read_slowly(read, 300_000))
        reader.start()
        for _ in range(2):
            assert outlet.write("ä" * 75_000) == 75_000
        outlet.flush()  # more than a pipe holds, and it does not wait
        reader.join()
        os.close(read)
        for _ in range(2):
            assert outlet.write("gone") == 4
            outlet.flush()
    assert told == [True]


def read_slowly(descriptor: int, count: int) -> None:
    while count > 0:
        time.sleep(0.01)
        count -= len(os.read(descriptor, 32768))
