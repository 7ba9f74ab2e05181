"""The threaded twin of every lock store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from contract.locking import Make

from ticketlock import (
    AlreadyHeld,
    Conversations,
    Grant,
    LockError,
    LockLost,
    LockStore,
    LockTimeout,
    Turn,
)
from ticketlock.conversations import SyncTurn
from ticketlock.locks.lock import Lock
from ticketlock.locks.store import SyncLockStore
from ticketlock.locks.sync import SyncGrant, SyncLock


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
            "ask_to_stop", "on_stop", "request", "settle", "shield", "shields", "supersede", "tell_lost", "unbind", "until_superseded",
            "ahead", "conversation_id", "fence", "number", "observers", "waited", "leave", "begun",
                "forget", "give_up", "lock", "note", "occupy", "over", "spent", "take", "waiter", "who",
                "left", "speaker", "shared_portal", "make_lock", "turn_queue",
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
