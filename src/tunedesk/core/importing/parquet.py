"""Parquet as records, read by Polars: tried in another process first, as some damage ends the one that reads it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import polars as pl

from tunedesk.core.importing.sources import Item
from tunedesk.errors import DataError

TRIAL = "import io, sys, polars; polars.read_parquet(io.BytesIO(sys.stdin.buffer.read()))"
"""What the other process does."""
_ROWS = frozenset(("messages", "preferred_output"))
"""Columns of tables whose rows are OpenAI's own."""
_LONGEST_S = 600.0
_ENVIRONMENT = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")


def read_parquet(data: bytes, name: str) -> Iterator[Item]:
    """Yield each row of a Parquet file, numbered from 1; raises DataError when it is not one."""
    _try(data, name)
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DataError(f"{name} is not a Parquet file that can be read: {error}", "Is it cut?") from error
    number = 0
    for part in frame.iter_slices(4_096):
        for record in part.to_dicts():
            number += 1
            # A table has every column in every row; a key that a row had not is no key of it.
            bare = not _ROWS.isdisjoint(record)
            told = {key: _filled(one) for key, one in record.items() if not bare or one is not None}
            yield Item(number, told)


def _filled(value: Any) -> Any:
    """Return `value` without the null fields that Parquet gives every object of a list that has them in one."""
    if isinstance(value, list):
        return [_filled(item) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None}
    return value


def _try(data: bytes, name: str) -> None:
    """Raise DataError when reading ends a process, or never ends; what is merely wrong, the reader says itself."""
    told = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", TRIAL],
            input=data,
            capture_output=True,
            env=told,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{name} is a damaged Parquet file: reading it does not end", "Is it cut?") from error
    if ended.returncode < 0:
        raise DataError(f"{name} is a damaged Parquet file: reading it ends the program", "Is it cut?")
