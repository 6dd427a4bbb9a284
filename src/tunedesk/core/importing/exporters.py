"""Training files out: OpenAI's JSONL, ShareGPT, Alpaca, Parquet; whole or not at all.

A conversation that a format cannot hold is left out and told, never written without what does not fit.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl

from tunedesk.core.conversations import Row, content_text, encode_row, upload_row
from tunedesk.core.importing.report import Skipped
from tunedesk.errors import UsageError
from tunedesk.paths import replacing

_SHAREGPT_NAMES = {
    "user": "human", "assistant": "gpt", "system": "system", "developer": "system",
    "tool": "observation", "function": "observation",
}  # fmt: skip


class _DoesNotFit(ValueError):
    """A format has no place for something in a row; the text says for what."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written."""

    path: Path
    conversations: int
    bytes: int
    skipped: tuple[Skipped, ...] = ()
    """Rows that the format cannot hold, by their lines."""


def write_rows(
    rows: Iterable[tuple[int, Row]], path: Path, *, format_name: str = "openai", keep_metadata: bool = False
) -> Written:
    """Write `rows`, each with its line, as `format_name` to `path` (gzipped when it ends in .gz), whole or not at all.

    Only the API's keys are written unless `keep_metadata`. Raises UsageError for an unknown format, StoreError when
    the disk refuses.
    """
    if format_name not in EXPORTERS:
        raise UsageError(f"no export format named {format_name!r}", f"use one of {', '.join(EXPORTERS)}")
    shape, write = EXPORTERS[format_name]
    count, skipped = 0, []

    def shaped() -> Iterator[Row]:
        nonlocal count
        for line, row in rows:
            try:
                made = shape(row if keep_metadata else _without_metadata(row))
            except _DoesNotFit as error:
                skipped.append(Skipped(line, str(error)))
                continue
            count += 1
            yield made

    with replacing(path) as file:
        if path.suffix == ".gz":
            # No name and no time in the header: the same rows give the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                write(shaped(), packed)
        else:
            write(shaped(), file)
    return Written(path, count, path.stat().st_size, tuple(skipped))


def _without_metadata(row: Row) -> Row:
    if "preferred_output" in row:
        return {key: value for key, value in row.items() if key != "metadata"}
    return upload_row(row)


def _openai(row: Row) -> Row:
    return row


def _sharegpt(row: Row) -> Row:
    """Return turns of `from` and `value`; calls are turns of their own, as LLaMA-Factory has them."""
    turns: list[Row] = []
    for message in _messages(row):
        role, text = message.get("role"), _text(message)
        if role not in _SHAREGPT_NAMES:
            raise _DoesNotFit(f"the format has no speaker for the role {role!r}")
        kept = {key: message[key] for key in ("weight", "name") if message.get(key) is not None}
        calls = _calls(message)
        if text or not calls:
            turns.append({"from": _SHAREGPT_NAMES[role], "value": text, **kept})
        if calls:
            told = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            turns.append({"from": "function_call", "value": told, **kept})
    return {"conversations": turns, **{key: value for key, value in row.items() if key != "messages"}}


def _alpaca(row: Row) -> Row:
    """Return the last question and answer, those before them as `history`."""
    messages = _messages(row)
    said = [one for one in messages if one.get("role") not in ("system", "developer")]
    for place, message in enumerate(said):
        if message.get("role") != ("assistant" if place % 2 else "user"):
            raise _DoesNotFit("it is no question and answer in turn, which is all that the format has")
        if _calls(message):
            raise _DoesNotFit("the format has no tool calls")
    if not said or len(said) % 2:
        raise _DoesNotFit("it does not end with an answer")
    if said[-1].get("weight") == 0:
        raise _DoesNotFit("its last answer is not trained on, which the format cannot say")
    texts = [_text(one) for one in said]
    system = "\n".join(_text(one) for one in messages if one.get("role") in ("system", "developer"))
    shaped: Row = {"instruction": texts[-2], "input": "", "output": texts[-1]}
    if system:
        shaped["system"] = system
    if len(texts) > 2:
        shaped["history"] = [texts[place : place + 2] for place in range(0, len(texts) - 2, 2)]
    return {**shaped, **({"metadata": row["metadata"]} if "metadata" in row else {})}


def _messages(row: Row) -> list[dict[str, Any]]:
    messages = row.get("messages")
    if "preferred_output" in row or not isinstance(messages, list):
        raise _DoesNotFit("it is a preference pair" if "preferred_output" in row else "it has no messages")
    if not all(isinstance(one, dict) for one in messages):
        raise _DoesNotFit("one of its messages is not an object")
    return messages


def _text(message: dict[str, Any]) -> str:
    """Return what a message says; raises _DoesNotFit when it says more than text."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    kinds = [str(one.get("type")) if isinstance(one, dict) else "?" for one in parts]
    if other := next((kind for kind in kinds if kind != "text"), "audio" if message.get("audio") else ""):
        raise _DoesNotFit(f"the format has no place for {other}")
    if message.get("refusal"):
        raise _DoesNotFit("the format has no place for a refusal")
    return content_text(content)


def _calls(message: dict[str, Any]) -> list[Row]:
    """Return name and arguments of each call, the arguments as an object where they are one."""
    calls = message.get("tool_calls")
    listed = (
        [one.get("function") for one in calls if isinstance(one, dict)] if isinstance(calls, list) else []
    )
    return [
        {"name": one.get("name"), "arguments": _object(one.get("arguments"))}
        for one in (*listed, message.get("function_call"))
        if isinstance(one, dict)
    ]


def _object(arguments: object) -> object:
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _lines(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    for row in rows:
        file.write(encode_row(row) + b"\n")


def _parquet(rows: Iterable[Row], file: IO[bytes] | gzip.GzipFile) -> None:
    """One column a key: yes and no, numbers and texts as such, all others as JSON, so that rows of any shape fit."""
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        for key in (*columns, *(key for key in row if key not in columns)):
            columns.setdefault(key, [None] * number).append(row.get(key))
    frame = pl.DataFrame([_column(key, values) for key, values in columns.items()])
    frame.write_parquet(file)  # type: ignore[arg-type]


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {float} or (kinds == {int} and all(abs(value or 0) < 1 << 63 for value in values)):
        return pl.Series(name, values, dtype=pl.Float64 if kinds == {float} else pl.Int64)
    texts = [one if one is None or isinstance(one, str) else encode_row(one).decode() for one in values]
    return pl.Series(name, texts, dtype=pl.String)


_Shape = Callable[[Row], Row]
"""A row as a format has it; raises _DoesNotFit."""
_Write = Callable[[Iterable[Row], IO[bytes] | gzip.GzipFile], None]
EXPORTERS: dict[str, tuple[_Shape, _Write]] = {
    "openai": (_openai, _lines),
    "sharegpt": (_sharegpt, _lines),
    "alpaca": (_alpaca, _lines),
    "parquet": (_openai, _parquet),
}
"""Format name → what a row becomes, and what writes such rows. A new format is two functions and a row here."""
