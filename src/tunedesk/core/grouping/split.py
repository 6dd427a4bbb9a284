"""Train and validation from one set of conversations, so that nothing in validation has a twin in training.

Groups (near-duplicates, and rows with the same value under a chosen key) stay on one side. The order of groups
comes from sha256 of the seed and the rows, never from a random generator: the same bytes on any machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.conversations import Row, encode_row, upload_row
from tunedesk.core.grouping.duplicates import (
    THRESHOLD,
    Finder,
    Pair,
    digest,
    grouped,
    spoken_text,
    whole_text,
)
from tunedesk.errors import DataError
from tunedesk.paths import write_whole

FEWEST_VALIDATION = 30
"""Conversations below which a validation loss says little."""


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows train and which validate."""

    train: tuple[int, ...]
    """Places in the rows given, ascending."""
    validation: tuple[int, ...]
    groups: int
    """Groups of two or more rows that were kept on one side."""
    leaks: int
    """Validation rows with a twin in training: always 0, counted again from the result."""
    seed: int
    rule: str
    """How it was made, in words."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a split."""

    train: Path
    validation: Path
    record: Path
    """split.json: counts, seed, rule, hashes."""
    leaks: int
    """Counted once more, on the files as they were written."""
    sha256: dict[str, str]
    """File name → hash."""


def split(
    rows: Sequence[Row],
    *,
    validation: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    group: str | None = None,
) -> Split:
    """Return the split of `rows` with about the share `validation` held out.

    `by` is a metadata key whose values are held out in like shares; `group` one whose values stay on one side.
    Raises DataError when there are fewer than two groups, or a key that no row has.
    """
    if not 0 < validation < 1:
        raise DataError(
            f"a validation share of {validation:g} is not between 0 and 1", "0.2 holds a fifth out."
        )
    for key in (by, group):
        if key and not any(_value(row, key) for row in rows):
            raise DataError(
                f"no conversation has the key {key!r} in its metadata", "`tunedesk list` shows the keys."
            )
    together = _together(rows, group)
    if len(together) < 2:
        many = (
            "there is only one conversation"
            if len(rows) < 2
            else "all conversations are twins of one another"
        )
        raise DataError(
            f"cannot split: {many}", "Add conversations that differ, or train without validation."
        )
    held = _held_out(rows, together, validation, seed, by)
    train = tuple(place for place in range(len(rows)) if place not in held)
    chosen = tuple(sorted(held))
    leaks = count_leaks([rows[i] for i in train], [rows[i] for i in chosen], group)
    if leaks:
        raise DataError(
            f"{leaks} held-out conversations have a twin in training", "Please report this: it is a bug."
        )
    keys = (f", in like shares of {by}" if by else "") + (f", whole groups of {group}" if group else "")
    rule = f"{validation:.0%} held out by sha256 of seed and row{keys}; twins (similarity >= {THRESHOLD}) on one side"
    several = sum(len(members) > 1 for members in together)
    return Split(train, chosen, several, leaks, seed, rule, _warnings(len(chosen), len(rows), validation))


def _warnings(held: int, total: int, share: float) -> tuple[str, ...]:
    warnings = []
    if held < FEWEST_VALIDATION:
        warnings.append(f"{held} conversations in validation: below {FEWEST_VALIDATION} its loss says little")
    if abs(held - share * total) > max(1.0, 0.05 * total):
        warnings.append(
            f"{held} of {total} held out, not {share:.0%}: large groups of twins cannot be parted"
        )
    return tuple(warnings)


def _value(row: Row, key: str) -> str:
    kept = row.get("metadata")
    value = kept.get(key) if isinstance(kept, dict) else None
    return "" if value is None else str(value)


def _together(rows: Sequence[Row], group: str | None) -> list[tuple[int, ...]]:
    """Return all rows as groups that stay on one side: twins, the same question, the same value of `group`."""
    finder = Finder()
    first: dict[object, int] = {}
    pairs: list[Pair] = []
    for place, row in enumerate(rows):
        finder.add(spoken_text(row), whole_text(row))
        for key in _keys(row, group):
            earlier = first.setdefault(key, place)
            if earlier != place:
                pairs.append(Pair(earlier, place, 1.0))
    pairs += [Pair(earlier, place, 1.0) for earlier, place in finder.exact]
    made = [one.members for one in grouped([*pairs, *finder.near()], len(rows))]
    joined = {place for members in made for place in members}
    return sorted([*made, *((place,) for place in range(len(rows)) if place not in joined)])


