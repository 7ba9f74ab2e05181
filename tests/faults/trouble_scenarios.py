"""Stories about servers in trouble, repeated commands and forged bells; see `scenarios.py`."""

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
from faults.late_scenarios import LEASE, SHORT, warm
from faults.scenarios import WAITER_TTL, Scenario, freeze, store_on

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming, LockError
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
    """The server stood still, and the process whose turn it is comes back two seconds later."""
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
        await asyncio.sleep(2)
        del beat._beat
        await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in tasks] == [True, False]
        await locks[0].release()
        await asyncio.wait_for(tasks[1], 10)
        await locks[1].release()


async def a_number_is_issued_once_after_a_flush(server: EmbeddedRedis) -> None:
    """A returning ticket whose number was issued anew gets another, and its whole lifetime."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        first = one.lock("c")
        await first.acquire()
        old = two.lock("c", wait_timeout=30, lock_lifetime=30)
        assert await old.queue() == 2
        two.engine().heartbeat._beat = lambda *_: None  # type: ignore[method-assign]
        with client_of(server) as client:
            client.flushall()
        async with one.lock("c"):
            new = one.lock("c", wait_timeout=30, lock_lifetime=30)
            assert await new.queue() == 2
            engine = two.engine()
            answer = await engine.link.call(engine.requests.acquire(old.waiter, number=2))
            assert answer[:2] == [0, 3]
            with client_of(server) as client:
                waiters = client.hgetall(keys_of(one)[3])
            assert {waiters[number].split()[1] for number in ("2", "3")} == {"30150"}


async def a_repeated_break_breaks_one_turn(server: EmbeddedRedis) -> None:
    """The link repeats a break whose answer was lost: the next turn goes on."""
    async with store_on(server) as one, store_on(server) as two:
        await one.lock("c").acquire()
        innocent = two.lock("c", wait_timeout=20)
        await innocent.queue()
        engine, words = one.engine(), []
        call = engine.scripts.break_turn
        engine.scripts.break_turn = lambda *a, **k: words.append(call(*a, **k)) or words[0]  # type: ignore[method-assign]
        assert await one.break_lock("c")
        grant = await innocent.acquire()
        await engine.link.call(words[0])
        state = await two.inspect("c")
        assert state.holder is not None
        assert state.holder.fence == grant.fence
        await innocent.release()


async def a_repeated_delete_drops_no_new_ticket(server: EmbeddedRedis) -> None:
    """What came after the first sending stays."""
    async with store_on(server) as one, store_on(server) as two:
        await one.issue_ticket("c")
        await one.issue_ticket("c")
        engine, words = one.engine(), []
        call = engine.scripts.break_turn
        engine.scripts.break_turn = lambda *a, **k: words.append(call(*a, **k)) or words[0]  # type: ignore[method-assign]
        await one.delete_lock("c")
        async with two.lock("c") as grant:
            third = await two.issue_ticket("c")
            await engine.link.call(words[0])
            grant.ensure_held()
            assert await two.position("c", third) == 1
            assert (await two.inspect("c")).holder is not None


async def a_repeated_collect_finds_the_same(server: EmbeddedRedis) -> None:
    """The answer of the first sending was lost; a further call has what came since."""
    async with store_on(server) as store:
        async with store.lock("c", incoming=Incoming("first")) as grant:
            for name in ("a", "b"):
                await store.lock("c", incoming=Incoming(name, text=f"text {name}")).queue()
            engine = store.engine()
            words = engine.scripts.collect("c", grant.member, grant.fence, 100, 7)
            once = await engine.link.call(words)
            assert once == [b"a", b"text a", b"b", b"text b"]
            assert await engine.link.call(words) == once
            assert await store.collect(grant) == []
            await store.lock("c", incoming=Incoming("d", text="text d")).queue()
            assert await store.collect(grant) == [("d", "text d")]
            store.answer(grant, dict.fromkeys(("first", "a", "b", "d"), "r"))
        with client_of(server) as client:
            await until(lambda: client.hlen(keys_of(store)[4]) == 4, "texts are dropped")


async def a_short_window_ends_no_other_record(server: EmbeddedRedis) -> None:
    """The window of each message is its own."""
    async with store_on(server) as store:
        for name, window in (("long", 60.0), ("short", 0.2)):
            async with store.lock("c", incoming=Incoming(name, window=window)) as grant:
                store.answer(grant, {name: "reply"}, window)
        await asyncio.sleep(0.5)
        async with store.lock("c", incoming=Incoming("short")):
            pass
        with pytest.raises(DuplicateMessage):
            await store.lock("c", incoming=Incoming("long")).acquire()


async def a_window_shorter_than_the_turn_admits_no_duplicate(server: EmbeddedRedis) -> None:
    """A message that is handled for longer than its window is handled once."""
    message = Incoming("m", window=0.1)
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c", incoming=message) as grant:
            await asyncio.sleep(0.5)
            other = asyncio.create_task(two.lock("c", incoming=Incoming("n")).queue())
            await other  # whose record makes room by forgetting what is old
            again = asyncio.create_task(two.lock("c", incoming=message).acquire())
            await asyncio.sleep(0.3)
            assert (await two.inspect("c")).waiting_count == 1, "the duplicate got a ticket"
            one.answer(grant, {"m": "reply"}, 60)
        result = (await asyncio.gather(again, return_exceptions=True))[0]
        assert isinstance(result, DuplicateMessage)


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


def forged(store: ConcurrentRedisLockStore, request: int, fence: int) -> list[str]:
    """Bells as a client makes them that may publish and has seen all public parts."""
    until_then = int(time.time() * 1000) + 60_000
    grants = [f"grant {request} 1 {fence} {until_then}"]
    grants += [grants[0] + " rollback", grants[0] + " " + 40 * "0", grants[0] + " x", "grant"]
    ends = [
        f"broken {request} {fence}",
        f"finished {request} 0",
        f"stop {request} {fence} rollback",
    ]
    wild = ["", "grant 1 2", f"grant {request} x y z", "nonsense", "answered 9" + 99 * "9", "\xff"]
    return [*grants, *ends, f"answered {request}", *wild]


async def forged_bells_grant_nothing(server: EmbeddedRedis) -> None:
    """A client with PUBLISH alone can neither grant nor end a turn, nor raise a fence."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        async with one.lock("c") as grant:
            waiting = two.lock("c", wait_timeout=20)
            task = asyncio.create_task(waiting.acquire())
            await until(lambda: waiting.waiter.number > 0, "it waits")
            with client_of(server) as client:
                for fence in (grant.fence, grant.fence + 1, 2**53 - 2, 2**63 - 1):
                    for store, request in ((two, waiting.waiter.request), (one, grant.request)):
                        channel = store.engine().scripts.keys.bell + store.engine().process
                        for text in forged(store, request, fence):
                            client.publish(channel, text)
            await asyncio.sleep(0.5)
            assert not task.done()
            assert grant.superseded is None
            grant.ensure_held()
        second = await asyncio.wait_for(task, 5)
        assert second.fence < 2**52
        await waiting.release()


