"""Tokens of workspaces: who waits for another count can give it up, and a counter is there meanwhile."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from tunedesk import counting
from tunedesk.core.editing import edits
from tunedesk.paths import state_paths
from tunedesk.workbench import Workbench


def test_a_count_that_waits_for_another_one_can_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    bench = Workbench(state_paths())
    workspace = bench.import_file(tmp_path / "d.jsonl").workspace
    begun, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        begun.set()
        go_on.wait(30)

    first = threading.Thread(target=bench.count, args=(workspace, "gpt-4o", hold))
    first.start()
    assert begun.wait(30)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    try:
        assert bench.counting.counter("gpt-4o-mini").limit > 0
        with pytest.raises(KeyboardInterrupt):
            bench.count(workspace, "gpt-4o", stop)
    finally:
        go_on.set()
        first.join()
    assert bench.count(workspace, "gpt-4o", stop).stats.total > 0


def test_no_tokens_are_told_of_a_row_that_was_edited_since_it_was_counted(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "hello"}]} for _ in range(3)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bench = Workbench(state_paths())
    workspace = bench.import_file(tmp_path / "d.jsonl").workspace
    workspace = bench.with_counts(workspace, bench.count(workspace, "gpt-4o"))
    before = workspace.view(1).tokens
    edited = workspace.apply(edits.replace_message([1], 0, "hello and a good day to you"))
    assert [edited.view(index).tokens for index in range(3)] == [before, None, before]
    counted = bench.with_counts(edited, bench.count(edited, "gpt-4o"))
    assert (counted.view(0).tokens, counted.view(2).tokens) == (before, before)
    assert (counted.view(1).tokens or 0) > (before or 0)
    assert counted.undo().view(1).tokens is None
    assert edited.undo().view(1).tokens == before


def test_the_texts_of_a_large_dataset_are_let_go_once_they_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    monkeypatch.setattr(counting, "_KNOWN_OF", 2)
    bulk = counting._bulk

    def noted(counter: Any) -> Any:
        made.append(weakref.ref(bulk_counter := bulk(counter)))
        return bulk_counter

    monkeypatch.setattr(counting, "_bulk", noted)
    bench = Workbench(state_paths())
    for many in (2, 3):
        row = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
        (tmp_path / f"{many}.jsonl").write_text("\n".join([row] * many))
        bench.count(bench.import_file(tmp_path / f"{many}.jsonl").workspace, "gpt-4o")
        gc.collect()
        assert [one() is not None for one in made] == [many == 2]
