"""`ConcurrentRedisLockStore` beyond the contract: what it costs, and odd surroundings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from conftest import until
from servers.proxy import Proxy

from ticketlock import ConcurrentRedisLockStore, LockLost, LockStoreConnectionError, LockTimeout
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis

Run = Callable[..., None]


def commands(client: redis.Redis) -> int:
    """Commands the server has run, those inside scripts included; our own look is one."""
    return int(client.info("stats")["total_commands_processed"])


def test_commands_a_cycle(own_redis: EmbeddedRedis, run: Run) -> None:
    """An uncontended cycle is two script calls and eight commands inside them."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            async with ConcurrentRedisLockStore(url=own_redis.url) as store:
                async with store.lock("c"):
                    pass
                before = commands(client)
                for _ in range(10):
                    async with store.lock("c"):
                        pass
                assert commands(client) - before - 1 == 10 * (2 + 8)

    run(body())


@pytest.mark.quiet
def test_waiting_sends_one_call_a_second(own_redis: EmbeddedRedis, run: Run) -> None:
    """However many wait in however many places, a process sends its heartbeat and no more."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            async with (
                ConcurrentRedisLockStore(url=own_redis.url) as one,
                ConcurrentRedisLockStore(url=own_redis.url) as two,
            ):
                holders = [one.lock(f"c{i}") for i in range(50)]
                for holder in holders:
                    await holder.acquire()
                waiting = [
                    asyncio.create_task(two.lock(f"c{i % 50}").acquire()) for i in range(500)
                ]
                await asyncio.sleep(1.5)
                client.config_resetstat()
                start = clock()
                await asyncio.sleep(3)
                calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
                assert calls <= 2 * (clock() - start) + 2  # two processes, once a second
                assert len(client.client_list()) == 1 + 2 * 2  # ours, and two each
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    run(body())


@pytest.mark.quiet
def test_an_idle_store_sends_nothing(own_redis: EmbeddedRedis, run: Run) -> None:
    """With nothing held and nobody waiting there is no traffic."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            async with ConcurrentRedisLockStore(url=own_redis.url) as store:
                async with store.lock("c"):
                    pass
                await asyncio.sleep(1.2)  # the heartbeat finds nothing to do
                before = commands(client)
                await asyncio.sleep(2.2)
                assert commands(client) - before == 1

    run(body())