async def a_bell_heard_by_others_is_of_no_use_to_them(server: EmbeddedRedis) -> None:
    """Who may subscribe and publish can repeat a bell, and not make another of it."""
    async with store_on(server, **SHORT) as one, store_on(server, **SHORT) as two:
        engine = two.engine()
        await warm(two)
        with client_of(server) as client, client.pubsub() as ear:
            channel = engine.scripts.keys.bell + engine.process
            ear.subscribe(channel)
            ear.get_message(timeout=1)
            held = one.lock("c")
            await held.acquire()
            lock = two.lock("c", wait_timeout=20)
            await lock.queue()
            await held.release()
            grant = await lock.acquire()
            text = ear.get_message(timeout=2)["data"]
            kind, request, number, fence, lease, mac = text.split()
            for changed in (
                f"broken {request} {fence} {mac}",
                f"stop {request} {fence} rollback {mac}",
                f"{kind} {request} {number} {int(fence) + 9} {lease} {mac}",
                text,
            ):
                client.publish(channel, changed)
            await asyncio.sleep(0.3)
            grant.ensure_held()
            assert (grant.superseded, grant.fence) == (None, int(fence))
            await lock.release()
            again = await asyncio.wait_for(two.lock("c").acquire(), 5)
            client.publish(channel, text)
            await asyncio.sleep(0.2)
            again.ensure_held()


async def a_bell_without_a_signature_is_a_reason_to_look(server: EmbeddedRedis) -> None:
    """A replica of version 0.1.0 signs none: its hand-off is found at once, not in a second."""
    async with store_on(server) as one, store_on(server) as two:
        held = one.lock("c")
        await held.acquire()
        lock = two.lock("c", wait_timeout=20)
        await lock.queue()
        engine = two.engine()
        heard, beats = engine._heard, engine.heartbeat._beat
        engine._heard = lambda text, secret: heard(text.rsplit(b" ", 1)[0], secret)  # type: ignore[method-assign]
        engine.heartbeat._beat = lambda *_: None  # type: ignore[method-assign]  # it is no help
        await held.release()
        await asyncio.wait_for(lock.acquire(), 20)
        engine.heartbeat._beat = beats  # type: ignore[method-assign]
        await lock.release()


async def a_fence_out_of_range_is_refused(server: EmbeddedRedis) -> None:
    """A floor near the end of the numbers would leave the conversation unwritable for ever."""
    async with store_on(server) as store:
        async with store.lock("c") as grant:
            before = grant.fence
            for floor in (2**52, 2**53 - 2, 2**63 - 1, -1):
                with pytest.raises(LockError, match="out of range"):
                    await store.raise_fence(grant, floor)
            assert grant.fence == before
            grant.ensure_held()


HELPERS = {"order_through"}
SCENARIOS: dict[str, Scenario] = {
    name: value
    for name, value in list(globals().items())
    if asyncio.iscoroutinefunction(value) and value.__module__ == __name__ and name not in HELPERS
}
