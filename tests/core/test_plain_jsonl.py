"""The import by several processes gives what the one-process import gives, or hands the file over to it."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.conversations import SourceRow
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.indexing import CHUNK_ROWS
from tunedesk.core.importing import importers, plain_jsonl
from tunedesk.core.importing.importers import Report
from tunedesk.core.importing.plain_jsonl import NotPlain, plain_row
from tunedesk.core.importing.sources import Progress

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


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=4), st.sampled_from(["", "Be kind."]))
def test_a_plain_line_is_the_row_that_the_importers_make_of_it(lines: list[bytes], system: str) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_jsonl, "WORTH", 1)
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join(lines))
        if not plain_jsonl._looks_plain(path):
            return
        try:
            rows = [
                SourceRow(number, plain_row(line, system))
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
        except NotPlain:
            return
        slow = importers.read(path, system=system)
        assert list(slow) == rows
        blank = len(lines) - len(rows) - (not lines[-1])
        assert (slow.report.format, slow.report.skipped) == ("openai", [])
        assert (slow.report.imported, slow.report.blank_lines) == (len(rows), blank)


def test_plain_rows_are_recognised() -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"id": 1}}
    assert plain_row(json.dumps(row).encode(), "") == row


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Report, Report]]:
    """Import a file by several processes and by one, and prove that every file is the same."""

    def run(
        path: Path, system: str | None = None, on_progress: Progress | None = None
    ) -> tuple[Report, Report]:
        reports = []
        for name, worth in (("fast", 1), ("slow", 1 << 60)):
            monkeypatch.setattr(plain_jsonl, "WORTH", worth)
            told = on_progress if name == "fast" else None
            dataset, report = plain_jsonl.import_file(
                path, tmp_path / name, name="n", system=system, on_progress=told
            )
            reports.append(report)
            manifest = json.loads((dataset.folder / "manifest.json").read_text())
            manifest.pop("created_at")
            files = {one.name: one.read_bytes() for one in sorted(dataset.folder.iterdir())}
            files["manifest.json"] = json.dumps(manifest).encode()
            if name == "fast":
                first = files
            assert files.keys() == first.keys()
            assert all(files[one] == first[one] for one in files)
        return reports[0], reports[1]

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
    path.write_text("\n".join(many(CHUNK_ROWS + 500)) + "\n\n\n", encoding="utf-8")
    read, taken = importers.read, []

    def counted(*arguments: Any, **named: Any) -> importers.Import:
        taken.append(1)
        return read(*arguments, **named)

    monkeypatch.setattr(importers, "read", counted)
    told: list[tuple[int, int]] = []
    fast, slow = both(path, system="Be kind.", on_progress=lambda *one: told.append(one))
    assert taken == [1]
    assert fast == slow
    assert fast.notes == ["2 blank lines passed over"]
    assert told[-1] == (path.stat().st_size,) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, "{"],
        lambda lines: [lines[0], "", *lines[1:]],
        lambda lines: ["\ufeff" + lines[0], *lines[1:]],
        lambda lines: [*lines, json.dumps({"prompt": "Hi", "completion": "Yes"})],
    ],
    ids=["bad JSON", "a blank line", "a byte order mark", "another format"],
)
def test_an_odd_file_goes_the_long_way_with_the_same_result(
    change: Callable[[list[str]], list[str]], tmp_path: Path, both: Callable[..., tuple[Report, Report]]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(change(many(30))), encoding="utf-8")
    fast, slow = both(path)
    assert fast == slow


def test_a_compressed_file_goes_the_long_way(
    tmp_path: Path, both: Callable[..., tuple[Report, Report]]
) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(many(30)).encode()))
    assert len({report.imported for report in both(path)}) == 1


def test_a_cancelled_import_leaves_nothing_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(9_000)))
    monkeypatch.setattr(plain_jsonl, "WORTH", 1)

    def stop(done: int, size: int) -> None:
        assert 0 < done <= size
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain_jsonl.import_file(path, tmp_path / "datasets", name="n", on_progress=stop)
    assert not list((tmp_path / "datasets").iterdir())
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_does_not_end_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(many(9_000)))
    monkeypatch.setattr(plain_jsonl, "WORTH", 1)

    def kill(done: int, size: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    dataset, report = plain_jsonl.import_file(path, tmp_path / "datasets", name="n", on_progress=kill)
    assert len(Dataset.open(dataset.folder)) == report.imported == 9_000
    assert [one.name for one in (tmp_path / "datasets").iterdir()] == [dataset.id]


_SMALL_DISK = """
import resource, sys
from pathlib import Path
from tunedesk.core.importing import plain_jsonl
from tunedesk.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
plain_jsonl.WORTH = 1
try:
    plain_jsonl.import_file(Path(sys.argv[1]), Path(sys.argv[2]), name="n")
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
