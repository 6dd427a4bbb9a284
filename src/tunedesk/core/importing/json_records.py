"""JSON as records: lines, arrays, objects that only hold lists of records, and texts that hold a list."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tunedesk.core.importing import dialogues, records
from tunedesk.core.importing.sources import Item, Seen, Source

_ABOUT = ("version", "info", "meta", "metadata", "name", "description", "license", "source", "count", "total")
"""Keys beside the lists of a JSON file that tell about the file."""
_TURN_KEYS = frozenset(
    ("role", "content", "from", "value", "speaker", "text", "name", "weight", "tool_calls")
)
"""An object with no other keys is a turn, not a record."""
_LISTS = frozenset(
    ("messages", "conversations", "conversation", "turns", "dialogue", "dialog", "chosen", "rejected")
)
"""Keys whose text may hold a list."""
_PLAINLY = frozenset(("messages", "prompt", "instruction", "preferred_output", "non_preferred_output"))
"""Keys that only a record has, never an object around records."""
_PRINTED = re.compile(r"\[?\s*(?:\{\s*['\"]|\[\s*['\"]|['\"])")
"""How a list of objects, of lists or of texts begins that Python printed."""
_MOST_PRINTED = 4 << 20
_LONE = re.compile("[\ud800-\udfff]")


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


def is_jsonl(text: str) -> bool:
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


def lines(source: Source, seen: Seen) -> Iterator[Item]:
    """Yield the record of each line of JSONL."""
    for number, line in source.lines():
        yield from line_items(number, line, seen)


def line_items(number: int, line: str, seen: Seen) -> Iterator[Item]:
    """Yield the records of one line of JSONL, mostly one."""
    if not line.strip():
        seen.blank_lines += 1
        return
    try:
        yield from unwrapped(number, _of_line(line))
    except NotJson as error:
        yield Item(number, None, str(error))


def _of_line(line: str) -> Any:
    try:
        return json_value(line)
    except NotJson:
        bare = line.strip()
        if not bare.endswith("},"):
            raise
        return json_value(bare[:-1])


def values(text: str) -> Iterator[Item]:
    """Yield the elements of a JSON array, the lists of an object that holds lists of objects, or the object itself."""
    decoder = json.JSONDecoder(parse_constant=_constant)
    place, line = _space(text, 0), 1
    counted = 0
    halves = "\\ud" in text or "\\uD" in text
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
        value = without_lone(value) if halves else value
        yield from ([Item(line, with_lists_read(value))] if in_array else unwrapped(line, value))
        place = _space(text, end)
        if text[place : place + 1] == ",":
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


def unwrapped(line: int, value: Any, depth: int = 3) -> Iterator[Item]:
    """Yield the records of an object that only holds them (train, data, results …; by id), else the value itself."""
    around = isinstance(value, dict) and depth and not _PLAINLY & value.keys()
    if (
        around
        and not dialogues.turn_list(value)
        and not _by_ids(value)
        and records.format_of(value) == "dialogue"
    ):
        value = dialogues.inside(value) or value
    if around and (_by_ids(value) or not records.format_of(value)):
        told = {key: inner for key, inner in value.items() if str(key).lower() not in _ABOUT}
        lists = [inner for inner in told.values() if _is_list_of_records(inner)]
        only = bool(lists) and len(lists) == len(told)
        if only or any(records.format_of(inner[0]) for inner in lists):
            yield from (Item(line, with_lists_read(record)) for inner in lists for record in inner)
            return
        inner = [one for one in told.values() if isinstance(one, dict | list)]
        if _by_ids(told):
            yield from (Item(line, _by_id(str(key), one)) for key, one in told.items())
            return
        if len(inner) == 1 and isinstance(inner[0], dict):
            yield from unwrapped(line, inner[0], depth - 1)
            return
        if deep := list(_deep_records(told)):
            yield from (Item(line, with_lists_read(record)) for record in deep)
            return
    yield Item(line, with_lists_read(value))


def _deep_records(value: dict[str, Any], depth: int = 4) -> Iterator[Any]:
    """Yield the records of every list of them in an object, however they are sorted into objects there."""
    for inner in value.values():
        if isinstance(inner, dict) and depth:
            yield from _deep_records(inner, depth - 1)
        elif _is_list_of_records(inner) and records.format_of(inner[0]):
            yield from inner


def _by_ids(value: dict[str, Any]) -> bool:
    """Return whether an object holds conversations alone, each under its id."""
    if len(value) < 2 or dialogues.likely_keys(value) or records.format_of(value) not in ("", "dialogue"):
        return False
    return all(map(_is_conversation, list(value.values())[:20]))


def _is_conversation(value: object) -> bool:
    if isinstance(value, dict):
        return bool(records.format_of(value))
    return isinstance(value, list) and bool(value) and bool(dialogues.turn_list({"turns": value}))


def _by_id(key: str, value: Any) -> dict[str, Any]:
    return {"id": key, **value} if isinstance(value, dict) else {"id": key, "turns": value}


def _is_list_of_records(value: object) -> bool:
    """Return whether `value` is a list of objects that hold lists themselves or pairs: conversations, not turns."""
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value[:5]):
        return False
    turns = {"role", "from", "speaker", "agent", "author", "sender"}
    return not turns & {str(key).lower() for key in value[0]}


def with_lists_read(record: Any) -> Any:
    """Return a record with the lists of turns and tools read that stand in it as texts."""
    if not isinstance(record, dict):
        return record
    written = [key for key in record if key in _LISTS and isinstance(record[key], str)]
    return {**record, **{key: read_cell(record[key]) for key in written}} if written else record


def read_cell(cell: str) -> Any:
    """Return the list or object that a text holds, in JSON or as Python prints it, else the text."""
    bare = cell.strip()
    if bare[:1] not in ("[", "{") or bare[-1:] not in ("]", "}"):
        return cell
    try:
        return json_value(bare)
    except NotJson:
        pass
    if len(bare) > _MOST_PRINTED or not _PRINTED.match(bare):
        return cell
    try:
        # A list that numpy printed has no commas between its objects.
        value = ast.literal_eval(re.sub(r"}\s*\n?\s*{", "}, {", bare))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    return value if isinstance(value, list | dict) else cell


def _space(text: str, place: int) -> int:
    found = re.compile(r"\s*").match(text, place)
    return found.end() if found else place
