"""A file of rows gives the loss that plain transformers and PEFT give on texts and masks written by hand.

Several turns, a weight of 0, tools with their calls and results, content in parts, a shared system prompt: all packed
together on our side, one row at a time on the library's, with labels of -100 wherever nothing is trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny_model
from tests.engine.test_nets import perturbed
from tunedesk.engine.adapters import save_adapter
from tunedesk.engine.batches import Renderer
from tunedesk.engine.fast_llama import FastLlama
from tunedesk.engine.models import load_model, load_tokenizer
from tunedesk.engine.nets import FastNet, Net, PeftNet
from tunedesk.engine.objectives import Dpo, Measured, Supervised

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

SYSTEM = {"role": "system", "content": "You are a customer support assistant of a bank."}
TOOL = {"type": "function", "function": {"name": "close", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "close", "arguments": '{"account": 7}'}}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            SYSTEM,
            {"role": "user", "content": "My card was lost."},
            {"role": "assistant", "content": "Please confirm your address."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "My "}, {"type": "text", "text": "address"}],
            },
            {"role": "assistant", "content": "Thank you for reaching out.", "weight": 0},
            {"role": "user", "content": "And today?"},
            {"role": "assistant", "content": "How can I help you today?", "weight": 1},
        ]
    },
    {
        "messages": [
            SYSTEM,
            {"role": "user", "content": "Close my account."},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "closed"},
            {"role": "assistant", "content": "It is closed."},
        ],
        "tools": [TOOL],
    },
    {"messages": [SYSTEM, {"role": "user", "content": "A fee?"}, {"role": "assistant", "content": "No."}]},
]
START, BANK = "<|im_start|>", "<|im_start|>system\nYou are a customer support assistant of a bank."
NOTE = f"\n\nYou may call these functions:\n<tools>\n{json.dumps(TOOL)}\n</tools>"
Segments = Sequence[tuple[str, bool]]
TEXTS: list[Segments] = [
    [
        (f"{BANK}<|im_end|>\n{START}user\nMy card was lost.<|im_end|>\n{START}assistant\n", False),
        ("Please confirm your address.<|im_end|>", True),
        (
            f"\n{START}user\nMy address<|im_end|>\n{START}assistant\nThank you for reaching out.<|im_end|>\n",
            False,
        ),
        (f"{START}user\nAnd today?<|im_end|>\n{START}assistant\n", False),
        ("How can I help you today?<|im_end|>", True),
    ],
    [
        (f"{BANK}{NOTE}<|im_end|>\n{START}user\nClose my account.<|im_end|>\n{START}assistant\n", False),
        ('<tool_call>\n{"name": "close", "arguments": {"account": 7}}\n</tool_call><|im_end|>', True),
        (f"\n{START}user\n<tool_response>\nclosed\n</tool_response><|im_end|>\n{START}assistant\n", False),
        ("It is closed.<|im_end|>", True),
    ],
    [
        (f"{BANK}<|im_end|>\n{START}user\nA fee?<|im_end|>\n{START}assistant\n", False),
        ("No.<|im_end|>", True),
    ],
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("models") / "tiny")


def labelled(base: Path, segments: Segments) -> tuple[Tensor, Tensor]:
    """The ids (1 x T) of a text and its labels, -100 where nothing is trained, by the library's tokenizer."""
    text = "".join(part for part, _ in segments)
    spans, at = [], 0
    for part, trained in segments:
        spans += [(at, at + len(part))] if trained else []
        at += len(part)
    coded = AutoTokenizer.from_pretrained(base)(text, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        one if any(low <= start < high for low, high in spans) else -100
        for one, (start, _) in zip(coded["input_ids"], coded["offset_mapping"], strict=True)
    ]
    return torch.tensor([coded["input_ids"]]), torch.tensor([labels])


@torch.no_grad()
def summed(model: Any, base: Path, segments: Segments) -> tuple[float, int]:
    """The library's own loss of a text, times its trained tokens, and these."""
    ids, labels = labelled(base, segments)
    count = int((labels[:, 1:] != -100).sum())
    return float(model(input_ids=ids, labels=labels).loss) * count, count


def net_of(base: Path, kind: str) -> Net:
    model = load_model(base, torch.float32)
    return FastNet(FastLlama(model), 5, None) if kind == "fast" else PeftNet(model, 5, None)


def library(base: Path, net: Net, folder: Path) -> Any:
    """The library's model with our adapter, as PEFT loads it."""
    save_adapter(folder, net.adapter, "tiny")
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(folder)
    ).eval()


@pytest.mark.parametrize("kind", ["fast", "library"])
def test_the_loss_of_a_file_is_the_librarys(base: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    net = perturbed(net_of(base, kind))
    objective = Supervised()
    items = objective.read(file, Renderer(load_tokenizer(base), 512), lambda line: pytest.fail(f"row {line}"))
    measured = Measured()
    for part in objective.parts(net, items):
        measured.add(part)
    model = library(base, net, tmp_path / "adapter")
    found = [summed(model, base, segments) for segments in TEXTS]
    assert [item.targets for item in items] == [count for _, count in found]
    assert measured.loss == pytest.approx(sum(one for one, _ in found) / sum(n for _, n in found), rel=1e-5)


@pytest.mark.parametrize("kind", ["fast", "library"])
def test_the_loss_of_preferences_is_that_of_the_librarys_two_models(
    base: Path, tmp_path: Path, kind: str
) -> None:
    row = {
        "input": {"messages": [SYSTEM, {"role": "user", "content": "A fee?"}]},
        "preferred_output": [{"role": "assistant", "content": "No."}],
        "non_preferred_output": [{"role": "assistant", "content": "Please pay a fee today."}],
    }
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(row) + "\n")
    net = net_of(base, kind)
    objective = Dpo(0.3, net)
    perturbed(net)
    items = objective.read(file, Renderer(load_tokenizer(base), 512), lambda line: pytest.fail(f"row {line}"))
    (part,) = objective.parts(net, items)
    model, frozen = library(base, net, tmp_path / "adapter"), load_model(base, torch.float32)
    asked = TEXTS[2][0]
    chosen, rejected = [asked, TEXTS[2][1]], [asked, ("Please pay a fee today.<|im_end|>", True)]
    gained = [
        summed(frozen, base, segments)[0] - summed(model, base, segments)[0]
        for segments in (chosen, rejected)
    ]
    margin = 0.3 * (gained[0] - gained[1])
    assert float(part.loss.detach()) == pytest.approx(float(-F.logsigmoid(torch.tensor(margin))), rel=1e-4)
    assert part.margins[0] == pytest.approx(margin, rel=1e-3, abs=1e-4)
