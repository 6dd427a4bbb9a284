"""The store: what returns is durable, journals keep their order, older files are brought up."""

from __future__ import annotations

import errno
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tunedesk import db
from tunedesk.core.fine_tuning import FineTuningJob, Hyperparameters, JobEvent, MetricPoint
from tunedesk.core.uploads import PartialUpload
from tunedesk.errors import StoreError
from tunedesk.paths import Paths, write_whole
from tunedesk.store import MIGRATIONS, ChatTurn, DatasetEntry, FileKey, KnownFile, Launch, LaunchedFile, Store
from tunedesk.store.jobs import ADOPTED, CREATE_SENT

LAUNCH = Launch(
    "launch-1",
    "cloud",
    "base",
    LaunchedFile("/t.jsonl", "00", 3),
    hyperparameters=Hyperparameters(n_epochs=3),
    at=1.0,
)


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_a_store_of_any_older_version_is_brought_to_the_newest(tmp_path: Path, version: int) -> None:
    path = tmp_path / "old.sqlite3"
    db.connect(path, MIGRATIONS[:version]).close()
    with Store(path) as store:
        store.save_journey_step("k", "import", {"n": 1})
    with Store(path) as store:
        journey = store.journey("k")
        assert journey is not None
        assert journey.steps == {"import": {"n": 1}}


def test_a_store_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite3"
    db.connect(path, (*MIGRATIONS, "CREATE TABLE later (x)")).close()
    with pytest.raises(StoreError, match="newer tunedesk"):
        Store(path)


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "junk.sqlite3"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(StoreError, match="cannot open"):
        Store(path)


