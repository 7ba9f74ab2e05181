"""What every lock store promises. Each test runs on each backend of conftest.LOCK_STORES."""

from __future__ import annotations

import asyncio
import numbers
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from fractions import Fraction
from threading import Barrier
from typing import Any

import pytest
from conftest import until

from ticketlock import (
    NO_TICKET_ISSUED,
    AlreadyHeld,
    ConfigurationError,
    Conversations,
    Grant,
    Incoming,
    InMemoryLockStore,
    InvalidConversationId,
    LockError,
    LockLost,
    LockStore,
    LockStoreConnectionError,
    LockTimeout,
    QueueFull,
    TicketLock,
    Turn,
)
from ticketlock.conversations import SyncTurn
from ticketlock.locks.lock import Lock
from ticketlock.locks.store import SyncLockStore
from ticketlock.locks.sync import SyncGrant, SyncLock

Make = Callable[[], LockStore]
Run = Callable[..., None]


async def enter(store: LockStore, conversation: str, served: list[int], i: int, hold: float = 0):
    async with store.lock(conversation) as grant:
        served.append(i)
        await asyncio.sleep(hold)
        return grant


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


def test_one_turn(make_store: Make, run: Run) -> None:
    """A turn has a number, a fence and its conversation, and ends without a trace."""

    async def body() -> None:
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

    run(body())


def test_never_two_at_once(make_store: Make, run: Run) -> None:
    """Turns of one conversation never overlap; two replicas make no difference."""

    async def body() -> None:
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

    run(body())


def test_first_in_first_out(make_store: Make, run: Run) -> None:
    """Tickets are served in the order in which they were issued, with growing fences."""

    async def body() -> None:
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

    run(body())


def test_order_holds_across_replicas(make_store: Make, run: Run) -> None:
    """Order is the order of tickets, whichever replica took them."""

    async def body() -> None:
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

    run(body())


def test_conversations_do_not_wait_for_each_other(make_store: Make, run: Run) -> None:
    """Holding one conversation leaves every other one free."""

    async def body() -> None:
        async with make_store() as store, store.lock("a"):
            async with store.lock("b"), store.lock("a:1"):
                pass

    run(body())


def test_timeout_tells_why(make_store: Make, run: Run) -> None:
    """A LockTimeout knows position, holder and for how long; the ticket is gone."""

    async def body() -> None:
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

    run(body())


def test_waiting_does_not_eat_the_lifetime(make_store: Make, run: Run) -> None:
    """The lifetime counts from the grant: a waiter outlives slow holders before it."""

    async def body() -> None:
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

    run(body())


def test_lifetime_ends_the_turn(make_store: Make, run: Run) -> None:
    """At the end of its lifetime the body is cancelled and the next one is served."""

    async def body() -> None:
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

    run(body())


async def until_held(store: LockStore, conversation: str) -> None:
    while (await store.inspect(conversation)).holder is None:
        await asyncio.sleep(0.005)


def test_break_lock_ends_the_turn(make_store: Make, run: Run) -> None:
    """`break_lock` cancels the holder, serves the next, and minds the fence."""

    async def body() -> None:
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

    run(body())


def test_bodys_exception_comes_out(make_store: Make, run: Run) -> None:
    """An exception in the body passes unchanged, and the turn ends."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(ZeroDivisionError):
                async with store.lock("c"):
                    raise ZeroDivisionError
            async with store.lock("c", wait_timeout=5):
                pass

    run(body())


def test_bodys_exception_is_not_hidden_by_a_lost_lock(make_store: Make, run: Run) -> None:
    """A body that fails by itself after losing the lock keeps its own exception."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(ZeroDivisionError):
                async with store.lock("c", lock_lifetime=0.2):
                    try:
                        await asyncio.sleep(30)
                    except asyncio.CancelledError:
                        raise ZeroDivisionError from None

    run(body())


