"""What a process is told of its Redis: renewals that come late, tickets that were skipped."""

from __future__ import annotations

import asyncio

import pytest
import redis
from conftest import until

from ticketlock import ConcurrentRedisLockStore, LockLost, Observer
from ticketlock.redis.embedded import EmbeddedRedis


class Trouble(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.late = 0
        self.skipped: list[tuple[str, int]] = []
        self.causes: list[str] = []

    def on_late_renewals(self, count: int) -> None:
        self.late += count

    def on_skipped(self, conversation_id: str, number: int) -> None:
        self.skipped.append((conversation_id, number))

    def on_turn_lost(self, grant: object) -> None:
        self.causes.append(grant.cause)  # type: ignore[attr-defined]  # a Grant


async def test_late_renewals(own_redis: EmbeddedRedis) -> None:
    """None while all is well; some when Redis is slow, and before turns are lost with it."""
    trouble = Trouble()
    async with ConcurrentRedisLockStore(url=own_redis.url, lease=2) as store:
        store.observe(trouble)
        with pytest.raises(LockLost):
            async with store.lock("a"), store.lock("b"):
                with redis.Redis.from_url(own_redis.url) as client:
                    client.config_resetstat()
                    await until(lambda: renewals(client) >= 3, "three renewals")
                    assert trouble.late == 0
                own_redis.stop(kill=True)
                await until(lambda: trouble.late >= 2, "both are late")
                await asyncio.sleep(20)
        await until(lambda: trouble.causes == ["lease", "lease"], "they are lost")


async def test_renewals_that_are_refused_are_late(own_redis: EmbeddedRedis) -> None:
    """At once, and not only when the turn is lost; one that is confirmed again is not."""
    trouble = Trouble()
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        store.observe(trouble)
        with redis.Redis.from_url(own_redis.url) as client:
            async with store.lock("c"):
                client.execute_command("ACL", "SETUSER", "default", "-evalsha")
                await until(lambda: trouble.late >= 2, "refused, and asked again", 3)
                client.execute_command("ACL", "SETUSER", "default", "+evalsha")
                told, before = trouble.late, renewals(client)
                await until(lambda: renewals(client) >= before + 2, "renewed again")
            assert trouble.late <= told + 1  # one was on its way
        assert trouble.causes == []


def renewals(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_a_skipped_ticket(own_redis: EmbeddedRedis) -> None:
    """It is told with its number when it goes back, and gets its turn."""
    trouble = Trouble()
    async with ConcurrentRedisLockStore(url=own_redis.url) as store:
        store.observe(trouble)
        async with store.lock("c"):
            lock = store.lock("c")
            number = await lock.queue()
            with redis.Redis.from_url(own_redis.url) as client:
                client.delete("concurrent_lock:{c}:queue")
            await until(lambda: trouble.skipped, "it is told")
        grant = await lock.acquire()
        assert (grant.number, grant.ahead) == (number, 1)
        await lock.release()
    assert ("c", number) in trouble.skipped
