"""The real workbench over a temporary home, and small conversations to put into it."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunedesk.core.conversations import Row
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

_CACHE = Path(tempfile.mkdtemp(prefix="tunedesk-test-"))
"""Shared by all tests: token encodings are unpacked into it once."""
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)


def workbench(folder: Path) -> Workbench:
    """Return a workbench whose state lies under `folder`."""
    paths = Paths(folder / "data", folder / "config", _CACHE, folder / "logs")
    for path in (paths.data, paths.config, paths.cache, paths.logs):
        path.mkdir(parents=True, exist_ok=True)
    return Workbench(paths)


def conversation(number: int, *, user: str = "", assistant: str = "", **metadata: Any) -> Row:
    """Return a conversation about a card (even numbers) or a loan."""
    topic = ("card", "loan")[number % 2]
    return {
        "messages": [
            {"role": "system", "content": "You are Mara of Alder Bank."},
            {"role": "user", "content": user or f"Where is my {topic}? Case {number * 7919}."},
            {
                "role": "assistant",
                "content": assistant or f"About your {topic}: case {number * 104729} is open.",
            },
        ],
        "metadata": {"intent": f"{topic}_question", **metadata},
    }


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