def test_a_body_that_ignores_the_loss_is_told(make_store: Make, run: Run) -> None:
    """LockLost is raised on leaving even when the body swallowed its cancellation."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(LockLost):
                async with store.lock("c", lock_lifetime=0.2) as grant:
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(30)
                    with pytest.raises(LockLost):
                        grant.ensure_held()
            # The cancellation was ours: the task goes on.
            await asyncio.sleep(0.01)

    run(body())


def test_a_body_that_blocks_past_its_lifetime_finds_out(make_store: Make, run: Run) -> None:
    """`ensure_held` looks at the clock: it knows before the event loop does."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(LockLost):
                async with store.lock("c", lock_lifetime=0.2) as grant:
                    time.sleep(0.4)
                    with pytest.raises(LockLost):
                        grant.ensure_held()

    run(body())


def test_somebody_elses_cancellation_is_kept(make_store: Make, run: Run) -> None:
    """Cancelling the task from outside is a CancelledError, not a LockLost."""

    async def body() -> None:
        async with make_store() as store:
            task = asyncio.create_task(enter(store, "c", [], 0, hold=30))
            await until_held(store, "c")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with store.lock("c", wait_timeout=5):
                pass

    run(body())


def test_a_cancelled_waiter_leaves_nothing(make_store: Make, run: Run) -> None:
    """Cancelled at any moment, a waiter neither blocks the queue nor keeps a turn."""

    async def body() -> None:
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

    run(body())


def test_lost_can_be_awaited(make_store: Make, run: Run) -> None:
    """`await grant.lost` returns when the turn is lost."""

    async def body() -> None:
        async with make_store() as store:
            watchers: list[asyncio.Task[None]] = []
            with pytest.raises(LockLost):
                async with store.lock("c", lock_lifetime=0.2) as grant:
                    watchers.append(asyncio.create_task(grant.lost.wait()))
                    await asyncio.sleep(30)
            await asyncio.wait_for(watchers[0], 20)

    run(body())


def test_try_lock_does_not_wait(make_store: Make, run: Run) -> None:
    """`try_lock` gives None while somebody holds, a grant when nobody does."""

    async def body() -> None:
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

    run(body())


def test_bounded_queue(make_store: Make, run: Run) -> None:
    """With `max_waiting` waiting, the next one gets QueueFull and no ticket."""

    async def body() -> None:
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

    run(body())


def test_inspect_shows_the_queue(make_store: Make, run: Run) -> None:
    """`inspect` and `position` tell who holds and who waits, in order."""

    async def body() -> None:
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

    run(body())


HOSTILE = [
    "a", "a:1", "a:1:last_issued_ticket_number", "a}", "{a}", "}a", "a}:holder", "%7D", "a%7D",
    "*", "?", "[a]", "[0-9]*", "\\", "a\\*", "|nick|", "with space", "line\nbreak", "\t",
    "'quoted\"", "emoji 🎟️", "ß", "\x00nul", "x" * 10_240, "{", "}", "{}", "}{", "-", "0", " ",
]  # fmt: skip


def test_hostile_ids_never_touch_each_other(make_store: Make, run: Run) -> None:
    """Any text is an id, and every id has a lock of its own."""

    async def body() -> None:
        async with make_store() as store:
            locks = [store.lock(conversation) for conversation in HOSTILE]
            for lock in locks:  # all held at once: none waits for another
                grant = await asyncio.wait_for(lock.acquire(), 5)
                grant.ensure_held()
            for lock, conversation in zip(locks, HOSTILE, strict=True):
                state = await store.inspect(conversation)
                assert state.waiting_count == 0
                assert state.holder is not None
                await lock.release()
            for conversation in HOSTILE:
                assert (await store.inspect(conversation)).holder is None

    run(body())


