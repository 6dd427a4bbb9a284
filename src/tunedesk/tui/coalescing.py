"""Fewer, larger pieces from a fast producer, so that neither the message queue nor a slow link is flooded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

Item = TypeVar("Item")


async def coalesced(items: AsyncIterator[Item], seconds: float) -> AsyncIterator[list[Item]]:
    """Yield what `items` brings in lists, in order, at most one each `seconds`; the first comes after that time.

    What it brought before an error is yielded before the error is raised.
    """
    queue: asyncio.Queue[Item | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for item in items:
                queue.put_nowait(item)
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(pump())
    try:
        ended = False
        while not ended:
            batch = [await queue.get()]
            if batch[0] is not None:
                await asyncio.sleep(seconds)
            while not queue.empty():
                batch.append(queue.get_nowait())
            ended = batch[-1] is None
            if told := [item for item in batch if item is not None]:
                yield told
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
