"""Safe fixes are shown finding by finding before they are made, and what is shown is what is then written."""

from __future__ import annotations

import json
from pathlib import Path

from tests.core.check_examples import A, U, clean, row
from tunedesk.core.checking.fix_preview import preview_file
from tunedesk.core.checking.fixes import fix_file


def test_a_preview_tells_the_fixes_that_are_made_and_what_each_changes(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    odd = row({**U, "content": f"{'long ' * 60}a\0b"}, {**A, "weight": True}, extra=1)
    tail = row(U, A, {"role": "user", "content": "\0"})
    lines = [*map(json.dumps, (*clean(), odd, tail)), "", json.dumps(clean()[0])]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    found = list(preview_file(path))
    assert [(one.line, one.code) for one in found] == fix_file(path, out)
    shown = {(one.line, one.code): one.diff for one in found}
    assert shown[1, "bom"] == ()
    assert shown[13, "unknown_key"] == ('- "extra": 1',)
    assert shown[13, "weight_invalid"] == ('- "weight": true', '+ "weight": 1')
    was, now = shown[13, "nul"]
    assert was.endswith('a\\u0000b"')
    assert now.endswith('ab"')
    assert len(was) < 80
    assert '- "content": "\\u0000"' in shown[14, "last_not_assistant"]
    assert shown[15, "blank_line"] == ("- the empty line",)
    assert shown[16, "exact_duplicate"] == ("- the whole row",)


def test_a_preview_shows_the_asked_codes_alone_and_as_many_diffs_as_wanted(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps({**one, "x": 1, "weight": 1}) for one in clean()))
    found = list(preview_file(path, {"unknown_key"}, most=2))
    assert [bool(one.diff) for one in found] == [True, True, *[False] * 10]
    assert list(preview_file(path, {"nul"})) == []
