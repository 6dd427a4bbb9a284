"""Conversations out of what people really have: every format that is known, told apart by content, streamed.

`read(path)` gives an `Import`: iterate it for rows; its report grows with it and is complete at the end. No
record is left out without a line and a reason in `skipped`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunedesk.core.conversations import SourceRow
from tunedesk.core.importing import containers, exchanges, guessing, json_records, records, tables
from tunedesk.core.importing.columns import plain
from tunedesk.core.importing.records import FORMATS
from tunedesk.core.importing.report import Report
from tunedesk.core.importing.rows import NotARow, Options, with_system
from tunedesk.core.importing.sources import Item, Progress, Seen, Source
from tunedesk.errors import DataError

_SAMPLE = 200
"""Records looked at to tell the format."""
MEANINGS = ("user", "assistant", "system", "conversation", "speaker", "text", "order", "aside")
"""What a column can be mapped to; beside a speaker, user, assistant and aside are names of speakers."""
_SPOKEN_FORMATS = ("transcript", "dialogue", "sharegpt", "ticket")
"""Formats of turns, whose user and assistant are speakers, not columns."""


@dataclass(frozen=True, slots=True)
class Importer:
    """A format that `--format` can name."""

    name: str
    meaning: str


IMPORTERS: dict[str, Importer] = {
    **{name: Importer(name, one.meaning) for name, one in FORMATS.items()},
    "turns": Importer("turns", "a table of one message a row, with a conversation's id and a speaker"),
}
"""Every format by name. A new one is a Format in records.py; containers (JSONL, CSV, zip …) are told by content."""


class Import:
    """The rows of one input, read when iterated, once."""

    def __init__(
        self,
        path: Path | str,
        format_: str,
        options: Options,
        on_progress: Progress | None,
        most: int | None = None,
    ) -> None:
        """Prepare to read the first `most` records of `path`; nothing is opened before the first row is asked for."""
        self._most = most
        self.report = Report(format=format_)
        self._path = path
        self.options = options
        """What the user said, with columns as the file spells them and what was guessed, once a row was read."""
        self.columns: list[str] = []
        """Columns or keys of its first records."""
        self.sample: list[Mapping[str, Any]] = []
        """Its first records that are objects."""
        self.used: dict[str, str] = {}
        """Meaning → column, where a table is read."""
        self._forced = format_
        self._seen = Seen()
        self._on_progress = on_progress
        self._rows = self._read()

    def __iter__(self) -> Iterator[SourceRow]:
        return self._rows

    def __next__(self) -> SourceRow:
        return next(self._rows)

    def of_line(self, number: int, line: str) -> Iterator[SourceRow]:
        """Yield the rows of one line of a JSONL file that is read in parts; its format is `report.format`."""
        for item in json_records.line_items(number, line, self._seen):
            yield from self._one(item, self._forced)
        self.report.blank_lines = self._seen.blank_lines

    def of_value(self, number: int, value: object) -> Iterator[SourceRow]:
        """Yield the rows of the JSON value of such a line."""
        for item in json_records.unwrapped(number, value):
            yield from self._one(item, self._forced)

    def _read(self) -> Iterator[SourceRow]:
        seen, known = self._seen, frozenset(self.options.known_roles())
        if str(self._path) != "-" and Path(self._path).is_dir():
            yield from self._convert(containers.folder(Path(self._path), seen), seen)
        else:
            source = Source.open(self._path, self._on_progress)
            try:
                items = containers.items(source, seen, prose=self.report.format == "transcript", known=known)
                yield from self._convert(items, seen)
                note_source(source, self.report)
            finally:
                source.close()
        self.report.blank_lines = seen.blank_lines
        if seen.before_header:
            self.report.notes.append(f"{seen.before_header} lines before the header passed over")
        note_counts(self.report)

    def _convert(self, items: Iterator[Item], seen: Seen) -> Iterator[SourceRow]:
        items = islice(items, self._most)
        sample = list(islice(items, _SAMPLE))
        usable = [item.record for item in sample if not item.fault]
        self.options = self._checked(usable)
        names = None
        talked = self.report.format in ("", "turns")
        listed = [record for record in usable if isinstance(record, Mapping)]
        if talked and (both := exchanges.exchange_columns(listed, self.options.mapping)) is not None:
            yield from self._regroup_exchanges(chain(sample, items), both)
            return
        if talked and not self._fits_a_record_format(usable):
            names = tables.turn_columns(listed, self.options.mapping)
        if names is not None:
            yield from self._regroup(chain(sample, items), names)
            return
        forced = self.report.format
        if forced == "turns":
            raise DataError("no columns for a conversation's id, a speaker and a text", _columns_hint(usable))
        self.report.format = forced or self._guess(usable) or self._guess_sides(usable, seen)
        if not self.report.format and usable:
            what = "the first line reads like data, not like a header" if seen.headerless else ""
            raise DataError(what or "no known format fits this file", _columns_hint(usable))
        self.used = {**records.sides_of(self.sample, self.report.format), **self.options.mapping}
        unclear = [name for name in self.used.values() if name in seen.twice]
        if unclear and not self.options.mapping:
            self.report.guessed = f"that the first of the columns called {unclear[0]!r} is meant"
        for item in chain(sample, items):
            yield from self._one(item, forced)

    def _regroup(self, items: Iterator[Item], names: tables.TurnColumns) -> Iterator[SourceRow]:
        """Yield the conversations of a table of messages."""
        self.report.format = "turns"
        told = {
            "conversation": names.conversation,
            "speaker": names.speaker,
            "text": names.text,
            "order": names.order,
        }
        self.used = {**{meaning: name for meaning, name in told.items() if name}, **self.options.mapping}
        tables.know_someone(self.sample, names, self.options.mapping)
        if not names.conversation:
            self.report.guessed = "which messages belong together: no column tells conversations apart"
        yield from self._talks(items, names)

    def _regroup_exchanges(
        self, items: Iterator[Item], names: exchanges.ExchangeColumns
    ) -> Iterator[SourceRow]:
        """Yield the conversations of a table that has what both sides said in each row."""
        self.report.format = "turns"
        self.used = names.used
        if not names.sure:
            self.report.guessed = f"that rows of one {names.conversation!r} are one conversation"
        yield from self._talks(exchanges.turns_of(items, names), names.turns)

    def _talks(self, items: Iterator[Item], names: tables.TurnColumns) -> Iterator[SourceRow]:
        whole = (
            item
            if item.fault or isinstance(item.record, Mapping)
            else Item(item.line, {}, "it is not an object")
            for item in items
        )
        for row in tables.conversations(whole, names, self.options, self.report.skip):
            self.report.rows += 1
            yield self._noted(row, "turns")

    def _checked(self, sample: Sequence[object]) -> Options:
        """Return the options with columns spelt as in the file; raises DataError for one that is not there."""
        mapping = dict(self.options.mapping)
        self.sample = [record for record in sample if isinstance(record, Mapping)]
        names = list(dict.fromkeys(str(name) for record in self.sample for name in record))
        self.columns = names
        spelt = {plain(name): name for name in reversed(names)}
        speakers = self.options.speakers
        for meaning, column in mapping.items():
            if meaning not in MEANINGS:
                raise DataError(f"--map does not know {meaning!r}", f"Known: {', '.join(MEANINGS)}.")
            if (meaning in ("user", "assistant", "aside") and speakers) or not names or column in names:
                continue
            if plain(column) not in spelt:
                raise DataError(f"there is no column {column!r}", f"It has: {', '.join(names[:40])}.")
            mapping[meaning] = spelt[plain(column)]
        return Options(mapping, self.options.system, speakers)

    def _fits_a_record_format(self, sample: Sequence[object]) -> bool:
        if "user" in self.options.mapping and "speaker" not in self.options.mapping:
            return True
        found = [records.format_of(r) for r in sample[:20] if isinstance(r, Mapping)]
        return any(name not in ("", "pairs", "transcript") for name in found)

    def _guess_sides(self, sample: Sequence[object], seen: Seen) -> str:
        """Take two columns of texts for pairs where one of them asks, and say so; return the format or nothing."""
        listed = [record for record in sample if isinstance(record, Mapping)]
        found = guessing.sides(listed) if len(listed) == len(sample) else None
        if found is None or self.options.mapping:
            return ""
        self.options = Options({"user": found[0], "assistant": found[1]}, self.options.system)
        why = "there is no header" if seen.headerless else "no column's name tells"
        self.report.guessed = f"that {found[0]!r} asks and {found[1]!r} answers: {why}"
        return "pairs"

    def _guess(self, sample: Sequence[object]) -> str:
        if "user" in self.options.mapping and "assistant" in self.options.mapping:
            return "pairs"
        found = [records.format_of(_as_record(record)) for record in sample]
        return max(set(found) - {""}, key=lambda name: (found.count(name), name), default="")

    def _one(self, item: Item, forced: str) -> Iterator[SourceRow]:
        if item.fault:
            self.report.skip(item.line, item.fault)
            return
        record = _as_record(item.record)
        name = forced or self.report.format
        if not name or (not forced and not FORMATS[name].knows(record) and not self.options.mapping):
            name = records.format_of(record) or name
        try:
            if not name:
                raise NotARow("no known format fits it")
            if not isinstance(item.record, Mapping | list | str):
                raise NotARow("it is not an object")
            row = FORMATS[name].convert(record, self.options)
        except NotARow as error:
            self.report.skip(item.line, str(error))
            self.report.meet(error.strangers)
            return
        self.report.rows += 1
        yield self._noted(SourceRow(item.line, with_system(row, self.options.system)), name)

    def _noted(self, row: SourceRow, name: str) -> SourceRow:
        self.report.imported += 1
        self.report.kinds[name] = self.report.kinds.get(name, 0) + 1
        if name != "openai":
            kept = row.row.get("metadata")
            if isinstance(kept, dict):
                self.report.merged_turns += _count(kept.get("merged_turns"))
                self.report.dropped_tails += _count(kept.get("dropped_tail"))
                asides = kept.get("asides")
                self.report.asides += len(asides) if isinstance(asides, list) else 0
                if kept.get("guessed"):
                    self.report.guessed = "that the customer speaks first: no speaker's name tells a side"
        return row


def read(
    path: Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the word of the command line
    mapping: Mapping[str, str] | None = None,
    system: str | None = None,
    on_progress: Progress | None = None,
    most: int | None = None,
) -> Import:
    """Return the rows of `path` (a file, a folder, or `-`) with their report; of its first `most` records, if given.

    `mapping`: one of MEANINGS → column; with `speaker`, or in a format of turns, user and assistant name speakers
    instead (several parted by `|`). Raises DataError: unreadable, no such column, or no format fits.
    """
    if format is not None and format not in IMPORTERS:
        raise DataError(f"{format!r} is not a format", f"Known: {', '.join(IMPORTERS)}.")
    given = dict(mapping or {})
    speakers = "speaker" in given or format in _SPOKEN_FORMATS
    return Import(path, format or "", Options(given, system or "", speakers), on_progress, most)


def detect(path: Path | str) -> str:
    """Return the name of the format of `path`, told by its first records; raises DataError when none fits."""
    found = read(path)
    for _ in found:
        break
    return found.report.format


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _as_record(value: object) -> Mapping[str, Any]:
    """Return a record as an object: a bare list of turns stands under `turns`, a bare text under `text`."""
    if isinstance(value, Mapping):
        return value
    return {"turns": value} if isinstance(value, list) else {"text": value}


def _columns_hint(sample: Sequence[object]) -> str:
    listed = [record for record in sample if isinstance(record, Mapping)]
    names = [str(name) for name in list(listed[0] if listed else ())]
    texts = guessing.text_columns(listed)
    likely = texts if len(texts) > 1 else list(dict.fromkeys([*guessing.worded_columns(listed), *names]))
    asked, answer = likely[:2] if len(names) > 1 else ("COLUMN", "COLUMN")
    told = f"It has: {', '.join(names[:20])}. " if names else ""
    return f"{told}Name columns with --map, as --map user={asked},assistant={answer}"


def note_source(source: Source, report: Report) -> None:
    """Say in `notes` what was unusual about a source that has been read."""
    if source.cut:
        report.notes.append("the gzip file is cut: only what came before the cut was read")
    if source.encoding != "utf-8":
        report.notes.append(f"read as {source.encoding.upper()}")
    if source.bom and source.encoding == "utf-8":
        report.notes.append("a byte order mark was taken off")
    if source.foreign_lines:
        name = (source.foreign or "cp1252").replace("cp125", "Windows-125")
        report.notes.append(f"not UTF-8, read as {name}: {source.foreign_lines} lines")


def note_counts(report: Report) -> None:
    """Say in `notes` what the counts of a finished report tell."""
    if report.merged_turns:
        report.notes.append(f"{report.merged_turns} turns joined to the one before by the same side")
    if report.dropped_tails:
        report.notes.append(f"{report.dropped_tails} messages after a last answer dropped")
    if report.asides:
        report.notes.append(f"{report.asides} notes and events between turns left out")
    if report.guessed:
        report.notes.append(f"guessed {report.guessed}; --map says it otherwise")
    if report.blank_lines:
        report.notes.append(f"{report.blank_lines} blank lines passed over")
    if report.kinds.get("preference"):
        report.notes.append(f"{report.kinds['preference']} preference rows kept as they are")
    if len(report.kinds) > 1:
        mixed = ", ".join(f"{count} {name}" for name, count in sorted(report.kinds.items()))
        report.notes.append(f"several formats in one file: {mixed}")
