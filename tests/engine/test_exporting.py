"""Tuned models in other programs' forms say the same as ours, and foreign adapters are judged before they are used."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.tiny_model import build
from tunedesk.engine import exporting
from tunedesk.engine.adapters import Adapter, load_adapter, save_adapter
from tunedesk.errors import EngineError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build(folder)
    return folder


def tuned(base: Path, folder: Path) -> Adapter:
    """Write an adapter of random matrices for every linear of the base."""
    generator = torch.Generator().manual_seed(5)
    pairs = {
        name.removesuffix(".weight"): (
            torch.randn(4, tensor.shape[1], generator=generator) / 8,
            torch.randn(tensor.shape[0], 4, generator=generator) / 8,
        )
        for name, tensor in load_file(base / "model.safetensors").items()
        if "_proj" in name
    }
    adapter = Adapter(pairs, 4, 8)
    save_adapter(folder, adapter, "tiny")
    return adapter


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([[5, 9, 40, 7, 100, 33]])).logits
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # inside peft
def test_merged_and_peft_folders_give_the_same_logits(base: Path, tmp_path: Path) -> None:
    tuned(base, tmp_path / "adapter")
    exporting.export_merged(base, tmp_path / "adapter", tmp_path / "merged")
    exporting.export_peft(base, tmp_path / "adapter", tmp_path / "peft")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    untuned = logits(plain)
    theirs = logits(peft.PeftModel.from_pretrained(plain, tmp_path / "peft"))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    assert torch.allclose(merged, theirs, atol=1e-4)
    assert not torch.allclose(merged, untuned, atol=1e-2)
    assert (tmp_path / "merged/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_gguf_holds_the_adapter_with_heads_as_llama_cpp_rotates_them(base: Path, tmp_path: Path) -> None:
    adapter = tuned(base, tmp_path / "adapter")
    exporting.export_gguf(base, tmp_path / "adapter", tmp_path / "adapter.gguf")
    reader = gguf.GGUFReader(tmp_path / "adapter.gguf")
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == 8
    tensors = {item.name: torch.from_numpy(item.data.copy()) for item in reader.tensors}
    assert len(tensors) == 2 * len(adapter.pairs)
    a, b = adapter.pairs["model.layers.0.mlp.up_proj"]
    assert torch.equal(tensors["blk.0.ffn_up.weight.lora_a"], a)
    assert torch.equal(tensors["blk.0.ffn_up.weight.lora_b"], b)
    heads = json.loads((base / "config.json").read_text())["num_attention_heads"]
    rows = adapter.pairs["model.layers.0.self_attn.q_proj"][1]
    size = rows.shape[0] // heads
    first_pair = tensors["blk.0.attn_q.weight.lora_b"][:2]
    assert torch.equal(first_pair, torch.stack([rows[0], rows[size // 2]]))


def test_a_foreign_adapter_is_taken_only_if_every_matrix_fits(base: Path, tmp_path: Path) -> None:
    adapter = tuned(base, tmp_path / "good")
    exporting.admit(base, tmp_path / "good", tmp_path / "taken")
    assert load_adapter(tmp_path / "taken").pairs.keys() == adapter.pairs.keys()
    name, (a, b) = next(iter(adapter.pairs.items()))
    refused = {
        "does not fit": {name: (a[:, :-1], b)},
        "no such matrix": {"model.layers.9.mlp.up_proj": (a, b)},
        "not finite": {name: (a * float("nan"), b)},
        "is empty": {},
    }
    for words, pairs in refused.items():
        save_adapter(tmp_path / "bad", Adapter(pairs, 4, 8), "tiny")
        with pytest.raises(EngineError, match=words):
            exporting.admit(base, tmp_path / "bad", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_told_in_one_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(base, tmp_path / "adapter")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gemma3"}')
    save_file({"x": torch.zeros(2)}, other / "model.safetensors")
    for form, words in {"gguf": "'gemma3'", "merged": "does not have"}.items():
        assert exporting.main([form, str(other), str(tmp_path / "adapter"), str(tmp_path / form)]) == 1
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1
