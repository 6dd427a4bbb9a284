"""The fast forward gives what plain transformers and PEFT give."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests import tiny_model
from tunedesk.engine import attention, layers
from tunedesk.engine.adapters import Adapter, load_adapter, save_adapter
from tunedesk.engine.batches import Example
from tunedesk.engine.fast_llama import FastLlama, Stretch, fits
from tunedesk.engine.models import load_model, load_net
from tunedesk.engine.nets import FastNet, Net, PeftNet
from tunedesk.engine.training_state import named_parameters
from tunedesk.errors import EngineError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # by PEFT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """Five rows with eleven tokens in common, of uneven lengths, about half of each trained."""
    draw = random.Random(3)
    made = []
    for line in range(1, 6):
        ids = [*range(20, 31), *(draw.randrange(3, 300) for _ in range(draw.randrange(5, 60)))]
        made.append(
            Example(line, tuple(ids), (*(n > 12 and draw.random() < 0.6 for n in range(len(ids) - 1)), True))
        )
    return made


def perturbed(net: Net) -> Net:
    """Give B values, so that every gradient counts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in named_parameters(net.adapter).values():
            tensor.copy_(torch.randn(tensor.shape) * 0.05)
    return net


def outcome(net: Net, rows: list[Example]) -> tuple[Tensor, dict[str, Tensor]]:
    losses, _ = net.losses(rows)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach(), {
        name: tensor.grad.clone()
        for name, tensor in named_parameters(net.adapter).items()
        if tensor.grad is not None
    }


