"""`durability` in odd surroundings: short lives, deletions, threads, forks, idle and full servers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from servers.durable import LONG, REPLICAS, accepted, holder, store
from servers.redis_sets import SentinelSet
from servers.replicated import AT_ONCE, Replicated, calls, client, cut, go_on, pause, waits

from ticketlock import ConcurrentRedisLockStore, Conversations, LockStoreConnectionError
from ticketlock.process import clock
from ticketlock.redis import confirming


async def test_a_lease_that_is_shorter_than_the_confirmation() -> None:
    """It is renewed while its turn waits to be durable: nobody else has it meanwhile."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with store(servers.master, lease=1) as one, store(servers.master, lease=1) as two:
            pause(replica)
            first = asyncio.create_task(one.lock("c").acquire())
            await until(lambda: waits(servers.master), "WAIT")
            fence = holder(servers.master, "c").split()[0]
            second = asyncio.create_task(two.lock("c").acquire())
            await asyncio.sleep(2.5)
            assert holder(servers.master, "c").split()[0] == fence
            assert not first.done()
            go_on(replica)
            grant = await asyncio.wait_for(first, LONG)
            assert str(grant.fence) == fence
            assert not second.done()
            await one.close()
            await asyncio.wait_for(second, LONG)


async def test_a_lifetime_that_is_shorter_than_the_confirmation() -> None:
    """The next ticket overtakes it, and its own turn comes again: no block runs without its turn."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        order, inside = list[str](), list[str]()

        async def turn(locks: ConcurrentRedisLockStore, name: str, lifetime: float) -> None:
            async with locks.lock("c", lifetime) as grant:
                grant.ensure_held()
                inside.append(name)
                assert inside == [name]
                order.append(name)
                await asyncio.sleep(0.1)
                inside.remove(name)

        async with store(servers.master) as one, store(servers.master) as two:
            pause(replica)
            first = asyncio.create_task(turn(one, "short", 0.7))
            await until(lambda: waits(servers.master), "WAIT")
            fence = holder(servers.master, "c").split()[0]
            second = asyncio.create_task(turn(two, "long", 60))
            await until(
                lambda: holder(servers.master, "c").split()[0] not in ("", fence), "the next"
            )
            assert order == []
            go_on(replica)
            await asyncio.wait_for(asyncio.gather(first, second), LONG)
            assert order == ["long", "short"]


async def test_renewals_that_a_failover_loses() -> None:
    """The grant was durable, and its renewals were not: beyond its lease another process has the turn."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with store(servers.master) as one:
            grant = await one.lock("c").acquire()
            granted = grant.deadline
            cut(replica)
            await until(lambda: grant.deadline > granted + 2.5, "renewals")
            servers.promote(replica)
            async with ConcurrentRedisLockStore(url=replica.url) as two:
                before = clock()
                other = await two.lock("c", wait_timeout=LONG).acquire()
                assert before < granted < clock() < grant.deadline
                assert grant.reason is None
                assert other.fence > grant.fence


async def test_a_deletion_while_a_message_is_confirmed() -> None:
    """It is withdrawn, which its outcome says. Where no trace is left, the sender hears that it is gone,
    and that this need not be the fault of a failover."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with store(servers.master) as locks, Conversations(locks) as conversations:
            pause(replica)
            turn = asyncio.create_task(locks.lock("before").acquire())
            await until(lambda: waits(servers.master), "WAIT, whose round the message has missed")
            submitting = {
                name: asyncio.create_task(conversations.submit(name, "text", message_id="m"))
                for name in ("once", "twice")
            }
            for name in submitting:
                await until(lambda name=name: accepted(servers.master, name, "m"), "the message")
                assert await conversations.delete(name)
            await conversations.delete("twice")
            go_on(replica)
            await asyncio.wait_for(turn, LONG)
            await asyncio.wait_for(submitting["once"], LONG)
            assert (await conversations.outcome("once", "m")).state == "withdrawn"
            with pytest.raises(LockStoreConnectionError, match="or its conversation was deleted"):
                await asyncio.wait_for(submitting["twice"], LONG)
            await conversations.submit("twice", "text", message_id="m")
            assert accepted(replica, "twice", "m")


async def test_majority_where_no_sentinel_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of before is relied on until the next one is due, and degraded from then on."""
    with SentinelSet(tmp_path, replicas=2, options=AT_ONCE) as servers:
        keys: dict[str, Any] = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        keys |= {"durability": "majority", "durability_timeout": 0.5}
        async with ConcurrentRedisLockStore(**keys) as locks:
            async with locks.lock("c"):
                pass
            servers.sentinel.stop(kill=True)
            async with locks.lock("c"):
                assert not locks.not_durable
            monkeypatch.setattr(confirming, "_COUNTED", -1.0)
            async with locks.lock("c"):
                (why,) = locks.not_durable.values()
                assert "nothing listens there" in why
            servers.sentinel.start()
            await until(lambda: not locks.not_durable, "recovery", LONG)


