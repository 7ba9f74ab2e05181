"""Operations that go to their end, also when whoever asked for them is cancelled.

Stopped half way, a driver may leave a socket that nobody closes, or a connection whose
transaction is still open and holds up the next writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Running:
    """What a store is doing just now."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, operation: Coroutine[Any, Any, T], *, wait: bool = False) -> T:
        """Carry out `operation`; a cancellation gives up the answer, and stops nothing.

        Args:
            wait: stay until it has ended, so that what the caller does next comes after it.
        """
        task = asyncio.ensure_future(operation)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        # A bare future, unlike the task, does not pass the cancellation on; `asyncio.shield`
        # would tell the log of an error that nobody waits for (from Python 3.14 on).
        ended = task.get_loop().create_future()
        task.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        try:
            await ended
        except asyncio.CancelledError:
            if wait:
                await asyncio.wait([task])
            raise
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # of one that nobody waits for any more: it is no news

    async def settle(self) -> None:
        """Wait until nothing is running; each operation has its own time limit."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
