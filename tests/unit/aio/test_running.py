"""Operations that go to their end although their callers are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ticketlock.aio.running import CutOff, Running, until_done, until_set


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Cancel a task once it has begun, and see it end."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.cancelled()


async def test_a_result_or_an_error_comes_back() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise KeyError("no")

    running = Running()
    assert await running.finish(good()) == 7
    with pytest.raises(KeyError, match="no"):
        await running.finish(bad())
    await running.settle()


@pytest.mark.parametrize("wait", [False, True])
async def test_a_cancellation_stops_nothing(wait: bool) -> None:
    """The caller goes at once or, if it writes, when the operation has ended."""
    running, go, done = Running(), asyncio.Event(), []

    async def operation() -> None:
        await go.wait()
        done.append(1)

    task = asyncio.create_task(running.finish(operation(), wait=wait))
    assert await cancelled(task) is not wait
    assert done == []
    go.set()
    await running.settle()
    assert done == [1]
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_that_nobody_waits_for_is_no_news() -> None:
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    running, go = Running(), asyncio.Event()

    async def operation() -> None:
        await go.wait()
        raise KeyError

    assert await cancelled(asyncio.create_task(running.finish(operation())))
    go.set()
    await running.settle()
    await asyncio.sleep(0)
    assert reports == []


async def test_a_cancellation_in_the_moment_of_the_event() -> None:
    """It is not lost: a task that is stopped then does not go on."""
    event = asyncio.Event()
    task = asyncio.ensure_future(until_set(event, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    event.set()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_it_is_set_or_time_is_over() -> None:
    event = asyncio.Event()
    await until_set(event, 0.01)
    assert not event.is_set()
    event.set()
    await asyncio.wait_for(until_set(event, 60), 5)


async def test_an_operation_within_another_needs_no_task() -> None:
    """It runs in the task of the outer one, and both can be waited for."""
    outer, inner, go = Running(), Running(), asyncio.Event()
    tasks: list[Any] = []

    async def within() -> None:
        tasks.append(asyncio.current_task())
        await go.wait()

    async def operation() -> None:
        tasks.append(asyncio.current_task())
        await inner.finish(within(), wait=True)

    caller = asyncio.create_task(outer.finish(operation(), wait=True))
    assert not await cancelled(caller)
    settled = asyncio.create_task(inner.settle())
    assert await asyncio.wait([settled], timeout=0.05) == (set(), {settled})
    go.set()
    await settled
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert tasks[0] is tasks[1] is not caller
    await inner.finish(asyncio.sleep(0))  # outside it has a task of its own again
    assert not inner._tasks or next(iter(inner._tasks)).done()


async def test_the_error_of_a_cancelled_operation_is_told() -> None:
    go, errors = asyncio.Event(), list[BaseException]()

    async def bad() -> None:
        await go.wait()
        raise KeyError("no")

    task = asyncio.create_task(Running().finish(bad(), wait=True, late=errors.append))
    assert not await cancelled(task)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(error) for error in errors] == [KeyError]


async def test_until_done() -> None:
    """It ends with the future, or the time; a caller that is cancelled leaves the future as it is."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert not await until_done(future, 0.001)
    waiting = asyncio.ensure_future(until_done(future))
    assert await cancelled(waiting)
    assert not future.done()
    waiting = asyncio.ensure_future(until_done(future, 60))
    await asyncio.sleep(0)
    future.set_result(7)
    assert await waiting
    assert await until_done(future)


async def test_what_may_be_cut_off_has_no_task() -> None:
    """But for what is waited for, which goes to its end."""
    ended = list[str]()

    async def work(name: str) -> str:
        await asyncio.sleep(0.01)
        ended.append(name)
        return name

    running = CutOff()
    assert await running.finish(work("read")) == "read"
    assert await cancelled(asyncio.ensure_future(running.finish(work("cut off"))))
    waiting = asyncio.ensure_future(running.finish(work("write"), wait=True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["read", "write"]
