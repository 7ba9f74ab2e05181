"""What an observer is told of, on every lock store; and that a store without one is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import until

from ticketlock import (
    Conversations,
    DuplicateMessage,
    Incoming,
    LockLost,
    LockStore,
    LockTimeout,
    Observer,
    QueueFull,
    StaleFence,
    Turn,
)
from ticketlock.locks.lock import Lock

Make = Callable[[], LockStore]


class Recorder(Observer):
    """Keeps the name of what it is told, and the arguments."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_wait(self, waiter: Any) -> None:
        self.told.append(("wait", waiter.label))

    def on_no_turn(self, waiter: Any, error: Any) -> None:
        self.told.append(("no turn", waiter.label, type(error)))

    def on_turn(self, grant: Any) -> None:
        self.told.append(("turn", grant.label))

    def on_turn_lost(self, grant: Any) -> None:
        self.told.append(("lost", grant.label, grant.cause))

    def on_turn_end(self, grant: Any, held: float, error: Any) -> None:
        assert 0 <= held < 30
        self.told.append(("end", grant.label, type(error)))

    def on_claim(self, grant: Any, seconds: float, error: Any) -> None:
        self.told.append(("claim", grant.label, type(error)))

    def on_commit(self, grant: Any, written: Any, seconds: float, error: Any) -> None:
        self.told.append(("commit", written.first, written.count, type(error)))

    def on_duplicate(self, conversation_id: str, message_id: str) -> None:
        self.told.append(("duplicate", conversation_id, message_id))


NONE = type(None)


async def test_a_turn_that_ends_well(make_store: Make) -> None:
    """With `queue` first or without, with `async with` or without."""
    recorder = Recorder()
    async with make_store() as store:
        store.observe(recorder)
        async with store.lock("c", label="a"):
            pass
        lock = store.lock("c", label="b")
        await lock.queue()
        await lock.acquire()
        await lock.release()
        async with store.try_lock("c", label="d") as grant:
            assert grant
        assert recorder.told == [
            told for x in "abd" for told in (("wait", x), ("turn", x), ("end", x, NONE))
        ]


async def test_a_turn_that_fails(make_store: Make) -> None:
    """With what its block raised."""
    recorder = Recorder()
    async with make_store() as store:
        store.observe(recorder)
        with pytest.raises(KeyError):
            async with store.lock("c"):
                raise KeyError
    assert recorder.told[-1] == ("end", None, KeyError)


async def test_waits_that_come_to_no_turn(make_store: Make) -> None:
    """Each once, with the reason."""
    recorder = Recorder()
    async with make_store() as store:
        async with store.lock("c"):
            store.observe(recorder)
            with pytest.raises(LockTimeout):
                await store.lock("c", wait_timeout=0.05, label="timeout").acquire()
            async with store.try_lock("c", label="try") as grant:
                assert grant is None
            with pytest.raises(QueueFull):
                await store.lock("c", max_waiting=0, label="full").queue()
            lock = store.lock("c", label="withdrawn")
            await lock.queue()
            lock.withdraw()
            task = asyncio.create_task(store.lock("c", label="cancelled").acquire())
            await until(lambda: recorder.told[-1] == ("wait", "cancelled"), "it waits")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    wanted = {
        "timeout": LockTimeout, "try": LockTimeout, "full": QueueFull, "withdrawn": NONE,
        "cancelled": asyncio.CancelledError,
    }  # fmt: skip
    assert recorder.told == [
        told
        for name, error in wanted.items()
        for told in (("wait", name), ("no turn", name, error))
    ]


async def test_a_turn_that_is_lost(make_store: Make) -> None:
    """Why in a word, and then its end."""
    recorder = Recorder()
    async with make_store() as store:
        store.observe(recorder)
        with pytest.raises(LockLost):
            async with store.lock("c", label="slow", lock_lifetime=0.1):
                await asyncio.sleep(20)
        with pytest.raises(LockLost):
            async with store.lock("d", label="broken"):
                await store.break_lock("d")
                await asyncio.sleep(20)
    lost = [told for told in recorder.told if told[0] == "lost"]
    assert lost[0] == ("lost", "slow", "too_slow")
    assert lost[1][:2] == ("lost", "broken")
    assert lost[1][2] in ("broken", "lease")  # what polls finds its ticket gone
    assert [told[:2] for told in recorder.told].index(("end", "slow")) == 3


