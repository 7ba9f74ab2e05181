"""`RedisLockStore` beyond the contract: the documented storage, and what may happen to it."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap

import pytest
import redis

from ticketlock import ConfigurationError, LockLost, RedisLockStore
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.proxy import Proxy


async def test_documented_storage(own_redis: EmbeddedRedis) -> None:
    """One JSON document a conversation, tickets as JSON texts, numbers from 0; it expires."""
    async with RedisLockStore(url=own_redis.url, key_prefix="bot") as store:
        async with store.lock("some id") as grant:
            assert grant.number == 0
            with redis.Redis.from_url(own_redis.url) as client:
                document = json.loads(client.get("bot:lock:some id"))
                assert client.ttl("bot:lock:some id") > 0
            assert document["conversation_id"] == "some id"
            ticket = json.loads(document["tickets"][0])
            assert ticket["number"] == 0
            assert isinstance(ticket["expires"], float)
        async with store.lock("some id") as grant:
            assert grant.number == 1


async def test_documents_of_the_documented_system_are_read(own_redis: EmbeddedRedis) -> None:
    """A ticket left by another program is waited for until it expires."""
    import time

    with redis.Redis.from_url(own_redis.url) as client:
        ticket = json.dumps({"number": 4, "expires": time.time() + 0.7})
        client.set("lock:c", json.dumps({"conversation_id": "c", "tickets": [ticket]}))
    async with RedisLockStore(url=own_redis.url) as store:
        start = clock()
        async with store.lock("c", wait_timeout=5) as grant:
            assert grant.number == 5
            assert clock() - start > 0.5


async def test_two_holders_of_one_number_are_told_apart(own_redis: EmbeddedRedis) -> None:
    """After FLUSHALL numbers begin anew: the old holder loses, and removes nothing of others."""
    async with (
        RedisLockStore(url=own_redis.url) as one,
        RedisLockStore(url=own_redis.url) as two,
    ):
        old = one.lock("c")
        first = await old.acquire()
        with redis.Redis.from_url(own_redis.url) as client:
            client.flushall()
        async with two.lock("c", wait_timeout=5) as second:
            assert second.number == first.number
            assert second.fence > first.fence
            await asyncio.wait_for(first.lost.wait(), 5)
            with pytest.raises(LockLost):
                await old.release()
            async with one.try_lock("c") as third:
                assert third is None


async def test_fences_come_from_the_servers_clock(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica whose clock is behind does not mint lower fences."""
    import time

    async with (
        RedisLockStore(url=own_redis.url) as one,
        RedisLockStore(url=own_redis.url) as two,
    ):
        async with one.lock("c") as grant:
            before = grant.fence
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 60)
        async with two.lock("c") as grant:
            assert grant.fence > before


async def test_a_cut_off_holder_is_told_in_time(own_redis: EmbeddedRedis) -> None:
    """Its body is cancelled before another can be in, though no answer comes."""
    async with Proxy(own_redis.port) as proxy:
        options = {"host": "127.0.0.1", "port": proxy.port}
        async with RedisLockStore(**options) as cut, RedisLockStore(url=own_redis.url) as other:
            lock = cut.lock("c")
            grant = await lock.acquire()
            proxy.mood = "black hole"
            async with other.lock("c", wait_timeout=10):
                assert grant.lost.is_set()
            proxy.mood = "pass"
            proxy.reset()
            with pytest.raises(LockLost):
                await lock.release()


async def test_a_lost_answer_is_one_ticket(own_redis: EmbeddedRedis) -> None:
    """The swap was done, its answer lost: the repetition adds nothing."""
    async with Proxy(own_redis.port) as proxy:
        async with RedisLockStore(host="127.0.0.1", port=proxy.port) as store:
            await store.issue_ticket("c", 30)
            for _ in range(10):
                proxy.mood = "lose answers"
                task = asyncio.create_task(store.issue_ticket("c", 30))
                await asyncio.sleep(0.02)
                proxy.mood = "pass"
                proxy.reset()
                await asyncio.wait_for(task, 5)
            lock = await store.get_lock("c")
            assert lock is not None
            assert [ticket.number for ticket in lock.tickets] == list(range(11))


def test_cluster_is_refused() -> None:
    """Documents without hash tags are not for a cluster."""
    with pytest.raises(ConfigurationError, match="concurrent_redis"):
        RedisLockStore(deployment_mode="cluster")


async def test_the_lease_is_that_of_the_store(own_redis: EmbeddedRedis) -> None:
    """Set on it, on its class, or a property of that."""

    class OfTheClass(RedisLockStore):
        lease = 40.0

    class Property(RedisLockStore):
        @property
        def lease(self) -> float:  # type: ignore[override]
            return 50.0

    plain = RedisLockStore(url=own_redis.url)
    plain.lease = 30.0
    for store, lease in (
        (plain, 30), (OfTheClass(url=own_redis.url), 40), (Property(url=own_redis.url), 50),
    ):  # fmt: skip
        async with store, store.lock("c"):
            holder = (await store.inspect("c")).holder
            assert holder is not None
            assert lease - 5 < holder.lease <= lease


LAST_WAITS = {
    "waits": """
        tasks.append(asyncio.create_task(store.lock("c").acquire()))
        await asyncio.sleep(0.3)
    """,
    "asks": """
        tasks.append(asyncio.create_task(store.lock("c").queue()))
        await asyncio.sleep(0)
    """,
    "has waited": """
        with suppress(LockTimeout):
            await store.lock("c", wait_timeout=0.2).acquire()
    """,
}


@pytest.mark.parametrize("last", LAST_WAITS)
async def test_a_run_that_ends_with_a_waiter(own_redis: EmbeddedRedis, last: str) -> None:
    """`asyncio.run` cancels it; its ticket is taken back before the loop is gone, and nothing
    complains."""
    program = f"""
import asyncio, sys
from contextlib import suppress
from ticketlock import LockTimeout, RedisLockStore
store, tasks = RedisLockStore(url=sys.argv[1]), []
async def main():
    await store.inspect("c")
{textwrap.indent(textwrap.dedent(LAST_WAITS[last]), "    ")}
asyncio.run(main())
"""
    async with (
        Proxy(own_redis.port) as proxy,
        RedisLockStore(url=own_redis.url) as store,
        store.lock("c"),
    ):
        proxy.latency = 0.02
        url = own_redis.url.replace(str(own_redis.port), str(proxy.port))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, url, stderr=asyncio.subprocess.PIPE
        )
        _, said = await child.communicate()
        assert said.decode() == ""
        assert (await store.inspect("c")).waiting_count == 0
