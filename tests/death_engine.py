"""The engine with the scripted trainer, under the shim the first time: death_engine.py HOME SHIM FOLDER MODELS options…

The call at which it dies is taken from HOME/dies_at, once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    home, library = Path(sys.argv[1]), sys.argv[2]
    with (home / "starts").open("a") as starts:
        starts.write("start\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    note = home / "dies_at"
    if note.exists():
        environment |= {"LD_PRELOAD": library, "DIES_AT": note.read_text()}
        note.unlink()
    os.chdir(ROOT)
    os.execve(
        sys.executable, [sys.executable, "-m", "tests.engine.server_script", *sys.argv[3:]], environment
    )
