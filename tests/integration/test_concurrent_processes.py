"""`ConcurrentRedisLockStore` in processes that are killed, stopped, blocked, forked and interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from ticketlock import ConcurrentRedisLockStore, LockStoreConnectionError
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis


def test_one_store_one_loop(own_redis: EmbeddedRedis) -> None:
    """A second event loop is an error that says what to do; after the first is gone it is not."""
    store = ConcurrentRedisLockStore(url=own_redis.url)

    async def use() -> None:
        async with store.lock("c"):
            pass

    async def use_elsewhere() -> None:
        await use()
        with pytest.raises(LockStoreConnectionError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, use())
        await store.close()

    asyncio.run(use_elsewhere())
    asyncio.run(_use_and_close(store))


async def _use_and_close(store: ConcurrentRedisLockStore) -> None:
    async with store, store.lock("c"):
        pass


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a child process that runs a text; it does not outlive the test."""
    children: list[subprocess.Popen[str]] = []

    def start(text: str, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(text), *args]
        children.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        )
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


HOLD = """
    import asyncio, sys
    from ticketlock import ConcurrentRedisLockStore, LockLost
    from ticketlock.process import clock
    async def main():
        async with ConcurrentRedisLockStore(url=sys.argv[1]) as store:
            async with store.lock("c", label="child") as grant:
                print(grant.fence, flush=True)
                while True:
                    await asyncio.sleep(0.01)
                    grant.ensure_held()
                    print(clock(), flush=True)  # the write
    try:
        asyncio.run(main())
    except LockLost:
        print("LockLost", flush=True)
"""


@pytest.mark.quiet
async def test_sigkill_of_the_holder(own_redis: EmbeddedRedis, start: Start) -> None:
    """The conversation of a killed holder goes on when its lease of 4 s is over, from whatever moment;
    a second is for a busy machine."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        for alive in (0.1, 1.7):
            child = start(HOLD, own_redis.url)
            assert child.stdout is not None
            fence = int(child.stdout.readline())
            await asyncio.sleep(alive)
            lock = store.lock("c", wait_timeout=20)
            task = asyncio.create_task(lock.acquire())
            await asyncio.sleep(0.1)
            child.send_signal(signal.SIGKILL)
            killed = clock()
            grant = await task
            assert clock() - killed < 5
            assert grant.fence > fence
            await lock.release()


async def test_sigstop_past_the_lease(own_redis: EmbeddedRedis, start: Start) -> None:
    """A holder frozen past its lease finds out before it can write."""
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        child = start(HOLD, own_redis.url)
        assert child.stdout is not None
        fence = int(child.stdout.readline())
        child.send_signal(signal.SIGSTOP)
        async with store.lock("c", wait_timeout=20) as grant:
            assert grant.fence > fence
            resumed = clock()
            child.send_signal(signal.SIGCONT)
            lines = (await asyncio.to_thread(child.stdout.read)).splitlines()
            assert lines[-1] == "LockLost"
            assert all(float(line) < resumed for line in lines[:-1])
            grant.ensure_held()


async def test_a_blocked_event_loop_keeps_its_turn(own_redis: EmbeddedRedis) -> None:
    """Renewal is a thread's work: a handler that blocks longer than a lease loses nothing."""
    async with ConcurrentRedisLockStore(url=own_redis.url, lease=2) as store:
        async with store.lock("c") as grant:
            time.sleep(2.5)
            grant.ensure_held()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking threads is the test
def test_a_forked_child_starts_anew(own_redis: EmbeddedRedis, start: Start) -> None:
    """After a fork the child makes its own connections; inherited turns are void."""
    text = """
        import asyncio, os, sys
        from ticketlock import ConcurrentRedisLockStore, LockLost
        store = ConcurrentRedisLockStore(url=sys.argv[1]).sync()
        held = store.lock("held")
        grant = held.__enter__()
        child = os.fork()
        if child == 0:
            try:
                grant.ensure_held()
            except LockLost as error:
                assert "forked" in error.reason
                with store.lock("other", wait_timeout=5), store.try_lock("held") as second:
                    assert second is None
                    os._exit(17)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
        grant.ensure_held()
        held.__exit__(None, None, None)
        with store.lock("held", wait_timeout=1):
            pass
        store.close()
        print("good")
    """
    process = start(text, own_redis.url)
    output, _ = process.communicate(timeout=30)
    assert output == "good\n"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking threads is the test
def test_a_forked_child_does_not_end_its_parents_turn(
    own_redis: EmbeddedRedis, start: Start
) -> None:
    """A child that unwinds the `with` block leaves the parent's turn alone."""
    text = """
        import os, sys
        from ticketlock import ConcurrentRedisLockStore, LockLost
        store, pid = ConcurrentRedisLockStore(url=sys.argv[1]).sync(), 1
        try:
            with store.lock("c") as grant:
                pid = os.fork()
                if pid == 0:
                    sys.exit(0)
                os.waitpid(pid, 0)
                grant.ensure_held()
                other = ConcurrentRedisLockStore(url=sys.argv[1]).sync()
                with other.try_lock("c") as second:
                    assert second is None
                other.close()
        finally:
            if pid == 0:
                os._exit(0)
        store.close()
        print("good")
    """
    output, _ = start(text, own_redis.url).communicate(timeout=30)
    assert output == "good\n"


@pytest.mark.parametrize("kind", ["lock", "turn"])
def test_interrupts_leak_no_turn(own_redis: EmbeddedRedis, start: Start, kind: str) -> None:
    """An exception out of a signal handler, at any moment of enter or leave, leaks no turn."""
    text = """
        import random, signal, sys, time
        from ticketlock import ConcurrentRedisLockStore, Conversations
        class Interrupt(Exception): pass
        def interrupt(*_): raise Interrupt
        signal.signal(signal.SIGALRM, interrupt)
        store = ConcurrentRedisLockStore(url=sys.argv[1])
        locks, conversations, hits = store.sync(), Conversations(store).sync(), 0
        enter = locks.lock if sys.argv[2] == "lock" else conversations.turn
        with enter("warm-up"): pass
        chance = random.Random(1)
        for i in range(1500):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(5e-5, 8e-4))
                with enter(f"c{i}"): pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                hits += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(0.5)
        print(hits > 50, [i for i in range(1500) if locks.inspect(f"c{i}").holder])
        conversations.close()
    """
    output, _ = start(text, own_redis.url, kind).communicate(timeout=60)
    assert output == "True []\n"
