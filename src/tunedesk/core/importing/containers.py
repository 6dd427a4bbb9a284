"""Containers of records, told apart by content: JSONL, JSON, CSV, Parquet, zips, folders, plain transcripts."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tunedesk.core.importing import tables, transcripts
from tunedesk.core.importing.sources import Source
from tunedesk.errors import DataError

_MOST_MEMBER = 1 << 29
"""Bytes one file of a zip may unpack to."""
_ABOUT = ("version", "info", "meta", "metadata", "name", "description", "license", "source", "count", "total")
"""Keys beside the lists of a JSON file that tell about the file."""
_TURN_KEYS = frozenset(
    ("role", "content", "from", "value", "speaker", "text", "name", "weight", "tool_calls")
)
"""An object with no other keys is a turn, not a record."""
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Item:
    """A record with its place; `fault` says why it is not even a record."""

    line: int
    """Physical line, or the place of its file in a folder or zip (both from 1)."""
    record: Any
    fault: str = ""


class NotJson(ValueError):
    """A text is not JSON; the message says why in a few words."""


def json_value(text: str) -> Any:
    """Return the JSON value of `text`; lone surrogates become U+FFFD. Raises NotJson on anything else."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        pass
    try:
        value = json.loads(text, parse_constant=_constant)
    except RecursionError:
        raise NotJson("it is nested too deep") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except ValueError as error:
        raise NotJson(f"it is not JSON ({error})") from None
    return without_lone(value)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def without_lone(value: Any) -> Any:
    """Return `value` with every lone surrogate in its texts replaced by U+FFFD, as UTF-8 cannot hold them."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_lone(item) for item in value]
    if isinstance(value, dict):
        return {without_lone(key): without_lone(item) for key, item in value.items()}
    return value


def items(source: Source, blank: Callable[[int], None]) -> Iterator[Item]:
    """Yield the records of `source`; `blank(line)` is called for each empty line of a JSONL file."""
    match kind(source):
        case "parquet":
            yield from _cells(tables.read_parquet(source.whole(), source.name))
        case "zip":
            yield from _zip(source.whole(), source.name)
        case "prose":
            yield from _prose(source)
        case "csv":
            yield from _cells(tables.read_csv(source.lines(), _beginning(source)))
        case "jsonl":
            yield from _jsonl(source, blank)
        case "json":
            yield from _json(source.text(source.whole()))


def kind(source: Source) -> str:
    """Return which container `source` is, told by its head: parquet, zip, prose, csv, jsonl or json; "" of nothing."""
    head = source.head
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if not head.strip():
        return ""
    text = _beginning(source)
    if _is_prose(text):
        return "prose"
    if text.lstrip()[:1] not in ("{", "["):
        return "csv"
    return "jsonl" if _is_jsonl(text) else "json"


def _beginning(source: Source) -> str:
    """Return the first whole lines of a text, up to 64 KiB; they do not count as read."""
    text = source.text(source.head[:65_536].rpartition(b"\n")[0] or source.head[:65_536])
    source.foreign_lines = 0
    return text


def folder(path: Path) -> Iterator[Item]:
    """Yield the records of every file under `path`, in natural order; a file that holds one dialogue is one record."""
    files = sorted(
        (p for p in path.rglob("*") if p.is_file()), key=lambda p: _natural(str(p.relative_to(path)))
    )
    for place, file in enumerate((f for f in files if not _hidden(str(f.relative_to(path)))), 1):
        source = Source.open(file)
        try:
            yield from _member(source, place, str(file.relative_to(path)))
        finally:
            source.close()


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]


def _zip(data: bytes, name: str) -> Iterator[Item]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is not a zip file that can be read: {error}", "Is it cut?") from error
    files = sorted((i for i in archive.infolist() if not i.is_dir()), key=lambda i: _natural(i.filename))
    for place, info in enumerate((i for i in files if not _hidden(i.filename)), 1):
        if info.file_size > _MOST_MEMBER:
            yield Item(place, None, f"{info.filename} unpacks to more than {_MOST_MEMBER >> 20} MiB")
            continue
        try:
            inner = archive.read(info)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            yield Item(place, None, f"{info.filename} cannot be unpacked: {error}")
            continue
        yield from _member(Source.of_bytes(inner, info.filename), place, info.filename)


def _member(source: Source, place: int, name: str) -> Iterator[Item]:
    """Yield the records of one file of many: placed by the file, named in the record and in its faults."""
    if source.head.startswith(b"PK\x03\x04"):
        yield Item(place, None, f"{name} is a zip inside")
        return
    try:
        for item in items(source, lambda _line: None):
            record = {**item.record, "file": name} if isinstance(item.record, Mapping) else item.record
            yield Item(place, record, f"{name}: {item.fault}" if item.fault else "")
    except DataError as error:
        yield Item(place, None, f"{name}: {error.message}")


def _cells(rows: Iterator[tables.Cells]) -> Iterator[Item]:
    for row in rows:
        yield Item(row.line, _opened(row.record), row.fault)


def _opened(record: dict[str, Any]) -> dict[str, Any]:
    """Return a table's record with cells that hold JSON lists or objects read."""
    for name, cell in record.items():
        if isinstance(cell, str) and cell[:1] in ("[", "{") and cell.rstrip()[-1:] in ("]", "}"):
            try:
                record[name] = json_value(cell)
            except NotJson:
                continue
    return record


