"""The documented methods of every lock store, and that a lock is for one use by one task."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest
from contract.locking import Make, maybe

from ticketlock import (
    Grant,
    LockError,
    LockStoreConnectionError,
    TicketLock,
)
from ticketlock.process import clock


async def test_documented_interface(make_store: Make) -> None:
    """Tickets by hand: issue, look who is served, finish, clean up."""
    async with make_store() as store:
        first = await store.issue_ticket("c", 30)
        second = await store.issue_ticket("c", 30)
        assert second == first + 1
        lock: TicketLock = await maybe(store.get_lock("c"))
        assert lock.now_serving == first
        assert not lock.is_locked(first)
        assert lock.is_locked(second)
        assert await store.is_someone_waiting("c")
        await store.finish_serving("c", first)
        lock = await maybe(store.get_lock("c"))
        assert lock.now_serving == second
        assert not await store.is_someone_waiting("c")
        await store.cleanup("c", second)
        assert not await store.is_someone_waiting("c")
        async with store.lock("c", wait_timeout=5):
            pass


async def test_update_lock_drops_what_has_expired(make_store: Make) -> None:
    """And leaves the rest; where there is no lock it makes none."""
    async with make_store() as store:
        await store.update_lock("c")
        assert not await store.is_someone_waiting("c")
        await store.issue_ticket("c", 0.2)
        number = await store.issue_ticket("c", 30)
        end = clock() + 10
        while [t.number for t in (await store.get_or_create_lock("c")).tickets] != [number]:
            assert clock() < end
            await asyncio.sleep(0.05)
            await store.update_lock("c")


async def test_a_hand_made_ticket_expires(make_store: Make) -> None:
    """A ticket of `issue_ticket` lives its lifetime and no longer."""
    async with make_store() as store:
        await store.issue_ticket("c", 0.3)
        async with store.lock("c", wait_timeout=10):
            pass


async def test_save_and_delete(make_store: Make) -> None:
    """A saved lock is found again, a deleted one is not."""
    async with make_store() as store:
        lock = store.create_lock("c")
        lock.issue_ticket(30)
        lock.issue_ticket(30)
        await maybe(store.save_lock(lock))
        found: TicketLock = await maybe(store.get_lock("c"))
        assert len(found.tickets) == 2
        await maybe(store.delete_lock("c"))
        found = await maybe(store.get_lock("c"))
        assert found is None or not found.tickets
        async with store.lock("c", wait_timeout=5):
            pass


async def test_a_lock_is_for_one_turn(make_store: Make) -> None:
    """Entering the same Lock twice is an error, not a second ticket."""
    async with make_store() as store:
        lock = store.lock("c")
        async with lock:
            pass
        with pytest.raises(LockError, match="one turn"):
            async with lock:
                pass


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_lock_is_for_one_task(make_store: Make, ahead: bool) -> None:
    """Tasks that share a Lock: one enters, the others are told at once, none waits for ever."""
    async with make_store() as store:
        lock, inside = store.lock("c"), 0
        if ahead:
            await lock.queue()

        async def share() -> None:
            nonlocal inside
            async with lock:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0.05)
                inside -= 1

        sharing = [asyncio.create_task(share()) for _ in range(3)]
        results = await asyncio.wait_for(asyncio.gather(*sharing, return_exceptions=True), 20)
        assert [type(result) for result in results] == [type(None), LockError, LockError]
        async with store.lock("c", wait_timeout=5):
            pass


async def test_a_lock_takes_one_ticket(make_store: Make) -> None:
    """Two `queue()` of one Lock at once, or one and an entrance, take one ticket."""
    async with make_store() as store:
        lock = store.lock("c")
        results = await asyncio.wait_for(
            asyncio.gather(lock.queue(), lock.queue(), return_exceptions=True), 20
        )
        assert [type(result) for result in results] == [int, LockError]
        async with lock:
            assert (await store.inspect("c")).waiting_count == 0
        lock = store.lock("c")
        _, entered = await asyncio.wait_for(
            asyncio.gather(lock.queue(), lock.acquire(), return_exceptions=True), 20
        )
        assert isinstance(entered, (Grant, LockError))  # in memory the ticket is there by then
        async with nullcontext() if isinstance(entered, Grant) else lock:
            assert (await store.inspect("c")).waiting_count == 0
        if isinstance(entered, Grant):
            await lock.release()


async def test_one_store_one_loop(make_store: Make) -> None:
    """A second event loop in another thread is an error at once, that says what to do."""
    async with make_store() as store:

        async def use() -> None:
            async with store.lock("c"):
                pass

        async with store.lock("c"):
            with pytest.raises(LockStoreConnectionError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, asyncio.wait_for(use(), 20))
        await use()
