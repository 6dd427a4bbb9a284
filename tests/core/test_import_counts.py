"""For every format and container: imported and skipped is all there was, each skipped record with line and reason."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.importing import importers
from tunedesk.core.importing.report import Report
from tunedesk.errors import DataError

WORDS = st.text(alphabet="aé ?,;|\"'\n\t:<>{}[]#1", max_size=12)
SAID = st.one_of(WORDS, st.none(), st.integers(), st.just("Where is it?"), st.just("On its way."))
ROLE = st.sampled_from(
    ["user", "agent", "assistant", "customer", "system", "human", "gpt", "Ann", "", "note", None]
)
TURN = st.one_of(
    st.fixed_dictionaries({"role": ROLE, "content": SAID}),
    st.fixed_dictionaries({"from": ROLE, "value": SAID}),
    st.tuples(ROLE, SAID).map(list),
    st.fixed_dictionaries({"author_id": st.integers(1, 3), "body": SAID, "public": st.booleans()}),
    SAID,
)
TURNS = st.lists(TURN, max_size=5)
RECORD = st.one_of(
    st.fixed_dictionaries({"messages": TURNS}),
    st.fixed_dictionaries({"conversations": TURNS}),
    st.fixed_dictionaries({"comments": TURNS, "requester_id": st.integers(1, 3)}),
    st.fixed_dictionaries({"prompt": SAID, "completion": SAID}),
    st.fixed_dictionaries({"prompt": SAID, "chosen": st.one_of(SAID, TURNS), "rejected": st.one_of(SAID, TURNS)}),
    st.fixed_dictionaries({"instruction": SAID, "input": SAID, "output": SAID}),
    st.fixed_dictionaries({"question": SAID, "answer": SAID}),
    st.fixed_dictionaries({"text": st.one_of(SAID, st.just("Customer: Hi\nAgent: Hello"))}),
    st.fixed_dictionaries({"ticket_id": st.integers(1, 2), "author_role": ROLE, "body": SAID}),
    SAID,
    TURNS,
)  # fmt: skip


def imported(name: str, content: bytes) -> Report | None:
    """Return the report of a file, None when it was refused as a whole; what must hold of any report holds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        found = importers.read(path)
        try:
            lines = [source.line for source in found]
        except DataError:
            return None
    report = found.report
    assert report.imported == len(lines)
    assert report.rows == len(lines) + len(report.skipped)
    assert all(one.line > 0 and one.reason for one in report.skipped)
    return report


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORD, max_size=8))
def test_lines_of_json(found: list[Any]) -> None:
    lines = [json.dumps(one) for one in [{"messages": []}, *found]]
    report = imported("a.jsonl", "\n".join(lines).encode())
    assert report is None or report.rows >= len(lines)


@settings(max_examples=100, deadline=None)
@given(st.lists(RECORD, max_size=8))
def test_an_array_of_json(found: list[Any]) -> None:
    report = imported("a.json", json.dumps(found, indent=1).encode())
    whole = report is not None and (report.format == "turns" or report.rows == 1)
    assert report is None or whole or report.rows == len(found)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["question,answer", "ticket_id,author_role,body", "id,messages", "text", "instruction,output"]),
    st.lists(st.lists(SAID, min_size=1, max_size=4), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
)  # fmt: skip
def test_tables(header: str, cells: list[list[Any]], delimiter: str) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerow(header.split(","))
    writer.writerows(cells)
    imported("a.csv", written.getvalue().encode())


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a.json", "b.jsonl", "c/d.txt", "e.csv", ".f", "g"]), RECORD, max_size=5)
)
def test_zips_give_at_least_a_row_a_file(files: dict[str, Any]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, record in files.items():
            archive.writestr(name, record if isinstance(record, str) else json.dumps(record))
    report = imported("a.zip", packed.getvalue())
    shown = [name for name in files if not name.startswith(".")]
    assert report is None or report.format == "turns" or report.rows >= len(shown)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    imported("a.bin", content)