@pytest.mark.quiet
def test_memory_of_a_waiting_ticket(own_redis: EmbeddedRedis, run: Run) -> None:
    """A waiting ticket costs the server at most 250 bytes."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            async with ConcurrentRedisLockStore(url=own_redis.url) as store:
                lock = store.lock("c")
                await lock.acquire()
                before = client.info("memory")["used_memory"]
                waiting = [asyncio.create_task(store.lock("c").acquire()) for _ in range(5000)]
                await until(lambda: client.zcard("concurrent_lock:{c}:queue") == 5000, "all wait")
                each = (client.info("memory")["used_memory"] - before) / 5000
                assert each <= 250
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                await lock.release()

    run(body())


def test_numbers_are_never_issued_again(own_redis: EmbeddedRedis, run: Run) -> None:
    """Numbers begin at 1 and go on growing through idle moments and expired tickets."""

    async def body() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            numbers = []
            for _ in range(3):
                async with store.lock("c") as grant:
                    numbers.append(grant.number)
            numbers.append(await store.issue_ticket("c", 0.05))
            await asyncio.sleep(0.1)
            async with store.lock("c", wait_timeout=5) as grant:
                numbers.append(grant.number)
            assert numbers == [1, 2, 3, 4, 5]

    run(body())


def test_documented_counter(own_redis: EmbeddedRedis, run: Run) -> None:
    """The last issued number is where the documents say, with and without a prefix."""

    async def body() -> None:
        for prefix, expected in ((None, ""), ("bot1", "bot1:")):
            async with ConcurrentRedisLockStore(url=own_redis.url, key_prefix=prefix) as store:
                async with store.lock("abc"):
                    pass
            with redis.Redis.from_url(own_redis.url) as client:
                key = f"{expected}concurrent_lock:{{abc}}:last_issued_ticket_number"
                assert client.get(key) == b"1"

    run(body())


def test_scripts_are_loaded_again(own_redis: EmbeddedRedis, run: Run) -> None:
    """SCRIPT FLUSH, or a server that forgot: nobody notices."""

    async def body() -> None:
        with redis.Redis.from_url(own_redis.url) as client:
            async with ConcurrentRedisLockStore(url=own_redis.url) as store:
                async with store.lock("c"):
                    client.script_flush()
                    await asyncio.sleep(1.2)  # the heartbeat meets it first
                    client.script_flush()
                async with store.lock("c", wait_timeout=2):
                    pass

    run(body())


def test_a_restart_without_persistence(own_redis: EmbeddedRedis, run: Run) -> None:
    """Redis dies and comes back empty: holders learn they lost, waiters get their turns."""

    async def body() -> None:
        async with (
            ConcurrentRedisLockStore(url=own_redis.url) as one,
            ConcurrentRedisLockStore(url=own_redis.url) as two,
        ):
            holder, waiter = one.lock("c"), two.lock("c", wait_timeout=15)
            grant = await holder.acquire()
            await waiter.queue()
            own_redis.stop(kill=True)
            await asyncio.sleep(0.5)
            own_redis.start()
            second = await waiter.acquire()
            assert second.fence > grant.fence
            await asyncio.wait_for(grant.lost.wait(), 5)
            with pytest.raises(LockLost):
                await holder.release()
            await waiter.release()

    run(body())


def test_a_short_outage_loses_nothing(own_redis: EmbeddedRedis, run: Run) -> None:
    """Commands wait for the server to come back, within socket_timeout."""

    async def body() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("c"):
                pass
            own_redis.stop(kill=True)
            task = asyncio.create_task(store.lock("c").acquire())
            await asyncio.sleep(0.7)
            own_redis.start()
            await asyncio.wait_for(task, 5)

    run(body())


def test_an_outage_is_an_error_in_time(own_redis: EmbeddedRedis, run: Run) -> None:
    """A server that stays away is an error within socket_timeout, and then no more."""

    async def body() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url, socket_timeout=1) as store:
            async with store.lock("c"):
                pass
            own_redis.stop(kill=True)
            with pytest.raises(LockStoreConnectionError, match="check host and port"):
                await asyncio.wait_for(store.lock("c").acquire(), 20)  # not while it is away
            own_redis.start()
            async with store.lock("c"):
                pass

    run(body())


@pytest.mark.parametrize("mood", ["black hole", "lose answers"])
def test_a_network_that_swallows(own_redis: EmbeddedRedis, run: Run, mood: str) -> None:
    """No answer is an error within socket_timeout; when it heals, tickets are exact."""

    async def body() -> None:
        async with Proxy(own_redis.port) as proxy:
            async with ConcurrentRedisLockStore(
                host="127.0.0.1", port=proxy.port, socket_timeout=1
            ) as store:
                async with store.lock("c"):
                    pass
                proxy.mood = mood
                with pytest.raises(LockStoreConnectionError, match="no answer within 1 s"):
                    await asyncio.wait_for(store.lock("c").acquire(), 20)  # else for ever
                proxy.mood = "pass"
                async with store.lock("c", wait_timeout=10) as grant:
                    grant.ensure_held()

    run(body())


def test_a_lost_answer_is_not_a_second_ticket(own_redis: EmbeddedRedis, run: Run) -> None:
    """The request arrived, its answer did not: the repetition finds the same ticket."""

    async def body() -> None:
        async with Proxy(own_redis.port) as proxy:
            async with ConcurrentRedisLockStore(host="127.0.0.1", port=proxy.port) as store:
                async with store.lock("c"):
                    pass
                for expected in range(2, 12):
                    proxy.mood = "lose answers"
                    task = asyncio.create_task(store.lock("c").acquire())
                    await asyncio.sleep(0.02)
                    proxy.mood = "pass"
                    proxy.reset()
                    grant = await asyncio.wait_for(task, 5)
                    assert grant.number == expected
                    lock = store.lock("c")
                    lock.grant = grant
                    proxy.mood = "lose answers"
                    release = asyncio.create_task(lock.release())
                    await asyncio.sleep(0.02)
                    proxy.mood = "pass"
                    proxy.reset()
                    await asyncio.wait_for(release, 5)  # not LockLost: it was released once

    run(body())


def test_a_cancelled_command_leaves_its_answer_to_nobody(
    own_redis: EmbeddedRedis, run: Run
) -> None:
    """Answers stay matched when every second caller goes away."""

    async def body() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            link = store.engine().link

            async def echo(i: int) -> None:
                assert await link.call(("ECHO", str(i))) == str(i).encode()

            for _ in range(20):
                tasks = [asyncio.create_task(echo(i)) for i in range(50)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert not [r for r in results if isinstance(r, Exception)]

    run(body())


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
def test_sigkill_of_the_holder(own_redis: EmbeddedRedis, run: Run, start: Start) -> None:
    """The conversation of a killed holder goes on within 5 s, from whatever moment."""

    async def body() -> None:
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

    run(body())


def test_sigstop_past_the_lease(own_redis: EmbeddedRedis, run: Run, start: Start) -> None:
    """A holder frozen past its lease finds out before it can write."""

    async def body() -> None:
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

    run(body())


def test_a_blocked_event_loop_keeps_its_turn(own_redis: EmbeddedRedis, run: Run) -> None:
    """Renewal is a thread's work: a handler that blocks longer than a lease loses nothing."""

    async def body() -> None:
        async with ConcurrentRedisLockStore(url=own_redis.url, lease=2) as store:
            async with store.lock("c") as grant:
                time.sleep(2.5)
                grant.ensure_held()

    run(body())


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


