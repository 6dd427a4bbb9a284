"""The bench runs to its end on a handful of rows and finds what the other tools find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny_model
from tests.bench import data, training
from tests.bench.__main__ import main


def test_the_bench_of_data_runs_on_a_file_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "QUESTIONS", data.QUESTIONS[:1])
    file = data.made_up(tmp_path / "rows.jsonl", 300)
    assert main(["data", str(file)]) == 0
    out = capsys.readouterr().out
    assert "missing: " in out
    assert "failed" not in out
    assert "(found" not in out
    for step in ("import", "open, first page", "literal, count", "sort by chars", "page", "private memory"):
        assert f"\n{step}" in out


def test_a_made_up_file_is_the_same_every_time(tmp_path: Path) -> None:
    first, again = (data.made_up(tmp_path / name, 20).read_bytes() for name in ("a", "b"))
    assert first == again
    assert first.count(b"\n") == 20


def test_the_bench_of_tokens_runs_and_every_way_counts_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data.made_up(tmp_path / "rows.jsonl", 100)
    assert main(["tokens", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.count("  yes") == 18
    assert "  NO" not in out


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # by PEFT
def test_the_bench_of_training_runs_and_says_that_trl_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr(training, "_trl_is_there", lambda: False)
    model = tiny_model.build(tmp_path / "tiny", context=2048)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(training.SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[:12]))
    assert main(["train", str(file), "--rows", "8", "--model", str(model)]) == 0
    out = capsys.readouterr().out
    assert "pip install trl" in out
    assert "as they are: 8 rows" in out
    assert "\ntunedesk " in out


def test_the_bench_of_checks_runs_and_its_split_leaks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data.made_up(tmp_path / "rows.jsonl", 60)
    assert main(["checks", str(file)]) == 0
    out = capsys.readouterr().out
    for name in ("cookbook", "all checks", "duplicates, exact and near", "split (0 leaks"):
        assert f"\n{name}" in out
