"""Files as they come: each fault of bytes, lines and rows is told with its line, and nothing else is accused."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.check_examples import (
    ANSWER,
    CALL,
    CALLS,
    IMAGE,
    PREFERENCE,
    TEXT_PART,
    TOOLS,
    A,
    S,
    U,
    clean,
    row,
)
from tunedesk.core.checking.checks import Rules, check_file, is_rows_file
from tunedesk.core.checking.fixes import fix_file
from tunedesk.core.conversations import Row
from tunedesk.errors import DataError

GOOD = [json.dumps(one, ensure_ascii=False) for one in clean()]
Told = list[tuple[int, int | None, str]]
"""Line, message and code of each finding."""


def lines(*extra: Any, end: str = "\n") -> str:
    """Return the text of a clean file with more lines after its fifth."""
    put = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in extra]
    return end.join([*GOOD[:5], *put, *GOOD[5:]]) + end


def keyed(inner: str, more: str = "") -> str:
    """Return a row whose user message has these keys and whose answer is plain."""
    return f'{{"messages":[{{"role":"user",{inner}}},{{"role":"assistant","content":"A word."}}]{more}}}'


def tool(**more: Any) -> Row:
    """Return a row that names a tool with these fields."""
    return row(U, A, tools=[{"type": "function", "function": {"name": "rate", **more}}])


def called(arguments: str) -> Row:
    """Return a row that calls a tool with these arguments."""
    return row(U, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "rate", "arguments": arguments}}]})


def pictured(image: dict[str, Any]) -> Row:
    """Return a row whose question holds this image."""
    return row({**U, "content": [TEXT_PART, {"type": "image_url", "image_url": image}]}, A)


IMAGE_URL = "https://example.com/a.png"
SAID = '"content":"What is that?"'
UMLAUT = lines(row({**U, "content": "Käse für die Zürcher Karte, bitte"}, A))
CYRILLIC = "\n".join(json.dumps(one, ensure_ascii=False) for one in clean(10)).replace("My", "Мой")
DEEP = 100_000

BYTES: dict[str, tuple[bytes, Told]] = {
    "UTF-16 little, marked": (codecs.BOM_UTF16_LE + lines().encode("utf-16-le"), [(1, None, "not_utf8")]),
    "UTF-16 big, marked": (codecs.BOM_UTF16_BE + lines().encode("utf-16-be"), [(1, None, "not_utf8")]),
    "UTF-16 little, bare": (lines().encode("utf-16-le"), [(1, None, "not_utf8")]),
    "UTF-16 big, bare": (lines().encode("utf-16-be"), [(1, None, "not_utf8")]),
    "UTF-16 with a broken line": (
        codecs.BOM_UTF16_LE + lines('{"messages":').encode("utf-16-le"),
        [(1, None, "not_utf8"), (6, None, "json_invalid")],
    ),
    "UTF-16 cut in a character": (
        (codecs.BOM_UTF16_LE + lines().encode("utf-16-le"))[:-1],
        [(1, None, "not_utf8")],
    ),
    "UTF-16 with CRLF": (lines(end="\r\n").encode("utf-16"), [(1, None, "not_utf8")]),
    "UTF-32 little, marked": (codecs.BOM_UTF32_LE + lines().encode("utf-32-le"), [(1, None, "not_utf8")]),
    "UTF-32 big, bare": (lines().encode("utf-32-be"), [(1, None, "not_utf8")]),
    "Latin-1": (UMLAUT.encode("latin-1"), [(6, None, "not_utf8")]),
    "Windows-1252": (
        lines(row({**U, "content": "It is “5 €” – really"}, A)).encode("cp1252"),
        [(6, None, "not_utf8")],
    ),
    "cut character": (lines().encode().replace(b"card", b"c\xe2\x82rd", 1), [(1, None, "not_utf8")]),
    "overlong slash": (lines().encode().replace(b"card", b"c\xc0\xafrd", 1), [(1, None, "not_utf8")]),
    "surrogates in bytes": (
        lines().encode().replace(b"card", b"c\xed\xa0\xbd\xed\xb8\x80rd", 1),
        [(1, None, "not_utf8")],
    ),
    "UTF-8": (UMLAUT.encode(), []),
    "mark": (b"\xef\xbb\xbf" + lines().encode(), [(1, None, "bom")]),
    "two marks": (b"\xef\xbb\xbf" * 2 + lines().encode(), [(1, None, "bom"), (1, None, "json_invalid")]),
    "mark in the middle": (lines("\ufeff" + GOOD[0]).encode(), [(6, None, "json_invalid")]),
    "CRLF": (lines(end="\r\n").encode(), []),
    "CR": (lines(end="\r").encode(), []),
    "CR with a broken line": (lines('{"a":', end="\r").encode(), [(6, None, "json_invalid")]),
    "no last line end": (lines().encode().rstrip(), []),
    "several blank lines": (
        lines("", "  ", "\t").encode(),
        [(line, None, "blank_line") for line in (6, 7, 8)],
    ),
    "empty": (b"", [(0, None, "empty_file")]),
    "only blank lines": (
        b"\n \n",
        [(0, None, "empty_file"), (1, None, "blank_line"), (2, None, "blank_line")],
    ),
    "gzip": (gzip.compress(lines().encode()), []),
    "gzip of two members": (
        gzip.compress(lines().encode()[:500]) + gzip.compress(lines().encode()[500:]),
        [],
    ),
    "gzip with a wrong sum": (
        gzip.compress(lines().encode())[:-8] + b"12345678",
        [(0, None, "gzip_cut")],
    ),
    "gzip and more behind it": (gzip.compress(lines().encode()) + b"junk", [(0, None, "gzip_cut")]),
    "a gzip header": (gzip.compress(lines().encode())[:10], [(0, None, "gzip_cut"), (0, None, "empty_file")]),
    "raw NUL": (
        lines(keyed('"content":"a?b"')).encode().replace(b"?", b"\0"),
        [(1, None, "json_invalid")],
    ),
    "NULs behind the end": (lines().encode() + bytes(512), [(13, None, "json_invalid")]),
    "an array": (json.dumps(clean()).encode(), [(1, None, "json_array")]),
    "a printed array": (json.dumps(clean(), indent=2).encode(), [(1, None, "json_array")]),
    "an array, one a line": (("[\n" + ",\n".join(GOOD) + "\n]").encode(), [(1, None, "json_array")]),
}

LINES: dict[str, tuple[Any, Told]] = {
    "trailing comma behind": (GOOD[0] + ",", [(6, None, "json_invalid")]),
    "trailing comma inside": ('{"messages":[{"role":"user","content":"x"},],}', [(6, None, "json_invalid")]),
    "two objects": (GOOD[0] * 2, [(6, None, "json_invalid")]),
    "two objects and a space": (f"{GOOD[0]} {GOOD[1]}", [(6, None, "json_invalid")]),
    "half an object": (GOOD[0][:40], [(6, None, "json_invalid")]),
    "single quotes": ("{'messages': []}", [(6, None, "json_invalid")]),
    "None": ('{"messages": None}', [(6, None, "json_invalid")]),
    "a comment": ("// more", [(6, None, "json_invalid")]),
    "a raw tab": (keyed('"content":"a\tb"'), [(6, None, "json_invalid")]),
    "null": ("null", [(6, None, "not_object")]),
    "a number": ("42", [(6, None, "not_object")]),
    "a text": ('"hi"', [(6, None, "not_object")]),
    "a list": ('[{"role":"user","content":"x"}]', [(6, None, "not_object")]),
    "an empty object": ("{}", [(6, None, "no_messages")]),
    "messages null": ('{"messages":null}', [(6, None, "no_messages")]),
    "messages as text": ('{"messages":"hi"}', [(6, None, "no_messages")]),
    "messages as an object": ('{"messages":{"role":"user"}}', [(6, None, "no_messages")]),
    "a null message": (
        '{"messages":[null,{"role":"user","content":"What?"},{"role":"assistant","content":"That."}]}',
        [(6, 0, "message_invalid")],
    ),
    "lists, deep": ('{"messages":' + "[" * DEEP + "]" * DEEP + "}", [(6, None, "too_deep")]),
    "objects, deep": (
        keyed(SAID, ',"metadata":' + '{"a":' * DEEP + "1" + "}" * DEEP),
        [(6, None, "too_deep")],
    ),
    "nested 500 deep": (keyed(SAID, ',"metadata":' + '{"a":' * 500 + "1" + "}" * 500), []),
    "a key twice at the top": (
        '{"messages":[],' + keyed(SAID)[1:],
        [(6, None, "duplicate_key")],
    ),
    "a key twice in a message": (keyed(f'"content":"One?",{SAID}'), [(6, None, "duplicate_key")]),
    "a key twice, one spaced": (keyed(f'"content" : "One?",{SAID}'), [(6, None, "duplicate_key")]),
    "a key twice, one tabbed": (keyed(f'"content"\t: "One?",{SAID}'), [(6, None, "duplicate_key")]),
    "a key twice, one escaped": (keyed(f'{SAID},"c\\u006fntent":"Two?"'), [(6, None, "duplicate_key")]),
    "a key twice in metadata": (
        keyed(SAID, ',"metadata":{"a":{"b":1,"b":2}}'),
        [(6, None, "duplicate_key")],
    ),
    "a key's mark in the text": (keyed('"content":"Is \\"content\\": right, {\\"a\\" : 1}?"'), []),
    "an escaped backslash before a quote": (keyed('"content":"C:\\\\"', ',"metadata":{"a":"b\\\\"}'), []),
    "NaN": (keyed(SAID, ',"metadata":{"x":NaN}'), [(6, None, "nan")]),
    "minus infinity": (keyed(SAID, ',"metadata":{"x":-Infinity}'), [(6, None, "nan")]),
    "a huge whole number": (keyed(SAID, f',"metadata":{{"x":{"9" * 5_000}}}'), []),
    "a huge exponent": (keyed(SAID, ',"metadata":{"x":1e400}'), []),
    "a huge weight": (
        keyed(SAID).replace('"A word."', '"A word.","weight":' + "9" * 5_000),
        [(6, 1, "weight_invalid")],
    ),
    "an escaped NUL": (keyed('"content":"a\\u0000b"'), [(6, 0, "nul")]),
    "a NUL in a name": (keyed(f'"name":"a\\u0000",{SAID}'), [(6, 0, "nul")]),
    "a NUL in metadata": (keyed(SAID, ',"metadata":{"a":"\\u0000"}'), [(6, None, "nul")]),
    "half a pair": (keyed('"content":"What \\ud83d is it?"'), [(6, 0, "lone_surrogate")]),
    "half a pair in a name": (keyed(f'"name":"a\\ud83d",{SAID}'), [(6, 0, "lone_surrogate")]),
    "half a pair in metadata": (keyed(SAID, ',"metadata":{"\\udc00":1}'), [(6, None, "lone_surrogate")]),
    "a whole pair": (keyed('"content":"What \\ud83d\\ude00 is it?"'), []),
    "line separators": (keyed('"content":"one\u2028two\u2029three"'), [(6, 0, "line_separator")]),
    "a next-line character": (keyed('"content":"one\x85two"'), []),
    "preference": (
        {
            "input": {"messages": [S, U], "tools": TOOLS, "parallel_tool_calls": True},
            "preferred_output": [A],
            "non_preferred_output": [{**A, "content": "No."}],
        },
        [],
    ),
    "preference with a strange key": (
        {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [CALLS], "score": 2},
        [(6, None, "unknown_key")],
    ),
    "preference with a strange key inside": (
        {**PREFERENCE, "input": {"messages": [U], "tools": [], "model": "x"}},
        [(6, None, "unknown_key"), (6, None, "tools_empty")],
    ),
    "preference that asks with a picture": (
        {**PREFERENCE, "input": {"messages": [{**U, "content": [TEXT_PART, IMAGE]}]}},
        [(6, 0, "preference_invalid")],
    ),
    "preference after an answer": (
        {**PREFERENCE, "input": {"messages": [U, A]}},
        [(6, 1, "preference_invalid")],
    ),
    "preference without a question": ({**PREFERENCE, "input": {"messages": [S]}}, [(6, None, "no_user")]),
    "preference with a bad call on the other side": (
        {**PREFERENCE, "non_preferred_output": [{**CALLS, "tool_calls": [{"id": "c"}]}]},
        [(6, 2, "tool_call_invalid")],
    ),
    "preference without one side": (
        {"input": {"messages": [U]}, "preferred_output": [A]},
        [(6, None, "preference_invalid")],
    ),
    "preference with an empty answer": (
        {
            "input": {"messages": [U]},
            "preferred_output": [A],
            "non_preferred_output": [{**A, "content": ""}],
        },
        [(6, 2, "content_empty")],
    ),
    "tool list": (row(U, CALLS, {**ANSWER, "content": [TEXT_PART]}, A, tools=TOOLS), []),
    "a call of the older form null": (row({**U, "name": "ann"}, {**A, "function_call": None}), []),
    "calls null": (row(U, {**A, "tool_calls": None}), [(6, 1, "tool_calls_empty")]),
    "tools empty": (row(U, A, tools=[]), [(6, None, "tools_empty")]),
    "129 tools": (row(U, A, tools=TOOLS * 129), [(6, None, "tools_invalid")]),
    "a tool's name with a space": (tool(name="get rate"), [(6, None, "tools_invalid")]),
    "a tool's name of 65 characters": (tool(name="x" * 65), [(6, None, "tools_invalid")]),
    "a tool's description as a number": (tool(description=1), [(6, None, "tools_invalid")]),
    "strict as text": (tool(strict="yes"), [(6, None, "tools_invalid")]),
    "strict null": (tool(strict=None), []),
    "a call of a name with a dot": (
        row(U, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "a.b", "arguments": "{}"}}]}),
        [(6, 1, "tool_call_invalid")],
    ),
    "NaN in arguments": (called('{"of": NaN}'), [(6, 1, "tool_arguments_not_json")]),
    "a key twice in arguments": (called('{"of": 1, "of": 2}'), [(6, 1, "tool_arguments_not_json")]),
    "a name with a space": (row({**U, "name": "Ann Lee"}, A), [(6, 0, "name_refused")]),
    "calls empty": (row(U, {**A, "tool_calls": []}), [(6, 1, "tool_calls_empty")]),
    "call with empty text": (row(U, {**CALLS, "content": ""}, ANSWER, A), []),
    "call of the user": (row({**U, "tool_calls": [CALL]}, A), [(6, 0, "tool_call_invalid")]),
    "call without an id": (
        row(U, {**CALLS, "tool_calls": [{**CALL, "id": ""}]}),
        [(6, 1, "tool_call_invalid")],
    ),
    "call not answered at the end": (
        row(U, {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, ANSWER),
        [(6, 2, "last_not_assistant"), (6, 1, "tool_call_unanswered")],
    ),
    "answer without an id": (
        row(U, {"role": "tool", "content": "1.1"}, A),
        [(6, 1, "tool_answer_without_call")],
    ),
    "old call without arguments": (
        row(U, {"role": "assistant", "content": None, "function_call": {"name": "f"}}),
        [(6, 1, "tool_call_invalid")],
    ),
    "old answer without a call": (
        row(U, {"role": "function", "name": "f", "content": "3"}, A),
        [(6, 1, "tool_answer_without_call")],
    ),
    "tools null": (row(U, A, tools=None), [(6, None, "tools_invalid")]),
    "tool with parameters as text": (
        row(U, A, tools=[{"type": "function", "function": {"name": "f", "parameters": "{}"}}]),
        [(6, None, "tools_invalid")],
    ),
    "parallel calls as text": (row(U, A, parallel_tool_calls="no"), [(6, None, "field_invalid")]),
    "a picture": (row({**U, "content": [TEXT_PART, IMAGE]}, A), []),
    "a picture without an address": (
        row({**U, "content": [TEXT_PART, {"type": "image_url", "image_url": {}}]}, A),
        [(6, 0, "content_invalid")],
    ),
    "a picture of the system's": (
        row({**S, "content": [IMAGE]}, U, A),
        [(6, 0, "content_invalid")],
    ),
    "a picture in some detail": (pictured({"url": IMAGE_URL, "detail": "some"}), [(6, 0, "content_invalid")]),
    "a picture in low detail": (pictured({"url": IMAGE_URL, "detail": "low"}), []),
    "a picture on a disk": (pictured({"url": "file:///a.png"}), [(6, 0, "image_invalid")]),
    "a picture without base64": (pictured({"url": "data:image/png;base64,@@"}), [(6, 0, "image_invalid")]),
    "sound of no known form": (
        row({**U, "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "ogg"}}]}, A),
        [(6, 0, "content_invalid")],
    ),
    "an old answer in parts": (
        row(
            U,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": [TEXT_PART]},
            A,
        ),
        [(6, 2, "content_invalid")],
    ),
    "eleven pictures": (row({**U, "content": [IMAGE] * 11}, A), [(6, None, "image_invalid")]),
    "a moving picture": (
        row({**U, "content": [{"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}}]}, A),
        [(6, 0, "image_invalid")],
    ),
    "blank parts": (row({**U, "content": [{"type": "text", "text": " "}]}, A), [(6, 0, "content_blank")]),
    "no parts": (row({**U, "content": []}, A), [(6, 0, "content_empty")]),
    "refusal part": (row(U, {**A, "content": [{"type": "refusal", "refusal": "No."}]}), []),
    "weight as text": (row(U, {**A, "weight": "1"}), [(6, 1, "weight_invalid")]),
    "weight null": (row(U, {**A, "weight": None}), [(6, 1, "weight_invalid")]),
    "weight 2": (row(U, {**A, "weight": 2}), [(6, 1, "weight_invalid")]),
    "weight -0.0": (row(U, A, U, {**A, "weight": -0.0}), [(6, 3, "weight_invalid")]),
    "role in capitals": (row({**U, "role": "User"}, A), [(6, None, "no_user"), (6, 0, "role_unknown")]),
    "role as a number": (row(S, U, {**A, "role": 3}, A), [(6, 2, "role_unknown")]),
    "developer and system": (row(S, {**S, "role": "developer"}, U, A), [(6, 1, "system_repeated")]),
    "only the assistant": (row(A), [(6, 0, "first_assistant"), (6, None, "no_user")]),
}


def told(path: Path, rules: Rules | None = None) -> list[tuple[int, int, str]]:
    found = check_file(path, rules).findings
    return sorted((one.line, -1 if one.message is None else one.message, one.code) for one in found)


def expected(wanted: Told) -> list[tuple[int, int, str]]:
    return sorted((line, -1 if message is None else message, code) for line, message, code in wanted)


@pytest.mark.parametrize("name", BYTES)
def test_a_file_of_odd_bytes_is_told_as_it_is(name: str, tmp_path: Path) -> None:
    data, wanted = BYTES[name]
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    if name == "raw NUL":
        # Every question mark of the file became a NUL.
        wanted = [(0, None, "too_few_examples")]
        wanted += [(line, None, "json_invalid") for line in range(1, 14)]
    assert told(path) == expected(wanted)


@pytest.mark.parametrize("name", LINES)
def test_one_odd_line_among_good_ones_is_told_alone(name: str, tmp_path: Path) -> None:
    extra, wanted = LINES[name]
    if isinstance(extra, dict) and "preferred_output" in extra:
        wanted = [*wanted, (0, None, "kinds_mixed")]
    path = tmp_path / "data.jsonl"
    path.write_text(lines(extra), encoding="utf-8", newline="")
    assert told(path) == expected(wanted)


def test_a_cut_gzip_is_checked_up_to_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(lines('{"a"').encode())[:-30])
    found = told(path)
    assert found[0] == (0, -1, "gzip_cut")
    assert (6, -1, "json_invalid") in found


def test_what_cannot_be_opened_is_told_in_words(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(DataError, match="cannot be read"):
            check_file(path)


def test_a_file_of_rows_is_known_by_its_first_line_too(tmp_path: Path) -> None:
    for name, data, is_rows in (
        ("a.json", lines(), True),
        ("a.json", json.dumps(clean()), False),
        ("a.txt", "Agent: hello", False),
        ("a.jsonl", "nothing", True),
        ("a.JSONL.gz", "", True),
    ):
        path = tmp_path / name
        path.write_text(data, encoding="utf-8")
        assert is_rows_file(path) is is_rows
    assert not is_rows_file(tmp_path)


def test_fixing_a_file_leaves_every_other_line_byte_for_byte(tmp_path: Path) -> None:
    odd = [
        '{ "messages" : [ {"role":"user","content":"caf\\u00e9 one?"},{"content":"Yes.","role":"assistant"} ] }',
        '{"messages":',
        keyed(f'"content":"One?",{SAID}'),
        '{"prompt":"a","completion":"b"}',
    ]
    fixable = [row(U, {**A, "weight": True}, name="x"), row(U, {**A, "tool_calls": []}), ""]
    path, out, again = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "again.jsonl"))
    path.write_bytes(b"\xef\xbb\xbf" + lines(*odd, *fixable).encode())
    done = fix_file(path, out)
    assert done == [
        (1, "bom"),
        (10, "unknown_key"),
        (10, "weight_invalid"),
        (11, "tool_calls_empty"),
        (11, "exact_duplicate"),
        (12, "blank_line"),
    ]
    kept = out.read_text("utf-8").split("\n")
    assert kept[:9] == [*GOOD[:5], *odd]
    assert kept[9] == json.dumps(row(U, {**A, "weight": 1}), separators=(",", ":"))
    assert kept[10:] == [*GOOD[5:], ""]
    assert fix_file(out, again) == []
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    "name", ["UTF-16 little, marked", "UTF-32 big, bare", "mark", "CRLF", "several blank lines"]
)
def test_a_file_of_another_encoding_is_fixed_into_utf_8(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(BYTES[name][0])
    fix_file(path, out)
    assert out.read_bytes() == lines().encode()
    assert told(out) == []


def test_a_fix_can_be_gzipped(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl.gz"
    path.write_text(lines(""), encoding="utf-8")
    fix_file(path, out)
    assert gzip.decompress(out.read_bytes()) == lines().encode()