def _keys(row: Row, group: str | None) -> list[object]:
    keys: list[object] = []
    asked = spoken_text(row, prompt_only=True)
    if asked.strip():
        keys.append(digest(asked))
    if group and (value := _value(row, group)):
        keys.append(("group", value))
    return keys


def _held_out(
    rows: Sequence[Row], together: list[tuple[int, ...]], share: float, seed: int, by: str | None
) -> set[int]:
    """Return the places held out: in each stratum whole groups, by the order of their hashes, up to its share."""
    order = sorted(together, key=lambda members: _rank(rows, members, seed))
    strata: dict[str, list[tuple[int, ...]]] = {}
    for members in order:
        strata.setdefault(_value(rows[members[0]], by) if by else "", []).append(members)
    held: set[int] = set()
    owed = 0.0
    for _, groups in sorted(strata.items()):
        owed += share * sum(map(len, groups))
        for members in groups[: len(groups) - 1 if len(strata) == 1 else len(groups)]:
            if len(members) <= round(owed):
                held.update(members)
                owed -= len(members)
    smallest = set(sorted(order, key=len)[0])
    if not held:
        held |= smallest
    if len(held) == len(rows):
        held -= smallest
    return held


def _rank(rows: Sequence[Row], members: tuple[int, ...], seed: int) -> bytes:
    """Return what orders groups: a hash of the seed and the group's least row, so that file order does not matter."""
    return min(hashlib.sha256(f"{seed}\n".encode() + encode_row(rows[place])).digest() for place in members)


def count_leaks(train: Iterable[Row], validation: Iterable[Row], group: str | None = None) -> int:
    """Return how many validation rows have a twin in training: near, the same question, or the same `group`."""
    finder = Finder()
    keys: set[object] = set()
    border = 0
    for row in train:
        finder.add(spoken_text(row), whole_text(row))
        keys.update(_keys(row, group))
        border += 1
    leaking: set[int] = set()
    held = list(validation)
    for place, row in enumerate(held, border):
        finder.add(spoken_text(row), whole_text(row))
        if keys.intersection(_keys(row, group)):
            leaking.add(place)
    for members in (one.members for one in finder.groups()):
        if members[0] < border:
            leaking.update(place for place in members if place >= border)
    return len(leaking)


def write_split(
    rows: Sequence[Row],
    made: Split,
    folder: Path,
    *,
    keep_metadata: bool = False,
    origin: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write train.jsonl, validation.jsonl and split.json into `folder`, each whole or not at all, and check them again.

    Only the API's keys are written unless `keep_metadata`; `origin` (dataset, name, version) is kept in split.json for
    the lineage of what is trained on it. Raises DataError when a twin is found on the other side.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made: {error.strerror}", "Choose another folder with -o."
        ) from error
    hashes: dict[str, str] = {}
    done = 0
    for name, places in (("train.jsonl", made.train), ("validation.jsonl", made.validation)):
        lines = []
        for place in places:
            lines.append(encode_row(_written_row(rows[place], keep_metadata)) + b"\n")
            done += 1
            if on_progress is not None and done % 1_000 == 0:
                on_progress(done, len(rows))
        data = b"".join(lines)
        write_whole(folder / name, data, mode=0o644)
        hashes[name] = hashlib.sha256(data).hexdigest()
    leaks = count_leaks(_read(folder / "train.jsonl"), _read(folder / "validation.jsonl"))
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
    write_whole(folder / "split.json", json.dumps(record, indent=2) + "\n", mode=0o644)
    return Written(folder / "train.jsonl", folder / "validation.jsonl", folder / "split.json", leaks, hashes)


def _written_row(row: Row, keep_metadata: bool) -> Row:
    if keep_metadata or "preferred_output" in row:
        return row
    return upload_row(row)


def _read(path: Path) -> list[Row]:
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in path.read_bytes().split(b"\n") if line]
