"""How fast a file is checked, beside the seven checks of OpenAI's cookbook in plain Python on the same file.

Run by hand: `python -m tests.bench.checks [ROWS]` (100,000 by default). Prints seconds, rows a second and the ratio.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tunedesk.core.checking.checks import Rules, check_file

WORDS = [
    a + b + c for a in "bdfklmnprst" for b in ("a", "en", "i", "ol", "u") for c in ("", "ma", "rit", "so")
]


def write(path: Path, rows: int) -> None:
    """Write conversations of three to seven messages, about 1 KB each, of which one in fifty repeats another."""
    chance = random.Random(7)
    kept = ""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            messages = [{"role": "system", "content": "You are Isla of Ferncastle Bank. Be brief and kind."}]
            for _ in range(chance.randint(1, 3)):
                for role, length in (("user", 25), ("assistant", 60)):
                    said = " ".join(chance.choices(WORDS, k=length))
                    messages.append({"role": role, "content": f"{said.capitalize()} case {number % 997}."})
            line = json.dumps({"messages": messages}) + "\n"
            kept = kept if number % 50 == 49 else line
            file.write(kept)


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


def main(rows: int) -> None:
    """Write a file, check it both ways and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, rows)
        size = path.stat().st_size
        sys.stdout.write(f"{rows:,} rows, {size / 1e6:,.0f} MB\n")
        takes: dict[str, float] = {}
        for name, rules in {
            "rules and duplicates": Rules(personal_data=False, near_duplicates=False),
            "all checks": Rules(),
        }.items():
            start = time.perf_counter()
            found = check_file(path, rules)
            takes[name] = time.perf_counter() - start
            sys.stdout.write(
                f"{name}: {takes[name]:.1f} s, {rows / takes[name]:,.0f} rows/s, {len(found.findings):,} findings\n"
            )
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        each = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        sys.stdout.write(f"most memory: {most:,} MB, each process {each:,} MB\n")
        start = time.perf_counter()
        cookbook(path)
        theirs = time.perf_counter() - start
        sys.stdout.write(f"cookbook's seven checks: {theirs:.1f} s; ")
        sys.stdout.write(
            ", ".join(f"{name} {theirs / took:.2f} times as fast" for name, took in takes.items()) + "\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
