"""Counting tokens: the workbench beside plain tiktoken, on the same messages in one run, count by count the same.

Plain tiktoken has its texts in memory already: a loop of `encode_ordinary` in one thread, the same in as many threads
as there are cores, and `encode_ordinary_batch` on the first part of the file; the best of them is the measure. The
workbench's counter gets the same texts. The workbench begins at the lines of a dataset: decoding and the chat rule
included. Encodings are loaded before the clock starts. Cold is a cache that has seen nothing, warm one that has seen
the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from tunedesk.core.conversations import content_text
from tunedesk.core.counting.dataset_counts import dataset_tokens
from tunedesk.core.counting.message_table import TableCounter
from tunedesk.core.counting.text_counts import TextCounter
from tunedesk.core.counting.tokens import TokenCounter
from tunedesk.core.datasets.dataset import Dataset
from tunedesk.core.datasets.indexing import messages_of
from tunedesk.core.importing.storing import import_file

One = TypeVar("One", bytes, str)
ENCODINGS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}
_PART = 20_000
"""Conversations whose messages are in memory at once."""
_SHARE = 5_000
"""Messages that a thread takes at once."""


@dataclass(slots=True)
class _Times:
    """Seconds by way of counting, over so many MB of text."""

    size: float = 0.0
    messages: int = 0
    same: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, way: str, work: Callable[[], object]) -> object:
        """Do `work` and add its seconds."""
        began = time.perf_counter()
        found = work()
        self.seconds[way] = self.seconds.get(way, 0.0) + time.perf_counter() - began
        return found


def report(
    file: Path, folder: Path, encodings: Sequence[str] = tuple(ENCODINGS), every: int = 1
) -> Iterator[str]:
    """Yield the lines of the table; `folder` takes encodings and a dataset.

    Plain tiktoken counts every `every`th part of the file, so that 1 GB is done in minutes.
    """
    dataset, _ = import_file(file, folder / "datasets", name="bench")
    threads = os.cpu_count() or 1
    yield f"{file.name}: {len(dataset):,} conversations; {threads} threads; plain tiktoken on 1 part of {every}"
    for name in encodings:
        counter = TokenCounter(ENCODINGS[name], folder / "encodings")
        times = _texts(dataset, counter, threads, every)
        rates = {
            way: times.size / seconds for way, seconds in times.seconds.items() if way.startswith("plain")
        }
        best = max(rates.values())
        size = _size(dataset)
        yield f"\n{name}: {times.messages:,} messages, {times.size:.1f} MB of text ({size:.1f} MB in all)"
        yield f"{'way':<52}{'MB/s':>8}{'ratio':>8}  same counts"
        for way, seconds in times.seconds.items():
            yield _line(way, times.size / seconds, best, times.same)
        yield from _conversations(dataset, counter, size, best)


def _texts(dataset: Dataset, counter: TokenCounter, threads: int, every: int) -> _Times:
    """Time plain tiktoken and the workbench's counter over the same texts, part by part."""
    times, known, bulk = _Times(), TextCounter(counter.tiktoken), TableCounter(counter)
    for one in (known, bulk):
        one.expect(1 << 30)
    encoding, encode = counter.tiktoken, counter.tiktoken.encode_ordinary
    for number, (lines, texts) in enumerate(_parts(dataset)):
        if number % every:
            continue
        times.size += _bytes(texts) / 1e6
        times.messages += len(texts)
        share = texts[:_SHARE]
        batch = _seconds(lambda: encoding.encode_ordinary_batch(share, num_threads=threads))  # noqa: B023
        way = "plain tiktoken, encode_ordinary_batch"
        times.seconds[way] = times.seconds.get(way, 0.0) + batch * _bytes(texts) / _bytes(share)
        expected = times.add("plain tiktoken, 1 thread", lambda: [len(encode(text)) for text in texts])  # noqa: B023
        times.add(
            f"plain tiktoken, {threads} threads",
            lambda: _threaded(texts, threads, lambda part: [len(encode(text)) for text in part]),  # noqa: B023
        )
        found = times.add(
            f"workbench's counter, cold, {threads} threads",
            lambda: _threaded(texts, threads, lambda part: known.count(part).to_list()),  # noqa: B023
        )
        times.add(
            f"workbench's counter, warm, {threads} threads",
            lambda: _threaded(texts, threads, lambda part: known.count(part).to_list()),  # noqa: B023
        )
        times.add(
            f"workbench, from lines of JSON, cold, {threads} threads",
            lambda: _threaded(lines, threads, lambda part: list(bulk.count_lines(part).total)),  # noqa: B023
        )
        times.same = times.same and found == expected
    return times


def _conversations(dataset: Dataset, counter: TokenCounter, size: float, best: float) -> Iterator[str]:
    """Time the workbench from the lines of the dataset to tokens by conversation."""
    bulk, rule = TableCounter(counter), f"bench-{counter.encoding.name}"
    bulk.expect(1 << 30)
    began = time.perf_counter()
    found = dataset_tokens(dataset, rule, lambda: bulk)
    cold = time.perf_counter() - began
    sample = range(0, len(dataset), max(1, len(dataset) // 2_000))
    same = all(found.total[at] == counter.row(msgspec.json.decode(dataset.raw(at))) for at in sample)
    yield _line("workbench, conversations, cold", size / cold, best, same)
    seconds = _seconds(lambda: dataset_tokens(dataset, f"{rule}-warm", lambda: bulk))
    yield _line("workbench, conversations, warm", size / seconds, best, same)
    seconds = _seconds(lambda: dataset_tokens(dataset, rule, lambda: bulk))
    yield _line("workbench, reopened", size / seconds, best, same)


def _parts(dataset: Dataset) -> Iterator[tuple[list[bytes], list[str]]]:
    """Yield the lines of some thousand conversations, and the texts of all their messages."""
    for start in range(0, len(dataset), _PART):
        lines = [dataset.raw(at) for at in range(start, min(start + _PART, len(dataset)))]
        yield (
            lines,
            [
                content_text(message.get("content"))
                for row in map(msgspec.json.decode, lines)
                for message in messages_of(row)
                if isinstance(message, dict)
            ],
        )


def _size(dataset: Dataset) -> float:
    return sum(_bytes(texts) for _, texts in _parts(dataset)) / 1e6


def _bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _threaded(texts: list[One], threads: int, count: Callable[[list[One]], list[int]]) -> list[int]:
    """Count by several threads, each over its share."""
    parts = [texts[at : at + _SHARE] for at in range(0, len(texts), _SHARE)]
    with ThreadPoolExecutor(threads) as pool:
        return [one for part in pool.map(count, parts) for one in part]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _line(name: str, rate: float, plain: float, same: bool) -> str:
    return f"{name:<52}{rate:>8.1f}{rate / plain:>8.1f}  {'yes' if same else 'NO'}"
