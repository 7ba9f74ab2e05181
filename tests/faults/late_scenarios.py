"""Stories about what is read, left or repeated late; see `scenarios.py`.

Leases are short here, so that late is soon.
"""

from __future__ import annotations

import asyncio
import time

from conftest import until
from faults.scenarios import freeze, soon, store_on, stories

from ticketlock import ConcurrentRedisLockStore, LockStoreConnectionError
from ticketlock.redis.embedded import EmbeddedRedis

#: Seconds; a loop that is blocked for longer reads a grant whose lease is over.
LEASE = 0.6
LATE = LEASE + 0.2
SHORT = {"lease": LEASE, "waiter_ttl": 0.5}


async def warm(store: ConcurrentRedisLockStore) -> None:
    """Connect, so that what comes next is written at once."""
    async with store.lock("warm-up"):
        pass


async def a_grant_read_late_is_had(server: EmbeddedRedis) -> None:
    """The loop was blocked past the lease: the caller has its turn all the same."""
    async with store_on(server, **SHORT) as store:
        await warm(store)
        task = asyncio.create_task(store.lock("c").acquire())
        await asyncio.sleep(0)  # it is written
        time.sleep(LATE)
        grant = await soon(task, "the caller has its turn")
        grant.ensure_held()
        assert (await store.inspect("c")).waiting_count == 0


async def turns_read_late_are_kept(server: EmbeddedRedis) -> None:
    """However much of the lease is left when the loop reads of its turn, the turn is renewed."""
    for late in range(8):  # steps within the time between two heartbeats
        async with store_on(server, **SHORT) as store:
            await warm(store)
            lock = store.lock("c")
            task = asyncio.create_task(lock.queue())
            await asyncio.sleep(0)
            time.sleep(LEASE + 0.02 * late)
            await soon(task, "its number is told")
            async with lock as grant:
                await asyncio.sleep(LEASE / 2)
                grant.ensure_held()


async def a_ticket_read_late_is_one(server: EmbeddedRedis) -> None:
    """Its number is told, and entering uses that ticket: no second one is sent for."""
    async with store_on(server, **SHORT) as store:
        await warm(store)
        lock = store.lock("c")
        task = asyncio.create_task(lock.queue())
        await asyncio.sleep(0)
        time.sleep(LATE)
        assert await soon(task, "its number is told") == 1
        async with lock as grant:
            await asyncio.sleep(2 * LEASE)
            grant.ensure_held()
            state = await store.inspect("c")
            assert (state.last_issued, state.waiting_count) == (1, 0)
        assert (await store.inspect("c")).holder is None


async def handlers_that_block_are_all_served(server: EmbeddedRedis) -> None:
    """Each computes for longer than a lease: every message of every conversation is handled."""
    async with store_on(server, **SHORT) as store:
        done: list[tuple[str, int]] = []

        async def message(name: str, number: int, after: float) -> None:
            await asyncio.sleep(after)
            async with store.lock(name):
                await asyncio.sleep(0.01)
                time.sleep(LATE)
                done.append((name, number))

        await warm(store)
        order = [(name, number) for number in range(2) for name in "abc"]
        tasks = [asyncio.create_task(message(*which, 0.011 * i)) for i, which in enumerate(order)]
        waited = asyncio.gather(*tasks, return_exceptions=True)
        failures = [f for f in await asyncio.wait_for(waited, 25) if f is not None]
        assert failures == []
        for name in "abc":
            assert [number for other, number in done if other == name] == [0, 1]


async def a_late_exit_ends_no_other_turn(server: EmbeddedRedis) -> None:
    """A store is closed and used again; then a handler of its first use leaves."""
    store = store_on(server, **SHORT)
    old = store.lock("old")
    await old.acquire()
    await store.close()
    new = store.lock("new")
    grant = await new.acquire()
    await asyncio.gather(old.release(), return_exceptions=True)  # LockLost: it was closed
    async with store_on(server, **SHORT) as other:
        task = asyncio.create_task(other.lock("new").acquire())
        await asyncio.sleep(4 * LEASE)
        assert not task.done(), "two hold the conversation"
        grant.ensure_held()
        await new.release()
        await soon(task, "the waiter has its turn")
    await store.close()


