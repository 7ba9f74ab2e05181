"""Small stories about the protocol, each on a real Redis of its own.

`test_protocol.py` expects them to end well; `test_mutants.py` breaks the protocol on
purpose and expects the named story to notice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore, LockLost
from ticketlock.embedded import EmbeddedRedis
from ticketlock.grant import clock

Scenario = Callable[[EmbeddedRedis], Awaitable[None]]


def store_on(server: EmbeddedRedis, **options: object) -> ConcurrentRedisLockStore:
    return ConcurrentRedisLockStore(url=server.url, **options)


def freeze(store: ConcurrentRedisLockStore) -> None:
    """As if the process stood still: its heartbeat and its watch stop, it hears no bells."""
    engine = store._live()
    engine.heartbeat._beat = lambda *_: None  # type: ignore[method-assign]
    engine.link._on_push = None
    engine._deadlines.stop()


async def exclusive(server: EmbeddedRedis) -> None:
    """While one holds, the other waits."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c"):
            async with two.try_lock("c") as second:
                assert second is None
            lock = two.lock("c", wait_timeout=0.3)
            task = asyncio.create_task(lock.acquire())
            await asyncio.wait([task])
            assert task.exception() is not None


async def fifo(server: EmbeddedRedis) -> None:
    """Tickets of two replicas are served in order, each under a higher fence."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[tuple[int, int]] = []
        async with one.lock("c") as first:
            locks = [(one, two)[i % 2].lock("c", wait_timeout=10) for i in range(6)]
            for lock in locks:
                await lock.queue()

            async def body(i: int) -> None:
                async with locks[i] as grant:
                    served.append((i, grant.fence))

            tasks = [asyncio.create_task(body(i)) for i in range(6)]
        await asyncio.gather(*tasks)
        assert [i for i, _ in served] == list(range(6))
        fences = [first.fence, *(fence for _, fence in served)]
        assert fences == sorted(set(fences))


async def order_within_a_tick(server: EmbeddedRedis) -> None:
    """What is asked for in one tick shares calls, and keeps its order all the same."""
    async with store_on(server) as store:
        async with store.lock("c"):
            locks = [store.lock("c", wait_timeout=10) for _ in range(100)]
            others = [store.lock(f"c{i}", wait_timeout=10) for i in range(100)]
            pairs = zip(locks, others, strict=True)
            numbers = await asyncio.gather(*(lock.queue() for pair in pairs for lock in pair))
            assert numbers[::2] == sorted(set(numbers[::2]))
        for lock in (*locks, *others):
            await lock.acquire()
            await lock.release()


async def a_spoilt_conversation_spoils_no_other(server: EmbeddedRedis) -> None:
    """Somebody has put something else at a key: others of the same call have their turns."""
    with redis.Redis.from_url(server.url) as client:
        client.rpush("concurrent_lock:{spoilt}:holder", "a list")
    async with store_on(server) as store:
        async with store.lock("connected"):
            pass
        names = ["first", "a", "spoilt", "b"]  # the first goes at once, the others together
        locks = [store.lock(name, wait_timeout=5) for name in names]
        found = await asyncio.gather(*(lock.acquire() for lock in locks), return_exceptions=True)
        kinds = [type(each).__name__ for each in found]
        assert kinds == ["Grant", "Grant", "LockStoreConnectionError", "Grant"]
        assert "WRONGTYPE" in str(found[2])
        for lock in (locks[0], locks[1], locks[3]):
            await lock.release()
        for name in ("first", "a", "b"):
            assert (await store.inspect(name)).holder is None


async def hand_off_is_pushed(server: EmbeddedRedis) -> None:
    """A waiter in another process is told at once, not at its next heartbeat."""
    async with store_on(server) as one, store_on(server) as two:
        slowest = 0.0
        for _ in range(3):
            lock = two.lock("c")
            async with one.lock("c"):
                await lock.queue()
                task = asyncio.create_task(lock.acquire())
                await asyncio.sleep(0.05)
            start = clock()
            await task
            slowest = max(slowest, clock() - start)
            await lock.release()
        assert slowest < 0.5


async def a_lost_bell_costs_a_second(server: EmbeddedRedis) -> None:
    """A waiter that never hears its bell gets its turn by the heartbeat."""
    async with store_on(server) as one, store_on(server) as two:
        lock = two.lock("c", wait_timeout=5)
        async with one.lock("c"):
            await lock.queue()
            two._live().link._on_push = None
        start = clock()
        await lock.acquire()
        assert clock() - start < 2.5
        await lock.release()


async def a_dead_holder_is_succeeded(server: EmbeddedRedis) -> None:
    """A holder that says nothing more is succeeded within 5 s, and learns it is lost."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        freeze(one)
        start = clock()
        async with two.lock("c", wait_timeout=10) as second:
            assert clock() - start < 5
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


