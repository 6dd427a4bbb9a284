"""Curating as commands and services: personal data found, masked, and its map kept on this machine alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import output
from tests.tui.bench import conversation, workbench, write_rows
from tunedesk.cli import main
from tunedesk.core.editing import edits
from tunedesk.curation import changing, preview
from tunedesk.errors import DataError

Captured = pytest.CaptureFixture[str]
MAIL = "My name is Joan Pike, write to joan.pike@example.com please."


def source(folder: Path, **metadata: Any) -> Path:
    rows = [conversation(number) for number in range(12)]
    rows[4] = conversation(4, user=MAIL, assistant="Thank you, Joan.", **metadata)
    return write_rows(folder / "rows.jsonl", rows)


def test_personal_data_is_told_with_line_message_and_place(tmp_path: Path, capsys: Captured) -> None:
    found = output(capsys, "privacy", str(source(tmp_path)))["found"]
    (mail,) = [one for one in found if one["kind"] == "email"]
    assert mail == {
        "line": 5, "message": 1, "kind": "email",
        "start": MAIL.index("joan.pike@"), "end": MAIL.index(" please"),
    }  # fmt: skip


def test_a_masked_file_holds_placeholders_and_the_map_stays_here(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDESK_HOME", str(tmp_path / "home"))
    target = tmp_path / "out" / "masked.jsonl"
    target.parent.mkdir()
    path = source(tmp_path, customer_name="Joan Pike")
    output(capsys, "privacy", str(path), "-o", str(target))
    text = target.read_text()
    assert "joan" not in text.lower()
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows[4]["messages"][1]["content"] == "My name is [NAME_1], write to [EMAIL_1] please."
    assert rows[4]["messages"][2]["content"] == "Thank you, [NAME_1]."
    assert rows[4]["metadata"] == {"intent": "card_question"}
    assert rows[3] == conversation(3)
    assert list(target.parent.iterdir()) == [target]
    (kept,) = (tmp_path / "home").rglob("privacy/*.json")
    assert json.loads(kept.read_text())["5"] == {
        "[NAME_1]": "Joan Pike",
        "[EMAIL_1]": "joan.pike@example.com",
    }
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert main(["privacy", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == []


def test_an_edit_that_would_change_nothing_is_told_before_it_is_made(tmp_path: Path) -> None:
    workspace = workbench(tmp_path).import_file(source(tmp_path)).workspace
    told: list[tuple[int, int]] = []
    with pytest.raises(DataError, match="would change none"):
        preview(workspace, edits.replace_text(None, "nowhere", "x"), None, lambda *one: told.append(one))
    assert told == [(0, workspace.total)]
    assert preview(workspace, edits.exclude(None)).rows == workspace.total


def test_masking_rows_is_one_edit_shown_before_and_undone_at_once(tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    workspace = bench.import_file(source(tmp_path)).workspace
    edit = bench.curation.masking(workspace, range(workspace.total))
    shown = preview(workspace, edit)
    assert shown.rows == 1
    assert [(one.line, [part.now for part in one.messages][:1]) for one in shown.samples] == [
        (5, ["My name is [NAME_1], write to [EMAIL_1] please."])
    ]
    masked = bench.curation.mask(workspace, edit)
    assert "[EMAIL_1]" in str(bench.open("rows").row(4))
    assert bench.curation.map_of(masked)[5]["[NAME_1]"] == "Joan Pike"
    assert list(bench.curation.rows_with_personal_data(masked)) == []
    assert masked.undo().row(4) == workspace.row(4)
    with pytest.raises(DataError, match="no personal data"):
        bench.curation.masking(masked, range(workspace.total))


def test_coverage_prints_intents_the_thin_ones_and_shares(tmp_path: Path, capsys: Captured) -> None:
    found = output(capsys, "coverage", str(source(tmp_path)))
    assert (found["conversations"], found["by"], found["thin"]) == (12, "intent", [])
    assert found["intents"][0] == {"name": "card_question", "conversations": 6, "share": 0.5, "thin": False}
    assert (found["refusals"], found["hand_offs"]) == (0, 0)


def test_a_replacement_is_about_the_rows_that_have_the_text_however_many_are_asked_for(
    tmp_path: Path,
) -> None:
    said = ["my card", "a Card", "loan", "card", "cards", "loan"]
    answer = {"role": "assistant", "content": "a"}
    lines = [json.dumps({"messages": [{"role": "user", "content": one}, answer]}) for one in said]
    lines[3] = lines[3].replace("card", "c\\u0061rd")  # as JSON may write it, too
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    bench = workbench(tmp_path / "home")
    workspace = bench.import_file(tmp_path / "rows.jsonl").workspace
    workspace = workspace.apply(edits.replace_message([5], 0, "card"))
    edit = changing(workspace, edits.replace_text(range(6), "card", "Karte"))
    assert list(edit.indexes() or ()) == [0, 3, 4, 5]
    after = workspace.apply(edit)
    assert after.with_query("is:edited").matched == after.with_query("karte").matched == 4
    with pytest.raises(DataError, match="none"):
        changing(workspace, edits.replace_text(range(3), "mortgage", ""))
    bench.store.close()


def test_of_many_conversations_those_alone_are_edited_that_an_edit_changes(tmp_path: Path) -> None:
    said = "\n".join(json.dumps({"messages": [{"role": "user", "content": f"{n}"}]}) for n in range(20_400))
    (tmp_path / "rows.jsonl").write_text(said)
    bench = workbench(tmp_path / "home")
    workspace = bench.import_file(tmp_path / "rows.jsonl").workspace
    edit = changing(workspace, edits.replace_text(range(20_400), r"^7\d$", "seventy", pattern=True))
    assert list(edit.indexes() or ()) == list(range(70, 80))
    bench.store.close()
