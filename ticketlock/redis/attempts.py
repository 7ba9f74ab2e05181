"""Attempts to connect: each gets some seconds, for where it leads may have changed since."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from redis.asyncio.connection import Connection

from ..process import clock

T = TypeVar("T")

Connect = Callable[[], Awaitable[Connection]]

#: Seconds that an attempt gets, at least. A master that hangs accepts connections and says
#: nothing; the sentinels, asked again, may name another one by now.
SHORTEST = 2.0


class Attempts:
    """Makes connections, one at a time.

    Args:
        connect: makes a connected redis-py connection; raises its errors.
        timeout: seconds that the first attempt gets, and any other one at most.
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
            # In steps: time in which the event loop was blocked is not the server's fault.
            for _ in range(max(1, round(10 * self._limit))):
                await asyncio.wait({attempt}, timeout=0.1)
                if attempt.done():
                    connection, taken = attempt.result(), True
                    # A network that is slow to connect stays so.
                    self._limit = min(max(SHORTEST, 2 * (clock() - began)), self._timeout)
                    return connection
        finally:
            if not taken:
                # It may succeed all the same: `wait_for` of Python 3.11 can lose a cancellation.
                attempt.cancel()
                attempt.add_done_callback(_unwanted)
        raise TimeoutError


def _unwanted(attempt: asyncio.Future[Connection]) -> None:
    """End the connection of an attempt that is not waited for any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        discard(attempt.result())


def discard(connection: Connection) -> None:
    """End a connection that is not needed."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    connection._reader = connection._writer = None


async def first(attempts: Iterable[Awaitable[T]]) -> T:
    """The result of the first that succeeds, of several made side by side; else an error."""
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