async def test_the_grant_tells_how_long_it_waited_and_how_many_were_before_it(
    make_store: Make,
) -> None:
    """Counted when the ticket was taken: who gives up later was before it too."""
    async with make_store() as store, make_store() as other:
        async with store.lock("c") as first:
            assert (first.ahead, first.waited < 5) == (0, True)
            gone, last = other.lock("c"), store.lock("c", max_waiting=10)
            await gone.queue()
            await last.queue()
            gone.withdraw()
            await asyncio.sleep(0.1)
        grant = await last.acquire()
        assert grant.ahead == 2
        assert 0.1 <= grant.waited < 20
        await last.release()


def test_threads_are_told_of_too(make_store: Make) -> None:
    recorder = Recorder()
    twin = make_store().sync()
    twin.observe(recorder)
    try:
        with twin.lock("c", label="a") as grant:
            assert (grant.ahead, grant.cause) == (0, "")
            assert 0 <= grant.held_for() < 20
            assert 0 <= grant.waited < 20
        with pytest.raises(KeyError), twin.lock("c", label="b"):
            raise KeyError
    finally:
        twin.close()
    ends = [told for told in recorder.told if told[0] == "end"]
    assert ends == [("end", "a", NONE), ("end", "b", KeyError)]
    assert len(recorder.told) == 6


async def test_an_observer_that_fails_harms_nobody(
    make_store: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told in the log; the others are told, and the turn goes on."""

    class Failing(Observer):
        def on_turn(self, grant: Any) -> None:
            raise RuntimeError("it is broken")

    recorder = Recorder()
    async with make_store() as store:
        store.observe(Failing())
        store.observe(recorder)
        async with store.lock("c"):
            pass
    assert len(recorder.told) == 3
    assert "Failing.on_turn" in caplog.text
    assert "it is broken" in caplog.text


async def test_observers_of_rare_events_leave_locks_plain(make_store: Make) -> None:
    """Who wants to know of losses alone costs the turns nothing."""

    class Losses(Observer):
        def __init__(self) -> None:
            self.causes: list[str] = []

        def on_turn_lost(self, grant: Any) -> None:
            self.causes.append(grant.cause)

    losses = Losses()
    async with make_store() as store, Conversations(store) as conversations:
        store.observe(losses)
        assert type(store.lock("c")) is Lock
        assert type(conversations.turn("c")) is Turn
        with pytest.raises(LockLost):
            async with store.lock("c", lock_lifetime=0.1):
                await asyncio.sleep(20)
    assert losses.causes == ["too_slow"]


async def test_claims_and_commits() -> None:
    """With the number of the first event; a stale write with what refused it."""
    recorder = Recorder()
    async with Conversations() as conversations:
        conversations.observe(recorder)
        async with conversations.turn("c", label="a") as turn:
            turn.add({"event": "user", "text": "1"}, {"event": "user", "text": "2"})
            await turn.commit()
            turn.add({"event": "user", "text": "3"})
        assert recorder.told == [
            ("wait", "a"), ("turn", "a"), ("claim", "a", NONE), ("commit", 0, 2, NONE),
            ("commit", 2, 1, NONE), ("end", "a", NONE),
        ]  # fmt: skip
        recorder.told.clear()
        with pytest.raises(StaleFence):
            async with conversations.turn("c", label="b") as turn:
                await conversations.tracker_store.claim("c", turn.fence + 1, "another")
                turn.add({"event": "user", "text": "4"})
        assert recorder.told[-2:] == [("commit", 3, 1, StaleFence), ("end", "b", StaleFence)]
        with pytest.raises(KeyError):
            async with conversations.turn("d", label="c"):
                raise KeyError
        assert recorder.told[-1] == ("end", "c", KeyError)


async def test_duplicates() -> None:
    recorder = Recorder()
    async with Conversations() as conversations:
        conversations.observe(recorder)
        async with conversations.turn("c", incoming=Incoming("m")) as turn:
            turn.answer("hello")
        with pytest.raises(DuplicateMessage):
            async with conversations.turn("c", incoming=Incoming("m")):
                pass
    assert recorder.told[-2:] == [("no turn", "m", DuplicateMessage), ("duplicate", "c", "m")]
