"""Stories about messages with an id, each on a real Redis of its own; see `scenarios.py`."""

from __future__ import annotations

import asyncio

from conftest import until
from faults.scenarios import beats, bells, freeze, soon, store_on, stories

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis


async def handle(store: ConcurrentRedisLockStore, message: Incoming, served: list[str]) -> str:
    """Take a turn for a message and answer it; what a duplicate is told else."""

    async def turn() -> str:
        try:
            async with store.lock("c", incoming=message) as grant:
                served.append(message.message_id)
                await asyncio.sleep(0.01)
                store.answer(grant, {message.message_id: "first"})
                return "first"
        except DuplicateMessage as duplicate:
            return duplicate.reply

    return await soon(turn(), f"message {message.message_id} is handled")


async def queued(store: ConcurrentRedisLockStore, count: int) -> None:
    """Wait until so many tickets wait behind the turn."""
    while (await store.inspect("c")).waiting_count < count:
        await asyncio.sleep(0.005)


async def a_duplicate_gets_no_turn(server: EmbeddedRedis) -> None:
    """Whether the first one waits, is being handled, or is done; on any replica."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[str] = []
        async with one.lock("c"):
            tasks = [asyncio.create_task(handle(one, Incoming("m"), served)) for _ in range(3)]
            await asyncio.sleep(0.05)
            tasks += [asyncio.create_task(handle(two, Incoming("m"), served)) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert (await one.inspect("c")).waiting_count == 1
        assert await asyncio.gather(*tasks) == ["first"] * 6
        assert await handle(two, Incoming("m"), served) == "first"
        assert served == ["m"]


async def a_reply_comes_without_polling(server: EmbeddedRedis) -> None:
    """Its bell brings it in milliseconds."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c", incoming=Incoming("m")) as grant:
            task = asyncio.create_task(handle(two, Incoming("m"), []))
            await asyncio.sleep(0.1)
            heard = bells(two)
            one.answer(grant, {"m": "first"})
        assert await task == "first"
        assert [text.split()[0] for text in heard] == [b"answered"]


async def a_reply_whose_bell_is_lost_comes(server: EmbeddedRedis) -> None:
    """The duplicate looks once a second."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c", incoming=Incoming("m")) as grant:
            task = asyncio.create_task(handle(two, Incoming("m"), []))
            await asyncio.sleep(0.1)
            two.engine().link._on_push = None
            one.answer(grant, {"m": "first"})
        assert await task == "first"


async def a_message_of_a_dead_turn_is_handled(server: EmbeddedRedis) -> None:
    """Its replica died with it: the duplicate gets a turn once the lease is over."""
    async with store_on(server) as one, store_on(server) as two:
        await one.lock("c", incoming=Incoming("m")).acquire()
        freeze(one)
        served: list[str] = []
        assert await handle(two, Incoming("m"), served) == "first"
        assert served == ["m"]


async def a_message_of_a_dead_waiter_is_handled(server: EmbeddedRedis) -> None:
    """Its replica died while it waited: the duplicate gets a ticket."""
    async with store_on(server) as one, store_on(server) as two:
        async with two.lock("c"):
            await one.lock("c", incoming=Incoming("m")).queue()
            freeze(one)
            served: list[str] = []
            task = asyncio.create_task(handle(two, Incoming("m"), served))
            end = clock() + 8
            while (await two.inspect("c")).waiting_count < 2:
                assert clock() < end, "it got no ticket"
                await asyncio.sleep(0.05)
        assert await task == "first"
        assert served == ["m"]


async def a_stale_turn_cannot_answer(server: EmbeddedRedis) -> None:
    """A replica that was frozen past its lease, and whose message was handled by another."""
    async with store_on(server) as one, store_on(server) as two:
        grant = await one.lock("c", incoming=Incoming("m")).acquire()
        freeze(one)
        assert await handle(two, Incoming("m"), []) == "first"
        one.answer(grant, {"m": "stale"})
        await one.inspect("c")  # the answer was sent before
        assert await handle(two, Incoming("m"), []) == "first"


async def carried_messages_are_handled_once(server: EmbeddedRedis) -> None:
    """Those right behind the turn, none behind one that needs its own turn."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[str] = []
        async with one.lock("c") as grant:
            messages = [Incoming(n, text=None if n == "c" else n) for n in "abcd"]
            tasks = []
            for i, message in enumerate(messages):
                tasks.append(asyncio.create_task(handle((one, two)[i % 2], message, served)))
                await queued(one, len(tasks))
            assert await one.collect(grant) == [("a", "a"), ("b", "b")]
            assert await one.collect(grant) == []
            one.answer(grant, {"a": "A", "b": "B"})
            assert (await one.inspect("c")).waiting_count == 2
        assert await asyncio.gather(*tasks) == ["A", "B", "first", "first"]
        assert served == ["c", "d"]


