"""Counting tokens: the word cache beside plain tiktoken, on the same messages in one run, count by count the same.

Plain tiktoken is a loop of `encode_ordinary` over the messages in one thread, and the same in as many threads as
there are cores; the better of both is the measure. Cold is a cache that has seen nothing, warm one that has seen
the file. The last rows go from the file's lines to tokens by conversation: decoding and the chat rule included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tunedesk.core.conversations import content_text
from tunedesk.core.counting.dataset_counts import dataset_tokens
from tunedesk.core.counting.message_table import TableCounter
from tunedesk.core.counting.tokens import TokenCounter, load
from tunedesk.core.counting.word_counts import WordCounter
from tunedesk.core.datasets.dataset_writer import write_dataset
from tunedesk.core.datasets.indexing import messages_of
from tunedesk.core.importing.importers import read

ENCODINGS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}
_ROUNDS = 2
_PART = 20_000
"""Messages that a thread takes at once."""


def report(file: Path, folder: Path, encodings: Sequence[str] = tuple(ENCODINGS)) -> Iterator[str]:
    """Yield the lines of the table; `folder` takes encodings and a dataset."""
    texts, size = _messages(file)
    threads = os.cpu_count() or 1
    yield f"{file.name}: {len(texts):,} messages, {len(set(texts)):,} different, {size:.1f} MB; {threads} threads"
    for name in encodings:
        encoding = load(name, folder / "encodings")
        encode = encoding.encode_ordinary
        expected = [len(encode(text)) for text in texts]
        plain = _plain(texts, encode, threads)
        yield f"\n{name:<44}{'MB/s':>8}{'ratio':>8}  same counts"
        yield _line("plain tiktoken, the better of 1 and all threads", size, plain, plain, True)
        counter = WordCounter(encoding)
        began = time.perf_counter()
        found = counter.count(texts).to_list()
        cold = time.perf_counter() - began
        yield _line("word cache, cold, 1 thread", size, cold, plain, found == expected)
        warm = _best(lambda: counter.count(texts))  # noqa: B023
        yield _line(
            "word cache, warm, 1 thread", size, warm, plain, counter.count(texts).to_list() == expected
        )
        whole = _best(lambda: _threaded(texts, threads, WordCounter(encoding).count))  # noqa: B023
        yield _line("word cache, cold, all threads", size, whole, plain, True)
        yield from _conversations(file, folder, ENCODINGS[name], size)


def _conversations(file: Path, folder: Path, model: str, size: float) -> Iterator[str]:
    """Compare from the lines of a dataset to tokens by conversation."""
    dataset = write_dataset(read(file), folder / "datasets", name="bench", source=str(file))
    counter = TokenCounter(model, folder / "encodings")
    decode, encode = msgspec.json.decode, counter.tiktoken.encode_ordinary

    def loop() -> list[int]:
        totals = []
        for index in range(len(dataset)):
            row = decode(dataset.raw(index))
            total = 3 + counter.tools(row.get("tools"))
            for message in messages_of(row):
                text = content_text(message.get("content"))
                total += 3 + counter.text(message["role"]) + len(encode(text)) + counter.extra(message)
            totals.append(total)
        return totals

    began = time.perf_counter()
    expected = loop()
    plain = time.perf_counter() - began
    began = time.perf_counter()
    found = dataset_tokens(dataset, "bench-" + counter.encoding.name, lambda: TableCounter(counter))
    ours = time.perf_counter() - began
    yield _line("conversations, plain tiktoken", size, plain, plain, True)
    yield _line(
        "conversations, cold, as the workbench counts", size, ours, plain, list(found.total) == expected
    )
    began = time.perf_counter()
    again = dataset_tokens(dataset, "bench-" + counter.encoding.name, lambda: TableCounter(counter))
    ours = time.perf_counter() - began
    yield _line("conversations, reopened", size, ours, plain, again == found)


def _plain(texts: list[str], encode: Callable[[str], list[int]], threads: int) -> float:
    """Return the seconds of plain tiktoken, in one thread or in all, whichever takes less."""

    def count(part: list[str]) -> list[int]:
        return [len(encode(text)) for text in part]

    return min(_best(lambda: count(texts)), _best(lambda: _threaded(texts, threads, count)))


def _messages(file: Path) -> tuple[list[str], float]:
    texts = [
        content_text(message.get("content"))
        for one in read(file)
        for message in messages_of(one.row)
        if isinstance(message, dict)
    ]
    return texts, sum(len(text.encode()) for text in texts) / 1e6


def _threaded(texts: list[str], threads: int, count: Callable[[list[str]], object]) -> None:
    """Count by several threads, each over its share of the messages."""
    share = -(-len(texts) // threads)
    parts = [texts[at : at + share] for at in range(0, len(texts), share)]

    def work(part: list[str]) -> None:
        for at in range(0, len(part), _PART):
            count(part[at : at + _PART])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _line(name: str, size: float, seconds: float, plain: float, same: bool) -> str:
    return f"{name:<44}{size / seconds:>8.1f}{plain / seconds:>8.1f}  {'yes' if same else 'NO'}"
