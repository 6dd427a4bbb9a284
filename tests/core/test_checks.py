"""Every fault is found with its line and message, nothing valid is accused, and safe fixes cure what they name."""

from __future__ import annotations

import copy
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunedesk.core.checking import checks, fixes, processes
from tunedesk.core.checking.checks import CHECKS, Checked, Rules, check_file, check_rows
from tunedesk.core.checking.text_checks import repair
from tunedesk.core.conversations import Row, SourceRow

Message = dict[str, Any]

TOPICS = """card blocked|salary late|mortgage overpaid|cheque bounced|standing order doubled|app crashes|fee charged|
loan declined|address moved|pin forgotten|transfer stuck|refund missing""".replace("\n", "").split("|")
CALL = {"id": "c1", "type": "function", "function": {"name": "rate", "arguments": '{"of": "euro"}'}}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
ANSWER = {"role": "tool", "tool_call_id": "c1", "content": "1.1"}
TOOLS = [{"type": "function", "function": {"name": "rate", "parameters": {}}}]
U = {"role": "user", "content": "What does a new card cost these days?"}
A = {"role": "assistant", "content": "Nothing at all, and it comes by post."}
S = {"role": "system", "content": "You help the customers of a bank."}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TEXT_PART = {"type": "text", "text": "Look at this, please"}


def clean(count: int = 12, *, system: str = "") -> list[Row]:
    rows = []
    for topic in TOPICS[:count]:
        said = [{"role": "user", "content": f"My {topic} twice since Monday, what now?"}]
        said.append(
            {"role": "assistant", "content": f"Sorry about that. We look into {topic} and write to you."}
        )
        rows.append({"messages": [{"role": "system", "content": system}, *said] if system else said})
    return rows


def row(*messages: Message, **more: Any) -> Row:
    return {"messages": list(messages), **more}


def said(text: str, role: str = "user") -> Row:
    return row({**U, "content": text}, A) if role == "user" else row(U, {**A, "content": text})


Case = tuple[Row, int | None, Row]
"""A row with the fault, the message that has it, and its nearest relative without it."""

