"""A job's own copies of its files, checked row by row."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tunedesk.engine.job_requests import Job
from tunedesk.engine.state import EngineState
from tunedesk.engine.training_files import TrainingFileError, check_file_reference, count_examples
from tunedesk.paths import sync_folder


def check_files(state: EngineState, job: Job, stopped: Callable[[], bool]) -> int:
    """Check both files and give the job its own copies; return the rows of the training file.

    Raises TrainingFileError; returns early when `stopped` says so.
    """
    folder = state.job_folder(job.id)
    examples = _check_file(state, job, "training_file", folder / "training.jsonl", stopped)
    if job.validation_file is not None:
        _check_file(state, job, "validation_file", folder / "validation.jsonl", stopped)
    return examples


def _check_file(state: EngineState, job: Job, param: str, copy: Path, stopped: Callable[[], bool]) -> int:
    file_id: str = getattr(job, param)
    file = state.files.find(file_id)
    if file is None and copy.exists():  # a resumed validation: the file was deleted since
        return count_examples(copy, param, job.method, stopped)
    check_file_reference(file, file_id, param)
    assert file is not None  # checked just now
    try:
        _link(state.files.path(file), copy)
        return count_examples(copy, param, job.method, stopped)
    except FileNotFoundError as error:
        raise TrainingFileError("file_not_found", f"The file {file_id} was deleted", param) from error


def _link(source: Path, copy: Path) -> None:
    """Give the job its own name for a file's bytes, so that deleting the file does not end the job."""
    copy.unlink(missing_ok=True)
    try:
        os.link(source, copy)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, copy)
    sync_folder(copy.parent)
