"""Safe fixes cure what they name, change nothing else, and break on nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.check_examples import CALL, CALLS, ROWS, A, S, U, check, clean, codes, row
from tunedesk.core.checking import fixes
from tunedesk.core.checking.checks import CHECKS
from tunedesk.core.conversations import Row, SourceRow

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
@settings(max_examples=50, deadline=None)
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
