"""Training files out: OpenAI's JSONL, ShareGPT, Alpaca, Parquet; whole or not at all."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from tunedesk.core.conversations import Row, content_text, encode_row, upload_row
from tunedesk.errors import UsageError
from tunedesk.paths import replacing

_SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written."""

    path: Path
    conversations: int
    bytes: int


def write_rows(
    rows: Iterable[Row], path: Path, *, format_name: str = "openai", keep_metadata: bool = False
) -> Written:
    """Write `rows` as `format_name` to `path` (gzipped when it ends in .gz), renamed into place when whole.

    Only the API's keys are written unless `keep_metadata`. Raises UsageError for an unknown format, StoreError when
    the disk refuses.
    """
    if format_name not in EXPORTERS:
        raise UsageError(f"no export format named {format_name!r}", f"use one of {', '.join(EXPORTERS)}")
    count = 0

    def shaped() -> Iterable[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield row if keep_metadata else _without_metadata(row)

    with replacing(path) as file:
        if path.suffix == ".gz":
            # No name and no time in the header: the same rows give the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                EXPORTERS[format_name](shaped(), packed)
        else:
            EXPORTERS[format_name](shaped(), file)
    return Written(path, count, path.stat().st_size)


def _without_metadata(row: Row) -> Row:
    if "preferred_output" in row:
        return {key: value for key, value in row.items() if key != "metadata"}
    return upload_row(row)


def _openai(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    for row in rows:
        file.write(encode_row(row) + b"\n")


def _sharegpt(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    for row in rows:
        turns = [
            {
                "from": _SHAREGPT_NAMES.get(m.get("role", ""), m.get("role", "")),
                "value": content_text(m.get("content")),
            }
            for m in row.get("messages", ())
        ]
        rest = {key: value for key, value in row.items() if key != "messages"}
        file.write(encode_row({"conversations": turns, **rest}) + b"\n")


def _alpaca(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    for row in rows:
        messages = row.get("messages", ())
        system = "\n".join(
            content_text(m.get("content")) for m in messages if m.get("role") in ("system", "developer")
        )
        said = [m for m in messages if m.get("role") in ("user", "assistant")]
        history = [
            [content_text(a.get("content")), content_text(b.get("content"))]
            for a, b in zip(said[:-2:2], said[1:-2:2], strict=False)
        ]
        last = [content_text(m.get("content")) for m in said[-2:]]
        shaped: Row = {
            "instruction": last[0] if last else "",
            "input": "",
            "output": last[-1] if len(last) > 1 else "",
        }
        if system:
            shaped["system"] = system
        if history:
            shaped["history"] = history
        rest = {key: value for key, value in row.items() if key == "metadata"}
        file.write(encode_row({**shaped, **rest}) + b"\n")


def _parquet(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    """One column a key, each value as JSON: rows of any shape fit one schema."""
    columns: dict[str, list[str | None]] = {}
    for number, row in enumerate(rows):
        for key in (*columns, *(key for key in row if key not in columns)):
            column = columns.setdefault(key, [None] * number)
            column.append(encode_row(row[key]).decode() if key in row else None)
    pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).write_parquet(file)  # type: ignore[arg-type]


EXPORTERS: dict[str, Callable[[Iterable[Row], IO[bytes] | gzip.GzipFile], None]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "parquet": _parquet,
}
"""Format name → function that writes rows. A new format is a function and a row here."""