async def a_store_being_closed_takes_no_ticket(server: EmbeddedRedis) -> None:
    """Who comes while it closes is refused, and does not wait for ever."""
    store = store_on(server, **SHORT)
    await warm(store)
    heartbeat = store.engine().heartbeat
    stop = heartbeat.stop

    async def slowly() -> None:
        await asyncio.sleep(0.2)
        await stop()

    heartbeat.stop = slowly  # type: ignore[method-assign]
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    late = asyncio.create_task(store.lock("c").acquire())
    (found,) = await soon(asyncio.gather(late, return_exceptions=True), "it is told")
    assert isinstance(found, LockStoreConnectionError)
    await closing


async def a_late_exit_forgets_no_waiter(server: EmbeddedRedis) -> None:
    """Nor is a waiter of the second use forgotten: it has its turn."""
    store = store_on(server, **SHORT)
    old = store.lock("old")
    await old.queue()
    await store.close()
    async with store_on(server, **SHORT) as other:
        first = other.lock("new")
        await first.acquire()
        task = asyncio.create_task(store.lock("new").acquire())
        await asyncio.sleep(0.1)
        old.withdraw()
        await asyncio.sleep(0.1)
        await first.release()
        await soon(task, "the waiter has its turn")
    await store.close()


async def a_repeated_acquire_that_grants_is_one_ticket(server: EmbeddedRedis) -> None:
    """The holder is dead, our ticket waits, and our acquire is repeated: it is granted, once."""
    options = {"lease": LEASE, "waiter_ttl": 10}  # our ticket is alive though we say nothing
    async with store_on(server, **options) as one, store_on(server, **options) as two:
        await one.lock("c").acquire()
        freeze(one)
        lock = two.lock("c", wait_timeout=20)
        await lock.queue()
        engine = two.engine()
        engine.heartbeat._beat = lambda *_: None  # type: ignore[method-assign]  # it does not see
        await until(lambda: one_lapsed(two), "the lease runs out")
        engine.link._on_push = None  # the bell is lost too
        words = engine.requests.acquire(lock.waiter)
        answer = await engine.link.call(words)
        assert answer[0] == 1
        state = await two.inspect("c")
        assert (state.last_issued, state.waiting_count) == (2, 0)


async def a_turn_that_runs_out_unheard_keeps_its_place(server: EmbeddedRedis) -> None:
    """Its process has heard neither its number nor its bell: it is served first all the same."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        await warm(two)
        engine, members = two.engine(), {}
        for name in ("d", "c"):
            holder = one.lock(name)
            await holder.acquire()
            members[name] = engine.member(engine.next_request(), name)
            words = engine.scripts.acquire(name, members[name], 60_000)
            assert (await engine.link.call(words))[:2] == [0, 2]
            await one.lock(name).queue()
            await holder.release()
        freeze(one)
        await until(lambda: one_lapsed(two), "its lease runs out")
        _, (missing, _, bell) = await engine.link.call(engine.scripts.attend([("c", members["c"])]))
        assert (missing, bell.split()[:3:2]) == (0, [b"grant", b"2"])
        words = engine.scripts.acquire("d", members["d"], 60_000)
        assert (await engine.link.call(words))[:2] == [1, 2]
        for name in ("c", "d"):
            held = (await two.inspect(name)).holder
            assert held is not None
            assert held.number == 2


def one_lapsed(store: ConcurrentRedisLockStore) -> bool:
    """Whether the lease of the conversation's holder has run out."""
    import redis

    with redis.Redis(port=store.settings.port, db=1, decode_responses=True) as client:
        held = client.get(store.engine().scripts.keys.of("c")[1]) or ""
        seconds, micros = client.time()
        return int(str(held).split()[3]) <= seconds * 1000 + micros // 1000


async def a_raised_fence_is_renewed(server: EmbeddedRedis) -> None:
    """A heartbeat that asks with the old fence while ours is being raised ends no turn."""
    async with store_on(server, **SHORT) as store:
        async with store.lock("c") as grant:
            floor = grant.fence + 10**6
            task = asyncio.create_task(store.raise_fence(grant, floor))
            await asyncio.sleep(0)  # it is written
            time.sleep(LEASE)  # heartbeats go on meanwhile, the answer is not read
            await task
            assert grant.fence > floor
            await asyncio.sleep(LEASE)
            grant.ensure_held()


SCENARIOS = stories(globals())
