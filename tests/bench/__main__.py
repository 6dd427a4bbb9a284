"""`python -m tests.bench data|keys|tokens [FILE] [--rows N]`: measure, beside what a user would take instead."""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import data, keys, tokens


def main(arguments: list[str] | None = None) -> int:
    """Run one bench and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("bench", choices=["data", "keys", "tokens"])
    parser.add_argument("file", nargs="?", type=Path, help="chat JSONL; made up when it is left out")
    parser.add_argument("--rows", type=int, default=200_000, help="conversations to make up")
    parser.add_argument("--every", type=int, default=1, help="tokens: plain tiktoken takes 1 part of so many")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tunedesk-bench-") as folder:
        file = chosen.file or data.made_up(Path(folder) / "made_up.jsonl", chosen.rows)
        reports: dict[str, Callable[[Path, Path], Iterator[str]]] = {
            "data": data.report,
            "keys": keys.report,
            "tokens": functools.partial(tokens.report, every=chosen.every),
        }
        report = reports[chosen.bench]
        for line in report(file, Path(folder)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
