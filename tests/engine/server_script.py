"""A real server in a process of its own, with the scripted trainer and writer.

Usage: server_script.py FOLDER MODELS_DIR [--impatient] [trainer options…]
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.engine.rig import ScriptedWriter, trainer
from tunedesk.engine.routes import connection
from tunedesk.engine.server import serve
from tunedesk.errors import EngineError

if __name__ == "__main__":
    if "--impatient" in sys.argv:
        sys.argv.remove("--impatient")
        connection.HEAD_SECONDS = 1.5
    try:
        serve(
            Path(sys.argv[1]),
            "127.0.0.1",
            0,
            models_dirs=[Path(sys.argv[2])],
            trainer_command=trainer(*sys.argv[3:]),
            generator=ScriptedWriter(["word "] * 40, pause=0.02),
            on_listening=click.echo,
        )
    except EngineError as error:
        sys.exit(f"{error.message}; {error.hint}")
