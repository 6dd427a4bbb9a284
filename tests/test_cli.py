"""The commands are a contract: their JSON keys, their exit statuses, what goes to which stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunedesk.cli import main, tunedesk
from tunedesk.cli.output import Progress
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.editing import edits
from tunedesk.core.workspace import Workspace
from tunedesk.paths import Paths
from tunedesk.store import Store

Captured = pytest.CaptureFixture[str]
WORDS = ["card", "loan", "fee", "transfer", "mortgage", "cheque", "address"]
WORDS += ["limit", "fraud", "pin", "app", "bank", "note", "coin"]
ROW = {
    "messages": [
        {"role": "user", "content": "Where is my card?"},
        {"role": "assistant", "content": "On its way."},
    ]
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = []
    for number, word in enumerate(WORDS):
        messages = [
            {"role": "user", "content": f"What about the {word} I lost {number * 37} days ago?"},
            {"role": "assistant", "content": f"Bring form {number * 911} for the {word} to a branch."},
        ]
        lines.append(json.dumps({"messages": messages, "metadata": {"intent": word}}))
    path.write_text("\n".join(lines) + "\n")
    return path


def output(capsys: Captured, *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run a command with --json and return its one document."""
    assert main([*arguments, "--json"]) == status
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    document: dict[str, Any] = json.loads(captured.out)
    return document


def test_import_then_list_by_name(rows: Path, capsys: Captured) -> None:
    imported = output(capsys, "import", str(rows), "--name", "cards")
    assert imported | {"dataset": "cards", "conversations": 14, "skipped": [], "rows": 14} == imported
    listed = output(capsys, "list", "cards", "--where", "user:card")
    assert (listed["matched"], listed["total"]) == (1, 14)