async def a_carried_message_of_a_dead_turn_keeps_its_place(server: EmbeddedRedis) -> None:
    """It is handled in its own turn, before what came after it."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[str] = []
        grant = await one.lock("c", incoming=Incoming("dies")).acquire()
        tasks = []
        for name in "abc":
            message = Incoming(name, text=None if name == "c" else name)
            tasks.append(asyncio.create_task(handle(two, message, served)))
            await queued(one, len(tasks))
        assert len(await one.collect(grant)) == 2
        freeze(one)
        assert await asyncio.gather(*tasks) == ["first"] * 3
        assert served == ["a", "b", "c"]


async def a_lost_turn_answers_for_no_message_whose_own_turn_has_begun(
    server: EmbeddedRedis,
) -> None:
    """It had carried the message, and was broken; what it says late is not the reply."""
    async with store_on(server) as one, store_on(server) as two, store_on(server) as three:
        grant = await one.lock("c", incoming=Incoming("first")).acquire()
        lock = two.lock("c", incoming=Incoming("a", text="text"), wait_timeout=20)
        await lock.queue()
        assert await one.collect(grant) == [("a", "text")]
        freeze(one)
        assert await three.break_lock("c", grant.fence)
        own = await lock.acquire()
        one.answer(grant, {"first": "late", "a": "late"})
        await one.engine().link.call(("PING",))  # it has come
        two.answer(own, {"a": "own"})
        await lock.release()
        assert await handle(three, Incoming("a"), []) == "own"


async def a_carried_message_without_a_reply_keeps_its_place(server: EmbeddedRedis) -> None:
    """The turn failed, and the next begins at once."""
    async with store_on(server) as one, store_on(server) as two:
        served: list[str] = []
        async with one.lock("c") as grant:
            tasks = []
            for name in "abc":
                message = Incoming(name, text=None if name == "c" else name)
                tasks.append(asyncio.create_task(handle(two, message, served)))
                await queued(one, len(tasks))
            assert len(await one.collect(grant)) == 2
        assert await asyncio.gather(*tasks) == ["first"] * 3
        assert served == ["a", "b", "c"]


async def those_before_are_asked_to_stop(server: EmbeddedRedis) -> None:
    """The turn that is served, at once, and the one that waits before, when it is served."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c") as first:
            heard = bells(one)
            second = one.lock("c")
            await second.queue()
            third = two.lock("c", incoming=Incoming("m", supersede="interrupt"))
            await third.queue()
            assert await soon(first.until_superseded(), "it is asked to stop") == "interrupt"
            assert any(text.startswith(b"stop") for text in heard), "a heartbeat told it"
        async with second as grant:
            assert grant.superseded == "interrupt"  # as it was granted
        async with third as grant:
            heard_of = beats(two)
            await until(lambda: len(heard_of) >= 2, "two heartbeats")
            assert grant.superseded is None


async def a_lost_bell_hides_no_stop(server: EmbeddedRedis) -> None:
    """The heartbeat of the turn learns of it."""
    async with store_on(server) as one, store_on(server) as two:
        async with one.lock("c") as first:
            one.engine().link._on_push = None
            await two.lock("c", incoming=Incoming("m", supersede="rollback")).queue()
            assert await soon(first.until_superseded(), "a heartbeat asks it to stop") == "rollback"


SCENARIOS = stories(globals())
