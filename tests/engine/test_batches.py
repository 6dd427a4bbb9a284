"""What the model reads and which of it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_model
from tunedesk.engine.batches import Example, Renderer, RowError, chunks, pack
from tunedesk.engine.objectives import Supervised
from tunedesk.errors import DataError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Goodbye."},
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_model.tokenizer(), 512)


def trained_text(renderer: Renderer, example: Example) -> str:
    kept = [token for token, trained in zip(example.ids, example.trained, strict=True) if trained]
    return str(renderer.tokenizer.decode(kept))


def one(renderer: Renderer, messages: list[dict[str, Any]], **row: Any) -> Example:
    (example,) = renderer.examples(1, {"messages": messages, **row})
    return example


def test_the_mask_equals_one_written_by_hand(renderer: Renderer) -> None:
    example = one(renderer, [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    words = [renderer.tokenizer.decode([token]) for token in example.ids]
    assert words == [
        "<|im_start|>",
        "user",
        "\n",
        "x",
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant",
        "\n",
        "y",
        "<|im_end|>",
        "\n",
    ]
    assert [int(trained) for trained in example.trained] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]


def test_every_answer_is_trained_up_to_and_with_its_stop_token(renderer: Renderer) -> None:
    assert trained_text(renderer, one(renderer, CHAT)) == "Hello<|im_end|>Goodbye.<|im_end|>"


def test_an_answer_of_weight_zero_is_read_but_not_trained(renderer: Renderer) -> None:
    messages: list[dict[str, Any]] = [dict(message) for message in CHAT]
    messages[2]["weight"] = 0
    messages[4]["weight"] = 1
    example = one(renderer, messages)
    assert trained_text(renderer, example) == "Goodbye.<|im_end|>"
    assert example.ids == one(renderer, CHAT).ids


def test_what_is_trained_follows_exactly_what_a_prompt_ends_with(renderer: Renderer) -> None:
    example = one(renderer, CHAT[:3])
    asked = renderer.prompt(CHAT[:2])
    assert list(example.ids[: len(asked)]) == asked
    assert example.trained.index(True) == len(asked)


def test_a_template_that_rewrites_earlier_turns_gives_one_example_an_answer() -> None:
    tokenizer = tiny_model.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and m.role == 'assistant' %}(thought){% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    renderer = Renderer(tokenizer, 512)
    examples = renderer.examples(4, {"messages": CHAT})
    assert [trained_text(renderer, example) for example in examples] == [
        "(thought)Hello<|im_end|>",
        "(thought)Goodbye.<|im_end|>",
    ]
    assert {example.line for example in examples} == {4}


def test_a_template_without_a_stop_token_gets_the_tokenizers_own() -> None:
    tokenizer = tiny_model.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    renderer = Renderer(tokenizer, 512)
    assert trained_text(renderer, one(renderer, CHAT[:3])) == "Hello<|im_end|>"


def test_tools_are_written_out_where_the_template_knows_none(renderer: Renderer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "balance", "arguments": '{"account": 7}'}}
    tool = {"type": "function", "function": {"name": "balance", "parameters": {"type": "object"}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How much?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 12."}]},
    ]
    example = one(renderer, messages, tools=[tool])
    assert '<tool_call>\n{"name": "balance", "arguments": {"account": 7}}\n</tool_call>' in trained_text(
        renderer, example
    )
    text = renderer.tokenizer.decode(example.ids)
    assert text.startswith("<|im_start|>system\nYou may call")
    assert "<tool_response>\n12\n</tool_response>" in text
    assert trained_text(renderer, example).endswith("It is 12.<|im_end|>")


def test_tools_go_to_a_template_that_renders_them() -> None:
    tokenizer = tiny_model.tokenizer()
    tokenizer.chat_template = (
        "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}{% for c in m.tool_calls or [] %}!{{ c.function.name }}"
        "({{ c.function.arguments.items()|list }}){% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    renderer = Renderer(tokenizer, 512)
    call = {"id": "c1", "type": "function", "function": {"name": "balance", "arguments": '{"n": 7}'}}
    answer: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
    tool = {"type": "function", "function": {"name": "balance"}}
    example = one(
        renderer,
        [{"role": "user", "content": "?"}, answer],
        tools=[tool],
    )
    assert trained_text(renderer, example) == "!balance([('n', 7)])<|im_end|>"
    assert renderer.tokenizer.decode(example.ids).startswith("[balance]")


def test_a_row_over_the_context_is_cut_at_its_end_and_counted() -> None:
    renderer = Renderer(tiny_model.tokenizer(), 16)
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "1 2 3 4 5 6 7 8 9"}]
    example = one(renderer, messages)
    assert len(example.ids) == 16
    assert example.cut > 0
    with pytest.raises(RowError, match=r"row 1: nothing to train is left"):
        one(renderer, [{"role": "user", "content": "1 2 3 4 5 6 7 8 9"}, messages[1]])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"messages": []}', "no list of messages"),
        ('{"messages": [{"content": "x"}]}', "message 1 has no role"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant message is trained"),
        ('{"messages": [{"role": "assistant", "content": "", "tool_calls": [3]}]}', "refuses it"),
    ],
)
def test_a_bad_row_is_named_by_its_physical_line(
    renderer: Renderer, tmp_path: Path, bad: str, words: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps({"messages": CHAT}) + "\n\n" + bad + "\n", "utf-8")
    with pytest.raises(RowError, match=rf"row 3: .*{words}"):
        Supervised().read(path, renderer, list[int]().append)


def test_a_file_without_rows_is_refused(renderer: Renderer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match="no conversations"):
        Supervised().read(path, renderer, list[int]().append)


def test_packing_holds_the_shared_prefix_once_and_points_at_every_target(renderer: Renderer) -> None:
    rows = [
        one(renderer, [CHAT[0], {"role": "user", "content": text}, {"role": "assistant", "content": text}])
        for text in ("card", "my address", "x")
    ]
    packed = pack(rows)
    assert packed.layout.prefix > 3
    assert len(packed.ids) == sum(len(row.ids) for row in rows) - 2 * packed.layout.prefix
    plain = pack(rows, share_prefix=False)
    for one_way in (packed, plain):
        wanted = [t for row in rows for t, trained in zip(row.ids, row.trained, strict=True) if trained]
        assert one_way.labels.tolist() == wanted
    assert packed.ids[packed.sources].tolist() == plain.ids[plain.sources].tolist()
    assert packed.positions[packed.sources].tolist() == plain.positions[plain.sources].tolist()


def test_what_packed_rows_share_counts_once_towards_the_limit() -> None:
    rows = [Example(n, (*range(30), 30 + n, 7), (False,) * 31 + (True,)) for n in range(8)]
    assert [len(part) for part in chunks(rows, 46, packed=True)] == [8]
    assert [len(part) for part in chunks(rows, 45, packed=True)] == [7, 1]
    assert [len(part) for part in chunks(rows, 64)] == [2, 2, 2, 2]
    assert all(len(pack(part).ids) == 46 for part in chunks(rows, 46, packed=True))


def test_chunks_hold_every_row_once_within_the_limit() -> None:
    rows = [Example(n, tuple(range(2 + n)), (False,) * (1 + n) + (True,)) for n in range(20)]
    parts = list(chunks(rows, 40))
    assert sorted(row.line for part in parts for row in part) == list(range(20))
    assert all(len(part) * max(len(row.ids) for row in part) <= 40 for part in parts)
    assert len(list(chunks([Example(1, tuple(range(99)), (False,) * 98 + (True,))], 40))) == 1
