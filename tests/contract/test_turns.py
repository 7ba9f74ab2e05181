"""The turn, on every tracker store, with the in-memory and the concurrent lock store."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from contract_events import user

from ticketlock import (
    ConcurrentRedisLockStore,
    Conversations,
    InMemoryLockStore,
    InvalidEvent,
    LockError,
    LockLost,
    LockStore,
    LockTimeout,
    StaleFence,
    TrackerStoreConnectionError,
)
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.tracker.fenced import FencedTrackerStore

_prefixes = itertools.count()


@pytest.fixture(params=["in_memory", "concurrent_redis"])
def make_locks(request: pytest.FixtureRequest) -> Callable[[], LockStore]:
    """Makes lock stores of one deployment."""
    if request.param == "in_memory":
        store = InMemoryLockStore()
        return lambda: store
    server: EmbeddedRedis = request.getfixturevalue("redis_server")
    prefix = f"turns{next(_prefixes)}"
    return lambda: ConcurrentRedisLockStore(url=server.url, key_prefix=prefix)


async def texts(conversations: Conversations, sender_id: str = "a") -> list[Any]:
    tracker = await conversations.tracker_store.retrieve_full_tracker(sender_id)
    return [event.as_dict().get("text") for event in tracker.events] if tracker else []


async def test_a_turn_is_written_when_its_block_ends(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        async with conversations.turn("a") as turn:
            assert turn.tracker.events == []
            turn.add(user("hello", 1), {"event": "slot", "name": "mood", "value": "good"})
            assert turn.tracker.slots["mood"] == "good"
            assert await texts(conversations) == []
        assert await texts(conversations) == ["hello", None]
        async with conversations.turn("a") as turn:
            assert turn.tracker.slots["mood"] == "good"
            assert turn.sequence == 2


@pytest.mark.parametrize("queued", [False, True])
async def test_the_first_turn_connects_before_it_takes_its_ticket(
    queued: bool, stores: Any, make_locks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No ticket waits, and no lease runs, meanwhile; nothing is left of one that failed."""
    async with Conversations(make_locks(), stores.open()) as conversations:
        store, locks = conversations.tracker_store, conversations.lock_store
        if not store.unconnected:  # in memory
            assert type(store)._do_connect is FencedTrackerStore._do_connect
            return
        connect, seen = store._do_connect, []

        async def away() -> None:
            raise TrackerStoreConnectionError("it is away")

        async def watched() -> None:
            seen.append(await locks.inspect("a"))
            await connect()
            seen.append(await locks.inspect("a"))

        async def one(text: str) -> None:
            turn = conversations.turn("a")
            if queued:
                await turn.queue()
            async with turn:
                turn.add(user(text, 1))

        monkeypatch.setattr(store, "_do_connect", away)
        with pytest.raises(TrackerStoreConnectionError, match="it is away"):
            await one("lost")
        assert (await locks.inspect("a")).holder is None
        monkeypatch.setattr(store, "_do_connect", watched)
        await asyncio.gather(*(one(f"{i}") for i in range(5)))
        await one("later")
        assert [(each.holder, each.waiting_count) for each in seen] == [(None, 0)] * 2  # once
        assert await texts(conversations) == ["0", "1", "2", "3", "4", "later"]


async def test_turns_of_replicas_follow_each_other(stores: Any, make_locks: Any) -> None:
    """Two replicas, many turns of one conversation at once: every event once, in order."""
    replicas = [Conversations(make_locks(), stores.open()) for _ in range(2)]

    async def one(i: int) -> None:
        async with replicas[i % 2].turn("a", wait_timeout=30) as turn:
            before = len(turn.tracker.events)
            turn.add(user(str(before), 1))
            await asyncio.sleep(0.001)
            turn.add(user(str(before + 1), 1))

    await asyncio.gather(*(one(i) for i in range(10)))
    assert await texts(replicas[0]) == [str(i) for i in range(20)]
    for replica in replicas:
        await replica.close()


