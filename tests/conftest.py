"""Fixtures for all tests: the servers (see `servers/`), and waiting for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from ticketlock.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One Redis for the session; tests use conversations of their own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop, kill, flush or reconfigure."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def run() -> Callable[[Awaitable[None]], None]:
    """Run one asynchronous test body, bounded in time."""

    def run(body: Awaitable[None], seconds: float = 60) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(body, seconds)

        asyncio.run(bounded())

    return run


async def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Wait for a condition, never for a duration."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.005)