async def a_lapsed_lease_stays_lapsed(server: EmbeddedRedis) -> None:
    """A renewal that comes after the lease ran out is refused."""
    async with store_on(server) as store:
        grant = await store.lock("c").acquire()
        freeze(store)
        engine = store._live()
        await asyncio.sleep(4.1)
        words = engine.scripts.renew([("c", grant.member, grant.fence)])
        assert await engine.link.call(words) == [[0, b""]]


async def a_dead_waiter_is_skipped(server: EmbeddedRedis) -> None:
    """A waiter that died is skipped, in at most 3 s, and those behind it keep their order."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            dead = two.lock("c")
            await dead.queue()
            freeze(two)
            lock = three.lock("c", wait_timeout=10)
            await lock.queue()
        start = clock()
        await lock.acquire()
        assert clock() - start < 3
        await lock.release()


async def a_dead_waiter_is_skipped_when_long_dead(server: EmbeddedRedis) -> None:
    """A waiter known to be dead at the hand-off costs nothing at all."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            dead = two.lock("c")
            await dead.queue()
            freeze(two)
            lock = three.lock("c", wait_timeout=10)
            await lock.queue()
            await asyncio.sleep(2.7)
        start = clock()
        await lock.acquire()
        assert clock() - start < 0.5
        await lock.release()


async def fifo_under_slow_heartbeats(server: EmbeddedRedis) -> None:
    """A heartbeat that is a second late loses nobody the place."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        served: list[str] = []

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        async with one.lock("c"):
            early, late = two.lock("c", wait_timeout=20), three.lock("c", wait_timeout=20)
            await early.queue()
            two._live().heartbeat._due += 1.2
            await asyncio.sleep(1.5)
            await late.queue()
            tasks = [asyncio.create_task(enter(late, "late"))]
            tasks.append(asyncio.create_task(enter(early, "early")))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        assert served == ["early", "late"]


async def a_frozen_heartbeat_is_noticed(server: EmbeddedRedis) -> None:
    """Without a confirmed renewal the body is cancelled before its lease can be another's."""
    async with store_on(server) as store:
        start = clock()
        try:
            async with store.lock("c"):
                store._live().heartbeat._beat = lambda *_: None  # type: ignore[method-assign]
                await asyncio.sleep(6)
        except LockLost:
            assert 3 < clock() - start < 4
            return
        raise AssertionError("the body was not cancelled")


