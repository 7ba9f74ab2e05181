"""What turns cost, as counts that do not depend on the machine; benchmarks/ has the times."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.inbox.redis import RedisInbox
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.turn import Turn


def quiet_store(server: EmbeddedRedis) -> ConcurrentRedisLockStore:
    """A store whose heartbeat comes after minutes: what is counted is the turns' alone."""
    return ConcurrentRedisLockStore(url=server.url, lease=1000, waiter_ttl=600)


def calls(client: redis.Redis) -> dict[str, int]:
    """Calls of each command since the statistics began, those inside scripts too."""
    stats = client.info("commandstats")
    found = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
    return {name: n for name, n in found.items() if not name.startswith(("info", "config"))}


async def test_commands_of_a_free_conversation(own_redis: EmbeddedRedis) -> None:
    """Two script calls, and in them eight commands; each is one round trip."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with quiet_store(own_redis) as store:
            async with store.lock("c"):
                pass
            client.config_resetstat()
            for _ in range(10):
                async with store.lock("c"):
                    pass
            assert calls(client) == {
                "evalsha": 20, "time": 10, "get": 20, "set": 20, "incr": 10, "pexpire": 10,
                "zpopmin": 10,
            }  # fmt: skip
            writes = count_writes(store)
            for _ in range(10):
                async with store.lock("c"):
                    pass
            assert len(writes) == 20


async def test_commands_of_a_hand_off(own_redis: EmbeddedRedis) -> None:
    """A turn that was waited for: a call to queue, one of its predecessor that rings, its own end."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with quiet_store(own_redis) as one, quiet_store(own_redis) as two:
            first, second = one.lock("c"), two.lock("c")
            await first.acquire()
            async with two.lock("connected"):
                pass
            client.config_resetstat()
            await second.queue()
            assert calls(client) == {
                "evalsha": 1, "time": 1, "get": 1, "zscore": 1, "incr": 1, "zadd": 1,
                "hset": 2, "pttl": 1, "pexpire": 3, "zcard": 1,
            }  # fmt: skip
            client.config_resetstat()
            await first.release()
            await second.acquire()
            assert calls(client) == {
                "evalsha": 1, "get": 1, "zpopmin": 1, "time": 1, "hmget": 1, "exists": 1, "del": 1,
                "set": 1, "publish": 1,
            }  # fmt: skip
            await second.release()


async def test_calls_of_submitted_messages(own_redis: EmbeddedRedis) -> None:
    """Two script calls for each message, alone or behind another one: as an awaited turn has."""

    handled: list[str] = []
    opened = asyncio.Event()

    async def handle(turn: Turn, message: Mapping[str, Any]) -> str:
        await opened.wait()
        handled.append(turn.sender_id)
        return "done"

    with redis.Redis.from_url(own_redis.url) as client:
        async with quiet_store(own_redis) as store, Conversations(store) as conversations:
            inbox = conversations._inbox = RedisInbox(store)

            async def submit(names: Sequence[str]) -> None:
                handled.clear()
                opened.clear()
                for name in names:
                    await conversations.submit(name, "hello")
                opened.set()
                await until(lambda: len(handled) == len(names), "all are handled")
                await until(lambda: not inbox.running and not inbox._offered, "all have ended")

            async with conversations.serving(handle):
                await submit(["first"])
                await inbox.look.stop()  # else it looks once a second
                for names, most in ((list("abcdefghij"), 28), (["k"] * 10, 36)):
                    client.config_resetstat()
                    await submit(names)
                    found = calls(client)
                    assert found["evalsha"] == 20
                    assert sum(found.values()) <= 10 * most


