"""Stories about servers in trouble; see `scenarios.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from conftest import until
from faults.late_scenarios import LEASE, SHORT
from faults.scenarios import GRACE, WAITER_TTL, Scenario, freeze, store_on

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming
from ticketlock.locks.concurrent.scripts import Keys
from ticketlock.redis.embedded import EmbeddedRedis


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def keys_of(store: ConcurrentRedisLockStore) -> tuple[str, ...]:
    return Keys(store.settings).all("c")


@contextmanager
def out_of_memory(server: EmbeddedRedis) -> Iterator[None]:
    """A server that takes no write that needs memory."""
    with client_of(server) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


async def a_full_server_ends_no_turn(server: EmbeddedRedis) -> None:
    """Out of memory for several leases: turns are renewed, handed on, and answered."""
    options = {"lease": 2, "waiter_ttl": 5}
    async with store_on(server, **options) as one, store_on(server, **options) as two:
        holder = one.lock("c", incoming=Incoming("m"))
        grant = await holder.acquire()
        behind = two.lock("c")
        waiting = asyncio.create_task(behind.acquire())
        await until(lambda: behind.waiter.number > 0, "it waits")
        with out_of_memory(server):
            await asyncio.sleep(3)  # longer than a lease
            grant.ensure_held()
            one.answer(grant, {"m": "reply"})
            await holder.release()
            # Handed on, and not found when the lease had run out.
            assert await asyncio.wait({waiting}, timeout=1) == ({waiting}, set())
            second = await waiting
            await asyncio.sleep(2.5)
            second.ensure_held()
        with pytest.raises(DuplicateMessage):
            await two.lock("c", incoming=Incoming("m")).acquire()


async def a_skipped_waiter_returns_to_a_full_server(server: EmbeddedRedis) -> None:
    """A ticket that was issued keeps its place, though there is no memory for new ones."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        async with one.lock("c"):
            lock = two.lock("c", wait_timeout=20)
            number = await lock.queue()
            with client_of(server) as client, out_of_memory(server):
                _, _, queue, *_ = keys_of(two)
                client.zremrangebyrank(queue, 0, -1)
                await until(lambda: client.zcard(queue) == 1, "it returns")
                assert client.zrange(queue, 0, 0, withscores=True)[0][1] == number


async def a_lease_ahead_of_the_clock_counts_from_now(server: EmbeddedRedis) -> None:
    """The server's clock was set back by 40 s while the holder was dead."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        await one.lock("c").acquire()
        freeze(one)
        set_ahead(server, one, 40_000)
        async with two.lock("c", wait_timeout=20):
            pass


async def a_clock_set_back_ends_no_living_turn(server: EmbeddedRedis) -> None:
    """The holder renews its lease; it is not overtaken."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        async with one.lock("c") as grant:
            task = asyncio.create_task(two.lock("c").acquire())
            await asyncio.sleep(0.1)
            set_ahead(server, one, 40_000)
            await asyncio.sleep(4 * LEASE)
            grant.ensure_held()
            assert not task.done()
        await asyncio.wait_for(task, 5)


def set_ahead(server: EmbeddedRedis, store: ConcurrentRedisLockStore, ms: int) -> None:
    """The holder's record as a clock leaves it that is set back."""
    with client_of(server) as client:
        holder = keys_of(store)[1]
        fields = str(client.get(holder)).split()
        fields[3:6] = [str(int(field) + ms) for field in fields[3:6]]
        client.set(holder, " ".join(fields), px=60_000)


async def a_stopped_server_keeps_the_order(server: EmbeddedRedis) -> None:
    """It stands still for longer than a waiter is believed alive, and goes on."""
    assert server.process is not None
    pid = server.process.pid
    await order_through(
        server, lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)
    )


async def a_restarted_server_keeps_the_order(server: EmbeddedRedis) -> None:
    """It has kept its data, and was away for longer than a waiter is believed alive."""
    with EmbeddedRedis(["--appendonly", "yes", "--appendfsync", "always"]) as durable:
        await order_through(durable, lambda: durable.stop(kill=True), durable.start)


