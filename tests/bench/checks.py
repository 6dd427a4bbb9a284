"""How fast a file is checked, beside the seven checks of OpenAI's cookbook in plain Python on the same file.

Also near-duplicates beside every pair, and the split beside a shuffle. The ratio is to the first of its kind.
"""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunedesk.core.checking.checks import Rules, check_file
from tunedesk.core.checking.processes import find_in_lines
from tunedesk.core.grouping.duplicates import THRESHOLD, shingles, spoken_text
from tunedesk.core.grouping.split import count_leaks
from tunedesk.core.grouping.split_files import split_files

PAIRS = 1_000
"""Rows of which every pair is compared; the whole is told from that."""


def cookbook(path: Path) -> dict[str, int]:  # noqa: C901 - as it stands in the notebook
    """Make the seven checks of the notebook "Data preparation and analysis for chat model fine-tuning"."""
    errors: dict[str, int] = {}

    def count(name: str) -> None:
        errors[name] = errors.get(name, 0) + 1

    with path.open(encoding="utf-8") as file:
        dataset: list[Any] = [json.loads(line) for line in file]
    for row in dataset:
        if not isinstance(row, dict):
            count("data_type")
            continue
        messages = row.get("messages")
        if not messages:
            count("missing_messages_list")
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                count("message_missing_key")
            if any(key not in ("role", "content", "name", "function_call", "weight") for key in message):
                count("message_unrecognized_key")
            if message.get("role") not in ("system", "user", "assistant", "function"):
                count("unrecognized_role")
            content = message.get("content")
            if (not content and not message.get("function_call")) or not isinstance(content, str):
                count("missing_content")
        if not any(message.get("role") == "assistant" for message in messages):
            count("example_missing_assistant_message")
    return errors


def report(file: Path, folder: Path) -> Iterator[str]:
    """Yield the lines of the table: checks beside the cookbook's, duplicates and split beside what one would write."""
    with file.open("rb") as opened:
        rows = sum(1 for _ in opened)
    yield f"{file.name}: {rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB"
    theirs = _taken(lambda: cookbook(file))
    yield _line("cookbook's seven checks, plain Python", rows, theirs, theirs)
    for name, rules in {
        "all errors (--quick)": Rules(said=False),
        "rules, texts, exact duplicates": Rules(personal_data=False, near_duplicates=False),
        "and personal data": Rules(near_duplicates=False),
        "all checks": Rules(),
    }.items():
        yield _line(name, rows, _taken(lambda: check_file(file, rules)), theirs)  # noqa: B023
    yield from _grouping(file, folder, rows)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    each = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    yield f"most memory, that of the cookbook's checks included: {most:,} MB; each process {each:,} MB"


def _grouping(file: Path, folder: Path, rows: int) -> Iterator[str]:
    """Compare near-duplicates with all pairs on the first rows, and the split with one by chance."""
    lines = list(enumerate(file.read_bytes().splitlines()))
    few = [json.loads(line) for _, line in lines[:PAIRS]]
    naive = _taken(lambda: every_pair(few)) * (rows / len(few)) ** 2
    yield _line(f"near-duplicates, every pair (told from {len(few):,})", rows, naive, naive)
    yield _line("duplicates, exact and near", rows, _taken(lambda: find_in_lines(lines)), naive)
    parsed = [json.loads(line) for _, line in lines]
    shuffled = _taken(lambda: by_chance(parsed, folder))
    leaks = count_leaks(_rows(folder / "train.jsonl"), _rows(folder / "validation.jsonl"))
    yield _line(f"split by chance ({leaks:,} leaks)", rows, shuffled, shuffled)
    ours = _taken(lambda: split_files(parsed, folder))
    yield _line("split (0 leaks, proved on the files)", rows, ours, shuffled)


def every_pair(rows: list[Any]) -> int:
    """Count near-duplicates as one would at first: each pair of conversations, by sets of words and word pairs."""
    sets = [shingles(spoken_text(row)) for row in rows]
    found = 0
    for place, one in enumerate(sets):
        for other in sets[:place]:
            shared = len(one & other)
            found += shared >= THRESHOLD * (len(one) + len(other) - shared)
    return found


def by_chance(rows: list[Any], folder: Path) -> None:
    """Split as one would at first: shuffle, cut, write."""
    order = rows.copy()
    random.Random(0).shuffle(order)
    cut = len(order) * 4 // 5
    for name, part in (("train.jsonl", order[:cut]), ("validation.jsonl", order[cut:])):
        with (folder / name).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in part)


def _rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _taken(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _line(name: str, rows: int, seconds: float, measure: float) -> str:
    return f"{name:<52}{seconds:>10.1f} s{rows / seconds:>12,.0f} rows/s  x{measure / seconds:,.2f}"
