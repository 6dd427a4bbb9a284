"""A file read in pieces, by one process or by several, gives what the importers give row by row."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.conversations import SourceRow
from tunedesk.core.datasets.dataset import ROWS, Dataset
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.importing import importers, pieces, storing
from tunedesk.core.importing.report import Report
from tunedesk.core.importing.sources import Progress
from tunedesk.errors import DataError

MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer", "x", ""])},
    optional={
        "content": st.one_of(st.text(max_size=8), st.none(), st.just([{"type": "text", "text": "part"}])),
        "weight": st.sampled_from([0, 1]),
    },
)
EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=3))),
        "tools": st.just([{"type": "function"}]),
        "rating": st.floats(allow_nan=False, allow_infinity=False),
        "conversations": st.just([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]),
        "chosen": st.just("Yes"),
        "rejected": st.just("No"),
        "preferred_output": st.just([]),
    },
)
ROW = st.builds(lambda messages, extra: {"messages": messages, **extra}, st.lists(MESSAGE, max_size=3), EXTRA)
LINE = st.one_of(
    st.builds(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), ROW),
    st.builds(lambda row: json.dumps(row).encode() + b"\r", ROW),
    st.sampled_from(
        [
            b"",
            b"  ",
            "\u3000".encode(),
            b"\x1c",
            b"{",
            b"7",
            b'{"messages": [{"role": "user", "content": "a", "content": "b"}], "x": 1, "x": 2}',
            b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
            b'{"messages": [{"role": "user", "content": "caf\xe9"}]}',
            b'{"messages": [{"role": "user", "content": NaN}]}',
            b'{"messages": [{"role": "user", "content": 1e999}], "n": 123456789012345678901234567890}',
            b'\xef\xbb\xbf{"messages": [{"role": "user", "content": "marked"}]}',
            b'{"train": [{"messages": [{"role": "user", "content": "inside"}]}]}',
            b'[["Customer", "Hi"], ["Agent", "Hello"]]',
        ]
    ),
)


def contents(dataset: Dataset) -> list[dict[str, Any]]:
    """All that is known of each row, however it was cut into chunks; rows.jsonl may write it in two ways."""
    found: list[dict[str, Any]] = []
    for chunk in dataset.chunks:
        for place in range(len(chunk)):
            one: dict[str, Any] = {name: column[place] for name, column in chunk.columns.items()}
            for name, table in chunk.tables.items():
                code = one.pop(name)
                one[name] = (table.value[code], table.folded[code], table.chars[code])
            one |= {role: text[place] for role, text in chunk.texts.items()}
            one = {name: value for name, value in one.items() if value != ("", "", 0)}
            del one["offset"], one["length"]
            found.append({**one, "row": dataset.row(len(found))})
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(LINE, min_size=1, max_size=5),
    st.sampled_from(["", "Be kind."]),
    st.sampled_from([b"\n", b"\r\n", b" \n"]),
)
def test_lines_become_the_rows_and_facts_that_the_importers_make_of_them(
    lines: list[bytes], system: str, end: bytes
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(end.join(lines))
        slow = importers.read(path, system=system)
        try:
            wanted = write_dataset(slow, Path(folder) / "slow", name="n", source="s")
        except DataError as error:
            same = re.escape(error.message.replace("s holds", f"{path} holds"))
            with pytest.raises(DataError, match=f"{same}|no conversation can be made of it"):
                storing.import_file(path, Path(folder) / "fast", name="n", system=system)
            return
        dataset, report = storing.import_file(path, Path(folder) / "fast", name="n", system=system)
        assert contents(dataset) == contents(wanted)
        assert report == slow.report
        assert dataset.manifest.unindexed == wanted.manifest.unindexed


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Report, Report]]:
    """Import a file by several processes and by one, and prove that every row and fact is the same."""
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 10_000)

    def run(
        path: Path, system: str | None = None, on_progress: Progress | None = None
    ) -> tuple[Report, Report]:
        found: list[tuple[list[dict[str, Any]], str, bytes, Report]] = []
        for name, worth in (("fast", 1), ("slow", 1 << 60)):
            monkeypatch.setattr(storing, "WORTH", worth)
            told = on_progress if name == "fast" else None
            dataset, report = storing.import_file(
                path, tmp_path / name, name="n", system=system, on_progress=told
            )
            found.append((contents(dataset), dataset.id, (dataset.folder / ROWS).read_bytes(), report))
            assert len(dataset.chunks) > 1
        assert found[0] == found[1]
        return found[0][3], found[1][3]

    return run


def many(count: int) -> list[str]:
    return [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Grüße {n}" if n % 3 else f"Order {n}"},
                    {"role": "assistant", "content": "Yes."},
                ],
                "metadata": {"id": n, "tags": ["a", f"t{n % 7}"]},
            },
            ensure_ascii=bool(n % 2),
        )
        for n in range(count)
    ]


def test_several_processes_write_what_one_writes(
    tmp_path: Path, both: Callable[..., tuple[Report, Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(800)) + "\n\n\n", encoding="utf-8")
    made = importers.read

    def first_alone(*arguments: Any, **named: Any) -> Iterator[SourceRow]:
        found = made(*arguments, **named)
        assert not found.report.imported
        return found

    monkeypatch.setattr(importers, "read", first_alone)
    told: list[tuple[int, int]] = []
    fast, _ = both(path, system="Be kind.", on_progress=lambda *one: told.append(one))
    assert fast.notes == ["2 blank lines passed over"]
    assert told[-1] == (path.stat().st_size,) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, "{", *lines[:3]],
        lambda lines: [lines[0], "", *lines[1:]],
        lambda lines: ["\ufeff" + lines[0], *lines[1:]],
        lambda lines: [*lines, json.dumps({"prompt": "Hi", "completion": "Yes"})],
        lambda lines: [*lines[:300], *["{" * 200] * 200, *lines[300:]],
        lambda lines: [*lines, json.dumps({"train": [json.loads(line) for line in lines[:3]]}), lines[5]],
    ],
    ids=[
        "bad JSON",
        "a blank line",
        "a byte order mark",
        "another format",
        "a piece of nothing",
        "rows in a line",
    ],
)
def test_an_odd_file_is_read_in_parts_with_the_same_result(
    change: Callable[[list[str]], list[str]], tmp_path: Path, both: Callable[..., tuple[Report, Report]]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(change(many(600))), encoding="utf-8")
    fast, _ = both(path)
    lines = path.read_bytes().split(b"\n")
    assert all(
        lines[one.line - 1].startswith(b"{") and lines[one.line - 1][-1:] == b"{" for one in fast.skipped
    )


def test_a_compressed_file_and_another_format_are_read_in_parts_too(
    tmp_path: Path, both: Callable[..., tuple[Report, Report]]
) -> None:
    path = tmp_path / "rows.jsonl.gz"
    lines = [
        json.dumps(
            {"conversations": [{"from": "human", "value": f"Q {n}"}, {"from": "gpt", "value": "A" * 50}]}
        )
        for n in range(600)
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert both(path)[0].kinds == {"sharegpt": 600}


def test_a_row_that_is_taken_as_it_is_keeps_its_bytes(tmp_path: Path) -> None:
    line = '{"metadata": {"a": 1.50}, "messages":[ {"content": "\\u00e9", "role": "user"}]}'
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    dataset, _ = storing.import_file(path, tmp_path / "datasets", name="n")
    assert dataset.raw(0) == line.encode()


def test_a_cancelled_import_leaves_nothing_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(9_000)))
    monkeypatch.setattr(storing, "WORTH", 1)

    def stop(done: int, size: int) -> None:
        assert 0 < done <= size
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storing.import_file(path, tmp_path / "datasets", name="n", on_progress=stop)
    assert not list((tmp_path / "datasets").iterdir())
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_does_not_end_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(9_000)))
    monkeypatch.setattr(storing, "WORTH", 1)

    def kill(done: int, size: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    dataset, report = storing.import_file(path, tmp_path / "datasets", name="n", on_progress=kill)
    assert len(Dataset.open(dataset.folder)) == report.imported == 9_000
    assert [one.name for one in (tmp_path / "datasets").iterdir()] == [dataset.id]


_SMALL_DISK = """
import resource, sys
from pathlib import Path
from tunedesk.core.importing import storing
from tunedesk.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
storing.WORTH = 1
try:
    storing.import_file(Path(sys.argv[1]), Path(sys.argv[2]), name="n")
