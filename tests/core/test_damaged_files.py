"""Damaged files end in rows or in words, never in a fault of the program."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

import polars as pl
import pytest

from tests.core.test_importers import SAMPLES, load
from tunedesk.core.importing import importers, looking, parquet
from tunedesk.errors import DataError


def test_a_damaged_parquet_file_ends_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame({"question": ["q"], "answer": ["a"]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:40] + path.read_bytes()[60:])
    with pytest.raises(DataError, match="not a Parquet file that can be read"):
        list(importers.read(path))

    def panic(_: object) -> None:
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(DataError, match="assertion failed"):
        list(importers.read(path))


def test_a_parquet_file_that_ends_whoever_reads_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame({"question": ["q"], "answer": ["a"]}).write_parquet(path)
    monkeypatch.setattr(parquet, "TRIAL", "import os; os.abort()")
    with pytest.raises(DataError, match="damaged Parquet file: reading it ends the program"):
        list(importers.read(path))


def test_a_zip_with_a_damaged_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", SAMPLES["pairs"])
        archive.writestr("b", SAMPLES["pairs"])
    whole = path.read_bytes()
    name = whole.index(b"PK\x01\x02") + 46
    path.write_bytes(whole[:name] + b"\0" + whole[name + 1 :])
    rows, report = load(path)
    assert len(rows) == len(report.skipped) == 1
    assert "cannot be unpacked" in report.skipped[0].reason


def test_a_pipe_that_nobody_writes_to_is_waited_for_as_long_as_wanted(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def enough(done: int, total: int) -> None:
        assert (done, total) == (0, 0)
        raise Enough

    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with pytest.raises(Enough):
        list(importers.read(pipe, on_progress=enough))
    assert looking.look(pipe).problem == "it is a pipe, which can be read only once"
    rows = b'{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}\n' * 3
    writer = threading.Thread(target=pipe.write_bytes, args=(rows,))
    writer.start()
    assert len(list(importers.read(pipe))) == 3
    writer.join()