ROWS: dict[str, Case] = {
    "no_messages": (row(), None, row(U, A)),
    "unknown_key": (
        row(U, A, extra=1),
        None,
        row(U, A, tools=TOOLS, metadata={"a": 1}, parallel_tool_calls=False),
    ),
    "tools_invalid": (row(U, A, tools=[{"name": "x"}]), None, row(U, A, tools=TOOLS)),
    "no_assistant": (row(U), None, row(U, A)),
    "last_not_assistant": (row(U, A, U), 2, row(U, A, U, A)),
    "first_assistant": (row(A, U, A), 0, row(S, U, A)),
    "no_user": (row(S, A), None, row(S, U, A)),
    "all_weights_zero": (row(U, {**A, "weight": 0}), None, row(U, {**A, "weight": 0}, U, {**A, "weight": 1})),
    "system_in_middle": (row(U, A, S, U, A), 2, row({**S, "role": "developer"}, U, A)),
    "system_repeated": (row(S, S, U, A), 1, row(S, U, A)),
    "preference_invalid": (
        {"input": {"messages": [U]}, "preferred_output": [A, A], "non_preferred_output": [A]},
        None,
        {
            "input": {"messages": [U]},
            "preferred_output": [A],
            "non_preferred_output": [{**A, "content": "No."}],
        },
    ),
    "preference_same": (
        {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [A]},
        None,
        {
            "input": {"messages": [U]},
            "preferred_output": [A],
            "non_preferred_output": [{**A, "content": "No."}],
        },
    ),
    "message_invalid": ({"messages": [U, "hi", A]}, 1, row(U, A)),
    "role_unknown": (
        row({**U, "role": "usr"}, A),
        0,
        row({"role": "developer", "content": "Be kind."}, U, A),
    ),
    "content_missing": (row({"role": "user"}, A), 0, row(U, CALLS, ANSWER, A, tools=TOOLS)),
    "content_invalid": (said({"a": 1}), 0, row({"role": "user", "content": [TEXT_PART, IMAGE]}, A)),  # type: ignore[arg-type]
    "content_empty": (said("", "assistant"), 1, row(U, CALLS, {**ANSWER, "content": ""}, A)),
    "content_blank": (said(" \n\t"), 0, said(" x ")),
    "field_invalid": (row({**U, "name": 3}, A), 0, row({**U, "name": "Ann"}, {**A, "refusal": None})),
    "weight_invalid": (row(U, {**A, "weight": 0.5}), 1, row(U, {**A, "weight": 1})),
    "weight_not_assistant": (row({**U, "weight": 1}, A), 0, row(U, {**A, "weight": 1})),
    "image_in_assistant": (row(U, {**A, "content": [IMAGE]}), 1, row(U, {**A, "content": [TEXT_PART]})),
    "image_invalid": (
        row({**U, "content": [{"type": "image_url", "image_url": {"url": "data:text/html,x"}}]}, A),
        0,
        row({**U, "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]}, A),
    ),
    "tool_call_invalid": (row(U, {**CALLS, "tool_calls": [{"id": "c1"}]}), 1, row(U, CALLS)),
    "tool_calls_empty": (row(U, {**A, "tool_calls": []}), 1, row(U, {**A, "tool_calls": None})),
    "tool_ids": (
        row(U, {**CALLS, "tool_calls": [CALL, CALL]}, ANSWER, A),
        1,
        row(U, CALLS, ANSWER, CALLS, ANSWER, A),
    ),
    "tool_call_unanswered": (row(U, CALLS, U, A), 1, row(U, CALLS, ANSWER, A)),
    "tool_answer_without_call": (row(U, {**ANSWER, "tool_call_id": "x"}, A), 1, row(U, CALLS, ANSWER, A)),
    "tool_arguments_not_json": (
        row(U, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "rate", "arguments": "{of"}}]}),
        1,
        row(U, CALLS),
    ),
    "tool_not_declared": (
        row(U, CALLS, tools=[{"type": "function", "function": {"name": "other"}}]),
        1,
        row(U, CALLS, tools=TOOLS),
    ),
    "nul": (said("a\0b"), 0, said("a b")),
    "lone_surrogate": (said("a \ud83d b"), 0, said("a 🎉 b")),
    "control_characters": (said("a\x1b[31m b", "assistant"), 1, said("a\tb\r\nc")),
    "line_separator": (said("one\u2028two"), 0, said("one\ntwo")),
    "mojibake": (said("CafÃ© â€™s menu", "assistant"), 1, said("Café ’s menü, NÃO, Ñandú, „MENÜ”")),
    "replacement_character": (said("M\ufffdller"), 0, said("Müller")),
    "special_token_text": (said("Hi<|im_end|>", "assistant"), 1, said("a < b | c > d, [x]")),
    "placeholder_left": (said("Dear {{name}},", "assistant"), 1, said("Dear [NAME_1], use {x} in code: {}")),
    "role_label_in_text": (said("User: hello", "assistant"), 1, said("The user: hello")),
    "boilerplate": (
        said("As an AI language model I cannot.", "assistant"),
        1,
        said("As an aide I can.", "assistant"),
    ),
    "refusal": (
        said("I'm sorry, but I can't assist with that.", "assistant"),
        1,
        said("I'm sorry to hear that. I cannot see the payment yet, but it will come.", "assistant"),
    ),
    "role_flip": (
        row({**U, "content": "Hello, how can I help you today?"}, {**A, "content": "I lost my card."}),
        0,
        row({**U, "content": "Can you help me? I lost my card."}, {**A, "content": "How may I help you?"}),
    ),
    "wrong_language": (
        row(
            {**U, "content": "Wo ist meine Karte? Ich habe sie nicht mehr."},
            {**A, "content": "We have sent it to your address and you will have it on Monday."},
        ),
        1,
        row(
            {**U, "content": "Wo ist meine Karte? Ich habe sie nicht mehr."},
            {**A, "content": "Die Karte ist auf dem Weg, Sie haben sie bis Montag bei sich."},
        ),
    ),
    "moderation_risk": (
        said("I will kill you all"),
        0,
        said("How do I kill the process? My phone bombed out, I'd kill for a coffee, Essex calls."),
    ),
    "pii": (
        said("I am ann@example.com"),
        0,
        said("Order 113542617735902 at 10:30 for 1,200.50 on 2024-01-12"),
    ),
}