@pytest.mark.parametrize("bad", ["", None, 7, b"bytes", "\ud800"])
def test_bad_ids_are_refused(make_store: Make, run: Run, bad: object) -> None:
    """An empty id, no text, or text that is no Unicode, is an error at once."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(InvalidConversationId):
                store.lock(bad)  # type: ignore[arg-type]
            with pytest.raises((InvalidConversationId, ValueError)):
                await store.issue_ticket(bad)  # type: ignore[arg-type]

    run(body())


def test_documented_interface(make_store: Make, run: Run) -> None:
    """Tickets by hand: issue, look who is served, finish, clean up."""

    async def body() -> None:
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

    run(body())


def test_a_hand_made_ticket_expires(make_store: Make, run: Run) -> None:
    """A ticket of `issue_ticket` lives its lifetime and no longer."""

    async def body() -> None:
        async with make_store() as store:
            await store.issue_ticket("c", 0.3)
            async with store.lock("c", wait_timeout=10):
                pass

    run(body())


def test_save_and_delete(make_store: Make, run: Run) -> None:
    """A saved lock is found again, a deleted one is not."""

    async def body() -> None:
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

    run(body())


def test_a_lock_is_for_one_turn(make_store: Make, run: Run) -> None:
    """Entering the same Lock twice is an error, not a second ticket."""

    async def body() -> None:
        async with make_store() as store:
            lock = store.lock("c")
            async with lock:
                pass
            with pytest.raises(LockError, match="one turn"):
                async with lock:
                    pass

    run(body())


@pytest.mark.parametrize("ahead", [False, True])
def test_a_lock_is_for_one_task(make_store: Make, run: Run, ahead: bool) -> None:
    """Tasks that share a Lock: one enters, the others are told at once, none waits for ever."""

    async def body() -> None:
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

    run(body())


def test_a_lock_takes_one_ticket(make_store: Make, run: Run) -> None:
    """Two `queue()` of one Lock at once, or one and an entrance, take one ticket."""

    async def body() -> None:
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

    run(body())


@pytest.mark.parametrize("with_turns", [False, True])
def test_a_lock_is_for_one_thread(make_store: Make, with_turns: bool) -> None:
    """The same between threads, for locks and for turns."""
    store = make_store()
    conversations = Conversations(store)
    twin = conversations.sync()
    lock = twin.turn("c") if with_turns else store.sync().lock("c")
    with twin, ThreadPoolExecutor(3) as pool:
        barrier, inside = Barrier(3), [0]

        def share() -> None:
            barrier.wait(20)
            with lock:
                inside[0] += 1
                assert inside[0] == 1
                time.sleep(0.1)
                inside[0] -= 1

        errors = [pool.submit(share).exception for _ in range(3)]
        found = sorted(type(error(20)).__name__ for error in errors)
        assert found == ["LockError", "LockError", "NoneType"]
        with twin.turn("c", wait_timeout=5):
            pass


def test_a_turn_that_was_left_is_not_held(make_store: Make, run: Run) -> None:
    """What goes on behind the block, a task it has started, may not write any more."""

    async def body() -> None:
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

    run(body())


def test_one_store_one_loop(make_store: Make, run: Run) -> None:
    """A second event loop in another thread is an error at once, that says what to do."""

    async def body() -> None:
        async with make_store() as store:

            async def use() -> None:
                async with store.lock("c"):
                    pass

            async with store.lock("c"):
                with pytest.raises(LockStoreConnectionError, match="another event loop"):
                    await asyncio.to_thread(asyncio.run, asyncio.wait_for(use(), 20))
            await use()

    run(body())


class Count:
    """A whole number of another library's, as numpy has them."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    def __le__(self, other: int) -> bool:
        return self._value <= other

    def __lt__(self, other: int) -> bool:
        return self._value < other

    def __ge__(self, other: int) -> bool:
        return self._value >= other


numbers.Integral.register(Count)


@pytest.mark.parametrize("number", ["1", 1.5, True, None, -2, 2**63])
def test_what_is_no_ticket_number_or_fence_is_refused(
    make_store: Make, run: Run, number: Any
) -> None:
    """The error names the argument, and nothing is changed."""

    async def body() -> None:
        async with make_store() as store, store.lock("c") as grant:
            for call in (store.position, store.finish_serving, store.cleanup):
                with pytest.raises(ValueError, match="ticket_number must be a whole number"):
                    await call("c", number)
            if number is not None:  # which stands for any turn
                with pytest.raises(ValueError, match="fence must be a whole number"):
                    await store.break_lock("c", number)
            assert await store.position("c", NO_TICKET_ISSUED) is None
            await store.finish_serving("c", NO_TICKET_ISSUED)
            grant.ensure_held()

    run(body())