async def order_through(
    server: EmbeddedRedis, trouble: Callable[[], object], end: Callable[[], object]
) -> None:
    """Six waiters of three processes: whichever is back first, order is kept."""
    stores = [store_on(server, **SHORT) for _ in range(3)]
    held = stores[0].lock("c", lock_lifetime=30)
    await held.acquire()
    locks = [stores[i % 3].lock("c", wait_timeout=20) for i in range(6)]
    for lock in locks:
        await lock.queue()
    served: list[int] = []

    async def body(lock: object, i: int) -> None:
        async with locks[i]:
            served.append(i)

    tasks = [asyncio.create_task(body(lock, i)) for i, lock in enumerate(locks)]
    await asyncio.sleep(0.3)
    trouble()
    try:
        await asyncio.sleep(1.5)
    finally:
        end()
    await asyncio.gather(held.release(), return_exceptions=True)  # its lease may be over
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert served == sorted(served)
    for store in stores:
        await store.close()


async def troubles_one_after_another_keep_the_order(server: EmbeddedRedis) -> None:
    """The server stood still, and the process whose turn it is comes back 1.7 s later."""
    assert server.process is not None
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        held = one.lock("c", lock_lifetime=30)
        await held.acquire()
        locks = [two.lock("c", wait_timeout=20), three.lock("c", wait_timeout=20)]
        for lock in locks:
            await lock.queue()
        beat = two.engine().heartbeat
        beat._beat = lambda *_: None  # type: ignore[method-assign]
        server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(2 * WAITER_TTL)
        finally:
            server.process.send_signal(signal.SIGCONT)
        await asyncio.gather(held.release(), return_exceptions=True)  # its lease may be over
        tasks = [asyncio.create_task(lock.acquire()) for lock in locks]
        await asyncio.sleep(1.7)  # and a beat: within the 2.5 s of handoff.lua, beyond 1.5
        del beat._beat
        await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in tasks] == [True, False]
        await locks[0].release()
        await asyncio.wait_for(tasks[1], 10)
        await locks[1].release()


async def a_turn_handed_on_before_a_standstill_keeps_its_place(server: EmbeddedRedis) -> None:
    """Its bell is not heard, and its first lease is over when the server goes on: who comes then
    waits behind it."""
    assert server.process is not None
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        held = one.lock("c", lock_lifetime=30)
        await held.acquire()
        early, late = two.lock("c", wait_timeout=20), three.lock("c", wait_timeout=20)
        await early.queue()
        beat, link = two.engine().heartbeat, two.engine().link
        beat._beat = lambda *_: None  # type: ignore[method-assign]
        link._on_push = None
        await held.release()
        server.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(2 * WAITER_TTL)
        finally:
            server.process.send_signal(signal.SIGCONT)
        await late.queue()
        del beat._beat
        tasks = [asyncio.create_task(lock.acquire()) for lock in (early, late)]
        await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in tasks] == [True, False]
        await early.release()
        await asyncio.wait_for(tasks[1], 10)
        await late.release()


async def past_waiters_leave_nothing(server: EmbeddedRedis) -> None:
    """While a conversation stays in use, `waiters` keeps those that wait, and no others."""
    async with store_on(server) as one:
        held = one.lock("c")
        await held.acquire()
        for _ in range(20):
            async with store_on(server) as other:
                next_one = other.lock("c", wait_timeout=20)
                await next_one.queue()
                await held.release()
                await next_one.acquire()
                held = one.lock("c", wait_timeout=20)
                await held.queue()
                await next_one.release()
                await held.acquire()
        with client_of(server) as client:
            assert client.hgetall(keys_of(one)[3]) == {}
        await held.release()


async def dead_waiters_leave_nothing(server: EmbeddedRedis) -> None:
    """The last ticket is passed over: its silence is not held against those who wait later."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        async with one.lock("c"):
            await two.lock("c").queue()
            freeze(two)
            await asyncio.sleep(2 * SHORT["waiter_ttl"])
        await asyncio.sleep(GRACE + 0.1)  # nobody was heard: it was waited for
        async with one.lock("c"):
            pass
        with client_of(server) as client:
            assert client.hgetall(keys_of(one)[3]) == {}


async def processes_long_dead_are_dropped(server: EmbeddedRedis) -> None:
    """Also where the queue is never empty."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        async with one.lock("c"):
            await two.lock("c").queue()
            with client_of(server) as client:
                waiters = keys_of(one)[3]
                for i in range(30):
                    client.hset(waiters, f"{i:016x}", f"{int(time.time() * 1000) - 90_000} host:1")
                await until(lambda: client.hlen(waiters) <= 3, "they are dropped", 30)


HELPERS = {"order_through"}

SCENARIOS: dict[str, Scenario] = {
    name: value
    for name, value in list(globals().items())
    if asyncio.iscoroutinefunction(value) and value.__module__ == __name__ and name not in HELPERS
}