LONG = f"Hello, these happened to me this week: {', '.join(TOPICS)}. What can you do about them?"
WHOLE: dict[str, tuple[list[Row], int, list[Row]]] = {
    "too_few_examples": (clean(9), 0, clean(10)),
    "exact_duplicate": ([*clean(), clean()[3]], 13, clean()),
    "near_duplicate": ([*clean(), said(LONG), said(f"{LONG} Thanks")], 14, clean()),
    "contradiction": (
        [*clean(), row(U, A), row(U, {**A, "content": "Twelve pounds."})],
        14,
        [*clean(), row(U, A)],
    ),
    "repeated_answer": (
        [*clean(), *(row({**U, "content": f"{t}?"}, {**A, "content": LONG}) for t in TOPICS)],
        13,
        [*clean(), *(row({**U, "content": f"{t}?"}, {**A, "content": LONG}) for t in TOPICS[:8])],
    ),
    "system_prompts_differ": (
        [*clean(11, system="You help."), row({**S, "content": "You sell."}, U, A)],
        12,
        [*clean(11, system="You help."), row({**S, "content": "You  help."}, U, A)],
    ),
    "system_missing": ([*clean(11, system="You help."), row(U, A)], 12, clean(12, system="You help.")),
}

Lines = list[bytes]
GOOD: Lines = [json.dumps(one).encode() for one in clean()]


def keyed(inner: str) -> bytes:
    return f'{{"messages": [{{"role": "user", "content": "Hi there"}}, {{"role": "assistant", {inner}}}]}}'.encode()


FILES: dict[str, tuple[bytes, int]] = {
    "empty_file": (b"", 0),
    "gzip_cut": (gzip.compress(b"\n".join(GOOD))[:-40], 0),
    "not_utf8": (b"\n".join([*GOOD, keyed('"content": "Caf?"').replace(b"?", b"\xe9")]), 13),
    "bom": (b"\xef\xbb\xbf" + b"\n".join(GOOD), 1),
    "blank_line": (b"\n".join([*GOOD[:2], b"", *GOOD[2:]]), 3),
    "json_invalid": (b"\n".join([*GOOD, b'{"messages": [']), 13),
    "json_array": (json.dumps(clean(), indent=1).encode(), 1),
    "too_deep": (b"\n".join([*GOOD, b'{"messages":' + b"[" * 100_000]), 13),
    "duplicate_key": (b"\n".join([*GOOD, keyed('"content": "One", "content": "Two"')]), 13),
    "nan": (b"\n".join([*GOOD, keyed('"content": "One", "weight": NaN')]), 13),
    "not_object": (b"\n".join([*GOOD, b"[1, 2]"]), 13),
}
VALID_FILE = b"\r\n".join([*GOOD, keyed('"content": "a \\"content\\": b", "name": "content\\\\"')]) + b"\r\n"


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[bytes], Checked]:
    def check(data: bytes) -> Checked:
        path = tmp_path / "data.jsonl"
        path.write_bytes(data)
        return check_file(path)

    return check


def check(rows: list[Row], rules: Rules | None = None) -> Checked:
    return check_rows((SourceRow(line, one) for line, one in enumerate(rows, 1)), rules)


def codes(result: Checked) -> set[str]:
    return {one.code for one in result.findings}


def test_every_code_has_a_failing_and_a_passing_example() -> None:
    apart = {"over_long", "mask_empty", "bom_missing", "file_too_large", "part_not_text"}
    assert set(CHECKS) == set(ROWS) | set(WHOLE) | set(FILES) | apart


def test_every_code_says_what_it_means() -> None:
    assert all(one.meaning and one.severity in ("error", "warning") for one in CHECKS.values())


@pytest.mark.parametrize("code", ROWS)
def test_a_fault_of_a_row_is_found_at_its_line_and_message(code: str) -> None:
    bad, message, good = ROWS[code]
    found = [one for one in check([*clean(), bad]).findings if one.code == code]
    assert [(one.line, one.message, one.severity) for one in found] == [(13, message, CHECKS[code].severity)]
    assert code not in codes(check([*clean(), good]))


