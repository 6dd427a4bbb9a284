"""No character of data acts on a terminal."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tunedesk.terminal import json_text, visible

ACTING = [chr(c) for c in (*range(32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))]


def test_escape_sequences_are_shown_not_sent() -> None:
    assert visible("\x1b]52;c;aGk=\x07") == "␛]52;c;aGk=␇"
    assert visible("a\u202eb\u200bc") == "a�b�c"


@given(st.text())
def test_no_text_keeps_an_acting_character(text: str) -> None:
    shown = visible(text, keep="")
    assert not [c for c in shown if c in ACTING]
    assert len(shown) == len(text)


def test_line_breaks_stay_when_asked() -> None:
    assert visible("a\nb\tc") == "a\nb␉c"


@given(
    st.dictionaries(
        st.text(alphabet=st.characters(exclude_categories=["Cs"])),
        st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    )
)
def test_json_is_equal_after_reading_and_safe_to_print(value: dict[str, str]) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert not [c for c in text if c in ACTING]
