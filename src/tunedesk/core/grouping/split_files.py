"""A split as files: train.jsonl, validation.jsonl and split.json, proved on the bytes that were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.conversations import Row, encode_row, upload_row
from tunedesk.core.grouping.duplicates import THRESHOLD
from tunedesk.core.grouping.split import Split, divide, look, twins_across, with_twins_in_training
from tunedesk.errors import DataError
from tunedesk.paths import replacing, write_whole

TRAIN, VALIDATION, RECORD = "train.jsonl", "validation.jsonl", "split.json"
_ROUNDS = 8
"""Times files are written anew when they show twins that were not known to be some."""
_STEP = 1_000

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a split."""

    train: Path
    validation: Path
    record: Path
    """split.json: counts, seed, rule, hashes."""
    leaks: int
    """Counted on the files as they were written: 0."""
    sha256: dict[str, str]
    """File name → hash."""


def split_files(
    rows: Sequence[Row],
    folder: Path,
    *,
    validation: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    group: str | None = None,
    origin: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Split, Written]:
    """Split `rows` into the files of `folder`; the rows are read one by one, twice, and never held together.

    Rows whose twins only the written files show (texts are measured against a part of a large group) go to training
    with their group, and the files are written again. Raises DataError as split.divide does.
    """
    told = on_progress or (lambda _done, _total: None)
    looked = look(_counted(rows, told), seed=seed, by=by, group=group)
    made = divide(looked, validation=validation, seed=seed, by=by, group=group)
    for _ in range(_ROUNDS):
        hashes = _write(rows, made, folder, keep_metadata=False)
        leaking = twins_across(_read(folder / TRAIN), _read(folder / VALIDATION))
        if not leaking:
            break
        twins = [made.validation[place] for _, place in leaking]
        made = with_twins_in_training(made, looked, twins, share=validation)
    return made, _record(made, folder, hashes, len(leaking), origin)


def write_split(
    rows: Sequence[Row],
    made: Split,
    folder: Path,
    *,
    keep_metadata: bool = False,
    origin: Mapping[str, str] | None = None,
) -> Written:
    """Write the files of a split into `folder`, each whole or not at all, and check them again.

    Only the API's keys are written unless `keep_metadata`; `origin` (dataset, name, version) is kept in split.json for
    the lineage of what is trained on it. Raises DataError when a twin is found on the other side.
    """
    hashes = _write(rows, made, folder, keep_metadata=keep_metadata)
    leaks = len(twins_across(_read(folder / TRAIN), _read(folder / VALIDATION)))
    return _record(made, folder, hashes, leaks, origin)


def _counted(rows: Iterable[Row], told: OnProgress) -> Iterator[Row]:
    total = len(rows) if isinstance(rows, Sequence) else 0
    for place, row in enumerate(rows):
        if place % _STEP == 0:
            told(place, total)
        yield row


def _write(rows: Sequence[Row], made: Split, folder: Path, *, keep_metadata: bool) -> dict[str, str]:
    """Write both files; return their hashes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made: {error.strerror}", "Choose another folder with -o."
        ) from error
    hashes: dict[str, str] = {}
    for name, places in ((TRAIN, made.train), (VALIDATION, made.validation)):
        digest = hashlib.sha256()
        with replacing(folder / name, mode=0o644) as file:
            for place in places:
                line = encode_row(_written_row(rows[place], keep_metadata)) + b"\n"
                digest.update(line)
                file.write(line)
        hashes[name] = digest.hexdigest()
    return hashes


def _record(
    made: Split, folder: Path, hashes: dict[str, str], leaks: int, origin: Mapping[str, str] | None
) -> Written:
    """Write split.json; raises DataError when there are leaks."""
    if leaks:
        raise DataError(
            f"{leaks} written validation rows have a twin in training", "Please report this: it is a bug."
        )
    record = {
        "train": len(made.train),
        "validation": len(made.validation),
        "groups": made.groups,
        "leaks": leaks,
        "similarity": THRESHOLD,
        "seed": made.seed,
        "rule": made.rule,
        "warnings": list(made.warnings),
        "sha256": hashes,
        **({"origin": dict(origin)} if origin else {}),
    }
    write_whole(folder / RECORD, json.dumps(record, indent=2) + "\n", mode=0o644)
    return Written(folder / TRAIN, folder / VALIDATION, folder / RECORD, leaks, hashes)


def _written_row(row: Row, keep_metadata: bool) -> Row:
    if keep_metadata or "preferred_output" in row:
        return row
    return upload_row(row)


def _read(path: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    with path.open("rb") as file:
        for line in file:
            yield decode(line)