@pytest.mark.parametrize("code", WHOLE)
def test_a_fault_across_rows_is_found_at_the_later_line(code: str) -> None:
    bad, line, good = WHOLE[code]
    assert [one.line for one in check(bad).findings if one.code == code] == [line]
    assert code not in codes(check(good))


@pytest.mark.parametrize("code", FILES)
def test_a_fault_of_the_file_is_found_at_its_physical_line(
    code: str, checked: Callable[[bytes], Checked]
) -> None:
    data, line = FILES[code]
    assert [one.line for one in checked(data).findings if one.code == code] == [line]


def test_a_valid_file_has_no_findings(checked: Callable[[bytes], Checked]) -> None:
    result = checked(VALID_FILE)
    assert result.findings == []
    assert result.conversations == 13


def words(one: Row) -> int:
    """Count a token for each word, one for each message."""
    return sum(1 + len(str(message["content"]).split()) for message in one["messages"])


def test_a_cut_that_hits_the_reply_shows_what_is_lost() -> None:
    long = row(U, {**A, "content": "One two three four five six seven eight nine ten."})
    result = check([*clean(), long], Rules(count_tokens=words, limit=words(long) - 3))
    (found,) = [one for one in result.findings if one.line == 13]
    assert (found.code, found.message) == ("over_long", 1)
    assert f"{words(long)} tokens, 3 over {words(long) - 3}" in found.text
    assert "message 1, assistant, at character 35: 'eight nine ten.'" in found.text
    assert "stop token are never trained" in found.text
    fits = check([*clean(), long], Rules(count_tokens=words, limit=words(long))).findings
    assert [one for one in fits if one.line == 13] == []


def test_a_cut_before_every_reply_leaves_nothing_to_train() -> None:
    long = row({**U, "content": "word " * 50}, A)
    result = check([*clean(), long], Rules(count_tokens=words, limit=40))
    assert [(one.line, one.message, one.code) for one in result.findings] == [(13, 0, "mask_empty")]


def test_a_cut_of_a_tail_without_weight_does_not_hit_a_reply() -> None:
    long = row(U, A, U, {**A, "content": "word " * 50, "weight": 0})
    (found,) = check([*clean(), long], Rules(count_tokens=words, limit=50)).findings
    assert found.code == "over_long"
    assert "stop token" not in found.text


def test_what_a_provider_takes_is_checked_for_that_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictured = row({**U, "content": [TEXT_PART, IMAGE]}, A)
    assert [(one.message, one.code) for one in check([*clean(), pictured], Rules("local")).findings] == [
        (0, "part_not_text")
    ]
    assert check([*clean(), pictured], Rules("openai")).findings == []
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(GOOD))
    assert [one.code for one in check_file(path, Rules("azure")).findings] == ["bom_missing"]
    monkeypatch.setitem(checks.LARGEST, "nebius", 100)
    assert [one.code for one in check_file(path, Rules("nebius")).findings] == ["file_too_large"]
    assert check_file(path, Rules("openai")).findings == []


@pytest.mark.parametrize(
    ("asked", "answered", "said_of_it"),
    [
        ("Wo ist meine Karte? Ich habe sie nicht mehr und brauche eine neue.",
         "We have sent the new card to your address and you will have it on Monday.", "English in answer to German"),
        ("Where is the card that you sent to me? I do not have it.",
         "Мы отправили вашу новую карту по почте.", "Cyrillic in answer to English"),
        ("Translate into German please: where is the card that you sent to me?",
         "Wo ist die Karte, die Sie mir geschickt haben und die nicht da ist?", ""),
        ("mera card block ho gaya hai kya karna hai mujhe batao", "You can unblock it in the app.", ""),
        ("OK", "Мы отправили вашу новую карту по почте.", ""),
        ("Where is the card that you sent to me? I do not have it.", "Café, résumé, naïve: 42 €.", ""),
    ],
)  # fmt: skip
def test_an_answer_in_another_language_is_found_only_when_sure(
    asked: str, answered: str, said_of_it: str
) -> None:
    bad = row({**U, "content": asked}, {**A, "content": answered})
    found = [one.text for one in check([*clean(), bad]).findings if one.code == "wrong_language"]
    assert [text.endswith(said_of_it) for text in found] == ([True] if said_of_it else [])


