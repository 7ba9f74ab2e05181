"""Waiting: to the end of an operation, up to a deadline, or not at all if the value is plain."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, overload

from ..process import clock

T = TypeVar("T")


class Running:
    """Operations that go to their end, also when the task that asked for them is cancelled.

    Stopped half way, a driver may leave a socket open, or a connection whose transaction is
    not ended and holds up the next writer.
    """

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


async def before(deadline: float | None, future: asyncio.Future[T]) -> T:
    """Await a future up to a moment of `clock()`. Raises asyncio.TimeoutError."""
    if deadline is None or future.done():
        return await future

    def expire() -> None:
        if not future.done():
            future.set_exception(asyncio.TimeoutError())

    timer = asyncio.get_running_loop().call_later(max(0.0, deadline - clock()), expire)
    try:
        return await future
    finally:
        timer.cancel()


@overload
async def result(value: Awaitable[T]) -> T: ...
@overload
async def result(value: T) -> T: ...
async def result(value: Any) -> Any:
    """The value, awaited if need be: a custom store's methods are plain or async."""
    return await value if inspect.isawaitable(value) else value
