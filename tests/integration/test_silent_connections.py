"""Connections that say nothing, servers that hang, and event loops that come late."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

import pytest
import redis
from conftest import until
from servers.redis_sets import SentinelSet

from ticketlock import ConcurrentRedisLockStore, LockTimeout, RedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.proxy import Proxy


def store_behind(proxy: Proxy, **options: object) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(host="127.0.0.1", port=proxy.port, **options)


async def turn(store: ConcurrentRedisLockStore | RedisLockStore, name: str = "c") -> None:
    async with store.lock(name):
        pass


async def test_connections_that_were_forgotten(own_redis: EmbeddedRedis) -> None:
    """The network has forgotten idle connections: the next turns do not fail, nor do those that
    are held, and the link makes one connection in place of each."""
    async with Proxy(own_redis.port) as proxy, store_behind(proxy) as store:
        async with store.lock("held") as grant:
            await turn(store)
            await until(lambda: proxy.accepted == 2, "the heartbeat connects")
            proxy.swallow()
            await asyncio.gather(*(turn(store, f"c{i}") for i in range(20)))
            await asyncio.sleep(4.5)
            grant.ensure_held()
        assert proxy.accepted == 4


async def test_a_forgotten_connection_of_a_polling_store(own_redis: EmbeddedRedis) -> None:
    """Every store on a link has that."""
    async with Proxy(own_redis.port) as proxy:
        async with RedisLockStore(host="127.0.0.1", port=proxy.port) as store:
            await turn(store)
            proxy.swallow()
            await turn(store)


async def test_a_server_that_pauses_keeps_its_connections(own_redis: EmbeddedRedis) -> None:
    """A server that stands still for seconds has no new connection to show for it: what was
    asked is answered on the old one, once."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        await turn(store)
        assert own_redis.process is not None
        own_redis.process.send_signal(signal.SIGSTOP)
        entering = asyncio.create_task(store.lock("c").acquire())
        await asyncio.sleep(3)
        own_redis.process.send_signal(signal.SIGCONT)
        grant = await entering
        assert grant.number == 2
        assert store.engine().link.connects == 1


async def test_acquires_outlive_a_hung_master_of_sentinels(tmp_path: Path) -> None:
    """A master that hangs, with connections open, is left for the one that is named instead."""
    with SentinelSet(tmp_path) as servers:
        async with ConcurrentRedisLockStore(
            deployment_mode="sentinel", endpoints=servers.endpoints
        ) as store:
            await turn(store)
            assert servers.master.process is not None
            servers.master.process.send_signal(signal.SIGSTOP)
            await asyncio.gather(*(store.lock(f"c{i}").acquire() for i in range(20)))


@pytest.mark.bound(25)
async def test_a_sentinel_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """The first sentinel of the list hangs: the next one answers."""
    with SentinelSet(tmp_path) as servers:
        async with Proxy(servers.sentinel.port) as hung:
            hung.mood = "black hole"
            endpoints = [f"127.0.0.1:{hung.port}", *servers.endpoints]
            options = {"deployment_mode": "sentinel", "endpoints": endpoints}
            async with ConcurrentRedisLockStore(**options, socket_timeout=30) as store:
                async with store.lock("c") as grant:
                    await asyncio.sleep(4.5)
                    grant.ensure_held()


async def test_idle_connections_that_the_server_closes(
    own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis' `timeout` closes what is idle: that is no reason for a warning."""
    with caplog.at_level(logging.WARNING, "ticketlock"):
        with redis.Redis.from_url(own_redis.url) as client:
            client.config_set("timeout", 1)
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            for _ in range(2):
                async with store.lock("c") as grant:
                    await asyncio.sleep(4.5)
                    grant.ensure_held()
                await asyncio.sleep(4)
    assert not caplog.records


# -- late is harmless, unsent is not -----------------------------------------------------------


async def test_a_release_behind_a_blocking_handler(
    own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler blocks the event loop right after another turn ended: the release is late, and
    neither fails nor costs the connection."""
    with caplog.at_level(logging.WARNING, "ticketlock"):
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            for _ in range(3):
                locks = [store.lock(f"c{i}") for i in range(3)]
                for lock in locks:
                    await lock.acquire()
                ends = [asyncio.create_task(lock.release()) for lock in locks]
                await asyncio.sleep(0)
                time.sleep(4.2)  # a handler that blocks the loop
                await asyncio.gather(*ends)
            assert store.engine().link.connects == 1
    assert not caplog.records


@pytest.mark.parametrize("block", [0.0, 11.0])
async def test_an_acquire_behind_a_blocking_handler(own_redis: EmbeddedRedis, block: float) -> None:
    """What was asked before the loop was blocked for longer than `socket_timeout` does not fail."""
    async with ConcurrentRedisLockStore(url=own_redis.url, lease=30) as store:
        await turn(store)
        entering = [asyncio.create_task(store.lock(f"c{i}").acquire()) for i in range(5)]
        await asyncio.sleep(0)
        time.sleep(block)  # a handler that blocks the loop
        await asyncio.gather(*entering)
        assert store.engine().link.connects == 1


@pytest.mark.parametrize("ending", ["release", "withdraw"])
async def test_what_ends_is_sent_when_the_server_is_back(
    own_redis: EmbeddedRedis, ending: str
) -> None:
    """A release whose caller was told that there is no answer is sent all the same when the
    connection is back, and so is a withdrawal: the next in line need not wait for the lease."""
    async with (
        Proxy(own_redis.port) as proxy,
        store_behind(proxy, lease=40, waiter_ttl=100, socket_timeout=1) as one,
        ConcurrentRedisLockStore(url=own_redis.url) as two,
    ):
        blocker = two.lock("c")
        if ending == "withdraw":
            await blocker.acquire()
        lock = one.lock("c")
        await (lock.queue() if ending == "withdraw" else lock.acquire())
        proxy.mood = "refuse"
        proxy.reset()
        if ending == "withdraw":
            lock.withdraw()
            await asyncio.sleep(2)
        else:
            ended = lock.release()
            await ended  # told after its time-out; the turn was ours to its end
        proxy.mood = "pass"
        if ending == "withdraw":
            await until_gone(two, "c")
            await blocker.release()
        else:
            await asyncio.wait_for(two.lock("c").acquire(), 10)


async def test_a_release_says_how_long_it_had_no_answer(
    own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the end of its lease, and not the 10 s of `socket_timeout`."""
    async with Proxy(own_redis.port) as proxy, store_behind(proxy, lease=1.2) as store:
        lock = store.lock("c")
        await lock.acquire()
        proxy.mood = "black hole"
        await lock.release()
        proxy.mood = "pass"
    (said,) = [text for text in caplog.messages if text.startswith("cannot release")]
    assert 0.3 < float(said.partition("no answer within ")[2].split()[0]) < 1.2


async def until_gone(store: ConcurrentRedisLockStore, name: str) -> None:
    while (await store.inspect(name)).waiting:
        await asyncio.sleep(0.05)


async def test_an_acquire_that_nobody_wants_is_not_sent(own_redis: EmbeddedRedis) -> None:
    """What was never written, and has timed out, is not sent when the connection comes back."""
    async with Proxy(own_redis.port) as proxy, store_behind(proxy) as store:
        await turn(store)
        proxy.mood = "refuse"
        proxy.reset()
        await asyncio.sleep(0.2)
        for _ in range(5):
            with pytest.raises(LockTimeout):
                await store.lock("c", wait_timeout=0.1).acquire()
        proxy.mood = "pass"
        async with store.lock("c") as grant:
            assert grant.number == 2  # the next after the first one
