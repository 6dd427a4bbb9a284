"""What several processes do works under an app, and the terminal's interrupt is the parent's alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import contextlib, io, multiprocessing, signal, sys, threading, time
from pathlib import Path
from tunedesk.core.checking import processes
from tunedesk.core.importing import storing

blocked = set()

def look():
    while not done.is_set():
        for process in multiprocessing.active_children():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                [mask] = [int(line.split()[1], 16) for line in lines if line.startswith("SigBlk")]
                blocked.add(bool(mask >> signal.SIGINT - 1 & 1))
        time.sleep(0.01)

class Owned(io.StringIO):
    # What an app that has the terminal to itself puts in place of standard error.
    def fileno(self):
        return -1

def work(name, path):
    if name == "import":
        storing.WORTH = 1
        return len(storing.import_file(path, path.parent / "datasets", name="n")[0])
    processes.WORTH, processes.BATCH = 100, 200
    lines = enumerate(path.read_bytes().splitlines(), 1)
    return sum(len(group.members) for group in processes.find_in_lines(lines))

if __name__ == "__main__":
    done = threading.Event()
    looking = threading.Thread(target=look)
    looking.start()
    try:
        with contextlib.redirect_stderr(Owned()):
            count = work(sys.argv[1], Path(sys.argv[2]))
    finally:
        done.set()
        looking.join()
    print(count, sorted(blocked))
"""


@pytest.mark.parametrize("work", ["import", "check"])
def test_processes_start_under_an_app_and_without_the_terminals_interrupt(tmp_path: Path, work: str) -> None:
    path, program = tmp_path / "rows.jsonl", tmp_path / "program.py"
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    path.write_text("\n".join([json.dumps(row)] * 2_000))
    program.write_text(_PROGRAM)
    command = [sys.executable, str(program), work, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = "[True]" if Path("/proc/self/status").exists() else "[]"
    assert (done.stdout, done.stderr) == (f"2000 {told}\n", "")


_SLEEPING = """
import functools, time
from tunedesk.core.spawning import Pool

if __name__ == "__main__":
    with Pool(functools.partial(print, "begun", flush=True)) as pool:
        pool.submit(time.sleep, 600).result()
"""


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_SLEEPING)
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate(timeout=20)  # which ends when nobody has its standard output any more
