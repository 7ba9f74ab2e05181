"""Losing the turn reaches the task that works, wherever the lock was entered; and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import pytest
from conftest import until

from ticketlock import AlreadyHeld, Conversations, LockError, LockLost, LockStore, LockTimeout
from ticketlock.locks.grant import Grant

Make = Callable[[], LockStore]


async def wait_for(store: LockStore) -> Grant:
    lock = store.lock("c", label="message 7")
    return await asyncio.wait_for(lock.__aenter__(), 5)


async def create_task(store: LockStore) -> Grant:
    return await asyncio.create_task(store.lock("c", label="message 7").__aenter__())


async def gather(store: LockStore) -> Grant:
    [grant] = await asyncio.gather(store.lock("c", label="message 7").__aenter__())
    return grant


@pytest.mark.parametrize("enter", [wait_for, create_task, gather])
async def test_the_task_that_asked_is_the_body(make_store: Make, enter: Callable) -> None:
    """Not the one that `wait_for` (before Python 3.12), `create_task` or `gather` has made."""
    async with make_store() as store:
        ended: list[str] = []

        async def work() -> None:
            grant = await enter(store)
            try:
                await store.break_lock("c")
                await asyncio.sleep(20)
                ended.append("not told")
            except asyncio.CancelledError:
                ended.append(grant.reason or "cancelled for nothing")

        await asyncio.wait([asyncio.create_task(work())])
        assert "broke" in ended[0]


async def entered_elsewhere(store: LockStore) -> Grant:
    """Entered in a task that is over, as `AsyncExitStack` in `wait_for` or a fixture does."""
    stack = AsyncExitStack()
    lock = store.lock("c", label="message 7")
    grant = await asyncio.create_task(stack.enter_async_context(lock))
    assert isinstance(grant, Grant)
    return grant


@pytest.mark.parametrize("use", ["ensure_held", "bind"])
async def test_who_uses_the_grant_is_the_body(make_store: Make, use: str) -> None:
    """Once the task that entered is over."""
    async with make_store() as store:

        async def work() -> str | None:
            grant = await entered_elsewhere(store)
            getattr(grant, use)()
            with suppress(asyncio.CancelledError):
                await store.break_lock("c")
                await asyncio.sleep(20)
                return "not told"
            return grant.reason

        assert "broke" in str(await asyncio.create_task(work()))


async def test_a_turns_own_operations_bind(make_store: Make) -> None:
    """`add` and `commit`, like `ensure_held`."""
    conversations = Conversations(make_store())

    async def work() -> str | None:
        turn = conversations.turn("c")
        stack = AsyncExitStack()
        await asyncio.create_task(stack.enter_async_context(turn))
        turn.add({"event": "user", "text": "hello"})
        with suppress(asyncio.CancelledError):
            await conversations.lock_store.break_lock("c")
            await asyncio.sleep(20)
            return "not told"
        return turn.grant.reason

    assert "broke" in str(await asyncio.create_task(work()))
    await conversations.close()


async def test_a_turn_without_a_task_is_loud(
    make_store: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says what to do, while it is held, and again when it is lost."""
    async with make_store() as store:
        await entered_elsewhere(store)
        await until(lambda: "has ended before its turn" in caplog.text, "a warning")
        assert "'c' (message 7)" in caplog.text
        assert caplog.text.count("grant.bind()") == 1
        await store.break_lock("c")
        await until(lambda: caplog.text.count("grant.bind()") == 2, "another warning")


async def test_a_bound_acquire_is_cancelled_once(make_store: Make) -> None:
    """`acquire`, `bind`, `release`: cancelled in the body, LockLost from `release`, then no more."""
    async with make_store() as store:
        seen: list[str] = []

        async def work() -> None:
            lock = store.lock("c")
            grant = await lock.acquire()
            grant.bind()
            try:
                await store.break_lock("c")
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                seen.append("cancelled")
            with pytest.raises(LockLost):
                await lock.release()
            await asyncio.sleep(0.01)
            seen.append("went on")

        await asyncio.create_task(work())
        assert seen == ["cancelled", "went on"]


async def test_another_task_may_leave(make_store: Make) -> None:
    """As a fixture's teardown: the task that entered, and lives, is cancelled by a loss only."""
    async with make_store() as store:
        lock = store.lock("c")
        await lock.__aenter__()
        await asyncio.create_task(lock.__aexit__(None, None, None))
        async with store.lock("c", wait_timeout=5):
            pass


