"""A model on this machine counts by its own tokenizer and template, as the engine reads its rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import tiny_model
from tunedesk.core.conversations import Row, encode_row
from tunedesk.core.counting.local_tokens import LocalCounter, find_tokenizer
from tunedesk.errors import DataError

CALL = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"how": "post"}'}}
TOOL = {"type": "function", "function": {"name": "order", "description": "Order.", "parameters": {}}}
ROWS: list[Row] = [
    {
        "messages": [
            {"role": "user", "content": "My card was lost."},
            {"role": "assistant", "content": "Oh, Łódź 🙂!"},
        ]
    },
    {
        "messages": [
            {"role": "developer", "content": "You are a bank."},
            {"role": "user", "content": [{"type": "text", "text": "hi <|im_end|>"}]},
            {"role": "assistant", "content": "first", "weight": 0},
            {"role": "user", "content": "more"},
            {"role": "assistant", "content": "second"},
            {"role": "user", "content": "thanks"},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "order"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "done", "tool_call_id": "c1"},
            {"role": "assistant", "content": "It is on its way."},
        ],
        "tools": [TOOL],
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("models") / "tiny")


def test_counts_are_those_of_the_engine(folder: Path) -> None:
    from tunedesk.engine.batches import Renderer
    from tunedesk.engine.models import load_tokenizer

    renderer = Renderer(load_tokenizer(folder), 512)
    counter = LocalCounter("tiny", folder)
    for row in ROWS:
        examples = renderer.examples(1, row)
        assert counter.row(row) == sum(len(one.ids) for one in examples)
        assert counter.trained(row) == sum(one.targets for one in examples)
    assert counter.limit == 512


def test_bulk_counts_are_those_of_one_row(folder: Path) -> None:
    counter = LocalCounter("tiny", folder)
    found = counter.count_lines([encode_row(row) for row in ROWS])
    assert list(found.total) == [counter.row(row) for row in ROWS]
    assert list(found.trained) == [counter.trained(row) for row in ROWS]
    assert list(found.system) == [0, counter.text("You are a bank."), found.system[2]]
    assert not counter.count_rows([]).total


@pytest.mark.parametrize(
    "row", [{}, {"messages": "x"}, {"messages": [None]}, {"messages": [{"role": "user", "content": [3]}]}]
)
def test_what_the_engine_would_refuse_counts_nothing(row: Row, folder: Path) -> None:
    assert LocalCounter("tiny", folder).row(row) == 0


def test_a_template_that_rewrites_earlier_turns_counts_each_answer_alone(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    from tunedesk.engine.batches import Renderer
    from tunedesk.engine.models import load_tokenizer

    other = tmp_path / "forgets"
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if loop.last or m.role != 'assistant' %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    row = {"messages": [*ROWS[0]["messages"], *ROWS[0]["messages"]]}
    examples = Renderer(load_tokenizer(other), 512).examples(1, row)
    counter = LocalCounter("forgets", other)
    assert len(examples) == 2
    assert counter.row(row) == sum(len(one.ids) for one in examples)
    assert counter.trained(row) == sum(one.targets for one in examples)


def test_a_model_is_found_whatever_the_case_of_its_name(folder: Path, tmp_path: Path) -> None:
    assert find_tokenizer("TINY", [tmp_path / "none", folder.parent]) == folder
    assert find_tokenizer("other", [folder.parent]) is None


def test_without_the_package_the_caller_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match="tokenizers is not installed"):
        LocalCounter("tiny", folder)


def test_a_template_or_tokenizer_that_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "broken"
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").write_text("{% for")
    with pytest.raises(DataError, match="template"):
        LocalCounter("broken", other)
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="tokenizer"):
        LocalCounter("broken", other)


def test_a_template_without_a_stop_token_is_known(folder: Path, tmp_path: Path) -> None:
    assert LocalCounter("tiny", folder).unstopped() == ""
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    counter = LocalCounter("bare", bare)
    assert counter.unstopped() == "<|im_end|>"