def test_data_that_changes_language_by_habit_is_not_accused() -> None:
    asked = "Wo ist {}? Ich habe das nicht mehr und brauche eine neue."
    answered = "We have sent the {} to your address and you will have it on Monday."
    rows = [
        row({**U, "content": asked.format(topic)}, {**A, "content": answered.format(topic)})
        for topic in TOPICS
    ]
    assert "wrong_language" not in codes(check(rows))
    assert "wrong_language" in codes(check([*clean(), rows[0]]))


def test_many_lines_are_examined_by_several_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [json.dumps(case[0]).encode() for case in ROWS.values()]
    path = tmp_path / "many.jsonl"
    path.write_bytes(b"\n".join([*GOOD, *bad, *FILES["duplicate_key"][0].split(b"\n"), b"", *bad]))
    alone = check_file(path)
    monkeypatch.setattr(processes, "WORTH", 10)
    monkeypatch.setattr(processes, "BATCH", 7)
    assert check_file(path) == alone
    assert len(codes(alone)) > 30


VALID: dict[str, Row] = {
    "tools": row(S, U, CALLS, ANSWER, A, tools=TOOLS, parallel_tool_calls=False),
    "two calls at once": row(
        U,
        {**CALLS, "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
        ANSWER,
        {**ANSWER, "tool_call_id": "c2"},
        A,
    ),
    "ends with a call": row(U, CALLS, tools=TOOLS),
    "parts": row({**U, "content": [TEXT_PART, IMAGE]}, {**A, "content": [TEXT_PART]}),
    "developer": row({"role": "developer", "content": "Short."}, U, A),
    "names and weights": row({**U, "name": "ann"}, {**A, "weight": 0, "name": "bot"}, U, {**A, "weight": 1}),
    "refusal": row(U, {"role": "assistant", "refusal": "No.", "content": None}),
    "old functions": row(
        U,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "3"},
        A,
        functions=[{"name": "f"}],
    ),
    "emoji and scripts": row({**U, "content": "नमस्ते 👩‍👩‍👧 你好 مرحبا"}, A),
}


@pytest.mark.parametrize("name", VALID)
def test_nothing_valid_is_accused(name: str) -> None:
    assert check([*clean(), VALID[name]]).findings == []


def test_the_local_engine_only_warns_of_few_conversations() -> None:
    assert [one.severity for one in check(clean(3), Rules(provider="local")).findings] == ["warning"]


def test_azure_wants_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(FILES["bom"][0])
    assert check_file(path, Rules(provider="azure")).findings == []


def test_the_houses_own_phone_line_in_an_answer_is_no_personal_data() -> None:
    assert check([*clean(), said("Ring us on +44 20 7946 0958.", "assistant")]).findings == []


def test_near_duplicates_need_not_be_looked_for() -> None:
    rows = [*WHOLE["near_duplicate"][0], clean()[0]]
    assert codes(check(rows, Rules(near_duplicates=False))) == {"exact_duplicate"}


def test_many_system_prompts_are_meant() -> None:
    rows = [{"messages": [{**S, "content": f"Task {n}"}, *one["messages"]]} for n, one in enumerate(clean())]
    assert check(rows).findings == []


FIXES: dict[str, Row] = {
    **{code: case[0] for code, case in ROWS.items() if CHECKS[code].fix},
    "content_empty": row(U, A, {"role": "user", "content": ""}),
    "content_blank": row({**S, "content": "  "}, U, A),
    "weight_invalid": row(U, {**A, "weight": True}, U, {**A, "weight": 0.0}),
    "tool_call_invalid": row(
        U, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "rate", "arguments": {"of": "euro"}}}]}
    ),
}


