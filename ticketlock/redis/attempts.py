"""Attempts to connect, each limited in time: the address may change between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from redis.asyncio.connection import Connection

from ..process import clock
from .transport import discard

T = TypeVar("T")

Connect = Callable[[], Awaitable[Connection]]

#: Least seconds of an attempt. A master that hangs accepts connections but does not answer; the
#: next attempt asks the sentinels again, which may name another master.
SHORTEST = 2.0


class Attempts:
    """Makes connections, one at a time.

    Args:
        connect: makes a connected redis-py connection; raises its errors.
        timeout: seconds of the first attempt, and the limit for later ones.
    """

    def __init__(self, connect: Connect, timeout: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._limit = timeout

    async def once(self) -> Connection:
        """Connect. Raises what `connect` raises, and TimeoutError."""
        began = clock()
        attempt = asyncio.ensure_future(self._connect())
        taken = False
        try:
            # In steps, so that time in which the event loop was blocked does not count.
            for _ in range(max(1, round(10 * self._limit))):
                await asyncio.wait({attempt}, timeout=0.1)
                if attempt.done():
                    connection, taken = attempt.result(), True
                    # A network that is slow to connect stays so.
                    self._limit = min(max(SHORTEST, 2 * (clock() - began)), self._timeout)
                    return connection
        finally:
            if not taken:
                # It may still succeed: `wait_for` of Python 3.11 can lose a cancellation.
                attempt.cancel()
                attempt.add_done_callback(_unwanted)
        raise TimeoutError


def _unwanted(attempt: asyncio.Future[Connection]) -> None:
    """End the connection of an abandoned attempt."""
    if not attempt.cancelled() and attempt.exception() is None:
        discard(attempt.result())


async def first(attempts: Iterable[Awaitable[T]]) -> T:
    """The result of the first that succeeds, of several at once. Raises an error of the last."""
    pending = {asyncio.ensure_future(attempt) for attempt in attempts}
    error: BaseException = ConnectionError("nothing to ask")
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if (failure := attempt.exception()) is not None:
                    error = failure
            for attempt in done:
                if attempt.exception() is None:
                    return attempt.result()
        raise error
    finally:
        for attempt in pending:
            attempt.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
