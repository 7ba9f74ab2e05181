"""`ConcurrentRedisLockStore` while Redis is restarted, away or silent: what is an error, and when."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

import pytest
import redis

from ticketlock import ConcurrentRedisLockStore, LockLost, LockStoreConnectionError, LockTimeout
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.proxy import Proxy

Run = Callable[..., None]


async def test_scripts_are_loaded_again(own_redis: EmbeddedRedis) -> None:
    """SCRIPT FLUSH, or a server that forgot: nobody notices."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("c"):
                client.script_flush()
                await asyncio.sleep(1.2)  # the heartbeat meets it first
                client.script_flush()
            async with store.lock("c", wait_timeout=2):
                pass


async def test_scripts_of_several_in_a_call_are_loaded_again(own_redis: EmbeddedRedis) -> None:
    """Else each call of several would meet an unknown script from then on, and be sent as many."""
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:

            async def turn(name: str) -> None:
                async with store.lock(name):
                    pass

            for flush in (True, False, False):
                if flush:
                    await turn("c")
                    client.script_flush()
                else:
                    client.config_resetstat()
                await asyncio.gather(*(turn(f"c{i}") for i in range(64)))
        assert "errorstat_NOSCRIPT" not in client.info("errorstats")
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < 64


async def test_scripts_that_are_flushed_all_the_time(own_redis: EmbeddedRedis) -> None:
    """A script is sent again behind its source, in one packet: in between it could vanish again."""
    ended = threading.Event()

    def flush() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            while not ended.is_set():
                client.script_flush()

    flushing = threading.Thread(target=flush)
    flushing.start()

    async def turns(store: ConcurrentRedisLockStore, end: float) -> int:
        for count in itertools.count():
            if asyncio.get_running_loop().time() > end:
                return count
            async with store.lock("c", wait_timeout=5):  # LockLost if the turn is
                await asyncio.sleep(0.02)
        raise AssertionError

    try:
        async with (
            ConcurrentRedisLockStore(url=own_redis.url) as one,
            ConcurrentRedisLockStore(url=own_redis.url) as two,
            one.lock("held") as grant,
        ):
            end = asyncio.get_running_loop().time() + 5.0
            counts = await asyncio.gather(turns(one, end), turns(two, end))
            grant.ensure_held()  # its lease, 4 s, was renewed
    finally:
        ended.set()
        flushing.join()
    assert min(counts) > 20


async def test_a_restart_without_persistence(own_redis: EmbeddedRedis) -> None:
    """Redis dies and comes back empty: holders learn they lost, waiters get their turns."""
    async with (
        ConcurrentRedisLockStore(url=own_redis.url) as one,
        ConcurrentRedisLockStore(url=own_redis.url) as two,
    ):
        holder, waiter = one.lock("c"), two.lock("c", wait_timeout=15)
        grant = await holder.acquire()
        await waiter.queue()
        own_redis.stop(kill=True)
        await asyncio.sleep(0.5)
        own_redis.start()
        second = await waiter.acquire()
        assert second.fence > grant.fence
        await asyncio.wait_for(grant.lost.wait(), 5)
        with pytest.raises(LockLost):
            await holder.release()
        await waiter.release()