def test_an_import_of_nothing_tells_every_reason_and_ends_with_1(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("question,answer\nq,\n,a\n")
    told = output(capsys, "import", str(path), status=1)
    assert (told["conversations"], told["rows"]) == (0, 2)
    assert [one["line"] for one in told["skipped"]] == [2, 3]
    assert output(capsys, "convert", str(path), "-o", str(tmp_path / "o.jsonl"), status=1)["dataset"] is None
    assert not (tmp_path / "o.jsonl").exists()


def test_the_same_conversations_under_another_name_are_told_of(
    rows: Path, capsys: Captured, paths: Paths
) -> None:
    assert main(["import", str(rows), "--name", "one"]) == 0
    assert main(["import", str(rows), "--name", "one"]) == 0
    assert "here already" not in capsys.readouterr().err
    assert main(["import", str(rows), "--name", "two"]) == 0
    assert "here already as one, and are called two now" in capsys.readouterr().err
    with Store(paths.store) as store:
        entry = store.dataset("two")
        assert entry is not None
        Workspace.open(Dataset.open(paths.datasets / entry.id), store).apply(edits.exclude([0]))
    assert main(["import", str(rows), "--name", "two"]) == 0
    assert "here already with the edits made since" in capsys.readouterr().err


def test_an_interrupted_import_keeps_nothing_and_ends_with_130(
    rows: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    def interrupt(self: Progress, done: int, total: int | None = None, unit: str = "") -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", interrupt)
        assert main(["import", str(rows)]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "interrupted; nothing was imported\n")
    assert output(capsys, "datasets")["datasets"] == []
    assert not list(paths.datasets.iterdir())


def test_import_tells_what_it_skipped(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ROW) + "\nnot json\n" + json.dumps(ROW) + "\n")
    imported = output(capsys, "import", str(path))
    assert imported["conversations"] == 2
    (skipped,) = imported["skipped"]
    assert skipped["line"] == 2


def test_list_sorts_and_limits(rows: Path, capsys: Captured) -> None:
    listed = output(capsys, "list", str(rows), "--sort", "-intent", "--limit", "2")
    assert [row["intent"] for row in listed["rows"]] == ["transfer", "pin"]


def test_a_query_that_cannot_be_read_points_at_its_column(rows: Path, capsys: Captured) -> None:
    assert main(["list", str(rows), "--where", "user:card AND ("]) == 2
    query, caret, error, *_ = capsys.readouterr().err.splitlines()
    assert query[len(caret) - 1] == "("
    assert error == "error: this ( is never closed"


def test_a_query_may_ask_for_what_has_to_be_worked_out_first(tmp_path: Path, capsys: Captured) -> None:
    said = [
        "Where is my card?",
        "Where is my card?",
        "Mail ann@example.com, please",
        "A " + "long " * 200,
        "",
    ]
    path = tmp_path / "rows.jsonl"
    rows = [{"messages": [{"role": "user", "content": text}, ROW["messages"][1]]} for text in said]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def lines(query: str, *more: str) -> list[int]:
        return [row["line"] for row in output(capsys, "list", str(path), "--where", query, *more)["rows"]]

    assert lines("tokens>100") == [4]
    assert lines("tokens<100 -tokens>50") == [1, 2, 3, 5]
    assert lines("has:pii OR tokens>100") == [3, 4]
    assert lines("dup:yes") == [1, 2]
    assert lines("", "--sort", "-tokens")[0] == 4
    assert main(["check", str(path), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert lines("has:error") == sorted({one["line"] for one in findings if one["severity"] == "error"}) != []
    for code in {one["code"] for one in findings if one["line"]}:
        assert lines(f"check:{code}") == sorted({one["line"] for one in findings if one["code"] == code})
    assert main(["list", str(path), "--where", "loss>2"]) == 2
    assert "train on them first" in capsys.readouterr().err


def test_export_leaves_metadata_behind_unless_kept(rows: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out.jsonl"
    written = output(capsys, "export", str(rows), "-o", str(out))
    assert written == {"path": str(out), "conversations": 14, "bytes": out.stat().st_size}
    assert set(json.loads(out.read_text().splitlines()[0])) == {"messages"}
    output(capsys, "export", str(rows), "-o", str(out), "--keep-metadata")
    assert "metadata" in json.loads(out.read_text().splitlines()[0])


def test_export_tells_what_a_format_cannot_hold(tmp_path: Path, capsys: Captured) -> None:
    pair = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (pair, {"messages": pair["messages"][:1]})))
    written = output(capsys, "export", str(file), "-o", str(tmp_path / "out.jsonl"), "--format", "alpaca")
    assert written["conversations"] == 1
    assert written["skipped"] == [{"line": 2, "reason": "it does not end with an answer"}]


@pytest.mark.parametrize("target", ["sharegpt", "alpaca", "parquet"])
def test_other_formats_come_back_the_same(rows: Path, target: str, tmp_path: Path, capsys: Captured) -> None:
    there = tmp_path / ("there.parquet" if target == "parquet" else "there.jsonl")
    back = tmp_path / "back.jsonl"
    output(capsys, "convert", str(rows), "-o", str(there), "--to", target)
    output(capsys, "convert", str(there), "-o", str(back))
    said = [json.loads(line)["messages"] for line in rows.read_text().splitlines()]
    assert [json.loads(line)["messages"] for line in back.read_text().splitlines()] == said


def test_convert_makes_pairs_from_mapped_columns(tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "t.csv"
    table.write_text('frage,antwort\n"Wo ist\nmeine Karte?",Unterwegs.\n')
    out = tmp_path / "o.jsonl"
    done = output(
        capsys,
        "convert",
        str(table),
        "-o",
        str(out),
        "--map",
        "user=frage,assistant=antwort",
        "--system",
        "Be kind.",
    )
    assert done["conversations"] == 1
    messages = json.loads(out.read_text())["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    assert messages[1]["content"] == "Wo ist\nmeine Karte?"


def test_check_finds_faults_with_lines_and_exits_with_1(rows: Path, capsys: Captured) -> None:
    text = rows.read_text().splitlines()
    row = json.loads(text[4])
    row["messages"][1]["weight"] = 0.5
    text[4] = json.dumps(row)
    rows.write_text("\n".join(text) + "\n")
    found = output(capsys, "check", str(rows), status=1)
    assert found["conversations"] == 14
    assert found["errors"] == 1
    (finding,) = [one for one in found["findings"] if one["severity"] == "error"]
    assert (finding["line"], finding["message"]) == (5, 1)
    assert set(finding) == {"line", "message", "severity", "code", "text", "fix"}


def test_check_of_good_data_exits_with_0(rows: Path, capsys: Captured) -> None:
    assert output(capsys, "check", str(rows))["errors"] == 0


def test_quick_check_finds_errors_and_nothing_of_what_is_said(rows: Path, capsys: Captured) -> None:
    text = rows.read_text().splitlines()
    row = json.loads(text[4])
    row["messages"][1]["weight"] = 0.5
    row["messages"][0]["content"] = "Reach me at anna.kowalska@example.com, please."
    text[4] = json.dumps(row)
    rows.write_text("\n".join([*text, text[0]]) + "\n")
    whole = output(capsys, "check", str(rows), status=1)
    assert {"pii", "exact_duplicate"} <= {one["code"] for one in whole["findings"]}
    quick = output(capsys, "check", str(rows), "--quick", status=1)
    assert [(one["line"], one["code"]) for one in quick["findings"]] == [(5, "weight_invalid")]


def test_check_of_a_table_names_its_physical_lines(tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "t.csv"
    body = "".join(f'"Question {n} about the card",Answer {n * 31}\n' for n in range(12))
    table.write_text("question,answer\n" + body + "only a question,\n")
    found = output(capsys, "check", str(table), status=1)
    assert found["conversations"] == 12
    assert [one["line"] for one in found["findings"] if one["severity"] == "error"] == [14]


def test_fix_mends_and_reports(rows: Path, tmp_path: Path, capsys: Captured) -> None:
    text = rows.read_text().splitlines()
    row = json.loads(text[2])
    row["messages"].append({"role": "user", "content": "bye"})
    text[2] = json.dumps(row)
    rows.write_text("\n".join([*text, text[0]]) + "\n")
    out = tmp_path / "fixed.jsonl"
    done = output(capsys, "fix", str(rows), "-o", str(out))
    assert {"line": 3, "code": "last_not_assistant"} in done["fixed"]
    assert {"line": 15, "code": "exact_duplicate"} in done["fixed"]
    assert output(capsys, "check", str(out))["errors"] == 0


def test_fix_shows_what_it_would_do_and_writes_nothing(rows: Path, tmp_path: Path, capsys: Captured) -> None:
    rows.write_text(rows.read_text() + rows.read_text().splitlines()[0])
    before = rows.read_bytes()
    done = output(capsys, "fix", str(rows), "--dry-run")
    assert done == {
        "dry_run": True,
        "fixed": [{"line": 15, "code": "exact_duplicate", "diff": ["- the whole row"]}],
    }
    assert main(["fix", str(rows), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "exact_duplicate: 1" in shown.out
    assert "none made" in shown.err
    assert rows.read_bytes() == before
    assert main(["fix", str(rows)]) == 2


def test_fix_refuses_a_code_without_a_safe_fix(rows: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["fix", str(rows), "-o", str(tmp_path / "x"), "--codes", "no_assistant"]) == 2
    assert "no safe fix" in capsys.readouterr().err


def test_tokens_and_cost(rows: Path, capsys: Captured) -> None:
    told = output(capsys, "tokens", str(rows), "--model", "gpt-4.1-mini", "--epochs", "2")
    assert told["encoding"] == "o200k_base"
    assert set(told["tokens"]) == {"total", "min", "median", "p95", "max"}
    assert told["billed_tokens"] == told["tokens"]["total"] * 2
    cost = told["cost"]
    assert cost["usd"] == pytest.approx(told["billed_tokens"] * 5 / 1e6)
    assert cost["as_of"] == "2026-10-01"


def test_tokens_tell_more_after_the_contracts_keys(rows: Path, capsys: Captured) -> None:
    told = output(
        capsys, "tokens", str(rows), "--model", "gpt-4.1-mini", "--compare", "gpt-3.5-turbo", "--where"
    )
    assert list(told)[:8] == [
        "conversations", "encoding", "tokens", "trained_tokens_per_epoch", "over_limit", "epochs", "billed_tokens",
        "cost",
    ]  # fmt: skip
    assert sum(bar["conversations"] for bar in told["histogram"]) == told["conversations"]
    assert told["price_age_days"] > 0
    assert told["shutdown"] == "2027-01-14"
    assert told["models"]["gpt-3.5-turbo"]["cost"]["usd"] is None
    assert told["costliest"][0]["tokens"] == told["tokens"]["max"]
    assert [one["turns"] for one in told["trims"]][:3] == [1, 2, 3]


def test_a_dataset_is_trimmed_and_a_file_is_not(rows: Path, capsys: Captured) -> None:
    output(capsys, "import", str(rows), "--name", "cards")
    told = output(capsys, "trim", "cards", "--turns", "1")
    assert told["tokens_after"] <= told["tokens_before"]
    assert output(capsys, "tokens", "cards")["tokens"]["total"] <= told["tokens_after"] * 2
    assert main(["trim", str(rows)]) == 2


def test_a_price_and_a_budget_are_set_and_told(capsys: Captured) -> None:
    known: Any = output(capsys, "prices", "--set", "mine=0.5")
    (mine,) = [one for one in known if one["model"] == "mine"]
    assert (mine["training"], mine["age_days"]) == (0.5, 0)
    assert main(["prices", "--set", "mine"]) == 2
    assert output(capsys, "budget", "--per-launch", "3")["per_launch"] == 3
    told = output(capsys, "budget", "--per-month", "20")
    assert told == {"per_launch": 3, "per_month": 20, "spent_this_month": 0}
    assert output(capsys, "budget", "--none")["per_launch"] is None


def test_the_ledger_is_exported(capsys: Captured) -> None:
    entries: Any = output(capsys, "ledger")
    assert entries == []
    assert main(["ledger", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("launch,at,profile,model,job,status,estimated_tokens")


def test_tokens_on_this_machine_cost_nothing(rows: Path, capsys: Captured) -> None:
    told = output(capsys, "tokens", str(rows))
    assert told["cost"]["usd"] == 0


def test_split_writes_files_without_leaks_and_the_same_ones_twice(
    rows: Path, tmp_path: Path, capsys: Captured
) -> None:
    first = output(capsys, "split", str(rows), "-o", str(tmp_path / "a"), "--seed", "4")
    second = output(capsys, "split", str(rows), "-o", str(tmp_path / "b"), "--seed", "4")
    assert first == second
    assert (first["leaks"], first["train"], first["validation"]) == (0, 11, 3)
    assert (tmp_path / "a/train.jsonl").read_bytes() == (tmp_path / "b/train.jsonl").read_bytes()
    assert json.loads((tmp_path / "a/split.json").read_text())["seed"] == 4


def test_duplicates_are_grouped_by_line(rows: Path, capsys: Captured) -> None:
    text = rows.read_text()
    rows.write_text(text + text.splitlines()[1] + "\n")
    (group,) = output(capsys, "duplicates", str(rows))["groups"]
    assert group == {"lines": [2, 15], "similarity": 1.0}


def test_providers_tell_where_a_key_is_missing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890")
    assert main(["providers", "--json"]) == 0
    text = capsys.readouterr().out
    told = {row["name"]: row for row in json.loads(text)}
    assert told["local"]["key"] == "none needed"
    assert told["openai"]["key"] == "found"
    assert told["nebius"]["key"] == "set NEBIUS_API_KEY"
    assert "canary" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "no-such-file.jsonl"],
        ["check", "no-such-file.jsonl"],
        ["nonsense-command"],
        ["tokens", "--epochs", "many", "x"],
        ["run", "-", "--yes"],
        ["models", "--provider", "nobody"],
    ],
)
def test_what_cannot_be_read_exits_with_2_and_says_what_to_do(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip()
    assert "Traceback" not in captured.err


def test_a_launch_above_the_budget_is_refused_with_the_number(
    rows: Path, capsys: Captured, paths: Paths
) -> None:
    (paths.config / "profiles.toml").write_text('[openai]\ncloses = ""\n')
    arguments = [
        "launch",
        "--train",
        str(rows),
        "--model",
        "gpt-4.1",
        "--provider",
        "openai",
        "--budget",
        "0.001",
        "--yes",
    ]
    assert main(arguments) == 2
    assert "above the budget of $0.001" in capsys.readouterr().err


def test_a_launch_after_the_closing_is_refused_and_the_way_out_is_named(
    rows: Path, capsys: Captured, paths: Paths
) -> None:
    (paths.config / "profiles.toml").write_text('[openai]\ncloses = "2026-01-01"\n')
    assert main(["launch", "--train", str(rows), "--provider", "openai", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "no new jobs since 2026-01-01" in told
    assert "train it on this machine instead: --provider local" in told


def test_data_never_acts_on_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "evil.jsonl"
    row = {"messages": [{"role": "user", "content": "\x1b]52;c;aGk=\x07\u202ehi\x9b31m"}, ROW["messages"][1]]}
    path.write_text(json.dumps(row) + "\n")
    for arguments in (
        ["list", str(path)],
        ["list", str(path), "--json"],
        ["check", str(path)],
        ["check", str(path), "--json"],
    ):
        main(arguments)
        captured = capsys.readouterr()
        for character in ("\x1b", "\x07", "\x9b", "\u202e"):
            assert character not in captured.out + captured.err


def test_an_unforeseen_fault_is_told_without_a_traceback(
    rows: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("wheels came off")

    monkeypatch.setattr("tunedesk.workbench.Workbench.open_source", broken)
    assert main(["list", str(rows)]) == 1
    captured = capsys.readouterr()
    assert "wheels came off" in captured.err
    assert "Traceback" not in captured.err
    report = home / "logs/crash.txt"
    assert "wheels came off" in report.read_text()
    report.unlink()
    report.mkdir()  # no report can be written: it is told instead
    assert main(["list", str(rows)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    commands = [name for name, command in tunedesk.commands.items() if not command.hidden]
    assert [name for name in commands if f"`{name}`" not in readme] == []
