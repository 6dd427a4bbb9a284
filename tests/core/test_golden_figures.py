"""The figures of OpenAI's data-preparation notebook: on rows of the same build here, and on its own file where it is.

The notebook counts, in cl100k_base: 3 tokens a message, those of each value, one for a name, 3 a conversation. It
bills each conversation up to 4,096 tokens and estimates epochs from the number of conversations.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from tunedesk.cli import main
from tunedesk.core.conversations import Row
from tunedesk.core.counting.tokens import TokenCounter

TOY = os.environ.get("TUNEDESK_TOY_FILE", "")
KIND = {"role": "system", "content": "You are a calm guide who finds the good side of all that happens."}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ROWS: list[Row] = [
    {"messages": [KIND, said("user", "My bus left early."), said("assistant", "A walk will do you good!")]},
    {
        "messages": [
            KIND,
            said("user", "We lost the match."),
            said("assistant", "You played to the end."),
            said("user", "It rained, too."),
            said("assistant", "So the garden is happy."),
        ]
    },
    {"messages": [said("user", "The shop is closed."), said("assistant", "Then you save some money.")]},
    {"messages": [KIND, said("assistant", "What a day!")]},
    {"messages": [KIND, said("user", "I am bored."), said("assistant", "Go for a walk!" * 2_000)]},
]
GOLDEN = {"counts": [42, 61, 22, 30, 10_034], "billed_per_epoch": 4_251, "epochs": 20, "billed": 85_020}
"""Worked out by the notebook's own functions over ROWS."""


def by_hand(row: Row, encoding: tiktoken.Encoding) -> int:
    """Count a row as the notebook writes it down."""
    tokens = 3
    for message in row["messages"]:
        tokens += 3
        for key, value in message.items():
            tokens += len(encoding.encode(value)) + (key == "name")
    return tokens


def told(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["tokens", str(path), "--model", "gpt-3.5-turbo-0613", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_figures_of_rows_of_the_notebooks_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = TokenCounter("gpt-3.5-turbo-0613", tmp_path)
    encoding = counter.tiktoken
    assert [counter.row(row) for row in ROWS] == [by_hand(row, encoding) for row in ROWS] == GOLDEN["counts"]
    path = tmp_path / "toy.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    figures = told(path, capsys)
    assert (figures["tokens"]["min"], figures["tokens"]["max"], figures["over_limit"]) == (22, 10_034, 1)
    assert figures["billed_tokens_per_epoch"] == GOLDEN["billed_per_epoch"]
    assert (figures["epochs"]["n"], figures["billed_tokens"]) == (GOLDEN["epochs"], GOLDEN["billed"])


@pytest.mark.skipif(
    not TOY, reason="TUNEDESK_TOY_FILE names no copy of the notebook's file, which is not ours"
)
def test_the_figures_printed_in_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    figures = told(Path(TOY), capsys)
    assert figures["conversations"] == 5
    assert (figures["tokens"]["min"], figures["tokens"]["max"]) == (26, 8_032)
    assert figures["billed_tokens_per_epoch"] == 4_306
    assert (figures["epochs"]["n"], figures["billed_tokens"]) == (20, 86_120)
    assert main(["check", TOY, "--model", "gpt-3.5-turbo-0613", "--provider", "openai", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["code"] for one in found if one["severity"] == "error"] == ["too_few_examples"]
    assert [one["line"] for one in found if one["code"] == "no_user"] == [4]
