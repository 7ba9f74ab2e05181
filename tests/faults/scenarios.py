"""Small stories about the protocol, each on a real Redis of its own.

`test_protocol.py` expects them to end well; `test_mutants.py` breaks the protocol on
purpose and expects the named story to notice.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore, LockTimeout
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis

Scenario = Callable[[EmbeddedRedis], Awaitable[None]]

T = TypeVar("T")

#: Seconds: half of the defaults, so that a story takes half of the time.
LEASE, WAITER_TTL = 2.0, 1.25

#: Seconds for which all are waited for after nobody was heard: `lua/handoff.lua`.
GRACE = 2.5

#: Seconds between two heartbeats: a quarter of a lease.
BEAT = 0.5


def store_on(server: EmbeddedRedis, **options: object) -> ConcurrentRedisLockStore:
    clocks = {"lease": LEASE, "waiter_ttl": WAITER_TTL}
    return ConcurrentRedisLockStore(url=server.url, **{**clocks, **options})


async def soon(awaitable: Awaitable[T], what: str, seconds: float = 10) -> T:
    """Await what must happen, however busy the machine is; assert that it does."""
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except (asyncio.TimeoutError, LockTimeout):
        raise AssertionError(f"not within {seconds} s: {what}") from None


def bells(store: ConcurrentRedisLockStore) -> list[bytes]:
    """A list to which the texts of the bells are added that the store hears."""
    link, heard = store.engine().link, []
    hear = link._on_push
    assert hear is not None

    def push(message: list[bytes]) -> None:
        heard.append(message[2])
        hear(message)

    link._on_push = push
    return heard


def beats(store: ConcurrentRedisLockStore) -> list[object]:
    """A list that grows with each heartbeat that the store hears of."""
    engine, heard = store.engine(), []
    on_heartbeat = engine.on_heartbeat

    def listen(*answers: object) -> None:
        heard.append(answers)
        on_heartbeat(*answers)  # type: ignore[arg-type]  # as they came

    engine.on_heartbeat = listen  # type: ignore[method-assign]
    return heard


def freeze(store: ConcurrentRedisLockStore) -> None:
    """As if the process stood still: its heartbeat and its watch stop, it hears no bells."""
    engine = store.engine()
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
        await soon(asyncio.gather(*tasks), "all are served")
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
    """A waiter in another process is told by a bell, not at its next heartbeat."""
    async with store_on(server) as one, store_on(server) as two:
        for _ in range(3):
            lock = two.lock("c")
            async with one.lock("c"):
                number = await lock.queue()
                heard = bells(two)
            await soon(lock.acquire(), "the turn comes")
            assert [text.split()[2] for text in heard] == [b"%d" % number]
            await lock.release()


async def a_lost_bell_costs_a_second(server: EmbeddedRedis) -> None:
    """A waiter that never hears its bell gets its turn by its next heartbeat."""
    async with store_on(server) as one, store_on(server) as two:
        lock = two.lock("c")
        async with one.lock("c"):
            await lock.queue()
            two.engine().link._on_push = None
        heard = beats(two)
        await soon(lock.acquire(), "the turn comes")
        assert len(heard) <= 2  # one may have been under way when the bell rang
        await lock.release()


async def a_cancelled_grant_is_handed_on(server: EmbeddedRedis) -> None:
    """A waiter cancelled in the moment of its grant does not keep the turn."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        async with one.lock("c"):
            task = asyncio.create_task(two.lock("c").acquire())
            await until(lambda: two.engine()._waiting, "two waits")
            await asyncio.sleep(0.05)
            lock = three.lock("c")
            await lock.queue()
            two.engine().link._on_push = None  # the bell is on its way, and comes too late
            heard = bells(three)
        task.cancel()
        await asyncio.wait([task])
        await soon(lock.acquire(), "the turn comes")
        assert heard, "it came because a lease ran out"
        await lock.release()


async def a_cancelled_waiter_leaves_the_queue(server: EmbeddedRedis) -> None:
    """A cancelled waiter's ticket is gone at once, also if its answer was still to come."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c"):
            await two.inspect("c")  # connected: what it gives up later has been sent
            for pause in (0, 0, 0.02):
                task = asyncio.create_task(two.lock("c").acquire())
                await asyncio.sleep(pause)
                task.cancel()
                await asyncio.wait([task])
            await two.inspect("c")  # whatever two has sent was before
            assert (await one.inspect("c")).waiting_count == 0


async def until_position(store: ConcurrentRedisLockStore, number: int, position: int) -> None:
    """Wait until a ticket is at a place in the queue; a heartbeat puts it back there."""
    end = clock() + 10
    while (now := await store.position("c", number)) != position:
        assert clock() < end, f"ticket {number} is at {now}"
        await asyncio.sleep(0.02)


async def a_lost_answer_loses_no_place(server: EmbeddedRedis) -> None:
    """A skipped waiter whose liveness was refreshed meanwhile still finds out."""
    async with store_on(server) as one, store_on(server) as two:
        holder = one.lock("c")
        await holder.acquire()
        early = two.lock("c", wait_timeout=20)
        await early.queue()
        with redis.Redis.from_url(server.url) as client:
            client.zrem(two.engine().scripts.keys.of("c")[2], early.waiter.member)
        late = two.lock("c", wait_timeout=20)
        await late.queue()  # tells that the process lives
        await until_position(one, early.waiter.number, 1)
        await holder.release()
        await soon(early.acquire(), "the turn comes")
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
            assert client.hlen(store.engine().scripts.keys.of("c")[3]) == 0


async def a_long_hold_is_renewed(server: EmbeddedRedis) -> None:
    """A live holder keeps its turn for longer than a lease."""
    async with store_on(server) as one, store_on(server) as two:
        lock = one.lock("c")
        grant = await lock.acquire()
        async with two.try_lock("c") as second:
            assert second is None
        await asyncio.sleep(1.25 * LEASE)
        assert grant.reason is None
        assert clock() < grant.deadline, "it was not renewed"
        async with two.try_lock("c") as second:
            assert second is None
        await lock.release()


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
            assert grant.deadline <= start + LEASE


async def a_floor_raises_the_fence(server: EmbeddedRedis) -> None:
    """A fence is higher than the floor the tracker store knows, whatever the clock says."""
    async with store_on(server) as store:
        engine, floor = store.engine(), 2**52
        words = engine.scripts.acquire("c", f"{engine.process}.99", 60_000, floor=floor)
        granted, _, fence, _ = await engine.link.call(words)
        assert (granted, fence) == (1, floor + 1)
        again = await engine.link.call(words)  # a repeated call is the same turn
        assert again[0] == 1
        assert again[2] >= fence


async def a_repeated_acquire_is_one_ticket(server: EmbeddedRedis) -> None:
    """An acquire sent twice, granted or waiting, is one ticket."""
    async with store_on(server) as store:
        engine = store.engine()
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
        heard = bells(one)
        assert await two.break_lock("c", fence=grant.fence)
        await soon(grant.lost.wait(), "the holder hears of it")
        assert heard, "only a heartbeat told it"


def stories(module: dict[str, object]) -> dict[str, Scenario]:
    """The stories of a module: what takes a server, and nothing else."""
    return {
        name: value
        for name, value in module.items()
        if inspect.iscoroutinefunction(value)
        and [*inspect.signature(value).parameters] == ["server"]
    }


SCENARIOS = stories(globals())