@pytest.mark.parametrize("code", sorted(fixes.FIXABLE - {"bom", "not_utf8", "blank_line", "exact_duplicate"}))
def test_after_a_fix_its_finding_is_gone_and_the_row_given_is_unchanged(code: str) -> None:
    bad = FIXES[code]
    before = copy.deepcopy(bad)
    assert any(one.code == code and one.fix for one in check([*clean(), bad]).findings)
    fixed, done = fixes.fix(bad, {code})
    assert done == (code,)
    assert code not in codes(check([*clean(), fixed]))
    assert bad == before


def test_only_the_asked_codes_are_fixed() -> None:
    both = row(U, A, {"role": "user", "content": "a\0"}, extra=1)
    assert fixes.fix(both, {"unknown_key"})[0] == row(U, A, {"role": "user", "content": "a\0"})
    assert fixes.fix(both)[0] == row(U, A)


@pytest.mark.parametrize(
    "bad", [row(U, {**A, "weight": 0.5}), row({**U, "content": ""}, A), row(U), {"messages": 3}]
)
def test_what_only_a_person_can_decide_stays(bad: Row) -> None:
    assert all(
        one.fix is None
        for one in check([*clean(), bad]).findings
        if one.line == 13 and one.code != "unknown_key"
    )
    assert fixes.fix(bad) == (bad, ())


def test_a_single_system_message_is_moved_to_the_front() -> None:
    assert fixes.fix(row(U, A, S, U, A))[0]["messages"] == [S, U, A, U, A]


def test_fixing_rows_reports_each_fix_and_leaves_exact_duplicates_out() -> None:
    told: list[tuple[int, str]] = []
    rows = [SourceRow(1, row(U, A)), SourceRow(2, row(U, A, U)), SourceRow(4, clean()[0])]
    kept = list(fixes.fix_rows(rows, on_fixed=lambda line, code: told.append((line, code))))
    assert [one.line for one in kept] == [1, 4]
    assert told == [(2, "last_not_assistant"), (2, "exact_duplicate")]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "role", "content", "weight", "tool_calls", "id", "type", "function", "tools"]
            ),
            inner | st.sampled_from(["user", "assistant", "tool", "system", "text"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(JSON, max_size=3), JSON)
@settings(max_examples=150, deadline=None)
def test_no_row_breaks_the_checks_or_the_fixes(messages: list[Any], other: Any) -> None:
    for bad in (
        {"messages": messages},
        {"messages": other},
        {"preferred_output": other, "input": {"messages": messages}},
    ):
        check([bad])
        fixed, done = fixes.fix(bad)
        assert not set(done) & {one.code for one in check([fixed]).findings if one.fix}
    check([other])


HOSTILE = {
    "20 MB line": json.dumps(said("word " * 4_000_000)).encode(),
    "20 MB of brackets": b"[" * 20_000_000,
    "20 MB broken": b'{"messages": "' + b"a" * 20_000_000,
    "20 MB of quotes": b'"' * 20_000_000,
    "NUL": b"\0" * 1_000_000,
    "digits": b'{"messages": ' + b"9" * 1_000_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "card digits": json.dumps(said("4 " * 500_000)).encode(),
    "at signs": json.dumps(said("a@" * 300_000)).encode(),
    "dots": json.dumps(said("a." * 300_000 + "@" + "b." * 300_000)).encode(),
    "brackets": json.dumps(said("{{ a" * 200_000 + "[your " * 100_000)).encode(),
    "mojibake": json.dumps(said("Ã" * 1_000_000)).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_ends_in_findings_in_seconds(name: str, checked: Callable[[bytes], Checked]) -> None:
    start = time.process_time()
    result = checked(HOSTILE[name])
    assert "too_few_examples" in codes(result) or "json_array" in codes(result)
    assert time.process_time() - start < 8


def test_mojibake_is_only_repaired_where_the_way_is_exact() -> None:
    assert repair("Ã¼ber â€œnieâ€\x9d ðŸ˜€ Â£5") == "über “nie” 😀 £5"
    for text in ("São Tomé à côté", "Ã", "AMANHÃ”", "naïve café – ‘ok’", "Ελλάδα", "日本語", "Â", "5 Â C"):
        assert repair(text) == text
