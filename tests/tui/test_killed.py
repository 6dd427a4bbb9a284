"""The app killed while a job is watched: the next start shows the same screen, and no event is missing or double."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

from rich.cells import cell_len

from tests.tui.bench import conversation, workbench, write_rows
from tests.tui.rig import metrics_event
from tests.tui.test_start import Terminal
from tunedesk.core.fine_tuning import Checkpoint, FineTuningJob, Hyperparameters

_TOKEN = re.compile(
    rb"\x1b\[(\d+);(\d+)H|\x1b\[(\d*)J|\x1b\[(\d*)K|\x1b[\[\]][^@-~\x07]*[@-~\x07]|\x1b.|([^\x1b]+)"
)


def shown(output: bytes) -> list[str]:
    """Return the screen that a terminal of 80 by 24 shows after `output`: moves, erasing and text are enough."""
    rows = [[" "] * 80 for _ in range(24)]
    x = y = 0
    for match in _TOKEN.finditer(output):
        row, column, erase, erase_line, text = match.groups()
        if row is not None:
            y, x = min(int(row), 24) - 1, min(int(column), 80) - 1
        elif erase is not None:
            rows = [[" "] * 80 for _ in range(24)]
        elif erase_line is not None:
            rows[y][x:] = [" "] * (80 - x)
        elif text is not None:
            for character in text.decode(errors="replace"):
                if character == "\r":
                    x = 0
                elif character == "\n":
                    y = min(y + 1, 23)
                elif character.isprintable() and x < 80:
                    rows[y][x] = character
                    x += cell_len(character)
    return ["".join(row).rstrip() for row in rows]


def body(output: bytes) -> list[str]:
    """Return what is shown but for the lines of status and keys."""
    return [line for line in shown(output)[:22] if line]


def view(home: Path) -> dict[str, object]:
    note = home / "data" / "view.json"
    return dict(json.loads(note.read_text())) if note.exists() else {}


def wait(terminal: Terminal, until: object, seconds: float = 40.0) -> None:
    """Read on until `until()` holds."""
    assert callable(until)
    end = time.monotonic() + seconds
    while not until():
        terminal.read(0.2)
        assert time.monotonic() < end, "\n".join(shown(terminal.output))


def test_killed_it_shows_the_same_view_again_with_every_event_once(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    bench.import_file(write_rows(tmp_path / "t.jsonl", [conversation(n) for n in range(8)]), name="talks")
    started = int(time.time()) - 4000
    job = FineTuningJob(
        "ftjob-1", "succeeded", "base", started, started + 100, fine_tuned_model="ft:base:a",
        hyperparameters=Hyperparameters(2),
    )  # fmt: skip
    other = FineTuningJob(
        "ftjob-2", "succeeded", "other", started + 9, started + 100, fine_tuned_model="ft:other:b"
    )
    bench.store.save_jobs("local", [job, other])
    for one in (job, other):
        bench.store.add_events("local", one.id, [metrics_event(n, at=started + n) for n in range(1, 101)])
    bench.store.save_checkpoints("local", job.id, [Checkpoint("c", "ft:base:a:ckpt", 50)])
    bench.store.close()

    first = Terminal(tmp_path)
    wait(first, lambda: "to train on" in shown(first.output)[0])
    os.write(first.master, b"2")
    wait(first, lambda: any("Curves of ft:other:b" in line for line in shown(first.output)))
    os.write(first.master, b"\x1b[B\r")  # the other job
    wait(first, lambda: any("Curves of ft:base:a" in line for line in shown(first.output)))
    os.write(first.master, b"\t")
    os.write(first.master, b"ga")
    os.write(first.master, b"\x1b[D\x1b[D")
    os.write(first.master, b"++v")

    def noted() -> bool:
        jobs = view(tmp_path).get("screens", {})
        state = jobs.get("jobs", {}) if isinstance(jobs, dict) else {}
        return (
            bool(state.get("window"))
            and state.get("side") == "checkpoints"
            and state.get("measure") == "loss"
        )

    wait(first, noted)
    before_kill = view(tmp_path)
    wait(first, lambda: any("ckpt" in line for line in shown(first.output)))
    first.read(1.0)
    before = body(first.output)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(20)
    os.close(first.master)

    second = Terminal(tmp_path)
    wait(second, lambda: body(second.output) == before)
    wait(second, lambda: view(tmp_path) == before_kill)
    second.process.kill()
    second.process.wait()
    os.close(second.master)
    again = workbench(tmp_path)
    events = again.store.events("local", "ftjob-1")
    assert [event.id for event in events] == [f"ev-{n:05}" for n in range(1, 101)]
    again.store.close()