async def a_live_waiter_is_not_skipped(server: EmbeddedRedis) -> None:
    """Waiting longer than a waiter's time to live costs a live waiter nothing."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        served: list[str] = []

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        async with one.lock("c"):
            first, second = two.lock("c", wait_timeout=20), three.lock("c", wait_timeout=20)
            await first.queue()
            await asyncio.sleep(3.5)
            await second.queue()
            tasks = [
                asyncio.create_task(enter(second, "second")),
                asyncio.create_task(enter(first, "first")),
            ]
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
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
            keys = two._live().scripts.keys.of("c")
            assert client.zremrangebyscore(keys[2], number, number) == 1

        async def enter(lock: object, name: str) -> None:
            async with lock:  # type: ignore[attr-defined]
                served.append(name)

        tasks = [
            asyncio.create_task(enter(late, "late")),
            asyncio.create_task(enter(early, "early")),
        ]
        await asyncio.sleep(1.5)  # a heartbeat finds out
        await holder.release()
        await asyncio.gather(*tasks)
        assert served == ["early", "late"]
        assert early._waiter.number == number


async def a_cancelled_grant_is_handed_on(server: EmbeddedRedis) -> None:
    """A waiter cancelled in the moment of its grant does not keep the turn."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            task = asyncio.create_task(two.lock("c").acquire())
            await until(lambda: two._live()._waiting, "two waits")
            await asyncio.sleep(0.05)
            lock = three.lock("c", wait_timeout=10)
            await lock.queue()
            two._live().link._on_push = None  # the bell is on its way, and comes too late
        task.cancel()
        await asyncio.wait([task])
        start = clock()
        await lock.acquire()
        assert clock() - start < 0.5
        await lock.release()


async def a_cancelled_waiter_leaves_the_queue(server: EmbeddedRedis) -> None:
    """A cancelled waiter's ticket is gone at once, also if its answer was still to come."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c"):
            for pause in (0, 0, 0.02):
                task = asyncio.create_task(two.lock("c").acquire())
                await asyncio.sleep(pause)
                task.cancel()
                await asyncio.wait([task])
            await asyncio.sleep(0.05)
            assert (await one.inspect("c")).waiting_count == 0


async def a_crash_does_not_block_who_will_not_wait(server: EmbeddedRedis) -> None:
    """After a crash of holder and waiters, `try_lock` and a bounded queue get in by themselves."""
    async with store_on(server) as dead, store_on(server, max_waiting=1) as alive:
        for name in ("a", "b"):
            await dead.lock(name).acquire()
            await dead.lock(name).queue()
        freeze(dead)
        await asyncio.sleep(4.1)
        async with alive.try_lock("a") as grant:
            assert grant is not None
        async with alive.lock("b", wait_timeout=1) as grant:
            grant.ensure_held()


async def a_lost_answer_loses_no_place(server: EmbeddedRedis) -> None:
    """A skipped waiter whose liveness was refreshed meanwhile still finds out."""
    async with store_on(server) as one, store_on(server) as two:
        holder = one.lock("c")
        await holder.acquire()
        early = two.lock("c", wait_timeout=20)
        await early.queue()
        with redis.Redis.from_url(server.url) as client:
            client.zrem(two._live().scripts.keys.of("c")[2], early._waiter.member)
        late = two.lock("c", wait_timeout=20)
        await late.queue()  # tells that the process lives
        await asyncio.sleep(1.5)
        assert await one.position("c", early._waiter.number) == 1
        await holder.release()
        await early.acquire()
        await early.release()


async def a_bare_ticket_lives_its_lifetime(server: EmbeddedRedis) -> None:
    """A ticket of `issue_ticket` that had to wait is served for as long as it was issued."""
    async with store_on(server) as store:
        first = await store.issue_ticket("c", 30)
        await store.issue_ticket("c", 30)
        await store.finish_serving("c", first)
        holder = (await store.inspect("c")).holder
        assert holder is not None
        assert holder.lease > 20
        with redis.Redis.from_url(server.url) as client:
            assert client.hlen(store._live().scripts.keys.of("c")[3]) == 0


async def a_thousand_dead_waiters(server: EmbeddedRedis) -> None:
    """However many died, the next living one is served when the dead holder's lease ends."""
    async with store_on(server) as one, store_on(server) as two:
        await one.lock("c").acquire()
        for _ in range(500):
            await one.lock("c").queue()
        lock = two.lock("c", wait_timeout=30)
        await lock.queue()
        freeze(one)
        start = clock()
        await lock.acquire()
        assert clock() - start < 5
        await lock.release()


