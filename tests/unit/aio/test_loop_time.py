"""A time limit that counts only the time in which the event loop ran."""

from __future__ import annotations

import asyncio
import time

import pytest

from ticketlock.aio.loop_time import within_loop_time


async def test_time_in_which_the_loop_stood_still_does_not_count() -> None:
    """As while a driver is imported: the work goes on afterwards."""

    async def work() -> str:
        time.sleep(0.4)  # it is to block the loop
        await asyncio.sleep(0.001)
        return "done"

    assert await within_loop_time(0.2, work()) == "done"


async def test_work_that_does_not_end_is_cancelled() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(asyncio.TimeoutError):
        await within_loop_time(0.05, work())
    assert ended.is_set()


async def test_its_error_is_raised() -> None:
    async def work() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await within_loop_time(1, work())


async def test_with_the_caller_the_work_is_cancelled() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(within_loop_time(60, work()))
    await began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()