async def test_a_loss_is_in_the_log(make_store: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Once: the conversation, the label, the ticket, how long it was held, and why."""
    async with make_store() as store:
        with pytest.raises(LockLost):
            async with store.lock("c", label="message 7", lock_lifetime=0.2):
                await asyncio.sleep(20)
        with pytest.raises(LockLost):
            async with store.lock("d"):
                await store.break_lock("d")
                await asyncio.sleep(20)
    found = [r for r in caplog.records if "lost the lock" in r.getMessage()]
    texts = [record.getMessage() for record in found]
    assert len(texts) == 2
    start = (
        f"lost the lock of conversation 'c' (message 7), ticket {vars(found[0])['ticket']}, held"
    )
    assert texts[0].startswith(start)
    assert "lock_lifetime of 0.2 s" in texts[0]
    assert "conversation 'd', ticket" in texts[1]
    assert {(r.name, r.levelno) for r in found} == {("ticketlock.lock", logging.WARNING)}
    facts = vars(found[0])
    assert (facts["conversation"], facts["message_id"]) == ("c", "message 7")
    assert (facts["why"], facts["cause"]) == ("its lock_lifetime of 0.2 s is over", "too_slow")
    assert 0.2 <= facts["held_for"] < 20
    assert vars(found[1])["cause"] == "broken"


async def test_a_turn_broken_elsewhere_is_in_the_log(
    make_store: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """At the process that had it, also when it finds out as late as on leaving."""
    async with make_store() as store, make_store() as other:
        with pytest.raises(LockLost):
            async with store.lock("c", label="message 7"):
                await other.break_lock("c")
        assert caplog.text.count("lost the lock of conversation 'c' (message 7)") == 1


async def test_entering_again_is_told_at_once(make_store: Make) -> None:
    """The same task, in the turn itself: an error that says what to do, and the turn goes on."""
    async with make_store() as store, Conversations(make_store()) as conversations:
        async with store.lock("c") as grant:
            with pytest.raises(AlreadyHeld, match=r"store\.try_lock\(\)"):
                await store.lock("c").acquire()
            ahead = store.lock("c")
            await ahead.queue()  # a place behind the own turn is no mistake
            async with store.try_lock("c") as second:
                assert second is None
            with pytest.raises(LockTimeout):
                await store.lock("c", wait_timeout=0.05).acquire()
            grant.ensure_held()
        async with ahead:
            with pytest.raises(AlreadyHeld):
                async with store.lock("c"):
                    pass
        async with conversations.turn("t"):
            with pytest.raises(AlreadyHeld):
                async with conversations.turn("t"):
                    pass
        async with store.lock("c", wait_timeout=5):
            pass


async def test_another_task_may_wait_in_ones_turn(make_store: Make) -> None:
    """A task that the body has started waits, and has its turn after the body's."""
    async with make_store() as store:
        order: list[str] = []

        async def later() -> None:
            async with store.lock("c"):
                order.append("later")

        async with store.lock("c"):
            task = asyncio.create_task(later())
            await asyncio.sleep(0.1)
            order.append("first")
        await asyncio.wait_for(task, 20)
        assert order == ["first", "later"]


async def test_acquired_and_acquired_again_is_in_the_log(
    make_store: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Another task may release what `acquire` has got, so waiting for it is no error."""
    async with make_store() as store:
        first, second = store.lock("c"), store.lock("c")
        await first.acquire()
        asyncio.get_running_loop().call_later(0.2, lambda: releasing.append(release()))
        releasing: list[asyncio.Task[None]] = []

        def release() -> asyncio.Task[None]:
            return asyncio.create_task(first.release())

        await second.acquire()
        assert "already held" in caplog.text
        await second.release()


async def test_release_without_a_turn(make_store: Make) -> None:
    """It never hides why there is none, and says what was forgotten."""
    async with make_store() as store:
        with pytest.raises(LockError, match="not acquired"):
            await store.lock("c").release()
        async with store.lock("c"):

            async def in_vain() -> None:
                lock = store.lock("c", wait_timeout=0.05)
                try:
                    await lock.acquire()
                finally:
                    await lock.release()

            with pytest.raises(LockTimeout):
                await asyncio.create_task(in_vain())
        lock = store.lock("c")
        await lock.acquire()
        await lock.release()
        with pytest.raises(LockError, match="released already"):
            await lock.release()
        async with store.lock("c") as grant:
            grant.ensure_held()
        async with (again := store.lock("c")):
            await again.release()  # early, inside the block
        with pytest.raises(LockError, match="not entered"):
            await store.lock("c").__aexit__(None, None, None)