def _is_jsonl(text: str) -> bool:
    """Return whether several lines, or the only one, are JSON of their own (one object broken over lines is not)."""
    lines = [line.strip() for line in text.split("\n") if line.strip()][:20]
    alone = [line for line in lines if line[0] in "{[" and _is_json(line)]
    if len(lines) == 1:
        return lines[0][0] == "{"
    begun = [line for line in lines if line[0] == "{" and len(line) > 1 and line[-1] not in ",["]
    return (
        bool(alone and lines[0] in alone) or len(alone) * 2 >= len(lines) or len(begun) * 5 >= len(lines) * 4
    )


def _is_json(line: str) -> bool:
    try:
        json_value(line)
    except NotJson:
        return False
    return True


def _jsonl(source: Source, blank: Callable[[int], None]) -> Iterator[Item]:
    for number, line in source.lines():
        yield from line_items(number, line, blank)


def line_items(number: int, line: str, blank: Callable[[int], None]) -> Iterator[Item]:
    """Yield the records of one line of a JSONL file, mostly one."""
    if not line.strip():
        blank(number)
        return
    try:
        yield from unwrapped(number, json_value(line))
    except NotJson as error:
        yield Item(number, None, str(error))


def _json(text: str) -> Iterator[Item]:
    """Yield the elements of a JSON array, the lists of an object that holds lists of objects, or the object itself."""
    decoder = json.JSONDecoder(parse_constant=_constant)
    place, line = _space(text, 0), 1
    counted = 0
    in_array = text[place : place + 1] == "["
    if in_array and not _array_of_records(text, place):
        yield from _single(text)
        return
    place = _space(text, place + 1) if in_array else place
    while place < len(text) and text[place] != "]":
        line += text.count("\n", counted, place)
        counted = place
        try:
            value, end = decoder.raw_decode(text, place)
        except RecursionError:
            yield Item(line, None, "it is nested too deep")
            return
        except ValueError as error:
            reason = getattr(error, "msg", str(error))
            yield Item(line, None, f"it is not JSON ({reason}); what follows it cannot be read")
            return
        yield from ([Item(line, without_lone(value))] if in_array else unwrapped(line, without_lone(value)))
        place = _space(text, end)
        if in_array and text[place : place + 1] == ",":
            place = _space(text, place + 1)


def _single(text: str) -> Iterator[Item]:
    try:
        yield Item(1, json_value(text))
    except NotJson as error:
        yield Item(1, None, str(error))


def _array_of_records(text: str, place: int) -> bool:
    """Return False for an array that is itself one dialogue: [["agent", "Hi"], …], [{"role": …, "content": …}, …]."""
    second = _space(text, place + 1)
    try:
        first, _ = json.JSONDecoder().raw_decode(text, second)
    except (ValueError, RecursionError):
        return True
    if isinstance(first, list):
        return not (first and isinstance(first[0], str))
    return not (isinstance(first, dict) and first.keys() <= _TURN_KEYS and len(first) > 1)


def unwrapped(line: int, value: Any) -> Iterator[Item]:
    """Yield the records of an object that only holds lists of them (train, dev …), else the value itself."""
    if isinstance(value, dict) and value:
        lists = [inner for key, inner in value.items() if str(key).lower() not in _ABOUT]
        if lists and all(_is_list_of_records(inner) for inner in lists):
            yield from (Item(line, record) for inner in lists for record in inner)
            return
    yield Item(line, value)


def _is_list_of_records(value: object) -> bool:
    """Return whether `value` is a list of objects that hold lists themselves or pairs: conversations, not turns."""
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value[:5]):
        return False
    turns = {"role", "from", "speaker", "agent", "author", "sender"}
    return not turns & {str(key).lower() for key in value[0]}


def _space(text: str, place: int) -> int:
    found = re.compile(r"\s*").match(text, place)
    return found.end() if found else place


def _is_prose(text: str) -> bool:
    """Return whether a text is a transcript: sides named at the start of lines, and not in a delimited first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    lines = [line for line in text.splitlines() if line.strip()][:60]
    named = sum(transcripts.spoken(line) is not None for line in lines)
    header = any(first.count(delimiter) for delimiter in ",;\t|") and transcripts.spoken(first) is None
    header = header or any(line.startswith('"') and transcripts.spoken(line[1:]) for line in lines)
    return transcripts.is_transcript(text) and named * 3 >= len(lines) and not header


def _prose(source: Source) -> Iterator[Item]:
    for turns in transcripts.conversations(source.lines()):
        yield Item(turns[0].line, {"turns": [{"speaker": turn.speaker, "text": turn.text} for turn in turns]})
