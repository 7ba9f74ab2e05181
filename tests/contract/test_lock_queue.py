"""What every lock store promises of its queue: one turn at a time, first in, first out."""

from __future__ import annotations

import asyncio
import random

import pytest
from contract.locking import Make, enter, maybe

from ticketlock import (
    Grant,
    LockError,
    LockLost,
    LockStore,
    LockTimeout,
    QueueFull,
)


async def queue_up(store: LockStore, conversation: str, served: list[int], count: int):
    """Start `count` tasks, each with its ticket before the next is started."""
    tasks = []
    for i in range(count):
        lock = store.lock(conversation)
        await lock.queue()

        async def body(lock=lock, i=i):
            async with lock as grant:
                served.append(i)
                return grant

        tasks.append(asyncio.create_task(body()))
    return tasks


async def test_one_turn(make_store: Make) -> None:
    """A turn has a number, a fence and its conversation, and ends without a trace."""
    async with make_store() as store:
        async with store.lock("c") as grant:
            assert grant.conversation_id == "c"
            assert grant.number >= 0
            assert grant.fence > 0
            assert not grant.lost.is_set()
            grant.ensure_held()
            state = await store.inspect("c")
            assert state.holder is not None
            assert state.holder.number == grant.number
            assert await store.position("c", grant.number) == 0
        assert (await store.inspect("c")).holder is None
        left = await maybe(store.get_lock("c"))
        assert left is None or not left.tickets


async def test_never_two_at_once(make_store: Make) -> None:
    """Turns of one conversation never overlap; two replicas make no difference."""
    async with make_store() as one, make_store() as two:
        inside = 0

        async def worker(store: LockStore, seed: int) -> None:
            nonlocal inside
            rng = random.Random(seed)
            for _ in range(5):
                async with store.lock("c") as grant:
                    inside += 1
                    assert inside == 1
                    await asyncio.sleep(rng.random() * 0.003)
                    grant.ensure_held()
                    inside -= 1

        await asyncio.gather(*(worker((one, two)[i % 2], i) for i in range(8)))


async def test_first_in_first_out(make_store: Make) -> None:
    """Tickets are served in the order in which they were issued, with growing fences."""
    async with make_store() as store:
        served: list[int] = []
        async with store.lock("c"):
            tasks = await queue_up(store, "c", served, 12)
            assert served == []
        grants: list[Grant] = await asyncio.gather(*tasks)
        assert served == list(range(12))
        fences = [grant.fence for grant in grants]
        assert fences == sorted(set(fences))
        numbers = [grant.number for grant in grants]
        assert numbers == sorted(set(numbers))


async def test_order_holds_across_replicas(make_store: Make) -> None:
    """Order is the order of tickets, whichever replica took them."""
    async with make_store() as one, make_store() as two:
        served: list[int] = []
        async with one.lock("c"):
            locks = []
            for i in range(6):
                locks.append((one, two)[i % 2].lock("c"))
                await locks[-1].queue()

            async def body(i: int) -> None:
                async with locks[i]:
                    served.append(i)

            tasks = [asyncio.create_task(body(i)) for i in reversed(range(6))]
        await asyncio.gather(*tasks)
        assert served == list(range(6))


async def test_conversations_do_not_wait_for_each_other(make_store: Make) -> None:
    """Holding one conversation leaves every other one free."""
    async with make_store() as store, store.lock("a"):
        async with store.lock("b"), store.lock("a:1"):
            pass


async def test_timeout_tells_why(make_store: Make) -> None:
    """A LockTimeout knows position, holder and for how long; the ticket is gone."""
    async with make_store() as store:
        async with store.lock("c", label="slow"):
            with pytest.raises(LockTimeout) as caught:
                async with store.lock("c", wait_timeout=0.1):
                    pytest.fail("entered")
            assert caught.value.position == 1
            assert caught.value.holder
            assert caught.value.held_for is not None
            assert caught.value.held_for >= 0.05
        async with store.lock("c", wait_timeout=5):
            pass


async def test_waiting_does_not_eat_the_lifetime(make_store: Make) -> None:
    """The lifetime counts from the grant: a waiter outlives slow holders before it."""
    async with make_store() as store:
        served: list[int] = []
        async with store.lock("c", lock_lifetime=5):
            lock = store.lock("c", lock_lifetime=0.4)
            await lock.queue()
            await asyncio.sleep(0.6)
        async with lock as grant:
            served.append(1)
            await asyncio.sleep(0.1)
            grant.ensure_held()
        assert served == [1]


