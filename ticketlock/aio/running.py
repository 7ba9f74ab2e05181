"""Waiting for operations: to their end, up to a deadline, or not at all for a plain value."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

from ..process import clock

T = TypeVar("T")


class Running:
    """Operations that run to their end even if the calling task is cancelled.

    If they stopped half way, a driver could leave a socket open, or a transaction that blocks
    the next writer.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(
        self,
        operation: Coroutine[Any, Any, T],
        *,
        wait: bool = False,
        late: Callable[[BaseException], object] | None = None,
    ) -> T:
        """Run `operation` to its end; a cancellation only gives up its result.

        Args:
            wait: if cancelled, raise only once it has ended.
            late: if cancelled, and waited for: called with its error.
        """
        outer = asyncio.current_task()
        if outer is not None and _runs_to_its_end(outer):
            return await self._within(outer, operation)
        # A bare future does not pass the cancellation on to the task; `asyncio.shield` would
        # log the error of an abandoned operation (from Python 3.14 on).
        ended = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(_run(operation, ended))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await ended
        except asyncio.CancelledError:
            if wait:
                await until_done(task)
                if late is not None and not task.cancelled() and (error := task.exception()):
                    late(error)
            raise
        return task.result()

    async def _within(self, task: asyncio.Task[Any], operation: Coroutine[Any, Any, T]) -> T:
        known = task in self._tasks
        self._tasks.add(task)  # `settle` waits for it
        try:
            return await operation
        finally:
            if not known:
                self._tasks.discard(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marked as read: the caller may be gone

    async def settle(self) -> None:
        """Wait until nothing is running; each operation has its own time limit."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))


class CutOff(Running):
    """Operations that do no harm if they are stopped half way: only those that are waited for have tasks."""

    async def finish(
        self,
        operation: Coroutine[Any, Any, T],
        *,
        wait: bool = False,
        late: Callable[[BaseException], object] | None = None,
    ) -> T:
        if wait:
            return await super().finish(operation, wait=True, late=late)
        return await operation


class AtOnce(Running):
    """Operations that never wait, so that none can be stopped half way: they need no tasks."""

    def finish(
        self,
        operation: Coroutine[Any, Any, T],
        *,
        wait: bool = False,
        late: Callable[[BaseException], object] | None = None,
    ) -> Coroutine[Any, Any, T]:
        return operation


async def _run(operation: Coroutine[Any, Any, T], ended: asyncio.Future[None]) -> T:
    try:
        return await operation
    finally:
        if not ended.done():  # its caller was cancelled
            # Here, and not when the task is done: that would be two rounds of the loop later.
            ended.set_result(None)


def _runs_to_its_end(task: asyncio.Task[Any]) -> bool:
    """Whether an operation within the task needs no task of its own."""
    return getattr(task.get_coro(), "cr_code", None) is _run.__code__


async def until_set(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, or for some seconds.

    `asyncio.wait_for` before Python 3.12 swallows a cancellation that comes in the moment in which
    the event is set: a task that was stopped would go on.
    """
    waiting = asyncio.ensure_future(event.wait())
    try:
        await until_done(waiting, seconds)
    finally:
        waiting.cancel()


async def until_done(future: asyncio.Future[Any], seconds: float | None = None) -> bool:
    """Wait until a future is done, or for some seconds; whether it is. A cancelled caller leaves it.

    As `asyncio.wait` of one, at a third of its cost.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = None if seconds is None else loop.call_later(max(0.0, seconds), wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
    return future.done()


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


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; from Python 3.11 on without a task. Raises asyncio.TimeoutError."""
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):
            return await work
    return await asyncio.wait_for(work, seconds)


async def together(*works: Awaitable[None]) -> None:
    """All of them to their end, beside each other; the first failure ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@overload
async def result(value: Awaitable[T]) -> T: ...
@overload
async def result(value: T) -> T: ...
async def result(value: Any) -> Any:
    """The value, awaited if it is awaitable: methods of custom stores are plain or async."""
    return await value if inspect.isawaitable(value) else value