def assert_same(left: tuple[Tensor, dict[str, Tensor]], right: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(left[0], right[0], rtol=2e-4, atol=2e-5)
    assert left[1].keys() == right[1].keys()
    for name, grad in left[1].items():
        torch.testing.assert_close(grad, right[1][name], rtol=1e-3, atol=2e-4)


def reference(folder: Path, rows: list[Example]) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and gradients by the library alone: one row at a time, nothing packed, nothing padded."""
    net = perturbed(PeftNet(load_model(folder, torch.float32), 5, None))
    parts = [net.losses([row]) for row in rows]
    torch.cat([losses for losses, _ in parts]).sum().backward()  # type: ignore[no-untyped-call]
    grads = {
        name: tensor.grad.clone()
        for name, tensor in named_parameters(net.adapter).items()
        if tensor.grad is not None
    }
    return torch.cat([losses.detach() for losses, _ in parts]), grads


@pytest.mark.parametrize("share", [True, False])
def test_packed_and_prefix_shared_rows_train_as_the_library_does(
    folder: Path, rows: list[Example], share: bool
) -> None:
    net = perturbed(FastNet(FastLlama(load_model(folder, torch.float32)), 5, None, share_prefix=share))
    assert_same(outcome(net, rows), reference(folder, rows))


def test_padded_rows_train_as_single_ones(folder: Path, rows: list[Example]) -> None:
    net = perturbed(PeftNet(load_model(folder, torch.float32), 5, None))
    assert_same(outcome(net, rows), reference(folder, rows))


@pytest.mark.parametrize(("kept", "passes"), [(1 << 40, 1), (0, 2)])
def test_layers_are_computed_again_when_they_take_too_much_memory(
    folder: Path, rows: list[Example], kept: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.engine.nets._KEPT", kept)
    model = load_model(folder, torch.float32)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: seen.append(1))
    net = perturbed(PeftNet(model, 5, None))
    assert_same(outcome(net, rows), reference(folder, rows))
    assert len(seen) == passes


def test_dropout_of_the_base_stays_off_while_layers_are_computed_again(
    tmp_path: Path, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunedesk.engine.nets._KEPT", 0)
    config = GPTNeoXConfig(
        vocab_size=512,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        hidden_dropout=0.5,
        attention_dropout=0.5,
    )
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "neox")
    nets = [perturbed(PeftNet(load_model(tmp_path / "neox", torch.float32), 5, None)) for _ in range(2)]
    assert_same(*(outcome(net, rows) for net in nets))


def test_a_base_in_four_bits_trains_near_the_whole_one(folder: Path, rows: list[Example]) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    net, size = load_net(folder, torch.float32, "cpu", 5, None, four_bit=True)
    whole, all_of_it = load_net(folder, torch.float32, "cpu", 5, None)
    losses, grads = outcome(perturbed(net), rows)
    expected, _ = outcome(perturbed(whole), rows)
    assert isinstance(net, PeftNet)
    assert size == all_of_it
    assert 0 < (losses - expected).abs().mean() < 0.05 * expected.mean()
    assert any(grad.abs().sum() > 0 for grad in grads.values())


def test_four_bits_without_the_library_are_refused_with_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match="bitsandbytes") as caught:
        load_model(folder, torch.float32, four_bit=True)
    assert "quantized" in caught.value.hint


def test_rows_longer_than_a_block_train_the_same(
    folder: Path, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 7)
    monkeypatch.setattr(attention, "KEPT_SCORES", 0)
    monkeypatch.setattr(layers, "HEAD_BLOCK", 5)
    monkeypatch.setattr("tunedesk.engine.nets.CHUNK_TOKENS", 10)
    net, _ = load_net(folder, torch.float32, "cpu", 5, None)
    assert_same(outcome(perturbed(net), rows), reference(folder, rows))


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
def test_relatives_of_llama_are_exact_too(tmp_path: Path, rows: list[Example], family: str) -> None:
    shape = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model: Any
    if family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.k_proj.bias)
            torch.nn.init.normal_(layer.self_attn.v_proj.bias)
    else:
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=None, head_dim=24))
    model.save_pretrained(tmp_path / family)
    net, _ = load_net(tmp_path / family, torch.float32, "cpu", 5, None)
    assert isinstance(net, FastNet)
    assert_same(outcome(perturbed(net), rows), reference(tmp_path / family, rows))


def test_a_sliding_window_is_left_to_the_library(tmp_path: Path) -> None:
    shape = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    assert not fits(MistralForCausalLM(MistralConfig(**shape, sliding_window=8)))


def test_a_saved_adapter_loads_with_peft_and_gives_the_same_logits(
    folder: Path, rows: list[Example], tmp_path: Path
) -> None:
    net = perturbed(FastNet(FastLlama(load_model(folder, torch.float32)), 5, None))
    save_adapter(tmp_path / "adapter", net.adapter, "tiny")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    row = rows[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        losses, _ = net.losses([row])
    wanted = [-logits[n - 1, row.ids[n]] for n in range(len(row.ids)) if row.trained[n]]
    torch.testing.assert_close(losses, torch.stack(wanted), rtol=2e-4, atol=2e-5)
    again = load_adapter(tmp_path / "adapter")
    assert again.pairs.keys() == net.adapter.pairs.keys()
    assert again.scale == 2.0


def test_an_adapter_of_another_model_is_refused(folder: Path) -> None:
    llama = FastLlama(load_model(folder, torch.float32))
    with pytest.raises(EngineError, match="does not fit"):
        llama.stack(Adapter({"model.layers.9.self_attn.q_proj": (torch.zeros(4, 64), torch.zeros(64, 4))}))


def test_the_cached_forward_continues_as_the_whole_text_read_at_once(folder: Path) -> None:
    llama = FastLlama(load_model(folder, torch.float32))
    ids = torch.arange(30, 60)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(input_ids=ids[None]).logits[0]
    cache = llama.new_cache(40)
    first, second, third = (
        llama.read([Stretch(part, cache, {})])[0] for part in (ids[:20], ids[20:21], ids[21:])
    )
    for got, place in ((first, 19), (second, 20), (third, 29)):
        torch.testing.assert_close(got.clone(), plain[place].detach(), rtol=1e-3, atol=1e-4)


def test_conversations_read_together_as_each_alone_each_with_its_adapter(folder: Path) -> None:
    llama = FastLlama(load_model(folder, torch.float32))
    tuned = llama.stack(perturbed(FastNet(llama, 5, None)).adapter)
    parts = [(torch.arange(30, 60), {}), (torch.arange(40, 45), tuned), (torch.arange(90, 91), tuned)]
    alone = []
    for ids, lora in parts:
        cache = llama.new_cache(40)
        alone.append([llama.read([Stretch(part, cache, lora)])[0] for part in (ids, torch.tensor([7]))])
    caches = [llama.new_cache(40) for _ in parts]
    for step in range(2):
        stretches = [
            Stretch(torch.tensor([7]) if step else ids, cache, lora)
            for (ids, lora), cache in zip(parts, caches, strict=True)
        ]
        for got, wanted in zip(llama.read(stretches), alone, strict=True):
            torch.testing.assert_close(got.clone(), wanted[step].clone(), rtol=1e-3, atol=1e-4)
