"""Stories about repeated commands and forged bells; see `scenarios.py`."""

from __future__ import annotations

import asyncio
import time

import pytest
from conftest import until
from faults.late_scenarios import SHORT, warm
from faults.scenarios import store_on, stories
from faults.trouble_scenarios import client_of, keys_of

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming, LockError
from ticketlock.redis.embedded import EmbeddedRedis


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


SCENARIOS = stories(globals())
