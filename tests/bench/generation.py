"""Replies: this engine beside plain `generate` of transformers (and PEFT), greedy, on the same prompts, in turns.

One reply at a time, with the base and with an adapter; then several at once, which plain `generate` writes one after
the other. Tokens a second count the reply's tokens over all of its time; the first token's time is told apart.
transformers is loaded as it comes (the type of the weights' file) and as f32; the better of both is the measure. Each
of the two has a process of its own: two sets of OpenMP's helpers in one process slow each other down.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, TextIteratorStreamer

from tunedesk.engine.adapters import save_adapter
from tunedesk.engine.generate import ModelGenerator
from tunedesk.engine.models import load_net, load_tokenizer, silence
from tunedesk.engine.wire import GenerationRequest

TOKENS = 48
STREAMS = 4
SYSTEM = (
    "You are Isla of Ferncastle Bank. Greet the customer, give one next step, and sign off with your name."
)
QUESTIONS = (
    "My card was swallowed by the machine at the station and I leave for Spain tomorrow morning.",
    "I was charged twice for the same hotel, once in euros and once in pounds.",
    "How do I add my daughter to the account? She turns eighteen in May.",
    "The app says my address is wrong but I moved two years ago and told you.",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What it took to write one reply, or several at once."""

    first: float
    """Seconds to the first text, the mean of several."""
    seconds: float
    tokens: int


Writer = Callable[[list[dict[str, Any]]], Reply]


def report(model: Path, folder: Path) -> Iterator[str]:
    """Yield the table of both, with their ratios."""
    silence()
    adapter = _adapter(model, folder / "adapter")
    yield f"{'':<34}{'tok/s':>9}{'first s':>9}"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        for name, path in (("base", None), ("with an adapter", adapter)):
            ours = functools.partial(_by_child, child, model, path)
            plain = [_plain(model, path, dtype) for dtype in ("auto", torch.float32)]
            found = _in_turns([ours, *plain])
            best = min(found[1:], key=lambda reply: reply.seconds / reply.tokens)
            yield from _compared(name, found[0], best)
            if path:
                together = child.submit(_together, model, path).result()
                yield from _compared(f"{STREAMS} at once, with an adapter", together, _in_a_row(plain[0]))


def _by_child(
    child: ProcessPoolExecutor, model: Path, adapter: Path | None, messages: list[dict[str, Any]]
) -> Reply:
    return child.submit(_ours, model, adapter, messages).result()


@functools.cache
def _generator() -> ModelGenerator:
    return ModelGenerator()


def _compared(name: str, ours: Reply, theirs: Reply) -> Iterator[str]:
    for who, reply in (("tunedesk", ours), ("transformers", theirs)):
        yield f"{f'{name}, {who}':<34}{reply.tokens / reply.seconds:>9.1f}{reply.first:>9.3f}"
    speed = ours.tokens / ours.seconds * theirs.seconds / theirs.tokens
    yield f"{'':<34}{f'{speed:.2f}x':>9}{f'{theirs.first / ours.first:.2f}x':>9}"


def _adapter(model: Path, folder: Path) -> Path:
    """Save an adapter that changes the model a little."""
    net, _ = load_net(model, torch.float32, "cpu", 1, None)
    torch.manual_seed(2)
    with torch.no_grad():
        for _, b in net.adapter.pairs.values():
            b.copy_(torch.randn(b.shape) * 0.002)
    save_adapter(folder, net.adapter, model.name)
    return folder


def _messages(number: int) -> list[dict[str, Any]]:
    question = QUESTIONS[number % len(QUESTIONS)]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def _ours(model: Path, adapter: Path | None, messages: list[dict[str, Any]]) -> Reply:
    began = time.perf_counter()
    first, tokens = 0.0, 0
    for chunk in _generator().stream(
        GenerationRequest(model, adapter, messages, [], TOKENS, 0.0, 1.0, 1, [])
    ):
        first = first or time.perf_counter() - began
        tokens = chunk.completion_tokens
    return Reply(first, time.perf_counter() - began, tokens)


def _plain(model: Path, adapter: Path | None, dtype: Any) -> Writer:
    tokenizer: Any = load_tokenizer(model)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    if adapter:
        net = PeftModel.from_pretrained(net, adapter)
    net.eval()

    def write(messages: list[dict[str, Any]]) -> Reply:
        began = time.perf_counter()
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        made: list[Any] = []

        def run() -> None:
            made.append(net.generate(**ids, max_new_tokens=TOKENS, do_sample=False, streamer=streamer))

        thread = Thread(target=run)
        thread.start()
        times = [time.perf_counter() - began for text in streamer if text]
        thread.join()
        count = made[0].shape[1] - ids["input_ids"].shape[1]
        return Reply(times[0], time.perf_counter() - began, count)

    return write


def _in_turns(writers: Sequence[Writer]) -> list[Reply]:
    """Let each write in turns, once unmeasured; return each one's mean."""
    found: list[list[Reply]] = [[] for _ in writers]
    for number in range(3):
        for place, write in enumerate(writers):
            found[place].append(write(_messages(number)))
    return [_mean(replies[1:]) for replies in found]


def _mean(replies: Sequence[Reply]) -> Reply:
    first = sum(reply.first for reply in replies) / len(replies)
    return Reply(first, sum(reply.seconds for reply in replies), sum(reply.tokens for reply in replies))


def _together(model: Path, adapter: Path) -> Reply:
    """Let several be written at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(STREAMS) as pool:
        replies = list(pool.map(lambda n: _ours(model, adapter, _messages(n)), range(STREAMS)))
    seconds = time.perf_counter() - began
    return Reply(
        sum(reply.first for reply in replies) / STREAMS, seconds, sum(reply.tokens for reply in replies)
    )


def _in_a_row(write: Writer) -> Reply:
    """Let several that were asked at once be written one after the other; each waits for those before it."""
    replies = [write(_messages(number)) for number in range(STREAMS)]
    ends = [0.0]
    for reply in replies:
        ends.append(ends[-1] + reply.seconds)
    waits = [start + reply.first for (start, _), reply in zip(pairwise(ends), replies, strict=True)]
    return Reply(sum(waits) / STREAMS, ends[-1], sum(reply.tokens for reply in replies))
