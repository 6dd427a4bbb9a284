"""Every fault is found with its line and message, and nothing valid is accused."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.core.check_examples import (
    ANSWER,
    CALL,
    CALLS,
    FILES,
    GOOD,
    IMAGE,
    LONG,
    ROWS,
    TEXT_PART,
    TOOLS,
    TOPICS,
    VALID_FILE,
    WHOLE,
    A,
    S,
    U,
    check,
    clean,
    codes,
    row,
    said,
)
from tunedesk.core.checking import checks, processes
from tunedesk.core.checking.checks import CHECKS, Checked, Rules, check_file
from tunedesk.core.checking.examining import Examined, Wanted
from tunedesk.core.checking.text_checks import repair
from tunedesk.core.conversations import Row


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[bytes], Checked]:
    def check(data: bytes) -> Checked:
        path = tmp_path / "data.jsonl"
        path.write_bytes(data)
        return check_file(path)

    return check


def test_every_code_has_a_failing_and_a_passing_example() -> None:
    apart = {"over_long", "mask_empty", "no_stop_token", "bom_missing", "file_too_large", "part_not_text"}
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


def test_a_cut_of_a_preference_row_is_told_for_each_answer() -> None:
    asked = {"messages": [U, A, {**U, "content": "And why is that so?"}]}
    short, long = {**A, "content": "No."}, {**A, "content": "word " * 60}
    rows = [
        {"input": asked, "preferred_output": [one], "non_preferred_output": [two]}
        for one, two in ((short, long), (long, short), (short, {**A, "content": "Yes."}))
    ]
    broken: list[Row] = [
        {"input": 3, "preferred_output": []},
        {"input": {"messages": []}, "preferred_output": 7},
    ]
    found = check([*rows, *broken], Rules(count_tokens=words, limit=40)).findings
    told = [(one.line, one.message) for one in found if one.code == "over_long"]
    assert told == [(1, 4), (2, 3)]
    assert all("hits the reply" in one.text for one in found if one.code == "over_long")
    found = check(rows[:1], Rules(count_tokens=words, limit=words(asked))).findings
    assert [(one.message, one.code) for one in found if one.line][:1] == [(3, "mask_empty")]


def test_a_cut_in_the_middle_of_a_long_talk_tells_how_much_is_lost_behind_it() -> None:
    talk = [{**(A if place % 2 else U), "content": f"say {place} " * 40} for place in range(400)]
    limit = 81 * 300 + 40
    counted = 0

    def count(one: Row) -> int:
        nonlocal counted
        counted += 1
        return words(one)

    (found,) = check([*clean(), row(*talk)], Rules(count_tokens=count, limit=limit)).findings
    assert (found.line, found.code) == (13, "over_long")
    assert "message 300, user" in found.text
    assert " characters more, 99 more messages; it hits the reply" in found.text
    assert counted < 40


def test_a_template_that_writes_no_stop_token_is_told_once() -> None:
    (found,) = check(clean(), Rules(unstopped="<|im_end|>")).findings
    assert (found.line, found.code, found.severity) == (0, "no_stop_token", "warning")
    assert found.text.endswith("<|im_end|>")


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


def test_what_may_block_a_file_is_found_in_preference_rows_and_a_worse_answer_may_refuse() -> None:
    asked = {
        "messages": [{**S, "content": "Ring +44 20 7946 0958."}, {**U, "content": "I will kill you all"}]
    }
    no = {**A, "content": "I'm sorry, but I can't assist with that. Ring +44 20 7946 0958."}
    rows = [{"input": asked, "preferred_output": [A], "non_preferred_output": [no]}]
    found = [(one.message, one.code) for one in check(rows).findings if one.line]
    assert found == [(1, "moderation_risk")]


def test_near_duplicates_need_not_be_looked_for() -> None:
    rows = [*WHOLE["near_duplicate"][0], clean()[0]]
    assert codes(check(rows, Rules(near_duplicates=False))) == {"exact_duplicate"}


def test_an_edited_copy_of_an_answer_is_a_near_duplicate_too() -> None:
    edited = row({**U, "content": LONG}, {**A, "content": f"{LONG} I do hope this helps."})
    rows = [*clean(), row({**U, "content": LONG}, {**A, "content": f"{LONG} I hope this helps."}), edited]
    found = [(one.line, one.code) for one in check(rows).findings]
    assert sorted(found) == [(14, "contradiction"), (14, "near_duplicate")]


def test_a_prompt_that_stands_late_is_not_missing_as_well() -> None:
    late = row(U, S, A)
    found = check([*clean(11, system=S["content"]), late]).findings
    assert [(one.line, one.code) for one in found] == [(12, "system_in_middle")]


def test_many_system_prompts_are_meant() -> None:
    rows = [{"messages": [{**S, "content": f"Task {n}"}, *one["messages"]]} for n, one in enumerate(clean())]
    assert check(rows).findings == []


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


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Generator[Examined]:
    """What several processes make of 199 lines, five at a time."""
    monkeypatch.setattr(processes, "WORTH", 10)
    monkeypatch.setattr(processes, "BATCH", 5)
    line = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}'
    found = processes.examined(((number, line) for number in range(1, 200)), Wanted())
    assert isinstance(found, Generator)
    return found


def test_processes_end_at_once_when_nobody_waits_for_their_findings(examined: Generator[Examined]) -> None:
    before = set(multiprocessing.active_children())
    next(examined)
    started = set(multiprocessing.active_children()) - before
    assert started
    examined.close()
    assert {process.exitcode for process in started} == {-signal.SIGKILL}


def test_what_a_killed_process_was_given_is_examined_all_the_same(examined: Generator[Examined]) -> None:
    before = set(multiprocessing.active_children())
    lines = list(next(examined).marks.lines)
    for process in set(multiprocessing.active_children()) - before:
        process.kill()
    assert [*lines, *(one for batch in examined for one in batch.marks.lines)] == list(range(1, 200))
