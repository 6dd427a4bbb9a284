"""`tunedesk diff`: files, datasets and versions, by content and message."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tunedesk.cli import main
from tunedesk.core.editing import edits
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench


def row(n: int, answer: str = "", **more: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": f"Where is parcel number {n} today?"},
            {"role": "assistant", "content": answer or f"Parcel {n} is on its way to you."},
        ],
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["diff", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_two_files_are_compared_by_content_wherever_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(n) for n in range(60)]
    changed = [row(n, "It waits for you." if n == 7 else "", id=n) for n in range(60) if n not in (20, 21)]
    changed += [{"messages": [{"role": "user", "content": "New"}, {"role": "assistant", "content": "Yes"}]}]
    random.Random(5).shuffle(changed)
    found = told(capsys, write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", changed))
    assert {key: found[key] for key in ("added", "removed", "reworded", "unchanged")} == {
        "added": 1, "removed": 2, "reworded": 1, "unchanged": 57,
    }  # fmt: skip
    by_kind = {change["kind"]: change for change in found["changes"]}
    assert by_kind["reworded"]["before_line"] == 8
    assert by_kind["reworded"]["messages"] == [
        {
            "kind": "reworded", "before_message": 2, "after_message": 2, "role": "assistant",
            "before": "Parcel 7 is on its way to you.", "after": "It waits for you.", "keys": {},
        }
    ]  # fmt: skip
    assert by_kind["added"]["preview"] == "New"
    assert sorted(c["before_line"] for c in found["changes"] if c["kind"] == "removed") == [21, 22]


def test_rows_that_share_no_message_but_most_words_are_one_row_reworded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = row(1, "Parcel 1 is on its way to you now.")
    other["messages"][1]["content"] += " Please."
    other["tools"] = [{"type": "function", "function": {"name": "track"}}]
    before = write(tmp_path / "a.jsonl", [row(1)])
    (change,) = told(capsys, before, write(tmp_path / "b.jsonl", [other]))["changes"]
    assert (change["kind"], [m["kind"] for m in change["messages"]]) == ("reworded", ["reworded"] * 2)
    assert change["keys"] == ["tools"]
    apart = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    found = told(capsys, before, write(tmp_path / "c.jsonl", [apart]))
    assert [one["kind"] for one in found["changes"]] == ["removed", "added"]


def test_copies_of_a_row_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice, once = (
        write(tmp_path / "a.jsonl", [row(1), row(1), row(2)]),
        write(tmp_path / "b.jsonl", [row(2), row(1)]),
    )
    found = told(capsys, twice, once)
    assert (found["added"], found["removed"], found["unchanged"]) == (0, 1, 2)


def test_a_dataset_is_compared_with_its_versions_and_with_a_file(
    tmp_path: Path, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Workbench(paths)
    file = write(tmp_path / "mine.jsonl", [row(n) for n in range(4)])
    workspace = bench.import_file(file).workspace.apply(edits.replace_message([2], 2, "Good"))
    bench.versions.save(workspace, "good")
    workspace.apply(edits.exclude([0]))
    bench.store.close()
    found = told(capsys, "mine@imported", "mine@good")
    assert [(c["kind"], c["after_line"]) for c in found["changes"]] == [("reworded", 3)]
    assert [c["kind"] for c in told(capsys, "mine@good", "mine")["changes"]] == ["removed"]
    assert [c["kind"] for c in told(capsys, file, "mine")["changes"]] == ["removed", "reworded"]
    assert main(["diff", "mine", "mine@none"]) == 2
    assert "no version none" in capsys.readouterr().err


def test_a_person_reads_marks_and_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (
        write(tmp_path / "a.jsonl", [row(1)]),
        write(tmp_path / "b.jsonl", [row(1, "Soon.\nReally.")]),
    )
    assert main(["diff", before, after]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "~ line 1: Where is parcel number 1 today?",
        "    reworded message 2 (assistant)",
        "    - Parcel 1 is on its way to you.",
        "    + Soon.",
        "    + Really.",
    ]
    assert "1 reworded, 0 unchanged" in err


def test_what_changed_of_a_message_beside_its_text_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def calling(city: str, text: str) -> dict[str, Any]:
        call = {
            "id": "c",
            "type": "function",
            "function": {"name": "f", "arguments": json.dumps({"city": city})},
        }
        asked = row(1)["messages"][:2]
        return {"messages": [*asked, {"role": "assistant", "content": text, "tool_calls": [call]}]}

    before = write(tmp_path / "a.jsonl", [calling("Paris", "So."), calling("Oslo", "One moment, please.")])
    after = write(tmp_path / "b.jsonl", [calling("Rome", "So."), calling("Bern", "One moment, I look.")])
    found = told(capsys, before, after)
    messages = [message for change in found["changes"] for message in change["messages"]]
    assert [(one["kind"], [*one["keys"]]) for one in messages] == [
        ("changed", ["tool_calls"]), ("reworded", ["tool_calls"]),
    ]  # fmt: skip
    assert main(["diff", before, after]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("    ")] == [
        "    changed message 2 (assistant)", "    - tool_calls", "    + tool_calls",
        "    reworded message 2 (assistant)", "    - One moment, please.", "    - tool_calls",
        "    + One moment, I look.", "    + tool_calls",
    ]  # fmt: skip