@pytest.mark.parametrize("wait_timeout", [0.5, 1.5])
def test_wait_timeout_holds_while_redis_is_silent(
    own_redis: EmbeddedRedis, run: Run, wait_timeout: float
) -> None:
    """The caller's patience is the caller's, whatever the network does."""

    async def body() -> None:
        async with Proxy(own_redis.port) as proxy:
            options = {"host": "127.0.0.1", "port": proxy.port, "socket_timeout": 40}
            async with ConcurrentRedisLockStore(**options) as store:
                async with store.lock("c"):
                    pass
                proxy.mood = "black hole"
                with pytest.raises(LockTimeout):  # and long before the network's timeout
                    lock = store.lock("c", wait_timeout=wait_timeout)
                    await asyncio.wait_for(lock.acquire(), 20)
                proxy.mood = "pass"
                proxy.reset()

    run(body())


def test_a_heartbeat_outlives_any_error(run: Run) -> None:
    """Whatever a credential provider or a driver raises, the next beat comes."""
    asked: list[str] = []

    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            asked.append(threading.current_thread().name)
            if asked.count("ticketlock-heartbeat") == 1 and asked[-1] == "ticketlock-heartbeat":
                raise RuntimeError("no token today")
            return ("pw",)

    with EmbeddedRedis(["--requirepass", "pw"]) as server:

        async def body() -> None:
            options = {"port": server.port, "credential_provider": Provider(), "lease": 2}
            async with ConcurrentRedisLockStore(host="127.0.0.1", **options) as store:
                async with store.lock("c") as grant:
                    await asyncio.sleep(2.5)
                    grant.ensure_held()

        run(body())
    assert asked.count("ticketlock-heartbeat") == 2
