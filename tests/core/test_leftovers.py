"""What templates, models and transcripts leave in a text is found, and code that looks like it is not."""

from __future__ import annotations

import pytest

from tunedesk.core.checking.text_checks import text_faults

LEFT = {
    "Hello {first_name}, your card is here.": "placeholder_left",
    "Your code is %%OTP%%, type it.": "placeholder_left",
    "Write to [Support Email] at once.": "placeholder_left",
    "It was sent on [Delivery Date], sorry.": "placeholder_left",
    "Your order <ORDER_NUMBER> has left us.": "placeholder_left",
    "Call us at <phone_number> at any time.": "placeholder_left",
    "Your order [ORDER_NUMBER] has left.": "placeholder_left",
    "Sehr geehrte [Ihr Name], danke.": "placeholder_left",
    "Fine.<|eom_id|>": "special_token_text",
    "Fine.<pad><pad>": "special_token_text",
    "Fine [TOOL_CALLS] too.": "special_token_text",
    "Fine <｜end▁of▁sentence｜> too.": "special_token_text",
    "<|reserved_special_token_3|>": "special_token_text",
    "Assistant: we open at nine.": "role_label_in_text",
}
CLEAN = [
    "GET /orders/{order_id} gives one order.",
    "std::vector<my_type> names it.\n```cpp\nint x;\n```",
    "<order_list><order_id>1</order_id></order_list>",
    "What is the [order number](https://example.org) link?",
    'Use f"Hello {first_name}" and it is filled in.',
    "f <| x passes x to f.",
    "\\frac{first_part}{second_part} is how you write it.",
    "[agent] opened, [user] closed; see Smith [1] and [in German].",
    "In Vue, {{ count }} shows the value of count.",
    "Agent of Change: a novel.",
    "Use {{name}} in the template to insert it.",
]


@pytest.mark.parametrize("text", LEFT)
def test_leftovers_are_found(text: str) -> None:
    assert [code for code, _ in text_faults(text, "assistant")] == [LEFT[text]]


@pytest.mark.parametrize("text", CLEAN)
def test_code_and_prose_that_look_like_it_are_not(text: str) -> None:
    assert not list(text_faults(text, "assistant"))


def test_a_label_of_the_own_side_is_a_leftover_too() -> None:
    assert [code for code, _ in text_faults("User: where do I park?", "user")] == ["role_label_in_text"]
