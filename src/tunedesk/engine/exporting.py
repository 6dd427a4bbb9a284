"""Tuned models in the forms that other programs read, and adapters of theirs judged before they are taken in.

Run as a process of its own (`python -m tunedesk.engine.exporting FORM BASE ADAPTER OUT`), so that the server neither
holds a second model in memory nor waits: exit 0, or 1 with one line that says why on standard error.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tunedesk.engine.adapters import Adapter, load_adapter, save_adapter
from tunedesk.engine.convert import GGUF_NAMES
from tunedesk.errors import EngineError, TunedeskError

_GGUF_TYPES = ("llama", "mistral")
"""Values of `model_type` whose tensors llama.cpp knows as its architecture `llama`."""


def export_peft(base: Path, adapter: Path, out: Path) -> None:
    """Write the adapter as a folder that PEFT reads, naming its base."""
    save_adapter(out, load_adapter(adapter), base.name)


def export_merged(base: Path, adapter: Path, out: Path) -> None:
    """Write the base model with the adapter worked into its weights: a folder that needs no PEFT.

    File by file of the base, each tensor in its own type, so that memory stays at one file. Raises EngineError when
    a matrix of the adapter has no place in the base.
    """
    loaded = load_adapter(adapter)
    left = dict(loaded.pairs)
    out.mkdir()
    for source in sorted(base.iterdir()):
        if source.suffix == ".safetensors":
            tensors = _merged(source, left, loaded.scale)
            save_file(tensors, out / source.name, metadata={"format": "pt"})
        elif source.is_file() and not source.name.startswith("."):
            shutil.copyfile(source, out / source.name)
    if left:
        raise EngineError(f"the adapter changes {next(iter(left))}, which {base.name} does not have")


def _merged(source: Path, left: dict[str, tuple[Tensor, Tensor]], scale: float) -> dict[str, Tensor]:
    """Return the tensors of one file with their part of the adapter added, which is taken out of `left`."""
    tensors = {}
    with safe_open(source, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dictionary
            tensor = file.get_tensor(name)
            pair = left.pop(name.removesuffix(".weight"), None)
            if pair is not None:
                a, b = pair
                tensor = (tensor.float() + scale * (b @ a)).to(tensor.dtype)
            tensors[name] = tensor
    return tensors


def export_gguf(base: Path, adapter: Path, out: Path) -> None:
    """Write the adapter as one GGUF file, which llama.cpp puts on a GGUF of the same base (`--lora`).

    Raises EngineError for a base that is not Llama-type, whose tensor names are not known here.
    """
    config: dict[str, Any] = json.loads((base / "config.json").read_bytes())
    if config.get("model_type") not in _GGUF_TYPES:
        raise EngineError(
            f"{base.name} is of the type {config.get('model_type')!r}; only Llama-type adapters are written as GGUF",
            "export it as peft or merged, and convert that with llama.cpp's own script",
        )
    loaded = load_adapter(adapter)
    heads = {
        "attn_q": int(config["num_attention_heads"]),
        "attn_k": int(config.get("num_key_value_heads") or config["num_attention_heads"]),
    }
    names = {theirs: ours for ours, theirs in GGUF_NAMES.items()}
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(loaded.scale * loaded.rank))
    for module, (a, b) in loaded.pairs.items():
        layer, _, linear = module.removeprefix("model.layers.").partition(".")
        if linear not in names or not layer.isdecimal():
            raise EngineError(f"the adapter changes {module}, which has no name in GGUF")
        place = f"blk.{layer}.{names[linear]}.weight"
        writer.add_tensor(f"{place}.lora_a", a.numpy())
        writer.add_tensor(f"{place}.lora_b", _paired(b, heads.get(names[linear])).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _paired(rows: Tensor, heads: int | None) -> Tensor:
    """Order the rows of a query or key matrix as llama.cpp rotates them: halves of a head interleaved."""
    if heads is None:
        return rows.contiguous()
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape).contiguous()


def admit(base: Path, adapter: Path, out: Path) -> None:
    """Write an adapter that was made elsewhere as one of ours, if every matrix fits the base.

    Raises EngineError naming the first that does not.
    """
    loaded = load_adapter(adapter)
    if not loaded.pairs:
        raise EngineError("the adapter is empty")
    widths = _widths(base)
    for module, (a, b) in loaded.pairs.items():
        if widths.get(module) != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise EngineError(
                f"the adapter's {module} ({b.shape[0]} x {a.shape[1]}) does not fit {base.name}, "
                f"which has {'no such matrix' if module not in widths else ' x '.join(map(str, widths[module]))}",
                "name the base model that it was trained on",
            )
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise EngineError(f"the adapter's {module} holds numbers that are not finite")
    save_adapter(out, Adapter(loaded.pairs, loaded.rank, loaded.alpha, loaded.rank_stabilised), base.name)


def _widths(base: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every matrix of the base by its module's name, without reading the weights."""
    found = {}
    for source in sorted(base.glob("*.safetensors")):
        with safe_open(source, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                found[name.removesuffix(".weight")] = tuple(file.get_slice(name).get_shape())
    return found


FORMS = {"peft": export_peft, "merged": export_merged, "gguf": export_gguf, "admit": admit}
"""What the process can be asked for."""


def main(arguments: list[str]) -> int:
    """Do one export as the command line says and return the exit status."""
    form, base, adapter, out = arguments
    try:
        FORMS[form](Path(base), Path(adapter), Path(out))
    except (TunedeskError, OSError, ValueError, SafetensorError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
