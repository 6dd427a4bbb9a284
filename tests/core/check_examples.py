"""Examples for the tests of checks and fixes: each code with a case that has it and its nearest relative without."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tunedesk.core.checking.checks import Checked, Rules, check_rows
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
    "tools_empty": (row(U, A, tools=[]), None, row(U, A)),
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
        {
            "input": {"messages": [U]},
            "preferred_output": [A],
            "non_preferred_output": [{**A, "content": f"{A['content']} "}],
        },
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
    "name_refused": (row({**U, "name": "Ann Lee"}, A), 0, row({**U, "name": "Ann-Lee_2"}, A)),
    "weight_invalid": (row(U, {**A, "weight": 0.5}), 1, row(U, {**A, "weight": 1})),
    "weight_not_assistant": (row({**U, "weight": 1}, A), 0, row(U, {**A, "weight": 1})),
    "image_in_assistant": (row(U, {**A, "content": [IMAGE]}), 1, row(U, {**A, "content": [TEXT_PART]})),
    "image_invalid": (
        row({**U, "content": [{"type": "image_url", "image_url": {"url": "data:text/html,x"}}]}, A),
        0,
        row({**U, "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]}, A),
    ),
    "tool_call_invalid": (row(U, {**CALLS, "tool_calls": [{"id": "c1"}]}), 1, row(U, CALLS)),
    "tool_calls_empty": (row(U, {**A, "tool_calls": []}), 1, row(U, {**A, "function_call": None})),
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
    "placeholder_left": (
        said("Dear {{name}},", "assistant"),
        1,
        said("Dear [NAME_1], use {x} in code: {} or `{{ x }}`, ${{ secrets.KEY }}, \\\\frac{{a}}{{b}}"),
    ),
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
        said(
            "How do I kill the process? My phone bombed out, I'd kill for a coffee, cut myself some slack, Essex calls."
        ),
    ),
    "pii": (
        said("I am ann@example.com"),
        0,
        said("Order 113542617735902 at 10:30 for 1,200.50 on 2024-01-12"),
    ),
}

LONG = f"Hello, these happened to me this week: {', '.join(TOPICS)}. What can you do about them?"
PREFERENCE = {
    "input": {"messages": [U]},
    "preferred_output": [A],
    "non_preferred_output": [{**A, "content": "No."}],
}
WHOLE: dict[str, tuple[list[Row], int, list[Row]]] = {
    "kinds_mixed": ([*clean(), PREFERENCE], 0, [PREFERENCE]),
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
VALID_FILE = (
    b"\r\n".join([*GOOD, keyed('"content": "a \\"content\\": b", "refusal": "content\\\\"')]) + b"\r\n"
)


def check(rows: list[Row], rules: Rules | None = None) -> Checked:
    return check_rows((SourceRow(line, one) for line, one in enumerate(rows, 1)), rules)


def codes(result: Checked) -> set[str]:
    return {one.code for one in result.findings}
