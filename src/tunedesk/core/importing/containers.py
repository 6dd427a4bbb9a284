"""Containers of records, told apart by content: JSONL, JSON, CSV, Parquet, zips, folders, plain transcripts."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tunedesk.core.importing import (
    columns,
    delimited,
    json_records,
    mail,
    parquet,
    records,
    subtitles,
    transcripts,
)
from tunedesk.core.importing.roles import Turn, role_of
from tunedesk.core.importing.sources import Item, Seen, Source
from tunedesk.core.importing.workbooks import is_workbook, read_sheet
from tunedesk.errors import DataError

_MOST_MEMBER = 1 << 29
"""Bytes one file of a zip may unpack to."""
_MOST_UNPACKED = 4 << 30
"""Bytes all files of a zip may unpack to."""
_FOREIGN = {
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x1f\x8b": "a gzip file inside a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML file",
}
"""How files begin that hold no records we can read, and what they are."""


_ENDED = re.compile(r"\s*__e(?:ou|ot)__\s*")
"""Marks of the end of an utterance, or of one speaker's turn, in sets of one dialogue a line."""
_JSON = re.compile(r"\s*(?:\{|\[\s*[\[{\"])")
"""How JSON begins, and no line that somebody said."""
_OFFICE = {
    "word/document.xml": "a Word document",
    "content.xml": "an OpenDocument text",
}
"""Files in a zip that say what it really is."""
_UNPACKABLE = (
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    EOFError,
    OSError,
    zlib.error,
    ValueError,
)


def items(source: Source, seen: Seen, *, prose: bool = False, known: Collection[str] = ()) -> Iterator[Item]:
    """Yield the records of `source`; `seen` notes what is no record. Raises DataError when it is no text at all.

    `prose`: what is no JSON is a transcript, `known` names in small letters that speak in it.
    """
    told = kind(source)
    match "prose" if prose and told == "csv" and not _has_columns(source) else told:
        case "parquet":
            yield from _cells(parquet.read_parquet(source.whole(), source.name))
        case "zip":
            data = source.whole()
            if is_workbook(data):
                yield from _cells(delimited.read_rows(read_sheet(data, source.name), seen))
            else:
                yield from _zip(data, source.name, seen)
        case "mail" | "subtitles" | "utterances" | "prose" as written:
            yield from _said(written, source, seen, known)
        case "csv" if not (prose or _has_columns(source)) and (names := _speakers(source)):
            raise transcripts.UnknownSpeakers(source.name, names)
        case "csv":
            yield from _cells(delimited.read_csv(source.lines(), _beginning(source), seen))
        case "jsonl":
            yield from json_records.lines(source, seen)
        case "json":
            yield from json_records.values(source.text(source.whole()))
        case "foreign":
            what = next(what for mark, what in _FOREIGN.items() if source.head.startswith(mark))
            raise DataError(
                f"{source.name} is {what}, not text", "Save its conversations as CSV, JSON or Parquet."
            )


def _said(told: str, source: Source, seen: Seen, known: Collection[str]) -> Iterator[Item]:
    """Yield the records of a text that people wrote or said, not a program's."""
    if told == "mail":
        yield from mail.messages(source.whole())
    elif told == "subtitles":
        yield from _subtitles(source, known)
    elif told == "utterances":
        yield from _utterances(source, seen)
    else:
        yield from _prose(source, known)


def kind(source: Source) -> str:
    """Return the container of `source`, by its head: parquet, zip, mail, subtitles, utterances, prose, csv, jsonl …

    Foreign is what cannot be read, "" what is empty.
    """
    head = source.head
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(tuple(_FOREIGN)):
        return "foreign"
    if not head.strip():
        return ""
    text = _beginning(source)
    if not _JSON.match(text) and (told := _how_said(head[:65_536], text)):
        return told
    if text.lstrip()[:1] not in ("{", "[") or (not _JSON.match(text) and transcripts.timed_speakers(text)):
        return "csv"
    return "jsonl" if json_records.is_jsonl(text) else "json"


def _how_said(head: bytes, text: str) -> str:
    """Return mail, subtitles, utterances or prose of a text that people wrote or said, nothing of any other."""
    if mail.is_mail(head):
        return "mail"
    if subtitles.are_subtitles(text):
        return "subtitles"
    lines = text.splitlines()[:20]
    if 2 * sum(bool(_ENDED.search(line)) for line in lines) > len(lines):
        return "utterances"
    return "prose" if _is_prose(text) else ""


def _beginning(source: Source) -> str:
    """Return the first whole lines of a text, up to 64 KiB; they do not count as read."""
    text = source.text(source.head[:65_536].rpartition(b"\n")[0] or source.head[:65_536])
    source.foreign_lines = 0
    return text


def folder(path: Path, seen: Seen) -> Iterator[Item]:
    """Yield the records of every file under `path`, in natural order; a file that holds one dialogue is one record."""
    try:
        found = [p for p in path.rglob("*") if p.is_file()]
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror}", "Is something changing the folder?"
        ) from error
    files = sorted(found, key=lambda p: _natural(str(p.relative_to(path))))
    for place, file in enumerate((f for f in files if not _hidden(str(f.relative_to(path)))), 1):
        try:
            source = Source.open(file)
        except DataError as error:
            yield Item(place, None, error.message)
            continue
        try:
            yield from _member(source, place, str(file.relative_to(path)), seen)
        finally:
            source.close()


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in Path(name).parts)


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]


