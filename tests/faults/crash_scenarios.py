"""Stories about holders and waiters that die, freeze or lose their Redis; see `scenarios.py`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis
from faults.scenarios import (
    BEAT,
    GRACE,
    LEASE,
    WAITER_TTL,
    beats,
    freeze,
    soon,
    store_on,
    stories,
    until_position,
)

from ticketlock import ConcurrentRedisLockStore, LockLost, QueueFull
from ticketlock.redis.embedded import EmbeddedRedis


async def a_dead_holder_is_succeeded(server: EmbeddedRedis) -> None:
    """A holder that says nothing more is succeeded after its lease, and learns it is lost."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        freeze(one)
        lock_of_two = two.lock("c")
        await lock_of_two.queue()
        heard = beats(two)
        second = await soon(lock_of_two.acquire(), "the turn comes")
        # One at the end of the lease, and those until then.
        assert len(heard) <= LEASE / BEAT + 2
        assert second.fence > grant.fence
        try:
            grant.ensure_held()
        except LockLost:
            pass
        else:
            raise AssertionError("the frozen holder still believes")
        # Its late release must not end its successor's turn.
        with contextlib.suppress(LockLost):
            await lock.release()
        state = await two.inspect("c")
        assert state.holder is not None
        assert state.holder.fence == second.fence
        await lock_of_two.release()


async def a_lapsed_lease_stays_lapsed(server: EmbeddedRedis) -> None:
    """A renewal that comes after the lease ran out is refused."""
    async with store_on(server) as store:
        grant = await store.lock("c").acquire()
        freeze(store)
        engine = store.engine()
        await asyncio.sleep(LEASE + 0.1)
        words = engine.scripts.renew([("c", grant.member, grant.fence)])
        assert await engine.link.call(words) == [[0, b""]]


async def a_dead_waiter_is_skipped(server: EmbeddedRedis) -> None:
    """A waiter that died is skipped in a few beats, and those behind it keep their order."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            dead = two.lock("c")
            await dead.queue()
            freeze(two)
            lock = three.lock("c")
            await lock.queue()
        heard = beats(three)
        await soon(lock.acquire(), "the turn comes")
        # The dead one is granted for as long as it is believed to live, 1.5 s at least.
        assert len(heard) <= max(WAITER_TTL, 1.5) / BEAT + 2
        await lock.release()


async def a_dead_waiter_is_skipped_when_long_dead(server: EmbeddedRedis) -> None:
    """A waiter known to be dead at the hand-off costs nothing at all."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            dead = two.lock("c")
            await dead.queue()
            freeze(two)
            rung = []
            two.engine().link._on_push = rung.append
            lock = three.lock("c")
            await lock.queue()
            await asyncio.sleep(WAITER_TTL + 0.1)
        await soon(lock.acquire(), "the turn comes")
        await lock.release()
        assert rung == [], "the dead one was granted a turn"


async def seconds_left(store: ConcurrentRedisLockStore, name: str) -> float:
    """For which the store's process is believed alive by the waiters of a conversation."""
    engine = store.engine()
    waiters = engine.scripts.keys.of(name)[3]
    alive = await engine.link.call(("HGET", waiters, engine.scripts.process))
    seconds, microseconds = await engine.link.call(("TIME",))
    return int(alive.split()[0]) / 1000 - int(seconds) - int(microseconds) / 1e6


async def fifo_under_slow_heartbeats(server: EmbeddedRedis) -> None:
    """A heartbeat that comes a beat late loses nobody the place."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        served: list[str] = []

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        async with one.lock("c"):
            early, late = two.lock("c", wait_timeout=20), three.lock("c", wait_timeout=20)
            await early.queue()
            await late.queue()
            two.engine().heartbeat._due += WAITER_TTL
            while await seconds_left(two, "c") > 0.5:
                await asyncio.sleep(0.01)
            tasks = [asyncio.create_task(enter(late, "late"))]
            tasks.append(asyncio.create_task(enter(early, "early")))
            await asyncio.sleep(0.05)
        await soon(asyncio.gather(*tasks), "both are served")
        assert served == ["early", "late"]


async def a_frozen_heartbeat_is_noticed(server: EmbeddedRedis) -> None:
    """Without a confirmed renewal the body is cancelled before its lease can be another's."""
    async with store_on(server) as store:
        ended = False
        try:
            async with store.lock("c") as grant:
                store.engine().heartbeat._beat = lambda *_: None  # type: ignore[method-assign]
                deadline = grant.deadline
                await asyncio.sleep(4 * LEASE)
                ended = True
        except LockLost:
            assert not ended, "the body was not cancelled"
            assert deadline == grant.deadline, "somebody has renewed the lease"
            assert deadline <= grant.granted_at + LEASE - store.engine().margin
            return
        raise AssertionError("the loss was not told")


