"""What waits for servers in a thread, and is given up."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from ticketlock.stress.starting import ServersFailed, in_thread, until


async def test_a_cancelled_wait_is_given_up_and_its_end_waited_for() -> None:
    begun, said = threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        try:
            until(lambda: False, "what never comes", 60)
        except ServersFailed as error:
            said.append(str(error))
            raise

    waiting = asyncio.ensure_future(in_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert said == ["given up: what never comes"]


async def test_what_was_begun_is_there_when_the_cancellation_is_raised() -> None:
    begun, go, made = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        go.wait(60)
        made.append("a server")

    waiting = asyncio.ensure_future(in_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    waiting.cancel()
    asyncio.get_running_loop().call_later(0.1, go.set)
    with suppress(asyncio.CancelledError):
        await waiting
    assert made == ["a server"]


async def test_another_call_is_not_given_up() -> None:
    waiting = asyncio.ensure_future(in_thread(until, lambda: False, "nothing", 60))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    with pytest.raises(ServersFailed, match="not within"):
        await in_thread(until, lambda: False, "something", 0.1)
