"""What `ConcurrentRedisLockStore` sends and keeps, and the numbers that it issues."""

from __future__ import annotations

import asyncio

import pytest
import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis


def commands(client: redis.Redis) -> int:
    """Commands the server has run, those inside scripts included; our own look is one."""
    return int(client.info("stats")["total_commands_processed"])


async def test_commands_a_cycle(own_redis: EmbeddedRedis) -> None:
    """An uncontended cycle is two script calls and eight commands inside them."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("c"):
                pass
            before = commands(client)
            for _ in range(10):
                async with store.lock("c"):
                    pass
            assert commands(client) - before - 1 == 10 * (2 + 8)


@pytest.mark.quiet
async def test_waiting_sends_one_call_a_second(own_redis: EmbeddedRedis) -> None:
    """However many wait in however many places, a process sends its heartbeat and no more."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with (
            ConcurrentRedisLockStore(url=own_redis.url) as one,
            ConcurrentRedisLockStore(url=own_redis.url) as two,
        ):
            holders = [one.lock(f"c{i}") for i in range(50)]
            for holder in holders:
                await holder.acquire()
            waiting = [asyncio.create_task(two.lock(f"c{i % 50}").acquire()) for i in range(500)]
            await asyncio.sleep(1.5)
            client.config_resetstat()
            start = clock()
            await asyncio.sleep(3)
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert calls <= 2 * (clock() - start) + 2  # two processes, once a second
            assert len(client.client_list()) == 1 + 2 * 2  # ours, and two each
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.quiet
async def test_an_idle_store_sends_nothing(own_redis: EmbeddedRedis) -> None:
    """With nothing held and nobody waiting there is no traffic."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("c"):
                pass
            await asyncio.sleep(1.2)  # the heartbeat finds nothing to do
            before = commands(client)
            await asyncio.sleep(2.2)
            assert commands(client) - before == 1


@pytest.mark.quiet
async def test_memory_of_a_waiting_ticket(own_redis: EmbeddedRedis) -> None:
    """A waiting ticket costs the server at most 250 bytes."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            lock = store.lock("c")
            await lock.acquire()
            before = client.info("memory")["used_memory"]
            waiting = [asyncio.create_task(store.lock("c").acquire()) for _ in range(5000)]
            await until(lambda: client.zcard("concurrent_lock:{c}:queue") == 5000, "all wait")
            each = (client.info("memory")["used_memory"] - before) / 5000
            assert each <= 250
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await lock.release()


async def test_numbers_are_never_issued_again(own_redis: EmbeddedRedis) -> None:
    """Numbers begin at 1 and go on growing through idle moments and expired tickets."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        numbers = []
        for _ in range(3):
            async with store.lock("c") as grant:
                numbers.append(grant.number)
        numbers.append(await store.issue_ticket("c", 0.05))
        await asyncio.sleep(0.1)
        async with store.lock("c", wait_timeout=5) as grant:
            numbers.append(grant.number)
        assert numbers == [1, 2, 3, 4, 5]


async def test_documented_counter(own_redis: EmbeddedRedis) -> None:
    """The last issued number is where the documents say, with and without a prefix."""
    for prefix, expected in ((None, ""), ("bot1", "bot1:")):
        async with ConcurrentRedisLockStore(url=own_redis.url, key_prefix=prefix) as store:
            async with store.lock("abc"):
                pass
        with redis.Redis.from_url(own_redis.url) as client:
            key = f"{expected}concurrent_lock:{{abc}}:last_issued_ticket_number"
            assert client.get(key) == b"1"