async def a_live_waiter_is_not_skipped(server: EmbeddedRedis) -> None:
    """Waiting longer than a waiter's time to live costs a live waiter nothing."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        served: list[str] = []

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        holder = one.lock("c")
        grant = await holder.acquire()
        first, second = two.lock("c"), three.lock("c")
        await first.queue()
        await asyncio.sleep(1.4 * WAITER_TTL)
        await second.queue()
        tasks = [
            asyncio.create_task(enter(second, "second")),
            asyncio.create_task(enter(first, "first")),
        ]
        await asyncio.sleep(0.1)
        assert served == []
        assert grant.reason is None, "the living holder was succeeded"
        await holder.release()
        await soon(asyncio.gather(*tasks), "both are served")
        assert served == ["first", "second"]


async def a_skipped_waiter_returns_to_its_place(server: EmbeddedRedis) -> None:
    """A waiter skipped by mistake comes back before those who came after it."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[str] = []
        holder = one.lock("c")
        await holder.acquire()
        early = two.lock("c", wait_timeout=20)
        number = await early.queue()
        late = one.lock("c", wait_timeout=20)
        await late.queue()
        # As a hand-off does that believes it dead.
        with redis.Redis.from_url(server.url) as client:
            keys = two.engine().scripts.keys.of("c")
            assert client.zremrangebyscore(keys[2], number, number) == 1

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        tasks = [
            asyncio.create_task(enter(late, "late")),
            asyncio.create_task(enter(early, "early")),
        ]
        # A heartbeat finds out.
        await until_position(one, number, 1)
        await holder.release()
        await soon(asyncio.gather(*tasks), "both are served")
        assert served == ["early", "late"]
        assert early.waiter.number == number


async def a_crash_does_not_block_who_will_not_wait(server: EmbeddedRedis) -> None:
    """After a crash of holder and waiters, `try_lock` and a bounded queue get in by themselves:
    once the lease is over, and the dead have been waited for as after a server that stood still."""
    async with store_on(server) as dead, store_on(server, max_waiting=1) as alive:
        for name in ("a", "b"):
            await dead.lock(name).acquire()
            await dead.lock(name).queue()
        freeze(dead)
        await asyncio.sleep(LEASE + 0.1)
        async with alive.try_lock("a") as grant:
            assert grant is None, "the dead were not waited for"
        with pytest.raises(QueueFull):
            await alive.lock("b").acquire()
        await asyncio.sleep(GRACE + 0.1)
        async with alive.try_lock("a") as grant:
            assert grant is not None
        async with alive.lock("b"):
            pass


async def a_thousand_dead_waiters(server: EmbeddedRedis) -> None:
    """However many died, the next living one is served when the dead holder's lease ends."""
    async with store_on(server) as one, store_on(server) as two:
        await one.lock("c").acquire()
        for _ in range(500):
            await one.lock("c").queue()
        lock = two.lock("c")
        await lock.queue()
        freeze(one)
        heard = beats(two)
        await soon(lock.acquire(), "the turn comes", 30)
        # Eight calls drop the dead, 64 each; a beat apart they would take twice the lease.
        apart = [asked for _, seen, _ in heard for asked in seen]
        assert len(apart) >= 8
        assert apart[-1].sent_at - apart[-8].sent_at < 6 * BEAT
        await lock.release()


async def fences_outlive_a_flush(server: EmbeddedRedis) -> None:
    """After FLUSHALL fences go on growing, and the old holder learns that it is lost."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        async with two.lock("c") as second:
            assert second.fence > grant.fence
            lost = grant.lost
            await soon(lost.wait(), "the old holder hears of it")
            assert grant.reason != grant.overdue(), "only its own clock told it"
        try:
            await lock.release()
        except LockLost:
            return
        raise AssertionError("the old holder was not told")


async def waiters_outlive_a_flush(server: EmbeddedRedis) -> None:
    """Waiters whose tickets were wiped take them again, at their old numbers."""
    async with store_on(server) as one, store_on(server) as two:
        holder = one.lock("c")
        await holder.acquire()
        lock = two.lock("c", wait_timeout=30)
        number = await lock.queue()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        grant = await soon(lock.acquire(), "the turn comes")
        assert grant.number == number
        await lock.release()
        newer = one.lock("c")
        assert await newer.queue() > number
        newer.withdraw()


async def a_broken_connection_loses_nothing(server: EmbeddedRedis) -> None:
    """Commands in flight when a connection breaks are repeated, and done once."""
    async with store_on(server) as store:
        async with store.lock("warm-up"):
            pass
        with redis.Redis.from_url(server.url) as client:
            for _ in range(20):
                locks = [store.lock("c", wait_timeout=10) for _ in range(5)]
                queued = [asyncio.create_task(lock.queue()) for lock in locks]
                await asyncio.sleep(0)
                client.client_kill_filter(_type="normal", skipme=True)
                client.client_kill_filter(_type="pubsub", skipme=True)
                numbers = await asyncio.gather(*queued, return_exceptions=True)
                assert [number for number in numbers if not isinstance(number, int)] == []
                assert len(set(numbers)) == 5
                for lock in sorted(locks, key=lambda lock: lock.waiter.number):
                    await soon(lock.acquire(), "the turn comes")
                    await lock.release()


SCENARIOS = stories(globals())