async def a_long_hold_is_renewed(server: EmbeddedRedis) -> None:
    """A live holder keeps its turn for longer than a lease."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c") as grant:
            async with two.try_lock("c") as second:
                assert second is None
            await asyncio.sleep(5)
            grant.ensure_held()
            async with two.try_lock("c") as second:
                assert second is None


async def the_deadline_counts_from_the_sending(server: EmbeddedRedis) -> None:
    """A slow answer shortens what is left of a lease."""
    async with store_on(server) as store:
        async with store.lock("warm-up"):
            pass
        with redis.Redis.from_url(server.url) as client:
            client.client_pause(1000)
        start = clock()
        async with store.lock("c") as grant:
            assert clock() - start > 0.8
            assert grant.deadline <= start + 4.0


async def fences_outlive_a_flush(server: EmbeddedRedis) -> None:
    """After FLUSHALL fences go on growing, and the old holder learns that it is lost."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        async with two.lock("c", wait_timeout=5) as second:
            assert second.fence > grant.fence
            await asyncio.wait_for(grant.lost.wait(), 2)
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
        lock = two.lock("c", wait_timeout=10)
        number = await lock.queue()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        grant = await asyncio.wait_for(lock.acquire(), 5)
        assert grant.number == number
        await lock.release()
        newer = one.lock("c")
        assert await newer.queue() > number
        newer.withdraw()


async def a_floor_raises_the_fence(server: EmbeddedRedis) -> None:
    """A fence is higher than the floor the tracker store knows, whatever the clock says."""
    async with store_on(server) as store:
        engine, floor = store._live(), 2**52
        words = engine.scripts.acquire("c", f"{engine.process}.99", 60_000, floor=floor)
        granted, _, fence, _ = await engine.link.call(words)
        assert (granted, fence) == (1, floor + 1)
        again = await engine.link.call(words)  # a repeated call is the same turn
        assert again[0] == 1
        assert again[2] >= fence


async def a_repeated_acquire_is_one_ticket(server: EmbeddedRedis) -> None:
    """An acquire sent twice, granted or waiting, is one ticket."""
    async with store_on(server) as store:
        engine = store._live()
        first = engine.scripts.acquire("c", f"{engine.process}.901", 60_000)
        second = engine.scripts.acquire("c", f"{engine.process}.902", 60_000)
        answers = [await engine.link.call(words) for words in (first, first, second, second)]
        assert [answer[0] for answer in answers] == [1, 1, 0, 0]
        assert answers[0][1:3] == answers[1][1:3]
        assert answers[2][1] == answers[3][1]
        assert (await store.inspect("c")).waiting_count == 1


async def nothing_is_left(server: EmbeddedRedis) -> None:
    """Whatever was used leaves only keys that expire, and no ticket."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c"):
            lock = two.lock("c")
            await lock.queue()
        await lock.acquire()
        await lock.release()
        await one.issue_ticket("d", 0.1)
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            keys = client.keys()
            assert keys
            for key in keys:
                assert 0 < client.ttl(key) <= 3600, key
                assert "{c}:queue" not in key


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
                numbers = await asyncio.gather(*queued)
                assert len(set(numbers)) == 5
                for lock in sorted(locks, key=lambda lock: lock._waiter.number):
                    await asyncio.wait_for(lock.acquire(), 10)
                    await lock.release()


async def a_full_queue_refuses(server: EmbeddedRedis) -> None:
    """`max_waiting` bounds the queue exactly."""
    async with store_on(server) as store:
        async with store.lock("c"):
            locks = [store.lock("c", max_waiting=3) for _ in range(5)]
            results = await asyncio.gather(
                *(lock.queue() for lock in locks), return_exceptions=True
            )
            assert [type(result).__name__ for result in results].count("QueueFull") == 2
            for lock, result in zip(locks, results, strict=True):
                if isinstance(result, int):
                    lock.withdraw()


async def a_break_tells_the_holder(server: EmbeddedRedis) -> None:
    """An operator's break cancels the holder at once, wherever it runs."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        assert await two.break_lock("c", fence=grant.fence)
        await asyncio.wait_for(grant.lost.wait(), 0.5)


SCENARIOS: dict[str, Scenario] = {
    name: value
    for name, value in list(globals().items())
    if asyncio.iscoroutinefunction(value) and value.__module__ == __name__
}
