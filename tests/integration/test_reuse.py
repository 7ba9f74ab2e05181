"""A store that is closed and used again, on another event loop, or by threads: turns of the first
use touch nothing of the second."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from ticketlock import ConcurrentRedisLockStore, LockError, LockLost
from ticketlock.errors import ELSEWHERE
from ticketlock.locks.concurrent import queue
from ticketlock.redis.embedded import EmbeddedRedis

SHORT = {"lease": 0.6, "waiter_ttl": 0.5}


TWO_RUNS = """
import asyncio, sys
from ticketlock import ConcurrentRedisLockStore

def make():
    return ConcurrentRedisLockStore(url=sys.argv[1], lease=0.6, waiter_ttl=0.5)

store = make()
old = store.lock("reuse runs old")

async def second():
    new = store.lock("reuse runs new")
    grant = await new.acquire()
    await asyncio.gather(old.release(), return_exceptions=True)
    await asyncio.sleep(2)
    grant.ensure_held()
    async with make() as other, other.try_lock("reuse runs new") as none:
        print("two hold it" if none else "one holds it")
    await new.release()
    await store.close()

asyncio.run(old.acquire())
asyncio.run(second())
"""


def test_a_turn_of_one_run_left_in_the_next(redis_server: EmbeddedRedis) -> None:
    """The loop of the first `asyncio.run` is gone; its turn is left on the second one's."""
    words = [sys.executable, "-c", TWO_RUNS, redis_server.url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("one holds it\n", 0), done.stderr


def test_a_thread_leaves_after_the_store_was_closed_and_used_again(
    redis_server: EmbeddedRedis,
) -> None:
    """Its exit ends its own turn, which is lost, and not the one that was begun since."""
    store = ConcurrentRedisLockStore(url=redis_server.url, **SHORT).sync()
    entered, leave, results = threading.Event(), threading.Event(), []

    def old_turn() -> None:
        try:
            with store.lock("reuse thread old"):
                entered.set()
                leave.wait(20)
        except LockLost as error:
            results.append(error)

    thread = threading.Thread(target=old_turn)
    thread.start()
    assert entered.wait(10)
    store.close()
    with store.lock("reuse thread new") as grant:
        leave.set()
        thread.join(20)
        time.sleep(3 * SHORT["lease"])
        grant.ensure_held()
        other = ConcurrentRedisLockStore(url=redis_server.url, **SHORT).sync()
        with other.try_lock("reuse thread new") as none:
            assert none is None, "two hold the conversation"
        other.close()
    assert [type(error) for error in results] == [LockLost]
    store.close()


async def test_a_waiter_of_a_closed_store_is_told(redis_server: EmbeddedRedis) -> None:
    """It fails at the close; the second use has its own tickets."""
    store = ConcurrentRedisLockStore(url=redis_server.url, **SHORT)
    async with ConcurrentRedisLockStore(url=redis_server.url, **SHORT) as other:
        async with other.lock("reuse waiter"):
            waiting = asyncio.create_task(store.lock("reuse waiter").acquire())
            while not (await other.inspect("reuse waiter")).waiting_count:
                await asyncio.sleep(0.01)
            await store.close()
            again = store.lock("reuse waiter", wait_timeout=20)
            await again.queue()
            with pytest.raises(LockError, match="closed"):
                await waiting
        await again.acquire()
        await again.release()
    await store.close()


async def test_a_close_that_is_cancelled_ends_nevertheless(redis_server: EmbeddedRedis) -> None:
    """By its caller, or by the loss of the turn in which the store is closed."""
    before, store = asyncio.all_tasks(), ConcurrentRedisLockStore(url=redis_server.url, **SHORT)
    with pytest.raises(LockLost, match="closed"):
        async with store.lock("closed inside"):
            await store.close()
    async with store.lock("closed inside", wait_timeout=20):
        pass
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with store.lock("closed inside", wait_timeout=20):
        pass
    await store.close()
    while asyncio.all_tasks() - before:  # the two closes that were cancelled
        await asyncio.sleep(0.01)


def test_two_loops_that_begin_at_once(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has the store, the other hears which loop it belongs to."""
    store = ConcurrentRedisLockStore(url=redis_server.url, **SHORT)
    make, both, results = queue.Engine, threading.Barrier(2), []

    def slowly(*args: Any) -> queue.Engine:
        time.sleep(0.3)
        return make(*args)

    monkeypatch.setattr(queue, "Engine", slowly)

    async def use() -> None:
        both.wait(20)
        try:
            async with store.lock("two loops", wait_timeout=5) as grant:
                await asyncio.sleep(0.5)
                grant.ensure_held()
            await store.close()
            results.append("held")
        except (LockError, RuntimeError) as error:
            results.append(str(error))

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == ["held", ELSEWHERE]
