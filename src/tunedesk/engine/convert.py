"""The default base model out of its GGUF file: dequantised once to bf16 safetensors with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from tunedesk.errors import EngineError

_TEMPLATE = Path(__file__).with_name("chatml.jinja")
_CONTROL = 3
"""GGUF's token type of special tokens."""
GGUF_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
"""GGUF's name of each part of a layer, and the one in transformers."""


def convert_gguf(source: Path, folder: Path) -> None:
    """Write the Llama-type chat model in the GGUF file `source` into `folder` as safetensors and tokenizer.json.

    The chat template is ChatML without the system prompt that the original injects, so that a conversation is
    trained and asked as it stands. Raises EngineError when the file is of another architecture.
    """
    reader = GGUFReader(source)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    if value("general.architecture") != "llama":
        raise EngineError(f"{source.name} is no Llama-type model", "use a model folder in safetensors")
    config = LlamaConfig(
        vocab_size=len(value("tokenizer.ggml.tokens")),
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=value("llama.attention.head_count"),
        num_key_value_heads=value("llama.attention.head_count_kv"),
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        bos_token_id=value("tokenizer.ggml.bos_token_id"),
        eos_token_id=value("tokenizer.ggml.eos_token_id"),
        pad_token_id=value("tokenizer.ggml.eos_token_id"),
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    tensors = dict(_tensor(item, config) for item in reader.tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
    GenerationConfig(bos_token_id=config.bos_token_id, **ends).save_pretrained(folder)
    _tokenizer(value, config).save_pretrained(folder)


def _tensor(item: Any, config: LlamaConfig) -> tuple[str, Tensor]:
    """Return a tensor under its name in transformers, with the rows of q and k in their order there.

    llama.cpp keeps the two rotated halves of a head interleaved; transformers keeps them one after the other.
    """
    array = torch.from_numpy(dequantize(item.data, item.tensor_type).copy())
    name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}.get(
        item.name
    )
    if name is None:
        _, layer, kind, _ = item.name.split(".")
        name = f"model.layers.{layer}.{GGUF_NAMES[kind]}.weight"
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(kind)
        if heads:
            pairs = array.view(heads, array.shape[0] // heads // 2, 2, -1)
            array = pairs.transpose(1, 2).reshape(array.shape)
    return name, array.to(torch.bfloat16).contiguous()


def _tokenizer(value: Any, config: LlamaConfig) -> PreTrainedTokenizerFast:
    """Build the byte-level BPE tokenizer; digits stand alone, as its makers trained it."""
    tokens = value("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in value("tokenizer.ggml.merges")]
    core = Tokenizer(BPE({token: number for number, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    kinds = value("tokenizer.ggml.token_type")
    core.add_special_tokens(
        [
            AddedToken(t, special=True, normalized=False)
            for t, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    end = tokens[config.eos_token_id]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=tokens[config.bos_token_id], eos_token=end, pad_token=end,
        model_max_length=config.max_position_embeddings, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = _TEMPLATE.read_text("utf-8").strip()
    return tokenizer
