"""Loading base models: tokenizer, weights in the type that this machine is fast with, and the net to train."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tunedesk.engine.adapters import Adapter
from tunedesk.engine.catalogue import DEFAULT_MODEL, find_model, model_size
from tunedesk.engine.convert import convert_gguf
from tunedesk.engine.fast_llama import FastLlama, fits
from tunedesk.engine.fetch import Report, fetch_model
from tunedesk.engine.nets import FastNet, Net, PeftNet
from tunedesk.errors import EngineError

_TRIAL = (576, 3072)
"""Width of the product that the default model is mostly made of: in, out."""
_FULL = 0.7
"""Share of a GPU's free memory that weights may take; the rest is for activations."""


def ready_model(name: str, folders: Iterable[Path], report: Report) -> Path:
    """Return the folder of the base model `name`; the default one is fetched into the first folder if need be.

    Raises EngineError when there is none, or it cannot be fetched.
    """
    folders = list(folders)
    try:
        return find_model(name, folders)
    except EngineError:
        if name.casefold() != DEFAULT_MODEL.casefold() or not folders:
            raise
    return fetch_model(folders[0], report, convert_gguf)


def silence() -> None:
    """Keep the libraries' progress bars and advice to themselves."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a model folder's tokenizer and chat template. Raises EngineError."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"the tokenizer of {folder.name} cannot be loaded: {_first_line(error)}") from error
    return tokenizer


def load_model(
    folder: Path, dtype: torch.dtype, device: str = "cpu", *, four_bit: bool = False
) -> PreTrainedModel:
    """Load a model folder's weights: safetensors only, no code of the folder is run.

    Their linears are held in 4 bits when that is asked for, or when an accelerator's memory would not hold them in
    16. Raises EngineError.
    """
    four_bit = four_bit or _is_too_large(folder, device)
    packing = {"quantization_config": _four_bits(dtype), "device_map": {"": device}} if four_bit else {}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **packing,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        hint = "it must be a causal chat model in safetensors that needs no code of its own"
        raise EngineError(
            f"the base model {folder.name} cannot be loaded: {_first_line(error)}", hint
        ) from error
    model.requires_grad_(False)
    return (model if four_bit else model.to(device)).eval()


def _is_too_large(folder: Path, device: str) -> bool:
    """Return whether two bytes a parameter would leave an NVIDIA GPU too little memory to work with."""
    if device != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info()
    return 2 * model_size(folder).parameters > _FULL * free


def _four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return how linears are held in 4 bits: NormalFloat, its scales quantised too. Raises EngineError."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise EngineError(
            "a base model in 4 bits needs the package bitsandbytes", "pip install 'tunedesk[quantized]'"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
    )  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def context_length(folder: Path) -> int:
    """Return how many tokens the model can read. Raises EngineError when its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return int(config.get("text_config", config)["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the config of {folder.name} does not give max_position_embeddings") from error


def best_device() -> str:
    """Return the accelerator's name when there is one, else "cpu"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator else "cpu"


def stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a reply: the tokenizer's, those of generation_config.json, and ChatML's."""
    found = {tokenizer.eos_token_id}
    try:
        listed = json.loads((folder / "generation_config.json").read_bytes()).get("eos_token_id")
        found |= set(listed) if isinstance(listed, list) else {listed}
    except (OSError, ValueError):
        pass  # the file is optional
    chatml = tokenizer.get_vocab().get("<|im_end|>")
    return frozenset(token for token in (*found, chatml) if token is not None)


def fastest_dtype(device: str, *, rows: int = 1024) -> torch.dtype:
    """Return bf16 where it multiplies faster than f32, which is tried out on a CPU with `rows` tokens at once."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device != "cpu":
        return torch.float32
    half, whole = _seconds(torch.bfloat16, rows), _seconds(torch.float32, rows)
    worth = (
        0.8 if rows > 1 else 1.2
    )  # token by token, half the bytes to read are worth more than a trial in cache shows
    return torch.bfloat16 if half < worth * whole else torch.float32


@torch.inference_mode()
def _seconds(dtype: torch.dtype, rows: int) -> float:
    """Return the best time of a run through products as large as a few layers, so that a cache does not flatter.

    Processor time: on a busy machine the wall's would choose by chance, and a job's result would hang on it.
    """
    inner, columns = _TRIAL
    weights = [torch.ones(columns, inner, dtype=dtype) for _ in range(16 if rows == 1 else 2)]
    left = torch.ones(rows, inner, dtype=dtype)
    times = []
    for _ in range(5):
        began = time.process_time()
        for weight in weights:
            torch.nn.functional.linear(left, weight)
        times.append(time.process_time() - began)
    return min(times)


def load_net(
    folder: Path,
    dtype: torch.dtype,
    device: str,
    seed: int,
    parent: Adapter | None,
    *,
    four_bit: bool = False,
) -> tuple[Net, int]:
    """Load a base model for training on `device`, in 4 bits if asked; return the net and its number of parameters.

    Raises EngineError.
    """
    model = load_model(folder, dtype, device, four_bit=four_bit)
    size = model.num_parameters()
    if device == "cpu" and not four_bit and fits(model):
        return FastNet(FastLlama(model), seed, parent), size
    return PeftNet(model, seed, parent), size
