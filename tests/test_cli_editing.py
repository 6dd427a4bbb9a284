"""`tunedesk edit`: one edit over all that a query matches, made, told only, taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.cli import main
from tunedesk.core.editing import edits
from tunedesk.core.workspace import Workspace
from tunedesk.paths import Paths
from tunedesk.workbench import Workbench

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def dataset(tmp_path: Path, paths: Paths) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"Case {n}"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(["Hello.", "Good day.", "Hello again, hello.", "No."])
    ]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Workbench(paths).import_file(tmp_path / "cases.jsonl")
    return "cases"


def told(capsys: Captured, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["edit", "cases", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def opened(paths: Paths) -> Workspace:
    return Workbench(paths).open("cases")


def test_what_matches_is_left_out_tagged_and_taken_back(dataset: str, paths: Paths, capsys: Captured) -> None:
    done = told(capsys, "--where", "assistant:hello", "--exclude")
    assert done == {"dataset": "cases", "edit": "exclude", "conversations": 2, "state": "done"}
    assert opened(paths).included_count == 2
    assert told(capsys, "--where", "is:excluded", "--include")["conversations"] == 2
    assert told(capsys, "--tag", "mine")["conversations"] == 4
    assert told(capsys, "--where", "no", "--untag", "mine")["edit"] == "untag mine"
    assert [opened(paths).view(row).tags for row in (0, 3)] == [("mine",), ()]
    assert told(capsys, "--undo") == {
        "dataset": "cases",
        "edit": "untag mine",
        "conversations": 1,
        "state": "undone",
    }
    assert opened(paths).view(3).tags == ("mine",)
    assert told(capsys, "--redo")["state"] == "redone"
    assert opened(paths).view(3).tags == ()
    for said in ("untag mine, 1 conversation", "tag mine, 4 conversations"):
        assert main(["edit", "cases", "--undo"]) == 0
        assert capsys.readouterr().out == f"undid: {said}\n"


def test_a_text_is_replaced_where_it_is_and_no_other_row_is_edited(
    dataset: str, paths: Paths, capsys: Captured
) -> None:
    assert main(["edit", "cases", "--replace", "assistant:/[Gg]ood day/ => Hi", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "- Good day." in shown
    assert "+ Hi." in shown
    assert "would change 1 of 4" in shown
    assert opened(paths).history == ()
    assert told(capsys, "--replace", "assistant:Hello => Hi")["conversations"] == 2
    workspace = opened(paths)
    assert workspace.row(2)["messages"][1]["content"] == "Hi again, hello."
    assert workspace.with_query("is:edited").matched == 2


def test_a_system_prompt_is_put_on_all_and_a_window_sees_it(
    dataset: str, paths: Paths, capsys: Captured, tmp_path: Path
) -> None:
    window = opened(paths)
    (tmp_path / "prompt").write_text("Be kind.")
    assert told(capsys, "--system", f"@{tmp_path / 'prompt'}")["conversations"] == 4
    assert window.reloaded().system_prompt == "Be kind."
    assert main(["edit", "cases", "--where", "case", "--replace", "zzz => y"]) == 2
    assert "would change none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--exclude", "--include"], ["--undo", "--where", "x"], ["--undo", "--redo"], ["--undo"], ["--redo"],
        ["--replace", "no arrow"], ["--exclude", "--where", "tunrs>2"], ["--tag", " "],
    ],
)  # fmt: skip
def test_what_makes_no_sense_changes_nothing_and_says_why(
    dataset: str, paths: Paths, capsys: Captured, arguments: list[str]
) -> None:
    assert main(["edit", "cases", *arguments]) == 2
    assert "error: " in capsys.readouterr().err
    assert opened(paths).history == ()


def test_nothing_is_edited_where_nothing_matches_or_in_a_file(
    dataset: str, paths: Paths, capsys: Captured, tmp_path: Path
) -> None:
    assert told(capsys, "--where", "zzz", "--exclude")["conversations"] == 0
    assert main(["edit", "cases", "--where", "zzz", "--exclude"]) == 0
    assert "nothing was changed" in capsys.readouterr().err
    assert main(["edit", str(tmp_path / "cases.jsonl"), "--exclude"]) == 2
    assert "tunedesk import" in capsys.readouterr().err
    assert opened(paths).apply(edits.exclude([0])).included_count == 3