async def test_a_short_outage_loses_nothing(own_redis: EmbeddedRedis) -> None:
    """Commands wait for the server to come back, within socket_timeout."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        async with store.lock("c"):
            pass
        own_redis.stop(kill=True)
        task = asyncio.create_task(store.lock("c").acquire())
        await asyncio.sleep(0.7)
        own_redis.start()
        await asyncio.wait_for(task, 5)


async def test_a_master_that_is_a_replica_for_a_moment(own_redis: EmbeddedRedis) -> None:
    """As at a failover: calls of several turns are repeated as those of one are."""

    async def turn(store: ConcurrentRedisLockStore, name: str) -> None:
        async with store.lock(name):
            pass

    with redis.Redis.from_url(own_redis.url) as client:
        async with (
            ConcurrentRedisLockStore(url=own_redis.url) as store,
            store.lock("held") as grant,
        ):
            # Behind several in a packet the next ones share a call too.
            await asyncio.gather(*(store.lock(f"other {i}").queue() for i in range(3)))
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            turns = [asyncio.create_task(turn(store, f"c{i % 20}")) for i in range(40)]
            await asyncio.sleep(0.5)
            client.execute_command("REPLICAOF", "NO", "ONE")
            await asyncio.gather(*turns)
            grant.ensure_held()


async def test_an_outage_is_an_error_in_time(own_redis: EmbeddedRedis) -> None:
    """A server that stays away is an error within socket_timeout, and then no more."""
    async with ConcurrentRedisLockStore(url=own_redis.url, socket_timeout=1) as store:
        async with store.lock("c"):
            pass
        own_redis.stop(kill=True)
        with pytest.raises(LockStoreConnectionError, match="check host and port"):
            await asyncio.wait_for(store.lock("c").acquire(), 20)  # not while it is away
        own_redis.start()
        async with store.lock("c"):
            pass


@pytest.mark.parametrize("mood", ["black hole", "lose answers"])
async def test_a_network_that_swallows(own_redis: EmbeddedRedis, mood: str) -> None:
    """No answer is an error within socket_timeout; when it heals, tickets are exact."""
    async with Proxy(own_redis.port) as proxy:
        async with ConcurrentRedisLockStore(
            host="127.0.0.1", port=proxy.port, socket_timeout=1
        ) as store:
            async with store.lock("c"):
                pass
            proxy.mood = mood
            with pytest.raises(LockStoreConnectionError, match="no answer within 1 s"):
                await asyncio.wait_for(store.lock("c").acquire(), 20)  # else for ever
            proxy.mood = "pass"
            async with store.lock("c", wait_timeout=10) as grant:
                grant.ensure_held()


async def test_a_lost_answer_is_not_a_second_ticket(own_redis: EmbeddedRedis) -> None:
    """The request arrived, its answer did not: the repetition finds the same ticket."""
    async with Proxy(own_redis.port) as proxy:
        async with ConcurrentRedisLockStore(host="127.0.0.1", port=proxy.port) as store:
            async with store.lock("c"):
                pass
            for expected in range(2, 12):
                proxy.mood = "lose answers"
                task = asyncio.create_task(store.lock("c").acquire())
                await asyncio.sleep(0.02)
                proxy.mood = "pass"
                proxy.reset()
                grant = await asyncio.wait_for(task, 5)
                assert grant.number == expected
                lock = store.lock("c")
                lock.grant = grant
                proxy.mood = "lose answers"
                release = asyncio.create_task(lock.release())
                await asyncio.sleep(0.02)
                proxy.mood = "pass"
                proxy.reset()
                await asyncio.wait_for(release, 5)  # not LockLost: it was released once


async def test_a_cancelled_command_leaves_its_answer_to_nobody(
    own_redis: EmbeddedRedis,
) -> None:
    """Answers stay matched when every second caller goes away."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        link = store.engine().link

        async def echo(i: int) -> None:
            assert await link.call(("ECHO", str(i))) == str(i).encode()

        for _ in range(20):
            tasks = [asyncio.create_task(echo(i)) for i in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [r for r in results if isinstance(r, Exception)]


@pytest.mark.parametrize("wait_timeout", [0.5, 1.5])
async def test_wait_timeout_holds_while_redis_is_silent(
    own_redis: EmbeddedRedis, wait_timeout: float
) -> None:
    """The caller's patience is the caller's, whatever the network does."""
    async with Proxy(own_redis.port) as proxy:
        options = {"host": "127.0.0.1", "port": proxy.port, "socket_timeout": 40}
        async with ConcurrentRedisLockStore(**options) as store:
            async with store.lock("c"):
                pass
            proxy.mood = "black hole"
            with pytest.raises(LockTimeout):  # and long before the network's timeout
                lock = store.lock("c", wait_timeout=wait_timeout)
                await asyncio.wait_for(lock.acquire(), 20)
            proxy.mood = "pass"
            proxy.reset()


def test_a_heartbeat_outlives_any_error(run: Run) -> None:
    """Whatever a credential provider or a driver raises, the next beat comes."""
    asked: list[str] = []

    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            asked.append(threading.current_thread().name)
            if asked.count("ticketlock-heartbeat") == 1 and asked[-1] == "ticketlock-heartbeat":
                raise RuntimeError("no token today")
            return ("pw",)

    with EmbeddedRedis(["--requirepass", "pw"]) as server:

        async def body() -> None:
            options = {"port": server.port, "credential_provider": Provider(), "lease": 2}
            async with ConcurrentRedisLockStore(host="127.0.0.1", **options) as store:
                async with store.lock("c") as grant:
                    await asyncio.sleep(2.5)
                    grant.ensure_held()

        run(body())
    assert asked.count("ticketlock-heartbeat") == 2
