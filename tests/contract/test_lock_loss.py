"""What every lock store promises when a turn ends early: its lifetime, a break, a cancellation."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from conftest import until
from contract.locking import Make, enter

from ticketlock import (
    LockError,
    LockLost,
    LockStore,
)


async def test_lifetime_ends_the_turn(make_store: Make) -> None:
    """At the end of its lifetime the body is cancelled and the next one is served."""
    async with make_store() as store:
        lost: list[bool] = []

        async def slow() -> None:
            async with store.lock("c", lock_lifetime=0.3) as grant:
                try:
                    await asyncio.sleep(30)
                finally:
                    lost.append(grant.lost.is_set())

        task = asyncio.create_task(slow())
        await until_held(store, "c")
        async with store.lock("c", wait_timeout=10) as grant:
            grant.ensure_held()
        with pytest.raises(LockLost, match=r"lock_lifetime of 0\.3 s"):
            await task
        assert lost == [True]


async def until_held(store: LockStore, conversation: str) -> None:
    while (await store.inspect(conversation)).holder is None:
        await asyncio.sleep(0.005)


async def test_break_lock_ends_the_turn(make_store: Make) -> None:
    """`break_lock` cancels the holder, serves the next, and minds the fence."""
    async with make_store() as store:
        fences: list[int] = []

        async def stuck() -> None:
            async with store.lock("c") as grant:
                fences.append(grant.fence)
                await asyncio.sleep(30)

        task = asyncio.create_task(stuck())
        await until(lambda: fences, "the holder is in")
        assert not await store.break_lock("c", fence=fences[0] - 1)
        assert await store.break_lock("c", fence=fences[0])
        async with store.lock("c", wait_timeout=5) as grant:
            assert grant.fence > fences[0]
        with pytest.raises(LockLost):
            await task
        assert not await store.break_lock("c")


async def test_bodys_exception_comes_out(make_store: Make) -> None:
    """An exception in the body passes unchanged, and the turn ends."""
    async with make_store() as store:
        with pytest.raises(ZeroDivisionError):
            async with store.lock("c"):
                raise ZeroDivisionError
        async with store.lock("c", wait_timeout=5):
            pass


async def test_bodys_exception_is_not_hidden_by_a_lost_lock(make_store: Make) -> None:
    """A body that fails by itself after losing the lock keeps its own exception."""
    async with make_store() as store:
        with pytest.raises(ZeroDivisionError):
            async with store.lock("c", lock_lifetime=0.2):
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    raise ZeroDivisionError from None


async def test_a_body_that_ignores_the_loss_is_told(make_store: Make) -> None:
    """LockLost is raised on leaving even when the body swallowed its cancellation."""
    async with make_store() as store:
        with pytest.raises(LockLost):
            async with store.lock("c", lock_lifetime=0.2) as grant:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(30)
                with pytest.raises(LockLost):
                    grant.ensure_held()
        # The cancellation was ours: the task goes on.
        await asyncio.sleep(0.01)


async def test_a_body_that_blocks_past_its_lifetime_finds_out(make_store: Make) -> None:
    """`ensure_held` looks at the clock: it knows before the event loop does."""
    async with make_store() as store:
        with pytest.raises(LockLost):
            async with store.lock("c", lock_lifetime=0.2) as grant:
                time.sleep(0.4)
                with pytest.raises(LockLost):
                    grant.ensure_held()


async def test_somebody_elses_cancellation_is_kept(make_store: Make) -> None:
    """Cancelling the task from outside is a CancelledError, not a LockLost."""
    async with make_store() as store:
        task = asyncio.create_task(enter(store, "c", [], 0, hold=30))
        await until_held(store, "c")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with store.lock("c", wait_timeout=5):
            pass


async def test_lost_can_be_awaited(make_store: Make) -> None:
    """`await grant.lost` returns when the turn is lost."""
    async with make_store() as store:
        watchers: list[asyncio.Task[None]] = []
        with pytest.raises(LockLost):
            async with store.lock("c", lock_lifetime=0.2) as grant:
                watchers.append(asyncio.create_task(grant.lost.wait()))
                await asyncio.sleep(30)
        await asyncio.wait_for(watchers[0], 20)


async def test_a_turn_that_was_left_is_not_held(make_store: Make) -> None:
    """What goes on behind the block, a task it has started, may not write any more."""
    async with make_store() as store:
        async with store.lock("c") as grant:
            grant.ensure_held()
        with pytest.raises(LockLost, match="released"):
            grant.ensure_held()
        assert grant.reason is None  # nothing was lost, and nothing is logged
        lock = store.lock("c")
        grant = await lock.acquire()
        await lock.release()
        with pytest.raises(LockLost, match="released"):
            grant.ensure_held()


async def test_raise_fence(make_store: Make) -> None:
    """A turn that is held can be given a fence above any floor; later ones are higher still."""
    async with make_store() as store:
        async with store.lock("c") as grant:
            floor = grant.fence + 10**12
            await store.raise_fence(grant, floor)
            assert grant.fence > floor
            raised = grant.fence
            grant.ensure_held()
        async with store.lock("c", wait_timeout=5) as grant:
            assert grant.fence > raised
            for floor in (-1, 2**52, "1", None):
                with pytest.raises(LockError, match="out of range"):
                    await store.raise_fence(grant, floor)


async def test_a_lock_is_spent_after_a_cancellation(make_store: Make) -> None:
    """Entering again is an error that says so."""
    async with make_store() as store:
        async with store.lock("c"):
            lock = store.lock("c")
            task = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
            with pytest.raises(LockError, match="one turn"):
                await lock.acquire()


async def test_two_cancellations_are_not_one(make_store: Make) -> None:
    """A turn lost and a task cancelled in the same moment: the cancellation is kept."""
    async with make_store() as store:
        went_on = []

        async def worker() -> None:
            with suppress(LockLost):
                async with store.lock("c") as grant:
                    grant.lose("for the test")
                    asyncio.current_task().cancel()
            await asyncio.sleep(0.01)
            went_on.append(True)

        task = asyncio.create_task(worker())
        await asyncio.wait([task])
        assert not went_on
        assert task.cancelled()


async def test_a_body_that_waits_for_tasks_of_its_own(make_store: Make) -> None:
    """Its cancellation passes through them, and is LockLost at the end all the same."""
    async with make_store() as store:
        for wait in (asyncio.create_task, asyncio.gather):
            with pytest.raises(LockLost):
                async with store.lock("own tasks"):
                    asyncio.get_running_loop().call_soon(
                        asyncio.create_task, store.break_lock("own tasks")
                    )
                    await wait(asyncio.sleep(30))