def _zip(data: bytes, name: str, seen: Seen) -> Iterator[Item]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{name} is not a zip file that can be read: {error}", "Is it cut?") from error
    if what := next((what for part, what in _OFFICE.items() if part in archive.namelist()), ""):
        raise DataError(f"{name} is {what}", "Save its conversations as CSV, JSON or text.")
    files = sorted(
        (i for i in archive.infolist() if not i.filename.endswith("/")), key=lambda i: _natural(i.filename)
    )
    left = _MOST_UNPACKED
    for place, info in enumerate((i for i in files if not _hidden(i.filename)), 1):
        left -= info.file_size
        if info.file_size > _MOST_MEMBER or left < 0:
            most = _MOST_MEMBER if info.file_size > _MOST_MEMBER else _MOST_UNPACKED
            yield Item(
                place, None, f"{info.filename} unpacks to more than the {most >> 20} MiB that are left for it"
            )
            continue
        try:
            inner = archive.read(info)
        except _UNPACKABLE as error:
            yield Item(place, None, f"{info.filename} cannot be unpacked: {error}")
            continue
        yield from _member(Source.of_bytes(inner, info.filename), place, info.filename, seen)


def _member(source: Source, place: int, name: str, seen: Seen) -> Iterator[Item]:
    """Yield the records of one file of many: placed by the file, named in the record and in its faults."""
    if source.head.startswith(b"PK\x03\x04") and not name.lower().endswith(
        (".xlsx", ".xlsm", ".xlsb", ".ods")
    ):
        yield Item(place, None, f"{name} is a zip inside: unpack it first")
        return
    empty = True
    try:
        for item in items(source, seen):
            empty = False
            record = {**item.record, "file": name} if isinstance(item.record, Mapping) else item.record
            yield Item(place, record, f"{name}, line {item.line}: {item.fault}" if item.fault else "")
    except DataError as error:
        yield Item(place, None, f"{name}: {error.message}")
        return
    if empty:
        yield Item(place, None, f"{name} is empty")


def _cells(rows: Iterator[Item]) -> Iterator[Item]:
    """Yield a table's records with cells that hold lists or objects read."""
    for row in rows:
        for name, cell in row.record.items():
            if isinstance(cell, str) and cell[:1] in ("[", "{", " "):
                row.record[name] = json_records.read_cell(cell)
        yield row


def _is_prose(text: str) -> bool:
    """Return whether a text is a transcript: sides named at the start of lines, and not in a delimited first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    lines = [line for line in text.splitlines() if line.strip()][:60]
    named = sum(transcripts.spoken(line) is not None for line in lines)
    header = any(first.count(delimiter) for delimiter in ",;\t|") and transcripts.spoken(first) is None
    header = header and not transcripts.is_timed(first)
    header = header or any(line.startswith('"') and transcripts.spoken(line[1:]) for line in lines)
    sides = transcripts.is_transcript(text, lettered=True) or _is_between_two(
        transcripts.timed_speakers(text)
    )
    return sides and named * 3 >= len(lines) and not header


def _is_between_two(names: list[str]) -> bool:
    """Return whether a chat log has two speakers, one of whose sides its name tells: the other has the other one."""
    return len(names) == 2 and any(role_of(name) in ("user", "assistant") for name in names)


def _has_columns(source: Source) -> bool:
    head = _beginning(source)
    names = next(delimited.dialect_of(head).reader(head.splitlines()[:1]), [])
    return any(columns.is_known(name) for name in names)


def _speakers(source: Source) -> list[str]:
    return transcripts.timed_speakers(_beginning(source))


def _subtitles(source: Source, known: Collection[str]) -> Iterator[Item]:
    """Yield the conversation of subtitles that name who speaks; raises DataError where they do not tell the sides."""
    lines = list(subtitles.spoken_lines(source.lines()))
    named = [said[0] for _, line in lines if (said := transcripts.spoken(line))]
    names = [name for name in dict.fromkeys(named) if role_of(name) or named.count(name) > 1]
    told = {role_of(name) for name in names} & {"user", "assistant"}
    if len(names) < 2:
        raise DataError(
            f"{source.name}: its subtitles name nobody who speaks", "Who speaks has to stand in them."
        )
    if not (told or known):
        raise transcripts.UnknownSpeakers(source.name, names)
    for turns in transcripts.conversations(lines, {*known, *(name.lower() for name in names)}):
        yield _written(turns)


def _utterances(source: Source, seen: Seen) -> Iterator[Item]:
    """Yield each line of a text as the turns that end in marks."""
    for number, line in source.lines():
        if not line.strip():
            seen.blank_lines += 1
            continue
        mark = "__eot__" if "__eot__" in line else "__eou__"
        texts = [" ".join(_ENDED.sub(" ", part).split()) for part in line.split(mark)]
        yield Item(number, {"turns": [text for text in texts if text]})


def _prose(source: Source, known: Collection[str]) -> Iterator[Item]:
    spoken = {*known, *(name.lower() for name in _speakers(source))}
    for turns in transcripts.conversations(source.lines(), spoken):
        yield _written(turns)


def _written(turns: list[Turn]) -> Item:
    """Return the record of a dialogue that was written out."""
    told = [{"speaker": turn.speaker, "text": turn.text} for turn in turns]
    return Item(turns[0].line, {records.WRITTEN: told})
