"""`python -m tests.bench checks|data|keys|tokens|train|generate [FILE] [--rows N] [--model PATH]`: measure.

Each beside what a user would take instead, in one run.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import checks, data, keys, tokens


def main(arguments: list[str] | None = None) -> int:
    """Run one bench and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("bench", choices=["checks", "data", "keys", "tokens", "train", "generate"])
    parser.add_argument("file", nargs="?", type=Path, help="chat JSONL; made up when it is left out")
    parser.add_argument("--rows", type=int, help="conversations: 200,000 to make up, or 32 to train on")
    parser.add_argument("--every", type=int, default=1, help="tokens: plain tiktoken takes 1 part of so many")
    parser.add_argument("--model", type=Path, help="a base model's folder; the engine's own if left out")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tunedesk-bench-") as folder:
        lines = _of_models if chosen.bench in ("train", "generate") else _of_data
        for line in lines(chosen, Path(folder)):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return 0


def _of_data(chosen: argparse.Namespace, folder: Path) -> Iterator[str]:
    file = chosen.file or data.made_up(folder / "made_up.jsonl", chosen.rows or 200_000)
    reports: dict[str, Callable[[Path, Path], Iterator[str]]] = {
        "checks": checks.report,
        "data": data.report,
        "keys": keys.report,
        "tokens": functools.partial(tokens.report, every=chosen.every),
    }
    return reports[chosen.bench](file, folder)


def _of_models(chosen: argparse.Namespace, folder: Path) -> Iterator[str]:
    from tests.bench import generation, training
    from tunedesk.engine.catalogue import DEFAULT_MODEL
    from tunedesk.engine.models import ready_model
    from tunedesk.paths import state_paths

    model = chosen.model or ready_model(DEFAULT_MODEL, [state_paths().engine / "models"], lambda _: None)
    if chosen.bench == "generate":
        return generation.report(model.resolve(), folder)
    return training.report(model.resolve(), chosen.rows or 32, folder, chosen.file)


if __name__ == "__main__":
    sys.exit(main())
