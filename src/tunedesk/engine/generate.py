"""Writing replies: base models stay in memory and adapters are applied unmerged, so switching them costs nothing."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunedesk.engine.adapters import load_adapter
from tunedesk.engine.batches import Renderer
from tunedesk.engine.fast_llama import FastLlama, Stacked, fits
from tunedesk.engine.fetch import Progress
from tunedesk.engine.models import (
    best_device,
    context_length,
    fastest_dtype,
    load_model,
    load_tokenizer,
    ready_model,
    silence,
    stop_ids,
)
from tunedesk.engine.streams import Pick, Picked, Read, Streams
from tunedesk.engine.wire import GenerationChunk, GenerationRequest
from tunedesk.errors import DataError, EngineError, TunedeskError

THREADS = 2
"""Few, so that a training job on the same machine goes on."""
_BASES_KEPT = 2
_ADAPTERS_KEPT = 8
_PRODUCTS_KEPT = "64"
_GIVE_BACK_SECONDS = 30.0
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
_UNFINISHED = "\ufffd"
"""What a decoder gives for a character whose bytes are not all there yet."""

_NEVER = -9999.0
"""What OpenAI tells in place of an endless logprob."""
_NO_ADAPTER: Stacked = {}


@dataclass(slots=True)
class _Base:
    """A loaded base model with the adapters last used on it."""

    renderer: Renderer
    stops: frozenset[int]
    model: FastLlama | PreTrainedModel | PeftModel
    """The fast form where the model has one, else the library's."""
    multiplier: ThreadPoolExecutor
    """The one thread that multiplies (see ModelGenerator)."""
    stacked: OrderedDict[Path, Stacked] = field(default_factory=OrderedDict)
    """Adapters in the fast form, the last used at the end."""
    streams: Streams | None = None
    """The open conversations of the fast form."""

    def __post_init__(self) -> None:
        if isinstance(self.model, FastLlama):
            self.streams = Streams(self.model, self.multiplier)

    def reader(self, adapter: Path | None, capacity: int) -> AbstractContextManager[Read]:
        """Open a conversation with the base (and `adapter`) of up to `capacity` tokens. Raises EngineError."""
        if self.streams is not None:
            stacked = self.multiplier.submit(self._stacked, adapter).result()
            return self.streams.opened(capacity, stacked)
        past = DynamicCache()

        def read(ids: Tensor, pick: Pick) -> Picked:
            return self.multiplier.submit(self._library_read, ids, past, adapter, pick).result()

        return nullcontext(read)

    @torch.no_grad()
    def _stacked(self, adapter: Path | None) -> Stacked:
        if adapter is None:
            return _NO_ADAPTER
        if adapter not in self.stacked:
            assert isinstance(self.model, FastLlama)
            self.stacked[adapter] = self.model.stack(load_adapter(adapter))
        self.stacked.move_to_end(adapter)
        if len(self.stacked) > _ADAPTERS_KEPT:
            self.stacked.popitem(last=False)
        return self.stacked[adapter]

    @torch.inference_mode()
    def _library_read(self, ids: Tensor, past: DynamicCache, adapter: Path | None, pick: Pick) -> Picked:
        """Read by the library's forward; PEFT knows one active adapter a model, so reads take turns."""
        model = self._with_adapter(adapter)
        output = model(input_ids=ids[None].to(model.device), past_key_values=past, use_cache=True)
        return pick(output.logits[0, -1].float().cpu())

    def _with_adapter(self, adapter: Path | None) -> PreTrainedModel | PeftModel:
        """Return the library's model with `adapter` switched on, or with none."""
        assert not isinstance(self.model, FastLlama)
        if adapter is None:
            if isinstance(self.model, PeftModel):
                self.model.base_model.disable_adapter_layers()
            return self.model
        name = str(adapter).replace(".", "_")  # PEFT names modules by it
        if not isinstance(self.model, PeftModel):
            self.model = PeftModel.from_pretrained(self.model, str(adapter), adapter_name=name)
        elif name not in self.model.peft_config:
            self.model.load_adapter(str(adapter), adapter_name=name)
        self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(name)
        return self.model


class ModelGenerator:
    """Writes replies with the models of this machine; a base is loaded when the first reply is asked of it.

    All that multiplies is done in one thread: each that does gets helpers and scratch memory of its own for good, and
    where there are more helpers than cores OpenMP puts them to sleep between products, which takes half of the speed.
    """

    def __init__(self) -> None:
        self._multiplier = ThreadPoolExecutor(1, "multiply")
        self._lock = threading.Lock()
        self._bases: OrderedDict[Path, _Base] = OrderedDict()
        self._given_back = 0.0

    def stream(self, request: GenerationRequest) -> Iterator[GenerationChunk]:
        """Yield the reply as it is written; close() ends it before the next token.

        Raises ValueError when the messages do not fit the model, EngineError when it cannot be loaded.
        """
        try:
            base = self._loaded(request.base)
            prompt = base.renderer.prompt(request.messages, request.tools)
            context = base.renderer.context
            if len(prompt) >= context:
                raise DataError(f"the messages are {len(prompt)} tokens long and this model reads {context}")
            room = min(request.max_tokens, context - len(prompt))
            reader = base.reader(request.adapter, len(prompt) + room)
        except DataError as error:
            raise ValueError(error.message) from error
        except EngineError:
            raise
        except TunedeskError as error:
            raise EngineError(error.message, error.hint) from error
        try:
            with reader as read:
                yield from _reply(base, request, prompt, room, read)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        """Now and then return freed memory to the system, which the C library keeps in pieces (glibc; some ms)."""
        if time.monotonic() - self._given_back > _GIVE_BACK_SECONDS and _TRIM is not None:
            self._given_back = time.monotonic()
            _TRIM(0)

    def _loaded(self, folder: Path) -> _Base:
        with self._lock:
            if folder not in self._bases:
                self._bases[folder] = self._load(folder)
            self._bases.move_to_end(folder)
            if len(self._bases) > _BASES_KEPT:
                self._bases.popitem(last=False)
            return self._bases[folder]

    def _load(self, folder: Path) -> _Base:
        """Load a base model (the default one is fetched first if need be). Raises EngineError."""
        silence()
        _keep_few_products()

        def unheard(_: Progress) -> None: ...

        folder = ready_model(folder.name, [folder.parent], unheard)
        return self._multiplier.submit(_loaded, folder, self._multiplier).result()


