"""The lock store for Rasa: its tracker store finds the turn that it is in. Rasa is not needed."""

from __future__ import annotations

import asyncio

import pytest

from ticketlock import LockLost
from ticketlock.rasa import ConcurrentRedisLockStore
from ticketlock.rasa.locks import current
from ticketlock.redis.embedded import EmbeddedRedis


async def test_a_turn_is_found_by_its_conversation(redis_server: EmbeddedRedis) -> None:
    """Within its block, by what the block calls and by tasks that it starts."""

    async def seen() -> list[int | None]:
        found = (current("rasa-a"), current("rasa-b"))
        return [None if lock is None or lock.grant is None else lock.grant.fence for lock in found]

    async with ConcurrentRedisLockStore(url=redis_server.url) as store:
        assert await seen() == [None, None]
        async with store.lock("rasa-a") as first:
            assert await seen() == [first.fence, None]
            async with store.lock("rasa-b") as second:
                assert await asyncio.create_task(seen()) == [first.fence, second.fence]
            assert await seen() == [first.fence, None]
        assert await seen() == [None, None]


async def test_requests_do_not_see_each_other(redis_server: EmbeddedRedis) -> None:
    """Two tasks have a turn each."""
    inside = asyncio.Event()

    async def request(store: ConcurrentRedisLockStore, name: str, other: str) -> None:
        async with store.lock(name):
            inside.set()
            assert current(name) is not None
            assert current(other) is None

    async with ConcurrentRedisLockStore(url=redis_server.url) as store:
        async with store.lock("rasa-c"):
            task = asyncio.create_task(request(store, "rasa-d", "rasa-e"))
            await inside.wait()
            assert current("rasa-d") is None
            await task


async def test_a_turn_that_fails_is_left(redis_server: EmbeddedRedis) -> None:
    """And so is one that was lost."""
    async with ConcurrentRedisLockStore(url=redis_server.url) as store:
        with pytest.raises(ValueError, match="of the block"):
            async with store.lock("rasa-f"):
                raise ValueError("of the block")
        assert current("rasa-f") is None
        with pytest.raises(LockLost):
            async with store.lock("rasa-f"):
                await store.break_lock("rasa-f")
                await asyncio.sleep(10)
        assert current("rasa-f") is None


async def test_a_task_that_outlives_the_turn(redis_server: EmbeddedRedis) -> None:
    """It is in no turn any more."""
    over = asyncio.Event()

    async def later() -> bool:
        await over.wait()
        return current("rasa-h") is None

    async with ConcurrentRedisLockStore(url=redis_server.url) as store:
        async with store.lock("rasa-h"):
            task = asyncio.create_task(later())
        over.set()
        assert await task


async def test_a_fence_is_raised(redis_server: EmbeddedRedis) -> None:
    """Above what the tracker store has seen, when the lock store has lost its memory."""
    async with ConcurrentRedisLockStore(url=redis_server.url) as store:
        async with store.lock("rasa-g") as grant:
            lock, seen = current("rasa-g"), grant.fence + 10
            assert lock is not None
            await lock.raise_fence(seen)
            assert grant.fence > seen