async def test_requests_of_a_tick_share_calls(own_redis: EmbeddedRedis) -> None:
    """Of what tasks ask in a tick the first goes at once, the others together in one write, 32
    of them in one script call; what follows such a write is one with all of its tick. All is on one
    connection."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with quiet_store(own_redis) as store:
            async with store.lock("c"):
                pass
            client.config_resetstat()
            writes = count_writes(store)
            locks = [store.lock(f"c{i}") for i in range(1 + 9 * 32 + 3)]
            await asyncio.gather(*(lock.queue() for lock in locks))
            assert len(writes) == 2
            assert calls(client)["evalsha"] == 1 + 9 + 1
            assert calls(client)["time"] == 1 + 9 + 1
            assert len(client.client_list()) == 1 + 1  # ours, and the store's
            await asyncio.gather(*(lock.acquire() for lock in locks))
            await asyncio.gather(*(lock.release() for lock in locks))
            assert len(writes) == 3
            assert calls(client)["evalsha"] == 1 + 9 + 1 + 10


def count_writes(store: ConcurrentRedisLockStore) -> list[int]:
    """The sizes of what the store writes from now on."""
    link: Any = store.engine().link
    transport, sizes = link._transport, []

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            sizes.append(len(data))
            transport.write(data)

    link._transport = Counted()
    return sizes


async def test_a_second_connection_for_the_heartbeat(own_redis: EmbeddedRedis) -> None:
    """Two connections a process, whatever it holds."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            locks = [store.lock(f"c{i}") for i in range(300)]
            await asyncio.gather(*(lock.acquire() for lock in locks))
            await until(lambda: len(client.client_list()) == 1 + 2, "the heartbeat connects")
            client.config_resetstat()
            await until(lambda: calls(client).get("evalsha"), "the next beat")
            # Three hundred turns in two batches; a beat may just be under way.
            assert calls(client)["evalsha"] <= 2
            assert len(client.client_list()) == 1 + 2


COUNT = 300


def queued(store: ConcurrentRedisLockStore) -> int:
    """How many wait here that know their tickets' numbers."""
    return sum(waiter.number >= 0 for waiter in store.engine()._waiting.values())


async def test_memory_of_waiting(own_redis: EmbeddedRedis) -> None:
    """A waiting ticket is at most 250 bytes at the server, and 2 kB beyond its task here."""
    with redis.Redis.from_url(own_redis.url) as client:
        async with quiet_store(own_redis) as store:
            holder, never = store.lock("c"), asyncio.get_running_loop().create_future()
            await holder.acquire()

            async def bare() -> None:
                await asyncio.shield(never)

            async def waiter() -> None:
                async with store.lock("c"):
                    pass

            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                tasks = [asyncio.create_task(bare()) for _ in range(COUNT)]
                await asyncio.sleep(0)
                between = tracemalloc.get_traced_memory()[0]
                tasks += [asyncio.create_task(waiter()) for _ in range(COUNT)]
                await until(lambda: queued(store) == COUNT, "all have their tickets")
                after = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert (after - between) - (between - before) <= COUNT * 2000
            keys = ("concurrent_lock:{c}:queue", "concurrent_lock:{c}:waiters")
            used = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
            assert COUNT * 20 < used <= COUNT * 250
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await holder.release()


async def test_nothing_is_kept_of_turns_that_are_over(own_redis: EmbeddedRedis) -> None:
    """After many turns, waited for or not, a process remembers none of them."""
    async with quiet_store(own_redis) as store:

        async def turns(i: int) -> None:
            for _ in range(5):
                async with store.lock(f"c{i % 50}"):
                    await asyncio.sleep(0)

        await asyncio.gather(*map(turns, range(200)))
        engine: Any = store.engine()
        kept = (engine._waiting, engine._held, [*engine.link._sent], engine.link._unsent)
        assert [len(each) for each in kept] == [0, 0, 0, 0]
        assert len(engine._seen) <= 50  # until the next heartbeat


async def test_turns_leave_nothing_to_the_garbage_collector(own_redis: EmbeddedRedis) -> None:
    """What a turn needed is freed at its end: cycles of references would cost a third more."""
    async with quiet_store(own_redis) as store:

        async def turn(name: str) -> None:
            async with store.lock(name):
                pass

        await asyncio.gather(*(turn("c") for _ in range(10)))
        gc.collect()
        gc.disable()
        try:
            for i in range(100):
                await turn(f"c{i}")
            await asyncio.gather(*(turn(f"d{i}") for i in range(100)))
            await asyncio.gather(*(turn("c") for _ in range(100)))
            # A cycle has two objects at least, and a hundred turns each were of one kind.
            assert gc.collect() < 200
        finally:
            gc.enable()
