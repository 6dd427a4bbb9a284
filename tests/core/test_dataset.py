"""Importing, opening and reading datasets."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tunedesk.core.conversations import Row, SourceRow
from tunedesk.core.datasets import arrow_parts, dataset_writer
from tunedesk.core.datasets.arrow_parts import array_of, buffer_series, list_series, map_part, write_part
from tunedesk.core.datasets.dataset import Dataset, list_datasets
from tunedesk.core.datasets.dataset_writer import Provenance, write_dataset
from tunedesk.core.datasets.indexing import CHUNK_ROWS, fold, row_facts
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError, StoreError


def chat(user: str, answer: str = "Yes.", **metadata: object) -> Row:
    row: Row = {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}
    return {**row, "metadata": metadata} if metadata else row


def numbered(rows: list[Row], step: int = 1) -> Iterator[SourceRow]:
    return (SourceRow(1 + number * step, row) for number, row in enumerate(rows))


def test_an_imported_dataset_gives_back_every_row_and_its_line(tmp_path: Path) -> None:
    rows = [chat("Wo ist die Straße?", intent="way", id=7), chat("Hi", tags=["a", "b"]), {"messages": []}]
    dataset = write_dataset(numbered(rows, step=3), tmp_path, name="mine", source="a.jsonl")
    again = Dataset.open(tmp_path / dataset.id)
    assert [row for _, row in again.rows()] == rows
    assert [again.line(index) for index in range(3)] == [1, 4, 7]
    assert list(again.rows([2, 0])) == [(2, rows[2]), (0, rows[0])]
    assert list(again.source_rows())[1] == SourceRow(4, rows[1])
    assert (len(again), again.name) == (3, "mine")
    assert again.field_names() == ["id", "intent"]


def test_the_same_content_in_other_parts_replaces_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [chat(f"row {number}") for number in range(5)]
    whole = write_dataset(numbered(rows), tmp_path, name="one", source="x")
    monkeypatch.setattr(dataset_writer, "CHUNK_ROWS", 2)
    parts = write_dataset(numbered(rows), tmp_path, name="two", source="y")
    assert (whole.id, len(whole.chunks), len(parts.chunks)) == (parts.id, 1, 3)
    assert [parts.row(index) for index in range(5)] == [whole.row(index) for index in range(5)]
    assert [folder.name for folder in tmp_path.iterdir()] == [parts.id]


FEW_FILES = """
import resource, sys
from pathlib import Path
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.workspace import Workspace
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(Workspace.open(Dataset.open(Path(sys.argv[1]))).with_query("row").matched)
"""


def test_a_dataset_of_many_parts_opens_where_few_files_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_writer, "CHUNK_ROWS", 2)
    dataset = write_dataset(
        numbered([chat(f"row {number}") for number in range(80)]), tmp_path, name="n", source="s"
    )
    assert len(dataset.chunks) == 40
    told = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(dataset.folder)], capture_output=True, text=True, check=False
    )
    assert (told.stdout.strip(), told.stderr) == ("80", "")


def test_the_id_comes_from_the_content_alone(tmp_path: Path) -> None:
    first = write_dataset(numbered([chat("a")]), tmp_path, name="one", source="x")
    same = write_dataset(numbered([chat("a")]), tmp_path, name="two", source="y")
    other = write_dataset(numbered([chat("b")]), tmp_path, name="three", source="z")
    assert first.id == same.id != other.id
    assert sorted(manifest.name for manifest in list_datasets(tmp_path)) == ["three", "two"]
    assert first.row(0) == same.row(0)


def test_the_provenance_is_asked_when_the_source_has_been_read(tmp_path: Path) -> None:
    skipped = []

    def rows() -> Iterator[SourceRow]:
        yield SourceRow(1, chat("a"))
        skipped.append(2)

    write_dataset(
        rows(), tmp_path, name="n", source="s", provenance=lambda: Provenance("openai", "ff", len(skipped))
    )
    (manifest,) = list_datasets(tmp_path)
    assert (manifest.format, manifest.source_sha256, manifest.skipped) == ("openai", "ff", 1)
    assert manifest.conversations == 1


def test_a_source_without_rows_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no conversations"):
        write_dataset(iter(()), tmp_path, name="n", source="empty.csv")
    assert not list(tmp_path.iterdir())


def test_a_row_that_json_cannot_hold_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2 "):
        write_dataset(numbered([chat("a"), chat("\ud800")]), tmp_path, name="n", source="s")
    assert not list(tmp_path.iterdir())


def test_what_the_progress_callback_raises_cancels_the_import(tmp_path: Path) -> None:
    def stop(conversations: int, size: int) -> None:
        assert conversations == 1000
        assert size > 1000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(numbered([chat("a")] * 5000), tmp_path, name="n", source="s", on_progress=stop)
    assert not list(tmp_path.iterdir())


_IMPORT = """
import os, signal, sys
from pathlib import Path
from tunedesk.core.conversations import SourceRow
from tunedesk.core.datasets.dataset_writer import write_dataset
calls, limit = 0, int(sys.argv[2])
def dying(real):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    return call
os.fsync, Path.replace = dying(os.fsync), dying(Path.replace)
row = {"messages": [{"role": "user", "content": "hello"}]}
write_dataset((SourceRow(n, row) for n in range(1, 4)), Path(sys.argv[1]), name="n", source="s")
"""


def test_a_kill_at_any_durable_step_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    seen = set()
    for limit in (1, 3, 5, 7, 8, 9, 10, 11, 12, 99):
        datasets = tmp_path / str(limit)
        done = subprocess.run([sys.executable, "-c", _IMPORT, str(datasets), str(limit)], check=False)
        listed = list_datasets(datasets)
        seen.add((done.returncode == 0, len(listed)))
        for manifest in listed:
            assert len(Dataset.open(datasets / manifest.id)) == 3
        write_dataset(numbered([chat("again")]), datasets, name="next", source="s")
        assert not list(datasets.glob(".importing-*"))
    assert {(False, 0), (True, 1)} <= seen


def test_rows_are_let_go_as_soon_as_they_are_written(tmp_path: Path) -> None:
    alive: list[int] = []

    class Tracked(dict[str, object]):
        def __del__(self) -> None:
            alive.pop()

    def rows() -> Iterator[SourceRow]:
        for line in range(1, 2001):
            alive.append(line)
            yield SourceRow(line, Tracked(chat(f"row {line}")))
            assert len(alive) <= 2

    assert len(write_dataset(rows(), tmp_path, name="n", source="s")) == 2000


def test_the_same_content_imported_twice_at_once_is_one_dataset(tmp_path: Path) -> None:
    def rows() -> Iterator[SourceRow]:
        yield SourceRow(1, chat("a"))

    def meanwhile() -> Provenance:
        write_dataset(rows(), tmp_path, name="second", source="s")
        return Provenance()

    assert write_dataset(rows(), tmp_path, name="first", source="s", provenance=meanwhile).row(0) == chat("a")
    assert [path.name for path in tmp_path.iterdir()] == [manifest.id for manifest in list_datasets(tmp_path)]


def test_an_import_in_progress_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    def rows() -> Iterator[SourceRow]:
        yield SourceRow(1, chat("outer"))
        write_dataset(numbered([chat("inner")]), tmp_path, name="inner", source="s")
        yield SourceRow(2, chat("outer"))

    assert len(write_dataset(rows(), tmp_path, name="outer", source="s")) == 2
    assert len(list_datasets(tmp_path)) == 2


def test_a_damaged_dataset_is_refused_and_mended_by_importing_again(tmp_path: Path) -> None:
    rows = [chat("a"), chat("b")]
    dataset = write_dataset(numbered(rows), tmp_path, name="n", source="s")
    part = dataset.folder / "text-000.arrow"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"damaged: text-000\.arrow"):
        Dataset.open(dataset.folder)
    write_dataset(numbered(rows), tmp_path, name="n", source="s")
    assert [row for _, row in Dataset.open(dataset.folder).rows()] == rows
    assert [path.name for path in tmp_path.iterdir()] == [dataset.id]


@pytest.mark.parametrize("content", ["", "{", '{"id": 1}', '{"version": 99}'])
def test_a_folder_without_a_good_manifest_is_no_dataset(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="not a dataset"):
        Dataset.open(tmp_path)


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        write_dataset(numbered([chat("a")]), tmp_path, name="n", source="s")
    assert "free some space" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_rows_beyond_one_chunk_are_found_by_index_and_by_query(tmp_path: Path) -> None:
    count = CHUNK_ROWS + 100
    rows = ({"messages": [{"role": "user", "content": f"number {n}"}]} for n in range(count))
    source = (SourceRow(line, row) for line, row in enumerate(rows, 1))
    dataset = write_dataset(source, tmp_path, name="n", source="s")
    assert len(dataset.chunks) == 2
    assert dataset.row(count - 1)["messages"][0]["content"] == f"number {count - 1}"
    assert dataset.line(CHUNK_ROWS) == CHUNK_ROWS + 1
    found = Workspace.open(dataset).with_query('"number 6553"')
    assert list(found.matches) == [6553, *range(65530, 65540)]
    assert list(found.with_query('"number 65536"').matches) == [65536]


def test_a_row_of_any_shape_is_indexed(tmp_path: Path) -> None:
    odd: list[Row] = [
        {},
        {"messages": None},
        {"messages": ["text", {"role": 5, "content": 7}, {"content": [{"type": "text", "text": "part"}, 3]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "get_rate"}}, 1]}]},
        {"metadata": {"deep": {"a": {"b": 1}}, "none": None, "n": 1.5, "flag": True}, "extra": "x"},
        {
            "input": {"messages": [{"role": "user", "content": "q"}]},
            "preferred_output": [{"role": "assistant"}],
        },
    ]
    dataset = write_dataset(numbered(odd), tmp_path, name="n", source="s")
    assert [row for _, row in dataset.rows()] == odd
    facts = [row_facts(row) for row in odd]
    assert [one.turns for one in facts] == [0, 0, 2, 1, 0, 2]
    assert facts[2].tool == "\n\x1e\npart"
    assert "get_rate" in facts[3].tool
    assert facts[4].fields == {"deep.a": '{"b": 1}', "n": "1.5", "flag": "true", "extra": "x"}
    assert facts[5].user == "q"


def test_the_intent_falls_back_to_category_and_label() -> None:
    assert row_facts(chat("a", intent="i", category="c")).intent == "i"
    assert row_facts(chat("a", category="c", label="l")).intent == "c"
    assert row_facts(chat("a", label="l")).intent == "l"


def test_folding_makes_every_way_to_write_a_letter_the_same() -> None:
    assert fold("STRASSE") == fold("Straße") == "strasse"
    assert fold("ΟΔΟΣ") == fold("οδος") == fold("οδοσ")
    assert fold("Cafe\u0301") == fold("CAFÉ") == "café"


def test_metadata_keys_beyond_the_limit_stay_in_the_rows_and_are_named(tmp_path: Path) -> None:
    row: Row = {**chat("a"), "metadata": {f"key{n:03}": n for n in range(200)}}
    dataset = write_dataset(numbered([row]), tmp_path, name="n", source="s")
    assert dataset.row(0) == row
    assert "key199" in dataset.manifest.unindexed
    assert "key000" in dataset.field_names()


def test_a_part_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "n": pl.Series([1, 2, 3], dtype=pl.UInt32),
            "text": ["x" * 40, "", "héé"],
            "short": ["a", "b", "c"],
            "big": pl.Series([2**40, 0, 1], dtype=pl.UInt64),
            "more": ["z" * 100_000, "y" * 20, ""],
        }
    )
    write_part(frame, tmp_path / "part.arrow")
    assert pl.DataFrame(map_part(tmp_path / "part.arrow")).equals(frame)


def test_a_part_stays_mapped_for_as_long_as_anything_is_left_of_it(tmp_path: Path) -> None:
    path = tmp_path / "part.arrow"
    frame = pl.DataFrame({"n": pl.Series(range(9), dtype=pl.UInt32), "text": [f"{n}" * 40 for n in range(9)]})
    write_part(frame, path)
    columns = map_part(path)
    path.unlink()
    some, others = columns["text"].gather([1, 7]), columns["text"].filter(columns["n"] > 7)
    few = columns.pop("n")[2:4]
    del columns
    gc.collect()
    assert [key[0] for key in arrow_parts._mapped if key[0] == str(path)] == [str(path)]
    assert (some.to_list(), others.to_list(), few.to_list()) == (["1" * 40, "7" * 40], ["8" * 40], [2, 3])
    del some, few
    assert others.to_list() == ["8" * 40]
    del others
    assert str(path) not in [key[0] for key in arrow_parts._mapped]


def test_an_error_that_drops_a_dataset_on_its_way_arrives(tmp_path: Path) -> None:
    rows = (SourceRow(n, {"messages": [{"role": "user", "content": f"row {n}"}]}) for n in range(1, 4))
    folder = write_dataset(rows, tmp_path, name="n", source="s").folder

    def opened() -> Dataset:
        dataset = Dataset.open(folder)
        dataset.warm()
        assert [chunk.texts["user"].len() for chunk in dataset.chunks] == [3]
        return dataset

    with pytest.raises(DataError, match="no conversation 9"):
        (opened(), opened().row(9))


def test_a_chunk_whose_last_file_is_gone_is_told_of(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tunedesk.core.datasets.dataset_writer import chunk_aside\n"
        "from tunedesk.errors import DataError\n"
        "try: chunk_aside(Path(sys.argv[1]), 0, None)\n"
        "except DataError as error: print(error.message)\n"
    )
    for part in ("rows", "text"):
        write_part(pl.DataFrame({"text": [f"{n}" * 40 for n in range(9)]}), tmp_path / f"{part}-000.arrow")
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tables-000.arrow is damaged" in done.stdout


def test_parts_that_are_mapped_at_the_end_end_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from tunedesk.core.datasets.arrow_parts import map_part\n"
        "def read():\n    for _ in range(50): map_part(path)['text'].str.contains('1')\n"
        "path = Path(sys.argv[1])\n"
        "sys.kept = map_part(path)\n"
        "threads = [threading.Thread(target=read) for _ in range(4)]\n"
        "[one.start() for one in threads]\n"
    )
    path = tmp_path / "part.arrow"
    write_part(pl.DataFrame({"text": [f"{n}" * 40 for n in range(999)]}), path)
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"\0" * 100])
def test_a_file_that_is_no_part_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part.arrow").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        map_part(tmp_path / "part.arrow")


def test_a_column_over_an_array_sees_the_wanted_span() -> None:
    numbers, flags, losses = array("I", range(10)), bytearray(b"abc"), array("d", [0.5, 1.5])
    assert buffer_series(numbers, 3, 6).to_list() == [3, 4, 5]
    assert buffer_series(flags, 1, 9).to_list() == [98, 99]
    assert buffer_series(losses, 0, 2).to_list() == [0.5, 1.5]
    assert buffer_series(flags, 3, 3).to_list() == []


def test_lists_over_an_array_and_a_column_taken_out_again() -> None:
    numbers, ends = array("I", [7, 8, 9]), array("q", [0, 2, 2, 3])
    assert list_series(numbers, ends).to_list() == [[7, 8], [], [9]]
    assert list_series(array("I"), array("q", [0])).to_list() == []
    column = pl.Series(range(5), dtype=pl.UInt32)
    in_pieces = pl.concat([column, column.slice(3)], rechunk=False)
    assert array_of(in_pieces) == array("I", [0, 1, 2, 3, 4, 3, 4])
    assert array_of(in_pieces.filter(in_pieces > 9)) == array("I")


def test_the_manifest_tells_what_a_dataset_is(tmp_path: Path) -> None:
    dataset = write_dataset(numbered([chat("a")]), tmp_path, name="mine", source="a.csv")
    manifest = json.loads((dataset.folder / "manifest.json").read_text())
    assert set(manifest) >= {
        "id",
        "name",
        "source",
        "source_sha256",
        "conversations",
        "created_at",
        "skipped",
    }
    assert manifest["id"] == dataset.folder.name
    assert len(manifest["id"]) == 16