def test_numbers_of_other_libraries(make_store: Make, run: Run) -> None:
    """They count as what they are; on their way they are ours, beside those of other tasks."""

    async def body() -> None:
        async with make_store() as store:

            async def use(i: int) -> None:
                options: dict[str, Any] = {}
                if i % 2:
                    lifetime = Fraction(7, 2)
                    options = {"max_waiting": Count(3), "lock_lifetime": lifetime}
                async with store.lock(f"c{i}", **options) as grant:
                    await store.inspect(f"c{i}", limit=Count(2))  # type: ignore[arg-type]
                    grant.ensure_held()

            for _ in range(2):  # with a connection that is there already too
                await asyncio.wait_for(asyncio.gather(*(use(i) for i in range(8))), 20)

    run(body())


@pytest.mark.parametrize("text", [5, b"bytes", "\ud800"])
def test_what_no_message_is(make_store: Make, text: object) -> None:
    """A message that is none, or whose text is none, is an error at once."""
    with pytest.raises(ValueError, match=r"text|surrogates"):
        Incoming("id", text=text)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="incoming must be an Incoming"):
        make_store().lock("c", incoming=text)  # type: ignore[arg-type]


def test_sync_twin(make_store: Make) -> None:
    """The threaded twin: the same locks between threads, and its own errors."""
    import threading

    served: list[str] = []
    inside = 0
    with make_store().sync() as store:

        def worker(name: str) -> None:
            nonlocal inside
            for _ in range(3):
                with store.lock("c") as grant:
                    inside += 1
                    assert inside == 1
                    time.sleep(0.001)
                    grant.ensure_held()
                    inside -= 1
                    served.append(name)

        threads = [threading.Thread(target=worker, args=(str(i),), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(served) == 12
        with store.lock("c"):
            with store.try_lock("c") as second:
                assert second is None
            with pytest.raises(LockTimeout):
                store.lock("c", wait_timeout=0.05).__enter__()
            assert store.inspect("c").holder is not None
        with store.try_lock("c") as third:
            assert third is not None
        with pytest.raises(LockLost), store.lock("c", lock_lifetime=0.2) as grant:
            time.sleep(0.4)
            assert grant.lost
        with store.lock("c") as left:
            assert not left.lost
        with pytest.raises(LockLost, match="released"):
            left.ensure_held()


async def maybe(value):
    return await value if asyncio.iscoroutine(value) else value


def test_raise_fence(make_store: Make, run: Run) -> None:
    """A turn that is held can be given a fence above any floor; later ones are higher still."""

    async def body() -> None:
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

    run(body())


def test_close_tells_those_who_wait(make_store: Make, run: Run) -> None:
    """Closing is an error for whoever waits for a turn, not a silence and not a cancellation."""

    async def body() -> None:
        store = make_store()
        await store.lock("c").acquire()
        waiting = asyncio.create_task(store.lock("c").acquire())
        await asyncio.sleep(0.2)
        await store.close()
        with pytest.raises(LockError, match="closed"):
            await asyncio.wait_for(waiting, 5)

    run(body())


def test_a_finished_waiter_is_told(make_store: Make, run: Run) -> None:
    """`finish_serving` of somebody's waiting ticket does not leave them waiting for ever."""

    async def body() -> None:
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

    run(body())


def test_a_lock_is_spent_after_a_cancellation(make_store: Make, run: Run) -> None:
    """Entering again is an error that says so."""

    async def body() -> None:
        async with make_store() as store:
            async with store.lock("c"):
                lock = store.lock("c")
                task = asyncio.create_task(lock.acquire())
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.wait([task])
                with pytest.raises(LockError, match="one turn"):
                    await lock.acquire()

    run(body())


def test_two_cancellations_are_not_one(make_store: Make, run: Run) -> None:
    """A turn lost and a task cancelled in the same moment: the cancellation is kept."""

    async def body() -> None:
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

    run(body())


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "options",
    [
        {name: value}
        for name, values in {
            "lock_lifetime": (INF, NAN, "60", 0, -1, True),
            "wait_timeout": (-1, NAN, "10", INF, True, [1]),
            "wait_time_in_seconds": (-1, NAN, "1"),
            "max_waiting": (-1, NAN, "3", 1.5, True),
            "label": (7, "\ud800"),
        }.items()
        for value in values
    ],
    ids=str,
)
def test_bad_options_are_refused(make_store: Make, run: Run, options: dict[str, object]) -> None:
    """At once, and as what they are."""

    async def body() -> None:
        async with make_store() as store:
            with pytest.raises(ValueError, match=next(iter(options))):
                store.lock("c", **options)  # type: ignore[arg-type]

    run(body())


def test_bad_numbers_are_refused(make_store: Make, run: Run) -> None:
    """Of every other call that takes seconds or a count, by the argument's name."""

    async def body() -> None:
        async with make_store() as store, store.lock("c") as grant:
            for bad in (-1, NAN, "10", True):
                with pytest.raises(ValueError, match="lock_lifetime"):
                    await store.issue_ticket("c", bad)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="limit"):
                    await store.inspect("c", bad)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="window"):
                    Incoming("m", window=bad)  # type: ignore[arg-type]
                if store.keeps_messages:
                    with pytest.raises(ValueError, match="most"):
                        await store.collect(grant, bad)  # type: ignore[arg-type]
                    with pytest.raises(ValueError, match="window"):
                        store.answer(grant, {"m": "r"}, bad)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="lock_lifetime"):
                    store.try_lock("c", bad)  # type: ignore[arg-type]

    run(body())
    for bad in (-1, NAN, "10", True, 1.5):
        with pytest.raises((ValueError, ConfigurationError), match="max_waiting"):
            InMemoryLockStore(max_waiting=bad)  # type: ignore[arg-type]