def _keep_few_products() -> None:
    """Have oneDNN keep fewer compiled products than its 1,024: every length of a prompt has its own, of 100 kB each.

    It reads the variables at its first product; the trainer, to which they are not handed on, keeps its own.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        if name not in os.environ:
            os.putenv(name, _PRODUCTS_KEPT)


def _loaded(folder: Path, multiplier: ThreadPoolExecutor) -> _Base:
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    tokenizer = load_tokenizer(folder)
    device = best_device()
    dtype = fastest_dtype(device, rows=1)
    model = load_model(folder, dtype, device)
    fast = FastLlama(model) if device == "cpu" and fits(model) else model
    renderer = Renderer(tokenizer, context_length(folder))
    return _Base(renderer, stop_ids(folder, tokenizer), fast, multiplier)


def _reply(
    base: _Base, request: GenerationRequest, prompt: list[int], room: int, read: Read
) -> Iterator[GenerationChunk]:
    """Yield the pieces of a reply; a piece never ends within a character or within what may become a stop text."""
    random = torch.Generator()
    if request.seed is None:
        random.seed()
    else:
        random.manual_seed(request.seed % 2**63)
    ids: list[int] = []
    sent, text, reason = 0, "", "length"
    told: list[dict[str, Any]] = []

    def pick(logits: Tensor) -> Picked:
        token = _choose(steered(logits, request, ids), request.temperature, request.top_p, random)
        if request.top_logprobs is None or token in base.stops:
            return token, None
        return token, _chance(base, ids, token, logits, request.top_logprobs)

    token, chance = read(torch.tensor(prompt), pick)
    while len(ids) < room:
        if token in base.stops:
            reason = "stop"
            break
        told += [chance] if chance else []
        ids.append(token)
        text = base.renderer.decode(ids)
        ends = [place for stop in request.stop if stop and (place := text.find(stop)) >= 0]
        if ends:
            text, reason = text[: min(ends)], "stop"
            break
        ready = len(text) - _held_back(text, request.stop)
        if ready > sent:
            yield GenerationChunk(text[sent:ready], None, len(prompt), len(ids), told)
            sent, told = ready, []
        if len(ids) < room:
            token, chance = read(torch.tensor([token]), pick)
    yield GenerationChunk(text[sent:], reason, len(prompt), len(ids), told)


def steered(logits: Tensor, request: GenerationRequest, ids: Sequence[int]) -> Tensor:
    """Return the logits (V) with the request's biases, and its penalties for the tokens `ids` written so far."""
    penalised = bool(ids) and (request.presence_penalty or request.frequency_penalty)
    if not (penalised or request.logit_bias):
        return logits
    logits = logits.clone()
    if penalised:
        tokens, counts = torch.unique(torch.tensor(ids), return_counts=True)
        logits[tokens] -= request.presence_penalty + request.frequency_penalty * counts.to(logits.dtype)
    for token, bias in request.logit_bias.items():
        if token < len(logits):
            logits[token] += bias
    return logits


def _chance(base: _Base, ids: Sequence[int], token: int, logits: Tensor, most: int) -> dict[str, Any]:
    """Return OpenAI's object of how likely a token was, with the `most` likeliest beside it."""
    chances = torch.log_softmax(logits.float(), -1)
    tail = list(ids[-8:])
    before = base.renderer.decode(tail)

    def shape(one: int) -> dict[str, Any]:
        text = base.renderer.decode([*tail, one])
        text = text[len(before) :] if text.startswith(before) else base.renderer.decode([one])
        octets = None if _UNFINISHED in text else list(text.encode())
        return {"token": text, "logprob": max(_NEVER, float(chances[one])), "bytes": octets}

    return {**shape(token), "top_logprobs": [shape(one) for one in chances.topk(most).indices.tolist()]}


def _held_back(text: str, stops: list[str]) -> int:
    """Count the characters at the end that may not be sent yet."""
    if text.endswith(_UNFINISHED):
        return len(text) - len(text.rstrip(_UNFINISHED))
    longest = max((len(stop) for stop in stops), default=0)
    tails = (size for size in range(min(longest - 1, len(text)), 0, -1))
    return next((size for size in tails if any(stop.startswith(text[-size:]) for stop in stops)), 0)


def _choose(logits: Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """Return the likeliest token at temperature 0, else one drawn from the smallest set that holds `top_p`."""
    if temperature == 0:
        return int(logits.argmax())
    chances, tokens = torch.softmax(logits / temperature, -1).sort(descending=True)
    chances[chances.cumsum(-1) - chances >= top_p] = 0
    chances[0] = chances[0].clamp_min(torch.finfo(chances.dtype).tiny)  # top_p 0 still leaves the likeliest
    return int(tokens[torch.multinomial(chances, 1, generator=random)])
