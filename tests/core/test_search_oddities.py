"""What a search knows beside plain texts and fields: names that are no words, refusals, and a facet of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.rows_found import found, imported, user
from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.importing import storing
from tunedesk.core.searching.facets import facet_groups
from tunedesk.core.workspace import Workspace


def test_metadata_under_any_name_is_filtered_and_counted(tmp_path: Path) -> None:
    names = [
        "Order ID",
        "2nd line",
        "a:b",
        'the "best"',
        "back\\slash",
        "(x)",
        "名前",
        "-",
        "wait (days)",
        "tokens",
    ]
    rows: list[Row] = [
        {**user("Hi"), "metadata": dict.fromkeys(names, "A b" if number % 2 else number)}
        for number in range(4)
    ]
    for name in names:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        assert found(tmp_path, rows, f'"{quoted}":"a B"') == [1, 3], name
        assert found(tmp_path, rows, f'"{quoted}":2') == [2], name
        assert found(tmp_path, rows, f'-"{quoted}":2') == [0, 1, 3], name
    assert found(tmp_path, rows, '"wait (days)">1') == [2]
    workspace = Workspace.open(imported(tmp_path, rows))
    facets = {facet.field: facet for facet in facet_groups(workspace)}
    assert set(names) - {"tokens"} <= facets.keys()
    for bucket in (one for facet in facets.values() for one in facet.buckets):
        assert workspace.with_query(bucket.term).matched == bucket.count


def test_what_an_assistant_refuses_with_is_searched(tmp_path: Path) -> None:
    part = {"type": "refusal", "refusal": "I may not SAY."}
    rows: list[Row] = [
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "Sorry."}, part]}]},
        {"messages": [{"role": "assistant", "content": None, "refusal": "Never say never"}]},
        {"messages": [{"role": "user", "content": "I may not say."}]},
    ]
    assert found(tmp_path, rows, "assistant:say") == [0, 1]
    assert found(tmp_path, rows, '"may not say"') == [0, 2]
    assert found(tmp_path, rows, "assistant:/sorry.\\s+I may/") == [0]


def test_a_value_that_is_not_a_number_is_above_no_bound(tmp_path: Path) -> None:
    rows: list[Row] = [
        {**user("Hi"), "metadata": {"score": score}} for score in ("NaN", 5, "nan", "7", "high")
    ]
    assert found(tmp_path, rows, "score>4") == [1, 3]
    assert found(tmp_path, rows, "score!=5") == [3]


@pytest.mark.parametrize("content", ["Hi", None])
def test_an_intent_and_a_tag_are_found_under_any_of_their_keys(tmp_path: Path, content: str | None) -> None:
    rows: list[Row] = [
        {"messages": [{"role": "user", "content": content}], "metadata": metadata}
        for metadata in (
            {"Intent": "Fees"},
            {"LABEL": "x", "Category": "fees"},
            {"intent": "", "tag": "odd"},
            {"tags": ["odd", "b"]},
        )
    ]
    assert found(tmp_path, rows, "intent:fees") == [0, 1]
    assert found(tmp_path, rows, "tag:odd") == [2, 3]
    assert found(tmp_path, rows, "label:x") == [1]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join(map(encode_row, rows)))
    lines, _ = storing.import_file(file, tmp_path / "imported", name="n")
    workspace = Workspace.open(lines)
    assert list(workspace.with_query("intent:fees").matches) == [0, 1]
    assert list(workspace.with_query("tag:odd").matches) == [2, 3]