async def test_an_exception_writes_nothing(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        with pytest.raises(ZeroDivisionError):
            async with conversations.turn("a") as turn:
                turn.add(user("never", 1))
                raise ZeroDivisionError
        assert await texts(conversations) == []
        async with conversations.turn("a", wait_timeout=5) as turn:
            assert turn.tracker.events == []


async def test_a_turn_that_was_left_takes_no_more(stores: Any, make_locks: Any) -> None:
    """What is added behind the block would be written by nobody: it is refused."""
    async with Conversations(make_locks(), stores.open()) as conversations:
        async with conversations.turn("c") as turn:
            turn.add({"event": "user", "text": "in time"})
        with pytest.raises(RuntimeError, match="has ended"):
            turn.add({"event": "user", "text": "late"})
        with pytest.raises(RuntimeError, match="has ended"):
            turn.answer("late", "message 1")
        with pytest.raises(LockLost, match="released"):
            turn.ensure_held()
        assert [event.as_dict()["text"] for event in turn.tracker.events] == ["in time"]


async def test_what_was_committed_stays(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        with pytest.raises(ZeroDivisionError):
            async with conversations.turn("a") as turn:
                turn.add(user("kept", 1))
                await turn.commit()
                await turn.commit()  # nothing new: nothing twice
                turn.add(user("never", 1))
                raise ZeroDivisionError
        assert await texts(conversations) == ["kept"]


async def test_a_lost_turn_writes_nothing(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        with pytest.raises(LockLost):
            async with conversations.turn("a", lock_lifetime=0.2) as turn:
                turn.add(user("too late", 1))
                await asyncio.sleep(30)
        assert await texts(conversations) == []
        with pytest.raises(LockLost):
            async with conversations.turn("a", lock_lifetime=0.2) as turn:
                turn.add(user("too late", 1))
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    with pytest.raises(LockLost):
                        await turn.commit()
        assert await texts(conversations) == []


async def test_a_cancelled_turn_writes_nothing_or_all(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:

        async def one(i: int) -> None:
            async with conversations.turn("a", wait_timeout=30) as turn:
                turn.add(user(f"{i} first", 1), user(f"{i} second", 1))

        for i in range(12):
            task = asyncio.create_task(one(i))
            await asyncio.sleep(0.0007 * i)
            task.cancel()
            await asyncio.wait([task])
        found = await texts(conversations)
        for first, second in zip(found[::2], found[1::2], strict=True):
            assert first.split()[0] == second.split()[0]
        async with conversations.turn("a", wait_timeout=5):
            pass
    del task
    gc.collect()  # a socket that nobody closed is an error now


async def test_a_successor_refuses_the_stale_write(stores: Any, make_locks: Any) -> None:
    """Even when the lock is fooled, the store is not."""
    async with Conversations(make_locks(), stores.open()) as conversations:
        with pytest.raises(StaleFence):
            async with conversations.turn("a") as turn:
                turn.add(user("stale", 1))
                claim = await stores.open().claim("a", turn.fence + 1, "successor")
                await stores.open().append(claim, [user("new", 1)])
        assert await texts(conversations) == ["new"]


async def test_a_commit_carries_a_mark(stores: Any, make_locks: Any) -> None:
    """With the events, and without any; what the block writes after it leaves the mark."""
    async with Conversations(make_locks(), stores.open()) as conversations:
        async with conversations.turn("a") as turn:
            assert turn.mark == ""
            turn.add(user("one", 1))
            await turn.commit("first")
            turn.add(user("two", 2))
        async with conversations.turn("a") as turn:
            assert (turn.mark, turn.sequence) == ("first", 2)
            with pytest.raises(ValueError, match="a mark must be"):
                await turn.commit("\0")
            await turn.commit("second")
        async with conversations.turn("a") as turn:
            assert (turn.mark, turn.sequence) == ("second", 2)
            turn.add(user("three", 3))
            await stores.open().claim("a", turn.fence + 1, "successor")
            with pytest.raises(StaleFence):
                await turn.commit("stale")
            turn.discard()
        assert (await stores.open().claim("a", 2**51, "reader")).mark == "second"
        assert await texts(conversations) == ["one", "two"]


async def test_a_lock_store_that_lost_its_memory(stores: Any, make_locks: Any) -> None:
    """The tracker store's highest fence is the floor of the next one."""
    async with Conversations(make_locks(), stores.open()) as conversations:
        ahead = 2**51
        claim = await conversations.tracker_store.claim("a", ahead, "from another age")
        await conversations.tracker_store.append(claim, [user("old", 1)])
        async with conversations.turn("a") as turn:
            assert turn.fence > ahead
            turn.add(user("new", 1))
        assert await texts(conversations) == ["old", "new"]


async def test_a_bad_event_is_refused_and_nothing_is_lost(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        with pytest.raises(InvalidEvent):
            async with conversations.turn("a") as turn:
                turn.add(user("good", 1))
                turn.add({"event": "slot", "name": "x", "value": float("nan")})
        assert await texts(conversations) == []
        async with conversations.turn("a", wait_timeout=5) as turn:
            with pytest.raises(InvalidEvent):
                turn.add({"no": "event"})
            turn.add(user("good", 1))
        assert await texts(conversations) == ["good"]


async def test_timeouts_are_those_of_the_lock(stores: Any, make_locks: Any) -> None:
    async with Conversations(make_locks(), stores.open()) as conversations:
        async with conversations.turn("a"):
            with pytest.raises(LockTimeout):
                async with conversations.turn("a", wait_timeout=0.05):
                    pytest.fail("entered")


def test_the_twin_for_threads(stores: Any, make_locks: Any) -> None:
    """The same turns between threads."""
    import threading

    with Conversations(make_locks(), stores.open()).sync() as conversations:

        def worker() -> None:
            for _ in range(3):
                with conversations.turn("a", wait_timeout=30) as turn:
                    turn.add(user(str(len(turn.tracker.events)), 1))

        threads = [threading.Thread(target=worker) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        tracker = conversations.retrieve("a")
        assert tracker is not None
        assert [e.as_dict()["text"] for e in tracker.events] == [str(i) for i in range(9)]
        with pytest.raises(ZeroDivisionError), conversations.turn("a") as turn:
            turn.add(user("never", 1))
            raise ZeroDivisionError
        assert len(conversations.retrieve("a").events) == 9


@pytest.mark.parametrize("kind", ["tasks", "threads"])
async def test_a_turn_is_entered_once(stores: Any, make_locks: Any, kind: str) -> None:
    """Entering again is refused, and the turn that is held stays."""
    if kind == "tasks":
        async with Conversations(make_locks(), stores.open()) as conversations:
            async with conversations.turn("a") as turn:
                with pytest.raises(LockError, match="entered already"):
                    await turn.__aenter__()
                turn.add(user("kept", 1))
            assert await texts(conversations) == ["kept"]
        return
    with Conversations(make_locks(), stores.open()).sync() as twin:
        with pytest.raises(LockError, match="was not acquired"):
            twin.turn("a").__exit__(None, None, None)
        with twin.turn("a") as entered:
            with pytest.raises(LockError, match="entered already"):
                entered.__enter__()
            with pytest.raises(LockTimeout), twin.turn("a", wait_timeout=0.2):
                pytest.fail("the turn was given away")
            entered.ensure_held()
            entered.add(user("kept", 1))
        tracker = twin.retrieve("a")
        assert tracker is not None
        assert [e.as_dict()["text"] for e in tracker.events] == ["kept"]