def test_the_twin_withdraws(make_store: Make) -> None:
    """A ticket that was queued in a thread is given back; the next one is served."""
    with make_store().sync() as store:
        first, second = store.lock("c", wait_timeout=20), store.lock("c", wait_timeout=20)
        first.queue()
        second.queue()
        first.withdraw()
        with second:
            pass
        with pytest.raises(LockError, match="one turn"), first:
            pass
        store.lock("c").withdraw()  # of no effect without a ticket
        conversations = Conversations(make_store()).sync()
        turn = conversations.turn("d")
        turn.queue()
        turn.withdraw()
        with conversations.turn("d", wait_timeout=20):
            pass
        conversations.close()


def test_a_thread_that_enters_again_is_told(make_store: Make) -> None:
    """At once, in locks and turns; another thread may wait, as it does."""
    import threading

    with make_store().sync() as store, Conversations(make_store()).sync() as conversations:
        entered: list[str] = []

        def enter() -> None:
            with store.lock("c"):
                entered.append("other thread")

        thread = threading.Thread(target=enter)
        with store.lock("c"):
            thread.start()
            with pytest.raises(AlreadyHeld), store.lock("c"):
                pass
            entered.append("told")
        thread.join(30)
        assert entered == ["told", "other thread"]
        with conversations.turn("t"), pytest.raises(AlreadyHeld), conversations.turn("t"):
            pass
        with pytest.raises(LockError, match="not entered"):
            store.lock("c").__exit__(None, None, None)


def test_the_twin_has_what_the_store_has(make_store: Make) -> None:
    """Every public method, but for what makes stores and twins."""
    for kind, twin in (
        (LockStore, SyncLockStore), (Lock, SyncLock), (Turn, SyncTurn), (Grant, SyncGrant),
    ):  # fmt: skip
        names = {name for name in dir(kind) if not name.startswith("_")}
        missing = names - set(dir(twin)) - {
            "create", "create_lock", "keeps_messages", "lease", "sync", "acquire", "release",
            "begin", "end", "grant", "bind", "bound", "keep_bound", "deadline", "expires",
            "extend", "granted_at", "label", "lease_until", "lose", "member", "overdue", "raising", "reason",
            "request", "settle", "supersede", "tell_lost", "unbind", "until_superseded",
                "ahead", "conversation_id", "fence", "number", "observers", "waited", "leave", "begun",
                "forget", "give_up", "lock", "note", "occupy", "over", "spent", "take", "waiter", "who", "left",
                "shared_portal",
        }  # fmt: skip
        assert not missing, (twin, missing)


def test_closing_the_twin_frees_its_threads(make_store: Make) -> None:
    """A thread that waits when the store is closed gets an error."""
    import threading

    store = make_store().sync()
    held = store.lock("c")
    held.__enter__()
    told: list[str] = []

    def wait() -> None:
        try:
            store.lock("c").__enter__()
        except LockError as error:
            told.append(str(error))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    import time

    time.sleep(0.3)
    store.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "closed" in told[0]
