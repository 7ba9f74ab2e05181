"""A time limit that counts only the time in which the event loop ran."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

#: Seconds of a step of waiting.
STEP = 0.1


async def within_loop_time(seconds: float, work: Awaitable[T]) -> T:
    """The result of `work`. Raises what it raises, and asyncio.TimeoutError.

    Importing a driver blocks the loop for seconds on a busy machine. That time does not count,
    because a server that has answered meanwhile is not slow.

    Args:
        seconds: the limit; then `work` is cancelled.
    """
    task = asyncio.ensure_future(work)
    steps = max(1, round(seconds / STEP))
    try:
        for _ in range(steps):
            await asyncio.wait({task}, timeout=seconds / steps)
            if task.done():
                return task.result()
        raise asyncio.TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1)
