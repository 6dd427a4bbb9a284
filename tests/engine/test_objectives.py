"""Preferences are learnt by the formula, computed here with plain transformers, PEFT and one row at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests import tiny_model
from tunedesk.engine import batches
from tunedesk.engine.adapters import Adapter, save_adapter
from tunedesk.engine.batches import Renderer, RowError
from tunedesk.engine.fast_llama import FastLlama
from tunedesk.engine.models import load_model, load_tokenizer
from tunedesk.engine.nets import FastNet, Net, PeftNet
from tunedesk.engine.objectives import Dpo, Measured, Pair
from tunedesk.engine.training_state import named_parameters

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # by PEFT
BETA = 0.3


def fits(line: int) -> None:
    raise AssertionError(f"row {line} was taken for too long")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("models") / "tiny")


def row(number: int) -> dict[str, Any]:
    return {
        "input": {
            "messages": [
                {"role": "system", "content": "You are a bank."},
                {"role": "user", "content": "card?"},
                {"role": "assistant", "content": "Which one?"},
                {"role": "user", "content": f"number {number}" * number},
            ]
        },
        "preferred_output": [{"role": "assistant", "content": "It was lost." * number}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }


@pytest.fixture(scope="module")
def pairs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in (1, 2, 3)))
    net = FastNet(FastLlama(load_model(folder, torch.float32)), 5, None)
    return Dpo(BETA, net).read(path, Renderer(load_tokenizer(folder), 512), fits)


def randomised(adapter: Adapter, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in named_parameters(adapter).values():
            tensor.copy_(torch.randn(tensor.shape) * 0.05)


def start(kind: str, folder: Path) -> Net:
    model = load_model(folder, torch.float32)
    net: Net = FastNet(FastLlama(model), 5, None) if kind == "fast" else PeftNet(model, 5, None)
    randomised(net.adapter, 1)
    return net


def by_hand(
    folder: Path, pairs: list[Pair], before: Path, now: Path
) -> tuple[Tensor, list[float], dict[str, Tensor]]:
    """Mean loss, margins and gradients by the formula as it stands in the paper."""

    def log_probability(model: Any, ids: tuple[int, ...], trained: tuple[bool, ...]) -> Tensor:
        logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return torch.stack([logits[n - 1, ids[n]] for n in range(len(ids)) if trained[n]]).sum()

    def loaded(adapter: Path, trainable: bool) -> Any:
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return PeftModel.from_pretrained(base, adapter, is_trainable=trainable).eval()

    policy, frozen = loaded(now, True), loaded(before, False)
    losses, margins = [], []
    for pair in pairs:
        d = []
        for example in (pair.chosen, pair.rejected):
            with torch.no_grad():
                old = log_probability(frozen, example.ids, example.trained)
            d.append(log_probability(policy, example.ids, example.trained) - old)
        losses.append(-torch.log(torch.sigmoid(BETA * (d[0] - d[1]))))
        margins.append(float((BETA * (d[0] - d[1])).detach()))
    loss = torch.stack(losses).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    grads = {
        name.removeprefix("base_model.model.")
        .replace(".default.weight", "")
        .replace(".lora_", "."): tensor.grad
        for name, tensor in policy.named_parameters()
        if tensor.grad is not None
    }
    return loss.detach(), margins, grads


@pytest.mark.parametrize("kind", ["fast", "peft"])
@pytest.mark.parametrize("limit", [2048, 60])
def test_the_loss_of_preferences_and_its_gradients_are_those_of_the_formula(
    folder: Path, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int
) -> None:
    monkeypatch.setattr(batches.chunks, "__defaults__", (limit,))  # all pairs at once, and one by one
    net = start(kind, folder)
    objective = Dpo(BETA, net)
    save_adapter(tmp_path / "before", net.adapter, "tiny")
    randomised(net.adapter, 2)
    save_adapter(tmp_path / "now", net.adapter, "tiny")
    measured = Measured()
    for part in objective.parts(net, pairs):
        part.loss.backward()  # type: ignore[no-untyped-call]
        measured.add(part)

    loss, margins, grads = by_hand(folder, pairs, tmp_path / "before", tmp_path / "now")
    assert measured.loss == pytest.approx(float(loss), rel=1e-4)
    assert sorted(measured.margins) == pytest.approx(sorted(margins), rel=1e-3, abs=1e-5)
    assert measured.named("train")["train_reward_margin"] == pytest.approx(
        sum(margins) / 3, rel=1e-3, abs=1e-5
    )
    live = named_parameters(net.adapter)
    assert live.keys() == grads.keys()
    for name, tensor in live.items():
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, grads[name], rtol=1e-3, atol=1e-5)


def test_only_the_two_answers_of_a_preference_are_trained(folder: Path, pairs: list[Pair]) -> None:
    words = load_tokenizer(folder)
    pair = pairs[1]
    for example, text in (
        (pair.chosen, "It was lost.It was lost.<|im_end|>"),
        (pair.rejected, "No.<|im_end|>"),
    ):
        trained = [token for token, on in zip(example.ids, example.trained, strict=True) if on]
        assert words.decode(trained) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": None}, "no input"),
        ({"preferred_output": []}, "preferred_output is not a list of one message"),
    ],
)
def test_a_row_that_is_no_preference_is_named(
    folder: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(1)) + "\n\n" + json.dumps({**row(1), **change}) + "\n")
    net = FastNet(FastLlama(load_model(folder, torch.float32)), 5, None)
    with pytest.raises(RowError, match=f"row 3: .*{words}"):
        Dpo(BETA, net).read(path, Renderer(load_tokenizer(folder), 512), fits)
