"""How fast this machine trains a model, measured: `python -m tunedesk.engine.speed FOLDER`.

FOLDER holds a job.json as the trainer reads it. Its first steps are done as the trainer does them, for some seconds;
nothing is kept. Prints one line of JSON: tokens and seconds of the steps after the first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunedesk.engine.channel import Channel
from tunedesk.engine.fleet import Fleet
from tunedesk.engine.models import silence
from tunedesk.engine.recipe import Job
from tunedesk.engine.trainer import advance, load
from tunedesk.errors import TunedeskError

SECONDS = 6.0
"""How long it measures, from the second step on: the first warms caches and allocators."""


class _Silent(Channel):
    """What the trainer's steps report to, heard by nobody."""

    def __init__(self) -> None:
        self.stopping, self.speaks = False, False

    def emit(self, kind: str, **fields: Any) -> None:
        """Say nothing."""


def measured(folder: Path) -> tuple[int, float]:
    """Return tokens trained and the seconds they took; raises EngineError, DataError."""
    run = load(Job.read(folder), _Silent(), Fleet())
    advance(run)
    warm, began = run.tokens_done, time.monotonic()
    while run.step < run.steps and time.monotonic() - began < SECONDS:
        advance(run)
    return run.tokens_done - warm, time.monotonic() - began


def main(arguments: Sequence[str]) -> int:
    """Measure with the folder named by the only argument."""
    silence()
    try:
        tokens, seconds = measured(Path(arguments[0]))
    except TunedeskError as error:
        sys.stderr.write(error.message + "\n")
        return 1
    sys.stdout.write("\n" + json.dumps({"type": "speed", "tokens": tokens, "seconds": seconds}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