def test_a_store_that_another_program_writes_to_is_opened_and_read_and_who_holds_it_too_long_is_told_of(
    store: Store, paths: Paths
) -> None:
    store.save_view("mine", "refund")
    with closing(sqlite3.connect(paths.store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with Store(paths.store) as second:
            assert [view.name for view in second.views()] == ["mine"]
            assert time.monotonic() - begun < 15, "it waits half a minute to write"
            with second.database._lock:
                second.database._connection.execute("PRAGMA busy_timeout=1")
            with pytest.raises(StoreError, match="another program has kept it locked") as held:
                second.save_view("theirs", "card")
    assert "close what else uses it" in held.value.hint


def test_a_disk_that_may_only_be_read_is_told_of_in_words(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        Store(paths.store)
    assert "TUNEDESK_HOME" in caught.value.hint


def test_a_file_that_cannot_be_replaced_is_told_of_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_whole(tmp_path / "file" / "inside", "text")


def test_a_table_that_went_missing_is_an_error_of_ours(store: Store, paths: Paths) -> None:
    with sqlite3.connect(paths.store) as other:
        other.execute("DROP TABLE prompts")
    other.close()
    with pytest.raises(StoreError, match="cannot read"):
        store.prompts()


def test_the_store_is_readable_by_its_owner_alone(store: Store) -> None:
    assert store.path.stat().st_mode & 0o077 == 0


def test_the_journal_keeps_order_and_marks_over_restarts(paths: Paths) -> None:
    with Store(paths.store) as store:
        first = store.append_edit("d", b"one", "Reword")
        second = store.append_edit("d", b"two", "Drop")
        store.append_edit("other", b"x", "Elsewhere")
        store.set_undone("d", second, True)
    with Store(paths.store) as store:
        assert [(e.id, e.edit, e.label, e.undone) for e in store.edits("d")] == [
            (first, b"one", "Reword", False),
            (second, b"two", "Drop", True),
        ]
        store.set_undone("d", second, False)
        assert not store.edits("d")[1].undone


def test_a_dataset_is_found_by_id_before_name_and_the_newest_of_a_name(store: Store) -> None:
    old, new = DatasetEntry("aa", "bank", "a.csv", 3, 1.0), DatasetEntry("bb", "bank", "b.csv", 4, 2.0)
    odd = DatasetEntry("cc", "aa", "c.csv", 5, 3.0)
    for entry in (old, new, odd):
        store.save_dataset(entry)
    assert store.dataset("bank") == new
    assert store.dataset("aa") == old
    assert store.dataset("none") is None
    assert store.datasets() == [odd, new, old]


def test_what_came_last_is_the_newest_though_the_clock_was_set_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, at in (("aa", 2.0), ("bb", 1.0)):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        store.save_dataset(DatasetEntry(name, "bank", "a.csv", 3, at))
        store.add_version("aa", f"version {name}", ())
    found = store.dataset("bank")
    assert found is not None
    assert found.id == store.datasets()[0].id == "bb"
    assert [version.name for version in store.versions("aa")] == ["version bb", "version aa"]


def test_a_prompt_gets_a_new_version_only_for_new_text(store: Store) -> None:
    assert store.save_prompt("isla", "Be kind.").version == 1
    assert store.save_prompt("isla", "Be kind.").version == 1
    assert store.save_prompt("isla", "Be brief.").version == 2
    assert store.save_prompt("isla", "Be kind.").version == 3
    assert [p.text for p in store.prompt_versions("isla")] == ["Be kind.", "Be brief.", "Be kind."]
    assert [(p.name, p.version, p.text) for p in store.prompts()] == [("isla", 3, "Be kind.")]


def test_an_adopted_launch_is_never_taken_back(store: Store) -> None:
    store.add_launch(LAUNCH)
    store.save_launch(replace(LAUNCH, state=ADOPTED, job="ftjob-1"))
    store.save_launch(replace(LAUNCH, state=CREATE_SENT))
    store.save_launch(replace(LAUNCH, state=ADOPTED, job="ftjob-2"))
    known = store.launch("launch-1")
    assert known is not None
    assert (known.state, known.job) == (ADOPTED, "ftjob-1")
    assert store.launches("cloud", unfinished=True) == []


def test_a_launch_comes_back_as_it_was_written(store: Store) -> None:
    store.add_launch(LAUNCH)
    assert store.launch("launch-1") == LAUNCH
    assert store.launches("cloud", unfinished=True) == [LAUNCH]
    assert store.launches("other") == []
    with pytest.raises(StoreError):
        store.add_launch(LAUNCH)


def test_files_are_known_by_their_bytes_in_each_account(store: Store) -> None:
    key = FileKey("cloud", "…1111", "abc")
    store.save_file(key, KnownFile("file-1", 9))
    assert store.file(key) == KnownFile("file-1", 9)
    assert store.file(replace(key, profile="other")) is None
    assert store.file(replace(key, account="…2222")) is None
    store.forget_file(key)
    assert store.file(key) is None
    store.save_file(key, KnownFile("file-1", 9))
    store.forget_file_id("cloud", "file-1")
    assert store.file(key) is None


def test_an_upload_in_parts_is_kept_until_its_file_is_known(store: Store) -> None:
    key = FileKey("cloud", "…1111", "abc")
    store.save_upload(key, PartialUpload("up-1", 100))
    store.save_upload(key, PartialUpload("up-1", 100, ("a", "b"), 99))
    assert store.upload(key) == PartialUpload("up-1", 100, ("a", "b"), 99)
    assert store.upload(replace(key, account="…2222")) is None
    store.save_file(key, KnownFile("file-1", 9))
    assert store.upload(key) is None


def test_events_are_kept_once_and_in_order(store: Store) -> None:
    late, early, tie = JobEvent("b", 20, "late"), JobEvent("c", 10, "early"), JobEvent("a", 20, "tie")
    assert store.add_events("cloud", "j", [late, early]) == ([early, late], [])
    assert store.add_events("cloud", "j", [early, tie, late, tie]) == ([tie], [])
    assert store.events("cloud", "j") == [early, tie, late]
    assert store.events("other", "j") == []


def test_the_curve_of_metrics_events_is_kept_with_them(store: Store) -> None:
    measured = JobEvent("a", 5, "step 2", type="metrics", data={"step": 2, "train_loss": 1.5})
    point = MetricPoint(2, train_loss=1.5, at=5)
    assert store.add_events("cloud", "j", [measured]) == ([measured], [point])
    assert store.points("cloud", "j") == [point]


def test_points_of_one_step_are_merged_and_told_only_when_they_say_more(store: Store) -> None:
    assert store.save_points("cloud", "j", [MetricPoint(2, train_loss=1.5)]) == [
        MetricPoint(2, train_loss=1.5)
    ]
    assert store.save_points("cloud", "j", [MetricPoint(2, train_loss=1.5)]) == []
    both = MetricPoint(2, train_loss=1.5, valid_loss=1.7)
    assert store.save_points("cloud", "j", [MetricPoint(2, valid_loss=1.7)]) == [both]
    store.save_points("cloud", "j", [MetricPoint(1, train_loss=2.0)])
    assert [point.step for point in store.points("cloud", "j")] == [1, 2]


def test_jobs_are_kept_as_last_told(store: Store) -> None:
    store.save_jobs(
        "cloud", [FineTuningJob("j", "queued", created_at=1), FineTuningJob("k", "odd", created_at=2)]
    )
    store.save_jobs("cloud", [FineTuningJob("j", "running", created_at=1)])
    assert [(k.job.id, k.job.status) for k in store.jobs("cloud")] == [("k", "odd"), ("j", "running")]
    found = store.job("j")
    assert found is not None
    assert found.profile == "cloud"
    assert store.job("j", "elsewhere") is None


def test_chats_keep_their_turns(store: Store) -> None:
    chat = store.start_chat("card lost")
    turns = [
        ChatTurn("user", "hi"),
        ChatTurn("assistant", "hello", model="m", first_token_s=0.5, error="cut"),
    ]
    for turn in turns:
        store.add_turn(chat, turn)
    assert store.chat_turns(chat) == turns
    assert [entry.title for entry in store.chats()] == ["card lost"]


def test_a_journey_remembers_steps_in_order_and_can_be_forgotten(store: Store) -> None:
    assert store.journey("k") is None
    store.save_journey_step("k", "import", {"dataset": "d"})
    store.save_journey_step("k", "split", {"train": 8})
    store.save_journey_step("k", "import", {"dataset": "e"})
    journey = store.journey("k")
    assert journey is not None
    assert list(journey.steps.items()) == [("import", {"dataset": "e"}), ("split", {"train": 8})]
    store.forget_journey("k")
    assert store.journey("k") is None


def test_a_full_disk_is_not_taken_for_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "garbage.sqlite3").write_bytes(b"no database at all, but long enough to be looked at " * 100)
    with pytest.raises(StoreError) as broken:
        Store(tmp_path / "garbage.sqlite3")
    assert "move the file away" in broken.value.hint
    (tmp_path / "folder.sqlite3").mkdir()
    with pytest.raises(StoreError) as shut:
        Store(tmp_path / "folder.sqlite3")
    assert "move" not in shut.value.hint
    assert "space" in shut.value.hint