except StoreError as error:
    print(error.message)
"""


def test_a_disk_that_refuses_a_process_is_said_in_words(tmp_path: Path) -> None:
    path, datasets = tmp_path / "rows.jsonl", tmp_path / "datasets"
    path.write_text("\n".join(many(2000)))
    command = [sys.executable, "-c", _SMALL_DISK, str(path), str(datasets)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "cannot write the dataset" in done.stdout
    assert not list(datasets.iterdir())


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n".join(many(10)))


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "grown": _append,
    "replaced": _replace,
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize(
    ("name", "worth", "change"),
    [
        *(("rows.jsonl", 1 << 60, change) for change in CHANGES),
        ("rows.jsonl", 1, "cut"),
        ("rows.jsonl", 1, "removed"),
        ("rows.json", 1 << 60, "grown"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_refused_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, worth: int, change: str
) -> None:
    path, datasets = tmp_path / name, tmp_path / "datasets"
    rows = many(4_000)
    path.write_text("[" + ",".join(rows) + "]" if name.endswith(".json") else "\n".join(rows))
    monkeypatch.setattr(storing, "WORTH", worth)
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 10_000)
    changes = iter([CHANGES[change]])

    def on_progress(done: int, size: int) -> None:
        for one in changes:
            one(path)

    with pytest.raises(DataError, match="changed while it was read"):
        storing.import_file(path, datasets, name="n", on_progress=on_progress)
    assert not list(datasets.iterdir())
    assert not multiprocessing.active_children()


def test_a_dataset_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(3)))
    dataset, _ = storing.import_file(path, tmp_path / "datasets", name="n")
    assert {one.stat().st_mode & 0o777 for one in dataset.folder.iterdir()} == {0o600}
