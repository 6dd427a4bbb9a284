"""What was shown as saved is there after kill -9, on a full disk, and beside another process that edits the same."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tunedesk.core.datasets.dataset import Dataset, list_datasets
from tunedesk.core.editing import edits
from tunedesk.core.importing import storing
from tunedesk.core.workspace import Workspace
from tunedesk.errors import DataError
from tunedesk.paths import Paths, state_paths
from tunedesk.workbench import Workbench

ROWS = 40

_EDITING = """
import sys
from tunedesk.core.editing import edits
from tunedesk.paths import state_paths
from tunedesk.workbench import Workbench
bench = Workbench(state_paths())
workspace = bench.open("d")
print("ready", flush=True)
start, stop, who = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for number in range(start, stop):
    row = number % 20 + (20 if who == "b" else 0)
    workspace = workspace.reloaded().apply(edits.replace_message([row], 0, f"{who} {number}"))
    if number % 5 == 4:
        workspace = workspace.undo().redo()
    print(number, flush=True)
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    rows = [{"messages": [{"role": "user", "content": f"row {n}"}]} for n in range(ROWS)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Workbench(state_paths()).import_file(path)
    return state_paths()


def editing(start: int, stop: int, who: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _EDITING, str(start), str(stop), who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def opened() -> Workspace:
    return Workbench(state_paths()).open("d")


def text(workspace: Workspace, index: int) -> str:
    said: str = workspace.row(index)["messages"][0]["content"]
    return said


def sound(paths: Paths) -> bool:
    with closing(sqlite3.connect(paths.store)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def test_every_edit_that_was_confirmed_is_there_after_a_kill(paths: Paths) -> None:
    chance, done = random.Random(4), 0
    for _ in range(2):
        process = editing(done, 10_000, "a")
        assert process.stdout is not None
        wanted = done + chance.randint(5, 60)
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= wanted:
                break
        process.kill()
        last = [int(line) for line in process.stdout if line.strip().isdigit()]
        process.wait()
        process.stdout.close()
        confirmed = last[-1] if last else wanted
        workspace = opened()
        assert len([one for one in workspace.history if not one.undone]) >= confirmed
        shown = max(int(text(workspace, row).removeprefix("a ")) for row in range(20))
        assert shown in (confirmed, confirmed + 1), "at most the edit that was on its way"
        assert sound(paths)
        done = shown + 1
    undone = workspace.undo()
    assert opened().history == undone.history
    assert text(undone.redo(), (done - 1) % 20) == f"a {done - 1}"


def test_two_processes_edit_one_dataset_and_lose_nothing_of_each_other(paths: Paths) -> None:
    both = [editing(0, 60, "a"), editing(0, 60, "b")]
    for process in both:
        assert process.communicate(timeout=60)[0].split()[-1] == "59"
        assert process.returncode == 0
    workspace = opened()
    assert sound(paths)
    for row in range(20):
        assert text(workspace, row) == f"a {row + 40}"
        assert text(workspace, row + 20) == f"b {row + 40}"
    assert len(workspace.position) == 120
    first, second = opened(), opened()
    first = first.undo()
    second = second.reloaded().undo()
    assert len(first.reloaded().position) == len(second.position) == 118
    assert first.reloaded().history == second.history


def test_a_dataset_removed_by_another_process_is_edited_no_more_and_says_so(
    paths: Paths, tmp_path: Path
) -> None:
    workspace = opened().apply(edits.replace_message([0], 0, "mine")).apply(edits.exclude([1]))
    untouched = opened().undo().undo()
    other = Workbench(state_paths())
    other.forget("d")
    steps: list[Callable[[], object]] = [
        lambda: workspace.apply(edits.exclude([2])), lambda: untouched.apply(edits.exclude([2])),
        workspace.undo, untouched.redo, workspace.reloaded, lambda: Workbench(paths).versions.save(workspace, "v"),
    ]  # fmt: skip
    for step in steps:
        with pytest.raises(DataError, match="removed"):
            step()
    again = other.import_file(tmp_path / "d.jsonl").workspace
    assert (again.history, len(workspace.reloaded().history)) == ((), 0)
    again.apply(edits.replace_message([3], 0, "theirs"))
    seen = workspace.apply(edits.replace_message([2], 0, "anew"))
    assert [text(seen, row) for row in (0, 2, 3)] == ["row 0", "anew", "theirs"]
    assert seen.overlay.included(1)
    assert opened().history == seen.history


_MIXED = """
import sys
from tunedesk.core.editing import edits
from tunedesk.errors import DataError
from tunedesk.paths import state_paths
from tunedesk.workbench import Workbench

def reword(workspace, row, word):
    while True:
        try:
            return workspace.reloaded().apply(edits.replace_message([row], 1, word))
        except DataError as error:  # the other has put a prompt on it meanwhile
            assert "another window" in error.message

workspace = Workbench(state_paths()).open("d")
who, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    word = f"{who}n{number}"
    row = number % 40
    if number % 4 == 0:
        workspace = workspace.apply(edits.tag(None if number % 8 else [row], word))
    elif number % 4 == 1:
        workspace = workspace.add_rows([{"messages": [{"role": "user", "content": word}]}], word)
    elif number % 4 == 2:
        workspace = workspace.reloaded().apply(edits.set_system_prompt(None, word))
    else:
        workspace = reword(workspace, row + 40 * (who[0] == "b"), word)
    print(word, flush=True)
"""


def kept_words(workspace: Workspace) -> set[str]:
    """Return every word that an edit in force brought in, and check that it shows where nothing came after it."""
    arguments = [json.dumps(one.edit.arguments) for one in workspace.history if not one.undone]
    tags = {tag for index in range(workspace.total) for tag in workspace.view(index).tags}
    shown = {str(message["content"]) for _, row in workspace.included() for message in row["messages"]}
    kept = {word for one in arguments for word in re.findall(r"[ab]\d+n\d+", one)}
    for word in kept:
        kind = int(word.rpartition("n")[2]) % 4
        assert kind > 1 or word in (tags if kind == 0 else shown), word
    return kept


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_of_two_that_edit_at_once_one_is_killed_again_and_again_and_all_confirmed_is_there(
    tmp_path: Path, rounds: int
) -> None:
    pair = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"messages": pair, "id": n}) + "\n" for n in range(80)))
    Workbench(state_paths()).import_file(path)
    chance = random.Random()
    confirmed: set[str] = set()
    for number in range(rounds):
        command = [sys.executable, "-c", _MIXED]
        doomed = subprocess.Popen([*command, f"a{number}", "10000"], stdout=subprocess.PIPE, text=True)
        other = subprocess.Popen([*command, f"b{number}", "25"], stdout=subprocess.PIPE, text=True)
        assert doomed.stdout is not None
        begun = doomed.stdout.readline()
        time.sleep(chance.uniform(0, 0.5))
        doomed.kill()
        confirmed |= {begun.strip(), *doomed.communicate(timeout=60)[0].split("\n")[:-1]}
        confirmed |= set(other.communicate(timeout=120)[0].split())
        assert other.returncode == 0
        workspace = opened()
        assert confirmed - kept_words(workspace) == set(), f"round {number}"
        assert sound(state_paths())
    assert len(confirmed) > 25 * rounds