async def test_a_cancelled_waiter_leaves_nothing(make_store: Make) -> None:
    """Cancelled at any moment, a waiter neither blocks the queue nor keeps a turn."""
    rng = random.Random(7)
    async with make_store() as store:
        served: list[int] = []
        for _ in range(30):
            tasks = [asyncio.create_task(enter(store, "c", served, i)) for i in range(4)]
            await asyncio.sleep(rng.choice([0, 0, 0.0005, 0.002, 0.01]))
            for task in tasks:
                if rng.random() < 0.6:
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            errors = [r for r in results if isinstance(r, Exception)]
            assert not errors
        async with store.lock("c", wait_timeout=5):
            pass


async def test_try_lock_does_not_wait(make_store: Make) -> None:
    """`try_lock` gives None while somebody holds, a grant when nobody does."""
    async with make_store() as store:
        async with store.try_lock("c") as grant:
            assert grant is not None
            async with store.try_lock("c") as second:
                assert second is None
            with pytest.raises(LockTimeout):
                async with store.lock("c", wait_timeout=0):
                    pytest.fail("entered")
        async with store.try_lock("c") as third:
            assert third is not None


async def test_bounded_queue(make_store: Make) -> None:
    """With `max_waiting` waiting, the next one gets QueueFull and no ticket."""
    async with make_store() as store:
        served: list[int] = []
        async with store.lock("c"):
            tasks = await queue_up(store, "c", served, 2)
            with pytest.raises(QueueFull) as caught:
                await store.lock("c", max_waiting=2).queue()
            assert caught.value.waiting == 2
            lock = store.lock("c", max_waiting=3)
            await lock.queue()
            lock.withdraw()
        await asyncio.gather(*tasks)
        assert served == [0, 1]


async def test_a_ticket_that_is_withdrawn_while_its_turn_is_waited_for(make_store: Make) -> None:
    """It leaves the queue for good, and who waits for its turn is cancelled."""
    async with make_store() as store:
        async with store.lock("c"):
            lock = store.lock("c")
            await lock.queue()
            entering = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.1)
            lock.withdraw()
            with pytest.raises(asyncio.CancelledError):
                await entering
            assert (await store.inspect("c")).waiting_count == 0


async def test_inspect_shows_the_queue(make_store: Make) -> None:
    """`inspect` and `position` tell who holds and who waits, in order."""
    async with make_store() as store:
        served: list[int] = []
        async with store.lock("c", label="first message") as grant:
            tasks = await queue_up(store, "c", served, 3)
            state = await store.inspect("c")
            assert state.holder is not None
            assert state.holder.number == grant.number
            assert state.holder.fence == grant.fence
            assert state.holder.lease > 0
            assert state.waiting_count == 3
            numbers = [waiting.number for waiting in state.waiting]
            assert numbers == sorted(numbers)
            assert [await store.position("c", n) for n in numbers] == [1, 2, 3]
            assert await store.position("c", 10_000) is None
            assert await store.is_someone_waiting("c")
            assert len((await store.inspect("c", limit=1)).waiting) == 1
        await asyncio.gather(*tasks)
        assert not await store.is_someone_waiting("c")


async def test_close_tells_those_who_wait(make_store: Make) -> None:
    """Closing is an error for whoever waits for a turn, not a silence and not a cancellation."""
    store = make_store()
    await store.lock("c").acquire()
    waiting = asyncio.create_task(store.lock("c").acquire())
    await asyncio.sleep(0.2)
    await store.close()
    with pytest.raises(LockError, match="closed"):
        await asyncio.wait_for(waiting, 5)


async def test_a_finished_waiter_is_told(make_store: Make) -> None:
    """`finish_serving` of somebody's waiting ticket does not leave them waiting for ever."""
    async with make_store() as store:
        async with store.lock("c"):
            lock = store.lock("c", wait_timeout=8)
            number = await lock.queue()
            waiting = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.05)
            await store.finish_serving("c", number)
            if type(store).__name__ in ("InMemoryLockStore", "ConcurrentRedisLockStore"):
                with pytest.raises(LockLost, match="finished"):
                    await asyncio.wait_for(waiting, 5)
        if not waiting.done():  # a polling store puts a live waiter back in its place
            await waiting
            await lock.release()