async def test_a_server_that_closes_idle_connections() -> None:
    """Its `timeout` ends that of the barrier too: the next turn is confirmed on another one."""
    with Replicated(options=["--timeout", "1"]) as servers, client(servers.master, 0) as one:
        async with store(servers.master) as locks:
            async with locks.lock("c"):
                pass

            def barriers() -> int:
                return sum(row["cmd"] == "wait" for row in one.client_list())

            assert barriers() == 1
            await until(lambda: not barriers(), "the server closes it")
            async with locks.lock("c"):
                assert not locks.not_durable
            assert barriers() == 1


async def test_a_full_server_confirms_turns_that_are_handed_on() -> None:
    """Also on a connection that is made while there is no memory, which refuses a SET."""
    with Replicated() as servers, client(servers.master) as one:
        async with store(servers.master, durability_timeout=3) as locks:
            first = locks.lock("c")
            await first.acquire()
            others = [asyncio.create_task(locks.lock("c").acquire()) for _ in range(2)]
            await until(lambda: one.zcard("concurrent_lock:{c}:queue") == 2, "waiters")
            one.config_set("maxmemory", 1)
            before = calls(servers.master, "wait")
            await first.release()
            grant = await asyncio.wait_for(others[0], LONG)
            for row in one.client_list():
                if row["cmd"] == "wait":
                    one.client_kill_filter(_id=row["id"])
            assert await locks.break_lock("c", grant.fence)
            await asyncio.wait_for(others[1], LONG)
            assert not locks.not_durable
            assert calls(servers.master, "wait") - before == 2
            one.config_set("maxmemory", 0)


def test_threads() -> None:
    """The twin waits for the same."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        locks = ConcurrentRedisLockStore(url=servers.master.url, **REPLICAS).sync()
        with locks.lock("c"):
            pass
        pause(replica)
        inside = threading.Event()

        def turn() -> None:
            with locks.lock("c"):
                inside.set()

        thread = threading.Thread(target=turn)
        thread.start()
        end = time.monotonic() + LONG
        while not waits(servers.master):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not inside.is_set()
        go_on(replica)
        assert inside.wait(LONG)
        thread.join()
        locks.close()


FORK = """
import os, sys
from ticketlock import ConcurrentRedisLockStore
locks = ConcurrentRedisLockStore(
    url=sys.argv[1], durability="replicas", durability_timeout=30, durability_degraded="refuse"
).sync()
with locks.lock("parent"): pass
pid = os.fork()
with locks.lock("child" if pid == 0 else "parent") as grant:
    print(grant.conversation_id, grant.fence, flush=True)
    grant.ensure_held()
locks.close()
if pid == 0: os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork() -> None:
    """The child confirms its turns on a connection of its own, and the parent goes on with its own."""
    with Replicated() as servers:
        before = calls(servers.master, "wait")
        words = [sys.executable, "-W", "ignore", "-c", FORK, servers.master.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["child", "parent"]
        # A trial of each process, and three turns.
        assert calls(servers.master, "wait") - before == 5