_FULL = """
import resource, sys
from tunedesk.core.editing import edits
from tunedesk.errors import StoreError
from tunedesk.paths import state_paths
from tunedesk.workbench import Workbench
workspace = Workbench(state_paths()).open("d")
size = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, size[1]))
saved, refused = [], ""
for number in range(400):
    try:
        workspace = workspace.apply(edits.replace_message([number % 40], 0, f"{number} " + "long " * 400))
        saved.append(number)
    except StoreError as error:
        refused = refused or error.message
        shown = workspace.row(number % 40)["messages"][0]["content"].split()[0]
        assert shown != str(number), "shown though it was not saved"
resource.setrlimit(resource.RLIMIT_FSIZE, size)
workspace = workspace.apply(edits.replace_message([0], 0, "after"))
print(len(saved), len(workspace.history), refused)
"""


def test_a_disk_that_fills_while_editing_refuses_in_words_and_loses_nothing(paths: Paths) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL], check=True, capture_output=True, text=True)
    saved, kept, *words = done.stdout.split()
    assert 0 < int(saved) < 400
    assert int(kept) == int(saved) + 1
    assert " ".join(words).startswith("the store could not be written")
    workspace = opened()
    assert len(workspace.position) == int(kept)
    assert text(workspace, 0) == "after"
    assert sound(paths)


_IMPORT = """
import sys
from pathlib import Path
from tunedesk.core.importing import pieces, storing
if __name__ == "__main__":
    storing.WORTH, pieces._LEAST_BYTES = 1, 1 << 20
    print("begun", flush=True)
    storing.import_file(Path(sys.argv[1]), Path(sys.argv[2]), name="n")
    print("done", flush=True)
"""


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for number in range(40_000):
            row = {"messages": [{"role": "user", "content": f"{number} " + "word " * 40}]}
            file.write(json.dumps(row) + "\n")
    yield path
    path.unlink()


def test_an_import_by_several_processes_killed_at_any_time_is_whole_or_not_there(
    tmp_path: Path, large: Path
) -> None:
    datasets = tmp_path / "datasets"
    script = tmp_path / "run.py"
    script.write_text(_IMPORT)
    for delay in (0.4, 0.8, 1.2):
        process = subprocess.Popen(
            [sys.executable, str(script), str(large), str(datasets)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        for manifest in list_datasets(datasets) if datasets.exists() else []:
            assert len(Dataset.open(datasets / manifest.id)) == 40_000
    dataset, report = storing.import_file(large, datasets, name="n")
    assert (len(dataset), report.imported) == (40_000, 40_000)
    assert [one.name for one in datasets.iterdir()] == [dataset.id], "what the killed ones left is gone"
