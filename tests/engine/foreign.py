"""What the tests by foreign tools share: the Python they run in, and a seeded server of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("TUNEDESK_CONFORMANCE_PYTHON", sys.executable)
"""The Python that has the foreign tools; may be another environment than ours."""
KEY = "My API Key"
"""What the SDK's tests send."""


def need(modules: Sequence[str]) -> None:
    """Skip the test, naming what is missing, unless PYTHON can import all `modules`."""
    found = subprocess.run(
        [PYTHON, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"TUNEDESK_CONFORMANCE_PYTHON ({PYTHON}): {found.stderr.strip().splitlines()[-1]}")


@contextmanager
def seeded_server(folder: Path, *options: str) -> Iterator[str]:
    """Run seeded_server.py on `folder` and give its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.seeded_server", str(folder), KEY, *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()
