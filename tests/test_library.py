"""Files that were read before are not read again, until they change; datasets can be listed and forgotten."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunedesk.cli import main
from tunedesk.core.editing import edits
from tunedesk.core.importing import known_files, storing
from tunedesk.errors import DataError
from tunedesk.paths import state_paths
from tunedesk.workbench import Workbench


@pytest.fixture
def bench() -> Workbench:
    return Workbench(state_paths())


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are imported from now on."""
    seen: list[str] = []
    real: Callable[..., Any] = storing.import_file

    def counted(path: Path | str, *arguments: Any, **named: Any) -> Any:
        seen.append(Path(path).name)
        return real(path, *arguments, **named)

    monkeypatch.setattr(storing, "import_file", counted)
    return seen


def written(path: Path, *texts: str) -> Path:
    """Write conversations, long enough ago that the file counts as settled."""
    rows = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    os.utime(path, (time.time() - 60,) * 2)
    return path


def test_an_unchanged_file_is_imported_once(tmp_path: Path, bench: Workbench, imports: list[str]) -> None:
    path = written(tmp_path / "a.jsonl", "one", "two")
    first, again = bench.load(path), bench.load(path)
    assert imports == ["a.jsonl"]
    assert again.workspace.dataset.id == first.workspace.dataset.id
    assert again.report == first.report
    assert [one.line for one in again.report.skipped] == [3]


def test_another_way_to_read_it_is_another_import(
    tmp_path: Path, bench: Workbench, imports: list[str]
) -> None:
    path = written(tmp_path / "a.jsonl", "one")
    plain, kind = bench.load(path), bench.load(path, system="Be kind.")
    assert len(imports) == 2
    assert plain.workspace.row(0) != kind.workspace.row(0)


def test_a_file_that_changed_is_imported_again(tmp_path: Path, bench: Workbench, imports: list[str]) -> None:
    path = written(tmp_path / "a.jsonl", "one")
    bench.load(path)
    same_length = path.read_text().replace("one", "two")
    path.write_text(same_length)
    assert bench.load(path).workspace.row(0)["messages"][0]["content"] == "two"
    bench.load(path)
    assert len(imports) == 3, "just written: another change could bear the same time"


def test_a_file_in_the_store_answers_commands_and_takes_its_new_name(
    tmp_path: Path, bench: Workbench, imports: list[str]
) -> None:
    path = written(tmp_path / "a.jsonl", "one")
    bench.import_file(path)
    bench.load(path)
    named = bench.import_file(path, name="mine").workspace.dataset
    assert imports == ["a.jsonl"]
    assert (named.name, bench.open("mine").dataset.name) == ("mine", "mine")


def test_what_is_gone_is_imported_again(tmp_path: Path, bench: Workbench, imports: list[str]) -> None:
    path = written(tmp_path / "a.jsonl", "one")
    bench.load(path)
    assert bench.known_files.size() > 0
    assert bench.known_files.make_room(most=0) == 1
    assert bench.known_files.size() == 0
    assert len(bench.load(path).workspace.dataset) == 1
    assert len(imports) == 2


def test_the_import_used_least_lately_makes_room_but_none_in_use(
    tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [written(tmp_path / f"{name}.jsonl", name) for name in "abc"]
    folders = [bench.load(path).workspace.dataset.folder for path in paths]
    hours = 3600
    for folder, age in zip(folders, (3 * hours, 2 * hours, 0), strict=True):
        os.utime(folder, (time.time() - age,) * 2)
    bench.load(paths[0])
    assert bench.known_files.make_room(most=1) == 1
    assert [folder.exists() for folder in folders] == [True, False, True]
    assert known_files.MOST_BYTES > 1 << 30


def test_datasets_are_listed_and_forgotten(
    tmp_path: Path, bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = bench.import_file(written(tmp_path / "a.jsonl", "one", "two")).workspace
    workspace.apply(edits.exclude([0]))
    bench.versions.save(workspace, "first")
    assert main(["datasets", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["conversations"]) for one in told["datasets"]] == [("a", 2)]
    assert main(["datasets"]) == 0
    assert "a.jsonl" in capsys.readouterr().out
    assert main(["datasets", "--forget", "a"]) == 2
    assert main(["datasets", "--forget", "a", "--yes", "--json"]) == 0
    with pytest.raises(DataError, match="no file and no dataset"):
        bench.open("a")
    assert not workspace.dataset.folder.exists()
    assert not bench.store.edits(workspace.dataset.id)
    assert not bench.versions.all(workspace)
    assert main(["datasets", "--forget", "a", "--yes"]) == 2
